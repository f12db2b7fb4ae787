//! What is read of a request to `/responses`, and what is refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Endpoint, Envelope, EnvelopeError, RequestView, read_request};

fn read(body: &str) -> Result<RequestView, EnvelopeError> {
    let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 64)?;
    read_request(Endpoint::Responses, &envelope)
}

fn with(members: &str) -> Result<RequestView, EnvelopeError> {
    read(&format!("{{\"model\":\"m\",\"input\":\"hello\"{members}}}"))
}

fn of_input(input: &str) -> RequestView {
    read(&format!("{{\"model\":\"m\",\"input\":{input}}}")).expect(input)
}

fn refused(members: &str) -> &'static str {
    match with(members) {
        Err(EnvelopeError::WrongType { name, .. }) => name,
        other => panic!("{members}: {other:?}"),
    }
}

#[test]
fn a_plain_request_is_read() {
    let view =
        with(",\"stream\":true,\"max_output_tokens\":50,\"service_tier\":\"flex\",\"instructions\":\"abc\"");
    let view = view.expect("a request");
    assert_eq!((view.model.as_deref(), view.service_tier.as_deref()), (Some("m"), Some("flex")));
    assert_eq!((view.stream, view.include_usage, view.output_limit), (true, true, Some(50)));
    assert_eq!((view.choices, view.choices_sent, view.messages, view.text_bytes), (1, 1, 2, 8));
    assert_eq!((view.images, view.files, view.inline_bytes, view.unpriceable), (0, 0, 0, None));
    let listed = read("{\"models\":[\"a\",\"b\"],\"input\":[]}").expect("a request");
    assert_eq!((listed.models.len(), listed.messages), (2, 1));
}

#[test]
fn null_is_absent() {
    let members =
        ["models", "stream", "max_output_tokens", "tools", "instructions", "previous_response_id", "prompt"];
    let members: String = members.iter().map(|name| format!(",\"{name}\":null")).collect();
    let view = with(&members).expect("a request");
    assert_eq!(view, with("").expect("a request"));
}

#[test]
fn fields_of_the_wrong_type_are_named() {
    for (members, name) in [
        (",\"max_output_tokens\":-1", "max_output_tokens"),
        (",\"max_output_tokens\":\"5\"", "max_output_tokens"),
        (",\"stream\":1", "stream"),
        (",\"background\":\"true\"", "background"),
        (",\"instructions\":[]", "instructions"),
        (",\"service_tier\":5", "service_tier"),
        (",\"tools\":{}", "tools"),
        (",\"tools\":[1]", "tools"),
        (",\"models\":\"a\"", "models"),
    ] {
        assert_eq!(refused(members), name, "{members}");
    }
    for input in ["{}", "5", "[1]", "[[]]", "[\"x\"]", "true"] {
        let error = read(&format!("{{\"model\":\"m\",\"input\":{input}}}")).err();
        assert!(matches!(error, Some(EnvelopeError::WrongType { name: "input", .. })), "{input}");
    }
    assert_eq!(read("{\"input\":\"x\"}").err(), Some(EnvelopeError::MissingModel));
    assert!(matches!(read("{\"model\":\"m\"}"), Err(EnvelopeError::WrongType { name: "input", .. })));
}

#[test]
fn items_and_what_is_in_them_are_counted() {
    let view = of_input(
        r#"[{"role":"user","content":"hello"},
            {"type":"message","role":"user","content":[{"type":"input_text","text":"ab"},
                {"type":"input_image","image_url":"data:image/png;base64,AAAA","detail":"low"},
                {"type":"input_image","file_id":"file_1"},
                {"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,AA"},
                {"type":"input_file","file_url":"https://e.com/a"},{"type":"input_file","file_id":"file_2"}]},
            {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"abc"}],"encrypted_content":"gAAA"},
            {"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{}","status":"completed"},
            {"type":"function_call_output","call_id":"call_1","output":[{"type":"input_text","text":"de"},
                {"type":"input_image","image_url":"https://e.com/b"}]},
            {"type":"function_call_output","call_id":"call_2","output":"fgh"},
            {"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","file_id":"f"}}]"#,
    );
    assert_eq!((view.messages, view.images, view.files, view.audio_inputs), (7, 4, 3, 0));
    assert_eq!(view.inline_bytes, 26 + 30);
    let text = 5 + 2 + (26 + 3) + 6 + (30 + 5) + 15 + 6 + (3 + 4) + (1 + 2) + (2 + 15) + 3 + 1;
    assert_eq!((view.text_bytes, view.unpriceable), (text, None));
}

#[test]
fn bytes_that_no_maximum_covers_stay_bytes() {
    for part in [
        r#"{"type":"input_image","image_url":"https://example.com/a.png"}"#,
        r#"{"type":"input_image","image_url":"data:application/pdf;base64,AAAA"}"#,
        r#"{"type":"input_image","image_url":"\u0064ata:image/png;base64,AAAA"}"#,
        r#"{"type":"input_file","file_data":"data:audio/mpeg;base64,AAAA"}"#,
        r#"{"type":"input_file","file_data":["AAAA"]}"#,
        r#"{"type":"input_text","text":"data:image/png;base64,AAAA"}"#,
    ] {
        let view = of_input(&format!("[{{\"role\":\"user\",\"content\":[{part}]}}]"));
        assert_eq!(view.inline_bytes, 0, "{part}");
    }
}

#[test]
fn what_the_gateway_does_not_see_may_fill_the_context_window() {
    for members in [
        r#""input":"x","previous_response_id":"resp_1""#,
        r#""input":[],"conversation":{"id":"conv_1"}"#,
        r#""conversation":"conv_1""#,
        r#""input":[{"type":"item_reference","id":"msg_1"}]"#,
        r#""input":[{"id":"msg_1"}]"#,
        r#""input":[{"type":null,"id":"msg_1"}]"#,
        r#""input":[{"type":"compaction","encrypted_content":"gAAA"}]"#,
    ] {
        let view = read(&format!("{{\"model\":\"m\",{members}}}")).expect(members);
        assert_eq!((view.files, view.messages, view.unpriceable), (1, 1, None), "{members}");
    }
    let template = read(r#"{"model":"m","prompt":{"id":"pmpt_1"}}"#).expect("a request");
    assert_eq!((template.files, template.messages, template.unpriceable), (1, 1, Some("prompt")));
}

#[test]
fn what_tokens_do_not_cover_is_named() {
    for own in [
        r#"{"type":"function","name":"f","parameters":{"type":"object"}}"#,
        r#"{"type":"custom","name":"f","format":{"type":"text"}}"#,
        r#"{"type":"namespace","name":"n","description":"d","tools":[{"type":"function","name":"f"}]}"#,
        r#"{"type":"local_shell"}"#,
        r#"{"type":"apply_patch"}"#,
        r#"{"type":"shell","environment":{"type":"local"}}"#,
        r#"{"type":"computer"}"#,
    ] {
        let view = with(&format!(",\"tools\":[{own}]")).expect(own);
        assert_eq!((view.unpriceable, view.tools), (None, true), "{own}");
    }
    for apart in [
        r#"{"type":"web_search"}"#,
        r#"{"type":"mcp","server_url":"u"}"#,
        r#"{"type":"code_interpreter","container":{"type":"auto"}}"#,
        r#"{"type":"tool_search"}"#,
        r#"{"type":"shell"}"#,
        r#"{"type":"shell","environment":{"type":"container_auto"}}"#,
        r#"{"type":"shell","environment":{"type":"local","type":"container_auto"}}"#,
        r#"{"type":"namespace","name":"n","tools":[{"type":"web_search"}]}"#,
        r#"{"name":"f"}"#,
        r#"{"type":"function","type":"web_search"}"#,
        r#"{"type":7}"#,
    ] {
        let view = with(&format!(",\"tools\":[{{\"type\":\"function\"}},{apart}]")).expect(apart);
        assert_eq!(view.unpriceable, Some("tools"), "{apart}");
    }
    for (members, wanted) in [
        (",\"tools\":[]", None),
        (",\"background\":true", None),
        (",\"reasoning\":{\"effort\":\"high\"}", None),
        (",\"reasoning\":{\"mode\":\"standard\"}", None),
        (",\"reasoning\":{\"mode\":\"pro\"}", Some("reasoning")),
        (",\"context_management\":[]", None),
        (",\"context_management\":[{\"type\":\"compaction\"}]", Some("context_management")),
        (",\"moderation\":{\"model\":\"x\"}", Some("moderation")),
        (",\"plugins\":[{\"id\":\"web\"}]", Some("plugins")),
        (",\"search_parameters\":{}", Some("search_parameters")),
    ] {
        assert_eq!(with(members).expect(members).unpriceable, wanted, "{members}");
    }
    let late =
        of_input(r#"[{"type":"additional_tools","role":"developer","tools":[{"type":"web_search"}]}]"#);
    assert_eq!(late.unpriceable, Some("input"));
}

#[test]
fn a_cache_that_is_kept_longer_is_seen_wherever_it_is_asked_for() {
    let part = |mark: &str| {
        format!(
            r#","input":[{{"role":"user","content":[{{"type":"input_text","text":"x","prompt_cache_breakpoint":{mark}}}]}}]"#
        )
    };
    for (members, wanted) in [
        (r#","input":"x","prompt_cache_options":{"ttl":"30m"}"#.to_owned(), false),
        (r#","input":"x","prompt_cache_options":{"mode":"explicit","ttl":null}"#.to_owned(), false),
        (r#","input":"x","prompt_cache_options":{"ttl":"12h"}"#.to_owned(), true),
        (r#","input":"x","prompt_cache_options":{"TTL":"12h","ttl":"30m"}"#.to_owned(), true),
        (part(r#"{"mode":"explicit"}"#), false),
        (part(r#"{"mode":"explicit","ttl":"30m"}"#), false),
        (part(r#"{"mode":"explicit","ttl":"\u00312h"}"#), true),
    ] {
        let view = read(&format!("{{\"model\":\"m\"{members}}}")).expect(&members);
        assert_eq!(view.hour_cache, wanted, "{members}");
    }
}

#[test]
fn names_that_decide_the_price_are_refused_in_other_letters_wherever_they_stand() {
    for (members, name, plain) in [
        (r#","Max_Output_Tokens":5"#, "Max_Output_Tokens", "max_output_tokens"),
        (r#","Background":true"#, "Background", "background"),
        (r#","tools":[{"type":"function","Type":"web_search"}]"#, "Type", "type"),
        (r#","tools":[{"type":"shell","Environment":{}}]"#, "Environment", "environment"),
    ] {
        let error = EnvelopeError::Misspelt { name: name.into(), plain };
        assert_eq!(with(members).err(), Some(error), "{members}");
    }
    for (item, name, plain) in [
        (r#"{"role":"user","Content":"x"}"#, "Content", "content"),
        (r#"{"role":"user","tYpe":"item_reference"}"#, "tYpe", "type"),
        (r#"{"type":"function_call_output","Output":[]}"#, "Output", "output"),
        (r#"{"role":"user","content":[{"type":"input_text","File_data":"x"}]}"#, "File_data", "file_data"),
    ] {
        let error = EnvelopeError::Misspelt { name: name.into(), plain };
        assert_eq!(read(&format!("{{\"model\":\"m\",\"input\":[{item}]}}")).err(), Some(error), "{item}");
    }
    let own = r#","tools":[{"type":"function","name":"f","parameters":{"Type":"x","Tools":1}}],"metadata":{"Type":"x"}"#;
    assert!(with(own).is_ok(), "a caller's own names keep their letters");
}

#[test]
fn tools_and_schemas_count_with_their_names() {
    let tools = r#","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]"#;
    assert_eq!(with(tools).expect("a request").text_bytes, 5 + (4 + 8) + (4 + 1) + 10 + (4 + 6));
    let schema = r#","text":{"format":{"type":"json_object"}}"#;
    assert_eq!(with(schema).expect("a request").text_bytes, 5 + 6 + (4 + 11));
}

/// Any JSON, often with the names and words that matter.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let word = proptest::sample::select(
        &[
            "type",
            "role",
            "content",
            "output",
            "tools",
            "id",
            "input_image",
            "image_url",
            "file_data",
            "item_reference",
            "function",
            "shell",
            "environment",
            "local",
            "data:image/png;base64,AAAA",
            "x",
            "Type",
            "ttl",
            "12h",
        ][..],
    );
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        word.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_of_any_member_is_answered(
        name in proptest::sample::select(
            &["input", "tools", "instructions", "text", "reasoning", "prompt", "prompt_cache_options", "conversation",
                "context_management", "max_output_tokens", "stream", "models", "modalities"][..],
        ),
        value in json(),
    ) {
        if let Ok(view) = read(&serde_json::json!({ "model": "m", "input": "x", (name): value.clone() }).to_string()) {
            prop_assert!(view.messages > 0 && view.choices == 1);
        }
        if let Ok(view) = read(&serde_json::json!({ "model": "m", "input": value }).to_string()) {
            prop_assert!(view.inline_bytes == 0 || view.images + view.files > 0);
        }
    }

    #[test]
    fn any_text_of_any_member_is_answered(value in "[\\[\\]{}\",:a0-9.-]{0,24}") {
        let _ = read(&format!("{{\"model\":\"m\",\"input\":{value}}}"));
        let _ = with(&format!(",\"tools\":{value}"));
    }
}
