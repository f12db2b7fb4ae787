//! What is refused, and how it is named.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{read, request};
use crate::{
    dialects::{DialectError, messages::read_request, testing::asked},
    wire::{Endpoint, Envelope, conversation::Format, read_request as read_view},
};

fn refused(members: Value) -> DialectError {
    let body = request(members);
    let asked = asked(Endpoint::Messages, &body);
    match asked.conversation() {
        Err(error) => error,
        Ok(_) => panic!("{body} was read"),
    }
}

#[test]
fn what_cannot_be_translated_is_refused_by_its_name() {
    let message = |role: &str, block: Value| json!({ "messages": [{ "role": role, "content": [block] }] });
    let tool = |tool: Value| json!({ "tools": [{ "name": "f", "input_schema": {} }, tool] });
    let cases = [
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "container": "c_1" }), "container"),
        (json!({ "mcp_servers": [{}] }), "mcp_servers"),
        (json!({ "speed": "fast" }), "speed"),
        (json!({ "inference_geo": "us" }), "inference_geo"),
        (json!({ "thread": {} }), "thread"),
        (json!({ "compaction": {} }), "compaction"),
        (json!({ "billing_policy": {} }), "billing_policy"),
        (json!({ "fallback_credit_token": {} }), "fallback_credit_token"),
        (json!({ "betas": [] }), "betas"),
        (json!({ "n": 1 }), "n"),
        (json!({ "my own secret": 1 }), "…"),
        (json!({ "metadata": { "user_id": "u", "team": "t" } }), "metadata.team"),
        (
            json!({ "context_management": { "edits": [{ "type": "clear_tool_uses_20250919" }] } }),
            "context_management.edits[0]",
        ),
        (
            json!({ "context_management": { "edits": [{ "type": "clear_thinking_20251015", "keep": { "type": "thinking_turns" } }] } }),
            "context_management.edits[0]",
        ),
        (json!({ "output_config": { "task_budget": {} } }), "output_config.task_budget"),
        (tool(json!({ "type": "web_search_20260318", "name": "web_search" })), "tools[1].type"),
        (tool(json!({ "type": "bash_20250124", "name": "bash" })), "tools[1].type"),
        (tool(json!({ "name": "g", "input_schema": {}, "colour": "red" })), "tools[1].colour"),
        (
            tool(json!({ "name": "g", "input_schema": {}, "allowed_callers": ["code_execution_20260521"] })),
            "tools[1].allowed_callers",
        ),
        (
            message("assistant", json!({ "type": "server_tool_use", "id": "s", "name": "n", "input": {} })),
            "messages[0].content[0].type",
        ),
        (
            message("user", json!({ "type": "container_upload", "file_id": "f" })),
            "messages[0].content[0].type",
        ),
        (message("system", json!({ "type": "tool_addition", "tool": {} })), "messages[0].content[0].type"),
        (
            message("user", json!({ "type": "text", "text": "a", "colour": "red" })),
            "messages[0].content[0].colour",
        ),
        (
            message(
                "assistant",
                json!({ "type": "tool_use", "id": "t", "name": "n", "input": {}, "caller": { "type": "code_execution_20260120", "tool_id": "s" } }),
            ),
            "messages[0].content[0].caller",
        ),
        (
            message(
                "assistant",
                json!({ "type": "tool_use", "id": "t", "name": "n", "input": {}, "toolset_name": "browser" }),
            ),
            "messages[0].content[0].toolset_name",
        ),
        (
            message(
                "user",
                json!({ "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "browser_state" }] }),
            ),
            "messages[0].content[0].content[0].type",
        ),
    ];
    for (members, wanted) in cases {
        let error = refused(members.clone());
        assert!(matches!(error, DialectError::Unsupported { .. }), "{members}: {error}");
        assert_eq!(error.field(), Some(wanted), "{members}");
    }
}

#[test]
fn what_has_the_wrong_shape_is_named() {
    let message = |role: &str, content: Value| json!({ "messages": [{ "role": role, "content": content }] });
    let cases = [
        (json!({ "messages": [{ "content": "x" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "user" }] }), "messages[0].content"),
        (message("user", json!(7)), "messages[0].content"),
        (message("user", json!("")), "messages[0].content"),
        (message("system", json!([])), "messages[0].content"),
        (message("user", json!(["x"])), "messages[0].content[0]"),
        (message("user", json!([{ "text": "x" }])), "messages[0].content[0].type"),
        (message("user", json!([{ "type": "text" }])), "messages[0].content[0].text"),
        (
            message("user", json!([{ "type": "tool_use", "id": "t", "name": "n", "input": {} }])),
            "messages[0].content[0].type",
        ),
        (
            message("assistant", json!([{ "type": "tool_result", "tool_use_id": "t" }])),
            "messages[0].content[0].type",
        ),
        (message("system", json!([{ "type": "image", "source": {} }])), "messages[0].content[0].type"),
        (
            message("assistant", json!([{ "type": "tool_use", "id": "t", "name": "n", "input": "{}" }])),
            "messages[0].content[0].input",
        ),
        (
            message("user", json!([{ "type": "image", "source": { "type": "text" } }])),
            "messages[0].content[0].source.type",
        ),
        (
            message(
                "user",
                json!([{ "type": "image", "source": { "type": "base64", "media_type": "image/png" } }]),
            ),
            "messages[0].content[0].source.data",
        ),
        (
            message(
                "user",
                json!([{ "type": "document", "source": { "type": "text", "media_type": "text/html", "data": "" } }]),
            ),
            "messages[0].content[0].source.media_type",
        ),
        (json!({ "system": 7 }), "system"),
        (json!({ "system": [{ "type": "image", "source": {} }] }), "system[0].type"),
        (
            json!({ "system": [{ "type": "text", "text": "a", "cache_control": { "type": "ephemeral", "ttl": "1d" } }] }),
            "system[0].cache_control.ttl",
        ),
        (json!({ "tools": [{ "input_schema": {} }] }), "tools[0].name"),
        (json!({ "tools": [{ "name": "f" }] }), "tools[0].input_schema"),
        (json!({ "tools": [{ "name": "f", "input_schema": [] }] }), "tools[0].input_schema"),
        (json!({ "tool_choice": "auto" }), "tool_choice"),
        (json!({ "tool_choice": { "type": "function" } }), "tool_choice.type"),
        (json!({ "tool_choice": { "type": "tool" } }), "tool_choice.name"),
        (json!({ "thinking": { "type": "enabled" } }), "thinking.budget_tokens"),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": -1 } }), "thinking.budget_tokens"),
        (json!({ "thinking": { "type": "adaptive", "display": "loud" } }), "thinking.display"),
        (json!({ "thinking": "adaptive" }), "thinking"),
        (json!({ "output_config": { "effort": "minimal" } }), "output_config.effort"),
        (json!({ "output_config": { "format": { "type": "json" } } }), "output_config.format.type"),
        (
            json!({ "output_config": { "format": { "type": "json_schema", "schema": {} } }, "output_format": { "type": "json_schema", "schema": {} } }),
            "output_format",
        ),
        (json!({ "stop_sequences": "END" }), "stop_sequences"),
        (json!({ "temperature": "0" }), "temperature"),
        (json!({ "top_k": 0.5 }), "top_k"),
        (json!({ "metadata": { "user_id": 7 } }), "metadata.user_id"),
        (json!({ "service_tier": "flex" }), "service_tier"),
    ];
    for (members, wanted) in cases {
        let error = refused(members.clone());
        assert!(matches!(error, DialectError::WrongShape { .. }), "{members}: {error}");
        assert_eq!(error.field(), Some(wanted), "{members}");
    }
    let old = read(json!({ "output_format": { "type": "json_schema", "schema": { "type": "object" } } }));
    assert!(matches!(old.format, Some(Format::JsonSchema { strict: Some(true), name: None, .. })));
}

#[test]
fn a_member_given_twice_is_refused() {
    let body =
        r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a","cont\u0065nt":"b"}]}"#;
    let envelope = Envelope::parse(Bytes::from(body), 64).expect("an envelope");
    let view = read_view(Endpoint::Messages, &envelope).expect("a request");
    let error = read_request(&envelope, &view).expect_err("an error");
    assert_eq!(error.field(), Some("messages[0].content"));
}

#[test]
fn errors_do_not_repeat_what_was_said() {
    let secret = "the launch code is 4711";
    for members in [
        json!({ "messages": [{ "role": secret, "content": "x" }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": secret }] }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "x", secret: 1 }] }] }),
        json!({ "tools": [{ "type": secret, "name": "f" }] }),
        json!({ secret: 1 }),
    ] {
        let error = refused(members.clone());
        assert!(!error.to_string().contains("4711"), "{members}: {error}");
    }
}
