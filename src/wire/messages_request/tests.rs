//! What is read of a request to `/messages`, and what is refused.

use bytes::Bytes;
use proptest::prelude::*;

use crate::wire::{Endpoint, Envelope, EnvelopeError, RequestView, read_request};

fn read(endpoint: Endpoint, body: &str) -> Result<RequestView, EnvelopeError> {
    let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 64).expect("an envelope");
    read_request(endpoint, &envelope)
}

/// A request with these members besides a model, a limit, and a message where it has none.
fn with(members: &str) -> Result<RequestView, EnvelopeError> {
    let own = members.contains("\"messages\"");
    let messages = if own { "" } else { r#","messages":[{"role":"user","content":"x"}]"# };
    read(Endpoint::Messages, &format!("{{\"model\":\"m\",\"max_tokens\":9{messages}{members}}}"))
}

/// What is read of a message with these blocks.
fn blocks(blocks: &str) -> RequestView {
    let view = with(&format!(",\"messages\":[{{\"role\":\"user\",\"content\":[{blocks}]}}]"));
    let view = view.unwrap_or_else(|error| panic!("{error}: {blocks}"));
    assert!(view.inline_bytes == 0 || view.images + view.files > 0, "{blocks}");
    view
}

#[test]
fn a_plain_request_is_read() {
    let view = with(
        r#","stream":true,"models":["a","b"],"service_tier":"standard_only","n":3,"max_completion_tokens":99,"stream_options":{}"#,
    )
    .expect("a request");
    assert_eq!((view.model.as_deref(), view.models.len()), (Some("m"), 2));
    assert_eq!((view.max_tokens, view.output_limit, view.max_completion_tokens), (Some(9), Some(9), None));
    assert_eq!((view.choices, view.choices_sent, view.messages, view.text_bytes), (1, 1, 1, 1));
    assert!(view.stream && view.include_usage && !view.tools && !view.hour_cache);
    assert_eq!((view.unpriceable, view.service_tier), (None, None));
}

#[test]
fn null_is_absent() {
    let nulls =
        ["stream", "models", "system", "tools", "cache_control", "container", "speed", "inference_geo"];
    let members: String = nulls.iter().map(|name| format!(",\"{name}\":null")).collect();
    let view = with(&members).expect("a request");
    assert!(!view.stream && !view.tools && !view.hour_cache && view.unpriceable.is_none());
}

#[test]
fn members_of_the_wrong_type_are_named() {
    for (members, wanted) in [
        (",\"stream\":1", "stream"),
        (",\"models\":\"m\"", "models"),
        (",\"tools\":{}", "tools"),
        (",\"tools\":[1]", "tools"),
        (",\"messages\":[]", "messages"),
        (",\"messages\":\"x\"", "messages"),
        (",\"messages\":[\"x\"]", "messages"),
        (",\"messages\":null", "messages"),
    ] {
        let error = with(members).err();
        assert!(matches!(error, Some(EnvelopeError::WrongType { name, .. }) if name == wanted), "{members}");
    }
    for bad in ["-1", "1.5", "\"5\"", "99999999999999999999", "[]", "true"] {
        let body = format!("{{\"model\":\"m\",\"messages\":[{{}}],\"max_tokens\":{bad}}}");
        let error = read(Endpoint::Messages, &body).err();
        assert!(matches!(error, Some(EnvelopeError::WrongType { name: "max_tokens", .. })), "{bad}");
    }
    let nameless = "{\"max_tokens\":1,\"messages\":[{}]}";
    assert_eq!(read(Endpoint::Messages, nameless).err(), Some(EnvelopeError::MissingModel));
}

#[test]
fn an_answer_needs_a_limit_and_a_count_has_none() {
    for limit in ["", ",\"max_tokens\":null"] {
        let body = format!("{{\"model\":\"m\",\"messages\":[{{\"content\":\"x\"}}]{limit}}}");
        let error = read(Endpoint::Messages, &body).err();
        assert!(matches!(error, Some(EnvelopeError::WrongType { name: "max_tokens", .. })), "{body}");
        assert!(read(Endpoint::CountTokens, &body).is_ok());
    }
    let body = "{\"model\":\"m\",\"messages\":[{\"content\":\"abc\"}],\"max_tokens\":9,\"stream\":true}";
    let view = read(Endpoint::CountTokens, body).expect("a request");
    assert_eq!((view.max_tokens, view.output_limit, view.choices, view.choices_sent), (None, None, 0, 0));
    assert_eq!((view.stream, view.text_bytes), (false, 3));
}

#[test]
fn text_is_counted_and_framing_is_not() {
    let cases = [
        (r#""messages" : [ { "role" : "user" , "content" : "hello" } ]"#, 5),
        (
            r#""messages":[{"content":[{"type":"text","text":"h\u00e9 \"x\"\n"},"you",["a"],{"text":"b"}]}]"#,
            8 + 5,
        ),
        (r#""messages":[{"content":"x"}],"system":"be kind""#, 1 + 7),
        (r#""messages":[{"content":"x"}],"system":[{"type":"text","text":"be"},{"text":" kind"}]"#, 1 + 7),
        (r#""messages":[{"content":[{"type":"thinking","thinking":"hm","signature":"c2ln"}]}]"#, 2),
        (r#""messages":[{"content":[{"type":"redacted_thinking","data":"AAAA"}]}]"#, 4),
        (
            r#""messages":[{"content":[{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":[1,"b"]}}]},
                {"content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"four"}]},
                    {"type":"tool_result","tool_use_id":"toolu_2","content":"five","is_error":true}]}]"#,
            1 + 2 + 4 + 4,
        ),
        (
            r#""messages":[{"content":[{"type":"search_result","source":"https://a.b","title":"t","content":[{"text":"cd"}]}]}]"#,
            11 + 1 + 2,
        ),
        (
            r#""messages":[{"content":"x"}],"tools":[{"type":"custom","name":"f","input_schema":{"type":"object"}}]"#,
            1 + (4 + 6) + (4 + 1) + 12 + (4 + 6),
        ),
        (
            r#""messages":[{"content":"x"}],"output_config":{"format":{"schema":{"type":"object"}}}"#,
            1 + 6 + 6 + (4 + 6),
        ),
    ];
    for (members, wanted) in cases {
        let view = with(&format!(",\"metadata\":{{\"user_id\":\"somebody\"}},{members}"));
        assert_eq!(view.expect(members).text_bytes, wanted, "{members}");
    }
}

#[test]
fn images_and_documents_are_counted_wherever_they_stand() {
    let view = blocks(
        r#"{"type":"text","text":"{\"type\":\"image\"}"},
           {"type":"image","source":{"type":"url","url":"u"}},
           {"type":"\u0069mage"},
           {"type":"document","source":{"type":"file","file_id":"f"}},
           {"type":"document","source":{"type":"text","media_type":"text/plain","data":"abc"}},
           {"type":"document","source":{"type":"content","content":[{"type":"image","source":{}},{"type":"text","text":"t"}]}},
           {"type":"tool_result","tool_use_id":"t","content":[{"type":"image"},{"type":"document"},{"type":"text","type":"image"}]},
           {"type":"image","type":"document"}, 7, null, [[{"type":"image"}]]"#,
    );
    assert_eq!((view.messages, view.images, view.files), (1, 7, 3));
    assert_eq!((view.unpriceable, view.inline_bytes), (None, 0));
}

#[test]
fn inline_images_and_documents_are_measured_as_they_stand_in_the_body() {
    let cases = [
        (r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#, 4),
        (r#"{"source" : { "data":"A\/AA" , "media_type":"image\/png","type":"base64"}, "type":"image"}"#, 5),
        (
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AAAAAAAA"}}"#,
            8,
        ),
        (
            r#"{"type":"tool_result","content":[{"type":"image","source":{"type":"base64","media_type":"image/gif","data":"AA"}}]},
               {"type":"document","source":{"type":"content","content":[
                   {"type":"image","source":{"type":"base64","media_type":"image/webp","data":"AAA"}}]}}"#,
            5,
        ),
    ];
    for (parts, wanted) in cases {
        let view = blocks(parts);
        assert_eq!((view.inline_bytes, view.text_bytes), (wanted, wanted), "{parts}");
    }
}

#[test]
fn bytes_that_no_maximum_covers_stay_bytes() {
    for (parts, text) in [
        (r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"AAAA"}}"#, 4),
        (r#"{"type":"image","source":{"type":"base64","media_type":"application/pdf","data":"AAAA"}}"#, 4),
        (r#"{"type":"document","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#, 4),
        (r#"{"type":"image","source":{"type":"base64","data":"AAAA"}}"#, 4),
        (r#"{"type":"image","source":{"media_type":"image/png","data":"AAAA"}}"#, 4),
        (r#"{"type":"text","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#, 4),
        (r#"{"source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#, 4),
        (
            r#"{"type":"text","type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#,
            4,
        ),
        (
            r#"{"type":"image","source":{"type":"base64","type":"base64","media_type":"image/png","data":"AAAA"}}"#,
            4,
        ),
        (
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA","data":"AA"}}"#,
            6,
        ),
        (
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"},"source":{}}"#,
            4,
        ),
        (r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":["AAAA"]}}"#, 4),
        (r#"{"type":"image","source":[{"type":"base64","media_type":"image/png","data":"AAAA"}]}"#, 4 + 9),
        (r#"{"type":"image","data":"AAAA"},"AAAA""#, 8),
        (r#"{"type":"image","source":{"type":"url","url":"https://a.b"}}"#, 11),
    ] {
        let view = blocks(parts);
        assert_eq!((view.inline_bytes, view.text_bytes), (0, text), "{parts}");
    }
}

#[test]
fn an_hours_cache_is_seen_wherever_it_is_asked_for() {
    const HOUR: &str = r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#;
    for members in [
        format!(",{HOUR}"),
        format!(",\"system\":[{{\"type\":\"text\",\"text\":\"s\",{HOUR}}}]"),
        format!(",\"tools\":[{{\"name\":\"f\"}},{{\"name\":\"g\",{HOUR}}}]"),
        format!(",\"messages\":[{{\"content\":[{{\"type\":\"text\",{HOUR}}}]}}]"),
        format!(",\"messages\":[{{\"content\":[{{\"type\":\"tool_result\",\"content\":[{{{HOUR}}}]}}]}}]"),
        format!(",\"messages\":[{{\"content\":[{{\"source\":{{\"content\":[{{{HOUR}}}]}}}}]}}]"),
        ",\"cache_control\":{\"ttl\":\"5m\",\"ttl\":\"1h\"}".to_owned(),
        ",\"cache_control\":{\"ttl\":\"24h\"}".to_owned(),
    ] {
        assert!(with(&members).expect("a request").hour_cache, "{members}");
        let minutes = members.replace("1h", "5m").replace("24h", "5m");
        assert!(!with(&minutes).expect("a request").hour_cache, "{minutes}");
    }
    let inside = r#","messages":[{"content":[{"type":"tool_use","input":{"cache_control":{"ttl":"1h"}}}]}]"#;
    assert!(!with(inside).expect("a request").hour_cache, "arguments are no blocks");
}

#[test]
fn what_tokens_do_not_cover_is_named() {
    let cases = [
        (r#","tools":[{"name":"f"},{"type":"custom"},{"type":null}]"#, None),
        (
            r#","tools":[{"type":"bash_20250124"},{"type":"text_editor_20250728"},{"type":"memory_20250818"}]"#,
            None,
        ),
        (r#","tools":[{"type":"computer_20251124"},{"type":"computer_toolset_20260801"}]"#, None),
        (r#","tools":[{"type":"browser_toolset_20260801"}]"#, None),
        (r#","tools":[{"name":"f"},{"type":"web_search_20260318"}]"#, Some("tools")),
        (r#","tools":[{"type":"custom","type":"web_fetch_20260318"}]"#, Some("tools")),
        (r#","tools":[{"type":"code_execution_20260521"}]"#, Some("tools")),
        (r#","tools":[{"type":"bash_code_execution_20250825"}]"#, Some("tools")),
        (r#","tools":[{"type":"mcp_toolset"}]"#, Some("tools")),
        (r#","tools":[{"type":7}]"#, Some("tools")),
        (
            r#","messages":[{"role":"system","content":[{"type":"tool_addition","tool":{"type":"tool_definition","definition":{"type":"web_search_20260318"}}}]}]"#,
            Some("messages"),
        ),
        (
            r#","messages":[{"role":"system","content":[{"type":"tool_addition","tool":{"type":"tool_reference","name":"f"}}]}]"#,
            None,
        ),
        (r#","mcp_servers":[]"#, None),
        (r#","mcp_servers":[{"type":"url"}]"#, Some("mcp_servers")),
        (r#","container":"c_1""#, Some("container")),
        (r#","container":{"skills":[]}"#, Some("container")),
        (r#","speed":"standard""#, None),
        (r#","speed":"fast""#, Some("speed")),
        (r#","inference_geo":"global""#, None),
        (r#","inference_geo":"us""#, Some("inference_geo")),
        (r#","fallbacks":[]"#, None),
        (r#","context_management":{}"#, None),
        (r#","context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}"#, None),
        (
            r#","context_management":{"edits":[{"type":"clear_tool_uses_20250919"},{"type":"compact_20260112"}]}"#,
            Some("context_management"),
        ),
        (r#","context_management":{"edits":[],"Edits":[{"type":"compact_1"}]}"#, Some("context_management")),
        (r#","context_management":[]"#, Some("context_management")),
        (r#","compaction":{"type":"summarize"}"#, Some("compaction")),
        (r#","thread":{"type":"create"}"#, Some("thread")),
        (r#","plugins":[{"id":"web"}]"#, Some("plugins")),
        (r#","thinking":{"type":"adaptive"},"service_tier":"auto""#, None),
    ];
    for (members, wanted) in cases {
        assert_eq!(with(members).expect(members).unpriceable, wanted, "{members}");
    }
    assert!(with(r#","tools":[{}]"#).expect("a request").tools);
    assert!(!with(r#","tools":[]"#).expect("a request").tools);
}

#[test]
fn names_that_decide_the_price_are_refused_in_other_letters_wherever_they_stand() {
    let cases = [
        (r#","messages":[{"content":"x","Content":[]}]"#, "Content", "content"),
        (r#","messages":[{"content":[{"Type":"image"}]}]"#, "Type", "type"),
        (r#","messages":[{"content":[{"type":"image","Source":{}}]}]"#, "Source", "source"),
        (
            r#","messages":[{"content":[{"content":[{"Cache_control":{}}]}]}]"#,
            "Cache_control",
            "cache_control",
        ),
        (r#","messages":[{"content":[{"source":{"type":"base64","Data":"AA"}}]}]"#, "Data", "data"),
        (r#","system":[{"cache_control":{"TTL":"1h"}}]"#, "TTL", "ttl"),
        (r#","cache_control":{"Ttl":"1h"}"#, "Ttl", "ttl"),
        (r#","tools":[{"name":"f","tYpe":"web_search"}]"#, "tYpe", "type"),
    ];
    for (members, name, plain) in cases {
        let error = with(members).err();
        assert_eq!(error, Some(EnvelopeError::Misspelt { name: name.into(), plain }), "{members}");
    }
    for name in
        ["System", "TOOLS", "Speed", "Mcp_servers", "Container", "Fallbacks", "Max_tokens", "Inference_geo"]
    {
        let body = format!("{{\"model\":\"m\",\"{name}\":null}}");
        let error = Envelope::parse(Bytes::from(body), 64).err();
        assert!(matches!(error, Some(EnvelopeError::Misspelt { .. })), "{name}");
    }
    for members in [
        r#","tools":[{"name":"f","input_schema":{"Type":"x","properties":{"Content":{},"Cache_control":{}}}}]"#,
        r#","messages":[{"content":[{"type":"tool_use","input":{"Type":"x","Source":"y"}}]}]"#,
        r#","metadata":{"Type":"x"},"output_config":{"format":{"schema":{"Type":"x"}}}"#,
    ] {
        assert!(with(members).is_ok(), "a caller's own names keep their letters: {members}");
    }
}

#[test]
fn a_request_as_deep_as_may_be_is_read_to_its_bottom() {
    let deep = |levels: usize| format!("{}\"x\"{}", "[".repeat(levels), "]".repeat(levels));
    let body = format!("{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{{\"content\":[{}]}}]}}", deep(124));
    let envelope = Envelope::parse(Bytes::from(body), 128).expect("an envelope");
    assert_eq!(read_request(Endpoint::Messages, &envelope).expect("a request").text_bytes, 1);
}

/// JSON of the names and words that matter here, nested at random.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("7".to_owned()),
        proptest::sample::select(
            &["\"image\"", "\"document\"", "\"base64\"", "\"1h\"", "\"image/png\"", "\"AAAA\""][..]
        )
        .prop_map(str::to_owned),
    ];
    let name = proptest::sample::select(
        &[
            "type",
            "source",
            "content",
            "data",
            "media_type",
            "cache_control",
            "ttl",
            "tool",
            "definition",
            "input",
            "Type",
        ][..],
    );
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((name.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_is_answered_and_inline_data_belongs_to_something_counted(
        name in proptest::sample::select(&["system", "tools", "messages", "cache_control", "context_management", "output_config"][..]),
        value in value(),
    ) {
        let members = format!(",\"{name}\":{value}");
        if let Ok(view) = with(&members) {
            prop_assert!(view.inline_bytes == 0 || view.images + view.files > 0);
            prop_assert!(view.inline_bytes <= view.text_bytes);
            prop_assert!(view.text_bytes <= members.len() as u64 + 1);
        }
        let blocks = format!(",\"messages\":[{{\"content\":[{value}]}}]");
        if let Ok(view) = with(&blocks) {
            prop_assert!(view.inline_bytes <= view.text_bytes && view.text_bytes <= blocks.len() as u64);
        }
    }

    #[test]
    fn any_text_for_a_value_is_answered(
        name in proptest::sample::select(&["system", "tools", "messages", "cache_control", "max_tokens", "models"][..]),
        value in "[\\[\\]{}\",:a0-9.-]{0,24}",
    ) {
        let body = format!("{{\"model\":\"m\",\"{name}\":{value}}}");
        if let Ok(envelope) = Envelope::parse(Bytes::from(body), 64) {
            let _ = read_request(Endpoint::Messages, &envelope);
            let _ = read_request(Endpoint::CountTokens, &envelope);
        }
    }
}
