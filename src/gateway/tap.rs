//! Reading a stream on the side: bytes are cut into frames, each frame is looked at once, and all but the gateway's
//! own usage chunk go on as they came.

use bytes::Bytes;

use super::{meter::Meter, stream::Reading};
use crate::{
    catalogue::ServiceTier,
    dialects::{ProviderError, StreamProgress},
    wire::{Edit, Endpoint, Envelope, ErrorObject, Event, EventReader, FrameTooLarge, Framer, scrub},
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
    /// The end, such as `[DONE]`.
    Done {
        /// What the client is to see of it.
        frame: Bytes,
        /// Whether it says something besides, as the last event of Responses does.
        meaningful: bool,
    },
}

/// One stream's reader.
pub(super) struct Tap {
    reading: Reading,
    framer: Framer,
    events: EventReader,
    progress: StreamProgress,
    error: bool,
    failed: bool,
    /// Bytes of what was read of a stream in other words, some of which its translation keeps.
    kept: usize,
    done: Option<(Bytes, bool)>,
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
            kept: 0,
            done: None,
        }
    }

    /// More bytes from the provider.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.framer.push(chunk);
    }

    /// The next whole frame, read; figures and text go to the attempt under way.
    pub(super) fn next(&mut self, meter: &mut Meter) -> Result<Option<Step>, FrameTooLarge> {
        if let Some((frame, meaningful)) = self.done.take() {
            return Ok(Some(Step::Done { frame, meaningful }));
        }
        let Some(frame) = self.framer.next_frame()? else { return Ok(None) };
        let Some(event) = self.events.read(&frame) else {
            // A comment in a stream of other words says nothing to this client.
            let comment = Step::Comment(frame);
            return Ok(Some(if self.reading.translation.is_some() { Step::Hidden } else { comment }));
        };
        let Reading { dialect, endpoint, quirks, hide_usage, translation, most_kept_bytes, .. } =
            &mut self.reading;
        let (facts, frame) = match translation {
            Some(translation) => {
                self.kept = self.kept.saturating_add(frame.len());
                if self.kept > *most_kept_bytes {
                    return Err(FrameTooLarge { max: *most_kept_bytes });
                }
                translation.event(&mut self.progress, &event)
            }
            None => (dialect.read_event(*endpoint, quirks, &mut self.progress, &event), frame),
        };
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
            let (frame, meaningful) = (self.with_ending(frame), facts.meaningful);
            return Ok(Some(Step::Done { frame, meaningful }));
        }
        if let Some(error) = facts.error {
            let frame = match translation {
                // What came beside the error was counted, and what follows builds on it.
                Some(translation) => [frame, translation.error(&as_object(&error))].concat().into(),
                None => cleaned(*endpoint, &event, &error).unwrap_or(frame),
            };
            return Ok(Some(Step::Error { frame, error }));
        }
        if facts.usage_only && *hide_usage {
            return Ok(Some(Step::Hidden));
        }
        // Anthropic's sign of life, which is no progress; and what means nothing in other words.
        if event.name == "ping" || (frame.is_empty() && !facts.meaningful && facts.figures.is_none()) {
            return Ok(Some(if frame.is_empty() { Step::Hidden } else { Step::Comment(frame) }));
        }
        Ok(Some(Step::Pass { frame, meaningful: facts.meaningful }))
    }

    /// The last frames of a complete stream: behind what came with its end, what the client's words end with.
    fn with_ending(&mut self, frame: Bytes) -> Bytes {
        match &mut self.reading.translation {
            // Behind an error there is no good end.
            Some(translation) if self.progress.finished() && !self.error => {
                [frame, translation.end()].concat().into()
            }
            _ => frame,
        }
    }

    /// What came behind the end of a stream that passes as it is: some send a `[DONE]` behind the last event of Responses.
    pub(super) fn trailing(&mut self) -> Option<Bytes> {
        let passes = self.reading.translation.is_none() && self.reading.endpoint == Endpoint::Responses;
        passes.then(|| self.rest()).filter(|rest| !rest.is_empty())
    }

    /// The last event of a stream that the gateway cuts, as the client reads errors.
    pub(super) fn error_event(&mut self, error: &ErrorObject, status: u16) -> Bytes {
        match &mut self.reading.translation {
            Some(translation) => translation.error(error),
            None => error.to_event_at(self.reading.endpoint, status),
        }
    }

    /// An error event has gone to the client.
    pub(super) fn note_error(&mut self) {
        self.error = true;
        self.failed |= !self.progress.finished();
    }

    /// Gives the end back, to be read again as the next step.
    pub(super) fn hold_done(&mut self, frame: Bytes, meaningful: bool) {
        self.done = Some((frame, meaningful));
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

    /// What is left when the provider's bytes end in the middle of a frame; of a stream in other words, its end.
    pub(super) fn rest(&mut self) -> Bytes {
        if self.reading.translation.is_some() {
            return self.with_ending(Bytes::new());
        }
        std::mem::replace(&mut self.framer, Framer::new(self.reading.most_event_bytes)).into_rest()
    }
}

/// An error event without what is like a key in its error; `None` when there is nothing to clean. What stands beside
/// the error (choices, usage, ids) stays as it came.
fn cleaned(endpoint: Endpoint, event: &Event, error: &ProviderError) -> Option<Bytes> {
    let clean = as_object(error);
    let envelope = Envelope::split(Bytes::copy_from_slice(event.data.as_bytes()), MAX_DEPTH).ok();
    if let Some(envelope) = envelope.as_ref().filter(|_| endpoint == Endpoint::Responses)
        && let Some(response) = envelope.raw_bytes("response")
    {
        return cleaned_response(event, envelope, response, &clean);
    }
    match envelope.as_ref().and_then(|envelope| Some((envelope, envelope.raw("error")?))) {
        Some((_, raw)) if scrub(raw) == raw => None,
        Some((envelope, _)) => {
            let object = clean.to_json();
            let object = Envelope::split(object, MAX_DEPTH).ok()?;
            let value = object.raw("error")?.to_owned();
            let data = envelope.render(&[Edit::Set { name: "error", value }]);
            let name =
                if event.name == "message" { String::new() } else { format!("event: {}\n", event.name) };
            Some([name.as_bytes(), b"data: ", data.as_ref(), b"\n\n"].concat().into())
        }
        None if scrub(&event.data) == event.data => None,
        None => Some(clean.to_event_at(endpoint, error.status.unwrap_or(500))),
    }
}

/// The same for `response.failed`, whose error stands in its response.
fn cleaned_response(
    event: &Event,
    envelope: &Envelope,
    response: Bytes,
    clean: &ErrorObject,
) -> Option<Bytes> {
    let response = Envelope::split(response, MAX_DEPTH).ok()?;
    let raw = response.raw("error")?;
    if scrub(raw) == raw {
        return None;
    }
    let error = serde_json::json!({ "code": clean.code, "message": clean.message });
    let response = response.render(&[Edit::Set { name: "error", value: error.to_string() }]);
    let value = String::from_utf8(response.to_vec()).ok()?;
    let data = envelope.render(&[Edit::Set { name: "response", value }]);
    Some([format!("event: {}\ndata: ", event.name).as_bytes(), data.as_ref(), b"\n\n"].concat().into())
}

/// A provider's error as clients read errors.
fn as_object(error: &ProviderError) -> ErrorObject {
    ErrorObject {
        message: error.message.clone(),
        kind: error.kind.clone().unwrap_or_else(|| "server_error".into()),
        param: error.param.clone(),
        code: error.code.clone(),
        provider: None,
        provider_status: error.status,
    }
}
