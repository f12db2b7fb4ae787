use serde_json::{Value, json};

use super::testing::{MIDDLE, NEW, NEWEST, OLD, call, hello, raw, result, sent, tool, turn, written};
use crate::wire::{
    Conversation,
    conversation::{Block, Content, Effort, Reasoning, Role, Thinking, Tool, ToolChoice, Turn},
};

#[test]
fn calls_without_their_thoughts_get_a_step_without_any() {
    let turns = |thoughts: Option<Thinking>| {
        let mut blocks: Vec<Block> =
            thoughts.into_iter().map(|thoughts| Content::Thinking(thoughts).into()).collect();
        blocks.push(call("c", "a", "{}"));
        vec![
            turn(Role::User, "x"),
            Turn::new(Role::Assistant, blocks),
            Turn::new(Role::User, vec![result("c", "y")]),
        ]
    };
    let reasoning = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
    let ask = |model, thoughts| {
        sent(model, &Conversation { turns: turns(thoughts), tools: vec![tool("a")], reasoning, ..hello() })
    };
    let (body, dropped) = ask(OLD, None);
    assert_eq!((&body["thinking"], dropped), (&Value::Null, vec!["reasoning_effort"]));
    let own = Thinking::Open { text: "t".into(), signature: Some("s".into()) };
    assert_eq!(ask(OLD, Some(own)).0["thinking"]["type"], "enabled");
    assert_eq!(ask(MIDDLE, None).0["thinking"]["type"], "adaptive");
}

#[test]
fn tools_are_chosen_as_asked() {
    let chosen = |model, choice, parallel, reasoning| {
        let conversation = Conversation {
            tools: vec![tool("a")],
            tool_choice: choice,
            parallel_tools: parallel,
            reasoning,
            ..hello()
        };
        written(model, &conversation)
            .map(|sent| sent.body["tool_choice"].clone())
            .map_err(|error| error.to_string())
    };
    let one = Some(false);
    assert_eq!(chosen(OLD, None, None, None), Ok(Value::Null));
    assert_eq!(chosen(OLD, None, one, None), Ok(json!({"type": "auto", "disable_parallel_tool_use": true})));
    assert_eq!(chosen(OLD, Some(ToolChoice::Auto), None, None), Ok(json!({"type": "auto"})));
    assert_eq!(
        chosen(OLD, Some(ToolChoice::Required), one, None),
        Ok(json!({"type": "any", "disable_parallel_tool_use": true}))
    );
    assert_eq!(
        chosen(NEW, Some(ToolChoice::Named("a".into())), None, None),
        Ok(json!({"type": "tool", "name": "a"}))
    );
    assert_eq!(chosen(OLD, Some(ToolChoice::None), one, None), Ok(json!({"type": "none"})));
    let thinking = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
    for refused in [
        chosen(NEWEST, Some(ToolChoice::Required), None, None),
        chosen(OLD, Some(ToolChoice::Required), None, thinking),
    ] {
        assert!(refused.expect_err("it cannot be demanded").starts_with("`tool_choice`"));
    }
    assert!(chosen(NEW, Some(ToolChoice::Required), None, thinking).is_ok());
}

#[test]
fn names_that_would_be_refused_go_under_others_everywhere() {
    let long = "t".repeat(200);
    let conversation = Conversation {
        turns: vec![
            turn(Role::User, "x"),
            Turn::new(Role::Assistant, vec![call("c.1", "files.read", "{}")]),
            Turn::new(Role::User, vec![result("c.1", "y")]),
        ],
        tools: vec![tool("files.read"), tool(&long), tool("plain")],
        tool_choice: Some(ToolChoice::Named("files.read".into())),
        ..hello()
    };
    let sent = written(OLD, &conversation).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> =
        (0..3).map(|at| sent.body["tools"][at]["name"].as_str().expect("a name")).collect();
    assert!(names[0].starts_with("files_read_") && names[1].len() == 128 && names[2] == "plain", "{names:?}");
    assert_eq!(
        (sent.names[names[0]].as_str(), &sent.names[names[1]], sent.names.len()),
        ("files.read", &long, 2)
    );
    assert_eq!(sent.body["tool_choice"]["name"], names[0]);
    assert_eq!(sent.body["messages"][1]["content"][0]["name"], names[0]);
    let id = sent.body["messages"][1]["content"][0]["id"].as_str().expect("an id");
    assert!(id.starts_with("c_1_") && sent.body["messages"][2]["content"][0]["tool_use_id"] == id);
}

#[test]
fn schemas_of_arguments_stay_the_clients_own_text() {
    let schema = |parameters: Option<&str>, strict| {
        let tool = Tool { parameters: parameters.map(raw), strict, ..tool("a") };
        let sent = written(OLD, &Conversation { tools: vec![tool], ..hello() })
            .unwrap_or_else(|error| panic!("{error}"));
        let body = String::from_utf8(sent.request.body.to_vec()).expect("UTF-8");
        let (_, behind) = body.split_once("\"input_schema\":").expect("a schema");
        (behind.to_owned(), sent.request.dropped)
    };
    for (given, wanted) in [
        (Some("{\"z\": 1,\"type\": \"object\" , \"a\":1.0}"), "{\"z\": 1,\"type\": \"object\" , \"a\":1.0}"),
        (Some("{ \"properties\":{}}"), "{\"type\":\"object\", \"properties\":{}}"),
        (Some(" { } "), "{\"type\":\"object\",\"properties\":{}}"),
        (None, "{\"type\":\"object\",\"properties\":{}}"),
    ] {
        let (found, dropped) = schema(given, Some(false));
        assert!(found.starts_with(wanted) && dropped.is_empty(), "{found}");
    }
    let (strict, dropped) = schema(
        Some(r#"{"type":"object","properties":{"b":{"type":"integer","minimum":2},"a":{"type":"null"}}}"#),
        Some(true),
    );
    let wanted = r#"{"type":"object","properties":{"b":{"type":"integer","description":"{minimum: 2}"},"a":{"type":"null"}},"additionalProperties":false},"strict":true}"#;
    assert!(strict.starts_with(wanted) && dropped.is_empty(), "{strict}");
    let open = schema(Some(r#"{"type":"object","additionalProperties":true}"#), Some(true));
    assert!(!open.0.contains("strict") && open.1 == ["tools.strict"]);
}

#[test]
fn strictness_is_a_hint_where_it_cannot_be_had() {
    let strict = |name: String| Tool { strict: Some(true), ..tool(&name) };
    let old = Conversation { tools: vec![strict("a".into())], ..hello() };
    let (body, dropped) = sent("claude-3-5-haiku-latest", &old);
    assert_eq!((&body["tools"][0]["strict"], dropped), (&Value::Null, vec!["tools.strict"]));
    let many = Conversation { tools: (0..21).map(|at| strict(format!("t{at}"))).collect(), ..hello() };
    assert_eq!(sent(OLD, &many).1, ["tools.strict"]);
}

#[test]
fn tools_of_the_past_are_shown_and_not_offered() {
    let conversation = Conversation {
        turns: vec![
            turn(Role::User, "x"),
            Turn::new(
                Role::Assistant,
                vec![call("1", "b", "{}"), call("2", "a", "{}"), call("3", "b", "{}")],
            ),
            Turn::new(Role::User, vec![result("1", "y"), result("2", "y"), result("3", "y")]),
        ],
        ..hello()
    };
    let (body, dropped) = sent(OLD, &conversation);
    let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object", "properties": {}}});
    assert_eq!(
        (&body["tools"], &body["tool_choice"]),
        (&json!([tool("a"), tool("b")]), &json!({"type": "none"}))
    );
    assert!(dropped.is_empty());
}
