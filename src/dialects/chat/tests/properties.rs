//! Whatever comes in, nothing panics, and what is said is always what can be read again.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Decoder, asked, encoder, input, read_request, with_call, write_request};
use crate::{
    catalogue::{Capabilities, Quirks},
    dialects::{Decoder as _, Encoder as _},
    wire::{Endpoint, Event, Finish, Part, What, conversation::Thinking},
};

/// Any JSON.
fn any_json() -> impl Strategy<Value = Value> {
    let words = [
        "",
        "text",
        "image_url",
        "file",
        "function",
        "custom",
        "user",
        "assistant",
        "tool",
        "system",
        "auto",
        "low",
        "data:image/png;base64,AA",
        "data:,",
        "https://x",
        "ephemeral",
        "thinking",
        "stop",
        "é",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let names = [
        "type",
        "role",
        "content",
        "text",
        "image_url",
        "url",
        "detail",
        "file",
        "file_data",
        "tool_calls",
        "id",
        "function",
        "name",
        "arguments",
        "index",
        "delta",
        "message",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "reasoning",
        "thinking",
        "thinking_blocks",
        "signature",
        "extra_content",
        "google",
        "error",
        "x",
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let name = proptest::sample::select(names.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..5)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Puts `new` in the place of the `at`th value of a tree.
fn replace(tree: &mut Value, at: usize, new: &Value) {
    fn walk(tree: &mut Value, left: &mut usize, new: &Value) -> bool {
        if *left == 0 {
            *tree = new.clone();
            return true;
        }
        *left -= 1;
        match tree {
            Value::Array(items) => items.iter_mut().any(|item| walk(item, left, new)),
            Value::Object(members) => members.values_mut().any(|member| walk(member, left, new)),
            _ => false,
        }
    }
    walk(tree, &mut { at }, new);
}

fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(items) => items.iter().map(count).sum::<usize>(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// Reads a request, and writes it where it could be read; says why not.
fn through(body: &Value) -> Option<String> {
    let envelope = crate::wire::Envelope::parse(body.to_string().into(), 64).ok()?;
    crate::wire::read_request(Endpoint::ChatCompletions, &envelope).ok()?;
    let asked = asked(Endpoint::ChatCompletions, body);
    let conversation = match read_request(&asked.envelope, &asked.view) {
        Ok(conversation) => conversation,
        Err(error) => return Some(error.to_string()),
    };
    let quirks = Quirks { cache_control: true, reasoning_content: true, ..Quirks::default() };
    let written =
        with_call(&asked, &quirks, &Capabilities::default(), |call| write_request(&conversation, call));
    match written {
        Ok(written) => {
            let sent: Result<Value, _> = serde_json::from_slice(&written.body);
            assert!(sent.is_ok(), "what is sent is JSON");
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

proptest! {
    #[test]
    fn any_message_is_read_or_refused(message in any_json(), part in any_json(), role in "user|assistant|tool|system|function") {
        through(&json!({"model": "m", "messages": [message]}));
        through(&json!({"model": "m", "messages": [{"role": role, "tool_call_id": "c", "content": [part]}]}));
    }

    #[test]
    fn any_change_to_a_request_is_read_or_refused(at in any::<prop::sample::Index>(), new in any_json()) {
        let mut request: Value = serde_json::from_str(&input("request.json")).expect("a request");
        let at = at.index(count(&request));
        replace(&mut request, at, &new);
        if let Some(refusal) = through(&request) {
            prop_assert!(refusal.len() < 400, "{}", refusal);
        }
    }

    #[test]
    fn any_event_is_read(event in any_json(), name in "message|error") {
        let mut decoder = Decoder::default();
        decoder.event(&Event { name, data: event.to_string() });
        let _ = decoder.whole(event.to_string().as_bytes());
    }

    #[test]
    fn any_change_to_a_stream_is_borne(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any_json()), 1..4),
    ) {
        let stream = input("stream.sse");
        let mut events: Vec<Value> =
            stream.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
        for (event, at, new) in changes {
            let place = event.index(events.len());
            if let Some(event) = events.get_mut(place) {
                let at = at.index(count(event));
                replace(event, at, &new);
            }
        }
        let mut decoder = Decoder::default();
        let mut parts = Vec::new();
        for data in events.iter().map(Value::to_string).chain(Some("[DONE]".to_owned())) {
            parts.extend(decoder.event(&Event { name: "message".into(), data }).parts);
        }
        check(&parts)?;
        say(parts)?;
    }

    #[test]
    fn any_parts_are_said_as_json(parts in proptest::collection::vec(any_part(), 0..12)) {
        say(parts)?;
    }

    #[test]
    fn any_bytes_are_read(body in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Decoder::default().whole(&body);
        Decoder::default().event(&Event { name: "message".into(), data: String::from_utf8_lossy(&body).into_owned() });
    }
}

/// What every consumer of parts relies on.
fn check(parts: &[Part]) -> Result<(), TestCaseError> {
    let mut calls: std::collections::BTreeMap<u32, Vec<String>> = std::collections::BTreeMap::new();
    let mut finished = std::collections::BTreeSet::new();
    for Part { choice, what } in parts {
        let calls = calls.entry(*choice).or_default();
        match what {
            What::ToolCall { index, id, .. } => {
                prop_assert_eq!(*index as usize, calls.len());
                prop_assert!(!id.is_empty());
                prop_assert!(
                    calls.last().is_none_or(|last| !last.is_empty()),
                    "the last call said something"
                );
                calls.push(String::new());
            }
            What::Arguments { index, json } => {
                prop_assert!((*index as usize) < calls.len());
                calls[*index as usize].push_str(json);
            }
            What::Finish { .. } => {
                prop_assert!(finished.insert(*choice), "a choice is finished once");
                prop_assert!(calls.iter().all(|call| !call.is_empty()));
            }
            What::Text(_) | What::Thought(_) | What::Refusal(_) => {
                prop_assert!(!finished.contains(choice), "nothing is said behind the finish");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Says parts whole and in chunks; each is JSON.
fn say(parts: Vec<Part>) -> Result<(), TestCaseError> {
    let mut stream = Vec::new();
    let mut chunked = encoder(json!({"stream": true, "stream_options": {"include_usage": true}}));
    for part in parts.iter().filter(|part| part.what != What::End) {
        chunked.part(part.clone(), &mut stream);
    }
    chunked.end(&mut stream);
    let stream = String::from_utf8(stream).expect("text");
    let frames: Vec<&str> = stream.split_terminator("\n\n").collect();
    prop_assert_eq!(frames.last(), Some(&"data: [DONE]"));
    for frame in frames.iter().rev().skip(1) {
        let data = frame.strip_prefix("data: ").expect("no names");
        prop_assert!(serde_json::from_str::<Value>(data).is_ok(), "{}", frame);
    }
    let whole = encoder(Value::Null).whole(parts);
    prop_assert!(serde_json::from_slice::<Value>(&whole).is_ok());
    Ok(())
}

fn any_part() -> impl Strategy<Value = Part> {
    let text = || "\\PC{0,6}|\n|\r\n|data: ";
    let what = prop_oneof![
        (proptest::option::of(text()), proptest::option::of(text()))
            .prop_map(|(id, model)| What::Start { id, model }),
        text().prop_map(What::Text),
        text().prop_map(What::Thought),
        text().prop_map(What::Refusal),
        (text(), proptest::option::of(text()))
            .prop_map(|(text, signature)| What::Thinking(Thinking::Open { text, signature })),
        text().prop_map(|data| What::Thinking(Thinking::Sealed { data })),
        (any::<u32>(), text(), text(), proptest::option::of(text()))
            .prop_map(|(index, id, name, signature)| What::ToolCall { index, id, name, signature }),
        (any::<u32>(), text()).prop_map(|(index, json)| What::Arguments { index, json }),
        text().prop_map(What::TextSignature),
        (text(), proptest::option::of(text())).prop_map(|(url, title)| What::Citation { url, title }),
        Just(What::Finish { reason: Finish::ToolCalls, stop_sequence: None }),
        text().prop_map(What::ServiceTier),
        Just(What::End),
    ];
    (0..3_u32, what).prop_map(|(choice, what)| Part { choice, what })
}
