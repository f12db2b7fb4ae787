//! A committed stream, polled by the response body itself: no task, no channel. A slow client slows only its own
//! upstream; a client that leaves drops this body, which drops the upstream call and settles an estimate.
//!
//! The record is handed over before the client sees the end: `[DONE]` is held until then.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    House,
    meter::{Charge, Meter},
    stream::{NO_PROGRESS, Opened},
    tap::{Step, Tap},
};
use crate::{
    domain::{AttemptOutcome, Outcome},
    wire::ErrorObject,
};

/// What fills a silence: a comment, which every reader ignores. It has no blank line of its own. Behind an `id:` of the
/// provider's, OpenAI's Python SDK takes a blank line for an event, whose empty data it cannot read; a comment without
/// one is the beginning of the next event's lines.
const HEARTBEAT: Bytes = Bytes::from_static(b": keystile is waiting for the provider\n");
/// The same behind a frame that ends in CR, where it is not known whether that CR's LF has yet to come: it ends this
/// line then.
const HEARTBEAT_CR: Bytes = Bytes::from_static(b": keystile is waiting for the provider\r");
/// How long the provider may take to end its body after `[DONE]`; then the connection is not used again.
const LINGER: Duration = Duration::from_millis(250);

/// How far a stream has come is noted so often: what a crash settles is at most so much too little.
const NOTE_AFTER: Duration = Duration::from_secs(1);

/// Events that follow each other faster than this are gathered and written together; a slower one goes out at once.
const DENSE: Duration = Duration::from_millis(3);
/// How often a body may answer that it waits before what it holds goes out: hyper asks twice in each turn of the
/// connection's task, so that these are one turn and the start of the next.
const HOLDS: u8 = 2;
/// Most frames that are gathered: hyper writes so many at a time.
const MOST_GATHERED: usize = 16;
/// A larger chunk is worth a write of its own.
const MOST_CHUNK_TO_GATHER: usize = 2048;

/// Why a stream is cut.
#[derive(Clone, Copy)]
enum Cut {
    /// The provider broke off or ended too soon.
    Broken,
    /// The provider went silent.
    Stalled,
    /// Everything together took too long.
    Deadline,
    /// This process is going down.
    Shutdown,
}

impl Cut {
    /// What the client is told, and the status it stands for.
    fn error(self) -> (ErrorObject, u16) {
        let (status, code, message) = match self {
            Self::Broken => {
                (502, "upstream_error", "the provider's stream broke off; what came before is incomplete")
            }
            Self::Stalled => {
                (504, "upstream_timeout", "the provider's stream went silent; what came before is incomplete")
            }
            Self::Deadline => (
                504,
                "upstream_timeout",
                "the answer took too long altogether; what came before is incomplete",
            ),
            Self::Shutdown => {
                (503, "stream_cut", "this gateway is going down; what came before is incomplete")
            }
        };
        (ErrorObject::new("server_error", code, message), status)
    }

    const fn outcome(self) -> Outcome {
        match self {
            Self::Broken => Outcome::UpstreamError,
            Self::Stalled | Self::Deadline => Outcome::CutDeadline,
            Self::Shutdown => Outcome::CutShutdown,
        }
    }
}

/// Whether frames in hand wait for more. The HTTP client hands chunks over one by one, each in a turn of its own, also
/// those that came in one packet; passed on as they are, each would cost the client's connection a write of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gather {
    /// What is in hand goes out.
    Release,
    /// More may come by the next turn; so many times more the answer is to wait.
    Hold(u8),
}

/// The body of a streamed answer.
pub struct Relay {
    queue: VecDeque<Bytes>,
    upstream: Option<reqwest::Body>,
    tap: Tap,
    meter: Option<Meter>,
    status: u16,
    idle: Duration,
    heartbeat_after: Duration,
    deadline: Instant,
    heard: Instant,
    /// When the last event came that was more than a comment.
    progressed: Instant,
    said: Instant,
    /// The last byte that went to the client is a CR.
    said_cr: bool,
    gather: Gather,
    /// Ends when the record survives a loss of power; what is left to say waits for it.
    unsafe_yet: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    client_left: bool,
    /// When a crash was last told what the stream has used.
    noted: Instant,
    timer: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Relay {
    pub(super) fn new(house: &Arc<House>, opened: Opened, status: u16, mut meter: Meter) -> Self {
        meter.committed(status);
        let Opened { prelude, body, tap, idle, deadline } = opened;
        let now = Instant::now();
        let heartbeat_after = house.settings.upstream.heartbeat_after;
        let first_alarm = deadline.min(now + idle).min(now + heartbeat_after);
        let mut relay = Self {
            queue: prelude,
            upstream: Some(body),
            tap,
            meter: Some(meter),
            status,
            idle,
            heartbeat_after,
            deadline,
            heard: now,
            progressed: now,
            said: now,
            said_cr: false,
            gather: Gather::Release,
            unsafe_yet: None,
            client_left: false,
            noted: now,
            timer: Box::pin(tokio::time::sleep_until(first_alarm)),
            cut: Box::pin(house.cut.clone().cancelled_owned()),
        };
        relay.end_if_failed();
        relay
    }

    /// The next bytes for the client; `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(unsafe_yet) = &mut self.unsafe_yet {
                ready!(unsafe_yet.as_mut().poll(cx));
                self.unsafe_yet = None;
            }
            if self.meter.is_none() || self.queue.len() >= MOST_GATHERED {
                self.gather = Gather::Release;
            }
            if self.gather == Gather::Release
                && let Some(bytes) = self.queue.pop_front()
            {
                self.said = Instant::now();
                self.said_cr = bytes.last() == Some(&b'\r');
                return Poll::Ready(Some(bytes));
            }
            if self.meter.is_none() {
                return self.poll_linger(cx);
            }
            if self.read_frames() {
                continue;
            }
            let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
            match Pin::new(upstream).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let now = Instant::now();
                    if let Ok(data) = frame.into_data() {
                        let more = now - self.heard < DENSE && data.len() <= MOST_CHUNK_TO_GATHER;
                        self.gather = if more { Gather::Hold(HOLDS) } else { Gather::Release };
                        self.tap.push(data);
                    }
                    self.heard = now;
                    self.note(now);
                }
                Poll::Ready(Some(Err(_))) => self.end(None, Some(Cut::Broken)),
                Poll::Ready(None) => self.upstream_ended(),
                Poll::Pending if !self.queue.is_empty() => {
                    if let Gather::Hold(left @ 1..) = self.gather {
                        // The next turn comes after whatever else is due now, the task of the provider's connection
                        // among it.
                        self.gather = Gather::Hold(left - 1);
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    self.gather = Gather::Release;
                }
                Poll::Pending => {
                    if self.cut.as_mut().poll(cx).is_ready() {
                        self.end(None, Some(Cut::Shutdown));
                        continue;
                    }
                    ready!(self.timer.as_mut().poll(cx));
                    self.alarm();
                }
            }
        }
    }

    /// Whether everything is settled and recorded.
    pub(super) fn has_ended(&self) -> bool {
        self.meter.is_none()
    }

    /// Nobody reads it any more; it is polled on for what the provider reports at its end.
    pub(super) fn client_left(&mut self) {
        self.client_left = true;
    }

    /// Tells the journal now and then how far the stream has come, for whoever would have to settle it after a crash.
    fn note(&mut self, now: Instant) {
        if now >= self.noted + NOTE_AFTER
            && let Some(meter) = &self.meter
        {
            meter.note_progress();
            self.noted = now;
        }
    }

    /// Takes whole frames from the tap. Answers whether anything happened.
    fn read_frames(&mut self) -> bool {
        let mut progress = false;
        while let Some(meter) = &mut self.meter {
            match self.tap.next(meter) {
                Ok(None) => break,
                Ok(Some(Step::Pass { frame, .. })) => {
                    self.progressed = self.heard;
                    if !frame.is_empty() {
                        self.queue.push_back(frame);
                    }
                }
                Ok(Some(Step::Comment(frame))) => self.queue.push_back(frame),
                Ok(Some(Step::Hidden)) => {}
                Ok(Some(Step::Error { frame, .. })) => {
                    self.queue.push_back(frame);
                    self.tap.note_error();
                    self.end_if_failed();
                }
                Ok(Some(Step::Done { frame, .. })) => {
                    if self.tap.is_finished() {
                        self.end(Some(frame), None);
                        self.queue.extend(self.tap.trailing());
                    } else {
                        self.end(None, Some(Cut::Broken));
                    }
                }
                Err(_) => self.end(None, Some(Cut::Broken)),
            }
            progress = true;
        }
        progress
    }

    /// A provider that reported an error in the middle of its answer is not listened to any longer; usage that came with
    /// the error is still taken.
    fn end_if_failed(&mut self) {
        if !self.tap.has_failed() {
            return;
        }
        if let Some(meter) = &mut self.meter {
            while let Ok(Some(_)) = self.tap.next(meter) {}
        }
        self.end(None, Some(Cut::Broken));
    }

    fn upstream_ended(&mut self) {
        self.upstream = None;
        let rest = self.tap.rest();
        if self.tap.is_finished() {
            // Only `[DONE]` is missing: the stream passes as it came.
            self.end((!rest.is_empty()).then_some(rest), None);
        } else {
            self.end(None, Some(Cut::Broken));
        }
    }

    fn alarm(&mut self) {
        let now = Instant::now();
        let cut = match () {
            () if now >= self.deadline => Some(Cut::Deadline),
            () if now >= self.heard + self.idle
                || now >= self.progressed + self.idle.mul_f32(NO_PROGRESS) =>
            {
                Some(Cut::Stalled)
            }
            () => None,
        };
        if cut.is_some() {
            self.end(None, cut);
            return;
        }
        if now >= self.said + self.heartbeat_after {
            // Only whole frames have gone out, so that no event is cut in two.
            self.queue.push_back(if self.said_cr { HEARTBEAT_CR } else { HEARTBEAT });
            self.said = now;
        }
        let next = self
            .deadline
            .min(self.heard + self.idle)
            .min(self.progressed + self.idle.mul_f32(NO_PROGRESS))
            .min(self.said + self.heartbeat_after);
        self.timer.as_mut().reset(next);
    }

    /// Ends the request, once: the record first, then what the client sees of the end.
    fn end(&mut self, last: Option<Bytes>, cut: Option<Cut>) {
        let Some(mut meter) = self.meter.take() else { return };
        let reported_error = self.tap.has_error();
        let (attempt, outcome) = match cut {
            _ if self.client_left => (AttemptOutcome::ClientGone, Outcome::ClientGone),
            None if reported_error => (AttemptOutcome::Broken, Outcome::UpstreamError),
            None => (AttemptOutcome::Ok, Outcome::Ok),
            Some(cut) => (AttemptOutcome::Broken, cut.outcome()),
        };
        meter.end_attempt(attempt, Charge::Used);
        let finished = meter.finish(self.status, outcome);
        if !finished.is_safe() {
            self.unsafe_yet = Some(Box::pin(finished.safe()));
        }
        self.queue.extend(last.filter(|last| !last.is_empty()));
        if let Some(cut) = cut {
            self.upstream = None;
            // A provider that reported its own end has said it already.
            if !(reported_error && matches!(cut, Cut::Broken)) {
                let (error, status) = cut.error();
                let event = self.tap.error_event(&error, status);
                self.queue.push_back(event);
            }
        }
        self.timer.as_mut().reset(Instant::now() + LINGER);
    }

    /// After the end: waits a moment for the provider to end its body, so that the connection can be used again. What
    /// still comes is dropped where the end was the last that may come.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Some(upstream) = &mut self.upstream {
            match Pin::new(upstream).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.tap.push(data);
                        if let Some(trailing) = self.tap.trailing() {
                            return Poll::Ready(Some(trailing));
                        }
                    }
                }
                Poll::Ready(_) => self.upstream = None,
                Poll::Pending => {
                    ready!(self.timer.as_mut().poll(cx));
                    self.upstream = None;
                }
            }
        }
        Poll::Ready(None)
    }
}
