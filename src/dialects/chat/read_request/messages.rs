//! Messages become turns, one each.

use std::collections::HashMap;

use super::{
    content::{self, Speaker, read_cache},
    tools::check_function,
};
use crate::{
    dialects::{DialectError, chat::field::Field},
    wire::{
        Conversation,
        conversation::{Block, CacheTime, Content, Hint, Role, Thinking, ToolCall, Turn},
    },
};

const ROLES: &str = "`system`, `developer`, `user`, `assistant` or `tool`";
const CONTENT: &str = "a string or an array of parts";

pub(super) fn read(messages: Field<'_, '_>, conversation: &mut Conversation) -> Result<(), DialectError> {
    let mut history = History::default();
    messages.items("a non-empty array of objects", |message| {
        let turn = Message::read(message)?.into_turn(message, &mut history)?;
        conversation.turns.extend(turn);
        Ok(())
    })?;
    conversation.hints.extend(history.left);
    Ok(())
}

/// What earlier messages mean for later ones.
#[derive(Default)]
struct History {
    /// Calls of legacy functions so far, which have no ids of their own: the last one's id by the function's name.
    functions: HashMap<String, String>,
    calls: u64,
    /// Thoughts that only the provider they came from can read.
    left: Option<Hint>,
}

/// The members of a message, unread: what they mean depends on the role.
#[derive(Default)]
struct Message<'a> {
    role: Option<String>,
    content: Option<&'a str>,
    name: Option<String>,
    cache: Option<CacheTime>,
    refusal: Option<String>,
    tool_calls: Option<&'a str>,
    function_call: Option<&'a str>,
    tool_call_id: Option<String>,
    thinking_blocks: Option<&'a str>,
    reasoning_details: Option<&'a str>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    signature: Option<String>,
}

impl<'a> Message<'a> {
    fn read(message: Field<'a, '_>) -> Result<Self, DialectError> {
        let mut read = Self::default();
        let mut models_own = None;
        message.members(|name, value| {
            match name {
                "role" => read.role = Some(value.string()?),
                "content" => read.content = Some(value.raw()),
                "name" => read.name = Some(value.string()?),
                "cache_control" => read.cache = Some(read_cache(value)?),
                "tool_call_id" => read.tool_call_id = Some(value.named()?),
                "refusal" => read.refusal = Some(value.string()?),
                "tool_calls" => read.tool_calls = Some(value.raw()),
                "function_call" => read.function_call = Some(value.raw()),
                "thinking_blocks" => read.thinking_blocks = Some(value.raw()),
                "reasoning_details" => read.reasoning_details = Some(value.raw()),
                "reasoning_content" => read.reasoning_content = Some(value.string()?),
                "reasoning" => read.reasoning = Some(value.string()?),
                "extra_content" => read.signature = read_extra(value)?,
                // What was cited is for people; no provider takes it back.
                "annotations" => return value.items("an array of objects", |_| Ok(())),
                "audio" => return Err(value.only_openai("is an answer in sound")),
                _ => return Err(value.unknown()),
            }
            let shared = matches!(name, "role" | "content" | "name" | "cache_control" | "tool_call_id");
            if !shared && !value.is_empty() && models_own.is_none() {
                models_own = Some((name.to_owned(), value.raw()));
            }
            Ok(())
        })?;
        match models_own {
            // `[]` and `""` are what some clients give every message.
            Some((name, raw)) if read.role.as_deref() != Some("assistant") && raw != "\"\"" => {
                Err(message.member(&name, raw).wrong("part of a message of the role `assistant`"))
            }
            _ => Ok(read),
        }
    }

    fn into_turn(
        mut self,
        message: Field<'a, '_>,
        history: &mut History,
    ) -> Result<Option<Turn>, DialectError> {
        let role = self.role.take().ok_or_else(|| message.missing("role", ROLES))?;
        let (role, mut blocks) = match role.as_str() {
            "system" | "developer" => (Role::System, self.said(message, Speaker::System)?),
            "user" => (Role::User, self.said(message, Speaker::User)?),
            "assistant" => (Role::Assistant, self.assistant(message, history)?),
            "tool" => {
                let id = self.tool_call_id.take();
                let id = id.ok_or_else(|| message.missing("tool_call_id", "the id of a tool call"))?;
                // The name of the tool is known from its call.
                self.name = None;
                (Role::User, vec![self.result(message, id)?])
            }
            "function" => {
                let name = self.name.take().unwrap_or_default();
                let id = history.functions.get(&name).cloned();
                let id = id.ok_or_else(|| {
                    message.missing("name", "the name of a function that was called before")
                })?;
                (Role::User, vec![self.result(message, id)?])
            }
            _ => return Err(message.missing("role", ROLES)),
        };
        if self.tool_call_id.is_some() {
            return Err(message.missing("tool_call_id", "part of a message of the role `tool`"));
        }
        if let Some(last) = blocks.last_mut() {
            last.cache = last.cache.or(self.cache);
        }
        // An answer in which nothing was said is not worth a turn; other roles always have a content.
        Ok((!blocks.is_empty()).then_some(Turn { role, name: self.name, blocks }))
    }

    /// The content, which must be there.
    fn said(&self, message: Field<'a, '_>, speaker: Speaker) -> Result<Vec<Block>, DialectError> {
        let raw = self.content.ok_or_else(|| message.missing("content", CONTENT))?;
        let content = message.member("content", raw);
        let blocks = content::read(content, speaker)?;
        if blocks.is_empty() {
            Err(content.wrong("a string or a non-empty array of parts"))
        } else {
            Ok(blocks)
        }
    }

    /// What a tool answered; nothing is an answer, too.
    fn result(&self, message: Field<'a, '_>, id: String) -> Result<Block, DialectError> {
        let content = self.content.map(|raw| content::read(message.member("content", raw), Speaker::Tool));
        let mut blocks = content.transpose()?.unwrap_or_default();
        // A mark inside a result is one on the result: its parts are one block elsewhere.
        let cache = blocks.iter_mut().rev().fold(None, |found, block| found.or(block.cache.take()));
        Ok(Block { content: Content::ToolResult { id, blocks, is_error: false }, cache })
    }

    /// Thoughts, then words, then calls: the order in which a model makes them.
    fn assistant(
        &mut self,
        message: Field<'a, '_>,
        history: &mut History,
    ) -> Result<Vec<Block>, DialectError> {
        let mut blocks = self.thoughts(message, history)?;
        if let Some(raw) = self.content {
            let said = content::read(message.member("content", raw), Speaker::Assistant)?;
            // An empty text stands beside calls in place of none.
            blocks.extend(said.into_iter().filter(|block| !is_empty(block)));
        }
        let refusal = self.refusal.take().filter(|refusal| !refusal.is_empty());
        blocks.extend(refusal.map(|refusal| Content::Refusal(refusal).into()));
        blocks.extend(self.signature.take().map(|signature| Content::TextSignature(signature).into()));
        if let Some(raw) = self.tool_calls {
            message.member("tool_calls", raw).items("an array of objects", |call| {
                blocks.push(read_call(call)?);
                Ok(())
            })?;
        }
        if let Some(raw) = self.function_call {
            let (name, arguments) = read_function(message.member("function_call", raw))?;
            let id = format!("call_function_{}", history.calls);
            history.calls += 1;
            history.functions.insert(name.clone(), id.clone());
            blocks.push(Content::ToolCall(ToolCall { id, name, arguments, signature: None }).into());
        }
        Ok(blocks)
    }

    /// The thoughts under the name that says most: blocks have signatures, text has none.
    fn thoughts(
        &mut self,
        message: Field<'a, '_>,
        history: &mut History,
    ) -> Result<Vec<Block>, DialectError> {
        let mut blocks = Vec::new();
        let mut push = |thinking| blocks.push(Content::Thinking(thinking).into());
        if let Some(raw) = self.thinking_blocks {
            message.member("thinking_blocks", raw).items("an array of objects", |block| {
                push(read_block(block)?);
                Ok(())
            })?;
        }
        if let Some(raw) = self.reasoning_details.filter(|_| blocks.is_empty()) {
            let details = message.member("reasoning_details", raw);
            details.items("an array of objects", |detail| {
                match read_detail(detail)? {
                    Some(thinking) => blocks.push(Content::Thinking(thinking).into()),
                    None => {
                        let value = detail.to_raw()?;
                        history.left = Some(Hint { name: "messages.reasoning_details", value });
                    }
                }
                Ok(())
            })?;
        }
        let text = self.reasoning_content.take().filter(|text| !text.is_empty()).or(self.reasoning.take());
        if let Some(text) = text.filter(|text| blocks.is_empty() && !text.is_empty()) {
            blocks.push(Content::Thinking(Thinking::Open { text, signature: None }).into());
        }
        Ok(blocks)
    }
}

fn is_empty(block: &Block) -> bool {
    matches!(&block.content, Content::Text(text) if text.is_empty()) && block.cache.is_none()
}

/// One of `thinking_blocks`.
fn read_block(block: Field<'_, '_>) -> Result<Thinking, DialectError> {
    let (mut kind, mut text, mut signature, mut data) = (None, None, None, None);
    block.members(|name, value| {
        match name {
            "type" => kind = Some(value.string()?),
            "thinking" => text = Some(value.string()?),
            "signature" => signature = Some(value.string()?),
            "data" => data = Some(value.string()?),
            // Tells the blocks of a stream apart.
            "index" => drop(value.count()?),
            // Thoughts are cached with what follows them.
            "cache_control" => drop(read_cache(value)?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    match kind.as_deref() {
        Some("thinking") => Ok(Thinking::Open {
            text: text.ok_or_else(|| block.missing("thinking", "a string"))?,
            signature: signature.filter(|signature| !signature.is_empty()),
        }),
        Some("redacted_thinking") => {
            Ok(Thinking::Sealed { data: data.ok_or_else(|| block.missing("data", "a string"))? })
        }
        _ => Err(block.missing("type", "`thinking` or `redacted_thinking`")),
    }
}

/// One of OpenRouter's `reasoning_details`; `None` for what only the provider it came from can read. Anthropic's come
/// with Anthropic's own signatures.
fn read_detail(detail: Field<'_, '_>) -> Result<Option<Thinking>, DialectError> {
    let (mut kind, mut text, mut signature, mut data, mut anthropics) = (None, None, None, None, false);
    detail.members(|name, value| {
        match name {
            "type" => kind = Some(value.string()?),
            "text" | "summary" => text = Some(value.string()?),
            "signature" => signature = Some(value.string()?).filter(|signature| !signature.is_empty()),
            "data" => data = Some(value.string()?),
            "format" => anthropics = value.text()?.starts_with("anthropic"),
            "id" | "index" => {}
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    match (kind.as_deref(), data) {
        (Some("reasoning.text" | "reasoning.summary"), _) => Ok(Some(Thinking::Open {
            text: text.unwrap_or_default(),
            signature: signature.filter(|_| anthropics),
        })),
        (Some("reasoning.encrypted"), Some(data)) => Ok(anthropics.then_some(Thinking::Sealed { data })),
        _ => Err(detail.missing("type", "`reasoning.text`, `reasoning.summary` or `reasoning.encrypted`")),
    }
}

fn read_call(call: Field<'_, '_>) -> Result<Block, DialectError> {
    let (mut id, mut function, mut signature, mut cache) = (None, None, None, None);
    call.members(|name, value| {
        match name {
            "id" => id = Some(value.named()?),
            "type" => check_function(value)?,
            "function" => function = Some(value.raw()),
            "extra_content" => signature = read_extra(value)?,
            "cache_control" => cache = Some(read_cache(value)?),
            // Stays behind where a client puts a stream together.
            "index" => drop(value.count()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let id = id.ok_or_else(|| call.missing("id", "a string that is not empty"))?;
    let function = function.ok_or_else(|| call.missing("function", "an object"))?;
    let (name, arguments) = read_function(call.member("function", function))?;
    Ok(Block { content: Content::ToolCall(ToolCall { id, name, arguments, signature }), cache })
}

/// Name and arguments of a call. Arguments that are JSON instead of its text are taken at their word.
fn read_function(function: Field<'_, '_>) -> Result<(String, String), DialectError> {
    let (mut name, mut arguments) = (None, None);
    function.members(|member, value| {
        match member {
            "name" => name = Some(value.named()?),
            "arguments" if value.is_object() => arguments = Some(value.raw().to_owned()),
            "arguments" => arguments = Some(value.string()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| function.missing("name", "a string that is not empty"))?;
    Ok((name, arguments.unwrap_or_default()))
}

/// `{"google":{"thought_signature":…}}`
fn read_extra(extra: Field<'_, '_>) -> Result<Option<String>, DialectError> {
    let mut signature = None;
    extra.members(|name, value| match name {
        "google" => value.members(|name, value| match name {
            "thought_signature" => {
                signature = Some(value.string()?).filter(|signature| !signature.is_empty());
                Ok(())
            }
            // Says of the message that it was thought about.
            "thought" => value.boolean().map(drop),
            _ => Err(value.unknown()),
        }),
        _ => Err(value.unknown()),
    })?;
    Ok(signature)
}
