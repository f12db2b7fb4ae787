//! What becomes of a request, and what is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::read_request;
use crate::{
    dialects::{
        DialectError,
        responses::seal::{Kept, seal},
        testing::{asked, golden, pretty},
    },
    wire::{
        Conversation, Endpoint, Envelope,
        conversation::{Block, Content, Format, Role, Source, Thinking, ToolChoice},
        read_request as read_view,
    },
};

fn read(body: &Value) -> Result<Conversation, DialectError> {
    let asked = asked(Endpoint::Responses, body);
    read_request(&asked.envelope, &asked.view)
}

fn with(member: &str, value: Value) -> Result<Conversation, DialectError> {
    read(&json!({ "model": "m", "input": "x", (member): value }))
}

fn of_input(input: Value) -> Result<Conversation, DialectError> {
    read(&json!({ "model": "m", "input": input }))
}

fn refused(found: Result<Conversation, DialectError>) -> String {
    match found {
        Err(error) => error.field().expect("a member").to_owned(),
        Ok(_) => panic!("it was read"),
    }
}

/// A conversation as a value, for people to look at.
fn show(conversation: &Conversation) -> Value {
    let Conversation {
        turns,
        tools,
        tool_choice,
        parallel_tools,
        format,
        reasoning,
        output_limit,
        sampling,
        stop,
        choices,
        stream,
        user,
        service_tier,
        verbosity,
        hints,
    } = conversation;
    json!({
        "turns": turns.iter().map(|turn| json!({ "role": format!("{:?}", turn.role), "blocks": turn.blocks.iter().map(block).collect::<Vec<_>>() })).collect::<Vec<_>>(),
        "tools": tools.iter().map(|tool| json!({ "name": tool.name, "description": tool.description, "strict": tool.strict,
            "parameters": tool.parameters.as_ref().map(|raw| raw.get()) })).collect::<Vec<_>>(),
        "tool_choice": tool_choice.as_ref().map(|choice| match choice {
            ToolChoice::Auto => "auto",
            ToolChoice::None => "none",
            ToolChoice::Required => "required",
            ToolChoice::Named(name) => name,
        }),
        "parallel_tools": parallel_tools,
        "format": format.as_ref().map(|format| match format {
            Format::Text => json!("text"),
            Format::JsonObject => json!("json_object"),
            Format::JsonSchema { name, description, schema, strict } => json!([name, description, schema.get(), strict]),
        }),
        "reasoning": reasoning.as_ref().map(|reasoning| format!("{reasoning:?}")),
        "output_limit": output_limit,
        "sampling": [sampling.temperature, sampling.top_p],
        "stop": stop, "choices": choices, "stream": stream, "user": user, "service_tier": service_tier, "verbosity": verbosity,
        "hints": hints.iter().map(|hint| json!([hint.name, hint.value.get()])).collect::<Vec<_>>(),
    })
}

fn block(block: &Block) -> Value {
    let source = |source: &Source| match source {
        Source::Base64 { media_type, data } => json!([media_type, data]),
        Source::Url(url) => json!({ "url": url }),
        Source::Text(text) => json!(text),
        Source::File(id) => json!({ "file": id }),
    };
    let content = match &block.content {
        Content::Text(text) => json!({ "text": text }),
        Content::Refusal(text) => json!({ "refusal": text }),
        Content::Image { source: image, detail } => json!({ "image": source(image), "detail": detail }),
        Content::Audio { format, .. } => json!({ "audio": format }),
        Content::Document { source: document, title, .. } => {
            json!({ "document": source(document), "title": title })
        }
        Content::ToolCall(call) => {
            json!({ "call": [call.id, call.name, call.arguments], "signature": call.signature })
        }
        Content::ToolResult { id, blocks, is_error } => {
            json!({ "result": id, "blocks": blocks.iter().map(self::block).collect::<Vec<_>>(), "is_error": is_error })
        }
        Content::Thinking(Thinking::Open { text, signature }) => {
            json!({ "thinking": text, "signature": signature })
        }
        Content::Thinking(Thinking::Sealed { data }) => json!({ "redacted": data }),
        Content::TextSignature(signature) => json!({ "text_signature": signature }),
    };
    match block.cache {
        None => content,
        Some(time) => json!([content, format!("{time:?}")]),
    }
}

fn turns(conversation: &Conversation) -> Value {
    let turns = conversation.turns.iter().map(|turn| {
        let role = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        json!([role, turn.blocks.iter().map(block).collect::<Vec<_>>()])
    });
    turns.collect()
}

/// A request with everything in it that can be said.
fn full() -> Value {
    let text = include_str!("../../../../tests/golden/responses/request.json");
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn a_full_request_is_read() {
    let conversation = read(&full()).expect("it can be said");
    golden("responses/request_read.json", &pretty(&show(&conversation)));
}

#[test]
fn a_plain_request_has_nothing_but_its_text() {
    let conversation = of_input(json!("hello")).expect("it can be said");
    assert_eq!(turns(&conversation), json!([["user", [{ "text": "hello" }]]]));
    assert!(
        conversation.hints.is_empty() && conversation.reasoning.is_none() && conversation.format.is_none()
    );
    assert_eq!((conversation.choices, conversation.stream, conversation.parallel_tools), (1, false, None));
}

#[test]
fn null_is_absent_and_an_empty_text_is_nothing() {
    let members = [
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "store",
        "previous_response_id",
        "metadata",
        "user",
        "temperature",
        "include",
        "conversation",
        "prompt",
        "some_new_member",
    ];
    let mut body = json!({ "model": "m", "input": [{ "role": "assistant", "content": "" }, { "role": "user", "content": "x" }] });
    for name in members {
        body[name] = Value::Null;
    }
    body["instructions"] = json!("");
    let conversation = read(&body).expect("it can be said");
    assert_eq!(turns(&conversation), json!([["user", [{ "text": "x" }]]]));
}

#[test]
fn what_refers_to_something_kept_is_refused() {
    for (name, value) in [
        ("store", json!(true)),
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!({ "id": "conv_1" })),
        ("background", json!(true)),
        ("prompt", json!({ "id": "pmpt_1" })),
        ("context_management", json!([{ "type": "compaction" }])),
        ("truncation", json!("auto")),
        ("moderation", json!({ "model": "x" })),
    ] {
        assert_eq!(refused(with(name, value)), name);
    }
    for item in [json!({ "type": "item_reference", "id": "msg_1" }), json!({ "id": "msg_1" })] {
        assert_eq!(refused(of_input(json!([item]))), "input[0]");
    }
}

#[test]
fn what_only_this_api_has_is_refused_by_name() {
    for (member, value, field) in [
        ("tools", json!([{ "type": "function", "name": "f" }, { "type": "web_search" }]), "tools[1].type"),
        ("tools", json!([{ "type": "custom", "name": "f" }]), "tools[0].type"),
        (
            "tools",
            json!([{ "type": "function", "name": "f", "defer_loading": true }]),
            "tools[0].defer_loading",
        ),
        (
            "tools",
            json!([{ "type": "function", "name": "f", "allowed_callers": ["programmatic"] }]),
            "tools[0].allowed_callers",
        ),
        ("tools", json!([{ "type": "function", "name": "f", "colour": 1 }]), "tools[0].colour"),
        ("tool_choice", json!({ "type": "web_search" }), "tool_choice.type"),
        ("tool_choice", json!({ "type": "function", "name": "f", "x": 1 }), "tool_choice.x"),
        (
            "tool_choice",
            json!({ "type": "allowed_tools", "mode": "auto", "tools": [{ "type": "mcp" }] }),
            "tool_choice.tools[0].type",
        ),
        ("text", json!({ "format": { "type": "grammar" } }), "text.format.type"),
        ("text", json!({ "colour": 1 }), "text.colour"),
        ("reasoning", json!({ "mode": "pro" }), "reasoning.mode"),
        ("reasoning", json!({ "colour": 1 }), "reasoning.colour"),
        ("include", json!(["message.output_text.logprobs"]), "include[0]"),
        ("include", json!(["reasoning.encrypted_content", "colours"]), "include[1]"),
        ("top_logprobs", json!(3), "top_logprobs"),
        ("stream_options", json!({ "colour": 1 }), "stream_options.colour"),
        ("colour", json!(1), "colour"),
        ("größe 7", json!(1), "…"),
    ] {
        assert_eq!(refused(with(member, value.clone())), field, "{member} {value}");
    }
    for (item, field) in [
        (json!({ "type": "web_search_call", "id": "ws_1" }), "input[0].type"),
        (json!({ "type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x" }), "input[0].type"),
        (json!({ "type": "compaction", "encrypted_content": "x" }), "input[0].type"),
        (json!({ "role": "user", "content": "x", "colour": 1 }), "input[0].colour"),
        (
            json!({ "role": "user", "content": [{ "type": "input_audio", "input_audio": {} }] }),
            "input[0].content[0].type",
        ),
        (
            json!({ "role": "user", "content": [{ "type": "input_text", "text": "x", "colour": 1 }] }),
            "input[0].content[0].colour",
        ),
        (
            json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "namespace": "n" }),
            "input[0].namespace",
        ),
        (
            json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "caller": { "type": "program" } }),
            "input[0].caller",
        ),
    ] {
        assert_eq!(refused(of_input(json!([item]))), field, "{item}");
    }
}

#[test]
fn a_member_of_the_wrong_shape_is_named() {
    for (member, value, field) in [
        ("temperature", json!("hot"), "temperature"),
        ("parallel_tool_calls", json!("yes"), "parallel_tool_calls"),
        ("tool_choice", json!("any"), "tool_choice"),
        ("tool_choice", json!(5), "tool_choice"),
        ("tool_choice", json!({ "type": "allowed_tools", "mode": "none", "tools": [] }), "tool_choice.mode"),
        ("tools", json!([{ "type": "function", "name": 5 }]), "tools[0].name"),
        ("tools", json!([{ "type": "function", "name": "f", "parameters": [] }]), "tools[0].parameters"),
        ("text", json!("json"), "text"),
        ("text", json!({ "verbosity": "huge" }), "text.verbosity"),
        ("text", json!({ "format": { "type": "json_schema", "name": "n" } }), "text.format.schema"),
        ("reasoning", json!({ "effort": "enormous" }), "reasoning.effort"),
        ("reasoning", json!({ "summary": "long" }), "reasoning.summary"),
        ("include", json!("x"), "include"),
        ("include", json!([5]), "include[0]"),
    ] {
        assert_eq!(refused(with(member, value.clone())), field, "{member} {value}");
    }
    for (item, field) in [
        (json!({ "role": "tool", "content": "x" }), "input[0].role"),
        (json!({ "role": "user" }), "input[0].content"),
        (json!({ "role": "user", "content": 5 }), "input[0].content"),
        (json!({ "role": "user", "content": ["x"] }), "input[0].content[0]"),
        (json!({ "role": "user", "content": [{ "text": "x" }] }), "input[0].content[0].type"),
        (json!({ "role": "user", "content": [{ "type": "input_image" }] }), "input[0].content[0].image_url"),
        (
            json!({ "role": "user", "content": [{ "type": "input_image", "image_url": "ftp://x" }] }),
            "input[0].content[0].image_url",
        ),
        (
            json!({ "role": "user", "content": [{ "type": "input_image", "image_url": "data:image/png,x" }] }),
            "input[0].content[0].image_url",
        ),
        (json!({ "role": "user", "content": [{ "type": "input_file" }] }), "input[0].content[0]"),
        (
            json!({ "role": "user", "content": [{ "type": "input_file", "file_data": "AAAA" }] }),
            "input[0].content[0].file_data",
        ),
        (json!({ "type": "function_call", "name": "f", "arguments": "{}" }), "input[0].call_id"),
        (json!({ "type": "function_call_output", "call_id": "c" }), "input[0].output"),
        (json!({ "type": "reasoning", "summary": "x" }), "input[0].summary"),
        (json!({ "type": "reasoning", "summary": ["x"] }), "input[0].summary[0]"),
    ] {
        assert_eq!(refused(of_input(json!([item]))), field, "{item}");
    }
}

#[test]
fn what_the_model_said_without_a_break_is_one_turn() {
    let conversation = of_input(json!([
        { "role": "assistant", "content": "a" },
        { "type": "function_call", "call_id": "1", "name": "f", "arguments": "{}" },
        { "role": "assistant", "content": "b" },
        { "type": "function_call", "call_id": "2", "name": "f", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "1", "output": "x" },
        { "type": "function_call_output", "call_id": "2", "output": "y" },
        { "role": "user", "content": "c" },
        { "type": "function_call_output", "call_id": "3", "output": "late" },
    ]));
    let roles: Vec<(Role, usize)> = conversation
        .expect("it can be said")
        .turns
        .iter()
        .map(|turn| (turn.role, turn.blocks.len()))
        .collect();
    assert_eq!(roles, [(Role::Assistant, 4), (Role::User, 2), (Role::User, 1), (Role::User, 1)]);
}

#[test]
fn reasoning_comes_back_as_it_was() {
    let reasoning = |encrypted: Value, summary: &str| {
        let summary =
            if summary.is_empty() { json!([]) } else { json!([{ "type": "summary_text", "text": summary }]) };
        json!({ "type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": encrypted })
    };
    let call = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" });
    let said = |items: Value| {
        let conversation = of_input(items).expect("it can be said");
        let hints: Vec<&str> = conversation.hints.iter().map(|hint| hint.name).collect();
        (turns(&conversation), hints.join(","))
    };
    let signature = seal(&[Kept::Call { id: "c".into(), signature: "s".into() }]);
    assert_eq!(
        said(json!([reasoning(json!(signature), "unsigned"), call])).0,
        json!([["assistant", [{ "thinking": "unsigned", "signature": null }, { "call": ["c", "f", "{}"], "signature": "s" }]]])
    );
    let text = seal(&[Kept::Text { signature: "t".into() }]);
    assert_eq!(
        said(json!([{ "role": "assistant", "content": "hi" }, reasoning(json!(text), "")])).0,
        json!([["assistant", [{ "text": "hi" }, { "text_signature": "t" }]]])
    );
    for foreign in ["gAAAA", "ks1.broken!"] {
        let unsigned = json!([["assistant", [{ "thinking": "a", "signature": null }]]]);
        assert_eq!(
            said(json!([reasoning(json!(foreign), "a")])),
            (unsigned, "input.encrypted_content".to_owned())
        );
        assert_eq!(
            said(json!([reasoning(json!(foreign), "")])),
            (json!([]), "input.encrypted_content".to_owned())
        );
    }
    let raw =
        json!({ "type": "reasoning", "summary": [], "content": [{ "type": "reasoning_text", "text": "a" }] });
    assert_eq!(said(json!([raw])).0, json!([["assistant", [{ "thinking": "a", "signature": null }]]]));
}

#[test]
fn a_choice_among_allowed_tools_leaves_only_these() {
    let conversation = read(&json!({
        "model": "m", "input": "x",
        "tools": [{ "type": "function", "name": "f" }, { "type": "function", "name": "g" }],
        "tool_choice": { "type": "allowed_tools", "mode": "required", "tools": [{ "type": "function", "name": "g" }] },
    }));
    let conversation = conversation.expect("it can be said");
    assert!(conversation.tool_choice == Some(ToolChoice::Required));
    assert_eq!(conversation.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["g"]);
}

#[test]
fn schemas_keep_their_order() {
    let body =
        r#"{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":{"z":1,"a":2}}]}"#;
    let envelope = Envelope::parse(body.into(), 64).expect("an envelope");
    let view = read_view(Endpoint::Responses, &envelope).expect("a request");
    let conversation = read_request(&envelope, &view).expect("it can be said");
    let parameters =
        conversation.tools.first().and_then(|tool| tool.parameters.as_ref()).expect("parameters");
    assert_eq!(parameters.get(), r#"{"z":1,"a":2}"#);
}

#[test]
fn an_error_quotes_no_value() {
    let error = with("colour", json!("canary-7")).expect_err("refused");
    let wrong = of_input(json!([{ "role": "canary-7", "content": "canary-7" }])).expect_err("refused");
    assert!(!format!("{error}{wrong}").contains("canary-7"));
}

/// The recorded shape of a request with one value in it exchanged for another.
fn mutated() -> impl Strategy<Value = Value> {
    let odd = proptest::sample::select(
        &[
            "null",
            "true",
            "-1",
            "1.5",
            "\"\"",
            "\"x\"",
            "[]",
            "{}",
            "[[]]",
            "[null]",
            "{\"type\":\"x\"}",
            "{\"type\":null}",
        ][..],
    );
    (any::<proptest::sample::Index>(), odd).prop_map(|(place, odd)| {
        let mut body = full();
        let mut paths = Vec::new();
        walk(&body, String::new(), &mut paths);
        let path = place.get(&paths).clone();
        if let Some(value) = body.pointer_mut(&path) {
            *value = serde_json::from_str(odd).expect("JSON");
        }
        body
    })
}

fn walk(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                walk(value, format!("{path}/{name}"), paths);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                walk(value, format!("{path}/{at}"), paths);
            }
        }
        _ => {}
    }
    if !path.is_empty() {
        paths.push(path);
    }
}

proptest! {
    #[test]
    fn any_request_is_read_or_refused_by_name(body in mutated()) {
            let envelope = Envelope::parse(body.to_string().into(), 64).expect("an envelope");
        if let Ok(view) = read_view(Endpoint::Responses, &envelope)
            && let Err(error) = read_request(&envelope, &view)
        {
            prop_assert!(error.field().is_some_and(|field| !field.is_empty()));
        }
    }
}
