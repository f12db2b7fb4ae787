//! What is written for a provider when its client speaks otherwise.

use serde_json::{Value, json, value::RawValue};

use super::{plain, with_call, write_for, write_request};
use crate::{
    catalogue::{Capabilities, OutputLimitField, Quirks, StreamUsage, ThinkingStyle},
    dialects::{
        UpstreamRequest,
        testing::{body_of, golden, pretty},
    },
    wire::{
        Conversation, Endpoint,
        conversation::{
            Block, CacheTime, Content, Effort, Format, Hint, Reasoning, Role, Sampling, Source, Thinking,
            Tool, ToolCall, ToolChoice, Turn,
        },
    },
};

fn text(text: &str) -> Block {
    Content::Text(text.into()).into()
}

fn call(id: &str) -> Block {
    let call =
        ToolCall { id: id.into(), name: "look".into(), arguments: "{\"z\":1}".into(), signature: None };
    Content::ToolCall(call).into()
}

fn result(id: &str, blocks: Vec<Block>, is_error: bool) -> Block {
    Content::ToolResult { id: id.into(), blocks, is_error }.into()
}

fn picture() -> Block {
    let source = Source::Base64 { media_type: "image/png".into(), data: "AAAA".into() };
    Content::Image { source, detail: None }.into()
}

fn document(source: Source, title: Option<&str>) -> Block {
    let title = title.map(str::to_owned);
    Content::Document { source, title, context: Some("from last week".into()), citations: false }.into()
}

fn thought(text: &str) -> Block {
    Content::Thinking(Thinking::Open { text: text.into(), signature: Some("s".into()) }).into()
}

fn raw(value: Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("JSON")
}

fn saying(turns: Vec<Turn>) -> Conversation {
    Conversation { turns, choices: 1, ..Conversation::default() }
}

fn hello() -> Conversation {
    saying(vec![Turn::new(Role::User, vec![text("hi")])])
}

/// As a client of Anthropic's Messages may ask.
fn full() -> Conversation {
    let marked = |mut block: Block| {
        block.cache = Some(CacheTime::Hour);
        block
    };
    let pdf = || Source::Base64 { media_type: "application/pdf".into(), data: "JVBERi0=".into() };
    Conversation {
        turns: vec![
            Turn::new(Role::System, vec![text("You are terse."), marked(text("Use the tools."))]),
            Turn::new(
                Role::User,
                vec![
                    text("Read these."),
                    document(pdf(), Some("Report")),
                    document(Source::Text("All is well.".into()), Some("notes.txt")),
                ],
            ),
            Turn::new(
                Role::Assistant,
                vec![thought("Hm."), text("Let me "), text("look."), call("toolu_1"), call("toolu_2")],
            ),
            Turn::new(
                Role::User,
                vec![
                    result("toolu_1", vec![text("a cat"), picture()], false),
                    marked(result("toolu_2", vec![text("no such file")], true)),
                    text("Well?"),
                    picture(),
                ],
            ),
            Turn::new(Role::Assistant, vec![thought("A cat."), text("A cat.")]),
            Turn::new(Role::System, vec![text("Be kinder.")]),
            Turn::new(Role::User, vec![text("And now"), text("in French?")]),
        ],
        tools: vec![Tool {
            name: "look".into(),
            description: Some("Looks.".into()),
            parameters: Some(raw(json!({"type": "object", "properties": {"z": {"type": "integer"}}}))),
            strict: None,
            cache: Some(CacheTime::FiveMinutes),
        }],
        tool_choice: Some(ToolChoice::Named("look".into())),
        parallel_tools: Some(false),
        format: Some(Format::JsonSchema {
            name: None,
            description: None,
            schema: raw(json!({"type": "object"})),
            strict: None,
        }),
        reasoning: Some(Reasoning { budget: Some(4_000), ..Reasoning::default() }),
        output_limit: Some(1_000),
        sampling: Sampling { temperature: Some(0.2), ..Sampling::default() },
        stop: vec!["END".into()],
        choices: 1,
        stream: true,
        user: Some("u".into()),
        service_tier: Some("standard_only".into()),
        verbosity: None,
        hints: Vec::new(),
    }
}

fn write_with(quirks: &Quirks, conversation: &Conversation) -> UpstreamRequest {
    let asked = plain(Endpoint::Messages, Value::Null);
    with_call(&asked, quirks, &Capabilities::default(), |call| write_request(conversation, call))
        .expect("can be said")
}

#[test]
fn a_conversation_with_everything_is_written() {
    let written = write_for(Endpoint::Messages, &full()).expect("can be said");
    let shown = json!({ "body": body_of(&written), "dropped": written.dropped });
    golden("chat/messages.written.json", &pretty(&shown));
}

#[test]
fn a_provider_that_caches_on_demand_and_takes_thoughts_back_is_given_both() {
    let quirks = Quirks { cache_control: true, reasoning_content: true, ..Quirks::default() };
    let written = write_with(&quirks, &full());
    let shown = json!({ "body": body_of(&written), "dropped": written.dropped });
    golden("chat/messages.written.quirks.json", &pretty(&shown));
}

#[test]
fn calls_of_one_answer_stand_together_and_so_do_their_results() {
    // As a client of Responses has them: an item each.
    let turn = |role, block| Turn::new(role, vec![block]);
    let conversation = saying(vec![
        turn(Role::User, text("hi")),
        turn(Role::Assistant, text("One.")),
        turn(Role::Assistant, text("Two.")),
        turn(Role::Assistant, call("a")),
        turn(Role::Assistant, call("b")),
        turn(Role::User, result("a", vec![picture()], false)),
        turn(Role::User, result("b", Vec::new(), false)),
    ]);
    let body = body_of(&write_for(Endpoint::Responses, &conversation).expect("can be said"));
    let messages = body["messages"].as_array().expect("messages");
    let roles: Vec<&str> = messages.iter().filter_map(|message| message["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "user"]);
    assert_eq!(messages[1]["content"], "One.\nTwo.");
    assert_eq!(messages[1]["tool_calls"].as_array().map(Vec::len), Some(2));
    assert_eq!((&messages[2]["tool_call_id"], &messages[3]["content"]), (&json!("a"), &json!("")));
    assert_eq!(messages[4]["content"][1]["type"], "image_url");
}

#[test]
fn the_output_limit_and_usage_go_under_the_names_the_provider_knows() {
    let streamed = Conversation { stream: true, output_limit: Some(5), ..hello() };
    let said = |quirks: Quirks| {
        let body = body_of(&write_with(&quirks, &streamed));
        let of = |name: &str| body.get(name).cloned().unwrap_or(Value::Null);
        (of("max_tokens"), of("max_completion_tokens"), of("stream_options"))
    };
    let usage = json!({"include_usage": true});
    assert_eq!(said(Quirks::default()), (Value::Null, json!(5), usage.clone()));
    let either = Quirks { output_limit: OutputLimitField::Either, ..Quirks::default() };
    assert_eq!(said(either), (json!(5), Value::Null, usage));
    let old = Quirks {
        output_limit: OutputLimitField::MaxTokens,
        refuses_stream_options: true,
        ..Quirks::default()
    };
    assert_eq!(said(old), (json!(5), Value::Null, Value::Null));
    let always = Quirks { stream_usage: StreamUsage::Always, ..Quirks::default() };
    assert_eq!(said(always).2, Value::Null);
    // What the gateway allows counts over what the client asked for.
    let asked = plain(Endpoint::Messages, Value::Null);
    let clamped = with_call(&asked, &Quirks::default(), &Capabilities::default(), |call| {
        let call = crate::dialects::Call { output_limit: Some(3), ..*call };
        write_request(&streamed, &call).expect("can be said")
    });
    assert_eq!(body_of(&clamped)["max_completion_tokens"], 3);
}

#[test]
fn hints_that_a_provider_would_refuse_are_left_out_and_named() {
    let mut conversation = hello();
    conversation.user = Some("u".into());
    conversation.sampling.seed = Some(1);
    conversation.turns[0].name = Some("ada".into());
    conversation.hints = vec![Hint { name: "metadata", value: raw(json!({"a": "b"})) }];
    let strict = Quirks { refuses_unknown: true, ..Quirks::default() };
    let written = write_with(&strict, &conversation);
    assert_eq!(written.body, r#"{"model":"up","messages":[{"role":"user","content":"hi"}]}"#);
    assert_eq!(written.dropped, ["messages.name", "metadata.user_id", "seed", "metadata"]);
    let written = write_with(&Quirks::default(), &conversation);
    assert_eq!(
        written.body,
        r#"{"model":"up","messages":[{"role":"user","name":"ada","content":"hi"}],"seed":1,"user":"u"}"#
    );
    assert_eq!(written.dropped, ["metadata"]);
}

#[test]
fn ids_that_a_provider_would_refuse_are_made_anew_for_call_and_result_alike() {
    let long = "call_".repeat(20);
    let turns = |id: &str| {
        saying(vec![
            Turn::new(Role::Assistant, vec![call(id)]),
            Turn::new(Role::User, vec![result(id, vec![text("x"), picture()], false)]),
        ])
    };
    let ids = |quirks: Quirks, id: &str| {
        let body = body_of(&write_with(&quirks, &turns(id)));
        let messages = &body["messages"];
        let made = messages[0]["tool_calls"][0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(messages[1]["tool_call_id"], made.as_str());
        assert_eq!(messages[2]["content"][0]["text"], format!("From the result of tool call {made}:"));
        made
    };
    assert_eq!(ids(Quirks::default(), "toolu_1"), "toolu_1");
    let made = ids(Quirks::default(), &long);
    assert!(made.len() <= 40 && made != ids(Quirks::default(), &long[5..]), "{made}");
    let nine = Quirks { nine_letter_call_ids: true, ..Quirks::default() };
    assert_eq!(ids(nine, "D681PevKs"), "D681PevKs");
    for id in [long.as_str(), "toolu_1", "call-1234"] {
        let made = ids(nine, id);
        assert!(made.len() == 9 && made.bytes().all(|b| b.is_ascii_alphanumeric()), "{made}");
    }
    let nobody = Conversation { user: Some("u".repeat(65)), ..hello() };
    assert_eq!(
        write_with(&Quirks::default(), &nobody).dropped,
        ["metadata.user_id"],
        "longer than OpenAI takes"
    );
}

#[test]
fn efforts_go_as_the_model_knows_them() {
    let effort = |endpoint, reasoning: Reasoning, capabilities: &Capabilities| {
        let conversation = Conversation { reasoning: Some(reasoning), ..hello() };
        let asked = plain(endpoint, Value::Null);
        let written =
            with_call(&asked, &Quirks::default(), capabilities, |call| write_request(&conversation, call));
        written.map(|written| (body_of(&written).get("reasoning_effort").cloned(), written.dropped))
    };
    let some = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let usual = Capabilities::default();
    let said = |endpoint, reasoning, capabilities: &Capabilities| {
        effort(endpoint, reasoning, capabilities)
            .expect("can be said")
            .0
            .map(|effort| effort.as_str().map(str::to_owned))
    };
    let word = |word: &str| Some(Some(word.to_owned()));
    for (budget, wanted) in
        [(1_024, "low"), (2_048, "low"), (4_000, "medium"), (10_000, "high"), (u64::MAX, "high")]
    {
        let reasoning = Reasoning { budget: Some(budget), ..Reasoning::default() };
        assert_eq!(said(Endpoint::Messages, reasoning, &usual), word(wanted), "{budget}");
    }
    assert_eq!(said(Endpoint::Messages, Reasoning { adaptive: true, ..Reasoning::default() }, &usual), None);
    assert_eq!(said(Endpoint::Responses, some(Effort::Max), &usual), word("max"));
    assert_eq!(said(Endpoint::Responses, some(Effort::None), &usual), word("none"));
    let off = effort(Endpoint::Messages, some(Effort::None), &usual).expect("can be said");
    assert_eq!(off, (None, vec!["thinking"]), "to Anthropic's clients it is the default");
    let few = Capabilities { efforts: vec!["low".into(), "high".into()], ..Capabilities::default() };
    assert_eq!(said(Endpoint::Responses, some(Effort::Max), &few), word("high"));
    assert_eq!(said(Endpoint::Messages, some(Effort::None), &few), word("low"));
    let never = Capabilities { thinking: ThinkingStyle::None, ..Capabilities::default() };
    assert_eq!(said(Endpoint::Responses, some(Effort::None), &never), None);
    assert!(effort(Endpoint::Responses, some(Effort::Low), &never).is_err());
}

#[test]
fn what_cannot_be_said_is_refused_by_the_clients_name_of_it() {
    let refused = |endpoint, change: &dyn Fn(&mut Conversation)| {
        let mut conversation = hello();
        change(&mut conversation);
        write_for(endpoint, &conversation)
            .err()
            .and_then(|error| error.field().map(str::to_owned))
            .unwrap_or_default()
    };
    use Endpoint::{Messages, Responses};
    let push = |block: Block| {
        move |conversation: &mut Conversation| conversation.turns[0].blocks.push(block.clone())
    };
    assert_eq!(refused(Messages, &|it| it.sampling.top_k = Some(5)), "top_k");
    assert_eq!(refused(Responses, &|it| it.sampling.top_logprobs = Some(5)), "top_logprobs");
    assert_eq!(refused(Messages, &|it| it.stop = vec!["x".into(); 5]), "stop_sequences");
    assert_eq!(refused(Responses, &|it| it.tool_choice = Some(ToolChoice::Required)), "tool_choice");
    let at = |source| document(source, None);
    assert_eq!(refused(Messages, &push(at(Source::Url("https://x.y/z.pdf".into())))), "messages");
    assert_eq!(refused(Responses, &push(at(Source::Url("https://x.y/z.pdf".into())))), "input");
    let source = || Source::Text("x".into());
    let cited = Content::Document { source: source(), title: None, context: None, citations: true };
    assert_eq!(refused(Messages, &push(cited.into())), "messages");
    let uploaded = Content::Image { source: Source::File("file_1".into()), detail: None };
    assert_eq!(refused(Messages, &push(uploaded.into())), "messages");
    assert_eq!(refused(Messages, &push(call("a"))), "messages");
    assert_eq!(
        refused(Messages, &|it| it.turns.push(Turn::new(Role::Assistant, vec![picture()]))),
        "messages"
    );
}

#[test]
fn what_a_model_cannot_do_is_refused() {
    let asked = plain(Endpoint::Messages, Value::Null);
    let refused = |capabilities: Capabilities, change: &dyn Fn(&mut Conversation)| {
        let mut conversation = hello();
        change(&mut conversation);
        let written =
            with_call(&asked, &Quirks::default(), &capabilities, |call| write_request(&conversation, call));
        written.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let usual = Capabilities::default;
    let blind = Capabilities { images: false, ..usual() };
    assert!(
        refused(blind, &|it| it.turns[0].blocks.push(picture())).starts_with("`messages` shows a picture")
    );
    let fixed = Capabilities { sampling: false, ..usual() };
    assert!(
        refused(fixed.clone(), &|it| it.sampling.temperature = Some(0.5))
            .starts_with("`temperature` is fixed")
    );
    assert_eq!(refused(fixed, &|it| it.sampling.temperature = Some(1.0)), "");
    let free = Capabilities { json_schema: false, ..usual() };
    let schema =
        || Format::JsonSchema { name: None, description: None, schema: raw(json!({})), strict: None };
    assert!(
        refused(free, &|it| it.format = Some(schema())).starts_with("`response_format` asks for a schema")
    );
}

#[test]
fn later_instructions_are_the_users_where_a_model_takes_none() {
    let conversation = saying(vec![
        Turn::new(Role::System, vec![text("a")]),
        Turn::new(Role::User, vec![text("b")]),
        Turn::new(Role::System, vec![text("c")]),
    ]);
    let asked = plain(Endpoint::Responses, Value::Null);
    let capabilities = Capabilities { system_turns: false, ..Capabilities::default() };
    let written =
        with_call(&asked, &Quirks::default(), &capabilities, |call| write_request(&conversation, call));
    let body = body_of(&written.expect("can be said"));
    assert_eq!(body["messages"][0]["role"], "system");
    let said = json!({"role": "user", "content": "From whoever runs this application:\nc"});
    assert_eq!(body["messages"][2], said);
}
