//! What goes up and what comes down, quirk by quirk.

use bytes::Bytes;

use super::OpenAi;
use crate::{
    catalogue::{Capabilities, OutputLimitField, Quirks, StreamUsage},
    dialects::{
        AnswerFacts, Asked, Call, ClientHeaders, Dialect, EventFacts, StreamProgress, UpstreamRequest,
    },
    domain::ModelName,
    wire::{Endpoint, Envelope, Event, Figure, read_request},
};

fn send(endpoint: Endpoint, quirks: &Quirks, output_limit: Option<u64>, body: &str) -> UpstreamRequest {
    let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 64).expect("an envelope");
    let view = read_request(endpoint, &envelope).expect("a request");
    let model = ModelName::parse("up").expect("a name");
    let call = Call {
        asked: &Asked::new(endpoint, envelope, view, ClientHeaders::default()),
        quirks,
        capabilities: &Capabilities::default(),
        model: &model,
        output_limit,
        model_limit: None,
        ask_usage: true,
        request_id: "req",
        created: 0,
    };
    OpenAi.request(&call).expect("every request can be said")
}

/// The members that a chat with `members` is sent with.
fn chat(quirks: &Quirks, output_limit: Option<u64>, members: &str) -> String {
    let body = format!("{{\"model\":\"up\",\"messages\":[{{}}]{members}}}");
    let sent = send(Endpoint::ChatCompletions, quirks, output_limit, &body);
    let text = std::str::from_utf8(&sent.body).expect("text");
    let rest = text.strip_prefix("{\"model\":\"up\",\"messages\":[{}]").expect("the beginning is kept");
    rest.strip_suffix('}').expect("an object").to_owned()
}

#[test]
fn the_model_becomes_the_upstreams_own_and_the_fallback_list_stays_here() {
    let body = "{ \"model\": \"openai/up\", \"messages\": [{}], \"models\": [\"a/b\"], \"x\": 1.0 }";
    let sent = send(Endpoint::ChatCompletions, &Quirks::default(), None, body);
    assert_eq!(sent.path, "/chat/completions");
    assert_eq!(sent.body, "{\"model\":\"up\",\"messages\":[{}],\"x\":1.0}");
    assert!(!sent.usage_injected);
}

#[test]
fn streams_are_asked_for_usage_and_the_clients_options_stay() {
    let ask = Quirks::default();
    assert_eq!(
        chat(&ask, None, ",\"stream\":true"),
        ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
    );
    assert_eq!(
        chat(
            &ask,
            None,
            ",\"stream\":true,\"stream_options\":{ \"include_obfuscation\":false,\"include_usage\":false }"
        ),
        ",\"stream\":true,\"stream_options\":{ \"include_obfuscation\":false,\"include_usage\":true }"
    );
    assert_eq!(
        chat(&ask, None, ",\"stream_options\":null,\"stream\":true"),
        ",\"stream_options\":{\"include_usage\":true},\"stream\":true"
    );
    assert_eq!(chat(&ask, None, ",\"stream\":false"), ",\"stream\":false");
    let asked = ",\"stream\":true,\"stream_options\":{\"include_usage\":true}";
    assert_eq!(chat(&ask, None, asked), asked);
    let always = Quirks { stream_usage: StreamUsage::Always, ..Quirks::default() };
    assert_eq!(chat(&always, None, asked), asked);
    assert_eq!(chat(&always, None, ",\"stream\":true"), ",\"stream\":true");
    let refusing = Quirks { refuses_stream_options: true, ..always };
    assert_eq!(chat(&refusing, None, asked), ",\"stream\":true");
}

#[test]
fn only_an_injected_usage_event_is_to_be_hidden() {
    let body = |options: &str| format!("{{\"model\":\"up\",\"messages\":[{{}}],\"stream\":true{options}}}");
    let injected =
        |options| send(Endpoint::ChatCompletions, &Quirks::default(), None, &body(options)).usage_injected;
    assert!(injected("") && !injected(",\"stream_options\":{\"include_usage\":true}"));
}

#[test]
fn the_output_limit_goes_under_the_name_the_provider_knows() {
    use OutputLimitField::{Either, MaxCompletionTokens, MaxTokens};
    let cases = [
        (MaxTokens, None, ",\"max_completion_tokens\":5", ",\"max_tokens\":5"),
        (MaxTokens, None, ",\"max_completion_tokens\":5,\"max_tokens\":3", ",\"max_tokens\":3"),
        (MaxTokens, None, ",\"max_tokens\":5", ",\"max_tokens\":5"),
        (MaxTokens, Some(9), "", ",\"max_tokens\":9"),
        (MaxTokens, Some(9), ",\"max_completion_tokens\":null", ",\"max_tokens\":9"),
        (MaxCompletionTokens, None, ",\"max_tokens\":5", ",\"max_tokens\":5"),
        (MaxCompletionTokens, Some(9), "", ",\"max_completion_tokens\":9"),
        (MaxCompletionTokens, Some(9), ",\"max_tokens\":50", ",\"max_tokens\":9"),
        (
            MaxCompletionTokens,
            Some(9),
            ",\"max_tokens\":null",
            ",\"max_tokens\":null,\"max_completion_tokens\":9",
        ),
        (Either, Some(9), "", ",\"max_tokens\":9"),
        (Either, Some(9), ",\"max_completion_tokens\":50", ",\"max_completion_tokens\":9"),
        (Either, None, ",\"max_completion_tokens\":50", ",\"max_completion_tokens\":50"),
    ];
    for (output_limit, limit, members, wanted) in cases {
        let quirks = Quirks { output_limit, ..Quirks::default() };
        assert_eq!(chat(&quirks, limit, members), wanted, "{output_limit:?} {limit:?} {members}");
    }
    let sent =
        send(Endpoint::Completions, &Quirks::default(), Some(9), "{\"model\":\"up\",\"prompt\":\"x\"}");
    assert_eq!(sent.body, "{\"model\":\"up\",\"prompt\":\"x\",\"max_tokens\":9}");
    let sent = send(Endpoint::Embeddings, &Quirks::default(), Some(9), "{\"model\":\"up\",\"input\":\"x\"}");
    assert_eq!(sent.body, "{\"model\":\"up\",\"input\":\"x\"}");
}

#[test]
fn base64_embeddings_are_asked_for_as_floats_where_nothing_else_is_known() {
    let quirks = Quirks { float_embeddings_only: true, ..Quirks::default() };
    let body = "{\"model\":\"up\",\"input\":\"x\",\"encoding_format\":\"base64\"}";
    let sent = send(Endpoint::Embeddings, &quirks, None, body);
    assert_eq!(sent.body, body.replace("base64", "float"));
    assert!(sent.embeddings_to_base64);
    let sent = send(Endpoint::Embeddings, &Quirks::default(), None, body);
    assert_eq!(sent.body, body, "everybody else is asked as the client asked");
    assert!(sent.embeddings_to_base64, "and may answer with floats all the same");
    let floats = body.replace("base64", "float");
    assert!(!send(Endpoint::Embeddings, &Quirks::default(), None, &floats).embeddings_to_base64);
}

#[test]
fn embeddings_go_up_without_a_word_of_streams() {
    let body =
        "{\"model\":\"up\",\"stream\":true,\"input\":\"x\",\"stream_options\":{\"include_usage\":true}}";
    for refuses_stream_options in [false, true] {
        let quirks = Quirks { refuses_stream_options, ..Quirks::default() };
        let sent = send(Endpoint::Embeddings, &quirks, None, body);
        assert_eq!(sent.body, "{\"model\":\"up\",\"input\":\"x\"}");
        assert!(!sent.usage_injected);
    }
}

fn event(name: &str, data: &str) -> EventFacts {
    let event = Event { name: name.into(), data: data.into() };
    OpenAi.read_event(Endpoint::ChatCompletions, &Quirks::default(), &mut StreamProgress::default(), &event)
}

fn chunk(data: &str) -> EventFacts {
    event("message", data)
}

#[test]
fn lifecycle_events_are_not_meaningful() {
    for data in [
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[]},"finish_reason":""}]}"#,
        r#"{"choices":[],"prompt_filter_results":[{}]}"#,
        r#"{"choices":null}"#,
        r#"{"id":"x"}"#,
        "{}",
    ] {
        let facts = chunk(data);
        assert!(
            !facts.meaningful && !facts.usage_only && !facts.unreadable && facts.error.is_none(),
            "{data}"
        );
    }
    assert!(chunk("[DONE]").done && chunk("[DONE] ").done);
}

#[test]
fn whatever_an_answer_is_made_of_is_meaningful_and_measured() {
    for (choice, bytes) in [
        (r#""delta":{"content":"h\u00e9"}"#, 3),
        (r#""delta":{"reasoning":"ab","reasoning_content":"ab"}"#, 2),
        (r#""delta":{"refusal":"no"}"#, 2),
        (r#""delta":{"tool_calls":[{"index":null,"id":"x","function":{"name":"f","arguments":"{}"}}]}"#, 3),
        (r#""delta":{"tool_calls":[{"index":0,"function":{"name":null,"arguments":""}}]}"#, 0),
        (r#""delta":{"function_call":{"name":"f","arguments":""}}"#, 1),
        (r#""delta":{"audio":{"id":"a","data":"AAAA","transcript":"hi"}}"#, 2),
        (r#""delta":{"audio":{"data":"AAAA"}}"#, 0),
        (r#""delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"abc"}]}]}"#, 3),
        (r#""delta":{},"finish_reason":"stop""#, 0),
        (r#""delta":null,"text":"abc""#, 3),
        (r#""message":{"content":"abc"}"#, 3),
        (r#""delta":{"content":"a"},"message":{"content":"whole so far"}"#, 1),
    ] {
        let facts = chunk(&format!("{{\"choices\":[{{\"index\":0,{choice}}}]}}"));
        assert!(facts.meaningful, "{choice}");
        assert_eq!(facts.text_bytes, bytes, "{choice}");
    }
}

#[test]
fn a_usage_only_event_has_nothing_else() {
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2}"#;
    assert!(chunk(&format!("{{\"choices\":[],{usage}}}")).usage_only);
    assert!(chunk(&format!("{{\"choices\":null,{usage},\"service_tier\":\"default\"}}")).usage_only);
    for other in [
        format!("{{{usage}}}"),
        format!("{{\"choices\":[{{\"delta\":{{}}}}],{usage}}}"),
        format!("{{\"choices\":[],{usage},\"prompt_filter_results\":[{{}}]}}"),
        format!("{{\"choices\":[],{usage},\"error\":{{\"message\":\"x\"}}}}"),
    ] {
        assert!(!chunk(&other).usage_only, "{other}");
        assert_eq!(chunk(&other).figures.map(|figures| figures.prompt), Some(Figure::Count(3)));
    }
    let groq = chunk("{\"choices\":[],\"x_groq\":{\"id\":\"r\",\"usage\":{\"prompt_tokens\":7}}}");
    assert_eq!(groq.figures.map(|figures| figures.prompt), Some(Figure::Count(7)));
}

#[test]
fn errors_inside_a_stream_are_seen_in_every_shape() {
    for (name, data, message, status) in [
        ("message", r#"{"error":{"message":"m","code":null}}"#, "m", None),
        ("message", r#"{"error":"m","choices":[]}"#, "m", None),
        ("error", r#"{"error":{"message":"m","status_code":400}}"#, "m", Some(400)),
        ("error", r#"{"message":"m"}"#, "m", None),
        ("message", r#"{"error":{"message":"m"},"status_code":429}"#, "m", Some(429)),
        (
            "message",
            r#"{"error":{"message":"m","code":502},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#,
            "m",
            Some(502),
        ),
        ("message", r#"{"choices":[],"x_groq":{"error":"m"}}"#, "m", None),
    ] {
        let error = event(name, data).error.expect(data);
        assert_eq!((error.message.as_str(), error.status), (message, status), "{data}");
    }
    for fine in [r#"{"error":null}"#, r#"{"error":false}"#, r#"{"error":""}"#, r#"{"x_groq":{"error":null}}"#]
    {
        assert!(chunk(fine).error.is_none(), "{fine}");
    }
    assert!(event("error", "Overloaded").error.is_some());
}

#[test]
fn what_cannot_be_read_passes() {
    for data in ["", "{", "3", "[]", "not json", "{\"choices\":{}}", "{\"choices\":[3]}"] {
        let facts = chunk(data);
        assert!(facts.unreadable && !facts.meaningful && facts.error.is_none(), "{data}");
    }
    let usage = chunk("{\"choices\":[3],\"usage\":{\"prompt_tokens\":1}}");
    assert!(usage.figures.is_some(), "usage is read although a choice is not");
}

#[test]
fn model_and_tier_are_named_once() {
    let mut progress = StreamProgress::default();
    let event = Event { name: "message".into(), data: r#"{"model":"m","service_tier":"flex"}"#.into() };
    let mut read = || OpenAi.read_event(Endpoint::ChatCompletions, &Quirks::default(), &mut progress, &event);
    let (first, second) = (read(), read());
    assert_eq!((first.model.as_deref(), first.service_tier.as_deref()), (Some("m"), Some("flex")));
    assert_eq!((second.model, second.service_tier), (None, None));
}

fn answer(endpoint: Endpoint, body: &str) -> Option<AnswerFacts> {
    OpenAi.read_answer(endpoint, &Quirks::default(), body.as_bytes()).ok()
}

#[test]
fn answers_are_read_and_errors_in_them_are_errors() {
    let body = "\n\n  {\"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"abc\",\"reasoning\":\"de\"}}],\
                \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2},\"service_tier\":\"default\"}";
    let facts = answer(Endpoint::ChatCompletions, body).expect("readable");
    assert_eq!(
        (facts.text_bytes, facts.figures.completion, facts.model.as_deref()),
        (0, Figure::Count(2), Some("m"))
    );
    for unsaid in ["\"completion_tokens\":-2", "\"x\":2"] {
        let body = body.replace("\"completion_tokens\":2", unsaid);
        let facts = answer(Endpoint::ChatCompletions, &body).expect("readable");
        assert_eq!(facts.text_bytes, 5, "the text is counted when the output is not said: {unsaid}");
    }
    let embedding = "{\"data\":[{\"embedding\":[0.5]}],\"usage\":{\"total_tokens\":7}}";
    assert_eq!(answer(Endpoint::Embeddings, embedding).expect("readable").figures.prompt, Figure::Count(7));
    for error in ["{\"error\":{\"message\":\"m\",\"code\":429}}", "{\"object\":\"error\",\"message\":\"m\"}"]
    {
        let facts = answer(Endpoint::ChatCompletions, error).expect("readable");
        assert_eq!(facts.error.expect("an error").message, "m");
    }
    for unreadable in
        ["", "<html>", "[]", "3", "{}", "{\"choices\":null}", "{\"choices\":[]", "{\"choices\":[]} x"]
    {
        assert_eq!(answer(Endpoint::ChatCompletions, unreadable), None, "{unreadable}");
    }
}
