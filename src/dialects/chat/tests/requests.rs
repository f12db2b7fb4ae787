//! What a client may ask, and what it is told where it may not.

use serde_json::{Value, json};

use super::{input, plain, read_request, write_for};
use crate::{
    dialects::testing::{body_of, golden, pretty},
    wire::{
        self, Conversation, Endpoint, Envelope,
        conversation::{
            Block, CacheTime, Content, Effort, Format, Reasoning, Role, Source, Thinking, ToolChoice,
        },
    },
};

/// A request in its own bytes.
fn read(body: String) -> Result<Conversation, String> {
    let envelope = Envelope::parse(body.into(), 64).expect("an envelope");
    let view = wire::read_request(Endpoint::ChatCompletions, &envelope).expect("a request");
    read_request(&envelope, &view).map_err(|error| error.to_string())
}

/// A request with these members besides a message.
fn with(members: Value) -> Result<Conversation, String> {
    let asked = plain(Endpoint::ChatCompletions, members);
    read_request(&asked.envelope, &asked.view).map_err(|error| error.to_string())
}

/// A request with these messages.
fn saying(messages: Value) -> Result<Conversation, String> {
    with(json!({ "messages": messages }))
}

fn blocks(conversation: &Conversation) -> Vec<&Content> {
    conversation.turns.iter().flat_map(|turn| &turn.blocks).map(|block| &block.content).collect()
}

#[test]
fn a_request_with_everything_becomes_a_conversation_and_a_chat_again() {
    let conversation = read(input("request.json")).expect("all of it is understood");
    let written = write_for(Endpoint::ChatCompletions, &conversation).expect("all of it can be said");
    assert_eq!(written.path, "/chat/completions");
    assert!(!written.usage_injected && written.output_limit.is_none());
    let shown = json!({ "body": body_of(&written), "dropped": written.dropped });
    golden("chat/request.written.json", &pretty(&shown));
    // A value is sorted; what a model reads keeps its order.
    let text = std::str::from_utf8(&written.body).expect("text");
    assert!(
        text.contains(r#""properties": { "z": { "type": "integer" }, "a""#) && text.contains(r#"{\"z\": 1"#)
    );
}

#[test]
fn what_others_need_of_a_request_is_in_its_conversation() {
    let conversation = read(input("request.json")).expect("all of it is understood");
    let roles: Vec<Role> = conversation.turns.iter().map(|turn| turn.role).collect();
    use Role::{Assistant, System, User};
    assert_eq!(roles, [System, System, User, Assistant, User, User, User, Assistant, System, User]);
    let turn = |at: usize| &conversation.turns[at];
    assert_eq!(turn(1).blocks[0].cache, Some(CacheTime::Hour));
    assert_eq!((turn(2).name.as_deref(), turn(4).name.as_deref()), (Some("ada"), None));
    assert_eq!(
        turn(6).blocks[0].cache,
        Some(CacheTime::FiveMinutes),
        "a mark on a message is on its last block"
    );
    let kinds: Vec<&str> = turn(3).blocks.iter().map(kind).collect();
    assert_eq!(kinds, ["signed", "sealed", "text", "text signature", "call", "signed call"]);
    let kinds: Vec<&str> = turn(2).blocks.iter().map(kind).collect();
    assert_eq!(
        kinds,
        ["text", "image", "image by address", "audio", "document", "text document", "uploaded document"]
    );
    assert!(matches!(&turn(5).blocks[0].content, Content::ToolResult { id, blocks, is_error: false }
        if id == "call_b" && blocks.len() == 2));
    let tools: Vec<&str> = conversation.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(tools, ["look", "weather"], "what is not allowed is not offered");
    assert!(conversation.tool_choice == Some(ToolChoice::Required));
    assert_eq!((conversation.output_limit, conversation.choices, conversation.stream), (Some(1000), 2, true));
    assert_eq!(conversation.user.as_deref(), Some("user-1"));
    let reasoning = Reasoning { effort: Some(Effort::High), show: Some(false), ..Reasoning::default() };
    assert_eq!(conversation.reasoning, Some(reasoning));
    assert_eq!(conversation.sampling.seed, Some(9_007_199_254_740_993));
    let hints: Vec<&str> = conversation.hints.iter().map(|hint| hint.name).collect();
    assert_eq!(hints, ["metadata", "store", "prediction", "prompt_cache_key", "prompt_cache_retention"]);
}

fn kind(block: &Block) -> &'static str {
    match &block.content {
        Content::Text(_) => "text",
        Content::Image { source: Source::Url(_), .. } => "image by address",
        Content::Image { .. } => "image",
        Content::Audio { .. } => "audio",
        Content::Document { source: Source::Text(text), .. } if text == "Grüße" => "text document",
        Content::Document { source: Source::File(_), .. } => "uploaded document",
        Content::Document { .. } => "document",
        Content::Thinking(Thinking::Open { signature: Some(_), .. }) => "signed",
        Content::Thinking(Thinking::Open { signature: None, .. }) => "thought",
        Content::Thinking(Thinking::Sealed { .. }) => "sealed",
        Content::ToolCall(call) if call.signature.is_some() => "signed call",
        Content::ToolCall(_) => "call",
        Content::ToolResult { .. } => "result",
        Content::Refusal(_) => "refusal",
        Content::TextSignature(_) => "text signature",
    }
}

#[test]
fn legacy_functions_become_tools_and_their_results_find_their_calls() {
    let request = json!({
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
            {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": null},
        ],
        "functions": [{"name": "f", "parameters": {"type": "object"}}, {"name": "g"}],
        "function_call": {"name": "f"},
    });
    let conversation = with(request).expect("understood");
    let ids: Vec<&str> = blocks(&conversation)
        .into_iter()
        .filter_map(|content| match content {
            Content::ToolCall(call) => Some(call.id.as_str()),
            Content::ToolResult { id, .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    assert!(ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2], "{ids:?}");
    assert!(conversation.tool_choice == Some(ToolChoice::Named("f".into())) && conversation.tools.len() == 2);
    assert_eq!(conversation.parallel_tools, Some(false));
    let lost = saying(json!([{"role": "function", "name": "f", "content": "1"}])).err();
    assert_eq!(
        lost.as_deref(),
        Some("`messages[0].name` must be the name of a function that was called before")
    );
}

#[test]
fn thoughts_are_read_under_every_name_and_once() {
    let thoughts = |members: Value| {
        let mut message = json!({"role": "assistant", "content": "x"});
        if let (Some(message), Value::Object(members)) = (message.as_object_mut(), members) {
            message.extend(members);
        }
        let conversation = saying(json!([message])).expect("understood");
        let hints = conversation.hints.len();
        let kinds: Vec<&str> = conversation.turns[0].blocks.iter().map(kind).collect();
        (kinds, hints)
    };
    assert_eq!(thoughts(json!({"reasoning_content": "a", "reasoning": "a"})), (vec!["thought", "text"], 0));
    assert_eq!(thoughts(json!({"reasoning": "a"})), (vec!["thought", "text"], 0));
    assert_eq!(thoughts(json!({"reasoning": ""})), (vec!["text"], 0));
    let block = json!({"type": "thinking", "thinking": "a", "signature": ""});
    assert_eq!(thoughts(json!({"thinking_blocks": [block], "reasoning": "a"})), (vec!["thought", "text"], 0));
    let details = json!([
        {"type": "reasoning.text", "text": "a", "signature": "s", "format": "anthropic-claude-v1", "index": 0, "id": "r"},
        {"type": "reasoning.summary", "summary": "a", "signature": null, "format": "openai-responses-v1"},
        {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "data": "d", "format": "openai-responses-v1"},
    ]);
    let found = thoughts(json!({"reasoning_details": details, "reasoning": "a"}));
    assert_eq!(
        found,
        (vec!["signed", "thought", "sealed", "text"], 1),
        "what nobody else can read is a hint"
    );
    let part = json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}, {"type": "text", "text": "b"}]});
    assert_eq!(thoughts(part), (vec!["thought", "text"], 0));
}

#[test]
fn reasoning_is_asked_for_in_several_ways() {
    let none = Reasoning::default();
    let cases = [
        (json!({"reasoning_effort": "minimal"}), Reasoning { effort: Some(Effort::Minimal), ..none }),
        (
            json!({"reasoning": {"effort": "xhigh", "exclude": false}}),
            Reasoning { effort: Some(Effort::XHigh), show: Some(true), ..none },
        ),
        (json!({"reasoning": {"max_tokens": 2000}}), Reasoning { budget: Some(2000), ..none }),
        (json!({"reasoning": {"enabled": false}}), Reasoning { effort: Some(Effort::None), ..none }),
        (json!({"reasoning": {"enabled": true}}), Reasoning { adaptive: true, ..none }),
        (json!({"include_reasoning": false}), Reasoning { show: Some(false), ..none }),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
            Reasoning { budget: Some(1024), ..none },
        ),
        (
            json!({"thinking": {"type": "adaptive", "display": "omitted"}}),
            Reasoning { adaptive: true, show: Some(false), ..none },
        ),
        (json!({"thinking": {"type": "disabled"}}), Reasoning { effort: Some(Effort::None), ..none }),
        (
            json!({"thinking": {"type": "adaptive"}, "reasoning_effort": "low"}),
            Reasoning { adaptive: true, effort: Some(Effort::Low), ..none },
        ),
    ];
    for (members, wanted) in cases {
        let shown = members.to_string();
        assert_eq!(with(members).expect("understood").reasoning, Some(wanted), "{shown}");
    }
    assert_eq!(with(json!({"reasoning": null})).expect("understood").reasoning, None);
}

#[test]
fn what_only_some_clients_write_is_understood_as_they_mean_it() {
    let image = |image: Value| {
        saying(json!([{"role": "user", "content": [{"type": "image_url", "image_url": image}]}]))
    };
    for address in
        [json!("https://x.y/z.png"), json!({"url": "HTTPS://x.y/z.png"}), json!("gs://bucket/z.png")]
    {
        let conversation = image(address).expect("understood");
        assert!(matches!(blocks(&conversation)[0], Content::Image { source: Source::Url(_), detail: None }));
    }
    let conversation = image(json!("data:image/JPEG;x=y;BASE64,AAAA")).expect("understood");
    assert!(
        matches!(blocks(&conversation)[0], Content::Image { source: Source::Base64 { media_type, data }, .. }
        if media_type == "image/jpeg" && data == "AAAA")
    );
    let bare = json!({"filename": "A.PDF", "file_data": "JVBERi0="});
    let conversation = saying(json!([{"role": "user", "content": [{"type": "file", "file": bare}]}]));
    assert!(
        matches!(blocks(&conversation.expect("understood"))[0], Content::Document { source: Source::Base64 { media_type, .. }, .. }
        if media_type == "application/pdf")
    );
    let calls = json!([{"id": "c", "function": {"name": "f", "arguments": {"b": 1, "a": 2}}}]);
    let conversation = saying(json!([{"role": "assistant", "tool_calls": calls}])).expect("understood");
    assert!(matches!(blocks(&conversation)[0], Content::ToolCall(call) if call.arguments.starts_with('{')));
    assert!(
        with(json!({"tool_choice": "any"})).expect("understood").tool_choice == Some(ToolChoice::Required)
    );
    assert_eq!(with(json!({"stop": "END"})).expect("understood").stop, ["END"]);
    assert!(matches!(
        with(json!({"response_format": {"type": "text"}})).expect("understood").format,
        Some(Format::Text)
    ));
    let silent = saying(
        json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": null, "refusal": null}]),
    );
    assert_eq!(silent.expect("understood").turns.len(), 1, "an answer in which nothing was said is no turn");
    let marked = json!([{"role": "tool", "tool_call_id": "c", "content": [
        {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}]}]);
    let conversation = saying(marked).expect("understood");
    assert_eq!(conversation.turns[0].blocks[0].cache, Some(CacheTime::FiveMinutes));
}

#[test]
fn a_message_comes_back_as_the_sdks_keep_it() {
    let message = json!({
        "content": "Let me look.", "refusal": null, "role": "assistant", "audio": null, "function_call": null, "parsed": null,
        "annotations": [{"type": "url_citation", "index": 0, "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 0}}],
        "tool_calls": [{
            "id": "call_a", "function": {"arguments": "{}", "name": "look", "parsed_arguments": null}, "type": "function",
            "index": 0, "extra_content": {"google": {"thought_signature": "s2"}},
        }],
        "reasoning_content": "Hm.",
        "thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "Hm.", "signature": "s1"}],
        "extra_content": {"google": {"thought_signature": "late"}},
    });
    let conversation = saying(json!([{"role": "user", "content": "x"}, message])).expect("understood");
    let kinds: Vec<&str> = conversation.turns[1].blocks.iter().map(kind).collect();
    assert_eq!(kinds, ["signed", "text", "text signature", "signed call"]);
}

#[test]
fn members_that_ask_for_nothing_need_no_translation() {
    let nothing = json!({
        "store": false, "metadata": {}, "logit_bias": {}, "logprobs": false, "foo": null, "modalities": ["text"],
        "tools": [], "stop": [], "web_search_options": null, "audio": null, "n": 1,
    });
    let conversation = with(nothing).expect("understood");
    assert!(conversation.hints.is_empty() && conversation.sampling.logit_bias.is_none());
    let written = write_for(Endpoint::ChatCompletions, &conversation).expect("can be said");
    assert_eq!(written.body, r#"{"model":"up","messages":[{"role":"user","content":"hi"}]}"#);
    assert!(written.dropped.is_empty());
}

#[test]
fn whatever_is_not_understood_is_refused_by_its_name() {
    let user = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    let answer = |members: Value| json!({"messages": [{"role": "user", "content": "x"}, members]});
    let elsewhere = "take it out, or call a provider of OpenAI's dialect";
    let cases = [
        (json!({"min_p": 0.1}), format!("`min_p` has no meaning for this model's provider; {elsewhere}")),
        (json!({"web_search_options": {}}), format!("`web_search_options` asks for a search of OpenAI's own; {elsewhere}")),
        (json!({"modalities": ["text", "audio"]}), format!("`modalities[1]` asks for something other than text; {elsewhere}")),
        (json!({"audio": {"voice": "x"}}), format!("`audio` asks for an answer in sound; {elsewhere}")),
        (json!({"stream_options": {"x": 1}}), format!("`stream_options.x` has no meaning for this model's provider; {elsewhere}")),
        (json!({"temperature": "1"}), "`temperature` must be a number".into()),
        (json!({"seed": 1.5}), "`seed` must be a whole number of 64 bits".into()),
        (json!({"top_k": -1}), "`top_k` must be a whole number, 0 or more".into()),
        (json!({"verbosity": "loud"}), "`verbosity` must be `low`, `medium` or `high`".into()),
        (json!({"stop": [1]}), "`stop[0]` must be a string".into()),
        (json!({"reasoning_effort": "much"}), "`reasoning_effort` must be `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`".into()),
        (
            json!({"reasoning_effort": "low", "thinking": {"type": "disabled"}}),
            "`thinking.type` says otherwise than another member about reasoning; give one of them".into(),
        ),
        (json!({"response_format": {"type": "grammar"}}), "`response_format.type` must be `text`, `json_object` or `json_schema`".into()),
        (json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}), "`response_format.json_schema.schema` must be an object".into()),
        (
            json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]}),
            "`tools[0].custom` is `custom`, which only OpenAI's own models know; make it a function with one string, or call a provider of OpenAI's dialect".into(),
        ),
        (json!({"tools": [{"type": "web_search"}]}), format!("`tools[0].type` is not `function`; {elsewhere}")),
        (json!({"tools": [{"type": "function", "function": {"name": ""}}]}), "`tools[0].function.name` must be a string that is not empty".into()),
        (json!({"tool_choice": {"type": "function"}}), "`tool_choice.function` must be an object".into()),
        (json!({"tool_choice": "some"}), "`tool_choice` must be `none`, `auto`, `required`, or an object that names a function".into()),
        (
            json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [{"type": "function", "function": {"name": "x"}}]}}}),
            "`tool_choice.allowed_tools.tools` must be functions that `tools` offers".into(),
        ),
        (json!({"tools": [{"function": {"name": "f"}}], "functions": []}), "`functions` stands beside `tools`; give one of them".into()),
        (json!({"messages": [{"role": "user"}]}), "`messages[0].content` must be a string or an array of parts".into()),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "`messages[0].role` must be `system`, `developer`, `user`, `assistant` or `tool`".into()),
        (json!({"messages": [{"role": "user", "content": "x", "id": "1"}]}), format!("`messages[0].id` has no meaning for this model's provider; {elsewhere}")),
        (json!({"messages": [{"role": "user", "content": "x", "reasoning_content": "y"}]}), "`messages[0].reasoning_content` must be part of a message of the role `assistant`".into()),
        (user(json!({"type": "video_url", "video_url": {"url": "x"}})), format!("`messages[0].content[0].type` is not `text`, `image_url`, `input_audio` or `file`; {elsewhere}")),
        (user(json!({"type": "text", "text": "x", "y": 1})), format!("`messages[0].content[0].y` has no meaning for this model's provider; {elsewhere}")),
        (user(json!({"type": "refusal", "refusal": "x"})), format!("`messages[0].content[0].type` is nothing that this role can say; {elsewhere}")),
        (user(json!({"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AA"}})), "`messages[0].content[0].image_url.url` is no picture; send a document as a `file` part".into()),
        (user(json!({"type": "image_url", "image_url": {"url": "C:\\cat.png"}})), "`messages[0].content[0].image_url.url` must be an address that begins with `https://`, or a data URL with base64".into()),
        (user(json!({"type": "file", "file": {"file_data": "AAAA"}})), "`messages[0].content[0].file.file_data` must be a data URL with base64, such as `data:application/pdf;base64,…`".into()),
        (user(json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "2d"}})), "`messages[0].content[0].cache_control.ttl` must be `5m` or `1h`".into()),
        (answer(json!({"role": "tool", "content": "x"})), "`messages[1].tool_call_id` must be the id of a tool call".into()),
        (answer(json!({"role": "assistant", "audio": {"id": "a"}})), format!("`messages[1].audio` is an answer in sound; {elsewhere}")),
        (
            answer(json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]})),
            format!("`messages[1].tool_calls[0].custom` has no meaning for this model's provider; {elsewhere}"),
        ),
        (json!({"x".repeat(65): 1}), format!("`…` has no meaning for this model's provider; {elsewhere}")),
    ];
    for (members, wanted) in cases {
        let shown = members.to_string();
        assert_eq!(with(members).err().as_deref(), Some(wanted.as_str()), "{shown}");
    }
}

#[test]
fn a_member_given_twice_is_refused_wherever_it_stands() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}"#;
    assert_eq!(read(body.to_owned()).err().as_deref(), Some("`messages[0].content` must be given once"));
}
