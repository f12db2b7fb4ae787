//! Tests of the room.

mod build;
mod corpus;
mod decode;
mod errors;
mod full;
mod options;
mod others;
mod properties;
mod thinking;
mod turns;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Decoder;
use crate::{
    catalogue::{DialectKind, Quirks, capabilities},
    dialects::{Asked, Call, Decoder as _, StreamProgress, testing},
    domain::ModelName,
    wire::{Endpoint, EventReader, Figures, Framer, Part, What, conversation::Thinking},
};

/// Calls `then` with a call of `model` for `asked`.
fn with_call<T>(asked: &Asked, model: &str, then: impl FnOnce(&Call<'_>) -> T) -> T {
    let model = ModelName::parse(model).expect("a name");
    then(&Call {
        asked,
        quirks: &Quirks::default(),
        capabilities: capabilities(DialectKind::Gemini, model.as_str()),
        model: &model,
        output_limit: None,
        model_limit: Some(65_536),
        ask_usage: true,
        request_id: "req_1",
        created: 1_700_000_000,
    })
}

/// A chat; what it says does not matter.
fn chat() -> Asked {
    testing::asked(
        Endpoint::ChatCompletions,
        &json!({"model": "gemini/m", "messages": [{"role": "user", "content": "x"}]}),
    )
}

/// A part as a golden file has it.
fn said(Part { choice, what }: &Part) -> Value {
    let what = match what {
        What::Start { id, model } => json!({"start": {"id": id, "model": model}}),
        What::Text(text) => json!({"text": text}),
        What::Thought(text) => json!({"thought": text}),
        What::Thinking(Thinking::Open { text, signature }) => {
            json!({"thinking": text, "signature": signature})
        }
        What::Thinking(Thinking::Sealed { data }) => json!({"sealed": data}),
        What::Refusal(text) => json!({"refusal": text}),
        What::ToolCall { index, id, name, signature } => {
            json!({"call": index, "id": id, "name": name, "signature": signature})
        }
        What::Arguments { index, json } => json!({"call": index, "arguments": json}),
        What::TextSignature(signature) => json!({"text_signature": signature}),
        What::Citation { url, title } => json!({"citation": url, "title": title}),
        What::Finish { reason, .. } => json!({"finish": format!("{reason:?}")}),
        What::Usage(figures) => json!({"usage": {
            "prompt": figures.prompt.count(), "completion": figures.completion.count(),
            "reasoning": figures.reasoning.count(), "cached": figures.cache_read.count(),
            "total": figures.total.count(),
        }}),
        What::ServiceTier(tier) => json!({"service_tier": tier}),
        What::End => json!("end"),
    };
    if *choice == 0 { what } else { json!({"choice": choice, "says": what}) }
}

/// What was told of a stream.
#[derive(Debug, Default, PartialEq)]
struct Told {
    parts: Vec<Value>,
    figures: Figures,
    text: String,
    finished: bool,
    failed: bool,
    unreadable: u64,
}

/// Takes a stream apart that came in chunks of so many bytes, as the gateway does it.
fn tell(stream: &[u8], chunk: usize) -> Told {
    let mut decoder = Decoder::default();
    let mut progress = StreamProgress::default();
    let mut told = Told::default();
    for event in testing::events(stream, chunk) {
        let decoded = decoder.event(&event);
        told.unreadable += u64::from(decoded.unreadable);
        told.failed |= decoded.error.is_some();
        for part in decoded.parts {
            told.parts.push(said(&part));
            match &part.what {
                What::Usage(figures) => told.figures.merge_max(figures),
                What::Text(text) => told.text.push_str(text),
                What::Finish { .. } => progress.choice(u64::from(part.choice), true),
                _ => progress.choice(u64::from(part.choice), false),
            }
        }
    }
    assert!(decoder.ended().is_empty());
    told.finished = progress.finished();
    told
}

/// The parts of a stream that came in two pieces.
fn tell_cut(body: &[u8], cut: usize) -> Vec<Value> {
    let (mut framer, mut reader) = (Framer::new(1 << 20), EventReader::new());
    let mut decoder = Decoder::default();
    let mut parts = Vec::new();
    for chunk in [&body[..cut], &body[cut..]] {
        framer.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = framer.next_frame().expect("within the bound") {
            let events = reader.read(&frame).into_iter();
            parts.extend(events.flat_map(|event| decoder.event(&event).parts).map(|part| said(&part)));
        }
    }
    parts
}

/// The parts of a whole answer.
fn whole(body: &Value) -> Vec<Value> {
    let decoded = Decoder::default().whole(body.to_string().as_bytes()).expect("an answer");
    assert!(!decoded.unreadable && decoded.error.is_none(), "{:?}", decoded.error);
    decoded.parts.iter().map(said).collect()
}
