//! Chat completions, translated: what goes in, what comes out.

mod answers;
mod corpus;
mod properties;
mod requests;
mod writing;

use std::path::Path;

use serde_json::Value;

use super::{Decoder, Encoder, read_request, write_request};
use crate::{
    catalogue::{Capabilities, Quirks},
    dialects::{
        Asked, Call, Decoder as _, DialectError, UpstreamRequest,
        testing::{asked, events},
    },
    domain::ModelName,
    wire::{Conversation, Endpoint, Part, What, conversation::Thinking},
};

/// An input that stands beside the golden files.
fn input(name: &str) -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat")).join(name);
    std::fs::read_to_string(path).expect("an input beside the golden files")
}

/// A request to this endpoint's client, without anything in it.
fn plain(endpoint: Endpoint, members: Value) -> Asked {
    let mut body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    if let (Some(body), Value::Object(members)) = (body.as_object_mut(), members) {
        body.extend(members);
    }
    let asked = asked(Endpoint::ChatCompletions, &body);
    Asked::new(endpoint, asked.envelope, asked.view, asked.headers)
}

/// What `work` makes of a call to a provider with these quirks.
fn with_call<T>(
    asked: &Asked,
    quirks: &Quirks,
    capabilities: &Capabilities,
    work: impl FnOnce(&Call<'_>) -> T,
) -> T {
    let model = ModelName::parse("up").expect("a name");
    work(&Call {
        asked,
        quirks,
        capabilities,
        model: &model,
        output_limit: None,
        model_limit: None,
        ask_usage: false,
        request_id: "req_1",
        created: 1_700_000_000,
    })
}

/// A conversation, written for a provider without quirks to whom `endpoint`'s client speaks.
fn write_for(endpoint: Endpoint, conversation: &Conversation) -> Result<UpstreamRequest, DialectError> {
    let asked = plain(endpoint, Value::Null);
    with_call(&asked, &Quirks::default(), &Capabilities::default(), |call| write_request(conversation, call))
}

/// An encoder for a client that asked with these members.
fn encoder(members: Value) -> Encoder {
    let asked = plain(Endpoint::ChatCompletions, members);
    with_call(&asked, &Quirks::default(), &Capabilities::default(), Encoder::new)
}

/// All parts of a stream, the end included; and whether one of its events was an error.
fn decode_stream(stream: &str) -> (Vec<Part>, bool) {
    let mut decoder = Decoder::default();
    let (mut parts, mut failed) = (Vec::new(), false);
    for event in events(stream.as_bytes(), usize::MAX) {
        let decoded = decoder.event(&event);
        assert!(!decoded.unreadable, "{}", event.data);
        parts.extend(decoded.parts);
        failed |= decoded.error.is_some();
    }
    (parts, failed)
}

fn decode_whole(body: &str) -> Vec<Part> {
    let decoded = Decoder::default().whole(body.as_bytes()).expect("an answer");
    assert!(decoded.error.is_none() && !decoded.unreadable);
    decoded.parts
}

/// Parts as lines that can be read and compared.
fn show(parts: &[Part]) -> String {
    parts.iter().map(|Part { choice, what }| format!("{choice} {}\n", line(what))).collect()
}

fn line(what: &What) -> String {
    match what {
        What::Start { id, model } => format!("start {id:?} {model:?}"),
        What::Text(text) => format!("text {text:?}"),
        What::Thought(thought) => format!("thought {thought:?}"),
        What::Thinking(Thinking::Open { text, signature }) => format!("thinking {text:?} {signature:?}"),
        What::Thinking(Thinking::Sealed { data }) => format!("sealed {data:?}"),
        What::Refusal(refusal) => format!("refusal {refusal:?}"),
        What::ToolCall { index, id, name, signature } => format!("call {index} {id} {name:?} {signature:?}"),
        What::Arguments { index, json } => format!("arguments {index} {json:?}"),
        What::TextSignature(signature) => format!("signature {signature:?}"),
        What::Citation { url, title } => format!("citation {url:?} {title:?}"),
        What::Finish { reason, stop_sequence } => format!("finish {reason:?} {stop_sequence:?}"),
        What::Usage(figures) => format!(
            "usage prompt {:?} completion {:?} total {:?} read {:?} write {:?} reasoning {:?}",
            figures.prompt.count(),
            figures.completion.count(),
            figures.total.count(),
            figures.cache_read.count(),
            figures.cache_write.count(),
            figures.reasoning.count()
        ),
        What::ServiceTier(tier) => format!("tier {tier:?}"),
        What::End => "end".to_owned(),
    }
}
