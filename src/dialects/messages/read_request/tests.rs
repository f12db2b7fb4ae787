//! What is read of a client's request.

mod refused;
mod shown;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use self::shown::{show, show_turn, without_nothing};
use super::read_request;
use crate::{
    dialects::testing::{asked, golden, pretty},
    wire::{
        Conversation, Endpoint, Envelope,
        conversation::{CacheTime, Content, Role},
        read_request as read_view,
    },
};

/// A request with a model, a limit, a message, and these members besides or instead.
fn request(members: Value) -> Value {
    let mut request =
        json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }] });
    for (name, value) in members.as_object().expect("an object") {
        request[name] = value.clone();
    }
    request
}

fn read(members: Value) -> Conversation {
    let body = request(members);
    let asked = asked(Endpoint::Messages, &body);
    asked.conversation().unwrap_or_else(|error| panic!("{error}: {body}")).clone()
}

/// The blocks of the only turn.
fn blocks(role: &str, blocks: Value) -> Value {
    let read = read(json!({ "messages": [{ "role": role, "content": blocks }] }));
    let turn = read.turns.first().map(show_turn).expect("a turn");
    without_nothing(turn)["blocks"].take()
}

#[test]
fn a_request_that_says_everything_is_read() {
    let full = json!({
        "model": "m",
        "models": ["m2"],
        "max_tokens": 4096,
        "stream": true,
        "system": [
            { "type": "text", "text": "Be kind.", "cache_control": { "type": "ephemeral", "ttl": "1h" } },
            { "type": "text", "text": "Be brief." }
        ],
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "Look:", "citations": null },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" } },
                { "type": "image", "source": { "type": "url", "url": "https://example.com/a.png" },
                  "transformations": { "oversized_image": "error" } },
                { "type": "image", "source": { "type": "file", "file_id": "file_1" } },
                { "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "BBBB" },
                  "title": "A report", "context": "of 2026", "citations": { "enabled": true },
                  "cache_control": { "type": "ephemeral" } },
                { "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "plain words" } },
                { "type": "document", "source": { "type": "url", "url": "https://example.com/a.pdf" } },
                { "type": "document", "source": { "type": "file", "file_id": "file_2" }, "citations": { "enabled": false } },
                { "type": "document", "title": "Mixed", "source": { "type": "content", "content": [
                    { "type": "text", "text": "one" }, { "type": "text", "text": "two" },
                    { "type": "image", "source": { "type": "url", "url": "https://example.com/b.png" } },
                    { "type": "text", "text": "three", "cache_control": { "type": "ephemeral", "ttl": "1h" } } ] } },
                { "type": "document", "source": { "type": "content", "content": "only words" } },
                { "type": "search_result", "source": "https://example.com", "title": "Found", "citations": { "enabled": true },
                  "content": [{ "type": "text", "text": "this" }, { "type": "text", "text": "and that" }] }
            ] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmF0dXJl" },
                { "type": "redacted_thinking", "data": "c2VhbGVk" },
                { "type": "text", "text": "I call two.", "citations": [{ "type": "char_location", "cited_text": "x" }] },
                { "type": "tool_use", "id": "toolu_1", "name": "add", "input": { "b": 2, "a": 1 }, "caller": { "type": "direct" } },
                { "type": "tool_use", "id": "toolu_2", "name": "find", "input": {}, "toolset_name": null }
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "toolu_1", "content": "3" },
                { "type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "cache_control": { "type": "ephemeral" },
                  "content": [
                    { "type": "text", "text": "not found" },
                    { "type": "image", "source": { "type": "base64", "media_type": "image/jpeg", "data": "CCCC" } },
                    { "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "a log" } },
                    { "type": "tool_reference", "tool_name": "find_better" } ] },
                { "type": "text", "text": "Go on." }
            ] },
            { "role": "system", "content": "From now on in French." },
            { "role": "assistant", "content": "Bien" }
        ],
        "tools": [
            { "name": "add", "description": "Adds.", "strict": true, "type": "custom",
              "input_schema": { "type": "object", "properties": { "b": {}, "a": {} } },
              "input_examples": [{ "b": 2, "a": 1 }, {}], "allowed_callers": ["direct"],
              "eager_input_streaming": true },
            { "name": "find", "input_schema": { "type": "object" }, "defer_loading": true,
              "cache_control": { "type": "ephemeral", "ttl": "5m" } }
        ],
        "tool_choice": { "type": "tool", "name": "find", "disable_parallel_tool_use": true },
        "thinking": { "type": "enabled", "budget_tokens": 2048, "display": "omitted" },
        "output_config": { "effort": "xhigh", "format": { "type": "json_schema", "schema": { "type": "object" } } },
        "stop_sequences": ["END", "STOP"],
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 40,
        "metadata": { "user_id": "u-1" },
        "service_tier": "standard_only",
        "cache_control": { "type": "ephemeral", "ttl": "1h" },
        "context_management": { "edits": [{ "type": "clear_thinking_20251015", "keep": "all" }] },
        "diagnostics": { "previous_message_id": "msg_0" },
        "user_profile_id": "profile_1",
        "speed": "standard",
        "inference_geo": "global",
        "mcp_servers": [],
        "fallbacks": null,
        "container": null
    });
    let asked = asked(Endpoint::Messages, &full);
    let read = asked.conversation().unwrap_or_else(|error| panic!("{error}"));
    golden("messages/client-request.json", &pretty(&full));
    golden("messages/client-conversation.json", &pretty(&show(read)));
}

#[test]
fn instructions_come_first_and_stand_where_they_stood() {
    let read = read(json!({
        "system": "first",
        "messages": [{ "role": "user", "content": "a" }, { "role": "user", "content": "b" }, { "role": "system", "content": "c" }]
    }));
    let roles: Vec<Role> = read.turns.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::User, Role::System]);
    let begun =
        json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "assistant", "content": "" }] });
    assert_eq!(self::read(begun).turns.len(), 1);
    for nothing in [json!(""), json!([]), json!([{ "type": "text", "text": "" }])] {
        assert_eq!(self::read(json!({ "system": nothing })).turns.len(), 1);
    }
}

#[test]
fn arguments_and_schemas_keep_the_clients_bytes() {
    let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[
        {"type":"tool_use","id":"t","name":"f","input":{ "z": 1.0, "a":9007199254740993 }}]}],
        "tools":[{"name":"f","input_schema":{ "z":{}, "type":"object","a":1e2 }}]}"#;
    let envelope = Envelope::parse(Bytes::from(body), 64).expect("an envelope");
    let view = read_view(Endpoint::Messages, &envelope).expect("a request");
    let read = read_request(&envelope, &view).expect("a conversation");
    let Some(Content::ToolCall(call)) = read.turns[0].blocks.first().map(|block| &block.content) else {
        panic!("no call");
    };
    assert_eq!(call.arguments, "{ \"z\": 1.0, \"a\":9007199254740993 }");
    let schema = read.tools[0].parameters.as_ref().expect("a schema");
    assert_eq!(schema.get(), "{ \"z\":{}, \"type\":\"object\",\"a\":1e2 }");
}

#[test]
fn a_count_of_tokens_is_read_without_a_limit() {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
    let asked = asked(Endpoint::CountTokens, &body);
    let read = asked.conversation().expect("a conversation");
    assert_eq!((read.output_limit, read.stream, read.choices), (None, false, 1));
}

#[test]
fn thinking_and_effort_are_one() {
    let cases = [
        (json!({}), json!(null)),
        (
            json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }),
            json!({ "budget": 1024, "show": true }),
        ),
        (json!({ "thinking": { "type": "adaptive" } }), json!({ "adaptive": true })),
        (
            json!({ "thinking": { "type": "adaptive", "display": "summarized" } }),
            json!({ "adaptive": true, "show": true }),
        ),
        (json!({ "thinking": { "type": "between_tools" } }), json!({ "adaptive": true })),
        (json!({ "thinking": { "type": "disabled" } }), json!({ "effort": "none" })),
        (json!({ "output_config": { "effort": "max" } }), json!({ "effort": "max" })),
        (
            json!({ "thinking": { "type": "adaptive" }, "output_config": { "effort": "low" } }),
            json!({ "adaptive": true, "effort": "low" }),
        ),
        (
            json!({ "thinking": { "type": "disabled" }, "output_config": { "effort": "low" } }),
            json!({ "effort": "none" }),
        ),
    ];
    for (members, wanted) in cases {
        let read = read(members.clone());
        assert_eq!(show(&read)["reasoning"], wanted, "{members}");
        let told = members.to_string().contains("disabled") && members.to_string().contains("low");
        assert_eq!(read.hints.iter().any(|hint| hint.name == "output_config.effort"), told, "{members}");
    }
}

#[test]
fn choices_of_tools_and_tiers_have_their_names_elsewhere() {
    for (choice, wanted) in [
        (json!({ "type": "auto" }), json!("auto")),
        (json!({ "type": "any" }), json!("required")),
        (json!({ "type": "none" }), json!("none")),
        (json!({ "type": "tool", "name": "f" }), json!({ "named": "f" })),
    ] {
        let shown = show(&read(json!({ "tool_choice": choice })));
        assert_eq!((&shown["tool_choice"], &shown["parallel_tools"]), (&wanted, &Value::Null));
    }
    let parallel =
        |flag: bool| read(json!({ "tool_choice": { "type": "auto", "disable_parallel_tool_use": flag } }));
    assert_eq!((parallel(true).parallel_tools, parallel(false).parallel_tools), (Some(false), Some(true)));
    assert_eq!(read(json!({ "service_tier": "auto" })).service_tier, None);
    assert_eq!(read(json!({ "service_tier": "standard_only" })).service_tier.as_deref(), Some("default"));
}

#[test]
fn geminis_signatures_go_back_to_where_they_were() {
    let signed = |signature: &str| json!({ "type": "thinking", "thinking": "", "signature": signature });
    let call = json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} });
    let text = json!({ "type": "text", "text": "a" });
    let called = |signature: Option<&str>| {
        let mut call = json!({ "call": "t", "name": "f", "arguments": "{}" });
        if let Some(signature) = signature {
            call["signature"] = json!(signature);
        }
        json!({ "content": call })
    };
    let said = json!({ "content": { "text": "a" } });
    let signs = |signature: &str| json!({ "content": { "text_signature": signature } });
    let cases = [
        (json!([signed("gemini:QQ=="), call]), json!([called(Some("QQ=="))])),
        (
            json!([text, signed("gemini:text:QQ=="), signed("gemini:Qg=="), call, call]),
            json!([said, signs("QQ=="), called(Some("Qg==")), called(None)]),
        ),
        (json!([text, signed("gemini:text:QQ=="), call]), json!([said, signs("QQ=="), called(None)])),
        (json!([text, signed("gemini:QQ==")]), json!([said, signs("QQ==")])),
        (json!([signed("gemini:QQ=="), text, call]), json!([signs("QQ=="), said, called(None)])),
        (
            json!([{ "type": "thinking", "thinking": "hm", "signature": "gemini:QQ==" }, call]),
            json!([{ "content": { "thought": "hm" } }, called(Some("QQ=="))]),
        ),
        (
            json!([signed("QQ=="), signed(""), { "type": "thinking", "thinking": "hm" }]),
            json!([{ "content": { "thought": "", "signature": "QQ==" } }, { "content": { "thought": "hm" } }]),
        ),
    ];
    for (sent, wanted) in cases {
        assert_eq!(blocks("assistant", sent.clone()), wanted, "{sent}");
    }
}

#[test]
fn a_requests_own_cache_control_marks_the_last_block_that_can_be() {
    let read = read(json!({
        "cache_control": { "type": "ephemeral" },
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
            { "role": "assistant", "content": [{ "type": "thinking", "thinking": "c", "signature": "" }] }
        ]
    }));
    let marks: Vec<_> = read.turns.iter().flat_map(|turn| &turn.blocks).map(|block| block.cache).collect();
    assert_eq!(marks, [None, Some(CacheTime::FiveMinutes), None]);
}

/// JSON of the names and words that matter here, nested at random.
fn value() -> impl Strategy<Value = Value> {
    let words = [
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "user",
        "assistant",
        "base64",
        "content",
        "ephemeral",
        "gemini:QQ==",
        "",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
    ];
    let names = [
        "type",
        "role",
        "content",
        "source",
        "text",
        "input",
        "id",
        "name",
        "tool_use_id",
        "thinking",
        "signature",
        "cache_control",
        "data",
        "media_type",
    ];
    let name = proptest::sample::select(names.to_vec());
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_is_answered(
        name in proptest::sample::select(&["system", "messages", "tools", "tool_choice", "thinking", "output_config", "metadata", "cache_control", "context_management", "stop_sequences"][..]),
        value in value(),
    ) {
        for value in [value.clone(), json!([{ "role": "assistant", "content": [value] }])] {
            let body = request(json!({ name: value })).to_string();
            let Ok(envelope) = Envelope::parse(Bytes::from(body), 64) else { continue };
            if let Ok(view) = read_view(Endpoint::Messages, &envelope) {
                let _ = read_request(&envelope, &view);
            }
        }
    }
}
