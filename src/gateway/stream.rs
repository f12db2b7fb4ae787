//! A provider's stream up to its first meaningful event. Until then nothing goes to the client, so that a stream that
//! begins with an error can still be answered by somebody else.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::{
    forward::stands_for,
    meter::Meter,
    tap::{Step, Tap},
};
use crate::{
    catalogue::Quirks,
    dialects::{Dialect, Translation},
    upstream::Failure,
    wire::Endpoint,
};

/// Pings alone keep a stream alive for so many times the idle timeout: at the defaults, five minutes.
pub(super) const NO_PROGRESS: f32 = 2.5;
/// What may come before the first meaningful event: comments, pings, role and lifecycle events.
const MOST_PRELUDE_BYTES: usize = 1024 * 1024;

/// How one stream is read.
pub(super) struct Reading {
    pub(super) dialect: &'static dyn Dialect,
    pub(super) endpoint: Endpoint,
    pub(super) quirks: Quirks,
    /// The answer comes in other words than the client's.
    pub(super) translation: Option<Box<dyn Translation>>,
    /// Choices the request asked for.
    pub(super) choices: u64,
    /// Whether the usage-only chunk is ours and must not reach the client.
    pub(super) hide_usage: bool,
    pub(super) most_event_bytes: usize,
    /// Most bytes of a stream that is translated: its translation may keep all of it.
    pub(super) most_kept_bytes: usize,
    pub(super) idle: Duration,
    pub(super) deadline: Instant,
}

/// A stream whose first meaningful event is in hand.
pub(super) struct Opened {
    /// What goes to the client first.
    pub(super) prelude: VecDeque<Bytes>,
    /// The rest.
    pub(super) body: reqwest::Body,
    pub(super) tap: Tap,
    pub(super) idle: Duration,
    pub(super) deadline: Instant,
}

/// Reads up to the first meaningful event.
///
/// # Errors
/// When the first thing that matters is an error, or the stream ends, breaks or stalls before anything matters.
pub(super) async fn open(
    reading: Reading,
    mut body: reqwest::Body,
    first_byte: Duration,
    meter: &mut Meter,
) -> Result<Opened, Failure> {
    let Reading { idle, deadline, .. } = reading;
    let mut tap = Tap::new(reading);
    let mut prelude = VecDeque::new();
    let (mut bytes, mut frames) = (0, 0);
    let mut progress = Instant::now() + first_byte;
    let mut until = deadline.min(progress);
    loop {
        let frame = match timeout_at(until, body.frame()).await {
            Err(_) => return Err(Failure::TimedOut),
            Ok(None) => return Err(Failure::Ambiguous("the provider's stream ended before it began")),
            Ok(Some(Err(_))) => {
                return Err(Failure::Ambiguous("the provider's stream broke off before it began"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        if bytes > MOST_PRELUDE_BYTES && frames > 1 {
            return Err(Failure::Ambiguous("the provider's stream does not come to the point"));
        }
        tap.push(data);
        let mut meaningful = false;
        loop {
            let step = tap
                .next(meter)
                .map_err(|_| Failure::Ambiguous("an event of the provider's stream is too large"))?;
            frames += usize::from(step.is_some());
            match step {
                None => break,
                Some(Step::Pass { frame, meaningful: matters }) => {
                    progress = Instant::now();
                    if !frame.is_empty() {
                        prelude.push_back(frame);
                    }
                    meaningful |= matters;
                }
                Some(Step::Comment(frame)) => prelude.push_back(frame),
                Some(Step::Hidden) => {}
                Some(Step::Error { frame, .. }) if meaningful => {
                    // It came with the first meaningful event: the relay ends there.
                    prelude.push_back(frame);
                    tap.note_error();
                    if tap.has_failed() {
                        break;
                    }
                }
                Some(Step::Error { error, .. }) => {
                    let status = stands_for(&error);
                    return Err(Failure::Rejected { status, error: Box::new(error), retry_after: None });
                }
                Some(Step::Done { frame, meaningful: matters }) => {
                    meaningful |= matters;
                    if !meaningful {
                        return Err(Failure::Ambiguous("the provider's stream ended before it began"));
                    }
                    tap.hold_done(frame, matters);
                    break;
                }
            }
        }
        if meaningful {
            meter.first_token();
            return Ok(Opened { prelude, body, tap, idle, deadline });
        }
        until = deadline.min(Instant::now() + idle).min(progress + idle.mul_f32(NO_PROGRESS));
    }
}
