//! How often each provider key was opened, for operators who want every access in the audit log. Counted in memory: no
//! request waits for a database. Nothing is counted unless it is asked for.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::domain::{ProviderKeyId, TenantId};

/// Openings of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub key: ProviderKeyId,
    /// How often it was opened.
    pub openings: u64,
}

/// Counts openings. There are never more entries than keys that were used since the last [`Openings::take`].
#[derive(Debug, Default)]
pub struct Openings {
    on: AtomicBool,
    counts: Mutex<HashMap<(TenantId, ProviderKeyId), u64>>,
}

impl Openings {
    /// Whether to count from now on.
    pub fn count(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// A key was opened.
    pub fn note(&self, tenant: TenantId, key: ProviderKeyId) {
        if self.on.load(Ordering::Relaxed) {
            *self.counts().entry((tenant, key)).or_default() += 1;
        }
    }

    /// What was counted since the last time, by key.
    pub fn take(&self) -> Vec<Opened> {
        let counts = std::mem::take(&mut *self.counts());
        let mut uses: Vec<Opened> =
            counts.into_iter().map(|((tenant, key), openings)| Opened { tenant, key, openings }).collect();
        uses.sort_unstable_by_key(|used| used.key);
        uses
    }

    /// Takes back what could not be written.
    pub fn give_back(&self, uses: &[Opened]) {
        let mut counts = self.counts();
        for used in uses {
            *counts.entry((used.tenant, used.key)).or_default() += used.openings;
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<(TenantId, ProviderKeyId), u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_counted_by_key_and_only_when_asked_for() {
        let (uses, tenant) = (Openings::default(), TenantId::generate());
        let (one, two) = (ProviderKeyId::generate(), ProviderKeyId::generate());
        uses.note(tenant, one);
        assert!(uses.take().is_empty(), "nobody asked");
        uses.count(true);
        for key in [two, one, two] {
            uses.note(tenant, key);
        }
        let taken = uses.take();
        assert_eq!(
            taken,
            [Opened { tenant, key: one, openings: 1 }, Opened { tenant, key: two, openings: 2 }]
        );
        assert!(uses.take().is_empty());
        uses.give_back(&taken);
        uses.note(tenant, one);
        assert_eq!(uses.take()[0].openings, 2);
    }
}
