//! Bodies in and out: a request's body collected within its bounds, and the two kinds of answers.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{drain::Streamed, error::GatewayError};

/// Slow clients may take this long before the minimum rate is asked of them.
const GRACE: Duration = Duration::from_secs(10);
/// Then at least so many bytes a second, on average.
const MINIMUM_RATE: u64 = 1_024;

/// How long the rest of a refused request is read, and how much of it.
const DISCARD_FOR: Duration = Duration::from_secs(5);
const MOST_DISCARDED: usize = 64 * 1024 * 1024;

/// An answer's body.
pub enum GatewayBody {
    /// All of it is here.
    Full(Option<Bytes>),
    /// A provider's stream, relayed as it comes.
    Relay(Streamed),
}

impl GatewayBody {
    /// A body that is complete.
    pub fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relay(relay) => relay.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relay(_) => SizeHint::default(),
        }
    }
}

/// Refuses what a head already shows to be no plain JSON body, or one that is too large.
pub(super) fn check_head(headers: &HeaderMap, most: usize) -> Result<(), GatewayError> {
    let json = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    });
    if !json {
        return Err(GatewayError::UnsupportedMediaType(
            "the body must be JSON: send `content-type: application/json`",
        ));
    }
    let plain = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !plain {
        return Err(GatewayError::UnsupportedMediaType(
            "the body must not be compressed: send it without `content-encoding`",
        ));
    }
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(GatewayError::TooLarge(most));
    }
    Ok(())
}

/// Collects a request's body. A pause, or a trickle, ends in 408.
pub(super) async fn collect<B>(mut body: B, most: usize, idle: Duration) -> Result<Bytes, GatewayError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let started = Instant::now();
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    loop {
        let frame = match timeout(idle, body.frame()).await {
            Err(_) => return Err(GatewayError::RequestTimeout),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(GatewayError::BrokenBody),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let length = first.as_ref().map_or(0, Bytes::len) + rest.len() + data.len();
        if length > most {
            return Err(GatewayError::TooLarge(most));
        }
        // Most bodies come in one piece, which needs no copy.
        match &first {
            None => first = Some(data),
            Some(_) => rest.extend_from_slice(&data),
        }
        let elapsed = started.elapsed();
        if elapsed > GRACE && (length as u64) < MINIMUM_RATE * elapsed.as_secs() {
            return Err(GatewayError::RequestTimeout);
        }
    }
    let first = first.unwrap_or_default();
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

/// Reads what is left of a refused request's body, and keeps nothing of it. Closing a connection on which bytes are still
/// coming resets it, and the reset can overtake the answer: its client would see a broken connection, try again, and
/// never learn that its key is wrong or its body too large.
pub(super) fn discard(
    tasks: &TaskTracker,
    cut: &CancellationToken,
    headers: &HeaderMap,
    mut incoming: Incoming,
) {
    // Who waits for `100 Continue` has sent nothing yet, and reading would invite it.
    if incoming.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let cut = cut.clone();
    tasks.spawn(async move {
        let mut left = MOST_DISCARDED;
        let read = async {
            while let Some(Ok(frame)) = incoming.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(length) else { break };
                left = rest;
            }
        };
        cut.run_until_cancelled(timeout(DISCARD_FOR, read)).await
    });
}
