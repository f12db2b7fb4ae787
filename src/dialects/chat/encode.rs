//! Says an answer as a chat completion, whole or in chunks, as OpenAI's SDKs put them together: a role first, indexes
//! without gaps, and whatever is said once said once, since they join texts that come again. Of lists that are not
//! OpenAI's own, the SDK for Python joins items by their `index`, and the one for Node keeps the last list: so what belongs
//! together goes into one list.

mod shapes;
mod whole;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::shapes::{
    Annotation, CallSaid, Chunk, ChunkChoice, Delta, Extra, FunctionSaid, Head, ThinkingSaid, Usage,
    finish_name,
};
use crate::{
    dialects::Call,
    wire::{ErrorObject, Figures, Part, What, conversation::Thinking, write_frame},
};

/// Says an answer.
pub struct Encoder {
    id: String,
    model: String,
    created: i64,
    service_tier: Option<String>,
    figures: Figures,
    /// The client wants usage in its stream.
    include_usage: bool,
    /// The client does not want to see thoughts.
    hides_thoughts: bool,
    /// The client asked with `functions`: it knows one call, and not by `tool_calls`.
    legacy: bool,
    choices: BTreeMap<u32, Said>,
}

/// What of one choice was said.
#[derive(Default)]
struct Said {
    role: bool,
    /// Blocks of thoughts that were said.
    blocks: u32,
    /// And those that wait for the thoughts to end.
    held: Vec<Thinking>,
    /// Addresses and titles, which are said at the end.
    citations: Vec<(String, Option<String>)>,
    /// Gemini's signature on text, for which a message has one place: the last one counts, and is said at the end.
    signature: Option<String>,
}

impl Said {
    /// Keeps what is said later; gives back what is said now.
    fn hold(&mut self, what: What) -> Option<What> {
        match what {
            What::Thinking(block) => self.held.push(block),
            What::Citation { url, title } => self.citations.push((url, title)),
            What::TextSignature(signature) => self.signature = Some(signature),
            what => return Some(what),
        }
        None
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("choices", &self.choices.len()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// For the answer to `call`.
    pub fn new(call: &Call<'_>) -> Self {
        let reasoning = call.asked.conversation().ok().and_then(|conversation| conversation.reasoning);
        let given = |name| call.asked.envelope.raw(name).is_some_and(|raw| raw != "null");
        Self {
            id: format!("chatcmpl-{}", call.request_id),
            model: call.model.as_str().to_owned(),
            created: call.created,
            service_tier: None,
            figures: Figures::default(),
            include_usage: call.asked.view.include_usage,
            hides_thoughts: reasoning.and_then(|reasoning| reasoning.show) == Some(false),
            legacy: given("functions") && !given("tools"),
            choices: BTreeMap::new(),
        }
    }

    /// Takes in what is about the whole answer; gives back what is about a choice.
    fn note(&mut self, what: What) -> Option<What> {
        match what {
            // Once a chunk has gone out under a name it is the name of all.
            What::Start { .. } if !self.choices.is_empty() => None,
            What::Start { id, model } => {
                if let Some(id) = id {
                    self.id = id;
                }
                if let Some(model) = model {
                    self.model = model;
                }
                None
            }
            What::Usage(figures) => {
                self.figures.merge_max(&figures);
                None
            }
            What::ServiceTier(tier) => {
                self.service_tier = Some(tier);
                None
            }
            What::End => None,
            What::Thought(_) if self.hides_thoughts => None,
            what => Some(what),
        }
    }

    fn head(&self, object: &'static str) -> Head<'_> {
        Head {
            id: &self.id,
            object,
            created: self.created,
            model: &self.model,
            // Anthropic's word for what OpenAI calls the default.
            service_tier: self
                .service_tier
                .as_deref()
                .map(|tier| if tier == "standard" { "default" } else { tier }),
        }
    }

    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: Option<Usage>, out: &mut Vec<u8>) {
        let Head { id, object, created, model, service_tier } = self.head("chat.completion.chunk");
        write_frame(None, &Chunk { id, object, created, model, service_tier, choices, usage }, out);
    }
}

impl crate::dialects::Encoder for Encoder {
    fn whole(&mut self, parts: Vec<Part>) -> Bytes {
        let mut answer = whole::Answer::default();
        for Part { choice, what } in parts {
            if let Some(what) = self.note(what) {
                answer.take_in(choice, what);
            }
        }
        let usage = Usage::of(&self.figures);
        answer.write(self.head("chat.completion"), usage, self.legacy).into()
    }

    fn part(&mut self, part: Part, out: &mut Vec<u8>) {
        let Part { choice: index, what } = part;
        let Some(what) = self.note(what) else { return };
        let legacy = self.legacy;
        let said = self.choices.entry(index).or_default();
        let Some(what) = said.hold(what) else { return };
        let mut delta = Delta::default();
        let mut finish_reason = None;
        // The places of what the delta borrows.
        let (call, citations, annotations, signature);
        match &what {
            What::Text(text) => delta.content = Some(Some(text)),
            What::Thought(thought) => delta.reasoning_content = Some(thought),
            What::Refusal(refusal) => delta.refusal = Some(refusal),
            What::ToolCall { index, id, name, signature } => match Place::of(*index, legacy) {
                Place::Function => {
                    delta.function_call = Some(FunctionSaid { name: Some(name), arguments: "" })
                }
                Place::Call(index) => {
                    call = [CallSaid::begins(Some(index), id, name, "", signature.as_deref())];
                    delta.tool_calls = &call;
                }
            },
            What::Arguments { index, json } => match Place::of(*index, legacy) {
                Place::Function => delta.function_call = Some(FunctionSaid { name: None, arguments: json }),
                Place::Call(index) => {
                    call = [CallSaid::goes_on(index, json)];
                    delta.tool_calls = &call;
                }
            },
            What::Finish { reason, stop_sequence: _ } => {
                finish_reason = Some(finish_name(*reason, legacy));
                signature = said.signature.take();
                delta.extra_content = signature.as_deref().map(Extra::new);
                citations = std::mem::take(&mut said.citations);
                let numbered = (0..).zip(&citations);
                annotations = numbered
                    .map(|(index, (url, title))| Annotation::new(Some(index), url, title.as_deref()))
                    .collect::<Vec<_>>();
                delta.annotations = &annotations;
            }
            // Held back, or about the whole answer.
            What::Thinking(_)
            | What::Citation { .. }
            | What::TextSignature(_)
            | What::Start { .. }
            | What::Usage(_)
            | What::ServiceTier(_)
            | What::End => return,
        }
        // Nothing but more thoughts leaves the blocks waiting.
        let held =
            if delta.reasoning_content.is_some() { Vec::new() } else { std::mem::take(&mut said.held) };
        let blocks: Vec<ThinkingSaid<'_>> =
            (said.blocks..).zip(&held).map(|(index, block)| ThinkingSaid::new(index, block)).collect();
        said.blocks = blocks.last().map_or(said.blocks, |last| last.after());
        delta.thinking_blocks = &blocks;
        if !std::mem::replace(&mut said.role, true) {
            delta.role = Some("assistant");
            // As OpenAI has it where something other than text comes first.
            delta.content = delta.content.or(Some(None));
        }
        self.chunk(&[ChunkChoice { index, delta, finish_reason }], None, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.include_usage
            && let Some(usage) = Usage::of(&self.figures)
        {
            self.chunk(&[], Some(usage), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn error(&mut self, error: &ErrorObject, out: &mut Vec<u8>) {
        out.extend_from_slice(&error.to_event());
    }
}

/// Where a call is said.
enum Place {
    /// `tool_calls`, under this index.
    Call(u32),
    /// `function_call`.
    Function,
}

impl Place {
    /// A client that asked with `functions` is told the first call so, and any other as a tool's: it has no other place.
    const fn of(index: u32, legacy: bool) -> Self {
        match (legacy, index) {
            (false, index) => Self::Call(index),
            (true, 0) => Self::Function,
            (true, index) => Self::Call(index - 1),
        }
    }
}
