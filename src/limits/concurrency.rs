//! Requests at the same time: a count that is given back in `Drop`.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// How many requests of a scope are under way. Counted whether there is a limit or not, so that a limit set meanwhile
/// counts those that run already.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<AtomicU32>);

impl Running {
    /// Counts one more, unless `most` run already.
    pub(super) fn enter(&self, most: Option<u32>) -> Option<Entered> {
        let most = most.unwrap_or(u32::MAX);
        let enter = |running| (running < most).then(|| running + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok()?;
        Some(Entered(self.clone()))
    }

    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Entered(Running);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
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
