//! Reading a stream on the side: bytes are cut into frames, each frame is looked at once, and all but the gateway's
//! own usage chunk go on as they came.

use bytes::Bytes;

use super::{meter::Meter, stream::Reading};
use crate::{
    catalogue::ServiceTier,
    dialects::{ProviderError, StreamProgress},
    wire::{Edit, Envelope, ErrorObject, Event, EventReader, FrameTooLarge, Framer, scrub},
};

/// Nesting of an error event that is looked into.
const MAX_DEPTH: usize = 64;

/// What to do with one frame.
pub(super) enum Step {
    /// To the client, untouched.
    Pass {
        frame: Bytes,
        /// Whether it carries content or a finish reason.
        meaningful: bool,
    },
    /// A comment or an empty event, to the client as well; no sign of progress.
    Comment(Bytes),
    /// The usage that only the gateway asked for.
    Hidden,
    /// An error event, cleaned.
    Error {
        /// What the client is to see of it.
        frame: Bytes,
        /// What it says.
        error: ProviderError,
    },
    /// `[DONE]`.
    Done(Bytes),
}

/// One stream's reader.
pub(super) struct Tap {
    reading: Reading,
    framer: Framer,
    events: EventReader,
    progress: StreamProgress,
    error: bool,
    failed: bool,
    done: Option<Bytes>,
}

impl Tap {
    pub(super) fn new(reading: Reading) -> Self {
        let framer = Framer::new(reading.most_event_bytes);
        let progress = StreamProgress::expecting(reading.choices);
        Self {
            reading,
            framer,
            events: EventReader::default(),
            progress,
            error: false,
            failed: false,
            done: None,
        }
    }

    /// More bytes from the provider.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.framer.push(chunk);
    }

    /// The next whole frame, read; figures and text go to the attempt under way.
    pub(super) fn next(&mut self, meter: &mut Meter) -> Result<Option<Step>, FrameTooLarge> {
        if let Some(done) = self.done.take() {
            return Ok(Some(Step::Done(done)));
        }
        let Some(frame) = self.framer.next_frame()? else { return Ok(None) };
        let Some(event) = self.events.read(&frame) else {
            return Ok(Some(Step::Comment(frame)));
        };
        let Reading { dialect, endpoint, quirks, hide_usage, .. } = &self.reading;
        let facts = dialect.read_event(*endpoint, quirks, &mut self.progress, &event);
        if let Some(live) = meter.live() {
            if let Some(figures) = &facts.figures {
                live.figures.merge_max(figures);
            }
            if let Some(tier) = &facts.service_tier {
                live.tier = ServiceTier::from_name(tier).unwrap_or(live.tier);
            }
            live.text_bytes = live.text_bytes.saturating_add(facts.text_bytes);
            live.complete = self.progress.finished();
        }
        if facts.done {
            return Ok(Some(Step::Done(frame)));
        }
        if let Some(error) = facts.error {
            let frame = cleaned(&event, &error).unwrap_or(frame);
            return Ok(Some(Step::Error { frame, error }));
        }
        if facts.usage_only && *hide_usage {
            return Ok(Some(Step::Hidden));
        }
        Ok(Some(Step::Pass { frame, meaningful: facts.meaningful }))
    }

    /// An error event has gone to the client.
    pub(super) fn note_error(&mut self) {
        self.error = true;
        self.failed |= !self.progress.finished();
    }

    /// Gives `[DONE]` back, to be read again as the next step.
    pub(super) fn hold_done(&mut self, frame: Bytes) {
        self.done = Some(frame);
    }

    /// Whether the provider reported an error before it had finished: nothing that comes after it is of use, but for
    /// usage.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether an error event has gone to the client.
    pub(super) fn has_error(&self) -> bool {
        self.error
    }

    /// Whether the provider finished what it had to say.
    pub(super) fn is_finished(&self) -> bool {
        self.progress.finished()
    }

    /// What is left when the provider's bytes end in the middle of a frame.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::replace(&mut self.framer, Framer::new(self.reading.most_event_bytes)).into_rest()
    }
}

/// An error event without what is like a key in its error; `None` when there is nothing to clean. What stands beside
/// the error (choices, usage, ids) stays as it came.
fn cleaned(event: &Event, error: &ProviderError) -> Option<Bytes> {
    let clean = ErrorObject {
        message: error.message.clone(),
        kind: error.kind.clone().unwrap_or_else(|| "server_error".into()),
        param: error.param.clone(),
        code: error.code.clone(),
        provider: None,
        provider_status: error.status,
    };
    let envelope = Envelope::split(Bytes::copy_from_slice(event.data.as_bytes()), MAX_DEPTH).ok();
    match envelope.as_ref().and_then(|envelope| Some((envelope, envelope.raw("error")?))) {
        Some((_, raw)) if scrub(raw) == raw => None,
        Some((envelope, _)) => {
            let object = clean.to_json();
            let object = Envelope::split(object, MAX_DEPTH).ok()?;
            let value = object.raw("error")?.to_owned();
            let data = envelope.render(&[Edit::Set { name: "error", value }]);
            Some([b"data: ", data.as_ref(), b"\n\n"].concat().into())
        }
        None if scrub(&event.data) == event.data => None,
        None => Some(clean.to_event()),
    }
}
