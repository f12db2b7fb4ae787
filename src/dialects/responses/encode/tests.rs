//! What a client sees, held against the rules by which OpenAI's own clients read a stream.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Encoder, following::follow};
use crate::{
    catalogue::{Capabilities, Quirks},
    dialects::{
        Asked, Call, ClientHeaders, Encoder as _,
        responses::{
            read_request,
            seal::{Kept, open},
        },
        testing::{asked, events, golden, pretty},
    },
    domain::ModelName,
    wire::{
        Conversation, Endpoint, Envelope, ErrorObject, Figure, Figures, Finish, Part, What,
        conversation::{Content, Thinking},
        read_request as read_view,
    },
};

fn encoder(asked: &Asked) -> Encoder {
    let model = ModelName::parse("up").expect("a name");
    Encoder::new(&Call {
        asked,
        quirks: &Quirks::default(),
        capabilities: &Capabilities::default(),
        model: &model,
        output_limit: None,
        model_limit: None,
        ask_usage: true,
        request_id: "req_1",
        created: 1_700_000_000,
    })
}

fn plain() -> Asked {
    asked(Endpoint::Responses, &json!({ "model": "m", "input": "x" }))
}

fn stream(asked: &Asked, parts: &[What]) -> String {
    let mut encoder = encoder(asked);
    let mut out = Vec::new();
    for what in parts {
        encoder.part(Part::first(what.clone()), &mut out);
    }
    encoder.end(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn whole(asked: &Asked, parts: &[What]) -> Value {
    let body = encoder(asked).whole(parts.iter().cloned().map(Part::first).collect());
    serde_json::from_slice(&body).expect("JSON")
}

fn call(index: u32, id: &str) -> What {
    What::ToolCall { index, id: id.into(), name: "f".into(), signature: None }
}

fn arguments(index: u32, json: &str) -> What {
    What::Arguments { index, json: json.into() }
}

fn thinking(text: &str, signature: Option<&str>) -> What {
    What::Thinking(Thinking::Open { text: text.into(), signature: signature.map(str::to_owned) })
}

fn finish(reason: Finish) -> What {
    What::Finish { reason, stop_sequence: None }
}

fn start() -> What {
    What::Start { id: Some("x".into()), model: Some("up-2026".into()) }
}

fn kinds(response: &Value) -> Vec<&str> {
    response["output"].as_array().expect("items").iter().filter_map(|item| item["type"].as_str()).collect()
}

fn kept(item: &Value) -> Vec<Kept> {
    open(item["encrypted_content"].as_str().expect("sealed")).expect("ours")
}

fn full() -> Vec<What> {
    let figures = Figures {
        prompt: Figure::Count(100),
        completion: Figure::Count(40),
        cache_read: Figure::Count(30),
        cache_write: Figure::Count(5),
        cache_write_1h: Figure::Count(2),
        reasoning: Figure::Count(15),
        ..Figures::default()
    };
    vec![
        start(),
        What::Usage(Figures { prompt: Figure::Count(100), ..Figures::default() }),
        What::Thought("I look ".into()),
        What::Thought("it up.".into()),
        thinking("I look it up.", Some("sig-1")),
        What::Thinking(Thinking::Sealed { data: "opaque".into() }),
        What::Text("It is ".into()),
        What::Citation { url: "https://e.com/a".into(), title: Some("A".into()) },
        What::Text("größer.".into()),
        What::Citation { url: "https://e.com/b".into(), title: None },
        What::Refusal("Not that.".into()),
        call(0, "call_a"),
        arguments(0, "{\"a\":"),
        call(1, "call_b"),
        arguments(1, "{}"),
        arguments(0, "1}"),
        What::ServiceTier("default".into()),
        What::Usage(figures),
        finish(Finish::ToolCalls),
    ]
}

fn full_request() -> Asked {
    asked(
        Endpoint::Responses,
        &json!({
            "model": "m", "input": "x", "instructions": "Be\nbrief.", "max_output_tokens": 500, "temperature": 0.5,
            "tools": [{ "type": "function", "name": "f", "parameters": { "type": "object" }, "strict": true }],
            "tool_choice": "required", "parallel_tool_calls": false, "metadata": { "k": "v" }, "user": "u",
            "text": { "format": { "type": "json_object" }, "verbosity": "low" }, "reasoning": { "effort": "low" },
        }),
    )
}

#[test]
fn a_full_answer_is_told_alike_whole_and_as_a_stream() {
    let request = full_request();
    let told = stream(&request, &full());
    let end = follow(&told);
    assert_eq!(whole(&request, &full()), end);
    assert_eq!(kinds(&end), ["reasoning", "message", "function_call", "function_call"]);
    golden("responses/answer_stream.txt", &told);
    golden("responses/answer_whole.json", &pretty(&end));
}

#[test]
fn a_response_repeats_the_settings_of_its_request() {
    let end = whole(&full_request(), &[start()]);
    for (name, value) in [
        ("instructions", json!("Be\nbrief.")),
        ("max_output_tokens", json!(500)),
        ("temperature", json!(0.5)),
        ("top_p", json!(1.0)),
        ("tool_choice", json!("required")),
        ("parallel_tool_calls", json!(false)),
        ("metadata", json!({ "k": "v" })),
        ("text", json!({ "format": { "type": "json_object" }, "verbosity": "low" })),
        ("reasoning", json!({ "effort": "low", "summary": null })),
        ("store", json!(false)),
        ("previous_response_id", Value::Null),
        ("truncation", json!("disabled")),
        ("model", json!("up-2026")),
        ("created_at", json!(1_700_000_000)),
    ] {
        assert_eq!(end[name], value, "{name}");
    }
    let bare = whole(&plain(), &[]);
    assert_eq!(
        (&bare["tools"], &bare["tool_choice"], &bare["metadata"]),
        (&json!([]), &json!("auto"), &json!({}))
    );
    assert_eq!((&bare["text"], &bare["model"]), (&json!({ "format": { "type": "text" } }), &json!("up")));
}

#[test]
fn settings_stay_in_their_order_and_on_one_line() {
    let body = "{\"model\":\"m\",\"input\":\"x\",\"tools\":[\n  {\"type\":\"function\", \"name\":\"f\",\r\n \"parameters\":{\"z\":1, \"a\": 2}}\n]}";
    let envelope = Envelope::parse(body.into(), 64).expect("an envelope");
    let view = read_view(Endpoint::Responses, &envelope).expect("a request");
    let request = Asked::new(Endpoint::Responses, envelope, view, ClientHeaders::default());
    let told = stream(&request, &[start()]);
    assert!(told.contains(r#""tools":[{"type":"function","name":"f","parameters":{"z":1,"a":2}}]"#));
    follow(&told);
}

#[test]
fn usage_has_all_members_that_clients_expect() {
    let end = whole(&plain(), &full());
    assert_eq!(
        end["usage"],
        json!({
            "input_tokens": 100, "input_tokens_details": { "cached_tokens": 30, "cache_write_tokens": 7 },
            "output_tokens": 40, "output_tokens_details": { "reasoning_tokens": 15 }, "total_tokens": 140,
        })
    );
    assert_eq!(whole(&plain(), &[start()])["usage"], Value::Null);
}

#[test]
fn an_answer_that_was_cut_short_is_incomplete() {
    for (reason, status, why, item) in [
        (Finish::Length, "incomplete", json!({ "reason": "max_output_tokens" }), "incomplete"),
        (Finish::Filtered, "incomplete", json!({ "reason": "content_filter" }), "incomplete"),
        (Finish::Stop, "completed", Value::Null, "completed"),
        (Finish::StopSequence, "completed", Value::Null, "completed"),
        (Finish::ToolCalls, "completed", Value::Null, "completed"),
    ] {
        let parts = [start(), call(0, "a"), What::Text("Hi".into()), finish(reason)];
        let end = follow(&stream(&plain(), &parts));
        assert_eq!((&end["status"], &end["incomplete_details"]), (&json!(status), &why));
        assert_eq!(
            (&end["output"][0]["status"], &end["output"][1]["status"]),
            (&json!("completed"), &json!(item))
        );
    }
}

#[test]
fn signatures_travel_sealed_in_reasoning_items() {
    let end = follow(&stream(
        &plain(),
        &[
            start(),
            What::Thought("unsigned".into()),
            What::ToolCall { index: 0, id: "c".into(), name: "f".into(), signature: Some("sig-c".into()) },
            What::ToolCall { index: 1, id: "c".into(), name: "g".into(), signature: Some("sig-d".into()) },
            What::Text("Done".into()),
            What::TextSignature("sig-t".into()),
            finish(Finish::ToolCalls),
        ],
    ));
    assert_eq!(
        kinds(&end),
        ["reasoning", "function_call", "reasoning", "function_call", "message", "reasoning"]
    );
    let output = &end["output"];
    assert!(kept(&output[0]) == [Kept::Call { id: "c".into(), signature: "sig-c".into() }]);
    assert_eq!(output[0]["summary"], json!([{ "type": "summary_text", "text": "unsigned" }]));
    assert_eq!(output[3]["call_id"], "c_2", "two calls of one id are told apart");
    assert!(kept(&output[2]) == [Kept::Call { id: "c_2".into(), signature: "sig-d".into() }]);
    assert!(kept(&output[5]) == [Kept::Text { signature: "sig-t".into() }]);
}

#[test]
fn thoughts_without_a_signature_are_sealed_beside_signed_ones_only() {
    let unsigned = whole(&plain(), &[What::Thought("a".into()), What::Text("x".into())]);
    assert!(kept(&unsigned["output"][0]).is_empty());
    let mixed = [What::Thought("a".into()), thinking("a", Some("s")), What::Thought("b".into())];
    let mixed = whole(&plain(), &mixed);
    assert!(
        kept(&mixed["output"][0])
            == [
                Kept::Thinking { text: "a".into(), signature: Some("s".into()) },
                Kept::Thinking { text: "b".into(), signature: None },
            ]
    );
    let nothing = whole(&plain(), &[thinking("", None), What::Text("x".into())]);
    assert_eq!(kinds(&nothing), ["message"]);
    let untold = follow(&stream(&plain(), &[thinking("whole", Some("s"))]));
    assert_eq!(untold["output"][0]["summary"][0]["text"], "whole");
}

#[test]
fn citations_wait_for_a_text() {
    let cite = || What::Citation { url: "https://e.com".into(), title: None };
    let end = follow(&stream(
        &plain(),
        &[start(), cite(), What::Refusal("no".into()), What::Text("é!".into()), cite()],
    ));
    let content = &end["output"][0]["content"];
    assert_eq!(content[0], json!({ "type": "refusal", "refusal": "no" }));
    assert_eq!(content[1]["annotations"][0]["end_index"], 0);
    assert_eq!(content[1]["annotations"][1]["end_index"], 2);
    let alone = follow(&stream(&plain(), &[cite()]));
    assert_eq!(alone["output"][0]["content"][0]["annotations"][0]["title"], "https://e.com");
}

#[test]
fn an_error_is_one_that_clients_raise() {
    let mut encoder = encoder(&plain());
    let mut out = Vec::new();
    encoder.part(Part::first(start()), &mut out);
    let already = out.len();
    encoder.error(&ErrorObject::new("server_error", "upstream_error", "it broke off"), &mut out);
    let read = events(&out[already..], usize::MAX);
    assert_eq!(read[0].name, "error");
    assert_eq!(
        serde_json::from_str::<Value>(&read[0].data).expect("JSON"),
        json!({
            "type": "error", "code": "upstream_error", "message": "it broke off", "param": null, "sequence_number": 2,
            "error": { "message": "it broke off", "type": "server_error", "param": null, "code": "upstream_error" },
        })
    );
}

#[test]
fn other_choices_are_not_told() {
    let mut encoder = encoder(&plain());
    let parts = vec![
        Part::first(What::Text("a".into())),
        Part { choice: 1, what: What::Text("b".into()) },
        Part { choice: 1, what: finish(Finish::Length) },
    ];
    let end: Value = serde_json::from_slice(&encoder.whole(parts)).expect("JSON");
    assert_eq!(end["output"][0]["content"][0]["text"], "a");
    assert_eq!(end["status"], "completed");
}

#[test]
fn debug_shows_no_content() {
    let mut encoder = encoder(&asked(
        Endpoint::Responses,
        &json!({ "model": "m", "input": "x", "instructions": "canary-7" }),
    ));
    encoder.part(Part::first(What::Text("canary-7".into())), &mut Vec::new());
    assert!(!format!("{encoder:?}").contains("canary-7"));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\\n ]{0,6}"
}

fn part() -> impl Strategy<Value = What> {
    let signature = || proptest::option::of(text());
    prop_oneof![
        Just(start()),
        text().prop_map(What::Text),
        text().prop_map(What::Text),
        text().prop_map(What::Thought),
        (text(), signature())
            .prop_map(|(text, signature)| What::Thinking(Thinking::Open { text, signature })),
        text().prop_map(|data| What::Thinking(Thinking::Sealed { data })),
        text().prop_map(What::Refusal),
        (0..3_u32, "(a|b|a_2)", signature()).prop_map(|(index, id, signature)| What::ToolCall {
            index,
            id,
            name: "f".into(),
            signature
        }),
        (0..4_u32, text()).prop_map(|(index, json)| What::Arguments { index, json }),
        text().prop_map(What::TextSignature),
        (text(), proptest::option::of(text())).prop_map(|(url, title)| What::Citation { url, title }),
        proptest::sample::select(&[Finish::Stop, Finish::Length, Finish::ToolCalls, Finish::Filtered][..])
            .prop_map(finish),
        any::<u64>().prop_map(|n| What::Usage(Figures {
            prompt: Figure::Count(n),
            completion: Figure::Count(n),
            ..Figures::default()
        })),
        text().prop_map(What::ServiceTier),
    ]
}

/// What a stateless client makes of an answer: the output as it came, and a result for every call.
fn next_turn(response: &Value) -> Conversation {
    let mut input = response["output"].as_array().expect("items").clone();
    for item in input.clone().iter().filter(|item| item["type"] == "function_call") {
        input.push(json!({ "type": "function_call_output", "call_id": item["call_id"], "output": "4" }));
    }
    let asked = asked(Endpoint::Responses, &json!({ "model": "m", "input": input }));
    read_request(&asked.envelope, &asked.view).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_a_client_sends_back_is_what_the_model_said() {
    let mut parts = full();
    parts.insert(
        0,
        What::ToolCall { index: 2, id: "call_c".into(), name: "f".into(), signature: Some("sig-c".into()) },
    );
    parts.push(What::TextSignature("sig-t".into()));
    let conversation = next_turn(&whole(&full_request(), &parts));
    let turn = conversation.turns.first().expect("the model's");
    let said: Vec<String> = turn
        .blocks
        .iter()
        .map(|block| match &block.content {
            Content::Thinking(Thinking::Open { text, signature }) => format!("thinking {text} {signature:?}"),
            Content::Thinking(Thinking::Sealed { data }) => format!("sealed {data}"),
            Content::Text(text) => format!("text {text}"),
            Content::Refusal(text) => format!("refusal {text}"),
            Content::TextSignature(signature) => format!("text signature {signature}"),
            Content::ToolCall(call) => format!("call {} {} {:?}", call.id, call.arguments, call.signature),
            _ => "something else".to_owned(),
        })
        .collect();
    assert_eq!(
        said,
        [
            "call call_c  Some(\"sig-c\")",
            "thinking I look it up. Some(\"sig-1\")",
            "sealed opaque",
            "text It is größer.",
            "refusal Not that.",
            "call call_a {\"a\":1} None",
            "call call_b {} None",
            "text signature sig-t",
        ]
    );
    assert_eq!(conversation.turns.len(), 2);
    assert!(conversation.hints.is_empty());
}

proptest! {
    #[test]
    fn any_answer_can_be_sent_back(parts in proptest::collection::vec(part(), 0..24)) {
        let conversation = next_turn(&whole(&plain(), &parts));
        let of = |wanted: fn(&Content) -> usize| -> usize {
            conversation.turns.iter().flat_map(|turn| &turn.blocks).map(|block| wanted(&block.content)).sum()
        };
        let given = |wanted: fn(&What) -> bool| parts.iter().filter(|what| wanted(what)).count();
        prop_assert_eq!(of(|content| usize::from(matches!(content, Content::TextSignature(_)))), given(|what| matches!(what, What::TextSignature(_))));
        prop_assert_eq!(
            of(|content| usize::from(matches!(content, Content::ToolCall(call) if call.signature.is_some()))),
            given(|what| matches!(what, What::ToolCall { signature: Some(_), .. }))
        );
        prop_assert_eq!(
            of(|content| usize::from(matches!(content, Content::Thinking(Thinking::Open { signature: Some(_), .. })))),
            given(|what| matches!(what, What::Thinking(Thinking::Open { signature: Some(_), .. })))
        );
        prop_assert_eq!(
            of(|content| usize::from(matches!(content, Content::Thinking(Thinking::Sealed { .. })))),
            given(|what| matches!(what, What::Thinking(Thinking::Sealed { .. })))
        );
    }

    #[test]
    fn any_order_of_parts_gives_a_stream_that_clients_can_follow(parts in proptest::collection::vec(part(), 0..24)) {
        let request = plain();
        let told = follow(&stream(&request, &parts));
        prop_assert_eq!(whole(&request, &parts), told);
    }

    #[test]
    fn nothing_that_was_said_is_lost(parts in proptest::collection::vec(part(), 0..24)) {
        let end = whole(&plain(), &parts);
        let of = |kind: &str, list: &str, text: &str| -> String {
            let output = end["output"].as_array().expect("items").iter().filter(|item| item["type"] == kind);
            output.flat_map(|item| item[list].as_array().cloned().unwrap_or_default())
                .filter_map(|part| part[text].as_str().map(str::to_owned)).collect()
        };
        let said = |pick: fn(&What) -> Option<&str>| -> String { parts.iter().filter_map(pick).collect() };
        prop_assert_eq!(of("message", "content", "text"), said(|what| match what { What::Text(text) => Some(text), _ => None }));
        prop_assert_eq!(of("message", "content", "refusal"), said(|what| match what { What::Refusal(text) => Some(text), _ => None }));
        let cited = end["output"].as_array().expect("items").iter().flat_map(|item| item["content"].as_array().cloned().unwrap_or_default())
            .flat_map(|part| part["annotations"].as_array().cloned().unwrap_or_default()).count();
        prop_assert_eq!(cited, parts.iter().filter(|what| matches!(what, What::Citation { .. })).count());
        let calls = kinds(&end).iter().filter(|kind| **kind == "function_call").count();
        prop_assert_eq!(calls, parts.iter().filter(|what| matches!(what, What::ToolCall { .. })).count());
    }
}
