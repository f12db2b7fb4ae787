//! What a provider answers, and what the client is told.

use serde_json::{Value, json};

use super::{decode_stream, decode_whole, encoder, input, plain, show, with_call};
use crate::{
    catalogue::{Capabilities, Quirks},
    dialects::{
        Decoder as _, Encoder as _, Talk, Unreadable,
        chat::Decoder,
        testing::{Told, golden, pretty, tell},
    },
    wire::{Endpoint, ErrorObject, Event, Figures, Finish, Part, What, conversation::Thinking},
};

/// Parts of everything that can be said.
fn everything() -> Vec<Part> {
    let first = Part::first;
    let open =
        |text: &str, signature: &str| Thinking::Open { text: text.into(), signature: Some(signature.into()) };
    let usage = r#"{"prompt_tokens":20,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":3},
        "completion_tokens_details":{"reasoning_tokens":2}}"#;
    vec![
        first(What::Start { id: Some("msg_1".into()), model: Some("claude".into()) }),
        first(What::ServiceTier("standard".into())),
        first(What::Thought("Hm".into())),
        first(What::Thought(".".into())),
        first(What::Thinking(open("Hm.", "s1"))),
        first(What::Thinking(Thinking::Sealed { data: "opaque".into() })),
        first(What::Text("Let me \"look\".".into())),
        first(What::TextSignature("early".into())),
        first(What::Citation { url: "https://a.example".into(), title: Some("A".into()) }),
        first(What::Citation { url: "https://b.example".into(), title: None }),
        Part { choice: 1, what: What::Refusal("No.".into()) },
        first(What::ToolCall {
            index: 0,
            id: "call_a".into(),
            name: "look".into(),
            signature: Some("s2".into()),
        }),
        first(What::Arguments { index: 0, json: "{\"z\":".into() }),
        first(What::Usage(Figures::from_openai_usage("{\"prompt_tokens\":20,\"completion_tokens\":1}"))),
        first(What::Arguments { index: 0, json: "1}".into() }),
        first(What::ToolCall { index: 1, id: "call_b".into(), name: "now".into(), signature: None }),
        first(What::Arguments { index: 1, json: "{}".into() }),
        first(What::TextSignature("late".into())),
        first(What::Finish { reason: Finish::ToolCalls, stop_sequence: None }),
        Part { choice: 1, what: What::Finish { reason: Finish::Filtered, stop_sequence: None } },
        first(What::Usage(Figures::from_openai_usage(usage))),
    ]
}

/// The frames of a stream of everything, for a client that asked with these members.
fn stream_for(members: Value) -> String {
    let mut encoder = encoder(members);
    let mut said = Vec::new();
    for part in everything() {
        encoder.part(part, &mut said);
    }
    encoder.end(&mut said);
    String::from_utf8(said).expect("text")
}

#[test]
fn a_whole_answer_is_taken_apart() {
    golden("chat/answer.parts.txt", &show(&decode_whole(&input("answer.json"))));
}

#[test]
fn a_stream_is_taken_apart() {
    let (parts, failed) = decode_stream(&input("stream.sse"));
    assert!(!failed);
    golden("chat/stream.parts.txt", &show(&parts));
}

#[test]
fn an_answer_is_said_whole() {
    let said: Value = serde_json::from_slice(&encoder(Value::Null).whole(everything())).expect("JSON");
    golden("chat/answer.said.json", &pretty(&said));
}

#[test]
fn an_answer_is_said_in_chunks() {
    golden(
        "chat/stream.said.sse",
        &stream_for(json!({"stream": true, "stream_options": {"include_usage": true}})),
    );
}

#[test]
fn blocks_of_thoughts_are_said_together_and_counted_on() {
    let thinking = |text: &str| What::Thinking(Thinking::Open { text: text.into(), signature: None });
    let text = |text: &str| What::Text(text.into());
    let said = [thinking("a"), What::Thought("b".into()), thinking("b"), text("x"), thinking("c"), text("y")];
    let mut encoder = encoder(Value::Null);
    let mut out = Vec::new();
    for what in said {
        encoder.part(Part::first(what), &mut out);
    }
    let out = String::from_utf8(out).expect("text");
    let deltas: Vec<&str> =
        out.lines().filter_map(|line| line.split_once("\"delta\":")).map(|(_, delta)| delta).collect();
    assert_eq!(deltas.len(), 3);
    assert!(deltas[0].contains("reasoning_content") && !deltas[0].contains("thinking_blocks"));
    assert!(deltas[1].contains(
        r#"[{"index":0,"type":"thinking","thinking":"a"},{"index":1,"type":"thinking","thinking":"b"}]"#
    ));
    assert!(deltas[2].contains(r#"[{"index":2,"type":"thinking","thinking":"c"}]"#));
}

#[test]
fn a_client_of_functions_is_told_of_a_function() {
    let members = json!({"functions": [{"name": "look"}]});
    let said: Value = serde_json::from_slice(&encoder(members.clone()).whole(everything())).expect("JSON");
    let choice = &said["choices"][0];
    assert_eq!(choice["message"]["function_call"], json!({"name": "look", "arguments": "{\"z\":1}"}));
    assert_eq!(choice["message"]["tool_calls"][0]["id"], "call_b", "and of no more than one so");
    assert_eq!(choice["finish_reason"], "function_call");
    let stream = stream_for(members);
    assert!(stream.contains(r#""delta":{"function_call":{"name":"look","arguments":""}}"#), "{stream}");
    assert!(stream.contains(r#""delta":{"function_call":{"arguments":"1}"}}"#));
    assert!(
        stream.contains(r#""tool_calls":[{"index":0,"id":"call_b""#)
            && stream.contains("\"function_call\"}]}")
    );
}

#[test]
fn usage_and_thoughts_are_told_to_whoever_wants_them() {
    let plain = stream_for(json!({"stream": true}));
    assert!(
        !plain.contains("usage")
            && plain.ends_with("\"finish_reason\":\"content_filter\"}]}\n\ndata: [DONE]\n\n")
    );
    assert!(plain.contains("reasoning_content"));
    let silent = stream_for(json!({"reasoning": {"exclude": true}}));
    assert!(!silent.contains("reasoning_content"));
    assert!(
        silent.contains("thinking_blocks"),
        "what must come back with the next turn is told all the same"
    );
}

#[test]
fn an_answer_without_anything_still_has_a_choice() {
    let said: Value = serde_json::from_slice(&encoder(Value::Null).whole(Vec::new())).expect("JSON");
    assert_eq!(said["choices"][0]["message"], json!({"role": "assistant", "content": null, "refusal": null}));
    assert_eq!(
        (&said["id"], &said["model"], &said["created"]),
        (&json!("chatcmpl-req_1"), &json!("up"), &json!(1_700_000_000))
    );
    assert_eq!(said.get("usage"), None);
}

#[test]
fn a_broken_stream_ends_with_its_error_and_nothing_else() {
    let mut out = Vec::new();
    encoder(Value::Null).error(&ErrorObject::new("upstream_error", "upstream_error", "gone"), &mut out);
    let text = String::from_utf8(out).expect("text");
    assert!(text.starts_with("data: {\"error\":{") && text.ends_with("}}\n\n") && !text.contains("[DONE]"));
}

/// What a stream of these chunks says, in lines.
fn lines(chunks: &[&str]) -> String {
    let stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    show(&decode_stream(&stream).0)
}

#[test]
fn tool_calls_come_in_every_shape() {
    let call =
        |delta: &str| format!(r#"{{"id":"g","choices":[{{"index":0,"delta":{{"tool_calls":[{delta}]}}}}]}}"#);
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let told = |deltas: &[&str]| {
        let mut chunks: Vec<String> = deltas.iter().map(|delta| call(delta)).collect();
        chunks.push(end.to_owned());
        let lines = lines(&chunks.iter().map(String::as_str).collect::<Vec<_>>());
        let calls = lines.lines().filter(|line| !line.contains("start")).map(|line| &line[2..]);
        calls.collect::<Vec<_>>().join("; ")
    };
    let done = "finish ToolCalls None";
    // Whole, and the id and the name again with the arguments.
    let twice = [
        r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#,
        r#"{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}"#,
    ];
    assert_eq!(told(&twice), format!(r#"call 0 a "f" None; arguments 0 "{{"; arguments 0 "}}"; {done}"#));
    // Another id under the same index is another call.
    let same = [
        r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#,
        r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{}"}}"#,
    ];
    assert_eq!(
        told(&same),
        format!(r#"call 0 a "f" None; arguments 0 "{{}}"; call 1 b "f" None; arguments 1 "{{}}"; {done}"#)
    );
    // Neither index nor id: a name begins a call.
    let bare = told(&[
        r#"{"function":{"name":"f","arguments":"{"}}"#,
        r#"{"function":{"name":"","arguments":"}"}}"#,
        r#"{"function":{"name":"f"}}"#,
    ]);
    let ids: Vec<&str> = bare.split("; ").filter_map(|line| line.strip_prefix("call ")).collect();
    assert!(ids.len() == 2 && ids[0].starts_with("0 call_0_") && ids[1].starts_with("1 call_1_"), "{bare}");
    assert!(bare.ends_with(&format!("arguments 1 \"{{}}\"; {done}")), "{bare}");
    // The name comes late, and a second call begins before the first has said anything.
    let late = [
        r#"{"index":0,"id":"a","function":{"name":null,"arguments":""}},{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}"#,
        r#"{"index":0,"function":{"name":"f","arguments":null}}"#,
        r#"{"index":0,"function":{"arguments":"[1]"}}"#,
    ];
    assert_eq!(
        told(&late),
        format!(r#"call 0 a "f" None; arguments 0 "[1]"; call 1 b "g" None; arguments 1 "{{}}"; {done}"#)
    );
    // What begins nothing is nothing.
    assert_eq!(told(&[r#"{"function":{"arguments":"{}"}}"#, "3", "null"]), "finish Stop None");
}

#[test]
fn text_after_a_call_without_arguments_finds_it_complete() {
    let told = lines(&[
        r#"{"id":"g","choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f"}}]}}]}"#,
        r#"{"choices":[{"delta":{"content":"x"}}]}"#,
        "[DONE]",
    ]);
    let wanted = "0 start Some(\"g\") None\n0 call 0 a \"f\" None\n0 arguments 0 \"{}\"\n0 text \"x\"\n0 finish ToolCalls None\n0 end\n";
    assert_eq!(told, wanted);
}

#[test]
fn an_answer_ends_for_its_reason() {
    for (reason, wanted) in [
        ("stop", "Stop None"),
        ("eos", "Stop None"),
        ("stop\",\"stop_reason\":\"END", "StopSequence Some(\"END\")"),
        ("stop_sequence", "StopSequence None"),
        ("length", "Length None"),
        ("model_length", "Length None"),
        ("content_filter", "Filtered None"),
        ("tool_calls", "ToolCalls None"),
        ("function_call", "ToolCalls None"),
    ] {
        let told =
            lines(&[&format!(r#"{{"choices":[{{"delta":{{"content":"x"}},"finish_reason":"{reason}"}}]}}"#)]);
        assert!(told.ends_with(&format!("finish {wanted}\n")), "{reason}: {told}");
    }
    let silent = lines(&[r#"{"choices":[]}"#, "[DONE]"]);
    assert_eq!(silent, "0 end\n", "what never began does not finish");
}

#[test]
fn errors_are_errors_wherever_they_stand() {
    let read =
        |name: &str, data: &str| Decoder::default().event(&Event { name: name.into(), data: data.into() });
    for (name, data) in [
        ("message", r#"{"error":{"message":"m"}}"#),
        ("message", r#"{"error":"m","choices":[]}"#),
        ("error", r#"{"message":"m"}"#),
        ("message", r#"{"choices":[],"x_groq":{"error":"m"}}"#),
        ("message", r#"{"choices":[{"delta":{},"finish_reason":"error"}],"message":"m"}"#),
    ] {
        assert_eq!(read(name, data).error.expect(data).message, "m", "{data}");
    }
    let overloaded = read("error", "Overloaded");
    assert!(overloaded.error.is_some() && overloaded.unreadable);
    for data in ["", "{", "3", "[]", "{\"choices\":{}}", "{\"choices\":[3]}"] {
        let decoded = read("message", data);
        assert!(decoded.unreadable && decoded.parts.is_empty() && decoded.error.is_none(), "{data}");
    }
    let whole = |body: &str| Decoder::default().whole(body.as_bytes());
    assert_eq!(whole(r#"{"error":{"message":"m"}}"#).expect("read").error.expect("an error").message, "m");
    assert_eq!(
        whole(r#"{"object":"error","message":"m"}"#).expect("read").error.expect("an error").message,
        "m"
    );
    for body in ["", "[]", "{}", "<html>", "{\"choices\":null}", "{\"choices\":[3]}"] {
        assert!(matches!(whole(body), Err(Unreadable(_))), "{body}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_not_finished() {
    let asked = plain(Endpoint::ChatCompletions, json!({"stream": true}));
    let talk = || {
        with_call(&asked, &Quirks::default(), &Capabilities::default(), |call| {
            Talk::between(Decoder::default(), call)
        })
    };
    let chunk = |rest: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}{rest}}}]}}\n\n")
    };
    let told: Told = tell(talk().as_mut(), chunk("").as_bytes(), 7);
    assert!(!told.finished && !told.done && told.meaningful == 1 && told.text_bytes == 1);
    assert!(!told.text.contains("[DONE]"));
    let told = tell(talk().as_mut(), chunk(",\"finish_reason\":\"stop\"").as_bytes(), 7);
    assert!(told.finished && !told.done && told.text.ends_with("data: [DONE]\n\n"));
}

#[test]
fn a_name_that_comes_late_changes_no_chunk() {
    let mut encoder = encoder(Value::Null);
    let mut said = Vec::new();
    let start = What::Start { id: Some("late".into()), model: Some("late".into()) };
    let finish = What::Finish { reason: Finish::Stop, stop_sequence: None };
    for what in [What::Text("a".into()), start, What::Text("b".into()), finish] {
        encoder.part(Part::first(what), &mut said);
    }
    let said = String::from_utf8(said).expect("text");
    let ids = said.matches("\"id\":\"chatcmpl-req_1\"").count();
    assert_eq!((ids, said.matches("data:").count(), said.contains("late")), (3, 3, false), "{said}");
}
