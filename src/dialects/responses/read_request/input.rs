//! The items of an input, as turns.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{content, hint};
use crate::{
    dialects::{
        DialectError,
        responses::{
            fields::Fields,
            seal::{Kept, open},
        },
    },
    wire::{
        Conversation,
        conversation::{Block, Content, Role, Thinking, ToolCall, Turn},
    },
};

/// Reads `input` into turns.
pub(super) fn read(fields: &mut Fields, conversation: &mut Conversation) -> Result<(), DialectError> {
    const WANTED: &str = "a string or an array of items";
    let Some(raw) = fields.take("input") else {
        return Err(DialectError::wrong_shape("input", WANTED));
    };
    if raw.starts_with('"') {
        let text = serde_json::from_str(raw).map_err(|_| DialectError::wrong_shape("input", WANTED))?;
        conversation.turns.push(Turn::new(Role::User, vec![Content::Text(text).into()]));
        return Ok(());
    }
    let items: Vec<&RawValue> =
        serde_json::from_str(raw).map_err(|_| DialectError::wrong_shape("input", WANTED))?;
    let mut signatures = HashMap::new();
    for (at, raw) in items.into_iter().enumerate() {
        item(Fields::read(format!("input[{at}]"), raw.get())?, conversation, &mut signatures)?;
    }
    Ok(())
}

/// One item. `signatures` are those of calls that are still to come, by their ids.
fn item(
    mut item: Fields,
    conversation: &mut Conversation,
    signatures: &mut HashMap<String, String>,
) -> Result<(), DialectError> {
    let kind = item.text("type")?;
    // How far it had come says nothing new: it is over.
    item.ignore(&["status"]);
    match kind.as_deref() {
        Some("message") => message(&mut item, conversation)?,
        None if item.take("role").is_some() => message(&mut item, conversation)?,
        None | Some("item_reference") => {
            return Err(DialectError::unsupported(
                item.own_path(),
                "refers to an item that this provider does not have; send the item itself",
            ));
        }
        Some("reasoning") => reasoning(&mut item, conversation, signatures)?,
        Some("function_call") => {
            direct(&mut item)?;
            let id = item.required_text("call_id")?;
            let call = ToolCall {
                signature: signatures.remove(&id),
                id,
                name: item.required_text("name")?,
                arguments: item.required_text("arguments")?,
            };
            push(conversation, Role::Assistant, Content::ToolCall(call).into());
        }
        Some("function_call_output") => {
            direct(&mut item)?;
            // The call itself says which function it was.
            item.ignore(&["name"]);
            let id = item.required_text("call_id")?;
            let blocks = content::read(&mut item, "output", conversation)?;
            push(conversation, Role::User, Content::ToolResult { id, blocks, is_error: false }.into());
        }
        Some(_) => {
            return Err(DialectError::unsupported(
                item.path("type"),
                "is no item that can be said to this provider; send messages, reasoning, function calls and their outputs",
            ));
        }
    }
    // An id that the provider never gave means nothing to it.
    item.ignore(&["id"]);
    item.finish()
}

/// A function that the model called itself, and of no namespace.
fn direct(item: &mut Fields) -> Result<(), DialectError> {
    const WHY: &str = "is not to be had with this provider; leave it out";
    item.refuse("namespace", &[], WHY)?;
    item.refuse("async", &["false"], WHY)?;
    let Some(mut caller) = item.inner("caller")? else { return Ok(()) };
    match caller.text("type")?.as_deref() {
        Some("direct") => caller.finish(),
        _ => Err(DialectError::unsupported(caller.own_path(), WHY)),
    }
}

fn message(item: &mut Fields, conversation: &mut Conversation) -> Result<(), DialectError> {
    let role = match item.required_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => {
            return Err(DialectError::wrong_shape(
                item.path("role"),
                "`user`, `assistant`, `system` or `developer`",
            ));
        }
    };
    if item.text("phase")?.is_some() {
        hint(conversation, "input.phase", "true");
    }
    let blocks = content::read(item, "content", conversation)?;
    if role == Role::Assistant {
        // An answer without text leaves an empty message behind, which others refuse.
        let said = |block: &Block| !matches!(&block.content, Content::Text(text) if text.is_empty());
        for block in blocks.into_iter().filter(said) {
            push(conversation, role, block);
        }
    } else {
        conversation.turns.push(Turn::new(role, blocks));
    }
    Ok(())
}

/// Adds to what the model said, or to what its tools answered, without a break.
fn push(conversation: &mut Conversation, role: Role, block: Block) {
    let only_results =
        |turn: &Turn| turn.blocks.iter().all(|block| matches!(block.content, Content::ToolResult { .. }));
    match conversation.turns.last_mut() {
        Some(turn) if turn.role == role && (role == Role::Assistant || only_results(turn)) => {
            turn.blocks.push(block)
        }
        _ => conversation.turns.push(Turn::new(role, vec![block])),
    }
}

/// What this gateway sealed is what it was; of others' reasoning only the words can be given to another provider.
fn reasoning(
    item: &mut Fields,
    conversation: &mut Conversation,
    signatures: &mut HashMap<String, String>,
) -> Result<(), DialectError> {
    let mut words = texts(item, "summary")?;
    words.extend(texts(item, "content")?);
    // How OpenRouter says whose it is.
    item.ignore(&["format", "signature"]);
    let sealed = item.text("encrypted_content")?;
    let opened = sealed.as_deref().and_then(open);
    if sealed.is_some() && opened.is_none() {
        hint(conversation, "input.encrypted_content", "true");
    }
    let kept = opened.unwrap_or_default();
    let thoughts = |kept: &Kept| matches!(kept, Kept::Thinking { .. } | Kept::Redacted { .. });
    if !kept.iter().any(thoughts) && !words.is_empty() {
        let thinking = Thinking::Open { text: words.join("\n\n"), signature: None };
        push(conversation, Role::Assistant, Content::Thinking(thinking).into());
    }
    for kept in kept {
        let content = match kept {
            Kept::Thinking { text, signature } => Content::Thinking(Thinking::Open { text, signature }),
            Kept::Redacted { data } => Content::Thinking(Thinking::Sealed { data }),
            Kept::Text { signature } => Content::TextSignature(signature),
            Kept::Call { id, signature } => {
                signatures.insert(id, signature);
                continue;
            }
        };
        push(conversation, Role::Assistant, content.into());
    }
    Ok(())
}

/// The words of a list of texts, but for empty ones.
fn texts(item: &mut Fields, name: &'static str) -> Result<Vec<String>, DialectError> {
    let path = item.path(name);
    let mut texts = Vec::new();
    for (at, raw) in item.list(name)?.unwrap_or_default().iter().enumerate() {
        let mut part = Fields::read(format!("{path}[{at}]"), raw.get())?;
        part.ignore(&["type"]);
        texts.push(part.required_text("text")?);
        part.finish()?;
    }
    texts.retain(|text| !text.is_empty());
    Ok(texts)
}
