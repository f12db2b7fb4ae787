//! Requests at the same time: a count that is given back in `Drop`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Bits of the count; the others hold its version.
const COUNT_BITS: u32 = 24;
const ONE_VERSION: u64 = 1 << COUNT_BITS;
const MOST: u32 = (1 << COUNT_BITS) - 1;

/// How many requests of a scope are under way. Counted whether there is a limit or not, so that a limit set meanwhile
/// counts those that run already.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The count and, above it, its version: one word, so that both are of the same moment.
    state: AtomicU64,
    /// Whether somebody keeps the other instances informed.
    announced: AtomicBool,
}

/// A count and how many changes led to it. Two of them that arrive out of order can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) count: u32,
    /// Begins again at 0 after 2^40 changes.
    pub(super) version: u64,
}

impl Standing {
    fn of(state: u64) -> Self {
        // The mask leaves 24 bits.
        Self { count: (state & u64::from(MOST)) as u32, version: state >> COUNT_BITS }
    }
}

impl Running {
    /// Counts one more, unless `most` run already.
    pub(super) fn enter(&self, most: Option<u32>) -> Option<Entered> {
        let most = most.unwrap_or(MOST).min(MOST);
        let enter =
            |state| (Standing::of(state).count < most).then(|| u64::wrapping_add(state, ONE_VERSION + 1));
        let before = self.0.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok()?;
        Some(Entered { running: self.clone(), standing: Standing::of(before.wrapping_add(ONE_VERSION + 1)) })
    }

    pub(super) fn count(&self) -> u32 {
        self.standing().count
    }

    pub(super) fn standing(&self) -> Standing {
        Standing::of(self.0.state.load(Ordering::Acquire))
    }

    /// Sets whether others are kept informed; answers what it was.
    pub(super) fn announce(&self, announced: bool) -> bool {
        self.0.announced.swap(announced, Ordering::AcqRel)
    }
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Entered {
    running: Running,
    standing: Standing,
}

impl Entered {
    /// The count with this one, at the moment it entered: later ones are not held against it.
    pub(super) const fn standing(&self) -> Standing {
        self.standing
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.running.0.state.fetch_add(ONE_VERSION - 1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_set_meanwhile_counts_those_that_run() {
        let running = Running::default();
        let first = running.enter(None).expect("no limit");
        let second = running.enter(None).expect("no limit");
        assert!(running.enter(Some(2)).is_none());
        assert!(running.enter(Some(0)).is_none());
        drop(first);
        assert!(running.enter(Some(2)).is_some());
        drop(second);
        assert_eq!(running.count(), 0);
    }

    #[test]
    fn a_standing_is_of_one_moment_and_versions_only_grow() {
        let running = Running::default();
        let (first, second) =
            (running.enter(None).expect("no limit"), running.enter(None).expect("no limit"));
        assert_eq!((first.standing().count, second.standing().count), (1, 2));
        drop(first);
        assert_eq!(running.standing(), Standing { count: 1, version: 3 });
        running.0.state.store(u64::MAX - u64::from(MOST) + 1, Ordering::Release);
        drop(second);
        let last = running.enter(None).expect("no limit");
        drop(last);
        assert!(running.standing().version <= 2, "beginning again disturbs no count");
        assert_eq!(running.count(), 0);
    }

    #[test]
    fn racing_threads_never_run_more_than_the_limit() {
        let (running, limit) = (Running::default(), 5);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Some(entered) = running.enter(Some(limit)) {
                            assert!(running.count() <= limit);
                            drop(entered);
                        }
                    }
                });
            }
        });
        assert_eq!(running.count(), 0);
    }
}
