//! Streams whose clients leave. Usually the provider's stream is cut at once and an estimate is settled; where the
//! operator wants the provider's own figures, it is read to its end first, within bounds.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{House, relay::Relay};

/// A relayed stream, and what happens to it when its client leaves.
pub struct Streamed {
    relay: Option<Box<Relay>>,
    house: Arc<House>,
}

impl Streamed {
    pub(super) fn new(relay: Relay, house: &Arc<House>) -> Self {
        Self { relay: Some(Box::new(relay)), house: Arc::clone(house) }
    }

    /// The next bytes for the client; `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.relay {
            Some(relay) => relay.poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // Dropping the relay itself cuts the provider and settles an estimate.
        let Some(mut relay) = self.relay.take().filter(|relay| !relay.has_ended()) else { return };
        let longest = self.house.settings.upstream.drain_after_disconnect;
        if longest.is_zero() || self.house.cut.is_cancelled() {
            return;
        }
        let Ok(place) = Arc::clone(&self.house.drains).try_acquire_owned() else { return };
        relay.client_left();
        self.house.tasks.spawn(async move {
            let _place = place;
            let rest = async { while poll_fn(|cx| relay.poll_next(cx)).await.is_some() {} };
            // Whoever takes longer is cut after all.
            tokio::time::timeout(longest, rest).await.ok();
        });
    }
}
