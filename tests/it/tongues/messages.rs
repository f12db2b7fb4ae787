//! Clients of Anthropic's: `/v1/messages` and `/v1/messages/count_tokens`.

use reqwest::Method;
use serde_json::{Value, json};

use super::{data, generated, message, message_stream};
use crate::support::{Answer, Gateway, Reply, Setup, Upstream, VirtualKey, chat_ok, chat_stream, usage};

async fn house(provider: &str, answer: Answer) -> (Upstream, Gateway, VirtualKey) {
    let upstream = Upstream::always(answer).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key(provider, &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    (upstream, gateway, key)
}

fn asked(model: &str, more: Value) -> Value {
    let mut body =
        json!({ "model": model, "max_tokens": 64, "messages": [{ "role": "user", "content": "hello" }] });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

async fn post(gateway: &Gateway, path: &str, key: &VirtualKey, body: &Value) -> Reply {
    gateway.post(path, key, body.to_string()).await
}

#[tokio::test]
async fn to_anthropic_messages_pass_as_they_are() {
    let body = message(
        json!([{ "type": "text", "text": "Hi" }]),
        "end_turn",
        json!({ "input_tokens": 8, "output_tokens": 2 }),
    );
    let raw = format!(" {body}\n");
    let answer = Answer::whole(
        200,
        &[("content-type", "application/json"), ("anthropic-ratelimit-requests-remaining", "49")],
        &raw,
    );
    let (upstream, gateway, key) = house("anthropic", answer).await;
    let text = r#"{ "max_tokens":64,"model" : "claude-haiku-4-5","messages":[{"role":"user","content":"hi"}],"later_member":1.0 }"#;
    let request = gateway
        .request(Method::POST, "/v1/messages?beta=true", &key)
        .header("content-type", "application/json")
        .header("anthropic-version", "2026-10-21")
        .header("anthropic-beta", "one-2026")
        .body(text);
    let reply = gateway.send(request).await.expect(200);
    assert_eq!(reply.text(), raw);
    assert_eq!(reply.header("anthropic-ratelimit-requests-remaining"), Some("49"));
    assert!(reply.header("request-id").is_some_and(|id| id.starts_with("req_")));
    let seen = upstream.last();
    assert_eq!((seen.path.as_str(), seen.text()), ("/v1/messages", text));
    assert_eq!(seen.header("anthropic-version"), Some("2026-10-21"));
    assert_eq!(seen.header("anthropic-beta"), Some("one-2026"));
    let row = gateway.only_usage().await;
    assert_eq!(
        (&row["input_tokens"], &row["output_tokens"], &row["usage_source"]),
        (&json!(8), &json!(2), &json!("provider"))
    );

    let stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\": \"ping\"}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}     }\n\n\
        event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    upstream.answer(Answer::stream().send_all(stream.as_bytes().chunks(7)).end());
    let reply = post(&gateway, "/v1/messages", &key, &asked("claude-haiku-4-5", json!({ "stream": true })))
        .await
        .expect(200);
    assert_eq!(reply.text(), stream);
    assert!(gateway.usage_of(2).await.iter().any(|row| row["output_tokens"] == 5 && row["outcome"] == "ok"));
}

#[tokio::test]
async fn other_providers_answer_in_anthropics_words() {
    for (provider, model, whole) in [
        ("openai", "openai/gpt-4o-mini", chat_ok("Hi", &usage(11, 3))),
        (
            "gemini",
            "gemini/gemini-2.5-flash",
            Answer::json(200, &generated(json!([{ "text": "Hi" }]), json!("STOP"), (11, 3, 0))),
        ),
    ] {
        let (upstream, gateway, key) = house(provider, whole).await;
        let body = asked(model, json!({ "system": "Be kind.", "stop_sequences": ["END"] }));
        let said = post(&gateway, "/v1/messages", &key, &body).await.expect(200).json();
        assert_eq!((&said["type"], &said["role"]), (&json!("message"), &json!("assistant")), "{provider}");
        assert_eq!(said["content"][0]["text"], "Hi", "{provider}: {said}");
        assert_eq!(said["stop_reason"], "end_turn", "{provider}");
        assert_eq!(
            (&said["usage"]["input_tokens"], &said["usage"]["output_tokens"]),
            (&json!(11), &json!(3))
        );
        assert!(upstream.last().text().contains("Be kind."));
        gateway.only_usage().await;
    }
}

#[tokio::test]
async fn a_stream_of_another_provider_is_anthropics_event_by_event() {
    let (_upstream, gateway, key) = house("openai", chat_stream(&["a", "b"], Some(&usage(11, 3)))).await;
    let reply = post(&gateway, "/v1/messages", &key, &asked("openai/gpt-4o-mini", json!({ "stream": true })))
        .await
        .expect(200);
    let text = reply.text();
    let kinds: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ],
        "{text}"
    );
    let events = data(text);
    assert_eq!(events[5]["usage"]["input_tokens"], 11);
    assert_eq!(events[5]["delta"]["stop_reason"], "end_turn");
}

#[tokio::test]
async fn errors_below_messages_have_anthropics_shape() {
    let (upstream, gateway, key) = house("anthropic", Answer::default()).await;
    let stranger = VirtualKey { id: String::new(), key: "ks_wrong".into() };
    let capped = gateway.virtual_key(json!({ "spend_cap_micro_usd": 0 })).await;
    upstream.answer(Answer::json(
        400,
        &json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "bad" } }),
    ));
    let fine = asked("claude-haiku-4-5", json!({}));
    for (key, body, status, kind) in [
        (&stranger, fine.clone(), 401, "authentication_error"),
        (&capped, fine.clone(), 402, "billing_error"),
        (&key, asked("nobody/knows", json!({})), 404, "not_found_error"),
        (&key, fine.clone(), 400, "invalid_request_error"),
        (&key, json!({ "model": "claude-haiku-4-5", "messages": [] }), 400, "invalid_request_error"),
    ] {
        let reply = post(&gateway, "/v1/messages", key, &body).await.expect(status);
        let said = reply.json();
        assert_eq!((&said["type"], &said["error"]["type"]), (&json!("error"), &json!(kind)), "{said}");
        assert!(said["error"]["message"].is_string() && said["request_id"].is_string(), "{said}");
    }
}

#[tokio::test]
async fn tokens_are_counted_for_nothing_where_the_provider_can_and_estimated_where_not() {
    let (upstream, gateway, key) =
        house("anthropic", Answer::json(200, &json!({ "input_tokens": 42 }))).await;
    let capped = gateway.virtual_key(json!({ "spend_cap_micro_usd": 1 })).await;
    let body = json!({ "model": "claude-haiku-4-5", "messages": [{ "role": "user", "content": "hello" }] });
    let reply = post(&gateway, "/v1/messages/count_tokens", &capped, &body).await.expect(200);
    assert_eq!(reply.json(), json!({ "input_tokens": 42 }));
    assert_eq!(upstream.last().path, "/v1/messages/count_tokens");
    let row = gateway.only_usage().await;
    assert_eq!(
        (&row["cost_micro_usd"], &row["input_tokens"], &row["usage_source"]),
        (&json!(0), &json!(0), &json!("none"))
    );

    let other = Upstream::always(Answer::default()).await;
    let second = Setup::new().await.allow(&other).start().await;
    second.provider_key("openai", &other).await;
    let own = second.virtual_key(json!({})).await;
    let body =
        json!({ "model": "openai/gpt-4o-mini", "messages": [{ "role": "user", "content": "12345678" }] });
    let reply = post(&second, "/v1/messages/count_tokens", &own, &body).await.expect(200);
    assert_eq!(reply.header("x-keystile-estimated"), Some("true"));
    assert!(reply.json()["input_tokens"].as_u64().is_some_and(|tokens| tokens >= 2), "{}", reply.text());
    assert_eq!(other.count(), 0);
    assert!(key.key.starts_with("ks_"));
}

#[tokio::test]
async fn a_stream_cut_by_the_gateway_ends_with_anthropics_error_event() {
    let half = message_stream(&["x"], (1, 1));
    let (upstream, gateway, key) = house("anthropic", half).await;
    let start = json!({ "type": "message_start", "message": { "id": "m", "usage": { "input_tokens": 3, "output_tokens": 1 } } });
    let text = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "half" } });
    upstream.answer(Answer::stream().send(super::named(&start)).send(super::named(&text)).close());
    let reply = post(&gateway, "/v1/messages", &key, &asked("claude-haiku-4-5", json!({ "stream": true })))
        .await
        .expect(200);
    let last = reply.text().trim_end().rsplit("\n\n").next().expect("an event").to_owned();
    assert!(last.starts_with("event: error\ndata: {\"type\":\"error\""), "{last}");
}
