use serde_json::{Value, json};

use super::{
    Anthropic, Decoder,
    testing::{answer, event, told},
};
use crate::{
    catalogue::{DialectKind, Quirks, ThinkingStyle, capabilities},
    dialects::{
        AnswerFacts, Asked, Call, ClientHeaders, Decoder as _, Dialect, DialectError, EventFacts,
        StreamProgress, UpstreamRequest,
    },
    domain::ModelName,
    wire::{Endpoint, Envelope, Event, RequestView},
};

#[test]
fn errors_in_place_of_answers_and_events_are_seen() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "r"});
    let whole =
        Decoder::default().whole(error.to_string().as_bytes()).expect("an error").error.expect("an error");
    let read = Anthropic.read_answer(Endpoint::Messages, &Quirks::default(), error.to_string().as_bytes());
    let passed = read.expect("an error").error.expect("an error");
    let event = event(&error);
    let told = Decoder::default().event(&event).error.expect("an error");
    let facts =
        Anthropic.read_event(Endpoint::Messages, &Quirks::default(), &mut StreamProgress::default(), &event);
    for error in [whole, passed, told, facts.error.expect("an error")] {
        assert_eq!(
            (error.status, error.kind.as_deref(), error.message.as_str()),
            (Some(529), Some("overloaded_error"), "Overloaded")
        );
    }
    let unnamed = Event { name: "error".into(), data: "gone".into() };
    let told = Decoder::default().event(&unnamed);
    assert!(told.unreadable && told.error.is_some());
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    for body in
        ["", "[]", "null", "{}", "{\"content\":null}", "{\"content\":[3]}", "{\"content\":{}}", "<html>"]
    {
        assert!(Decoder::default().whole(body.as_bytes()).is_err(), "{body}");
        assert!(
            Anthropic.read_answer(Endpoint::Messages, &Quirks::default(), body.as_bytes()).is_err(),
            "{body}"
        );
    }
    assert!(Decoder::default().whole(&[0xff]).is_err());
    let count =
        |body: &str| Anthropic.read_answer(Endpoint::CountTokens, &Quirks::default(), body.as_bytes());
    assert_eq!(count("{\"input_tokens\":641}"), Ok(AnswerFacts::default()));
    assert!(count("{}").is_err() && count("{\"input_tokens\":\"x\"}").is_err());
}

/// What a provider is sent of a client's own request.
fn pass(
    endpoint: Endpoint,
    body: &str,
    headers: ClientHeaders,
    limit: Option<u64>,
) -> Result<UpstreamRequest, DialectError> {
    let envelope = Envelope::parse(bytes::Bytes::copy_from_slice(body.as_bytes()), 64).expect("an envelope");
    let view = RequestView { model: Some("claude-opus-5".into()), ..RequestView::default() };
    let asked = Asked::new(endpoint, envelope, view, headers);
    let model = ModelName::parse("claude-opus-5").expect("a name");
    Anthropic.request(&Call {
        asked: &asked,
        quirks: &Quirks::default(),
        capabilities: capabilities(DialectKind::Anthropic, model.as_str()),
        model: &model,
        output_limit: limit,
        model_limit: Some(9),
        ask_usage: true,
        request_id: "req_1",
        created: 0,
    })
}

#[test]
fn a_client_of_the_same_words_is_passed_on_as_he_came() {
    let body = "{ \"model\": \"claude-opus-5\",\n \"temperature\":0.10, \"max_tokens\":5,\"new\":[1.0] }";
    let none = ClientHeaders::default;
    let request = pass(Endpoint::Messages, body, none(), None).expect("it passes");
    assert_eq!((request.body.as_ref(), &*request.path), (body.as_bytes(), "/messages"));
    assert!(request.translation.is_none() && request.dropped.is_empty() && request.output_limit.is_none());
    assert_eq!(request.headers, [("anthropic-version", "2023-06-01".to_owned())]);

    let headers =
        ClientHeaders { anthropic_version: Some("2026-10-21".into()), anthropic_beta: Some("a,b".into()) };
    let body = "{\"model\":\"mine\",\"models\":[\"other\"],\"max_tokens\":50,\"messages\":[]}";
    let request = pass(Endpoint::Messages, body, headers, Some(20)).expect("it passes");
    assert_eq!(
        request.headers,
        [("anthropic-version", "2026-10-21".to_owned()), ("anthropic-beta", "a,b".to_owned())]
    );
    // The view, not the body, says which model was asked for.
    assert_eq!(request.body.as_ref(), br#"{"model":"mine","max_tokens":20,"messages":[]}"#);

    let request = pass(Endpoint::CountTokens, "{\"model\":\"m\",\"messages\":[]}", none(), Some(20))
        .expect("it passes");
    assert_eq!(request.path, "/messages/count_tokens");
    assert!(!String::from_utf8_lossy(&request.body).contains("max_tokens"));
    for endpoint in [Endpoint::Completions, Endpoint::Embeddings] {
        let error = pass(endpoint, "{\"model\":\"m\"}", none(), None).expect_err("there is none");
        assert_eq!(error, DialectError::UnsupportedEndpoint { path: endpoint.path() });
    }
}

fn facts(told: &[Value]) -> (Vec<EventFacts>, StreamProgress) {
    let mut progress = StreamProgress::default();
    let read =
        |data| Anthropic.read_event(Endpoint::Messages, &Quirks::default(), &mut progress, &event(data));
    let facts = told.iter().map(read).collect();
    (facts, progress)
}

#[test]
fn a_stream_that_passes_is_followed() {
    let told = told();
    let (facts, progress) = facts(&told);
    assert!(
        progress.finished()
            && facts
                .iter()
                .all(|facts| !facts.unreadable && facts.error.is_none() && facts.service_tier.is_none())
    );
    assert_eq!(
        facts.iter().filter_map(|facts| facts.model.as_deref()).collect::<Vec<_>>(),
        ["claude-opus-5"]
    );
    assert_eq!(facts.iter().position(|facts| facts.done), Some(told.len() - 1));
    let of = |kind: &str| told.iter().position(|data| data["type"] == kind).expect("such an event");
    let quiet = ["message_start", "ping", "content_block_stop", "message_stop"];
    assert!(quiet.iter().all(|kind| !facts[of(kind)].meaningful && facts[of(kind)].text_bytes == 0));
    // The first delta is the first that says anything: its block began empty.
    assert_eq!(facts.iter().position(|facts| facts.meaningful), Some(of("content_block_delta")));
    let last = facts.iter().rev().find_map(|facts| facts.figures).expect("figures");
    assert_eq!(
        (last.prompt.count(), last.completion.count(), last.reasoning.count()),
        (Some(5_012), Some(80), Some(50))
    );
    let whole =
        Anthropic.read_answer(Endpoint::Messages, &Quirks::default(), answer().to_string().as_bytes());
    let whole = whole.expect("an answer");
    // The `x` of a delta not heard of yet comes on top.
    assert_eq!(facts.iter().map(|facts| facts.text_bytes).sum::<u64>(), whole.text_bytes + 1);
    assert_eq!(
        (whole.figures, whole.model.as_deref(), whole.service_tier),
        (last, Some("claude-opus-5"), None)
    );
}

#[test]
fn a_stream_is_finished_once_it_is_known_why_it_ended() {
    let told = told();
    let cut = told.iter().position(|data| data["delta"]["stop_reason"] == "tool_use").expect("a reason");
    assert!(!facts(&told[..cut]).1.finished());
    assert!(facts(&told[..=cut]).1.finished());
    let (found, progress) = facts(&[json!({"type": "message_delta"}), json!({"type": "message_stop"})]);
    assert!(
        found[1].done && !found[0].unreadable && !progress.finished(),
        "an end without a message is no answer"
    );
    let odd = [
        json!({"type": "message_start"}),
        json!({"type": "content_block_delta", "delta": 3}),
        json!({"type": "message_delta", "delta": []}),
    ];
    assert!(facts(&odd).0.iter().all(|facts| facts.unreadable));
    assert!(facts(&[json!([])]).0[0].unreadable);
}

#[test]
fn errors_say_what_to_do_about_them() {
    let read = |status: u16, kind: &str, message: &str, code: Option<&str>| {
        let details = code.map(|code| json!({"error_code": code}));
        let body = json!({"type": "error", "error": {"type": kind, "message": message, "details": details}});
        Anthropic.read_error(status, body.to_string().as_bytes())
    };
    let low = "Your credit balance is too low to access the Anthropic API.";
    let limit = "You have reached your specified API usage limits. You will regain access on 2026-12-01.";
    for (error, wanted) in [
        (read(529, "overloaded_error", "Overloaded", None), (false, false)),
        (read(429, "rate_limit_error", "x", Some("ramp_limit_exceeded")), (false, false)),
        (read(429, "rate_limit_error", "x", Some("enforced_spend_limit_reached")), (true, false)),
        (read(429, "rate_limit_error", "x", Some("contract_spend_limit_reached")), (true, false)),
        (read(402, "billing_error", "x", Some("linked_organization_spend_limit_reached")), (true, false)),
        (read(400, "invalid_request_error", low, None), (true, false)),
        (read(400, "invalid_request_error", limit, None), (true, false)),
        (
            read(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", None),
            (false, true),
        ),
        (
            read(
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 1 + 2 > 2",
                None,
            ),
            (false, true),
        ),
        (read(413, "request_too_large", "Request exceeds the maximum size", None), (false, false)),
        (read(401, "authentication_error", "invalid x-api-key", None), (false, false)),
    ] {
        assert_eq!((error.billing, error.context_length), wanted, "{error:?}");
    }
    let error = read(429, "rate_limit_error", "x", Some("ramp_limit_exceeded"));
    assert_eq!(
        (error.kind.as_deref(), error.code.as_deref()),
        (Some("rate_limit_error"), Some("ramp_limit_exceeded"))
    );
    let edge = Anthropic.read_error(413, b"<html>too large</html>");
    assert_eq!((edge.kind.as_deref(), edge.status), (Some("request_too_large"), Some(413)));
}

#[test]
fn families_differ_as_the_file_says() {
    type Can = (ThinkingStyle, bool, bool, bool, bool, bool);
    let can = |name: &str| -> Can {
        let found = capabilities(DialectKind::Anthropic, name);
        assert!(!found.audio, "{name}");
        (
            found.thinking,
            found.sampling,
            found.prefill,
            found.system_turns,
            found.forced_tools,
            found.json_schema,
        )
    };
    use ThinkingStyle::{Adaptive, Always, Budget, None};
    for (names, wanted) in [
        (
            &["claude-3-haiku-20240307", "claude-3-5-sonnet-20241022", "claude-2.1"][..],
            (None, true, true, false, true, false),
        ),
        (
            &["claude-3-7-sonnet-20250219", "claude-sonnet-4-20250514", "claude-opus-4-0"],
            (Budget, true, true, false, true, false),
        ),
        (
            &["claude-haiku-4-5", "claude-sonnet-4-5-20250929", "claude-opus-4-5", "claude-opus-4-1"],
            (Budget, true, true, false, true, true),
        ),
        (&["claude-opus-4-6", "anthropic/claude-sonnet-4.6"], (Adaptive, true, false, false, true, true)),
        (&["claude-opus-4-7-20260416"], (Adaptive, false, false, false, true, true)),
        (
            &["claude-opus-4-8", "claude-sonnet-5", "claude-opus-5", "claude-haiku-5-5"],
            (Adaptive, false, false, true, true, true),
        ),
        (&["claude-fable-5", "claude-mythos-5"], (Always, false, false, true, true, true)),
        (&["claude-mythos-preview"], (Always, false, false, false, true, true)),
        (
            &["claude-sonnet-5-5", "claude-opus-5-5", "claude-fable-5-1", "claude-mythos-5-1"],
            (Always, false, false, true, false, true),
        ),
        (&["claude-opus-9"], (Adaptive, false, false, false, true, true)),
        (&["someone-elses-model"], (Budget, true, true, false, true, false)),
    ] {
        for name in names {
            assert_eq!(can(name), wanted, "{name}");
        }
    }
    let efforts = |name: &str| capabilities(DialectKind::Anthropic, name).efforts.join(" ");
    assert_eq!(efforts("claude-opus-4-6"), "low medium high max");
    assert_eq!(efforts("claude-opus-4-7"), "low medium high xhigh max");
}
