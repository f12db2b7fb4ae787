//! What clients of Anthropic's words hear.

pub(super) mod accumulate;
mod properties;

use serde_json::{Value, json};

use self::accumulate::accumulate;
use super::Encoder;
use crate::{
    catalogue::{DialectKind, Quirks, capabilities},
    dialects::{
        Call, Encoder as _,
        testing::{asked, events, golden, pretty},
    },
    domain::ModelName,
    wire::{
        Endpoint, ErrorObject, Figure, Figures, Finish, Part, What,
        conversation::{Content, Thinking, ToolCall},
    },
};

fn encoder_for(endpoint: Endpoint, quirks: &Quirks) -> Encoder {
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }] });
    let model = ModelName::parse("up-1").expect("a name");
    Encoder::new(&Call {
        asked: &asked(endpoint, &body),
        quirks,
        capabilities: capabilities(DialectKind::OpenAi, model.as_str()),
        model: &model,
        output_limit: None,
        model_limit: None,
        ask_usage: true,
        request_id: "req.1",
        created: 1_700_000_000,
    })
}

fn encoder() -> Encoder {
    encoder_for(Endpoint::Messages, &Quirks::default())
}

fn stream(parts: Vec<What>) -> String {
    let mut encoder = encoder();
    let mut out = Vec::new();
    for what in parts {
        encoder.part(Part::first(what), &mut out);
    }
    encoder.end(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn whole(parts: Vec<What>) -> Value {
    let body = encoder().whole(parts.into_iter().map(Part::first).collect());
    serde_json::from_slice(&body).expect("a message is JSON")
}

fn start() -> What {
    What::Start { id: Some("chatcmpl-7".into()), model: Some("up-1-0123".into()) }
}

fn call(index: u32, id: &str, name: &str) -> What {
    What::ToolCall { index, id: id.into(), name: name.into(), signature: None }
}

fn arguments(index: u32, json: &str) -> What {
    What::Arguments { index, json: json.into() }
}

fn finish(reason: Finish) -> What {
    What::Finish { reason, stop_sequence: None }
}

fn figures(prompt: u64, completion: u64) -> Figures {
    Figures { prompt: Figure::Count(prompt), completion: Figure::Count(completion), ..Figures::default() }
}

fn open(text: &str, signature: &str) -> What {
    What::Thinking(Thinking::Open { text: text.into(), signature: Some(signature.into()) })
}

/// An answer that has everything.
fn everything() -> Vec<What> {
    vec![
        start(),
        What::Usage(figures(120, 0)),
        What::Thought("Let me ".into()),
        What::Thought("see.".into()),
        open("Let me see.", "c2lnbmF0dXJl"),
        What::Thinking(Thinking::Sealed { data: "c2VhbGVk".into() }),
        What::Text("Hel".into()),
        What::Text(String::new()),
        What::Text("lo \"you\"\n".into()),
        What::Citation { url: "https://example.com".into(), title: Some("Example".into()) },
        What::TextSignature("dGV4dA==".into()),
        What::ToolCall {
            index: 0,
            id: "call_1".into(),
            name: "add".into(),
            signature: Some("Y2FsbA==".into()),
        },
        arguments(0, "{\"b\":2,"),
        call(1, "call.2", "find"),
        arguments(1, "{"),
        arguments(0, "\"a\":1}"),
        arguments(1, "}"),
        What::ServiceTier("default".into()),
        finish(Finish::ToolCalls),
        What::Usage(Figures {
            cache_read: Figure::Count(40),
            cache_write: Figure::Count(20),
            reasoning: Figure::Count(7),
            ..figures(120, 30)
        }),
    ]
}

#[test]
fn an_answer_that_has_everything_is_told_as_a_stream_and_whole() {
    let told = stream(everything());
    golden("messages/client-stream.txt", &told);
    let body = whole(everything());
    golden("messages/client-answer.json", &pretty(&body));
    assert_eq!(accumulate(&told), body);
}

#[test]
fn an_answer_of_nothing_is_a_message_all_the_same() {
    for parts in [vec![], vec![start()], vec![What::Text(String::new()), finish(Finish::Stop)]] {
        let told = stream(parts.clone());
        let message = accumulate(&told);
        assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &json!("end_turn")));
        assert_eq!(whole(parts), message);
    }
    assert_eq!(whole(vec![])["id"], "msg_req_1");
    assert_eq!(whole(vec![])["model"], "up-1");
}

#[test]
fn the_beginning_waits_for_something_to_say_and_tells_what_is_known() {
    let mut encoder = encoder();
    let mut out = Vec::new();
    encoder.part(Part::first(start()), &mut out);
    encoder.part(Part::first(What::Usage(figures(5, 1))), &mut out);
    assert!(out.is_empty());
    encoder.part(Part::first(What::Text("a".into())), &mut out);
    let told = String::from_utf8(out).expect("UTF-8");
    assert!(told.starts_with(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_chatcmpl-7\""
    ));
    assert!(told.contains("\"usage\":{\"input_tokens\":5,") && told.ends_with("\"text\":\"a\"}}\n\n"));
}

#[test]
fn blocks_of_one_kind_are_one_and_a_change_of_kind_closes_them() {
    let message = accumulate(&stream(vec![
        What::Thought("a".into()),
        What::Thought("b".into()),
        What::Text("c".into()),
        What::Text("d".into()),
        What::Thought("e".into()),
        What::Text("f".into()),
    ]));
    let thought = |text: &str| json!({ "type": "thinking", "thinking": text, "signature": "" });
    let said = |text: &str| json!({ "type": "text", "text": text });
    assert_eq!(message["content"], json!([thought("ab"), said("cd"), thought("e"), said("f")]));
}

#[test]
fn thoughts_are_told_once_and_keep_their_signature() {
    let thought =
        |text: &str, signature: &str| json!({ "type": "thinking", "thinking": text, "signature": signature });
    let cases = [
        (vec![open("abc", "s")], json!([thought("abc", "s")])),
        (vec![What::Thought("ab".into()), open("abc", "s")], json!([thought("abc", "s")])),
        (vec![open("", "s")], json!([thought("", "s")])),
        (vec![open("", "")], json!([])),
        (
            vec![What::Thought("a".into()), open("a", "s"), What::Thought("b".into()), open("b", "t")],
            json!([thought("a", "s"), thought("b", "t")]),
        ),
        (
            vec![What::Thought("a".into()), What::Text("x".into()), open("a", "s")],
            json!([thought("a", ""), { "type": "text", "text": "x" }, thought("", "s")]),
        ),
        (vec![What::Thought("abc".into()), open("z", "s")], json!([thought("abcz", "s")])),
        (
            vec![
                What::Thought("é".into()),
                open("éa", "s"),
                What::Thinking(Thinking::Sealed { data: "d".into() }),
            ],
            json!([thought("éa", "s"), { "type": "redacted_thinking", "data": "d" }]),
        ),
    ];
    for (parts, wanted) in cases {
        assert_eq!(accumulate(&stream(parts.clone()))["content"], wanted);
        assert_eq!(whole(parts)["content"], wanted);
    }
}

#[test]
fn calls_that_come_mixed_are_told_one_after_another() {
    let told = stream(vec![
        call(0, "a", "f"),
        call(1, "b", "g"),
        arguments(1, "{\"y\":"),
        arguments(0, "{\"x\":"),
        What::Text("meanwhile".into()),
        arguments(1, "2}"),
        arguments(0, "1}"),
        finish(Finish::Stop),
    ]);
    let message = accumulate(&told);
    let tool = |id: &str, name: &str, input: Value| json!({ "type": "tool_use", "id": id, "name": name, "input": input });
    let wanted = json!([tool("a", "f", json!({ "x": 1 })), tool("b", "g", json!({ "y": 2 })), { "type": "text", "text": "meanwhile" }]);
    assert_eq!((&message["content"], &message["stop_reason"]), (&wanted, &json!("tool_use")));
}

#[test]
fn a_call_is_told_as_it_comes_and_the_next_does_not_wait_for_the_end() {
    let mut encoder = encoder();
    let mut out = Vec::new();
    for (what, wanted) in [
        (
            call(0, "a", "f"),
            "\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}}\n\n",
        ),
        (arguments(0, " {\"s\":\"}"), "\"partial_json\":\"{\\\"s\\\":\\\"}\"}}\n\n"),
        (arguments(0, "\\\"\"}"), "\"partial_json\":\"\\\\\\\"\\\"}\"}}\n\n"),
        (
            call(1, "b", "g"),
            "\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"b\",\"name\":\"g\",\"input\":{}}}\n\n",
        ),
    ] {
        out.clear();
        encoder.part(Part::first(what), &mut out);
        let told = String::from_utf8(out.clone()).expect("UTF-8");
        assert!(told.ends_with(wanted), "{told}");
    }
}

#[test]
fn arguments_are_always_an_object() {
    let cases = [
        ("", json!({})),
        (" \n", json!({})),
        ("null", json!({})),
        ("\"\"", json!({})),
        ("{}", json!({})),
        (" {\"a\": [1, \"}\"]} ", json!({ "a": [1, "}"] })),
        ("{\"a\":1}{\"b\":2}", json!({ "a": 1 })),
        ("[1]", json!({ "_raw": "[1]" })),
        ("\"{}\"", json!({ "_raw": "\"{}\"" })),
        ("hello \"you\"", json!({ "_raw": "hello \"you\"" })),
        ("{\"a\":tru}", json!({ "_raw": "{\"a\":tru}" })),
        ("{\"a\":\"cut o", json!({ "_raw": "{\"a\":\"cut o" })),
    ];
    for (text, wanted) in cases {
        let parts = || vec![call(0, "a", "f"), arguments(0, text), finish(Finish::ToolCalls)];
        assert_eq!(whole(parts())["content"][0]["input"], wanted, "{text}");
        assert_eq!(accumulate(&stream(parts()))["content"][0]["input"], wanted, "{text}");
        let mut bytewise = vec![call(0, "a", "f")];
        bytewise.extend(text.chars().map(|c| arguments(0, &c.to_string())));
        assert_eq!(accumulate(&stream(bytewise))["content"][0]["input"], wanted, "{text}");
    }
}

#[test]
fn arguments_keep_the_models_bytes() {
    let parts = vec![call(0, "a", "f"), arguments(0, "{ \"z\": 1.0, \"a\":9007199254740993 }")];
    let body = encoder().whole(parts.into_iter().map(Part::first).collect());
    assert!(String::from_utf8_lossy(&body).contains("\"input\":{ \"z\": 1.0, \"a\":9007199254740993 }"));
}

#[test]
fn ids_fit_what_the_api_takes_back() {
    let id = |id: &str| whole(vec![call(0, id, "f")])["content"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(id("call_aB-9"), "call_aB-9");
    let odd = ["functions.f:0", "functions_f_0", "functions.f.0", "é", "", "a b"];
    for (at, first) in odd.iter().enumerate() {
        let fitting = id(first);
        assert!(
            !fitting.is_empty()
                && fitting.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        );
        assert_eq!(fitting, id(first), "the same every time");
        assert!(odd[..at].iter().all(|other| id(other) != fitting), "{first}");
    }
    let message = |id: &str| whole(vec![What::Start { id: Some(id.into()), model: None }])["id"].clone();
    assert_eq!((message("msg_01A"), message("gen/1")), (json!("msg_01A"), json!("msg_gen_1")));
}

#[test]
fn the_end_has_anthropics_reasons() {
    let stop = |sequence: Option<&str>| sequence.map(str::to_owned);
    let cases = [
        (vec![], Finish::Stop, None, "end_turn"),
        (vec![], Finish::Stop, stop(Some("END")), "stop_sequence"),
        (vec![], Finish::StopSequence, stop(Some("END")), "stop_sequence"),
        (vec![], Finish::StopSequence, None, "stop_sequence"),
        (vec![], Finish::Length, None, "max_tokens"),
        (vec![], Finish::ToolCalls, None, "end_turn"),
        (vec![], Finish::Filtered, None, "refusal"),
        (vec![call(0, "a", "f")], Finish::ToolCalls, None, "tool_use"),
        (vec![call(0, "a", "f")], Finish::Stop, None, "tool_use"),
        (vec![call(0, "a", "f")], Finish::Length, None, "max_tokens"),
        (vec![What::Refusal("No.".into())], Finish::Stop, None, "refusal"),
    ];
    for (mut parts, reason, stop_sequence, wanted) in cases {
        let sequence = stop_sequence.clone().filter(|_| wanted == "stop_sequence");
        parts.push(What::Finish { reason, stop_sequence });
        for message in [whole(parts.clone()), accumulate(&stream(parts))] {
            assert_eq!(message["stop_reason"], wanted);
            assert_eq!(message["stop_sequence"], json!(sequence));
            let details = (wanted == "refusal")
                .then(|| json!({ "type": "refusal", "category": null, "explanation": null }));
            assert_eq!(message.get("stop_details"), details.as_ref());
        }
    }
    let refusal = whole(vec![What::Text("Hm. ".into()), What::Refusal("No.".into())]);
    assert_eq!(refusal["content"], json!([{ "type": "text", "text": "Hm. No." }]));
}

#[test]
fn usage_is_in_disjoint_classes_and_sums_to_the_providers() {
    let count = Figure::Count;
    let cases = [
        (Figures::default(), json!([0, 0, 0, 0])),
        (figures(100, 7), json!([100, 0, 0, 7])),
        (
            Figures {
                cache_read: count(30),
                cache_write: count(20),
                cache_write_1h: count(10),
                ..figures(100, 7)
            },
            json!([40, 30, 30, 7]),
        ),
        (
            Figures { input_audio: count(10), output_audio: count(5), ..figures(100, 7) },
            json!([100, 0, 0, 7]),
        ),
        (Figures { cache_read: count(300), ..figures(100, 7) }, json!([0, 0, 100, 7])),
        (Figures { prompt: Figure::Impossible, ..figures(0, 7) }, json!([0, 0, 0, 7])),
    ];
    for (figures, wanted) in cases {
        let usage = whole(vec![What::Usage(figures)])["usage"].take();
        let of = |name: &str| usage[name].clone();
        let told = json!([
            of("input_tokens"),
            of("cache_creation_input_tokens"),
            of("cache_read_input_tokens"),
            of("output_tokens")
        ]);
        assert_eq!(told, wanted, "{figures:?}");
    }
    let hour = whole(vec![What::Usage(Figures { cache_write_1h: count(10), ..figures(100, 7) })]);
    let split = json!({ "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 10 });
    assert_eq!(hour["usage"]["cache_creation"], split);
    assert_eq!(whole(vec![])["usage"].get("cache_creation"), None);

    let apart = Quirks { reasoning_apart: true, ..Quirks::default() };
    let reported = Figures { reasoning: count(3), total: count(110), ..figures(100, 7) };
    let body = encoder_for(Endpoint::Messages, &apart).whole(vec![Part::first(What::Usage(reported))]);
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        (&body["usage"]["output_tokens"], &body["usage"]["output_tokens_details"]["thinking_tokens"]),
        (&json!(10), &json!(3))
    );
}

#[test]
fn a_count_of_tokens_is_told_as_one() {
    let reported = Figures { cache_read: Figure::Count(30), ..figures(100, 0) };
    let mut encoder = encoder_for(Endpoint::CountTokens, &Quirks::default());
    assert_eq!(encoder.whole(vec![Part::first(What::Usage(reported))]), "{\"input_tokens\":100}");
}

#[test]
fn what_a_client_sends_back_is_what_the_model_said() {
    let answer = whole(everything());
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "assistant", "content": answer["content"] }] });
    let asked = asked(Endpoint::Messages, &body);
    let read = asked.conversation().expect("a conversation");
    let said: Vec<String> =
        read.turns.iter().flat_map(|turn| &turn.blocks).map(|block| brief(&block.content)).collect();
    assert_eq!(
        said,
        [
            "thought Let me see. Some(\"c2lnbmF0dXJl\")",
            "sealed c2VhbGVk",
            "text Hello \"you\"\n",
            "signed dGV4dA==",
            "call call_1 add {\"a\":1,\"b\":2} Some(\"Y2FsbA==\")",
            "call call_2_2c460015 find {} None",
        ]
    );
}

fn brief(content: &Content) -> String {
    match content {
        Content::Text(text) => format!("text {text}"),
        Content::Thinking(Thinking::Open { text, signature }) => format!("thought {text} {signature:?}"),
        Content::Thinking(Thinking::Sealed { data }) => format!("sealed {data}"),
        Content::TextSignature(signature) => format!("signed {signature}"),
        Content::ToolCall(ToolCall { id, name, arguments, signature }) => {
            format!("call {id} {name} {arguments} {signature:?}")
        }
        _ => "something else".to_owned(),
    }
}

#[test]
fn of_several_answers_the_first_is_told() {
    let other = |what| Part { choice: 1, what };
    let parts = vec![
        Part::first(What::Text("a".into())),
        other(What::Text("b".into())),
        other(finish(Finish::Length)),
        other(What::Usage(figures(3, 4))),
        Part::first(finish(Finish::Stop)),
    ];
    let body: Value = serde_json::from_slice(&encoder().whole(parts)).expect("JSON");
    assert_eq!(body["content"], json!([{ "type": "text", "text": "a" }]));
    assert_eq!((&body["stop_reason"], &body["usage"]["output_tokens"]), (&json!("end_turn"), &json!(4)));
}

#[test]
fn a_source_is_cited_by_text_or_not_at_all() {
    let citation = || What::Citation { url: "https://example.com".into(), title: None };
    let cited = json!([{
        "type": "web_search_result_location", "url": "https://example.com", "title": null, "cited_text": "", "encrypted_index": ""
    }]);
    for parts in [vec![What::Text("a".into()), citation()], vec![citation(), What::Text("a".into())]] {
        let wanted = json!([{ "type": "text", "text": "a", "citations": cited }]);
        assert_eq!(accumulate(&stream(parts.clone()))["content"], wanted);
        assert_eq!(whole(parts)["content"], wanted);
    }
    assert_eq!(accumulate(&stream(vec![citation()]))["content"], json!([]));
}

#[test]
fn a_broken_stream_ends_with_an_error_and_nothing_more() {
    let error = |status: Option<u16>, kind: &str, code: Option<&str>| {
        let mut encoder = encoder();
        let mut out = Vec::new();
        encoder.part(Part::first(What::Text("a".into())), &mut out);
        out.clear();
        let error = ErrorObject {
            message: "m".into(),
            kind: kind.into(),
            param: None,
            code: code.map(str::to_owned),
            provider: None,
            provider_status: status,
        };
        encoder.error(&error, &mut out);
        let told = events(&out, usize::MAX);
        encoder.end(&mut out);
        encoder.part(Part::first(What::Text("b".into())), &mut out);
        encoder.error(&error, &mut out);
        assert_eq!(events(&out, usize::MAX), told, "nothing follows");
        assert_eq!((told.len(), told[0].name.as_str()), (1, "error"));
        let data: Value = serde_json::from_str(&told[0].data).expect("JSON");
        assert_eq!((&data["type"], &data["error"]["message"]), (&json!("error"), &json!("m")));
        data["error"]["type"].as_str().expect("a type").to_owned()
    };
    assert_eq!(error(None, "server_error", Some("upstream_error")), "api_error");
    assert_eq!(error(None, "server_error", Some("upstream_timeout")), "timeout_error");
    assert_eq!(error(None, "overloaded_error", None), "overloaded_error");
    assert_eq!(error(Some(429), "tokens", Some("rate_limit_exceeded")), "rate_limit_error");
    assert_eq!(error(Some(503), "server_error", None), "overloaded_error");
    assert_eq!(error(Some(200), "server_error", None), "api_error");
    for ours in [401, 402, 403] {
        assert_eq!(
            error(Some(ours), "authentication_error", None),
            "api_error",
            "it is not the client's key"
        );
    }
}

#[test]
fn debug_shows_nothing_that_was_said() {
    let mut encoder = encoder();
    encoder.part(Part::first(What::Text("canary-7".into())), &mut Vec::new());
    encoder.part(Part::first(call(0, "canary-7", "canary-7")), &mut Vec::new());
    assert!(!format!("{encoder:?}").contains("canary"));
}
