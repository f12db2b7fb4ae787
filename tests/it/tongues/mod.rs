//! Every provider in its own tongue: what a client says in one and hears in the same, whoever answers.

mod anthropic;
mod gemini;
mod messages;
mod responses;
mod swaps;

use serde_json::{Value, json};

use crate::support::Answer;

/// One of Anthropic's events.
pub fn named(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
}

/// A message of Anthropic's with this content.
pub fn message(content: Value, stop_reason: &str, usage: Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-up", "content": content,
        "stop_reason": stop_reason, "stop_sequence": null, "usage": usage,
    })
}

/// The same as a stream of one text.
pub fn message_stream(tokens: &[&str], usage: (u64, u64)) -> Answer {
    let start = json!({ "type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-up", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": usage.0, "output_tokens": 1 } } });
    let delta = |text: &&str| {
        named(
            &json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }),
        )
    };
    Answer::stream()
        .send(named(&start))
        .send(named(&json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })))
        .send(named(&json!({ "type": "ping" })))
        .send_all(tokens.iter().map(delta))
        .send(named(&json!({ "type": "content_block_stop", "index": 0 })))
        .send(named(&json!({ "type": "message_delta",
            "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": usage.1 } })))
        .send(named(&json!({ "type": "message_stop" })))
        .end()
}

/// An answer of Gemini's with these parts.
pub fn generated(parts: Value, finish: Value, usage: (u64, u64, u64)) -> Value {
    json!({
        "candidates": [{ "index": 0, "content": { "role": "model", "parts": parts }, "finishReason": finish }],
        "usageMetadata": { "promptTokenCount": usage.0, "candidatesTokenCount": usage.1,
            "thoughtsTokenCount": usage.2, "totalTokenCount": usage.0 + usage.1 + usage.2 },
        "modelVersion": "gemini-up", "responseId": "r1",
    })
}

/// The JSON of each `data:` line but `[DONE]`.
pub fn data(stream: &str) -> Vec<Value> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
        .collect()
}

/// What a chat's chunks say, joined.
pub fn said(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}
