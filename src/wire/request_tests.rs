//! What is read of a request, and what is refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Endpoint, Envelope, EnvelopeError, RequestView, read_request};

fn read(endpoint: Endpoint, body: &str) -> Result<RequestView, EnvelopeError> {
    let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 64).expect("an envelope");
    read_request(endpoint, &envelope)
}

fn chat(members: &str) -> Result<RequestView, EnvelopeError> {
    let body = format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}]{members}}}");
    read(Endpoint::ChatCompletions, &body)
}

fn refused(members: &str) -> &'static str {
    match chat(members) {
        Err(EnvelopeError::WrongType { name, .. }) => name,
        other => panic!("{members}: {other:?}"),
    }
}

#[test]
fn a_plain_chat_is_read() {
    let view = chat(",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":5,\"n\":3");
    let view = view.expect("a request");
    assert_eq!(view.model.as_deref(), Some("m"));
    assert!(view.stream && view.include_usage && view.unpriceable.is_none());
    assert_eq!((view.output_limit, view.choices, view.messages), (Some(5), 3, 1));
}

#[test]
fn null_is_absent() {
    let view =
        chat(",\"stream\":null,\"stream_options\":null,\"max_tokens\":null,\"n\":null,\"models\":null");
    let view = view.expect("a request");
    assert!(!view.stream && !view.include_usage && view.output_limit.is_none() && view.choices == 1);
}

#[test]
fn fields_of_the_wrong_type_are_named() {
    for bad in ["-1", "1.5", "1.0", "\"5\"", "1e308", "99999999999999999999", "[]", "true"] {
        assert_eq!(refused(&format!(",\"max_tokens\":{bad}")), "max_tokens");
        assert_eq!(refused(&format!(",\"max_completion_tokens\":{bad}")), "max_completion_tokens");
        assert_eq!(refused(&format!(",\"n\":{bad}")), "n");
    }
    assert_eq!(refused(",\"n\":0"), "n");
    assert_eq!(refused(",\"best_of\":129"), "best_of");
    assert_eq!(refused(",\"stream\":1"), "stream");
    assert_eq!(refused(",\"stream_options\":[]"), "stream_options");
    assert_eq!(refused(",\"stream_options\":{\"include_usage\":1}"), "stream_options.include_usage");
    assert_eq!(
        refused(",\"stream_options\":{\"include_usage\":true,\"include_usage\":false}"),
        "stream_options"
    );
    assert_eq!(refused(",\"models\":\"m\""), "models");
    assert_eq!(refused(&format!(",\"models\":[{}\"m\"]", "\"m\",".repeat(16))), "models");
    assert_eq!(refused(",\"service_tier\":1"), "service_tier");
    assert_eq!(refused(",\"tools\":{}"), "tools");
    for messages in ["[]", "{}", "\"x\"", "[1]", "[[]]", "null"] {
        let body = format!("{{\"model\":\"m\",\"messages\":{messages}}}");
        let error = read(Endpoint::ChatCompletions, &body).err();
        assert!(matches!(error, Some(EnvelopeError::WrongType { name: "messages", .. })), "{messages}");
    }
}

#[test]
fn a_model_must_be_named() {
    for body in ["{}", "{\"model\":null}", "{\"model\":\"\"}", "{\"models\":[]}"] {
        assert_eq!(read(Endpoint::Embeddings, body).err(), Some(EnvelopeError::MissingModel), "{body}");
    }
    assert!(read(Endpoint::Embeddings, "{\"models\":[\"a\"]}").is_ok());
}

#[test]
fn the_larger_limit_is_the_limit() {
    let view = chat(",\"max_tokens\":5,\"max_completion_tokens\":9").expect("a request");
    assert_eq!((view.output_limit, view.max_tokens), (Some(9), Some(5)));
}

#[test]
fn a_limit_that_an_endpoint_does_not_know_bounds_nothing() {
    let view = read(Endpoint::Completions, "{\"model\":\"m\",\"prompt\":\"x\",\"max_completion_tokens\":1}");
    assert_eq!(view.expect("a request").output_limit, None);
}

#[test]
fn parts_are_counted_by_what_they_may_be() {
    let body = r#"{"model":"m","messages":[
        {"role":"user","content":[{"type":"text","text":"{\"type\":\"image_url\"}"},
            {"type":"image_url","image_url":{"url":"u"}},
            {"type":"text","type":"\u0069mage_url"},
            {"image_url":"u"},
            {"type":"input_audio","input_audio":{"data":"","format":"wav"}},
            {"type":"file","file":{"file_id":"f"}}, 7, "text", null, [[]]]},
        {"role":"assistant","content":null,"audio":{"id":"a"}},
        {"role":"assistant","cont\u0065nt":[{"type":"image_url"}],"audio":null}]}"#;
    let view = read(Endpoint::ChatCompletions, body).expect("a request");
    assert_eq!((view.messages, view.images, view.audio_inputs, view.files), (3, 4, 2, 1));
    assert_eq!(view.unpriceable, None);
}

fn inline_bytes(parts: &str) -> u64 {
    let body = format!("{{\"model\":\"m\",\"messages\":[{{\"content\":[{parts}]}},{{\"content\":\"x\"}}]}}");
    let view = read(Endpoint::ChatCompletions, &body).expect("a request");
    assert!(view.inline_bytes == 0 || view.images + view.files > 0, "{parts}");
    assert!(view.inline_bytes <= body.len() as u64);
    view.inline_bytes
}

#[test]
fn inline_images_and_files_are_measured_as_they_stand_in_the_body() {
    let cases = [
        (r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}"#, 26),
        (r#"{"type":"input_image","image_url":"data:image/png;base64,AAAA"}"#, 26),
        (r#"{"image\u005furl" : { "\u0075rl" : "data:image\/png;base64,A\/A" } }"#, 27),
        (r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,AA"}}"#, 30),
        (r#"{"type":"file","file":{"file_data":"AAAA"}},{"image_url":"data:image/x,AA"}"#, 19),
    ];
    for (parts, wanted) in cases {
        assert_eq!(inline_bytes(parts), wanted, "{parts}");
    }
}

#[test]
fn bytes_that_no_maximum_covers_stay_bytes() {
    for parts in [
        r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}"#,
        r#"{"type":"image_url","image_url":{"url":"data:application/pdf;base64,AAAA"}}"#,
        r#"{"type":"image_url","image_url":{"url":"\u0064ata:image/png;base64,AAAA"}}"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/png,A","url":"data:image/png,B"}}"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/png,A","Url":"data:image/png,B"}}"#,
        r#"{"type":"image_url","image_url":[{"url":"data:image/png;base64,AAAA"}]}"#,
        r#"{"type":"image_url","image_url":7},{"type":"image_url","image_url":{"url":null}}"#,
        r#"{"type":"image_url","url":"data:image/png;base64,AAAA"}"#,
        r#"{"type":"text","text":"data:image/png;base64,AAAA"}"#,
        r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}"#,
        r#"{"type":"input_audio","input_audio":{"url":"data:image/png;base64,AAAA","file_data":"AA"}}"#,
        r#"{"type":"file","file":{"file_data":"data:audio/mpeg;base64,AAAA"}}"#,
        r#"{"type":"file","file":{"file_id":"f"}},{"type":"file","file":"AAAA"}"#,
        r#""data:image/png;base64,AAAA""#,
    ] {
        assert_eq!(inline_bytes(parts), 0, "{parts}");
    }
}

#[test]
fn text_is_counted_and_framing_is_not() {
    let text = |endpoint, body: &str| read(endpoint, body).expect(body).text_bytes;
    let chat = |members: &str| {
        let whole = format!("{{ \"model\" : \"m\", \"user\": \"somebody\", {members} }}");
        text(Endpoint::ChatCompletions, &whole)
    };
    let cases = [
        (r#""messages":[{"role":"user","content":"hello"}]"#, 5),
        (r#""messages" : [ { "role" : "user" , "content" : "hello" } ]"#, 5),
        (r#""messages":[{"role":"user","content":"h\u00e9 \"x\"\n"}]"#, 8),
        (
            r#""messages":[{"role":"user","content":[{"type":"text","text":"hello"},"you",["a"],{"new":"b"}]}]"#,
            10,
        ),
        (r#""messages":[{"role":"user","content":{"type":"text","text":"hello"},"name":"ann"}]"#, 8),
        (
            r#""messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function",
                "function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"call_1","content":"4"}]"#,
            9,
        ),
        (
            r#""messages":[{"content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#,
            1 + (4 + 8) + 8 + (4 + 1) + 10 + (4 + 6),
        ),
        (
            r#""messages":[{"content":"x"}],"functions":[{"name":"f"}],"response_format":{"type":"json_object"}"#,
            21,
        ),
    ];
    for (members, wanted) in cases {
        assert_eq!(chat(members), wanted, "{members}");
    }
    for (prompt, wanted) in [("\"abc\"", 3), ("[\"ab\",\"c\"]", 3), ("[1,2]", 8), ("[[1],[2,3]]", 12)] {
        let body = format!("{{\"model\":\"m\",\"prompt\":{prompt},\"suffix\":\"de\"}}");
        assert_eq!(text(Endpoint::Completions, &body), wanted + 2, "{prompt}");
        let body = format!("{{\"model\":\"m\",\"input\":{prompt},\"suffix\":\"de\"}}");
        assert_eq!(text(Endpoint::Embeddings, &body), wanted, "{prompt}");
    }
}

#[test]
fn what_is_no_text_counts_with_the_bytes_that_hold_it_or_name_it() {
    let of = |part: &str| {
        let body = format!("{{\"model\":\"m\",\"messages\":[{{\"content\":[{part}]}}]}}");
        read(Endpoint::ChatCompletions, &body).expect(part).text_bytes
    };
    let cases = [
        (r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#, 26),
        (r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}"#, 25),
        (r#"{"type":"image_url","image_url":"data:application/pdf;base64,AA"}"#, 30),
        (r#"{"type":"file","file":{"file_data":"AAAAAAAA"}}"#, 8),
        (r#"{"type":"file","file":{"file_id":"f_1"}}"#, 3),
        (r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}"#, 7),
    ];
    for (part, wanted) in cases {
        assert_eq!(of(part), wanted, "{part}");
    }
}

#[test]
fn a_request_as_deep_as_may_be_is_read_to_its_bottom() {
    let deep = |levels: usize| format!("{}\"x\"{}", "[".repeat(levels), "]".repeat(levels));
    let body = format!("{{\"model\":\"m\",\"messages\":[{{\"content\":[{}]}}]}}", deep(124));
    let envelope = Envelope::parse(Bytes::from(body), 128).expect("an envelope");
    assert_eq!(read_request(Endpoint::ChatCompletions, &envelope).expect("a request").text_bytes, 1);
}

#[test]
fn names_that_decide_the_price_are_refused_in_other_letters_wherever_they_stand() {
    let cases = [
        (r#","stream_options":{"Include_usage":true}"#, "Include_usage", "include_usage"),
        (
            r#","stream_options":{"include_usage":true,"INCLUDE_USAGE":false}"#,
            "INCLUDE_USAGE",
            "include_usage",
        ),
        (r#","tools":[{"type":"function","Type":"web_search"}]"#, "Type", "type"),
        (r#","messages":[{"role":"user","content":"x","Content":[]}]"#, "Content", "content"),
        (r#","messages":[{"role":"user","content":"x"},{"Audio":{"id":"a"}}]"#, "Audio", "audio"),
        (r#","messages":[{"content":[{"type":"text","Image_url":"u"}]}]"#, "Image_url", "image_url"),
        (r#","messages":[{"content":{"tYpe":"image_url"}}]"#, "tYpe", "type"),
    ];
    for (members, name, plain) in cases {
        let own_messages =
            if members.contains("\"messages\"") { "" } else { ",\"messages\":[{\"content\":\"x\"}]" };
        let body = format!("{{\"model\":\"m\"{own_messages}{members}}}");
        let error = read(Endpoint::ChatCompletions, &body).err();
        assert_eq!(error, Some(EnvelopeError::Misspelt { name: name.into(), plain }), "{members}");
    }
    for members in [
        r#","tools":[{"type":"function","function":{"Type":"x","parameters":{"Content":{}}}}]"#,
        r#","stream_options":{"Include":true}"#,
        r#","metadata":{"Type":"x","Content":"y"}"#,
        r#","response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"Type":{}}}}}"#,
    ] {
        assert!(chat(members).is_ok(), "a caller's own names keep their letters: {members}");
    }
}

#[test]
fn what_tokens_do_not_cover_is_named() {
    let cases = [
        (",\"web_search_options\":{}", Some("web_search_options")),
        (",\"tools\":[{\"type\":\"function\",\"function\":{}},{\"type\":\"custom\"}]", None),
        (",\"tools\":[{\"type\":\"function\"},{\"type\":\"web_search\"}]", Some("tools")),
        (",\"tools\":[{\"type\":7}]", Some("tools")),
        (",\"modalities\":[\"text\",\"audio\"]", None),
        (",\"modalities\":[\"image\"]", Some("modalities")),
        (",\"plugins\":[{\"id\":\"web\"}]", Some("plugins")),
        (",\"prediction\":{\"type\":\"content\",\"content\":\"x\"}", None),
    ];
    for (members, wanted) in cases {
        assert_eq!(chat(members).expect("a request").unpriceable, wanted, "{members}");
    }
    assert!(chat(",\"modalities\":[\"audio\"]").expect("a request").audio_output);
    assert!(chat(",\"tools\":[{}]").expect("a request").tools);
}

#[test]
fn every_prompt_of_a_completion_is_an_output() {
    for (prompt, wanted) in [("\"a\"", 4), ("[\"a\",\"b\"]", 8), ("[1,2,3]", 4), ("[[1],[2],[3]]", 12)] {
        let body = format!("{{\"model\":\"m\",\"prompt\":{prompt},\"n\":2,\"best_of\":4}}");
        let view = read(Endpoint::Completions, &body).expect("a request");
        assert_eq!((view.choices, view.choices_sent), (wanted, wanted / 2), "{prompt}");
    }
}

#[test]
fn embeddings_have_no_output() {
    let view = read(Endpoint::Embeddings, "{\"model\":\"m\",\"input\":[[1,2]],\"max_tokens\":4,\"n\":2}");
    let view = view.expect("a request");
    assert_eq!((view.choices, view.choices_sent), (0, 0));
    assert_eq!((view.output_limit, view.unpriceable), (None, None));
    let image = read(Endpoint::Embeddings, "{\"model\":\"m\",\"input\":[{\"image_url\":\"u\"}]}");
    assert_eq!(image.expect("a request").unpriceable, Some("input"));
}

#[test]
fn embeddings_are_never_streamed() {
    let streamed =
        "{\"model\":\"m\",\"input\":\"x\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
    let view = read(Endpoint::Embeddings, streamed).expect("a request");
    assert!(!view.stream && !view.include_usage);
    for (member, value) in [("stream", "1"), ("stream_options", "[]")] {
        let body = format!("{{\"model\":\"m\",\"input\":\"x\",\"{member}\":{value}}}");
        let error = read(Endpoint::Embeddings, &body).err();
        assert!(matches!(error, Some(EnvelopeError::WrongType { name, .. }) if name == member), "{body}");
    }
}

proptest! {
    #[test]
    fn p21_any_value_of_any_member_is_answered(
        name in proptest::sample::select(&["messages", "tools", "prompt", "input", "models", "modalities", "stream_options", "n"][..]),
        value in "[\\[\\]{}\",:a0-9.-]{0,24}",
    ) {
        let body = format!("{{\"model\":\"m\",\"{name}\":{value}}}");
        if let Ok(envelope) = Envelope::parse(Bytes::from(body), 64) {
            for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Embeddings] {
                let _ = read_request(endpoint, &envelope);
            }
        }
    }
}
