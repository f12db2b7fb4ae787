//! Refusals by role, in the audit log: who was shut out of which route. Throttled for each actor, so that a loop cannot
//! flood the log: a few entries a minute are written, the others are counted, and the next entry that is written says
//! how many there were. Memory is bounded: when too many actors are refused at once, those in excess are only counted
//! together in the program's own log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Control;
use crate::domain::{Actor, AuditAction, Timestamp};

/// Entries in one window for one actor.
const WRITTEN: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
const MAX_ACTORS: usize = 4_096;

/// What was refused lately, by actor.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Lately>>);

#[derive(Debug)]
struct Lately {
    since: Timestamp,
    written: u32,
    unwritten: u64,
}

impl Refusals {
    /// Whether one more is written, and with how many that were not.
    fn admit(&self, actor: &str, now: Timestamp) -> Option<u64> {
        let mut actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if actors.len() >= MAX_ACTORS && !actors.contains_key(actor) {
            actors.retain(|_, lately| !lately.is_over(now));
            if actors.len() >= MAX_ACTORS {
                return None;
            }
        }
        let lately =
            actors.entry(actor.to_owned()).or_insert(Lately { since: now, written: 0, unwritten: 0 });
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
}

impl Lately {
    /// A clock that was put back begins a new window.
    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.since.plus(WINDOW) || now < self.since
    }
}

impl Control {
    /// Notes that `actor` was refused a route by their role. The template of the route's path is noted, and nothing
    /// that was sent. The refusal stands whether it can be noted or not.
    pub async fn note_access_refused(&self, actor: &Actor, method: &str, route: &'static str) {
        let Some(unwritten) = self.0.refusals.admit(&actor.label(), self.clock.now()) else {
            tracing::debug!(actor = actor.label(), route, "access.refused");
            return;
        };
        let noted = async {
            let act = self.begin_unasked(actor).await?;
            let mut event = act
                .event(AuditAction::AccessRefused, actor.bound_to(), "")
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
            tracing::warn!(actor = actor.label(), route, reason = %error, "access.refusal_not_audited");
        }
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
            assert_eq!(refusals.admit("usr_1", NOW), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(refusals.admit("usr_1", NOW.plus(Duration::from_secs(59))), None);
        }
        assert_eq!(refusals.admit("usr_2", NOW), Some(0), "others are not held up");
        assert_eq!(refusals.admit("usr_1", NOW.plus(WINDOW)), Some(1_000));
        assert_eq!(refusals.admit("usr_1", NOW.plus(WINDOW)), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let refusals = Refusals::default();
        for number in 0..MAX_ACTORS + 100 {
            refusals.admit(&number.to_string(), NOW);
        }
        assert_eq!(refusals.0.lock().expect("not poisoned").len(), MAX_ACTORS);
        assert_eq!(refusals.admit("late", NOW.plus(WINDOW)), Some(0), "room is made of what is over");
    }
}
