//! A whole answer, put together from its parts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Place,
    shapes::{Annotation, CallSaid, Extra, FunctionSaid, Head, ThinkingSaid, Usage, finish_name},
};
use crate::wire::{Finish, What, conversation::Thinking};

/// The choices of an answer by their indexes.
#[derive(Default)]
pub(super) struct Answer(BTreeMap<u32, Gathered>);

/// What was said in one choice.
#[derive(Default)]
struct Gathered {
    text: Option<String>,
    thoughts: Option<String>,
    blocks: Vec<Thinking>,
    refusal: Option<String>,
    calls: Vec<Call>,
    citations: Vec<(String, Option<String>)>,
    signature: Option<String>,
    finish: Option<Finish>,
}

struct Call {
    id: String,
    name: String,
    signature: Option<String>,
    arguments: String,
}

impl Answer {
    pub(super) fn take_in(&mut self, choice: u32, what: What) {
        let gathered = self.0.entry(choice).or_default();
        let append = |slot: &mut Option<String>, more: String| match slot {
            Some(text) => text.push_str(&more),
            None => *slot = Some(more),
        };
        match what {
            What::Text(text) => append(&mut gathered.text, text),
            What::Thought(thought) => append(&mut gathered.thoughts, thought),
            What::Refusal(refusal) => append(&mut gathered.refusal, refusal),
            What::Thinking(block) => gathered.blocks.push(block),
            // Calls are counted in their order, without gaps.
            What::ToolCall { index: _, id, name, signature } => {
                gathered.calls.push(Call { id, name, signature, arguments: String::new() });
            }
            What::Arguments { index, json } => {
                let call = usize::try_from(index).ok().and_then(|index| gathered.calls.get_mut(index));
                if let Some(call) = call {
                    call.arguments.push_str(&json);
                }
            }
            What::Citation { url, title } => gathered.citations.push((url, title)),
            What::TextSignature(signature) => gathered.signature = Some(signature),
            What::Finish { reason, stop_sequence: _ } => gathered.finish = Some(reason),
            What::Start { .. } | What::Usage(_) | What::ServiceTier(_) | What::End => {}
        }
    }

    /// The body.
    pub(super) fn write(mut self, head: Head<'_>, usage: Option<Usage>, legacy: bool) -> Vec<u8> {
        // SDKs look at the first choice without asking whether there is one.
        self.0.entry(0).or_default();
        let choices = self.0.iter().map(|(index, gathered)| Choice {
            index: *index,
            message: gathered.message(legacy),
            logprobs: (),
            finish_reason: finish_name(gathered.finish.unwrap_or(Finish::Stop), legacy),
        });
        let Head { id, object, created, model, service_tier } = head;
        let body = Body { id, object, created, model, choices: choices.collect(), usage, service_tier };
        serde_json::to_vec(&body).expect("what is written here has string keys and finite numbers")
    }
}

impl Gathered {
    fn message(&self, legacy: bool) -> Message<'_> {
        let mut function_call = None;
        let mut tool_calls = Vec::with_capacity(self.calls.len());
        for (index, call) in (0..).zip(&self.calls) {
            let Call { id, name, signature, arguments } = call;
            match Place::of(index, legacy) {
                Place::Function => function_call = Some(FunctionSaid { name: Some(name), arguments }),
                Place::Call(_) => {
                    tool_calls.push(CallSaid::begins(None, id, name, arguments, signature.as_deref()));
                }
            }
        }
        Message {
            role: "assistant",
            content: self.text.as_deref(),
            refusal: self.refusal.as_deref(),
            reasoning_content: self.thoughts.as_deref(),
            thinking_blocks: (0..)
                .zip(&self.blocks)
                .map(|(index, block)| ThinkingSaid::new(index, block))
                .collect(),
            tool_calls,
            function_call,
            annotations: self
                .citations
                .iter()
                .map(|(url, title)| Annotation::new(None, url, title.as_deref()))
                .collect(),
            extra_content: self.signature.as_deref().map(Extra::new),
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    /// Always `null`: they are not handed on.
    logprobs: (),
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    thinking_blocks: Vec<ThinkingSaid<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: Vec<CallSaid<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionSaid<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    annotations: Vec<Annotation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}
