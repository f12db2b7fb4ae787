use proptest::prelude::*;
use serde_json::{Value, json};

use super::testing::{NEW, OLD, call, hello, refused, result, sent, text, turn};
use crate::wire::{
    Conversation,
    conversation::{Block, CacheTime, Content, Role, Source, Thinking, Turn},
};

/// Messages as role and texts, results of tools in brackets.
fn told(model: &str, turns: Vec<Turn>) -> Vec<String> {
    let (body, _) = sent(model, &Conversation { turns, ..hello() });
    lines(&body)
}

fn lines(body: &Value) -> Vec<String> {
    let block = |block: &Value| match block["type"].as_str() {
        Some("text") => block["text"].as_str().unwrap_or_default().to_owned(),
        Some("tool_use") => format!("<{}>", block["id"].as_str().unwrap_or_default()),
        Some("tool_result") => format!("[{}]", block["tool_use_id"].as_str().unwrap_or_default()),
        Some(other) => format!("({other})"),
        None => String::new(),
    };
    let line = |message: &Value| {
        let blocks: Vec<String> = message["content"].as_array().into_iter().flatten().map(block).collect();
        format!("{}: {}", message["role"].as_str().unwrap_or_default(), blocks.join("|"))
    };
    body["messages"].as_array().into_iter().flatten().map(line).collect()
}

fn turns(script: &[(Role, &str)]) -> Vec<Turn> {
    script.iter().map(|(role, said)| turn(*role, said)).collect()
}

use Role::{Assistant as A, System as S, User as U};

#[test]
fn turns_of_one_role_become_one_message() {
    let found = told(OLD, turns(&[(U, "a"), (U, "b"), (A, "c"), (A, "d"), (U, "e")]));
    assert_eq!(found, ["user: a|b", "assistant: c|d", "user: e"]);
}

#[test]
fn instructions_stand_where_the_model_can_take_them() {
    let told = |script: &[(Role, &str)]| told(NEW, turns(script));
    assert_eq!(told(&[(U, "a"), (S, "s")]), ["user: a", "system: s"]);
    assert_eq!(
        told(&[(U, "a"), (S, "s"), (S, "t"), (A, "b"), (U, "c")]),
        ["user: a", "system: s|t", "assistant: b", "user: c"]
    );
    // Behind the user's whole turn: they must not be followed by the user.
    assert_eq!(told(&[(U, "a"), (S, "s"), (U, "b")]), ["user: a|b", "system: s"]);
    assert_eq!(
        told(&[(U, "a"), (A, "b"), (S, "s"), (U, "c")]),
        ["user: a", "assistant: b", "user: c", "system: s"]
    );
    // Where no user stands before them they cannot be told as they are.
    let operator = "user: The operator of this application, not the user, says: s";
    assert_eq!(told(&[(U, "a"), (A, "b"), (S, "s")]), ["user: a", "assistant: b", operator]);
    assert_eq!(
        told(&[(U, "a"), (A, "b"), (S, "s"), (A, "c"), (U, "d")]),
        ["user: a", "assistant: b", operator, "assistant: c", "user: d"]
    );
}

#[test]
fn instructions_become_the_users_for_models_that_know_no_other() {
    let operator = "The operator of this application, not the user, says: s";
    assert_eq!(told(OLD, turns(&[(U, "a"), (S, "s"), (U, "b")])), [format!("user: a|{operator}|b")]);
    assert_eq!(
        told(OLD, turns(&[(U, "a"), (A, "b"), (S, "s")])),
        ["user: a", "assistant: b", &format!("user: {operator}")]
    );
    // Results stand first whatever comes between.
    let with_calls = vec![
        turn(U, "a"),
        Turn::new(A, vec![call("1", "t", "{}")]),
        turn(S, "s"),
        turn(U, "b"),
        Turn::new(U, vec![result("1", "r")]),
    ];
    assert_eq!(
        told(OLD, with_calls.clone()),
        ["user: a", "assistant: <1>", &format!("user: [1]|{operator}|b")]
    );
    assert_eq!(told(NEW, with_calls), ["user: a", "assistant: <1>", "user: [1]|b", "system: s"]);
}

#[test]
fn leading_instructions_are_one_block_each() {
    let (body, _) =
        sent(NEW, &Conversation { turns: turns(&[(S, "a"), (S, ""), (S, "b"), (U, "c")]), ..hello() });
    assert_eq!(body["system"], json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]));
    let picture = Content::Image { source: Source::Url("https://a".into()), detail: None };
    let why = refused(NEW, &Conversation { turns: vec![Turn::new(S, vec![picture.into()])], ..hello() });
    assert!(why.starts_with("`messages` has a system message"), "{why}");
}

#[test]
fn a_conversation_begins_with_its_user_and_nothing_is_empty() {
    assert_eq!(told(OLD, turns(&[(S, "s")])), ["user: (start of the conversation)"]);
    assert_eq!(
        told(OLD, turns(&[(A, "hi"), (U, "a")])),
        ["user: (start of the conversation)", "assistant: hi", "user: a"]
    );
    assert_eq!(told(OLD, turns(&[(U, " \n"), (A, ""), (U, "")])), ["user: (empty message)"]);
    assert_eq!(told(OLD, turns(&[(U, "a"), (A, "\n"), (S, "s"), (U, "b")])).len(), 1);
}

#[test]
fn an_answer_is_begun_only_for_models_that_go_on_with_it() {
    let begun = turns(&[(U, "a"), (A, "b: \n")]);
    assert_eq!(told(OLD, begun.clone()), ["user: a", "assistant: b:"]);
    let why = refused(NEW, &Conversation { turns: begun, ..hello() });
    assert!(why.starts_with("`messages` ends with an assistant message"), "{why}");
}

#[test]
fn every_call_has_one_result_right_behind_it() {
    let calls = || Turn::new(A, vec![call("1", "t", "{}"), call("2", "t", "{}")]);
    let answered = vec![
        turn(U, "a"),
        calls(),
        Turn::new(U, vec![text("b"), result("2", "r")]),
        Turn::new(U, vec![result("1", "r")]),
    ];
    assert_eq!(told(OLD, answered), ["user: a", "assistant: <1>|<2>", "user: [2]|[1]|b"]);
    let missing = "`messages` has a tool call without a result";
    let stray = "`messages` has a tool result for a call";
    for (turns, wanted) in [
        (vec![turn(U, "a"), calls()], missing),
        (vec![turn(U, "a"), calls(), Turn::new(U, vec![result("1", "r")])], missing),
        (vec![turn(U, "a"), calls(), turn(A, "b")], missing),
        (
            vec![
                turn(U, "a"),
                calls(),
                Turn::new(U, vec![result("1", "r"), result("2", "r"), result("1", "r")]),
            ],
            stray,
        ),
        (vec![turn(U, "a"), Turn::new(U, vec![result("1", "r")])], stray),
    ] {
        let why = refused(OLD, &Conversation { turns, ..hello() });
        assert!(why.starts_with(wanted), "{why}");
    }
}

#[test]
fn ids_that_come_again_are_told_apart() {
    let step = || [Turn::new(A, vec![call("0", "t", "{}")]), Turn::new(U, vec![result("0", "r")])];
    let turns = [vec![turn(U, "a")], step().to_vec(), step().to_vec(), step().to_vec()].concat();
    let found = told(OLD, turns);
    assert_eq!(
        found[1..],
        ["assistant: <0>", "user: [0]", "assistant: <0_2>", "user: [0_2]", "assistant: <0_3>", "user: [0_3]"]
    );
    let odd = vec![
        turn(U, "a"),
        Turn::new(A, vec![call("", "t", "{}"), call("a b", "t", "{}")]),
        Turn::new(U, vec![result("", "r"), result("a b", "r")]),
    ];
    let found = told(OLD, odd);
    assert_eq!(
        found[1].replace(['<', '>'], ""),
        found[2].replace(['[', ']'], "").replace("user", "assistant")
    );
}

#[test]
fn arguments_are_objects_whatever_the_model_wrote() {
    let input = |arguments: &str| {
        let turns = vec![
            turn(U, "a"),
            Turn::new(A, vec![call("1", "t", arguments)]),
            Turn::new(U, vec![result("1", "r")]),
        ];
        sent(OLD, &Conversation { turns, ..hello() }).0["messages"][1]["content"][0]["input"].clone()
    };
    assert_eq!(input(" {\"b\":1}\n"), json!({"b": 1}));
    assert_eq!([input(""), input(" ")], [json!({}), json!({})]);
    for broken in ["{\"b\":", "[1]", "null", "text"] {
        assert_eq!(input(broken), json!({"_raw": broken}));
    }
}

#[test]
fn results_are_text_pictures_and_documents() {
    let picture = Source::Base64 { media_type: "image/JPG; a=b".into(), data: "aa==".into() };
    let note = Source::Base64 { media_type: "text/markdown".into(), data: "aGk=".into() };
    let document =
        |source| Content::Document { source, title: None, context: Some("c".into()), citations: false };
    let blocks = vec![
        Block { cache: Some(CacheTime::FiveMinutes), ..text("r") },
        text(""),
        Content::Image { source: picture, detail: None }.into(),
        document(note).into(),
    ];
    let result = Content::ToolResult { id: "1".into(), blocks, is_error: true };
    let turns = vec![turn(U, "a"), Turn::new(A, vec![call("1", "t", "")]), Turn::new(U, vec![result.into()])];
    let (body, dropped) = sent(OLD, &Conversation { turns, ..hello() });
    let wanted = json!({
        "type": "tool_result", "tool_use_id": "1", "is_error": true, "cache_control": {"type": "ephemeral"},
        "content": [
            {"type": "text", "text": "r"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "aa=="}},
            {"type": "document", "context": "c", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        ],
    });
    assert_eq!((&body["messages"][2]["content"][0], dropped), (&wanted, vec![]));
    let silent = Content::ToolResult { id: "1".into(), blocks: vec![], is_error: false };
    let turns = vec![turn(U, "a"), Turn::new(A, vec![call("1", "t", "")]), Turn::new(U, vec![silent.into()])];
    let (body, _) = sent(OLD, &Conversation { turns, ..hello() });
    assert_eq!(body["messages"][2]["content"][0], json!({"type": "tool_result", "tool_use_id": "1"}));
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let picture = |source| Content::Image { source, detail: None };
    let document = |source| Content::Document { source, title: None, context: None, citations: false };
    let base64 = |media_type: &str| Source::Base64 { media_type: media_type.into(), data: "_w==".into() };
    for content in [
        picture(base64("image/tiff")),
        picture(Source::File("file-1".into())),
        picture(Source::Text("x".into())),
        document(base64("application/msword")),
        document(base64("text/plain")),
        document(Source::File("file-1".into())),
        Content::Audio { data: "aa==".into(), format: "wav".into() },
    ] {
        let why = refused(NEW, &Conversation { turns: vec![Turn::new(U, vec![content.into()])], ..hello() });
        assert!(why.starts_with("`messages` ") && why.contains("send"), "{why}");
    }
    for (content, model) in [
        (picture(base64("image/png")), "claude-2.1"),
        (document(base64("application/pdf")), "claude-3-haiku-20240307"),
    ] {
        assert!(
            refused(model, &Conversation { turns: vec![Turn::new(U, vec![content.into()])], ..hello() })
                .contains("this model")
        );
    }
    for (role, block) in
        [(U, call("1", "t", "")), (A, result("1", "r")), (A, picture(base64("image/png")).into())]
    {
        assert!(
            refused(OLD, &Conversation { turns: vec![Turn::new(role, vec![block])], ..hello() })
                .starts_with("`messages` has a")
        );
    }
}

#[test]
fn thoughts_go_back_as_they_came_or_not_at_all() {
    let open = |signature: Option<&str>| Thinking::Open {
        text: " a\u{e9}\n".into(),
        signature: signature.map(Into::into),
    };
    let blocks = [open(Some("c2ln+/=")), Thinking::Sealed { data: "x".into() }, open(None), open(Some(""))];
    let mut blocks: Vec<Block> =
        blocks.into_iter().map(|thinking| Content::Thinking(thinking).into()).collect();
    blocks.extend([text("b"), Content::TextSignature("g".into()).into()]);
    let turns = vec![turn(U, "a"), Turn::new(A, blocks), turn(U, "c")];
    let (body, dropped) = sent(NEW, &Conversation { turns, ..hello() });
    let wanted = json!([
        {"type": "thinking", "thinking": " a\u{e9}\n", "signature": "c2ln+/="},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "b"},
    ]);
    assert_eq!((&body["messages"][1]["content"], dropped), (&wanted, vec!["messages.thinking"]));
    let unsigned = vec![turn(U, "a"), Turn::new(A, vec![Content::Thinking(open(None)).into()]), turn(U, "c")];
    assert_eq!(told(NEW, unsigned), ["user: a|c"]);
}

/// Steps of a conversation that has a result for every call.
fn steps() -> impl Strategy<Value = Vec<Turn>> {
    let step = (0..6_u8, "[a-z \n]{0,4}").prop_map(|(kind, said)| match kind {
        0 | 1 => vec![turn(U, &said)],
        2 => vec![turn(A, &said)],
        3 => vec![turn(S, &said)],
        4 => vec![
            Turn::new(A, vec![text(&said), call("1", "t", &said)]),
            turn(S, &said),
            Turn::new(U, vec![result("1", &said)]),
        ],
        _ => vec![
            Turn::new(A, vec![call("1", "t", ""), call("2", "t", "{}")]),
            turn(U, &said),
            Turn::new(U, vec![result("2", &said)]),
            Turn::new(U, vec![result("1", &said)]),
        ],
    });
    proptest::collection::vec(step, 0..8).prop_map(|steps| steps.concat())
}

proptest! {
    #[test]
    fn messages_keep_anthropics_rules(steps in steps(), new in any::<bool>()) {
        let model = if new { NEW } else { OLD };
        let turns = [steps, vec![turn(U, "end")]].concat();
        let (body, _) = sent(model, &Conversation { turns, ..hello() });
        let messages = body["messages"].as_array().expect("messages");
        let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().expect("a role")).collect();
        prop_assert_eq!(roles[0], "user");
        for (at, role) in roles.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| roles[at]);
            let behind = roles.get(at + 1).copied();
            prop_assert!(before != Some(*role));
            if *role == "system" {
                prop_assert!(new && before == Some("user") && matches!(behind, None | Some("assistant")));
            }
        }
        for (at, message) in messages.iter().enumerate() {
            let blocks = message["content"].as_array().expect("blocks");
            prop_assert!(!blocks.is_empty());
            for block in blocks.iter().filter(|block| block["type"] == "text") {
                prop_assert!(!block["text"].as_str().expect("text").trim().is_empty());
            }
            let calls: std::collections::BTreeSet<&str> = blocks.iter().filter_map(|block| block["id"].as_str()).collect();
            let next = messages.get(at + 1).and_then(|next| next["content"].as_array()).map(Vec::as_slice).unwrap_or_default();
            let results: std::collections::BTreeSet<&str> =
                next.iter().map_while(|block| block["tool_use_id"].as_str()).collect();
            prop_assert_eq!(&calls, &results);
            prop_assert_eq!(next.iter().filter(|block| block["type"] == "tool_result").count(), results.len());
        }
    }

    #[test]
    fn a_conversation_that_has_grown_begins_as_it_did(steps in steps(), more in steps(), new in any::<bool>()) {
        let model = if new { NEW } else { OLD };
        let before = [steps, vec![turn(U, "ask"), turn(A, "said")]].concat();
        let after = [before.clone(), vec![turn(U, "more")], more, vec![turn(U, "end")]].concat();
        // What a user added is behind what the model said, and that stays as it was.
        let (first, _) = sent(model, &Conversation { turns: [before, vec![turn(U, "x")]].concat(), ..hello() });
        let (second, _) = sent(model, &Conversation { turns: after, ..hello() });
        let first = first["messages"].as_array().expect("messages");
        let second = second["messages"].as_array().expect("messages");
        let said = first.len() - 1;
        prop_assert_eq!(&first[..said - 1], &second[..said - 1]);
    }
}
