//! For tests: an answer with everything in it, whole and as a stream, and parts made readable.

use serde_json::{Value, json};

use super::Decoder;
use crate::{
    dialects::{Decoder as _, testing::events},
    wire::{Event, Figures, Part, What, conversation::Thinking},
};

/// A part as one line, with what is in it.
pub(super) fn line(part: &Part) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    match &part.what {
        What::Start { id, model } => format!("start {id:?} {model:?}"),
        What::Text(text) => format!("text {}", quoted(text)),
        What::Thought(text) => format!("thought {}", quoted(text)),
        What::Thinking(Thinking::Open { text, signature }) => {
            format!("thinking {} {signature:?}", quoted(text))
        }
        What::Thinking(Thinking::Sealed { data }) => format!("sealed {data}"),
        What::Refusal(text) => format!("refusal {}", quoted(text)),
        What::ToolCall { index, id, name, signature } => format!("call {index} {id} {name} {signature:?}"),
        What::Arguments { index, json } => format!("arguments {index} {json}"),
        What::TextSignature(signature) => format!("signature {signature}"),
        What::Citation { url, title } => format!("citation {url} {title:?}"),
        What::Finish { reason, stop_sequence } => format!("finish {reason:?} {stop_sequence:?}"),
        What::Usage(figures) => {
            let Figures { prompt, completion, cache_read, cache_write, cache_write_1h, reasoning, .. } =
                figures;
            let told = [prompt, completion, cache_read, cache_write, cache_write_1h, reasoning]
                .map(|figure| figure.count());
            format!("usage {told:?}")
        }
        What::ServiceTier(tier) => format!("tier {tier}"),
        What::End => "end".to_owned(),
    }
}

pub(super) fn lines(parts: &[Part]) -> Vec<String> {
    parts.iter().map(line).collect()
}

pub(super) fn event(data: &Value) -> Event {
    let name = data["type"].as_str().unwrap_or("message").to_owned();
    Event { name, data: data.to_string() }
}

/// Events as they stand in a stream.
pub(super) fn stream(told: &[Value]) -> String {
    told.iter()
        .map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()))
        .collect()
}

/// The parts of a stream, pieces of one text put together.
pub(super) fn decoded(stream: &[u8], chunk: usize) -> (Vec<Part>, bool, u64) {
    let mut decoder = Decoder::default();
    let (mut parts, mut failed, mut unreadable) = (Vec::new(), false, 0);
    for event in events(stream, chunk) {
        let told = decoder.event(&event);
        parts.extend(told.parts);
        failed |= told.error.is_some();
        unreadable += u64::from(told.unreadable);
    }
    parts.extend(decoder.ended());
    (parts, failed, unreadable)
}

/// Pieces that belong together as one, as a whole answer has them.
pub(super) fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        match (all.last_mut().map(|last| &mut last.what), &part.what) {
            (Some(What::Text(all)), What::Text(more)) | (Some(What::Thought(all)), What::Thought(more)) => {
                all.push_str(more)
            }
            (Some(What::Arguments { json, .. }), What::Arguments { json: more, .. }) => json.push_str(more),
            _ => all.push(part),
        }
    }
    all
}

pub(super) fn answer() -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5",
        "content": [
            {"type": "thinking", "thinking": "Two cities.", "signature": "c2ln+/=="},
            {"type": "redacted_thinking", "data": "opaque"},
            {"type": "text", "text": "I look it up.", "citations": [
                {"type": "web_search_result_location", "url": "https://example.com/a", "title": "A", "cited_text": "x"},
                {"type": "page_location", "document_index": 0, "document_title": "B"},
                {"type": "search_result_location", "source": "https://example.com/c", "title": null},
                {"type": "search_result_location", "source": "shelf 4", "title": "D"}]},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result", "url": "u"}]},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
            {"type": "not_heard_of_yet", "text": 3}],
        "stop_reason": "tool_use", "stop_sequence": null, "stop_details": null,
        "usage": {"input_tokens": 12, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 4000,
            "cache_creation": {"ephemeral_5m_input_tokens": 700, "ephemeral_1h_input_tokens": 300},
            "output_tokens": 80, "output_tokens_details": {"thinking_tokens": 50}, "service_tier": "priority"}
    })
}

/// The stream that the answer would have been.
pub(super) fn told() -> Vec<Value> {
    let start = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta =
        |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let stop = |index: u64| json!({"type": "content_block_stop", "index": index});
    let json =
        |index: u64, part: &str| delta(index, json!({"type": "input_json_delta", "partial_json": part}));
    let call = |kind: &str, id: &str, name: &str| json!({"type": kind, "id": id, "name": name, "input": {}});
    let mut message = answer();
    let citations = message["content"][2]["citations"].as_array().expect("citations").clone();
    let cite = |citation: &Value| delta(2, json!({"type": "citations_delta", "citation": citation}));
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"]["output_tokens"] = json!(1);
    message["usage"]["output_tokens_details"] = Value::Null;
    let mut events = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "ping"}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "Two "})),
        delta(0, json!({"type": "thinking_delta", "thinking": "cities."})),
        delta(0, json!({"type": "signature_delta", "signature": "c2ln+/=="})),
        stop(0),
        start(1, json!({"type": "redacted_thinking", "data": "opaque"})),
        stop(1),
        start(2, json!({"type": "text", "text": "", "citations": []})),
        delta(2, json!({"type": "text_delta", "text": "I look "})),
        delta(2, json!({"type": "text_delta", "text": "it up."})),
    ];
    events.extend(citations.iter().map(cite));
    events.extend([
        stop(2),
        start(3, call("server_tool_use", "srvtoolu_1", "web_search")),
        json(3, "{\"query\":\"x\"}"),
        stop(3),
        start(4, answer()["content"][4].clone()),
        stop(4),
        start(5, call("tool_use", "toolu_1", "weather")),
        json(5, ""),
        json(5, "{\"city\""),
        json(5, ":\"Oslo\"}"),
        stop(5),
        start(6, call("tool_use", "toolu_2", "now")),
        stop(6),
        start(7, json!({"type": "not_heard_of_yet"})),
        delta(7, json!({"type": "not_heard_of_yet_delta", "text": "x"})),
        stop(7),
        json!({"type": "not_heard_of_yet"}),
        json!({"type": "message_delta", "delta": {"stop_reason": null}, "usage": {"output_tokens": 40}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": 80, "output_tokens_details": {"thinking_tokens": 50}}}),
        json!({"type": "message_stop"}),
    ]);
    events
}
