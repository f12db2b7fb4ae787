//! A provider's body that is not a stream, read within its bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::upstream::Failure;

/// All of it.
///
/// # Errors
/// When it breaks off, is too large, or pauses too long: the provider may bill it all the same.
pub(super) async fn collect(
    mut body: reqwest::Body,
    most: usize,
    idle: Duration,
    first_byte: Instant,
    deadline: Instant,
) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    let mut until = first_byte;
    loop {
        match timeout_at(until, body.frame()).await {
            Err(_) => return Err(Failure::TimedOut),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Err(_))) => return Err(Failure::Ambiguous("the provider's answer broke off")),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if whole.len() + data.len() > most {
                    return Err(Failure::Ambiguous("the provider's answer is too large"));
                }
                whole.extend_from_slice(&data);
            }
        }
        until = deadline.min(Instant::now() + idle);
    }
}

/// As much of it as fits and comes in time: an error's text is welcome but not needed.
pub(super) async fn collect_some(
    mut body: reqwest::Body,
    most: usize,
    idle: Duration,
    deadline: Instant,
) -> Bytes {
    let mut some = BytesMut::new();
    while some.len() < most {
        let until = deadline.min(Instant::now() + idle);
        let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await else { break };
        if let Ok(data) = frame.into_data() {
            some.extend_from_slice(&data[..data.len().min(most - some.len())]);
        }
    }
    some.freeze()
}
