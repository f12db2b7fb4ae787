//! For tests: conversations, and what becomes of them.

use serde_json::{Value, value::RawValue};

use super::write_request;
use crate::{
    catalogue::{DialectKind, Quirks, capabilities},
    dialects::{Asked, Call, ClientHeaders, DialectError, UpstreamRequest},
    domain::ModelName,
    wire::{
        Conversation, Endpoint, Envelope, RequestView,
        conversation::{
            Block, CacheTime, Content, Effort, Format, Hint, Reasoning, Role, Sampling, Source, Thinking,
            Tool, ToolCall, ToolChoice, Turn,
        },
    },
};

/// A model that does what older ones did: budgets, sampling, a beginning of the answer.
pub(super) const OLD: &str = "claude-sonnet-4-5";
/// One between the times.
pub(super) const MIDDLE: &str = "claude-opus-4-6";
/// One that thinks as it likes and takes instructions between turns.
pub(super) const NEW: &str = "claude-opus-5";
/// One that always thinks, and can be forced to nothing.
pub(super) const NEWEST: &str = "claude-opus-5-5";

pub(super) fn raw(value: &str) -> Box<RawValue> {
    RawValue::from_string(value.to_owned()).expect("JSON")
}

pub(super) fn text(said: &str) -> Block {
    Content::Text(said.to_owned()).into()
}

pub(super) fn turn(role: Role, said: &str) -> Turn {
    Turn::new(role, vec![text(said)])
}

pub(super) fn call(id: &str, name: &str, arguments: &str) -> Block {
    let [id, name, arguments] = [id, name, arguments].map(str::to_owned);
    Content::ToolCall(ToolCall { id, name, arguments, signature: None }).into()
}

pub(super) fn result(id: &str, said: &str) -> Block {
    Content::ToolResult { id: id.to_owned(), blocks: vec![text(said)], is_error: false }.into()
}

/// A conversation of one word.
pub(super) fn hello() -> Conversation {
    Conversation { turns: vec![turn(Role::User, "Hello")], choices: 1, ..Conversation::default() }
}

pub(super) fn tool(name: &str) -> Tool {
    let parameters = Some(raw(r#"{"type":"object","properties":{"b":{},"a":{}}}"#));
    Tool { name: name.to_owned(), description: None, parameters, strict: None, cache: None }
}

pub(super) struct Sent {
    pub(super) request: UpstreamRequest,
    pub(super) names: std::collections::HashMap<String, String>,
    pub(super) body: Value,
}

pub(super) fn written_as(
    endpoint: Endpoint,
    model: &str,
    limits: (Option<u64>, Option<u64>),
    conversation: &Conversation,
) -> Result<Sent, DialectError> {
    let envelope = Envelope::parse("{}".into(), 8).expect("an envelope");
    let asked = Asked::new(endpoint, envelope, RequestView::default(), ClientHeaders::default());
    let model = ModelName::parse(model).expect("a name");
    let call = Call {
        asked: &asked,
        quirks: &Quirks::default(),
        capabilities: capabilities(DialectKind::Anthropic, model.as_str()),
        model: &model,
        output_limit: limits.0,
        model_limit: limits.1,
        ask_usage: true,
        request_id: "req_1",
        created: 1_700_000_000,
    };
    let (request, names) = write_request(conversation, &call)?;
    let body = serde_json::from_slice(&request.body).expect("a body is JSON");
    Ok(Sent { request, names, body })
}

pub(super) fn written(model: &str, conversation: &Conversation) -> Result<Sent, DialectError> {
    written_as(Endpoint::ChatCompletions, model, (None, Some(64_000)), conversation)
}

/// The body, and the hints that could not be given.
pub(super) fn sent(model: &str, conversation: &Conversation) -> (Value, Vec<&'static str>) {
    let sent = written(model, conversation).unwrap_or_else(|error| panic!("{error}"));
    (sent.body, sent.request.dropped)
}

/// The message of a refusal.
pub(super) fn refused(model: &str, conversation: &Conversation) -> String {
    written(model, conversation).map(|_| ()).expect_err("it cannot be said").to_string()
}

pub(super) fn field(model: &str, conversation: &Conversation) -> String {
    let error = written(model, conversation).map(|_| ()).expect_err("it cannot be said");
    error.field().expect("it names a member").to_owned()
}

/// Everything at once.
pub(super) fn full() -> Conversation {
    let cached = |block: Block, time| Block { cache: Some(time), ..block };
    let picture = Source::Base64 { media_type: "image/png".into(), data: "iVBORw0KGgo=".into() };
    let paper = Source::Base64 { media_type: "application/pdf".into(), data: "JVBERi0=".into() };
    let thoughts = Thinking::Open { text: "Two cities.\n".into(), signature: Some("c2ln+/==".into()) };
    let report = Content::ToolResult {
        id: "call_2".into(),
        blocks: vec![text("no such city"), Content::Image { source: picture.clone(), detail: None }.into()],
        is_error: true,
    };
    Conversation {
        turns: vec![
            Turn::new(Role::System, vec![cached(text("You are a guide."), CacheTime::Hour)]),
            turn(Role::System, "Be brief."),
            Turn {
                role: Role::User,
                name: Some("ada".into()),
                blocks: vec![
                    text("What is in these?"),
                    text(" "),
                    Content::Image { source: picture, detail: Some("high".into()) }.into(),
                    Content::Image { source: Source::Url("https://example.com/a.jpg".into()), detail: None }
                        .into(),
                    Content::Document {
                        source: paper,
                        title: Some("plan.pdf".into()),
                        context: None,
                        citations: true,
                    }
                    .into(),
                    cached(text("And the weather?"), CacheTime::FiveMinutes),
                ],
            },
            Turn::new(
                Role::Assistant,
                vec![
                    Content::Thinking(thoughts).into(),
                    Content::Thinking(Thinking::Sealed { data: "opaque".into() }).into(),
                    text("I look it up."),
                    call("call_1", "weather", "{\"city\": \"Oslo\", \"at\":1.0}"),
                    call("call_2", "weather", ""),
                ],
            ),
            Turn::new(Role::User, vec![result("call_1", "rain")]),
            Turn::new(Role::User, vec![report.into()]),
            turn(Role::System, "Answer in French."),
        ],
        tools: vec![
            Tool {
                name: "weather".into(),
                description: Some("The weather of a city".into()),
                parameters: Some(raw(
                    r#"{"type":"object","properties":{"city":{"type":"string"},"at":{"type":"number"}},"required":["city"]}"#,
                )),
                strict: Some(true),
                cache: Some(CacheTime::Hour),
            },
            Tool { name: "now".into(), description: None, parameters: None, strict: None, cache: None },
        ],
        tool_choice: Some(ToolChoice::Auto),
        parallel_tools: Some(false),
        format: Some(Format::JsonSchema {
            name: Some("answer".into()),
            description: Some("The answer".into()),
            schema: raw(
                r#"{"type":"object","properties":{"text":{"type":"string","maxLength":80},"also":{"type":"array","items":{"type":"string"}}},"required":["text","also"],"additionalProperties":false}"#,
            ),
            strict: Some(true),
        }),
        reasoning: Some(Reasoning { effort: Some(Effort::High), ..Reasoning::default() }),
        output_limit: Some(9_000),
        sampling: Sampling { temperature: Some(1.0), seed: Some(7), ..Sampling::default() },
        stop: vec!["END".into(), String::new()],
        choices: 1,
        stream: true,
        user: Some("user-7".into()),
        service_tier: Some("default".into()),
        verbosity: Some("medium".into()),
        hints: vec![Hint { name: "store", value: raw("true") }, Hint { name: "metadata", value: raw("{}") }],
    }
}
