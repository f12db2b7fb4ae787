//! Whether any byte of a request has left for the provider. The HTTP client polls a request's body only once a
//! connection stands and the head is being written, so the first poll is the moment. Whoever gives up on a request
//! settles the question in the same step: either it was sent, or it never will be.

use std::{
    fmt,
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
const REFUSED: u8 = 3;

/// Notes that a request is about to be sent. False: it may not be.
type Note = dyn Fn() -> bool + Send + Sync;

/// A mark that is set when the request begins to be sent. Clones share it.
#[derive(Clone)]
pub struct SentMark(Arc<Inner>);

struct Inner {
    state: AtomicU8,
    note: Box<Note>,
}

impl SentMark {
    /// A mark that calls `note` in the moment before the first byte goes out, once. It must not wait for anything.
    pub fn new(note: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { state: AtomicU8::new(WAITING), note: Box::new(note) }))
    }

    /// Whether anything was sent.
    pub fn is_set(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == SENT
    }

    /// Whether it was not sent because it could not be noted.
    pub fn is_refused(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == REFUSED
    }

    /// Gives up on the request. True when nothing was sent, and then nothing ever will be.
    pub fn withdraw(&self) -> bool {
        let changed = self.0.state.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        changed != Err(SENT)
    }

    /// Begins to send, unless the request was withdrawn or cannot be noted.
    fn begin(&self) -> bool {
        match self.0.state.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) if (self.0.note)() => true,
            Ok(_) => {
                // Whoever gave up in between took it for sent, which charges too much and never too little.
                self.0.state.store(REFUSED, Ordering::Release);
                false
            }
            Err(state) => state == SENT,
        }
    }
}

impl fmt::Debug for SentMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SentMark").field(&self.0.state).finish()
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
        let sent = SentMark::new(|| true);
        assert!(sent.begin() && sent.begin() && sent.is_set());
        assert!(!sent.withdraw(), "too late");
        let withdrawn = SentMark::new(|| panic!("nothing to note"));
        assert!(withdrawn.withdraw() && withdrawn.withdraw());
        assert!(!withdrawn.begin() && !withdrawn.is_set());
    }

    #[test]
    fn what_cannot_be_noted_is_not_sent() {
        let refused = SentMark::new(|| false);
        assert!(!refused.begin() && !refused.begin());
        assert!(refused.is_refused() && !refused.is_set() && refused.withdraw());
    }
}
