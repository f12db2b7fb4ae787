//! Whatever a provider sends, nothing breaks: no bytes, no JSON and no change to a real stream make a reader panic, and
//! what a client is told is well formed in its own words, complete or with one error at its end. And whatever usage a
//! provider reports, its classes sum to the totals it reported.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    StreamProgress,
    corpus_tests::{Tongue, clients::follows},
    dialect,
    testing::{events, tell, tell_pieces},
};
use crate::{
    catalogue::{DialectKind, Quirks},
    wire::{Endpoint, ErrorObject, EventReader, Figures, Framer, UsageBounds, UsageRules},
};

/// Cases of each property, wherever it runs.
const CASES: u32 = 256;

const CLIENTS: [Endpoint; 3] = [Endpoint::ChatCompletions, Endpoint::Messages, Endpoint::Responses];

/// Who is read as it passes.
const PASSING: [(DialectKind, Endpoint); 7] = [
    (DialectKind::OpenAi, Endpoint::ChatCompletions),
    (DialectKind::OpenAi, Endpoint::Completions),
    (DialectKind::OpenAi, Endpoint::Embeddings),
    (DialectKind::OpenAi, Endpoint::Responses),
    (DialectKind::Anthropic, Endpoint::Messages),
    (DialectKind::Anthropic, Endpoint::CountTokens),
    (DialectKind::Gemini, Endpoint::ChatCompletions),
];

/// A stream with everything in it.
fn full(tongue: Tongue) -> &'static str {
    match tongue {
        Tongue::Anthropic => include_str!("../../tests/golden/messages/client-stream.txt"),
        Tongue::Chat => include_str!("../../tests/golden/chat/stream.sse"),
        Tongue::Gemini => concat!(
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Two cities.\",\"thought\":true}],",
            "\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":12},\"responseId\":\"r\",",
            "\"modelVersion\":\"gemini-3.5-flash\"}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"I look\"},{\"text\":\" it up.\",",
            "\"thoughtSignature\":\"dGV4dA==\"}]},\"index\":0}]}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"weather\",\"args\":",
            "{\"city\":\"Oslo\"}},\"thoughtSignature\":\"Y2FsbA==\"},{\"functionCall\":{\"name\":\"now\",",
            "\"willContinue\":true,\"partialArgs\":[{\"jsonPath\":\"$.at[0].x\",\"stringValue\":\"a\",",
            "\"willContinue\":true}]}}]},\"index\":0}]}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"partialArgs\":[{\"jsonPath\":",
            "\"$.at[0].x\",\"stringValue\":\"b\"}]}}]},\"index\":0,\"finishReason\":\"STOP\",\"groundingMetadata\":",
            "{\"groundingChunks\":[{\"web\":{\"uri\":\"https://e.com\",\"title\":\"E\"}}]}}],\"usageMetadata\":",
            "{\"promptTokenCount\":12,\"candidatesTokenCount\":5,\"thoughtsTokenCount\":3,\"totalTokenCount\":20,",
            "\"trafficType\":\"ON_DEMAND\"}}\r\n\r\n",
        ),
    }
}

fn tongue() -> impl Strategy<Value = Tongue> {
    proptest::sample::select(&Tongue::ALL[..])
}

fn client() -> impl Strategy<Value = Endpoint> {
    proptest::sample::select(&CLIENTS[..])
}

/// Any JSON, with the words that streams are made of.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..4_u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(
            &["", "stop", "tool_use", "STOP", "text", "{", "{}", "é\n\n", "data: x"][..]
        )
        .prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    let names =
        ["type", "index", "text", "id", "name", "content", "delta", "error", "usage", "choices", "parts"];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(proptest::sample::select(names.to_vec()), inner, 0..4).prop_map(
                |map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            ),
        ]
    })
}

/// A change to a stream's events.
#[derive(Clone, Debug)]
enum Change {
    Drop,
    Repeat,
    /// Moves it to the end.
    Late,
    /// Ends the stream before it.
    Cut,
    /// Puts something else in the place of one of its values.
    Value(prop::sample::Index, Value),
    Byte(prop::sample::Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Change::Drop),
        2 => Just(Change::Repeat),
        2 => Just(Change::Late),
        1 => Just(Change::Cut),
        6 => (index(), any_json()).prop_map(|(at, value)| Change::Value(at, value)),
        3 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
    ]
}

/// The values in a value, itself first.
fn places(value: &mut Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), &*value)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Array(list) => {
                open.extend(list.iter().enumerate().map(|(at, value)| (format!("{path}/{at}"), value)));
            }
            Value::Object(members) => {
                open.extend(members.iter().map(|(name, value)| (format!("{path}/{name}"), value)));
            }
            _ => {}
        }
        found.push(path);
    }
    found
}

fn changed(stream: &str, changes: &[(prop::sample::Index, Change)]) -> Vec<u8> {
    let stream = stream.replace("\r\n", "\n");
    let mut frames: Vec<Vec<u8>> =
        stream.split_inclusive("\n\n").map(|frame| frame.as_bytes().to_vec()).collect();
    for (at, change) in changes {
        if frames.is_empty() {
            break;
        }
        let at = at.index(frames.len());
        match change {
            Change::Drop => drop(frames.remove(at)),
            Change::Repeat => frames.insert(at, frames[at].clone()),
            Change::Late => {
                let frame = frames.remove(at);
                frames.push(frame);
            }
            Change::Cut => frames.truncate(at),
            Change::Byte(place, byte) => {
                let place = place.index(frames[at].len());
                frames[at][place] = *byte;
            }
            Change::Value(place, new) => {
                let text = String::from_utf8_lossy(&frames[at]).into_owned();
                let Some((name, data)) = text.split_once("data:") else { continue };
                let Ok(mut value) = serde_json::from_str::<Value>(data) else { continue };
                let found = places(&mut value);
                if let Some(old) = value.pointer_mut(&found[place.index(found.len())]) {
                    *old = new.clone();
                }
                frames[at] = format!("{name}data: {value}\n\n").into_bytes();
            }
        }
    }
    frames.concat()
}

/// Whatever the stream was: what the client has is well formed, up to its end or to one error.
fn is_sound(tongue: Tongue, client: Endpoint, stream: &[u8]) -> Result<(), TestCaseError> {
    let mut translation = tongue.talk_to(client, &Quirks::default());
    let told = tell(translation.as_mut(), stream, usize::MAX);
    if told.finished && !told.failed {
        follows(client, &told.text);
        return Ok(());
    }
    let error = ErrorObject::new("upstream_error", "upstream_failed", "it gave up");
    let end = translation.error(&error);
    let text = format!("{}{}", told.text, String::from_utf8_lossy(&end));
    for event in events(text.as_bytes(), usize::MAX) {
        prop_assert!(serde_json::from_str::<Value>(&event.data).is_ok_and(|data| data.is_object()));
    }
    let last = events(&end, usize::MAX).pop();
    let last: Option<Value> = last.and_then(|event| serde_json::from_str(&event.data).ok());
    prop_assert!(last.is_some_and(|data| data["error"].is_object()), "one error is the last word");
    Ok(())
}

/// Reads a stream as it passes, in one piece and in others.
fn passes(stream: &[u8], size: usize) {
    for (kind, endpoint) in PASSING {
        let dialect = dialect(kind);
        let read = |size: usize| {
            let mut progress = StreamProgress::default();
            let facts: Vec<_> = events(stream, size)
                .iter()
                .map(|event| dialect.read_event(endpoint, &Quirks::default(), &mut progress, event))
                .collect();
            (facts, progress.finished())
        };
        assert_eq!(read(usize::MAX), read(size));
        let _ = dialect.read_answer(endpoint, &Quirks::default(), stream);
        assert!(!dialect.read_error(500, stream).message.is_empty());
    }
}

/// Bytes with a liking for what streams are made of.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..6),
        proptest::sample::select(
            &[
                "data: ",
                "event: error\n",
                "\n\n",
                "\r\n\r\n",
                "\r",
                "{\"",
                "\":",
                "}",
                "[",
                "[DONE]",
                "\u{feff}",
                ": x"
            ][..]
        )
        .prop_map(|text| text.as_bytes().to_vec()),
        any_json().prop_map(|value| format!("data: {value}\n\n").into_bytes()),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p20_any_bytes_are_borne_by_every_reader(
        stream in any_bytes(), tongue in tongue(), client in client(), size in 1..9_usize,
    ) {
        passes(&stream, size);
        is_sound(tongue, client, &stream)?;
        let whole = tell(tongue.talk_to(client, &Quirks::default()).as_mut(), &stream, usize::MAX);
        prop_assert_eq!(&tell(tongue.talk_to(client, &Quirks::default()).as_mut(), &stream, size), &whole);
        if let Ok((facts, body)) = tongue.talk_to(client, &Quirks::default()).answer(&stream) {
            prop_assert!(facts.error.is_some() || serde_json::from_slice::<Value>(&body).is_ok());
        }
    }

    #[test]
    fn p20_any_json_is_borne_by_every_reader(
        values in proptest::collection::vec(any_json(), 1..6), tongue in tongue(), client in client(),
    ) {
        let stream: String = values.iter().map(|value| format!("data: {value}\n\n")).collect();
        is_sound(tongue, client, stream.as_bytes())?;
        for value in &values {
            let body = value.to_string();
            if let Ok((facts, body)) = tongue.talk_to(client, &Quirks::default()).answer(body.as_bytes()) {
                prop_assert!(facts.error.is_some() || serde_json::from_slice::<Value>(&body).is_ok());
            }
        }
    }

    #[test]
    fn p20_any_change_to_a_stream_leaves_every_client_with_a_sound_one(
        tongue in tongue(),
        client in client(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), change()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let stream = changed(full(tongue), &changes);
        is_sound(tongue, client, &stream)?;
        let told = |stream: &[&[u8]]| tell_pieces(tongue.talk_to(client, &Quirks::default()).as_mut(), stream);
        let (head, tail) = stream.split_at(cut.index(stream.len() + 1));
        prop_assert_eq!(told(&[head, tail]), told(&[&stream]));
        passes(&stream, 7);
    }

    #[test]
    fn p20_any_change_to_a_recorded_stream_leaves_every_client_with_a_sound_one(
        tongue in tongue(),
        client in client(),
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), change()), 1..5),
    ) {
        let recorded = recorded_streams(tongue);
        let stream = match recorded {
            [] => full(tongue),
            some => some[which.index(some.len())].as_str(),
        };
        let stream = changed(stream, &changes);
        is_sound(tongue, client, &stream)?;
        passes(&stream, 1000);
    }

    #[test]
    fn p20_an_event_longer_than_the_bound_is_refused_and_nothing_of_it_is_lost(
        stream in any_bytes(), max in 1..60_usize, size in 1..9_usize,
    ) {
        let (mut framer, mut reader) = (Framer::new(max), EventReader::new());
        let mut passed = Vec::new();
        for piece in stream.chunks(size) {
            framer.push(Bytes::copy_from_slice(piece));
            while let Ok(Some(frame)) = framer.next_frame() {
                prop_assert!(frame.len() <= max);
                let _ = reader.read(&frame);
                passed.extend_from_slice(&frame);
            }
        }
        passed.extend_from_slice(&framer.into_rest());
        prop_assert_eq!(passed, stream);
    }

    #[test]
    fn p21_usage_classes_sum_to_the_providers_totals_whoever_is_told(
        counts in proptest::array::uniform6(0..1_000_000_u64), tongue in tongue(), client in client(),
    ) {
        let (usage, stream, input, output) = reported(tongue, counts);
        let figures = match tongue {
            Tongue::Anthropic => Figures::from_anthropic_usage(&usage),
            Tongue::Gemini => Figures::from_gemini_usage(&usage),
            Tongue::Chat => Figures::from_openai_usage(&usage),
        };
        let told = tell(tongue.talk_to(client, &Quirks::default()).as_mut(), stream.as_bytes(), 64);
        prop_assert!(told.finished);
        for figures in [figures, told.figures] {
            let found = figures.normalise(&UsageRules::default(), &UsageBounds::default());
            prop_assert!(!found.clamped);
            prop_assert_eq!((found.usage.input_total(), found.usage.output_total()), (input, output));
        }
        let heard = follows(client, &told.text);
        let seen = |names: &[&str]| names.iter().map(|name| heard["usage"][*name].as_u64().unwrap_or(0)).sum::<u64>();
        let (seen_input, seen_output) = match client {
            Endpoint::Messages => {
                let input = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
                (seen(&input), seen(&["output_tokens"]))
            }
            Endpoint::Responses => (seen(&["input_tokens"]), seen(&["output_tokens"])),
            _ => (seen(&["prompt_tokens"]), seen(&["completion_tokens"])),
        };
        prop_assert_eq!((seen_input, seen_output), (input, output));
    }
}

/// Usage of six classes in a provider's words, a stream that ends with it, and what it comes to.
fn reported(tongue: Tongue, counts: [u64; 6]) -> (String, String, u64, u64) {
    let [fresh, read, minutes, hour, said, thought] = counts;
    let all_input = fresh + read + minutes + hour;
    let (input, usage) = match tongue {
        Tongue::Anthropic => (
            all_input,
            json!({"input_tokens": fresh, "cache_read_input_tokens": read, "cache_creation_input_tokens": minutes + hour,
                "cache_creation": {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour},
                "output_tokens": said + thought, "output_tokens_details": {"thinking_tokens": thought}}),
        ),
        // It has no word for writes: they are input.
        Tongue::Gemini => (
            all_input,
            json!({"promptTokenCount": fresh + read + minutes, "toolUsePromptTokenCount": hour,
                "cachedContentTokenCount": read, "candidatesTokenCount": said, "thoughtsTokenCount": thought,
                "totalTokenCount": all_input + said + thought}),
        ),
        Tongue::Chat => (
            all_input,
            json!({"prompt_tokens": all_input, "completion_tokens": said + thought,
                "total_tokens": all_input + said + thought,
                "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": minutes},
                "completion_tokens_details": {"reasoning_tokens": thought}}),
        ),
    };
    let events = match tongue {
        Tongue::Anthropic => vec![
            json!({"type": "message_start", "message": {"id": "msg_1", "model": "m", "content": [], "usage": usage}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
            json!({"type": "message_stop"}),
        ],
        Tongue::Gemini => {
            vec![json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
            "usageMetadata": usage, "modelVersion": "m", "responseId": "r"})]
        }
        Tongue::Chat => vec![
            json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}),
            json!({"id": "c", "model": "m", "choices": [], "usage": usage}),
        ],
    };
    let mut stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    if tongue == Tongue::Chat {
        stream.push_str("data: [DONE]\n\n");
    }
    (usage.to_string(), stream, input, said + thought)
}

/// Recorded streams that are short enough to be changed many times; none where there are no recordings, and then the full
/// ones are changed once more.
fn recorded_streams(tongue: Tongue) -> &'static [String] {
    use std::sync::LazyLock;
    fn short(tongue: Tongue) -> Vec<String> {
        let bodies = tongue.answers().into_iter().map(|exchange| exchange.body);
        bodies
            .filter(|body| body.len() < 8_000 && body.lines().any(|line| line.starts_with("data:")))
            .collect()
    }
    static ANTHROPIC: LazyLock<Vec<String>> = LazyLock::new(|| short(Tongue::Anthropic));
    static GEMINI: LazyLock<Vec<String>> = LazyLock::new(|| short(Tongue::Gemini));
    static CHAT: LazyLock<Vec<String>> = LazyLock::new(|| short(Tongue::Chat));
    match tongue {
        Tongue::Anthropic => &ANTHROPIC,
        Tongue::Gemini => &GEMINI,
        Tongue::Chat => &CHAT,
    }
}
