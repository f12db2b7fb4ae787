//! Conversations to be written.

use serde_json::{Value, value::RawValue};

use super::{chat, with_call};
use crate::{
    dialects::{DialectError, UpstreamRequest, gemini::write::write_request, testing::body_of},
    wire::{
        Conversation,
        conversation::{Block, Content, Role, Source, Tool, ToolCall, Turn},
    },
};

pub(super) fn write(conversation: &Conversation, model: &str) -> Result<UpstreamRequest, DialectError> {
    with_call(&chat(), model, |call| write_request(conversation, call))
}

pub(super) fn body(conversation: &Conversation, model: &str) -> Value {
    body_of(&write(conversation, model).expect("a request"))
}

pub(super) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}

pub(super) fn text(text: &str) -> Block {
    Content::Text(text.to_owned()).into()
}

pub(super) fn call(id: &str, name: &str, arguments: &str, signature: Option<&str>) -> Block {
    let signature = signature.map(str::to_owned);
    Content::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), signature })
        .into()
}

pub(super) fn result(id: &str, said: &str, is_error: bool) -> Block {
    Content::ToolResult { id: id.into(), blocks: vec![text(said)], is_error }.into()
}

pub(super) fn image(source: Source, detail: Option<&str>) -> Block {
    Content::Image { source, detail: detail.map(str::to_owned) }.into()
}

pub(super) fn png() -> Source {
    Source::Base64 { media_type: "image/png".into(), data: "iVBORw0KGgo=".into() }
}

pub(super) fn document(source: Source) -> Block {
    Content::Document { source, title: None, context: None, citations: false }.into()
}

pub(super) fn of(turns: Vec<Turn>) -> Conversation {
    Conversation { turns, choices: 1, ..Conversation::default() }
}

pub(super) fn user(said: &str) -> Turn {
    Turn::new(Role::User, vec![text(said)])
}

pub(super) fn tool(name: &str) -> Tool {
    Tool { name: name.into(), description: None, parameters: None, strict: None, cache: None }
}
