//! Answers taken apart.

use serde_json::{Value, json};

use super::{said, tell, tell_cut, whole};
use crate::{
    dialects::{Decoded, Decoder as _, gemini::Decoder, testing},
    wire::{Event, What},
};

pub(super) fn stream(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect()
}

/// One candidate's part.
fn part(part: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]})
}

fn finish(reason: &str) -> Value {
    json!({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": reason}]})
}

/// An answer with everything in it.
pub(super) fn full() -> Vec<Value> {
    let usage = |candidates: u64, total: u64| {
        json!({"promptTokenCount": 100, "candidatesTokenCount": candidates, "thoughtsTokenCount": 30,
            "toolUsePromptTokenCount": 5, "cachedContentTokenCount": 40, "totalTokenCount": total, "serviceTier": "flex"})
    };
    vec![
        json!({"usageMetadata": {"promptTokenCount": 145, "totalTokenCount": 145, "serviceTier": "flex"},
            "modelVersion": "gemini-3.5-flash", "responseId": "r1"}),
        part(json!({"text": "Let me ", "thought": true})),
        part(json!({"text": "see.", "thought": true})),
        part(json!({"text": "It is ü"})),
        part(json!({"text": " and more", "thoughtSignature": "c2ln"})),
        json!({"candidates": [{"content": {"parts": [
            {"functionCall": {"name": "add", "args": {"b": 1, "a": [1.50, " x "]}, "id": "c9"}, "thoughtSignature": "Y2FsbA=="},
            {"functionCall": {"name": "now"}},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
            {"executableCode": {"language": "PYTHON", "code": "1"}},
        ]}}], "usageMetadata": usage(10, 145)}),
        json!({"candidates": [{"content": {"parts": [{"text": "", "thoughtSignature": "ZW5k"}]},
            "groundingMetadata": {"groundingChunks": [
                {"web": {"uri": "https://a.example", "title": "A"}}, {"web": {"uri": "https://a.example"}},
                {"retrievedContext": {"text": "x"}}, {"web": {"uri": "https://b.example"}}]},
            "finishReason": "STOP", "finishMessage": "done"}], "usageMetadata": usage(20, 155)}),
    ]
}

#[test]
fn a_stream_with_everything_is_told_part_by_part() {
    let stream = stream(&full());
    let told = tell(stream.as_bytes(), 1000);
    assert!(told.finished && !told.failed && told.unreadable == 0);
    testing::golden("gemini/stream.json", &testing::pretty(&Value::Array(told.parts.clone())));
    for cut in 0..=stream.len() {
        assert_eq!(tell_cut(stream.as_bytes(), cut), told.parts, "cut at {cut}");
    }
    assert_eq!(tell(stream.as_bytes(), 1), told);
}

#[test]
fn a_whole_answer_is_told_in_the_same_parts() {
    let answer = json!({
        "candidates": [{"content": {"role": "model", "parts": [
            {"text": "Let me see.", "thought": true},
            {"text": "It is", "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "add", "args": {"b": 1, "a": 2}, "id": "c9"}, "thoughtSignature": "Y2FsbA=="},
        ]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 2, "thoughtsTokenCount": 15, "totalTokenCount": 37,
            "trafficType": "ON_DEMAND_PRIORITY"},
        "modelVersion": "gemini-3.5-flash", "responseId": "r1",
    });
    testing::golden("gemini/whole.json", &testing::pretty(&Value::Array(whole(&answer))));
    let in_pieces = format!("[{},\n{}]", part(json!({"text": "a"})), finish("STOP"));
    let parts: Vec<Value> =
        Decoder::default().whole(in_pieces.as_bytes()).expect("an answer").parts.iter().map(said).collect();
    assert_eq!(parts[1..], [json!({"text": "a"}), json!({"finish": "Stop"})]);
}

#[test]
fn arguments_keep_their_order_and_numbers_and_lose_only_their_indentation() {
    let body = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{
        "z" : 1.50,
        "a": [ 1e2, "two  \" words\\", { } ]
    }}}]},"finishReason":"STOP"}]}"#;
    let parts: Vec<Value> =
        Decoder::default().whole(body.as_bytes()).expect("an answer").parts.iter().map(said).collect();
    assert_eq!(parts[2]["arguments"], r#"{"z":1.50,"a":[1e2,"two  \" words\\",{}]}"#);
}

#[test]
fn calls_without_an_id_get_one_that_stays_and_is_their_own() {
    let call = |name: &str| json!({"functionCall": {"name": name, "args": {}}});
    let answer = |id: &str| json!({"responseId": id, "candidates": [{"content": {"parts": [call("f"), call("f"), call("g")]}, "finishReason": "STOP"}]});
    let ids = |id: &str| -> Vec<String> {
        let parts = whole(&answer(id));
        parts
            .iter()
            .filter_map(|part| part["id"].as_str())
            .filter(|id| id.starts_with("call_"))
            .map(str::to_owned)
            .collect()
    };
    let first = ids("r1");
    assert_eq!(first, ids("r1"));
    assert!(first.len() == 3 && first[0] != first[1] && first[1] != first[2]);
    assert_ne!(first[0], ids("r2")[0], "another answer's call is another call");
}

#[test]
fn arguments_in_pieces_are_put_together() {
    let call = |call: Value| part(json!({"functionCall": call}));
    let told = tell(
        stream(&[
            call(json!({"name": "read", "willContinue": true})),
            call(json!({"partialArgs": [{"jsonPath": "$.id", "stringValue": "A", "willContinue": true}], "willContinue": true})),
            call(json!({"partialArgs": [{"jsonPath": "$.id", "stringValue": "B"}], "willContinue": true})),
            call(json!({})),
            call(json!({"name": "open", "willContinue": true})),
            finish("STOP"),
        ])
        .as_bytes(),
        64,
    );
    let arguments: Vec<&Value> =
        told.parts.iter().map(|part| &part["arguments"]).filter(|json| json.is_string()).collect();
    assert_eq!(arguments, [r#"{"id":"AB"}"#, "{}"]);
    assert_eq!(told.parts.last(), Some(&json!({"finish": "ToolCalls"})));
}

#[test]
fn every_reason_to_end_has_its_meaning() {
    for (reason, finish) in [
        ("STOP", "Stop"),
        ("MAX_TOKENS", "Length"),
        ("CONTINUATION", "Length"),
        ("SAFETY", "Filtered"),
        ("RECITATION", "Filtered"),
        ("BLOCKLIST", "Filtered"),
        ("PROHIBITED_CONTENT", "Filtered"),
        ("SPII", "Filtered"),
        ("LANGUAGE", "Filtered"),
        ("IMAGE_SAFETY", "Filtered"),
        ("NO_IMAGE", "Filtered"),
        ("MODEL_ARMOR", "Filtered"),
        ("OTHER", "Filtered"),
        ("SOMETHING_NEW", "Filtered"),
    ] {
        let parts = whole(&json!({"candidates": [{"content": {}, "finishReason": reason}]}));
        assert_eq!(parts.last(), Some(&json!({"finish": finish})), "{reason}");
    }
    let cut = json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}, "finishReason": "MAX_TOKENS"}]});
    assert_eq!(whole(&cut).last(), Some(&json!({"finish": "Length"})), "a call that may be cut is no call");
    let silent = json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "FINISH_REASON_UNSPECIFIED"}]});
    assert_eq!(whole(&silent).last(), Some(&json!({"finish": "Stop"})));
}

#[test]
fn an_answer_the_model_spoilt_is_an_error_so_that_another_may_try() {
    for reason in [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    ] {
        let chunk = json!({"candidates": [{"content": {}, "finishReason": reason, "finishMessage": "call:secret"}],
            "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}});
        let decoded = Decoder::default().whole(chunk.to_string().as_bytes()).expect("an answer");
        let error = decoded.error.expect("an error");
        assert_eq!((error.status, error.kind.as_deref()), (Some(502), Some(reason)));
        assert!(!error.message.contains("secret"), "what the model wrote stays out");
        assert!(
            decoded.parts.iter().any(|part| matches!(part.what, What::Usage(_))),
            "it was used all the same"
        );
        let told = tell(stream(&[part(json!({"text": "a"})), chunk]).as_bytes(), 64);
        assert!(told.failed && !told.finished);
    }
}

#[test]
fn a_blocked_prompt_is_a_refusal_that_names_the_reason() {
    let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": []},
        "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7}, "modelVersion": "m"});
    let refusal = json!({"refusal": "The provider blocked the prompt: `PROHIBITED_CONTENT`"});
    let parts = whole(&blocked);
    assert_eq!(parts[1..3], [refusal, json!({"finish": "Filtered"})]);
    assert_eq!(parts[3]["usage"]["prompt"], 7);
    let told = tell(stream(std::slice::from_ref(&blocked)).as_bytes(), 64);
    assert!(told.finished && told.parts == parts);
    let both = Decoder::expecting(2).whole(blocked.to_string().as_bytes()).expect("an answer");
    let ends =
        both.parts.iter().filter(|part| matches!(part.what, What::Finish { .. })).map(|part| part.choice);
    assert_eq!(ends.collect::<Vec<_>>(), [0, 1], "every choice that was asked for is refused");
    let rated = json!({"promptFeedback": {"safetyRatings": []}, "candidates": [{"finishReason": "STOP"}]});
    assert_eq!(whole(&rated).last(), Some(&json!({"finish": "Stop"})));
}

#[test]
fn an_answer_with_nothing_in_it_is_an_error_and_what_is_no_answer_unreadable() {
    let empty = br#"{"usageMetadata":{"promptTokenCount":9,"totalTokenCount":9},"modelVersion":"m"}"#;
    let decoded = Decoder::default().whole(empty).expect("an answer");
    assert_eq!(decoded.error.and_then(|error| error.status), Some(502));
    assert!(decoded.parts.iter().any(|part| matches!(part.what, What::Usage(_))));
    for body in ["", "x", "{}", "[]", "5", "null", "\"x\"", "[{}]", "[5]"] {
        assert!(Decoder::default().whole(body.as_bytes()).is_err(), "{body}");
    }
    assert!(Decoder::default().whole(&[0xff, 0xfe]).is_err());
}

#[test]
fn several_candidates_are_several_choices() {
    let chunk = |index: u64, text: &str, reason: Option<&str>| json!({"candidates": [{"index": index, "content": {"parts": [{"text": text}]}, "finishReason": reason}]});
    let told = tell(
        stream(&[
            chunk(0, "a", None),
            chunk(1, "b", Some("STOP")),
            chunk(0, "c", Some("MAX_TOKENS")),
            chunk(0, "late", Some("STOP")),
        ])
        .as_bytes(),
        64,
    );
    assert_eq!(
        told.parts[1..],
        [
            json!({"text": "a"}),
            json!({"choice": 1, "says": {"text": "b"}}),
            json!({"choice": 1, "says": {"finish": "Stop"}}),
            json!({"text": "c"}),
            json!({"finish": "Length"}),
        ]
    );
}

#[test]
fn usage_of_the_prompt_alone_waits_for_the_end() {
    let usage = |usage: Value| json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}], "usageMetadata": usage});
    let told = tell(
        stream(&[
            usage(json!({"promptTokenCount": 145, "totalTokenCount": 145})),
            json!({"candidates": [{"finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 85, "candidatesTokenCount": 14, "totalTokenCount": 99}}),
        ])
        .as_bytes(),
        64,
    );
    assert_eq!((told.figures.prompt.count(), told.figures.total.count()), (Some(85), Some(99)));
    let behind = tell(
        stream(&[finish("SAFETY"), json!({"usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}})])
            .as_bytes(),
        64,
    );
    assert_eq!(behind.figures.prompt.count(), Some(9), "usage may come behind the end");
}

#[test]
fn an_error_in_a_stream_is_the_providers() {
    let error =
        json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
    for broken in [error.clone(), json!([error])] {
        let mut decoder = Decoder::default();
        let event = Event { name: "message".into(), data: broken.to_string() };
        let Decoded { parts, error, unreadable } = decoder.event(&event);
        let error = error.expect("an error");
        assert_eq!((error.status, error.kind.as_deref()), (Some(503), Some("UNAVAILABLE")));
        assert!(parts.is_empty() && !unreadable);
    }
    let named = Decoder::default().event(&Event {
        name: "message".into(),
        data: json!({"error": {"code": 8, "message": "m", "status": "RESOURCE_EXHAUSTED"}}).to_string(),
    });
    assert_eq!(named.error.and_then(|error| error.status), Some(429));
}

#[test]
fn a_surprise_in_one_part_hides_nothing_of_the_others() {
    let odd = json!({"candidates": [{"content": {"parts": [{"text": 5}, {"text": "b"}, 7]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}});
    let told = tell(stream(&[odd]).as_bytes(), 64);
    assert_eq!((told.text.as_str(), told.unreadable, told.finished), ("b", 1, true));
    assert_eq!(told.figures.total.count(), Some(2));
    let lost = json!({"candidates": {"x": 1}, "usageMetadata": {"candidatesTokenCount": 4}});
    let told = tell(stream(&[lost]).as_bytes(), 64);
    assert_eq!((told.unreadable, told.figures.completion.count()), (1, Some(4)));
}
