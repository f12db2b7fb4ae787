//! Efforts, budgets and levels.

use serde_json::{Value, json};

use super::{
    build::{of, user},
    chat, with_call,
};
use crate::{
    dialects::{gemini::write::write_request, testing::body_of},
    wire::{
        Endpoint,
        conversation::{Effort, Reasoning},
    },
};

/// What `reasoning` becomes, and what the client is told of it.
fn thinking(reasoning: Reasoning, model: &str, endpoint: Endpoint) -> (Value, Vec<&'static str>) {
    let mut conversation = of(vec![user("a")]);
    conversation.reasoning = Some(reasoning);
    let mut asked = chat();
    asked.endpoint = endpoint;
    let request = with_call(&asked, model, |call| write_request(&conversation, call)).expect("a request");
    (body_of(&request)["generationConfig"]["thinkingConfig"].clone(), request.dropped)
}

#[test]
fn efforts_are_levels_or_budgets_and_the_nearest_one_where_they_are_not_known() {
    let none: Vec<&str> = Vec::new();
    let told = vec!["reasoning_effort"];
    let level = |level: &str| json!({"includeThoughts": true, "thinkingLevel": level});
    let budget = |budget: i64| json!({"includeThoughts": true, "thinkingBudget": budget});
    for (model, effort, config, dropped) in [
        ("gemini-3.5-flash", Effort::Minimal, level("MINIMAL"), &none),
        ("gemini-3.5-flash", Effort::High, level("HIGH"), &none),
        ("gemini-3.5-flash", Effort::XHigh, level("HIGH"), &told),
        ("gemini-3.5-flash", Effort::None, json!({"thinkingLevel": "MINIMAL"}), &told),
        ("gemini-3.8-flash", Effort::Minimal, level("LOW"), &told),
        ("gemini-3.1-pro-preview", Effort::None, json!({"thinkingLevel": "LOW"}), &told),
        ("gemini-3.1-pro-preview", Effort::Medium, level("MEDIUM"), &none),
        ("gemini-2.5-flash", Effort::None, json!({"thinkingBudget": 0}), &none),
        ("gemini-2.5-flash", Effort::Minimal, budget(1_024), &none),
        ("gemini-2.5-flash", Effort::Medium, budget(8_192), &none),
        ("gemini-2.5-pro", Effort::None, json!({"thinkingBudget": 1_024}), &told),
        ("gemini-2.5-pro", Effort::Max, budget(24_576), &told),
    ] {
        let reasoning = Reasoning { effort: Some(effort), ..Reasoning::default() };
        let found = thinking(reasoning, model, Endpoint::ChatCompletions);
        assert_eq!(found, (config, dropped.clone()), "{model} {effort:?}");
    }
}

#[test]
fn budgets_are_levels_where_there_are_levels() {
    for (model, budget, config) in [
        ("gemini-2.5-pro", 2_000, json!({"includeThoughts": true, "thinkingBudget": 2_000})),
        ("gemini-2.5-pro", 60_000, json!({"includeThoughts": true, "thinkingBudget": 24_576})),
        ("gemini-3.5-flash", 1_024, json!({"includeThoughts": true, "thinkingLevel": "LOW"})),
        ("gemini-3.5-flash", 4_000, json!({"includeThoughts": true, "thinkingLevel": "MEDIUM"})),
        ("gemini-3.5-flash", 60_000, json!({"includeThoughts": true, "thinkingLevel": "HIGH"})),
    ] {
        let reasoning = Reasoning { budget: Some(budget), ..Reasoning::default() };
        assert_eq!(thinking(reasoning, model, Endpoint::Messages).0, config, "{model} {budget}");
    }
    let adaptive = Reasoning { adaptive: true, ..Reasoning::default() };
    let dynamic = json!({"includeThoughts": true, "thinkingBudget": -1});
    assert_eq!(thinking(adaptive, "gemini-2.5-flash-lite", Endpoint::Messages).0, dynamic);
    assert_eq!(
        thinking(adaptive, "gemini-3.5-flash", Endpoint::Messages).0,
        json!({"includeThoughts": true})
    );
}

#[test]
fn thoughts_are_shown_to_whoever_asks_for_them() {
    let high = |show| Reasoning { effort: Some(Effort::High), show, ..Reasoning::default() };
    let shown =
        |show, endpoint| thinking(high(show), "gemini-3.5-flash", endpoint).0["includeThoughts"] == true;
    assert!(shown(None, Endpoint::ChatCompletions) && shown(None, Endpoint::Messages));
    assert!(!shown(None, Endpoint::Responses) && shown(Some(true), Endpoint::Responses));
    assert!(!shown(Some(false), Endpoint::ChatCompletions));
    let only = Reasoning { show: Some(true), ..Reasoning::default() };
    assert_eq!(thinking(only, "gemini-2.5-pro", Endpoint::Responses).0, json!({"includeThoughts": true}));
    assert_eq!(thinking(only, "gemini-2.0-flash", Endpoint::Responses).0, Value::Null);
}
