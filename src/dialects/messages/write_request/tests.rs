use serde_json::{Value, json};

use super::{
    json::Json,
    testing::{
        MIDDLE, NEW, NEWEST, OLD, field, full, hello, raw, refused, sent, text, tool, written, written_as,
    },
};
use crate::{
    dialects::testing::golden,
    wire::{
        Conversation, Endpoint,
        conversation::{Block, CacheTime, Effort, Format, Reasoning, Role, Sampling, Tool, ToolChoice, Turn},
    },
};

#[test]
fn a_full_request_is_said_in_anthropics_words() {
    for (name, model) in [("anthropic/request.json", NEW), ("anthropic/request_budget.json", OLD)] {
        let sent = written(model, &full()).unwrap_or_else(|error| panic!("{error}"));
        let body: Json = serde_json::from_slice(&sent.request.body).expect("a body is JSON");
        let mut text = serde_json::to_string_pretty(&body).expect("JSON");
        text.push('\n');
        golden(name, &text);
        assert_eq!(sent.request.dropped, ["messages.name", "image_url.detail", "seed", "store", "metadata"]);
        assert_eq!((&*sent.request.path, sent.request.output_limit), ("/messages", None));
        assert!(sent.names.is_empty() && sent.request.translation.is_none());
    }
}

#[test]
fn a_limit_is_always_said_and_the_gateways_own_is_told() {
    let limits = |given, model_limit, own| {
        let conversation = Conversation { output_limit: own, ..hello() };
        let sent = written_as(Endpoint::ChatCompletions, OLD, (given, model_limit), &conversation)
            .expect("it can be said");
        (sent.body["max_tokens"].as_u64(), sent.request.output_limit)
    };
    assert_eq!(limits(Some(10), Some(30), Some(20)), (Some(10), None));
    assert_eq!(limits(None, Some(30), Some(20)), (Some(20), None));
    assert_eq!(limits(None, Some(30), None), (Some(30), Some(30)));
    assert_eq!(limits(None, None, None), (Some(4096), Some(4096)));
}

#[test]
fn what_equals_the_default_needs_no_telling() {
    let conversation = Conversation {
        sampling: Sampling {
            temperature: Some(1.0),
            top_p: Some(1.0),
            presence_penalty: Some(0.0),
            frequency_penalty: Some(0.0),
            logit_bias: Some(raw("{ }")),
            top_logprobs: Some(0),
            ..Sampling::default()
        },
        format: Some(Format::Text),
        verbosity: Some("medium".into()),
        service_tier: Some("auto".into()),
        parallel_tools: Some(true),
        tool_choice: Some(ToolChoice::Auto),
        ..hello()
    };
    let (body, dropped) = sent(NEWEST, &conversation);
    let wanted = json!({
        "model": NEWEST, "max_tokens": 64_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    });
    assert_eq!((body, dropped), (wanted, vec![]));
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    type Ask = fn(&mut Conversation);
    let cases: [(&str, &str, Ask); 16] = [
        ("n", OLD, |c| c.choices = 2),
        ("presence_penalty", OLD, |c| c.sampling.presence_penalty = Some(0.5)),
        ("frequency_penalty", OLD, |c| c.sampling.frequency_penalty = Some(-1.0)),
        ("logprobs", OLD, |c| c.sampling.logprobs = true),
        ("top_logprobs", OLD, |c| c.sampling.top_logprobs = Some(2)),
        ("logit_bias", OLD, |c| c.sampling.logit_bias = Some(raw("{\"5\":1}"))),
        ("temperature", OLD, |c| c.sampling.temperature = Some(1.5)),
        ("temperature", NEW, |c| c.sampling.temperature = Some(0.0)),
        ("top_p", NEW, |c| c.sampling.top_p = Some(0.9)),
        ("top_k", NEW, |c| c.sampling.top_k = Some(4)),
        ("verbosity", OLD, |c| c.verbosity = Some("low".into())),
        ("service_tier", OLD, |c| c.service_tier = Some("flex".into())),
        ("stop", OLD, |c| c.stop = vec!["a".into(), "\n".into()]),
        ("tool_choice", OLD, |c| c.tool_choice = Some(ToolChoice::Required)),
        ("tools[1].function.name", OLD, |c| c.tools = vec![tool("a"), tool("")]),
        ("tools[0].function.parameters", OLD, |c| {
            c.tools = vec![Tool { parameters: Some(raw("{\"type\":\"array\"}")), ..tool("a") }];
        }),
    ];
    for (name, model, ask) in cases {
        let mut conversation = hello();
        ask(&mut conversation);
        assert_eq!(field(model, &conversation), name);
    }
}

#[test]
fn names_in_refusals_are_the_clients() {
    let off = Some(Reasoning { effort: Some(Effort::None), ..Reasoning::default() });
    let always = Conversation { reasoning: off, ..hello() };
    for (endpoint, name) in
        [(Endpoint::ChatCompletions, "reasoning_effort"), (Endpoint::Responses, "reasoning.effort")]
    {
        let error =
            written_as(endpoint, NEWEST, (None, None), &always).map(|_| ()).expect_err("it always thinks");
        assert_eq!(error.field(), Some(name));
    }
}

#[test]
fn sampling_goes_up_where_it_is_heeded() {
    let sampling =
        || Sampling { temperature: Some(0.5), top_p: Some(0.75), top_k: Some(3), ..Sampling::default() };
    let (body, _) = sent(MIDDLE, &Conversation { sampling: sampling(), ..hello() });
    assert_eq!(
        (&body["temperature"], &body["top_p"], &body["top_k"]),
        (&json!(0.5), &json!(0.75), &json!(3))
    );
    let thinking = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
    assert_eq!(
        field(MIDDLE, &Conversation { sampling: sampling(), reasoning: thinking, ..hello() }),
        "temperature"
    );
}

#[test]
fn efforts_are_said_as_each_family_knows_them() {
    let said = |model: &str, effort: Effort| {
        let reasoning = Some(Reasoning { effort: Some(effort), ..Reasoning::default() });
        let (body, dropped) = sent(model, &Conversation { reasoning, output_limit: Some(20_000), ..hello() });
        assert!(dropped.is_empty());
        (body["thinking"].clone(), body["output_config"]["effort"].clone())
    };
    let budget = |tokens: u64| (json!({"type": "enabled", "budget_tokens": tokens}), Value::Null);
    let adaptive = |effort: &str| (json!({"type": "adaptive", "display": "summarized"}), json!(effort));
    for (effort, tokens) in [
        (Effort::Minimal, 1024),
        (Effort::Low, 1024),
        (Effort::Medium, 2048),
        (Effort::High, 4096),
        (Effort::XHigh, 8192),
        (Effort::Max, 10_000),
    ] {
        assert_eq!(said(OLD, effort), budget(tokens), "{effort:?}");
    }
    assert_eq!(said(OLD, Effort::None), (Value::Null, Value::Null));
    assert_eq!(said(MIDDLE, Effort::Minimal), adaptive("low"));
    assert_eq!(said(MIDDLE, Effort::XHigh), adaptive("high"));
    assert_eq!(said(MIDDLE, Effort::Max), adaptive("max"));
    assert_eq!(said(NEW, Effort::XHigh), adaptive("xhigh"));
    assert_eq!(said(NEW, Effort::None), (json!({"type": "disabled"}), Value::Null));
    assert_eq!(said(NEWEST, Effort::Low), adaptive("low"));
    assert_eq!(said("claude-3-5-haiku-latest", Effort::None), (Value::Null, Value::Null));
    let low = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
    assert_eq!(
        field("claude-3-5-haiku-latest", &Conversation { reasoning: low, ..hello() }),
        "reasoning_effort"
    );
}

#[test]
fn budgets_stay_below_the_limit() {
    let said = |budget, limit| {
        let reasoning = Some(Reasoning { budget: Some(budget), ..Reasoning::default() });
        sent(OLD, &Conversation { reasoning, output_limit: Some(limit), ..hello() }).0["thinking"]["budget_tokens"].clone()
    };
    assert_eq!(
        [said(5_000, 9_000), said(9_000, 9_000), said(7, 9_000), said(9_000, 1_025)],
        [5_000, 8_999, 1_024, 1_024]
    );
    let reasoning = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
    let why = refused(OLD, &Conversation { reasoning, output_limit: Some(1_024), ..hello() });
    assert!(why.contains("reasoning_effort") && why.contains("max_completion_tokens"), "{why}");
    let reasoning = Some(Reasoning { budget: Some(5_000), show: Some(false), ..Reasoning::default() });
    let (body, dropped) = sent(NEW, &Conversation { reasoning, ..hello() });
    assert_eq!(body["thinking"], json!({"type": "adaptive", "display": "omitted"}));
    assert_eq!(dropped, ["thinking.budget_tokens"]);
    let reasoning = Some(Reasoning { show: Some(true), ..Reasoning::default() });
    assert!(sent(NEW, &Conversation { reasoning, ..hello() }).0["thinking"].is_null());
}

#[test]
fn forms_of_answers_are_demanded_as_far_as_can_be() {
    let object = Conversation { format: Some(Format::JsonObject), ..hello() };
    let (body, _) = sent(OLD, &object);
    assert!(body["system"][0]["text"].as_str().is_some_and(|text| text.contains("JSON object")));
    let schema = |schema: &str| Conversation {
        format: Some(Format::JsonSchema { name: None, description: None, schema: raw(schema), strict: None }),
        ..hello()
    };
    let (body, _) = sent(NEWEST, &schema("{\"type\":\"object\"}"));
    let wanted = json!({"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": false}});
    assert_eq!(body["output_config"], json!({"format": wanted}));
    assert_eq!(field("claude-3-5-haiku-latest", &schema("{\"type\":\"object\"}")), "response_format");
    let open = "{\"type\":\"object\",\"properties\":{\"m\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}}}";
    for bad in ["[]", "true", open] {
        assert_eq!(field(NEW, &schema(bad)), "response_format.json_schema.schema", "{bad}");
    }
}

#[test]
fn users_are_named_but_not_by_address() {
    let named = |user: &str| {
        let (body, _) = sent(OLD, &Conversation { user: Some(user.into()), ..hello() });
        body["metadata"]["user_id"].as_str().map(str::to_owned)
    };
    assert_eq!(named("user_42").as_deref(), Some("user_42"));
    assert_eq!(named(""), None);
    for personal in ["ada@example.com", "+47 55 512 345", &"x".repeat(257)] {
        let named = named(personal).expect("a hash");
        assert!(named.len() == 64 && named.bytes().all(|b| b.is_ascii_hexdigit()), "{named}");
    }
}

#[test]
fn only_the_last_markers_stay_when_there_are_too_many() {
    let cached = |said: &str, time| Block { cache: Some(time), ..text(said) };
    let conversation = Conversation {
        turns: vec![
            Turn::new(Role::System, vec![cached("s", CacheTime::Hour)]),
            Turn::new(
                Role::User,
                ["a", "b", "c"].into_iter().map(|said| cached(said, CacheTime::FiveMinutes)).collect(),
            ),
        ],
        tools: vec![Tool { cache: Some(CacheTime::Hour), ..tool("t") }],
        ..hello()
    };
    let (body, dropped) = sent(OLD, &conversation);
    assert_eq!(dropped, ["cache_control"]);
    assert!(body["tools"][0]["cache_control"].is_null());
    assert_eq!(body["system"][0]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
    assert_eq!(body["messages"][0]["content"][2]["cache_control"], json!({"type": "ephemeral"}));
}
