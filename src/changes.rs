//! What has changed in the control plane, so that nothing stale is used on the data plane.
//!
//! Every tenant has a generation. Whoever caches something of a tenant notes the generation *before* reading it from
//! the database and uses it only while the generation is the same: an entry read before a change is never used after
//! it, however the two raced. Acts of this process bump the generation at once; those of other processes (a command
//! beside a running gateway) are found in `change_log` within [`POLL`]. An act that was told once is not told again
//! when its row is found. When the database is gone, what is cached goes on being used.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::{StreamExt, wrappers::IntervalStream};
use tokio_util::sync::CancellationToken;

use crate::{domain::TenantId, store::Store};

/// How often the outbox is looked at: changes made elsewhere are in force within a second.
const POLL: Duration = Duration::from_millis(500);

/// How many acts of this process may wait for the follower. Only a database that does not answer lets so many come
/// together; those beyond are told twice, which does no harm.
const MOST_OWN: usize = 1024;

/// The generations of all tenants.
#[derive(Default)]
pub struct Changes {
    any: AtomicU64,
    tenants: RwLock<HashMap<TenantId, Arc<Generation>>>,
    log: Mutex<Log>,
}

/// What is known of `change_log`.
#[derive(Default)]
struct Log {
    /// The last row that was followed. Rows appear in the order of their numbers: whoever writes one holds a lock until
    /// its commit.
    seen: i64,
    /// Later rows that acts of this process wrote and told themselves.
    own: BTreeSet<i64>,
}

/// How many changes one tenant has seen.
#[derive(Default, Debug)]
pub struct Generation(AtomicU64);

impl Generation {
    /// The present count.
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Changes {
    /// The generation of one tenant; the same for every caller.
    pub fn of(&self, tenant: TenantId) -> Arc<Generation> {
        if let Some(generation) = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(&tenant) {
            return Arc::clone(generation);
        }
        Arc::clone(self.tenants.write().unwrap_or_else(PoisonError::into_inner).entry(tenant).or_default())
    }

    /// Counts changes of any tenant.
    pub fn any(&self) -> u64 {
        self.any.load(Ordering::Acquire)
    }

    /// Makes everything cached of `tenant` stale; of everybody when it is `None`.
    pub fn publish(&self, tenant: Option<TenantId>) {
        // First: a reader that finds it unchanged after its read has read the generation from before the change.
        self.any.fetch_add(1, Ordering::AcqRel);
        match tenant {
            Some(tenant) => {
                self.of(tenant).0.fetch_add(1, Ordering::AcqRel);
            }
            None => {
                for generation in self.tenants.read().unwrap_or_else(PoisonError::into_inner).values() {
                    generation.0.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
    }

    /// As [`Changes::publish`], for an act of this process whose notice is the row `seq` of `change_log`.
    pub fn publish_own(&self, tenant: Option<TenantId>, seq: i64) {
        self.publish(tenant);
        let mut log = self.log();
        // The follower may have been faster.
        if seq > log.seen && log.own.len() < MOST_OWN {
            log.own.insert(seq);
        }
    }

    /// Whether the row that is followed now has been told by an act of this process.
    fn was_told(&self, seq: i64) -> bool {
        let mut log = self.log();
        let told = log.own.remove(&seq);
        log.seen = seq;
        // Every row up to here has been seen: what is left of them is in no row.
        log.own = log.own.split_off(&seq);
        told
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows `change_log` from the row behind `seen` until told to stop, calling `on_house_change` when something of
    /// the whole house changed.
    pub async fn follow(
        self: Arc<Self>,
        store: Store,
        mut seen: i64,
        stop: CancellationToken,
        on_house_change: impl AsyncFn(),
    ) {
        let mut turns = interval(POLL);
        // A slow database is asked less often, not more often afterwards.
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turns = IntervalStream::new(turns);
        while stop.run_until_cancelled(turns.next()).await.flatten().is_some() {
            // A database that does not answer now is asked again at the next turn.
            let Ok(changes) = store.changes_after(seen).await else { continue };
            for change in changes {
                seen = change.seq;
                if !self.was_told(change.seq) {
                    self.publish(change.tenant);
                }
                // Also after an act of this process, which may have been dropped right behind its commit.
                if change.tenant.is_none() {
                    on_house_change().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_one_tenant_leaves_the_others_alone_and_one_of_the_house_touches_all() {
        let changes = Changes::default();
        let (a, b) = (changes.of(TenantId::generate()), TenantId::generate());
        let (before_a, b_generation) = (a.current(), changes.of(b));
        changes.publish(Some(b));
        assert_eq!((a.current(), b_generation.current()), (before_a, 1));
        changes.publish(None);
        assert_eq!((a.current(), b_generation.current(), changes.any()), (before_a + 1, 2, 2));
    }

    /// What the follower does with one row.
    fn follow(changes: &Changes, tenant: TenantId, seq: i64) {
        if !changes.was_told(seq) {
            changes.publish(Some(tenant));
        }
    }

    #[test]
    fn rows_of_this_process_are_told_once_however_those_of_others_come_between() {
        let (changes, tenant) = (Changes::default(), TenantId::generate());
        let generation = changes.of(tenant);
        for seq in [2, 5, 4] {
            changes.publish_own(Some(tenant), seq);
        }
        assert_eq!(generation.current(), 3);
        for (seq, wanted) in [(1, 4), (2, 4), (3, 5), (4, 5), (5, 5), (6, 6)] {
            follow(&changes, tenant, seq);
            assert_eq!(generation.current(), wanted, "row {seq}");
        }
        assert!(changes.log().own.is_empty());
    }

    #[test]
    fn an_act_that_is_told_after_its_row_was_found_leaves_nothing_behind() {
        let (changes, tenant) = (Changes::default(), TenantId::generate());
        follow(&changes, tenant, 7);
        changes.publish_own(Some(tenant), 7);
        assert_eq!(changes.of(tenant).current(), 2);
        assert!(changes.log().own.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let (changes, tenant) = (Changes::default(), TenantId::generate());
        let many = MOST_OWN as i64 + 50;
        (1..=many).for_each(|seq| changes.publish_own(Some(tenant), seq));
        assert_eq!(changes.log().own.len(), MOST_OWN);
        let before = changes.of(tenant).current();
        (1..=many).for_each(|seq| follow(&changes, tenant, seq));
        assert_eq!(changes.of(tenant).current(), before + 50, "told twice, but none missed");
        changes.publish_own(Some(tenant), many + 1);
        follow(&changes, tenant, many + 3);
        assert!(changes.log().own.is_empty(), "rows that are gone are not waited for");
    }
}
