//! Whether any byte of a request has left for the provider. The HTTP client polls a request's body only once a
//! connection stands and the head is being written, so the first poll is the moment. Whoever gives up on a request
//! settles the question in the same step: either it was sent, or it never will be.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

const WAITING: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// A mark that is set when the request begins to be sent. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SentMark(Arc<AtomicU8>);

impl SentMark {
    /// Whether anything was sent.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) == SENT
    }

    /// Gives up on the request. True when nothing was sent, and then nothing ever will be.
    pub fn withdraw(&self) -> bool {
        let changed = self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        changed != Err(SENT)
    }

    /// Begins to send, unless the request was withdrawn.
    fn begin(&self) -> bool {
        let changed = self.0.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire);
        changed != Err(WITHDRAWN)
    }
}

/// The request was given up before it was sent.
#[derive(Debug, thiserror::Error)]
#[error("withdrawn")]
pub(super) struct Withdrawn;

/// A request body that sets its mark when it is first asked for.
pub(super) struct MarkedBody {
    pub(super) bytes: Option<Bytes>,
    pub(super) mark: SentMark,
}

impl Body for MarkedBody {
    type Data = Bytes;
    type Error = Withdrawn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
        if !self.mark.begin() {
            return Poll::Ready(Some(Err(Withdrawn)));
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_sent_or_withdrawn_but_never_both() {
        let sent = SentMark::default();
        assert!(sent.begin() && sent.is_set());
        assert!(!sent.withdraw(), "too late");
        let withdrawn = SentMark::default();
        assert!(withdrawn.withdraw() && withdrawn.withdraw());
        assert!(!withdrawn.begin() && !withdrawn.is_set());
    }
}
