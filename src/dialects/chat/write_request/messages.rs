//! Turns become messages. Turns that follow each other in one role are looked at together: results of tools must stand
//! right behind their calls, and calls of one answer in one message.
//!
//! Instructions are `system` wherever they stand: `developer` is OpenAI's newer name of it, which OpenAI reads for
//! either and most others do not know.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    Dropped,
    content::{Part, Pen, Said},
    ids::call_id,
    options::Names,
};
use crate::{
    dialects::{Call, DialectError},
    wire::conversation::{Block, Content, Role, Thinking, ToolCall, Turn},
};

/// One message.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
    content: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: Vec<CallSaid<'a>>,
}

impl<'a> Message<'a> {
    fn new(role: &'static str, name: Option<&'a str>, content: Option<Said<'a>>) -> Self {
        Self { role, name, tool_call_id: None, content, reasoning_content: None, tool_calls: Vec::new() }
    }
}

#[derive(Serialize)]
struct CallSaid<'a> {
    id: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    function: FunctionSaid<'a>,
}

#[derive(Serialize)]
struct FunctionSaid<'a> {
    name: &'a str,
    arguments: &'a str,
}

pub(super) fn write<'a>(
    turns: &'a [Turn],
    call: &Call<'_>,
    names: &Names,
    dropped: &mut Dropped,
) -> Result<Vec<Message<'a>>, DialectError> {
    let mut writer = Writer { pen: Pen { call, names, dropped }, messages: Vec::with_capacity(turns.len()) };
    for (at, run) in turns.chunk_by(|one, next| one.role == next.role).enumerate() {
        match run.first().map(|turn| turn.role) {
            Some(Role::System) => writer.system(run, at == 0)?,
            Some(Role::User) => writer.user(run)?,
            Some(Role::Assistant) => writer.assistant(run)?,
            None => {}
        }
    }
    Ok(writer.messages)
}

struct Writer<'w, 'c, 'a> {
    pen: Pen<'w, 'c>,
    messages: Vec<Message<'a>>,
}

impl<'a> Writer<'_, '_, 'a> {
    fn name(&mut self, turn: &'a Turn) -> Option<&'a str> {
        let strict = self.pen.call.quirks.refuses_unknown;
        turn.name.as_deref().filter(|_| self.pen.dropped.unless(!strict, "messages.name"))
    }

    fn parts(&mut self, turn: &'a Turn) -> Result<Vec<Part<'a>>, DialectError> {
        let mut parts = Vec::with_capacity(turn.blocks.len());
        for block in turn.blocks.iter().filter(|block| !is_result(block)) {
            self.pen.parts(block, &mut parts)?;
        }
        Ok(parts)
    }

    /// Instructions. Those that open the conversation are one message: some servers know no second. Later ones, for a
    /// model that would not have them in their place, are said by the user as what they are.
    fn system(&mut self, run: &'a [Turn], opens: bool) -> Result<(), DialectError> {
        let in_place = opens || self.pen.call.capabilities.system_turns;
        for turns in run.chunk_by(|one, next| one.name == next.name) {
            let mut parts = Vec::new();
            if !in_place {
                parts.push(Part::plain("From whoever runs this application:"));
            }
            for turn in turns {
                parts.append(&mut self.parts(turn)?);
            }
            let name = turns.first().and_then(|turn| self.name(turn));
            let role = if in_place { "system" } else { "user" };
            self.messages.push(Message::new(role, name, Some(Said::from_parts(parts))));
        }
        Ok(())
    }

    /// Results of tools, then everything else: a provider refuses a call that is not answered at once.
    fn user(&mut self, run: &'a [Turn]) -> Result<(), DialectError> {
        let mut shown = Vec::new();
        for block in run.iter().flat_map(|turn| &turn.blocks) {
            if let Content::ToolResult { id, blocks, is_error } = &block.content {
                let id = call_id(id, self.pen.call.quirks);
                let mut parts = Vec::new();
                self.result(&id, blocks, *is_error, &mut parts, &mut shown)?;
                if let Some(mark) = self.pen.dropped.mark(block.cache, self.pen.call)
                    && let Some(Part::Text { cache_control, .. }) = parts.last_mut()
                {
                    *cache_control = Some(mark);
                }
                let content = Some(Said::from_parts(parts));
                self.messages.push(Message { tool_call_id: Some(id), ..Message::new("tool", None, content) });
            }
        }
        for turn in run {
            let mut parts = self.parts(turn)?;
            if parts.is_empty() {
                continue;
            }
            let name = self.name(turn);
            if name.is_none() {
                shown.append(&mut parts);
                parts = std::mem::take(&mut shown);
            } else if !shown.is_empty() {
                let content = Said::from_parts(std::mem::take(&mut shown));
                self.messages.push(Message::new("user", None, Some(content)));
            }
            self.messages.push(Message::new("user", name, Some(Said::from_parts(parts))));
        }
        if !shown.is_empty() {
            self.messages.push(Message::new("user", None, Some(Said::from_parts(shown))));
        }
        Ok(())
    }

    /// What a tool answered. A `tool` message holds text only: pictures and files go to `shown`, for the user to show.
    fn result(
        &mut self,
        id: &str,
        blocks: &'a [Block],
        is_error: bool,
        parts: &mut Vec<Part<'a>>,
        shown: &mut Vec<Part<'a>>,
    ) -> Result<(), DialectError> {
        let mut all = Vec::with_capacity(blocks.len());
        for block in blocks {
            self.pen.parts(block, &mut all)?;
        }
        let (texts, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|part| part.text().is_some());
        if is_error {
            // There is no other place to say so.
            let said = texts.iter().filter_map(Part::text).collect::<Vec<_>>().join("\n");
            parts.push(Part::plain(format!("Error: {said}")));
        } else {
            parts.extend(texts);
        }
        if !others.is_empty() {
            parts.push(Part::plain("(The rest of this result is in the user message that follows.)"));
            shown.push(Part::plain(format!("From the result of tool call {id}:")));
            shown.extend(others);
        } else if parts.is_empty() {
            parts.push(Part::plain(""));
        }
        Ok(())
    }

    /// One answer of the model: its words as one text, then its calls.
    fn assistant(&mut self, run: &'a [Turn]) -> Result<(), DialectError> {
        for turns in run.chunk_by(|one, next| one.name == next.name) {
            let mut answer = Answer::default();
            for turn in turns {
                answer.apart = true;
                for block in &turn.blocks {
                    self.said(block, &mut answer)?;
                }
            }
            let Answer { parts, thoughts, calls, .. } = answer;
            let keeps = self.pen.call.quirks.reasoning_content;
            if thoughts.is_some() && !keeps {
                self.pen.dropped.note("messages.thinking");
            }
            let reasoning_content = keeps.then(|| thoughts.unwrap_or_default());
            if parts.is_empty() && calls.is_empty() {
                continue;
            }
            let content = (!parts.is_empty()).then(|| Said::from_parts(parts));
            let name = turns.first().and_then(|turn| self.name(turn));
            let message = Message::new("assistant", name, content);
            self.messages.push(Message { reasoning_content, tool_calls: calls, ..message });
        }
        Ok(())
    }

    fn said(&mut self, block: &'a Block, answer: &mut Answer<'a>) -> Result<(), DialectError> {
        let Block { content, cache } = block;
        match content {
            Content::Text(text) | Content::Refusal(text) => {
                answer.apart |= matches!(content, Content::Refusal(_));
                let mark = self.pen.dropped.mark(*cache, self.pen.call);
                match answer.parts.last_mut() {
                    // One text may have come in pieces, each with its own citations.
                    Some(Part::Text { text: before, cache_control }) if !answer.apart => {
                        before.to_mut().push_str(text);
                        *cache_control = mark.or(*cache_control);
                    }
                    _ => answer.parts.push(Part::Text { text: text.into(), cache_control: mark }),
                }
                answer.apart = false;
                return Ok(());
            }
            Content::Thinking(Thinking::Open { text, signature: _ }) => {
                answer.thoughts.get_or_insert_default().push_str(text);
            }
            Content::Thinking(Thinking::Sealed { .. }) | Content::TextSignature(_) => {
                self.pen.dropped.note("messages.thinking");
            }
            Content::ToolCall(ToolCall { id, name, arguments, signature }) => {
                if signature.is_some() {
                    self.pen.dropped.note("messages.thinking");
                }
                // Broken or missing arguments are the model's own; some servers read them.
                let arguments = if arguments.trim().is_empty() { "{}" } else { arguments.as_str() };
                let id = call_id(id, self.pen.call.quirks);
                answer.calls.push(CallSaid {
                    id,
                    kind: "function",
                    function: FunctionSaid { name, arguments },
                });
            }
            Content::Image { .. }
            | Content::Audio { .. }
            | Content::Document { .. }
            | Content::ToolResult { .. } => {
                let why =
                    "has in an answer of the model what this provider takes only from a user; take it out";
                return Err(self.pen.refuse(why));
            }
        }
        // A mark on what has no part stands for no other.
        if cache.is_some() {
            self.pen.dropped.note("cache_control");
        }
        answer.apart = true;
        Ok(())
    }
}

/// An answer as it is put together.
#[derive(Default)]
struct Answer<'a> {
    parts: Vec<Part<'a>>,
    thoughts: Option<String>,
    calls: Vec<CallSaid<'a>>,
    /// The next text is not the rest of the last.
    apart: bool,
}

const fn is_result(block: &Block) -> bool {
    matches!(block.content, Content::ToolResult { .. })
}
