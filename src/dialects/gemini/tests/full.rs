//! A conversation with everything in it.

use serde_json::json;

use super::build::{body, call, document, image, png, raw, result, text, tool, user, write};
use crate::{
    dialects::testing::{self, body_of},
    wire::{
        Conversation,
        conversation::{
            CacheTime, Content, Effort, Format, Hint, Reasoning, Role, Sampling, Source, Thinking, Tool,
            ToolChoice, Turn,
        },
    },
};

/// Everything a client can ask for and have.
fn full() -> Conversation {
    let mut named = user("What is this?");
    named.name = Some("ada".into());
    named.blocks.push(image(png(), Some("low")));
    named.blocks.push(image(Source::Url("https://example.org/a/cat.JPG?x=1".into()), None));
    named.blocks.push(Content::Audio { data: "UklGRg==".into(), format: "wav".into() }.into());
    named.blocks.push(
        Content::Document {
            source: Source::Base64 { media_type: "application/pdf".into(), data: "JVBERi0=".into() },
            title: Some("paper.pdf".into()),
            context: Some("a draft".into()),
            citations: false,
        }
        .into(),
    );
    named.blocks.push(document(Source::Text("plain".into())));
    named.blocks.push(document(Source::File("files/abc123".into())));
    let mut cached = text("Be brief.");
    cached.cache = Some(CacheTime::FiveMinutes);
    Conversation {
        turns: vec![
            Turn::new(Role::System, vec![cached]),
            named,
            Turn::new(
                Role::Assistant,
                vec![
                    Content::Thinking(Thinking::Open { text: "hm".into(), signature: None }).into(),
                    text("I shall look."),
                    Content::TextSignature("dGV4dA==".into()).into(),
                    call("c1", "look", r#"{"z":1.50,"a":"é"}"#, Some("c2lnbmF0dXJl/+==")),
                    call("c2", "now", "", None),
                ],
            ),
            Turn::new(Role::User, vec![result("c2", "noon", false)]),
            Turn::new(Role::User, vec![result("c1", r#" {"z": 2, "a": [1]} "#, false)]),
            Turn::new(Role::System, vec![text("Mind the time.")]),
            user("And then?"),
            Turn::new(Role::Assistant, vec![text("Then"), call("c3", "look", "{}", None)]),
            Turn::new(
                Role::User,
                vec![
                    Content::ToolResult {
                        id: "c3".into(),
                        blocks: vec![text("no"), text("picture"), image(png(), None)],
                        is_error: true,
                    }
                    .into(),
                    text("Go on."),
                ],
            ),
        ],
        tools: vec![
            Tool {
                name: "look".into(),
                description: Some("looks".into()),
                parameters: Some(raw(
                    r#"{"type":"object","properties":{"z":{"type":"number"},"a":{"type":"string"}}}"#,
                )),
                strict: Some(true),
                cache: Some(CacheTime::Hour),
            },
            tool("now"),
        ],
        tool_choice: Some(ToolChoice::Named("look".into())),
        parallel_tools: Some(true),
        format: Some(Format::JsonSchema {
            name: Some("answer".into()),
            description: None,
            schema: raw(r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"null"}}}"#),
            strict: Some(true),
        }),
        reasoning: Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() }),
        output_limit: Some(1_000),
        sampling: Sampling {
            temperature: Some(0.5),
            top_p: Some(0.9),
            top_k: Some(40),
            presence_penalty: Some(0.1),
            frequency_penalty: Some(-0.2),
            seed: Some(7),
            logit_bias: Some(raw("{ }")),
            logprobs: false,
            top_logprobs: Some(0),
        },
        stop: vec!["END".into(), "STOP".into()],
        choices: 2,
        stream: true,
        user: Some("u-1".into()),
        service_tier: Some("flex".into()),
        verbosity: Some("medium".into()),
        hints: vec![
            Hint { name: "metadata", value: raw("{}") },
            Hint { name: "store", value: raw("true") },
            Hint { name: "metadata", value: raw("{}") },
        ],
    }
}

#[test]
fn a_conversation_with_everything_is_written_as_gemini_reads_it() {
    let request = write(&full(), "gemini-3.5-flash").expect("a request");
    assert_eq!(request.path, "/models/gemini-3.5-flash:streamGenerateContent?alt=sse");
    assert_eq!(
        request.dropped,
        [
            "user",
            "metadata",
            "store",
            "tools.strict",
            "cache_control",
            "messages.name",
            "image_url.detail",
            "document.title",
            "messages.thinking",
        ]
    );
    assert!(request.headers.is_empty() && !request.usage_injected && request.output_limit.is_none());
    testing::golden("gemini/request.json", &testing::pretty(&body_of(&request)));
    // What stays text keeps the order of its members and the spelling of its numbers.
    let sent = std::str::from_utf8(&request.body).expect("UTF-8");
    for kept in [
        r#""args":{"z":1.50,"a":"é"}"#,
        r#""response":{"z": 2, "a": [1]}"#,
        r#""parametersJsonSchema":{"type":"object","properties":{"z":"#,
        r#""responseJsonSchema":{"type":"object","properties":{"z":"#,
    ] {
        assert!(sent.contains(kept), "{kept}");
    }
}

#[test]
fn a_model_of_the_budget_kind_gets_a_budget_and_no_made_up_signature() {
    let body = body(&full(), "gemini-2.5-flash");
    assert_eq!(
        body["generationConfig"]["thinkingConfig"],
        json!({"includeThoughts": true, "thinkingBudget": 1024})
    );
    assert_eq!(body["contents"][4]["parts"][1]["functionCall"]["name"], "look");
    assert_eq!(body["contents"][4]["parts"][1].get("thoughtSignature"), None);
}
