//! One request with everything in it that both sides know, from each client's words into those of other providers. What
//! becomes of every member can be seen in the golden files.

use serde_json::{Value, json};

use super::testing::{asked_text, golden, indented, send};
use crate::{catalogue::DialectKind, wire::Endpoint};

const CHAT: &str = include_str!("../../tests/golden/chat-asked.json");
const MESSAGES: &str = include_str!("../../tests/golden/messages-asked.json");
const RESPONSES: &str = include_str!("../../tests/golden/responses-asked.json");

/// What goes upstream, as a golden file has it; members of the body in the order in which they are sent.
fn written(endpoint: Endpoint, text: &str, kind: DialectKind, model: &str) -> String {
    let request = send(kind, &asked_text(endpoint, text), model).unwrap_or_else(|error| panic!("{error}"));
    assert!(request.translation.is_some(), "the answer comes in other words");
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let head = json!({
        "path": request.path, "headers": headers, "dropped": request.dropped, "output_limit": request.output_limit,
    });
    let body = std::str::from_utf8(&request.body).expect("UTF-8");
    indented(&format!("{{\"request\":{head},\"body\":{body}}}"))
}

#[test]
fn a_full_request_of_each_client_is_said_in_the_words_of_other_providers() {
    use DialectKind::{Anthropic, Gemini, OpenAi};
    for (name, endpoint, text, kind, model) in [
        ("chat-to-anthropic", Endpoint::ChatCompletions, CHAT, Anthropic, "claude-opus-4-6"),
        ("chat-to-gemini", Endpoint::ChatCompletions, CHAT, Gemini, "gemini-3.5-flash"),
        ("messages-to-chat", Endpoint::Messages, MESSAGES, OpenAi, "gpt-5.4"),
        ("messages-to-gemini", Endpoint::Messages, MESSAGES, Gemini, "gemini-3.5-flash"),
        ("responses-to-chat", Endpoint::Responses, RESPONSES, OpenAi, "gpt-5.4"),
        ("responses-to-anthropic", Endpoint::Responses, RESPONSES, Anthropic, "claude-opus-4-6"),
    ] {
        golden(&format!("{name}.json"), &written(endpoint, text, kind, model));
    }
}

/// Every text in a body.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| texts(value, found)),
        Value::Object(members) => members.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

#[test]
fn nothing_that_was_said_is_lost_on_the_way() {
    use DialectKind::{Anthropic, Gemini, OpenAi};
    let said = [
        "You are a guide.",
        "Use the tools.",
        "I look it up.",
        "rain",
        "tomorrow?",
        "iVBORw0KGgo=",
        "JVBERi0=",
    ];
    for (endpoint, text) in
        [(Endpoint::ChatCompletions, CHAT), (Endpoint::Messages, MESSAGES), (Endpoint::Responses, RESPONSES)]
    {
        for (kind, model) in
            [(Anthropic, "claude-opus-4-6"), (Gemini, "gemini-3.5-flash"), (OpenAi, "gpt-5.4")]
        {
            let request = send(kind, &asked_text(endpoint, text), model).expect("it can be said");
            let body: Value = serde_json::from_slice(&request.body).expect("a body is JSON");
            let mut found = Vec::new();
            texts(&body, &mut found);
            for said in said {
                assert!(found.iter().any(|text| text.contains(said)), "{endpoint:?} to {kind:?}: {said}");
            }
        }
    }
}
