//! Turns as messages: `user` and `assistant` one after the other, instructions where the model can take them, the
//! results of tools right behind their calls.
//!
//! What is written of a turn depends on what stands before it and right behind it only, so that a conversation that has
//! grown begins as it did, and is found in the provider's cache.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    Dropped,
    blocks::{Names, Wire, refused, shown, text},
    calls::{Calls, input},
};
use crate::{
    catalogue::Capabilities,
    dialects::DialectError,
    wire::conversation::{Block, Content, Role, Thinking, ToolCall, Turn},
};

/// Stands for what the user says where he says nothing: a message must have something in it.
const NOTHING_SAID: &str = "(empty message)";
/// Stands before a conversation that does not begin with its user.
const BEGINNING: &str = "(start of the conversation)";
/// Stands before an instruction that has to be put into the user's mouth.
const OPERATOR: &str = "The operator of this application, not the user, says: ";

/// One message.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'static str,
    pub(super) content: Vec<Wire<'a>>,
    /// Results of tools, until the message is complete: they must stand first.
    #[serde(skip)]
    results: Vec<Wire<'a>>,
}

/// A conversation's turns.
#[derive(Default)]
pub(super) struct Written<'a> {
    /// Instructions from before the first turn.
    pub(super) system: Vec<Wire<'a>>,
    pub(super) messages: Vec<Message<'a>>,
    /// The last message of the model calls tools and shows no thoughts before it.
    pub(super) calls_without_thoughts: bool,
}

/// Writes turns.
pub(super) fn write<'a>(
    turns: &'a [Turn],
    capabilities: &Capabilities,
    names: &mut Names,
    dropped: &mut Dropped,
) -> Result<Written<'a>, DialectError> {
    let leading = turns.iter().take_while(|turn| turn.role == Role::System).count();
    let (leading, turns) = turns.split_at(leading);
    let mut system = Vec::new();
    for turn in leading {
        instructions(turn, &mut system, dropped)?;
    }
    let mut writer = Writer {
        capabilities,
        names,
        dropped,
        messages: Vec::new(),
        held: Vec::new(),
        calls: Calls::default(),
    };
    for turn in turns {
        if turn.name.is_some() {
            writer.dropped.note("messages.name");
        }
        match turn.role {
            Role::System => writer.system(turn)?,
            Role::User => writer.user(turn)?,
            Role::Assistant => writer.assistant(turn)?,
        }
    }
    let messages = writer.finish()?;
    let last = messages.iter().rev().find(|message| message.role == "assistant");
    let calls_without_thoughts = last.is_some_and(|message| {
        let thinks =
            matches!(message.content.first(), Some(Wire::Thinking { .. } | Wire::RedactedThinking { .. }));
        !thinks && message.content.iter().any(|block| matches!(block, Wire::ToolUse { .. }))
    });
    Ok(Written { system, messages, calls_without_thoughts })
}

/// The texts of an instruction.
fn instructions<'a>(
    turn: &'a Turn,
    out: &mut Vec<Wire<'a>>,
    dropped: &mut Dropped,
) -> Result<(), DialectError> {
    if turn.name.is_some() {
        dropped.note("messages.name");
    }
    for block in &turn.blocks {
        match &block.content {
            Content::Text(said) => out.extend(text(said, block.cache, dropped)),
            _ => {
                return Err(refused(
                    "has a system message with more than text, which this provider does not take; send text",
                ));
            }
        }
    }
    Ok(())
}

struct Writer<'a, 'w> {
    capabilities: &'w Capabilities,
    names: &'w mut Names,
    dropped: &'w mut Dropped,
    messages: Vec<Message<'a>>,
    /// Instructions that wait for the end of the user's turn: only there may they stand.
    held: Vec<Wire<'a>>,
    calls: Calls<'a>,
}

impl<'a> Writer<'a, '_> {
    /// The message that is being written, if it is of this role; else a new one.
    fn message(&mut self, role: &'static str) -> &mut Message<'a> {
        if self.messages.last().is_none_or(|last| last.role != role) {
            self.messages.push(Message { role, content: Vec::new(), results: Vec::new() });
        }
        self.messages.last_mut().expect("one was pushed if there was none")
    }

    fn system(&mut self, turn: &'a Turn) -> Result<(), DialectError> {
        let mut texts = Vec::with_capacity(turn.blocks.len());
        instructions(turn, &mut texts, self.dropped)?;
        if self.capabilities.system_turns {
            self.held.append(&mut texts);
        } else {
            self.operator_says(texts);
        }
        Ok(())
    }

    /// Says instructions as the user, and that they are not his.
    fn operator_says(&mut self, texts: Vec<Wire<'a>>) {
        if texts.is_empty() {
            return;
        }
        let content = &mut self.message("user").content;
        content.extend(texts.into_iter().map(|block| match block {
            Wire::Text { text, cache_control } => {
                Wire::Text { text: Cow::Owned(format!("{OPERATOR}{text}")), cache_control }
            }
            other => other,
        }));
    }

    /// Says the instructions that waited. They must follow the user, and be followed by the model or nothing.
    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return;
        }
        match self.messages.last() {
            Some(last) if last.role == "user" => {
                self.messages.push(Message { role: "system", content: held, results: Vec::new() });
            }
            _ => self.operator_says(held),
        }
    }

    fn user(&mut self, turn: &'a Turn) -> Result<(), DialectError> {
        self.message("user");
        for block in &turn.blocks {
            if let Content::ToolResult { id, blocks, is_error } = &block.content {
                let result = self.result(block, id, blocks, *is_error)?;
                self.message("user").results.push(result);
            } else if let Some(block) = shown(block, self.capabilities, self.dropped)? {
                self.message("user").content.push(block);
            }
        }
        Ok(())
    }

    fn result(
        &mut self,
        block: &Block,
        id: &str,
        blocks: &'a [Block],
        is_error: bool,
    ) -> Result<Wire<'a>, DialectError> {
        let Some(tool_use_id) = self.calls.answered(id) else {
            return Err(refused(
                "has a tool result for a call that the assistant message before it did not make",
            ));
        };
        // A marker in a result marks its end.
        let cache = block.cache.or_else(|| blocks.iter().rev().find_map(|block| block.cache));
        let mut content = Vec::with_capacity(blocks.len());
        for block in blocks {
            if let Some(mut block) = shown(block, self.capabilities, self.dropped)? {
                if let Some(marker) = block.marker() {
                    *marker = None;
                }
                content.push(block);
            }
        }
        Ok(Wire::ToolResult { tool_use_id, content, is_error, cache_control: cache.map(Into::into) })
    }

    fn assistant(&mut self, turn: &'a Turn) -> Result<(), DialectError> {
        self.calls.all_answered()?;
        let mut content = Vec::with_capacity(turn.blocks.len());
        for block in &turn.blocks {
            content.extend(self.said(block)?);
        }
        // Where the model said nothing there is no message.
        if !content.is_empty() {
            self.release();
            self.message("assistant").content.append(&mut content);
        }
        Ok(())
    }

    fn said(&mut self, block: &'a Block) -> Result<Option<Wire<'a>>, DialectError> {
        Ok(match &block.content {
            Content::Text(said) | Content::Refusal(said) => text(said, block.cache, self.dropped),
            Content::ToolCall(call) => {
                if call.signature.is_some() {
                    self.dropped.note("messages.thinking");
                }
                let ToolCall { id, name, arguments, .. } = call;
                Some(Wire::ToolUse {
                    id: self.calls.made(id),
                    name: self.names.of(name),
                    input: input(arguments),
                    cache_control: block.cache.map(Into::into),
                })
            }
            Content::Thinking(thinking) => {
                self.dropped.cache(block.cache);
                match thinking {
                    Thinking::Open { text, signature: Some(signature) } if !signature.is_empty() => {
                        Some(Wire::Thinking { thinking: text, signature })
                    }
                    Thinking::Sealed { data } if !data.is_empty() => Some(Wire::RedactedThinking { data }),
                    // Not the provider's own, or not provably: it would refuse them.
                    _ => {
                        self.dropped.note("messages.thinking");
                        None
                    }
                }
            }
            Content::TextSignature(_) => {
                self.dropped.note("messages.thinking");
                None
            }
            Content::Image { .. } | Content::Document { .. } | Content::Audio { .. } => {
                return Err(refused(
                    "has an assistant message with more than text and tool calls; put the rest into a user message",
                ));
            }
            Content::ToolResult { .. } => {
                return Err(refused(
                    "has a tool result in an assistant message; put it into a message of its own",
                ));
            }
        })
    }

    fn finish(mut self) -> Result<Vec<Message<'a>>, DialectError> {
        self.calls.all_answered()?;
        self.release();
        let mut messages = self.messages;
        if messages.first().is_none_or(|first| first.role != "user") {
            let content = vec![Wire::text(BEGINNING)];
            messages.insert(0, Message { role: "user", content, results: Vec::new() });
        }
        for message in &mut messages {
            if !message.results.is_empty() {
                let rest = std::mem::take(&mut message.content);
                message.content = std::mem::take(&mut message.results);
                message.content.extend(rest);
            }
            if message.content.is_empty() {
                message.content.push(Wire::text(NOTHING_SAID));
            }
        }
        if let Some(last) = messages.last_mut().filter(|last| last.role == "assistant") {
            if !self.capabilities.prefill {
                return Err(refused(
                    "ends with an assistant message, which this model does not continue; end with a user message",
                ));
            }
            // White space at the end of what is to be continued is refused.
            if let Some(Wire::Text { text, .. }) = last.content.last_mut() {
                *text = match std::mem::take(text) {
                    Cow::Borrowed(text) => Cow::Borrowed(text.trim_end()),
                    Cow::Owned(text) => Cow::Owned(text.trim_end().to_owned()),
                };
            }
        }
        Ok(messages)
    }
}
