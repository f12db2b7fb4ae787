//! Which part of a limit this instance grants when instances do not count together.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// How many instances live; one, until somebody says otherwise. Clones are the same count. What reads it follows a
/// change with its next request.
#[derive(Clone, Debug)]
pub struct Share(Arc<AtomicU32>);

impl Default for Share {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Share {
    /// So many instances live now, this one among them; none counts as one.
    pub fn set(&self, instances: u32) {
        self.0.store(instances.max(1), Ordering::Relaxed);
    }

    /// How many live.
    pub fn instances(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// This instance's part of `limit`, rounded up: a limit of one still lets one through, everywhere.
    pub(super) fn of(&self, limit: u32) -> u32 {
        limit.div_ceil(self.instances())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_up_and_nothing_divides_by_zero() {
        let share = Share::default();
        assert_eq!(share.of(7), 7);
        share.clone().set(3);
        assert_eq!((share.of(7), share.of(1), share.of(0), share.of(u32::MAX)), (3, 1, 0, 1_431_655_765));
        share.set(0);
        assert_eq!((share.instances(), share.of(7)), (1, 7));
    }
}
