//! Everything of a request but its turns.

use serde_json::json;

use super::{
    build::{body, call, image, of, png, raw, result, tool, user, write},
    chat, with_call,
};
use crate::{
    dialects::{gemini::write::write_request, testing::body_of},
    wire::{
        Conversation,
        conversation::{Content, Effort, Format, Reasoning, Role, Sampling, ToolChoice, Turn},
    },
};

#[test]
fn what_gemini_cannot_do_is_refused_by_name() {
    let asked = |change: fn(&mut Conversation)| {
        let mut conversation = of(vec![user("a")]);
        conversation.tools = vec![tool("f")];
        change(&mut conversation);
        write(&conversation, "gemini-2.0-flash").map(|_| ())
    };
    type Change = fn(&mut Conversation);
    let cases: [(Change, &str); 14] = [
        (|c| c.parallel_tools = Some(false), "parallel_tool_calls"),
        (|c| c.sampling.logprobs = true, "logprobs"),
        (|c| c.sampling.top_logprobs = Some(2), "logprobs"),
        (|c| c.sampling.logit_bias = Some(raw(r#"{"1":5}"#)), "logit_bias"),
        (|c| c.stop = vec![String::new(); 6], "stop"),
        (|c| c.verbosity = Some("high".into()), "verbosity"),
        (|c| c.service_tier = Some("scale".into()), "service_tier"),
        (
            |c| c.reasoning = Some(Reasoning { effort: Some(Effort::High), ..Reasoning::default() }),
            "reasoning_effort",
        ),
        (
            |c| {
                c.tools.clear();
                c.tool_choice = Some(ToolChoice::Required);
            },
            "tool_choice",
        ),
        (|c| c.turns.push(Turn::new(Role::System, vec![image(png(), None)])), "messages"),
        (|c| c.turns.push(Turn::new(Role::User, vec![result("nobody", "x", false)])), "messages"),
        (|c| c.turns.push(Turn::new(Role::Assistant, vec![result("nobody", "x", false)])), "messages"),
        (
            |c| c.turns.push(Turn::new(Role::Assistant, vec![call("1", "f", "{\"a\":", None)])),
            "messages.tool_calls.function.arguments",
        ),
        (
            |c| {
                let content =
                    Content::Document { source: png(), title: None, context: None, citations: true };
                c.turns.push(Turn::new(Role::User, vec![content.into()]));
            },
            "citations",
        ),
    ];
    for (change, field) in cases {
        assert_eq!(asked(change).expect_err(field).field(), Some(field));
    }
    assert_eq!(
        asked(|c| {
            c.parallel_tools = Some(false);
            c.tools.clear();
        }),
        Ok(()),
        "without tools there is nothing to call at once"
    );
}

#[test]
fn what_means_the_default_is_not_sent_and_not_told() {
    let mut conversation = of(vec![user("a")]);
    conversation.sampling = Sampling {
        presence_penalty: Some(0.0),
        frequency_penalty: Some(0.0),
        top_logprobs: Some(0),
        logit_bias: Some(raw("{}")),
        ..Sampling::default()
    };
    conversation.service_tier = Some("auto".into());
    conversation.verbosity = Some("medium".into());
    conversation.format = Some(Format::Text);
    conversation.tool_choice = Some(ToolChoice::Auto);
    conversation.reasoning = Some(Reasoning::default());
    let request = write(&conversation, "gemini-2.0-flash").expect("a request");
    assert!(request.dropped.is_empty());
    assert_eq!(request.path, "/models/gemini-2.0-flash:generateContent");
    assert_eq!(
        body_of(&request),
        json!({"contents": [{"role": "user", "parts": [{"text": "a"}]}], "generationConfig": {}})
    );
}

#[test]
fn a_seed_too_large_for_google_is_left_out_and_told() {
    let mut conversation = of(vec![user("a")]);
    conversation.sampling.seed = Some(i64::from(i32::MAX) + 1);
    let request = write(&conversation, "gemini-2.0-flash").expect("a request");
    assert_eq!(request.dropped, ["seed"]);
    assert_eq!(body_of(&request)["generationConfig"], json!({}));
}

#[test]
fn the_gateways_limit_goes_before_the_clients() {
    let mut conversation = of(vec![user("a")]);
    conversation.output_limit = Some(900);
    let asked = chat();
    let request = with_call(&asked, "gemini-2.5-pro", |call| {
        let mut call = *call;
        call.output_limit = Some(50);
        write_request(&conversation, &call)
    });
    assert_eq!(body_of(&request.expect("a request"))["generationConfig"]["maxOutputTokens"], 50);
}

#[test]
fn how_a_tool_is_chosen_is_said_in_googles_words() {
    for (choice, wanted) in [
        (ToolChoice::Auto, json!({"mode": "AUTO"})),
        (ToolChoice::None, json!({"mode": "NONE"})),
        (ToolChoice::Required, json!({"mode": "ANY"})),
        (ToolChoice::Named("f".into()), json!({"mode": "ANY", "allowedFunctionNames": ["f"]})),
    ] {
        let mut conversation = of(vec![user("a")]);
        conversation.tools = vec![tool("f")];
        conversation.tool_choice = Some(choice);
        let body = body(&conversation, "gemini-2.5-pro");
        assert_eq!(body["toolConfig"]["functionCallingConfig"], wanted);
        assert_eq!(body["tools"], json!([{"functionDeclarations": [{"name": "f"}]}]));
    }
}

#[test]
fn json_is_asked_for_by_its_media_type() {
    let mut conversation = of(vec![user("a")]);
    conversation.format = Some(Format::JsonObject);
    assert_eq!(
        body(&conversation, "gemini-2.5-pro")["generationConfig"],
        json!({"responseMimeType": "application/json"})
    );
}
