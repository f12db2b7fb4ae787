//! An answer in the words of Responses: a list of items, each told as it begins, grows and is complete.
//!
//! Clients of this API follow a stream strictly: `response.created` first, an item before what is in it, a part before
//! its text, one last event with the whole response. So whatever order parts come in, they are said in one that holds:
//! thoughts and words alternate, each complete before the next begins; calls stay open until the end, since the
//! arguments of several may come by turns.

#[cfg(test)]
mod following;
mod items;
mod response;
mod shapes;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use bytes::Bytes;
use serde_json::value::RawValue;

#[cfg(test)]
pub(in crate::dialects) use self::following::follow;
use self::{
    items::{FunctionCall, Message, Place, Reasoning},
    response::Head,
    shapes::{Annotation, Frames, Said},
};
use super::seal::Kept;
use crate::{
    dialects::Call,
    wire::{ErrorObject, Figures, Finish, Part, What, conversation::Thinking},
};

/// Says an answer.
pub struct Encoder {
    head: Head,
    request_id: String,
    frames: Frames,
    begun: bool,
    /// Items so far: the place of the next one.
    places: usize,
    reasoning: Option<Reasoning>,
    message: Option<Message>,
    calls: BTreeMap<u32, FunctionCall>,
    call_ids: HashSet<String>,
    /// How often an id was given, for those given more than once.
    repeated: HashMap<String, u32>,
    /// Citations that came before there was a text to cite them.
    citations: Vec<Annotation>,
    /// Signatures of the message that is being said.
    text_signatures: Vec<Kept>,
    /// Items that are complete, by place.
    output: BTreeMap<usize, Box<RawValue>>,
    figures: Figures,
    finish: Option<Finish>,
}

impl Encoder {
    /// For the answer to `call`.
    pub fn new(call: &Call<'_>) -> Self {
        Self {
            head: Head::new(call),
            request_id: call.request_id.to_owned(),
            frames: Frames::default(),
            begun: false,
            places: 0,
            reasoning: None,
            message: None,
            calls: BTreeMap::new(),
            call_ids: HashSet::new(),
            repeated: HashMap::new(),
            citations: Vec::new(),
            text_signatures: Vec::new(),
            output: BTreeMap::new(),
            figures: Figures::default(),
            finish: None,
        }
    }

    fn say(&mut self, what: What, out: &mut Vec<u8>) {
        match what {
            What::Start { model, .. } => {
                if let Some(model) = model.filter(|_| !self.begun) {
                    self.head.model = model;
                }
                self.begin(out);
            }
            What::Text(text) if !text.is_empty() => {
                let citations = std::mem::take(&mut self.citations);
                let (message, frames) = self.speak(out);
                message.text(&text, citations, frames, out);
            }
            What::Refusal(text) if !text.is_empty() => {
                let (message, frames) = self.speak(out);
                message.refusal(&text, frames, out);
            }
            What::Thought(text) if !text.is_empty() => {
                let (reasoning, frames) = self.think(out);
                reasoning.thought(&text, frames, out);
            }
            What::Thinking(Thinking::Open { text, signature: None })
                if text.is_empty() && self.reasoning.is_none() => {}
            What::Thinking(thinking) => {
                let (reasoning, frames) = self.think(out);
                reasoning.complete(thinking, frames, out);
            }
            What::ToolCall { index, id, name, signature } => self.call(index, &id, name, signature, out),
            What::Arguments { index, json } if !json.is_empty() => {
                if let Some(call) = self.calls.get_mut(&index) {
                    call.arguments(&json, &mut self.frames, out);
                }
            }
            What::TextSignature(signature) => self.text_signatures.push(Kept::Text { signature }),
            What::Citation { url, title } => {
                let citation = Annotation::new(url, title);
                match &mut self.message {
                    Some(message) if message.has_text() => message.cite(citation, &mut self.frames, out),
                    _ => self.citations.push(citation),
                }
            }
            What::Finish { reason, .. } => self.finish = Some(reason),
            What::Usage(figures) => self.figures.merge_max(&figures),
            What::ServiceTier(tier) => self.head.service_tier = Some(tier),
            What::Text(_) | What::Refusal(_) | What::Thought(_) | What::Arguments { .. } | What::End => {}
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        for kind in ["response.created", "response.in_progress"] {
            let response = self.head.response("in_progress", None, &self.output, None);
            self.frames.say(Said { response: Some(response), ..Said::of(kind) }, out);
        }
    }

    fn place(&mut self, prefix: &str) -> Place {
        let index = self.places;
        self.places += 1;
        Place { id: format!("{prefix}_{}_{index}", self.request_id), index }
    }

    /// The message that is being said, or a new one.
    fn speak(&mut self, out: &mut Vec<u8>) -> (&mut Message, &mut Frames) {
        self.begin(out);
        self.end_thoughts(out);
        let message = match self.message.take() {
            Some(message) => message,
            None => Message::begin(self.place("msg"), &mut self.frames, out),
        };
        (self.message.insert(message), &mut self.frames)
    }

    /// The thoughts that are being told, or new ones.
    fn think(&mut self, out: &mut Vec<u8>) -> (&mut Reasoning, &mut Frames) {
        self.begin(out);
        self.end_message("completed", out);
        let reasoning = match self.reasoning.take() {
            Some(reasoning) => reasoning,
            None => Reasoning::begin(self.place("rs"), &mut self.frames, out),
        };
        (self.reasoning.insert(reasoning), &mut self.frames)
    }

    fn call(&mut self, index: u32, id: &str, name: String, signature: Option<String>, out: &mut Vec<u8>) {
        self.begin(out);
        self.end_message("completed", out);
        // Results find their call by its id, and clients refuse a stream that has one twice.
        let mut call_id = id.to_owned();
        while !self.call_ids.insert(call_id.clone()) {
            let times = self.repeated.entry(id.to_owned()).or_insert(1);
            *times += 1;
            call_id = format!("{id}_{times}");
        }
        if let Some(signature) = signature {
            let (reasoning, _) = self.think(out);
            reasoning.keep(Kept::Call { id: call_id.clone(), signature });
        }
        self.end_thoughts(out);
        let call = FunctionCall::begin(self.place("fc"), call_id, name, &mut self.frames, out);
        if let Some(before) = self.calls.insert(index, call) {
            before.end("completed", &mut self.frames, &mut self.output, out);
        }
    }

    fn end_thoughts(&mut self, out: &mut Vec<u8>) {
        if let Some(reasoning) = self.reasoning.take() {
            reasoning.end(&mut self.frames, &mut self.output, out);
        }
    }

    /// Ends the message, and has its signatures follow it.
    fn end_message(&mut self, status: &'static str, out: &mut Vec<u8>) {
        let Some(message) = self.message.take() else { return };
        message.end(status, &mut self.frames, &mut self.output, out);
        self.keep_signatures(out);
    }

    fn keep_signatures(&mut self, out: &mut Vec<u8>) {
        if self.text_signatures.is_empty() {
            return;
        }
        let mut reasoning = Reasoning::begin(self.place("rs"), &mut self.frames, out);
        for signature in self.text_signatures.drain(..) {
            reasoning.keep(signature);
        }
        reasoning.end(&mut self.frames, &mut self.output, out);
    }

    /// Completes every item; what came last was cut short if the answer was.
    fn end_items(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        if !self.citations.is_empty() {
            let citations = std::mem::take(&mut self.citations);
            let (message, frames) = self.speak(out);
            message.text("", citations, frames, out);
        }
        let cut_short = matches!(self.finish, Some(Finish::Length | Finish::Filtered));
        let last = self.places.checked_sub(1);
        let status = |index| if cut_short && Some(index) == last { "incomplete" } else { "completed" };
        let calls = std::mem::take(&mut self.calls);
        self.end_thoughts(out);
        let of_message = self.message.as_ref().map_or("completed", |message| status(message.index()));
        self.end_message(of_message, out);
        // Signatures of a text that never came.
        self.keep_signatures(out);
        for call in calls.into_values() {
            let of_call = status(call.index());
            call.end(of_call, &mut self.frames, &mut self.output, out);
        }
    }

    /// How the response ended: the last event, its status, and why it is not complete.
    const fn ending(&self) -> (&'static str, &'static str, Option<&'static str>) {
        match self.finish {
            Some(Finish::Length) => ("response.incomplete", "incomplete", Some("max_output_tokens")),
            Some(Finish::Filtered) => ("response.incomplete", "incomplete", Some("content_filter")),
            None | Some(Finish::Stop | Finish::StopSequence | Finish::ToolCalls) => {
                ("response.completed", "completed", None)
            }
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("places", &self.places)
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

impl crate::dialects::Encoder for Encoder {
    fn whole(&mut self, parts: Vec<Part>) -> Bytes {
        self.frames.silence();
        let mut nothing = Vec::new();
        for part in parts {
            self.part(part, &mut nothing);
        }
        self.end_items(&mut nothing);
        let (_, status, reason) = self.ending();
        let response = self.head.response(status, reason, &self.output, Some(&self.figures));
        let body =
            serde_json::to_vec(&response).expect("what is written here has string keys and finite numbers");
        body.into()
    }

    fn part(&mut self, part: Part, out: &mut Vec<u8>) {
        // A response has one answer.
        if part.choice == 0 {
            self.say(part.what, out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.end_items(out);
        let (kind, status, reason) = self.ending();
        let response = self.head.response(status, reason, &self.output, Some(&self.figures));
        self.frames.say(Said { response: Some(response), ..Said::of(kind) }, out);
    }

    fn error(&mut self, error: &ErrorObject, out: &mut Vec<u8>) {
        self.frames.error(error, out);
    }
}
