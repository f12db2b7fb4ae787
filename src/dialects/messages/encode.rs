//! Answers in Anthropic's words: a message, or the events of one.
//!
//! A stream is always well formed, whatever the parts: one `message_start`, blocks one after another, each with a start
//! and a stop, one `message_delta` with the reason for the end and all usage, one `message_stop`. Usage is said there
//! because most providers say it last; the client's SDKs take those figures for the ones of the beginning.

mod arguments;
mod frames;
mod names;
mod pieces;
#[cfg(test)]
mod tests;
mod usage;

use std::fmt;

use bytes::Bytes;

#[cfg(test)]
pub(in crate::dialects) use self::tests::accumulate::accumulate;
use self::{
    frames::{Count, Ending, Frame, Message, StopDetails},
    pieces::Pieces,
    usage::Usage,
};
use crate::{
    dialects::Call,
    wire::{Endpoint, ErrorObject, Figures, Finish, Part, UsageRules, What},
};

/// Says an answer.
pub struct Encoder {
    /// The request only asked how large it is.
    counts: bool,
    /// Of the message; from the request until the provider gives one.
    id: String,
    model: String,
    rules: UsageRules,
    pieces: Pieces,
    figures: Figures,
    service_tier: Option<&'static str>,
    finish: Option<(Finish, Option<String>)>,
    refused: bool,
    called: bool,
    started: bool,
    ended: bool,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("started", &self.started)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// For the answer to `call`.
    pub fn new(call: &Call<'_>) -> Self {
        Self {
            counts: call.asked.endpoint == Endpoint::CountTokens,
            id: names::message_id(call.request_id),
            model: call.model.to_string(),
            rules: UsageRules { reasoning_apart: call.quirks.reasoning_apart },
            pieces: Pieces::default(),
            figures: Figures::default(),
            service_tier: None,
            finish: None,
            refused: false,
            called: false,
            started: false,
            ended: false,
        }
    }

    /// Takes a part in. Anthropic's words have one answer only: of several, the first is told.
    fn take(&mut self, Part { choice, what }: Part) {
        match what {
            What::Start { id, model } => {
                if let Some(id) = id.filter(|id| !id.is_empty()) {
                    self.id = names::message_id(&id);
                }
                if let Some(model) = model.filter(|model| !model.is_empty()) {
                    self.model = model;
                }
            }
            What::Usage(figures) => self.figures.merge_max(&figures),
            What::ServiceTier(tier) => self.service_tier = usage::service_tier(&tier).or(self.service_tier),
            _ if choice != 0 => {}
            What::Finish { reason, stop_sequence } => self.finish = Some((reason, stop_sequence)),
            What::End => {}
            What::Text(text) => self.pieces.text(text),
            What::Refusal(text) => {
                self.refused = true;
                self.pieces.text(text);
            }
            What::Thought(text) => self.pieces.thought(text),
            What::Thinking(thinking) => self.pieces.thinking(thinking),
            What::ToolCall { index, id, name, signature } => {
                self.called = true;
                self.pieces.call(index, &id, name, signature.as_deref());
            }
            What::Arguments { index, json } => self.pieces.arguments(index, &json),
            What::TextSignature(signature) => self.pieces.text_signature(&signature),
            What::Citation { url, title } => self.pieces.citation(url, title),
        }
    }

    fn ending(&self) -> Ending<'_> {
        let (reason, sequence) = match &self.finish {
            Some((reason, sequence)) => (*reason, sequence.as_deref()),
            None => (Finish::Stop, None),
        };
        let stop_reason = match reason {
            _ if self.refused => "refusal",
            Finish::Filtered => "refusal",
            Finish::Length => "max_tokens",
            Finish::StopSequence => "stop_sequence",
            Finish::Stop if sequence.is_some() => "stop_sequence",
            // Whoever waits for tools without having called one would wait for ever; some providers say that they are done
            // although they have called.
            Finish::ToolCalls | Finish::Stop if self.called => "tool_use",
            Finish::ToolCalls | Finish::Stop => "end_turn",
        };
        let stop_details =
            (stop_reason == "refusal").then_some(StopDetails::Refusal { category: (), explanation: () });
        let stop_sequence = sequence.filter(|_| stop_reason == "stop_sequence");
        Ending { stop_reason: Some(stop_reason), stop_sequence, stop_details }
    }

    fn usage(&self) -> Usage {
        Usage::new(&self.figures, &self.rules, self.service_tier)
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message = Message::new(&self.id, &self.model, &[], Ending::default(), self.usage());
        Frame::MessageStart { message }.write(out);
    }
}

impl crate::dialects::Encoder for Encoder {
    fn whole(&mut self, parts: Vec<Part>) -> Bytes {
        for part in parts {
            self.take(part);
        }
        if self.counts {
            let count = serde_json::to_vec(&Count { input_tokens: self.usage().input_total() });
            return count.expect("a number always serialises").into();
        }
        let content = self.pieces.blocks();
        let message = Message::new(&self.id, &self.model, &content, self.ending(), self.usage());
        serde_json::to_vec(&message).expect("strings, numbers and checked JSON always serialise").into()
    }

    fn part(&mut self, part: Part, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        let finishes = part.choice == 0 && matches!(part.what, What::Finish { .. });
        self.take(part);
        if self.pieces.has_any() {
            self.start(out);
            self.pieces.tell(finishes, out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.start(out);
        self.pieces.tell(true, out);
        Frame::MessageDelta { delta: self.ending(), usage: self.usage() }.write(out);
        Frame::MessageStop.write(out);
    }

    fn error(&mut self, error: &ErrorObject, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        out.extend_from_slice(&names::error_event(error));
    }
}
