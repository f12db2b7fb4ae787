//! What has changed in the control plane, so that nothing stale is used on the data plane.
//!
//! Every tenant has a generation. Whoever caches something of a tenant notes the generation *before* reading it from
//! the database and uses it only while the generation is the same: an entry read before a change is never used after
//! it, however the two raced. Acts of this process bump the generation at once; those of other processes (a command
//! beside a running gateway) are found in `change_log` within [`POLL`]. When the database is gone, what is cached goes
//! on being used.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
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

/// The generations of all tenants.
#[derive(Default)]
pub struct Changes {
    any: AtomicU64,
    tenants: RwLock<HashMap<TenantId, Arc<Generation>>>,
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

    /// Follows `change_log` until told to stop, calling `on_house_change` when something of the whole house changed.
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
                self.publish(change.tenant);
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
}
