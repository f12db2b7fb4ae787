//! Recorded answers by line and by tree, without any of the gateway's readers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a recording says in its first choice.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) text: String,
    pub(super) thoughts: String,
    /// Names and arguments.
    pub(super) calls: Vec<(String, Value)>,
    /// Input of every class.
    pub(super) prompt: Option<u64>,
    /// Output of every class.
    pub(super) completion: Option<u64>,
    /// Thoughts that the provider does not count as output, though it counts them.
    pub(super) reasoning_apart: u64,
    pub(super) finished: bool,
    /// The provider gave up.
    pub(super) failed: bool,
}

/// The events of a stream, or the one body.
fn chunks(body: &str) -> Vec<Value> {
    let events: Vec<Value> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    if !events.is_empty() {
        return events;
    }
    match serde_json::from_str(body).expect("an answer is JSON") {
        Value::Array(list) => list,
        one => vec![one],
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Arguments as a client is to see them: an object, an empty one where nothing was said.
fn arguments(json: &str) -> Value {
    if json.trim().is_empty() {
        json!({})
    } else {
        serde_json::from_str(json).unwrap_or_else(|_| json.into())
    }
}

/// Anthropic's.
pub(super) fn anthropic(body: &str) -> Recorded {
    let mut found = Recorded::default();
    let mut blocks: BTreeMap<u64, (Value, String)> = BTreeMap::new();
    for event in chunks(body) {
        let delta = &event["delta"];
        match word(&event["type"]) {
            "message" => {
                blocks.extend((0..).zip(event["content"].as_array().into_iter().flatten().cloned()).map(
                    |(place, block)| {
                        let input = block["input"].to_string();
                        (place, (block, input))
                    },
                ));
                anthropic_usage(&event["usage"], &mut found);
                found.finished = true;
            }
            "message_start" => anthropic_usage(&event["message"]["usage"], &mut found),
            "content_block_start" => {
                let place = event["index"].as_u64().expect("an index");
                blocks.insert(place, (event["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                let place = event["index"].as_u64().expect("an index");
                let (block, input) = blocks.get_mut(&place).expect("a block begins before it goes on");
                for name in ["text", "thinking"] {
                    if let Some(more) = delta[name].as_str() {
                        block[name] = format!("{}{more}", word(&block[name])).into();
                    }
                }
                input.push_str(word(&delta["partial_json"]));
            }
            "message_delta" => {
                anthropic_usage(&event["usage"], &mut found);
                found.finished |= delta["stop_reason"].is_string();
            }
            "error" => found.failed = true,
            _ => {}
        }
    }
    for (block, input) in blocks.values() {
        match word(&block["type"]) {
            "text" => found.text.push_str(word(&block["text"])),
            "thinking" => found.thoughts.push_str(word(&block["thinking"])),
            "tool_use" => found.calls.push((word(&block["name"]).into(), arguments(input))),
            _ => {}
        }
    }
    found
}

fn anthropic_usage(usage: &Value, found: &mut Recorded) {
    let steps = usage["iterations"].as_array().filter(|steps| !steps.is_empty());
    let all: Vec<&Value> = steps.map_or_else(|| vec![usage], |steps| steps.iter().collect());
    let sum = |names: &[&str]| {
        let counts = all.iter().flat_map(|usage| names.iter().map(|name| usage[*name].as_u64().unwrap_or(0)));
        Some(counts.sum())
    };
    if usage["input_tokens"].is_u64() {
        found.prompt = sum(&["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]);
    }
    found.completion = sum(&["output_tokens"]);
}

/// Gemini's.
pub(super) fn gemini(body: &str) -> Recorded {
    let mut found = Recorded::default();
    for chunk in chunks(body) {
        found.failed |= chunk["error"].is_object();
        for candidate in chunk["candidates"].as_array().into_iter().flatten() {
            found.finished |= candidate["finishReason"].is_string();
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                let text = word(&part["text"]);
                match part["thought"] == true {
                    true => found.thoughts.push_str(text),
                    false => found.text.push_str(text),
                }
                let call = &part["functionCall"];
                if let Some(name) = call["name"].as_str() {
                    let args = if call["args"].is_object() { call["args"].clone() } else { json!({}) };
                    found.calls.push((name.to_owned(), args));
                }
                // Recorded are only texts directly in the arguments.
                for piece in call["partialArgs"].as_array().into_iter().flatten() {
                    let name = word(&piece["jsonPath"]).strip_prefix("$.").expect("a member");
                    let arguments = &mut found.calls.last_mut().expect("a call").1;
                    arguments[name] =
                        format!("{}{}", word(&arguments[name]), word(&piece["stringValue"])).into();
                }
            }
        }
        let usage = &chunk["usageMetadata"];
        if usage["promptTokenCount"].is_u64() {
            let sum = |names: [&str; 2]| {
                let counts: Vec<u64> = names.iter().filter_map(|name| usage[*name].as_u64()).collect();
                (!counts.is_empty()).then(|| counts.iter().sum())
            };
            found.prompt = sum(["promptTokenCount", "toolUsePromptTokenCount"]);
            found.completion = sum(["candidatesTokenCount", "thoughtsTokenCount"]);
        }
    }
    found
}

/// That of OpenAI's dialect.
pub(super) fn chat(body: &str) -> Recorded {
    let mut found = Recorded::default();
    let mut calls: Vec<(String, String)> = Vec::new();
    for chunk in chunks(body) {
        found.failed |= chunk["error"].is_object() || chunk["x_groq"]["error"].is_string();
        let reports = [&chunk["usage"], &chunk["x_groq"]["usage"]];
        for usage in reports.into_iter().filter(|usage| usage.is_object()) {
            found.prompt = found.prompt.max(usage["prompt_tokens"].as_u64());
            found.completion = found.completion.max(usage["completion_tokens"].as_u64());
            let count = |name: &str| usage[name].as_u64().unwrap_or(0);
            let thoughts = usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap_or(0);
            let apart = count("prompt_tokens") + count("completion_tokens") + thoughts;
            found.reasoning_apart = if count("total_tokens") == apart { thoughts } else { 0 };
        }
        let choices = chunk["choices"].as_array().into_iter().flatten();
        for choice in choices.filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0) {
            let whole = !choice["delta"].is_object();
            let said = if whole { &choice["message"] } else { &choice["delta"] };
            found.finished |= whole || !word(&choice["finish_reason"]).is_empty();
            match &said["content"] {
                Value::Array(parts) => {
                    for part in parts {
                        found.text.push_str(word(&part["text"]));
                        let thoughts = part["thinking"].as_array().into_iter().flatten();
                        thoughts.for_each(|thought| found.thoughts.push_str(word(&thought["text"])));
                    }
                }
                text => found.text.push_str(word(text)),
            }
            found.text.push_str(word(&said["refusal"]));
            let details = said["reasoning_details"].as_array().into_iter().flatten();
            let details: String = details.filter_map(|detail| detail["text"].as_str()).collect();
            let named = [&said["reasoning_content"], &said["reasoning"]];
            let named = named.into_iter().filter_map(Value::as_str).find(|text| !text.is_empty());
            found.thoughts.push_str(named.unwrap_or(&details));
            let tools = said["tool_calls"].as_array().into_iter().flatten().map(|call| &call["function"]);
            for function in tools.chain(Some(&said["function_call"])) {
                let (name, more) = (word(&function["name"]), word(&function["arguments"]));
                match calls.last_mut() {
                    Some((_, before)) if name.is_empty() => before.push_str(more),
                    _ if name.is_empty() => {}
                    _ => calls.push((name.to_owned(), more.to_owned())),
                }
            }
        }
    }
    found.finished |= body.contains("data: [DONE]");
    found.calls = calls.into_iter().map(|(name, json)| (name, arguments(&json))).collect();
    found
}
