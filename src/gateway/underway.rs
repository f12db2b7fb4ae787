//! Which requests began before a change, so that whoever takes something away can wait for those that still count on it.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::time::Instant;

/// How often it is looked whether all have gone on.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Requests that have no provider's answer yet. Each holds a mark; those that began between two changes hold the same one,
/// whose count of holders is how many they are.
#[derive(Debug, Default)]
pub struct Underway(ArcSwap<()>);

impl Underway {
    /// Held by a request from before it looks at anything that may change.
    pub(super) fn mark(&self) -> Arc<()> {
        self.0.load_full()
    }

    /// Waits until those that have begun so far hold no mark any more, at most for `patience`; those that begin meanwhile
    /// are not waited for. Not for two at once.
    pub async fn gone(&self, patience: Duration) {
        let before = self.0.swap(Arc::new(()));
        let until = Instant::now() + patience;
        while Arc::strong_count(&before) > 1 && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn those_that_began_before_are_waited_for_and_those_that_begin_then_are_not() {
        let underway = Underway::default();
        let before = [underway.mark(), underway.mark()];
        let mut gone = Box::pin(underway.gone(LONG));
        assert!(poll!(&mut gone).is_pending());
        let _after = underway.mark();
        let [one, other] = before;
        drop(one);
        assert!(poll!(&mut gone).is_pending(), "one is left");
        drop(other);
        gone.await;
    }

    #[tokio::test]
    async fn nobody_is_waited_for_longer_than_that() {
        let underway = Underway::default();
        let patience = LOOK_EVERY * 3;
        underway.gone(LONG).await;
        let _stays = underway.mark();
        let began = Instant::now();
        underway.gone(patience).await;
        assert!(began.elapsed() >= patience);
    }
}
