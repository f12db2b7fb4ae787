//! Requests a minute, tokens a minute, requests at the same time; for a key and for its tenant.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Gate, Gateway, Setup, Upstream, VirtualKey, chat_ok, usage};

async fn limited(upstream: &Upstream, limits: serde_json::Value) -> (Gateway, VirtualKey) {
    let gateway = Setup::new().await.allow(upstream).start().await;
    gateway.provider_key("openai", upstream).await;
    let key = gateway.virtual_key(limits).await;
    (gateway, key)
}

#[tokio::test]
async fn a_burst_of_requests_passes_and_one_more_does_not() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = limited(&upstream, json!({ "rate_limit_rpm": 5 })).await;
    for _ in 0..5 {
        gateway.chat(&key, json!({})).await.expect(200);
    }
    let reply = gateway.chat(&key, json!({})).await.refused(429, "rate_limit_exceeded");
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
    let retry: u64 = reply.header("retry-after").expect("a header").parse().expect("seconds");
    assert!((1..=12).contains(&retry), "one in twelve seconds: {retry}");
    assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("0"));
    assert!(reply.header("x-ratelimit-reset-requests").is_some_and(|reset| reset.ends_with('s')));
    assert_eq!(upstream.count(), 5);
    // It is decided before the body is read, and no other key suffers.
    gateway.post("/v1/chat/completions", &key, "not json").await.refused(429, "rate_limit_exceeded");
    let other = gateway.virtual_key(json!({})).await;
    gateway.chat(&other, json!({})).await.expect(200);
    // Reading one's own standing is no inference.
    gateway.read("/v1/key", &key).await.expect(200);
    assert_eq!(gateway.usage_of(6).await.len(), 6, "refusals leave no row");
}

#[tokio::test]
async fn tokens_are_debited_by_what_is_held_and_corrected_by_what_was_used() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, key) = limited(&upstream, json!({ "rate_limit_tpm": 1_000 })).await;
    // Each holds far more than the limit, and uses little of it.
    for _ in 0..5 {
        gateway.chat(&key, json!({ "max_tokens": 50_000 })).await.expect(200);
    }
    upstream.answer(chat_ok("hi", &usage(5_000, 5)));
    gateway.chat(&key, json!({})).await.expect(200);
    let reply = gateway.chat(&key, json!({})).await.refused(429, "rate_limit_exceeded");
    assert_eq!(reply.header("x-ratelimit-limit-tokens"), Some("1000"));
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), Some("0"), "never below nothing");
    let retry: u64 = reply.header("retry-after").expect("a header").parse().expect("seconds");
    assert!((200..=300).contains(&retry), "some 4 000 too many at 1 000 a minute: {retry}");
    assert_eq!(upstream.count(), 6);
}

#[tokio::test]
async fn what_is_under_way_holds_its_tokens() {
    let gate = Gate::new();
    let upstream = Upstream::always(Answer::default().wait(&gate).close()).await;
    let (gateway, key) = limited(&upstream, json!({ "rate_limit_tpm": 1_000 })).await;
    let (reply, ()) = tokio::join!(gateway.chat(&key, json!({ "max_tokens": 5_000 })), async {
        gate.reached(1).await;
        gateway.chat(&key, json!({ "max_tokens": 1 })).await.refused(429, "rate_limit_exceeded");
        gate.open();
    });
    reply.refused(502, "upstream_error");
    upstream.answer(chat_ok("hi", &usage(1, 1)));
    gateway.chat(&key, json!({ "max_tokens": 1 })).await.expect(200);
}

#[tokio::test]
async fn so_many_at_the_same_time_and_no_more() {
    let gate = Gate::new();
    let upstream = Upstream::always(Answer::default().wait(&gate).close()).await;
    let (gateway, key) = limited(&upstream, json!({ "max_parallel": 2 })).await;
    let both = futures_util::future::join(
        gateway.chat(&key, json!({})),
        gateway.chat(&key, json!({ "stream": true })),
    );
    let (_, ()) = tokio::join!(both, async {
        gate.reached(2).await;
        let reply = gateway.chat(&key, json!({})).await.refused(429, "rate_limit_exceeded");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(upstream.count(), 2);
        gate.open();
    });
    upstream.answer(chat_ok("hi", &usage(1, 1)));
    for _ in 0..5 {
        gateway.chat(&key, json!({})).await.expect(200);
    }
}

#[tokio::test]
async fn a_tenants_limits_are_shared_by_its_keys() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let tenant =
        gateway.create("/api/tenants", json!({ "name": "shared", "rate_limit_rpm": 4 })).await["id"].clone();
    gateway.provider_key_with("openai", &upstream, json!({ "tenant_id": tenant })).await;
    let keys = [
        gateway.virtual_key(json!({ "tenant_id": tenant })).await,
        gateway.virtual_key(json!({ "tenant_id": tenant, "rate_limit_rpm": 100 })).await,
    ];
    for key in [&keys[0], &keys[1], &keys[0], &keys[1]] {
        gateway.chat(key, json!({})).await.expect(200);
    }
    for key in &keys {
        let reply = gateway.chat(key, json!({})).await.refused(429, "rate_limit_exceeded");
        assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("4"));
        assert!(reply.text().contains(tenant.as_str().expect("an id")));
    }
}

#[tokio::test]
async fn a_limit_that_is_raised_holds_at_once_and_one_that_is_touched_elsewhere_is_not_refilled() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = limited(&upstream, json!({ "rate_limit_rpm": 1 })).await;
    let path = format!("/api/virtual-keys/{}", key.id);
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.chat(&key, json!({})).await.refused(429, "rate_limit_exceeded");
    gateway.patch(&path, json!({ "name": "renamed" })).await;
    gateway.chat(&key, json!({})).await.refused(429, "rate_limit_exceeded");
    gateway.patch(&path, json!({ "rate_limit_rpm": 3 })).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.patch(&path, json!({ "rate_limit_rpm": null })).await;
    for _ in 0..10 {
        gateway.chat(&key, json!({})).await.expect(200);
    }
}

#[tokio::test]
async fn strangers_use_up_nobodys_limit() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = limited(&upstream, json!({ "rate_limit_rpm": 1 })).await;
    let stranger = VirtualKey { id: String::new(), key: format!("{}x", key.key) };
    for _ in 0..5 {
        gateway.chat(&stranger, json!({})).await.refused(401, "invalid_api_key");
        gateway.send(gateway.request(Method::GET, "/v1/chat/completions", &key)).await.expect(405);
    }
    gateway.chat(&key, json!({})).await.expect(200);
}
