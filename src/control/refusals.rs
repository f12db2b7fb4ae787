//! Refusals by role, in the audit log: who was shut out of which route. Throttled for each actor, so that a loop cannot
//! flood the log: a few entries in a window are written and the others are counted. The next entry of that actor says how
//! many there were; when none comes, an entry of its own does, once the window is over or the gateway stops. What a
//! gateway that is killed has counted since is lost.
//!
//! Memory is bounded: while too many actors are refused at once, the refusals of those in excess are not written, but
//! counted together, and the program's own log has their number each minute.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Control, ControlError};
use crate::domain::{Actor, AuditAction, AuditEvent, TenantId, Timestamp};

/// Entries in one window for one actor.
const WRITTEN: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
const MAX_ACTORS: usize = 4_096;

/// What was refused lately.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By actor.
    actors: HashMap<String, Lately>,
    /// Of actors for whom there was no room.
    excess: u64,
}

#[derive(Debug)]
struct Lately {
    tenant: Option<TenantId>,
    since: Timestamp,
    written: u32,
    unwritten: u64,
}

/// Refusals of one actor that were counted and not written.
#[derive(Debug, PartialEq, Eq)]
struct Unwritten {
    actor: String,
    tenant: Option<TenantId>,
    refusals: u64,
}

impl Refusals {
    /// Whether one more is written, and with how many that were not.
    fn admit(&self, actor: &str, tenant: Option<TenantId>, now: Timestamp) -> Option<u64> {
        let mut counts = self.counts();
        if counts.actors.len() >= MAX_ACTORS && !counts.actors.contains_key(actor) {
            counts.make_room(now);
            if counts.actors.len() >= MAX_ACTORS {
                counts.excess = counts.excess.saturating_add(1);
                return None;
            }
        }
        let begins = Lately { tenant, since: now, written: 0, unwritten: 0 };
        let lately = counts.actors.entry(actor.to_owned()).or_insert(begins);
        if lately.is_over(now) {
            (lately.since, lately.written) = (now, 0);
        }
        if lately.written >= WRITTEN {
            lately.unwritten = lately.unwritten.saturating_add(1);
            return None;
        }
        lately.written += 1;
        Some(std::mem::take(&mut lately.unwritten))
    }

    /// Takes what was counted in windows that are over, or in all, by actor, and how many refusals there were of those in
    /// excess.
    fn take(&self, now: Timestamp, all: bool) -> (Vec<Unwritten>, u64) {
        let mut counts = self.counts();
        let mut taken: Vec<_> = counts
            .actors
            .iter_mut()
            .filter(|(_, lately)| lately.unwritten > 0 && (all || lately.is_over(now)))
            .map(|(actor, lately)| Unwritten {
                actor: actor.clone(),
                tenant: lately.tenant,
                refusals: std::mem::take(&mut lately.unwritten),
            })
            .collect();
        taken.sort_by(|one, other| one.actor.cmp(&other.actor));
        counts.make_room(now);
        (taken, std::mem::take(&mut counts.excess))
    }

    /// Counts on what could not be written. Those for whom there is no room any more are in excess.
    fn give_back(&self, unwritten: Vec<Unwritten>, now: Timestamp) {
        let mut counts = self.counts();
        for Unwritten { actor, tenant, refusals } in unwritten {
            if counts.actors.len() >= MAX_ACTORS && !counts.actors.contains_key(&actor) {
                counts.excess = counts.excess.saturating_add(refusals);
                continue;
            }
            let begins = Lately { tenant, since: now, written: WRITTEN, unwritten: 0 };
            let lately = counts.actors.entry(actor).or_insert(begins);
            lately.unwritten = lately.unwritten.saturating_add(refusals);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Forgets those whose window is over and of whom all was said.
    fn make_room(&mut self, now: Timestamp) {
        self.actors.retain(|_, lately| lately.unwritten > 0 || !lately.is_over(now));
    }
}

impl Lately {
    /// A clock that was put back begins a new window.
    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.since.plus(WINDOW) || now < self.since
    }
}

impl Control {
    /// Notes that `actor` was refused a route by their role. The template of the route's path is noted, and nothing
    /// that was sent. The refusal stands whether it can be noted or not; one that cannot be is counted.
    pub async fn note_access_refused(&self, actor: &Actor, method: &str, route: &'static str) {
        let (label, tenant, now) = (actor.label(), actor.bound_to(), self.clock.now());
        let Some(unwritten) = self.0.refusals.admit(&label, tenant, now) else {
            tracing::debug!(actor = label, route, "access.refused");
            return;
        };
        let noted = async {
            let act = self.begin_unasked(actor).await?;
            let mut event = act
                .event(AuditAction::AccessRefused, tenant, "")
                .on_nothing()
                .refused()
                .with("method", method)
                .with("route", route);
            if unwritten > 0 {
                event = event.with("unwritten_before", unwritten);
            }
            act.commit(event).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(actor = label, route, reason = %error, "access.refusal_not_audited");
            let refusals = unwritten.saturating_add(1);
            self.0.refusals.give_back(vec![Unwritten { actor: label, tenant, refusals }], now);
        }
    }

    /// Writes down how many refusals were counted in windows that are over, or in all of them at the end. To be called
    /// each minute. What cannot be written now is counted on.
    pub async fn note_refusals_unwritten(&self, all: bool) {
        let now = self.clock.now();
        let (taken, excess) = self.0.refusals.take(now, all);
        if excess > 0 {
            tracing::warn!(refusals = excess, "access.refused_to_too_many_actors");
        }
        if taken.is_empty() {
            return;
        }
        if let Err(error) = self.record_unwritten(&taken).await {
            tracing::warn!(actors = taken.len(), reason = %error, "access.refusals_not_audited");
            self.0.refusals.give_back(taken, now);
        }
    }

    async fn record_unwritten(&self, taken: &[Unwritten]) -> Result<(), ControlError> {
        let mut act = self.begin_unasked(&Actor::System).await?;
        for Unwritten { actor, tenant, refusals } in taken {
            let event = AuditEvent::new(AuditAction::AccessRefused, actor.clone(), *tenant, "");
            act.record(event.on_nothing().refused().with("unwritten", refusals)).await?;
        }
        act.commit_unaudited().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn a_few_a_minute_are_written_and_the_next_says_how_many_were_not() {
        let refusals = Refusals::default();
        for _ in 0..WRITTEN {
            assert_eq!(refusals.admit("usr_1", None, NOW), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(refusals.admit("usr_1", None, NOW.plus(Duration::from_secs(59))), None);
        }
        assert_eq!(refusals.admit("usr_2", None, NOW), Some(0), "others are not held up");
        assert_eq!(refusals.admit("usr_1", None, NOW.plus(WINDOW)), Some(1_000));
        assert_eq!(refusals.admit("usr_1", None, NOW.plus(WINDOW)), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let refusals = Refusals::default();
        for number in 0..MAX_ACTORS + 100 {
            refusals.admit(&number.to_string(), None, NOW);
        }
        assert_eq!(refusals.counts().actors.len(), MAX_ACTORS);
        assert_eq!(refusals.admit("late", None, NOW.plus(WINDOW)), Some(0), "room is made of what is over");
    }
    fn unwritten(actor: &str, refusals: u64) -> Unwritten {
        Unwritten { actor: actor.into(), tenant: None, refusals }
    }

    #[test]
    fn what_no_next_entry_says_is_taken_when_the_window_is_over() {
        let refusals = Refusals::default();
        for _ in 0..WRITTEN + 3 {
            refusals.admit("usr_1", None, NOW);
        }
        refusals.admit("usr_2", None, NOW);
        assert_eq!(refusals.take(NOW, false), (vec![], 0), "it is not over");
        assert_eq!(refusals.take(NOW.plus(WINDOW), false), (vec![unwritten("usr_1", 3)], 0));
        assert_eq!(refusals.take(NOW.plus(WINDOW), true), (vec![], 0), "once");
        assert!(refusals.counts().actors.is_empty(), "and both are forgotten");

        refusals.give_back(vec![unwritten("usr_1", 3)], NOW.plus(WINDOW));
        assert_eq!(refusals.take(NOW.plus(WINDOW), true), (vec![unwritten("usr_1", 3)], 0), "at the end");
    }

    #[test]
    fn room_is_not_made_of_what_was_not_said_and_the_excess_is_counted() {
        let refusals = Refusals::default();
        for number in 0..MAX_ACTORS {
            for _ in 0..=WRITTEN {
                refusals.admit(&number.to_string(), None, NOW);
            }
        }
        assert_eq!(refusals.admit("late", None, NOW.plus(WINDOW)), None);
        assert_eq!(refusals.admit("later", None, NOW.plus(WINDOW)), None);
        refusals.give_back(vec![unwritten("latest", 7)], NOW);
        assert_eq!(refusals.counts().actors.len(), MAX_ACTORS);
        let (taken, excess) = refusals.take(NOW.plus(WINDOW), false);
        assert_eq!((taken.len(), excess), (MAX_ACTORS, 9));
        assert!(taken.iter().all(|each| each.refusals == 1));
        assert_eq!(refusals.admit("late", None, NOW.plus(WINDOW)), Some(0), "now there is room");
    }
}
