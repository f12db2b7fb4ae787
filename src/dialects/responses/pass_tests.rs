//! What goes to providers that speak `/responses`, and what is read of what comes back.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{pass, read_answer, read_event, seal::seal};
use crate::{
    catalogue::{Capabilities, Quirks},
    dialects::{Call, DialectError, EventFacts, StreamProgress, UpstreamRequest, testing::asked},
    domain::ModelName,
    wire::{Endpoint, Event, Figure},
};

fn send(output_limit: Option<u64>, body: &Value) -> Result<UpstreamRequest, DialectError> {
    let model = ModelName::parse("up").expect("a name");
    pass(&Call {
        asked: &asked(Endpoint::Responses, body),
        quirks: &Quirks { responses: true, ..Quirks::default() },
        capabilities: &Capabilities::default(),
        model: &model,
        output_limit,
        model_limit: None,
        ask_usage: true,
        request_id: "req_1",
        created: 0,
    })
}

fn sent(output_limit: Option<u64>, body: &Value) -> Value {
    let request = send(output_limit, body).expect("it passes");
    assert_eq!(request.path, "/responses");
    assert!(request.translation.is_none() && !request.usage_injected && request.headers.is_empty());
    serde_json::from_slice(&request.body).expect("JSON")
}

#[test]
fn only_what_must_change_is_changed() {
    let body = json!({
        "model": "openai/up", "models": ["a/b"], "input": [{ "role": "user", "content": "hi" }], "x_new": { "a": 1.5 },
        "previous_response_id": "resp_1", "store": true, "tools": [{ "type": "web_search" }], "background": false,
    });
    let mut wanted = body.clone();
    wanted["model"] = json!("up");
    wanted.as_object_mut().expect("an object").remove("models");
    assert_eq!(sent(None, &body), wanted);
    wanted["max_output_tokens"] = json!(9);
    assert_eq!(sent(Some(9), &body), wanted);
    let same = json!({ "model": "up", "input": "x", "max_output_tokens": 50 });
    assert_eq!(sent(None, &same), same);
    assert_eq!(sent(Some(9), &same)["max_output_tokens"], 9);
}

#[test]
fn an_answer_in_the_background_is_refused() {
    let error = send(None, &json!({ "model": "up", "input": "x", "background": true })).expect_err("refused");
    assert_eq!(error.field(), Some("background"));
    assert!(send(None, &json!({ "model": "up", "input": "x", "background": null })).is_ok());
}

#[test]
fn reasoning_that_this_gateway_sealed_stays_here() {
    let ours = json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal(&[]) });
    let theirs = json!({ "type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA" });
    let said = json!({ "role": "user", "content": "what is `ks1.`?" });
    let body = json!({ "model": "up", "input": [said, ours, theirs] });
    assert_eq!(sent(None, &body)["input"], json!([said, theirs]));
    for untouched in [json!("ks1."), json!([said, theirs]), json!([])] {
        let body = json!({ "model": "up", "input": untouched });
        assert_eq!(sent(None, &body), body);
    }
}

fn read(name: &str, data: &str) -> EventFacts {
    read_event(&mut StreamProgress::default(), &Event { name: name.into(), data: data.into() })
}

fn unnamed(data: &str) -> EventFacts {
    read("message", data)
}

#[test]
fn lifecycle_events_are_not_meaningful() {
    for data in [
        r#"{"type":"response.created","response":{"id":"r","status":"in_progress","output":[],"usage":null}}"#,
        r#"{"type":"response.in_progress","response":{"service_tier":"auto"}}"#,
        r#"{"type":"response.queued","response":{}}"#,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[],"role":"assistant"}}"#,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.content_part.added","part":{"type":"output_text","text":""}}"#,
        r#"{"type":"response.output_text.delta","delta":""}"#,
        r#"{"type":"response.output_text.delta","delta":{"text":"x"}}"#,
        r#"{"type":"response.web_search_call.searching","output_index":0}"#,
        r#"{"type":"keepalive"}"#,
        r#"{"type":7}"#,
        "{}",
    ] {
        let facts = unnamed(data);
        assert!(!facts.meaningful && !facts.done && !facts.unreadable && facts.error.is_none(), "{data}");
    }
}

#[test]
fn whatever_an_answer_is_made_of_is_meaningful_and_measured() {
    for (kind, members, bytes) in [
        ("output_text.delta", r#""delta":"h\u00e9""#, 3),
        ("refusal.delta", r#""delta":"no""#, 2),
        ("function_call_arguments.delta", r#""delta":"{\"a""#, 3),
        ("custom_tool_call_input.delta", r#""delta":"ab""#, 2),
        ("reasoning_summary_text.delta", r#""delta":"ab""#, 2),
        ("reasoning_text.delta", r#""delta":"ab""#, 2),
        ("code_interpreter_call_code.delta", r#""delta":"ab""#, 2),
        ("shell_call_command.delta", r#""delta":"ls""#, 2),
        ("audio.transcript.delta", r#""delta":"ab""#, 2),
        ("audio.delta", r#""delta":"AAAA""#, 0),
        ("output_text.done", r#""text":"abc""#, 0),
        ("function_call_arguments.done", r#""arguments":"{}""#, 0),
        ("output_text.annotation.added", r#""annotation":{"type":"url_citation","url":"u"}"#, 0),
        ("image_generation_call.partial_image", r#""partial_image_b64":"AAAA""#, 0),
        ("output_item.added", r#""item":{"type":"function_call","name":"f","arguments":""}"#, 0),
        ("output_item.added", r#""item":{"type":"web_search_call"}"#, 0),
        (
            "output_item.done",
            r#""item":{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}"#,
            3,
        ),
        (
            "output_item.done",
            r#""item":{"type":"message","content":[{"type":"output_text","text":"ab"}]}"#,
            2,
        ),
        (
            "output_item.done",
            r#""item":{"type":"reasoning","summary":[{"type":"summary_text","text":"ab"}]}"#,
            2,
        ),
        ("output_item.done", r#""item":{"type":"reasoning","summary":[],"encrypted_content":"gAAA"}"#, 0),
        (
            "output_item.done",
            r#""item":{"type":"apply_patch_call","operation":{"type":"update_file","path":"p","diff":"d"}}"#,
            2,
        ),
        ("completed", r#""response":{"output":[]}"#, 0),
    ] {
        let facts = unnamed(&format!("{{\"type\":\"response.{kind}\",{members}}}"));
        assert!(facts.meaningful, "{kind} {members}");
        assert_eq!(facts.text_bytes, bytes, "{kind} {members}");
    }
}

#[test]
fn text_counts_once_whether_it_comes_in_pieces_or_whole() {
    let mut progress = StreamProgress::default();
    let mut bytes = 0;
    for data in [
        r#"{"type":"response.output_text.delta","output_index":0,"delta":"hel"}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{"}"#,
        r#"{"type":"response.output_text.delta","output_index":0,"delta":"lo"}"#,
        r#"{"type":"response.output_text.done","output_index":0,"text":"hello"}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"hello"}]}}"#,
        r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","name":"f","arguments":"{}"}}"#,
        r#"{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","name":"f","arguments":"{}"}}"#,
    ] {
        bytes += read_event(&mut progress, &Event { name: "message".into(), data: data.into() }).text_bytes;
    }
    assert_eq!(bytes, 5 + 3 + 3);
}

#[test]
fn the_last_event_ends_the_stream_with_usage_tier_and_model() {
    for kind in ["response.completed", "response.incomplete"] {
        let mut progress = StreamProgress::default();
        let mut read = |data: String| read_event(&mut progress, &Event { name: kind.into(), data });
        let created = read(
            r#"{"type":"response.created","response":{"model":"m","service_tier":"auto","usage":null}}"#
                .into(),
        );
        assert_eq!(
            (created.model.as_deref(), created.service_tier, created.figures),
            (Some("m"), None, None)
        );
        let end = read(format!(
            "{{\"type\":\"{kind}\",\"response\":{{\"model\":\"m\",\"service_tier\":\"flex\",\
             \"usage\":{{\"input_tokens\":3,\"output_tokens\":2}}}}}}"
        ));
        assert!(end.done && end.meaningful && end.error.is_none());
        assert_eq!((end.service_tier.as_deref(), end.model), (Some("flex"), None));
        assert_eq!(
            end.figures.map(|figures| (figures.prompt, figures.completion)),
            Some((Figure::Count(3), Figure::Count(2)))
        );
        assert!(progress.finished());
    }
}

#[test]
fn events_without_a_type_go_by_their_name() {
    let facts = read("response.output_text.delta", r#"{"delta":"ab"}"#);
    assert!(facts.meaningful && facts.text_bytes == 2);
}

#[test]
fn a_stream_that_only_says_done_is_not_complete() {
    let mut progress = StreamProgress::default();
    let mut read =
        |data: &str| read_event(&mut progress, &Event { name: "message".into(), data: data.into() });
    read(r#"{"type":"response.output_text.delta","delta":"ab"}"#);
    assert!(read("[DONE]").done);
    assert!(!progress.finished());
}

#[test]
fn errors_inside_a_stream_are_seen_in_every_shape() {
    for (name, data, message, code, status) in [
        (
            "error",
            r#"{"type":"error","code":"server_error","message":"m","param":null,"sequence_number":3}"#,
            "m",
            Some("server_error"),
            None,
        ),
        (
            "error",
            r#"{"type":"error","error":{"type":"t","code":"c","message":"m","param":null}}"#,
            "m",
            Some("c"),
            None,
        ),
        ("message", r#"{"type":"error","error":{"message":"m"}}"#, "m", None, None),
        ("message", r#"{"error":{"message":"m","code":502}}"#, "m", Some("502"), Some(502)),
        ("error", r#"{"error":"m"}"#, "m", None, None),
        (
            "response.failed",
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
            "m",
            Some("rate_limit_exceeded"),
            None,
        ),
        (
            "response.failed",
            r#"{"type":"response.failed","response":{"error":{"code":"invalid_prompt","message":"m"}}}"#,
            "m",
            Some("invalid_prompt"),
            Some(400),
        ),
        (
            "response.failed",
            r#"{"type":"response.failed","response":{"error":{"code":"image_too_large","message":"m"}}}"#,
            "m",
            Some("image_too_large"),
            Some(400),
        ),
    ] {
        let error = read(name, data).error.expect(data);
        assert_eq!(
            (error.message.as_str(), error.code.as_deref(), error.status),
            (message, code, status),
            "{data}"
        );
    }
    let silent = read(
        "response.failed",
        r#"{"type":"response.failed","response":{"error":null,"usage":{"input_tokens":3}}}"#,
    );
    assert!(silent.error.is_some() && silent.figures.is_some(), "what it cost is told with it");
    assert!(read("error", "Overloaded").error.is_some());
    assert!(unnamed(r#"{"type":"response.created","error":null,"response":{"error":null}}"#).error.is_none());
    let quota = read("error", r#"{"type":"error","error":{"code":"insufficient_quota","message":"m"}}"#);
    assert!(quota.error.is_some_and(|error| error.billing));
}

#[test]
fn what_cannot_be_read_passes() {
    for data in ["", "{", "3", "[]", "not json"] {
        let facts = unnamed(data);
        assert!(facts.unreadable && !facts.meaningful && facts.error.is_none(), "{data}");
    }
    let odd = unnamed(
        r#"{"type":"response.completed","response":{"output":7,"usage":{"input_tokens":1},"model":[]}}"#,
    );
    assert!(odd.figures.is_some() && odd.done, "usage is read although the rest is not");
}

#[test]
fn answers_are_read_and_errors_in_them_are_errors() {
    let body =
        br#" {"object":"response","status":"incomplete","model":"m","service_tier":"default","error":null,
        "output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"de"}]},
            {"type":"message","content":[{"type":"output_text","text":"abc"}]}],
        "usage":{"input_tokens":1,"output_tokens":2}}"#;
    let facts = read_answer(body).expect("readable");
    assert_eq!(
        (facts.text_bytes, facts.figures.completion, facts.model.as_deref()),
        (5, Figure::Count(2), Some("m"))
    );
    for (error, code) in [
        (r#"{"error":{"message":"m","code":429}}"#, "429"),
        (r#"{"code":"c","error":"m"}"#, "c"),
        (r#"{"object":"error","message":"m","code":"c"}"#, "c"),
        (
            r#"{"status":"failed","output":[],"error":{"message":"m","code":"server_error"},"usage":{"input_tokens":1}}"#,
            "server_error",
        ),
    ] {
        let facts = read_answer(error.as_bytes()).expect("readable");
        let error = facts.error.expect("an error");
        assert_eq!((error.message.as_str(), error.code.as_deref()), ("m", Some(code)));
    }
    for unreadable in
        ["", "<html>", "[]", "3", "{}", "{\"output\":null}", "{\"output\":[]", "{\"output\":[]} x"]
    {
        assert!(read_answer(unreadable.as_bytes()).is_err(), "{unreadable}");
    }
}

proptest! {
    #[test]
    fn any_data_is_answered(
        name in "(error|response\\.(completed|failed|output_item\\.done)|message)",
        kind in proptest::sample::select(&["response.completed", "response.failed", "error", "response.output_item.done", "response.output_text.delta"][..]),
        value in "[\\[\\]{}\",:a0-9.-]{0,24}",
    ) {
        let _ = read(&name, &value);
        for member in ["response", "item", "delta", "error", "output_index"] {
            let _ = read(&name, &format!("{{\"type\":\"{kind}\",\"{member}\":{value}}}"));
        }
        let _ = read_answer(value.as_bytes());
        let _ = read_answer(format!("{{\"output\":{value}}}").as_bytes());
    }
}
