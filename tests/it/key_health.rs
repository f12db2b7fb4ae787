//! What the gateway knows of a key's health: that it was used, and that its provider refused it.

use serde_json::{Value, json};

use crate::support::{Gateway, Setup, Upstream, chat_ok, error, eventually, usage};

async fn key_once(gateway: &Gateway, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || async { Some(gateway.get("/api/keys").await[0].take()).filter(&is) }).await
}

#[tokio::test]
async fn use_and_refusals_of_a_key_are_shown_and_outlive_the_gateway() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).at("2026-11-21T12:00:00Z").start().await;
    gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    let fresh = gateway.get("/api/keys").await[0].clone();
    assert_eq!((&fresh["last_used_at"], &fresh["last_refusal"]), (&Value::Null, &Value::Null));
    gateway.chat(&key, json!({})).await.expect(200);
    let used = key_once(&gateway, "the use of a key", |key| key["last_used_at"].is_string()).await;
    assert_eq!(used["last_used_at"], "2026-11-21T12:00:00.000Z");
    assert_eq!(used["last_refused_at"], Value::Null);

    gateway.turn_clock("2026-11-21T12:00:10Z");
    upstream.answer(error(500, "a failure is no refusal"));
    gateway.chat(&key, json!({})).await.refused(502, "upstream_error");
    upstream.answer(error(401, "no such key"));
    gateway.chat(&key, json!({})).await.refused(502, "provider_key_rejected");
    let refused = key_once(&gateway, "a refusal", |key| key["last_refusal"].is_object()).await;
    assert_eq!(refused["last_refusal"], json!({ "status": 401 }));
    assert_eq!(refused["last_refused_at"], "2026-11-21T12:00:10.000Z");

    // The last of it is written when the gateway goes.
    gateway.turn_clock("2026-11-21T12:00:50Z");
    upstream.answer(chat_ok("hi", &usage(1, 1)));
    gateway.chat(&key, json!({})).await.expect(200);
    let stopped = gateway.stop(std::time::Duration::from_secs(5)).await;
    let gateway = stopped.again.start().await;
    let shown = gateway.get("/api/keys").await[0].clone();
    assert_eq!(shown["last_used_at"], "2026-11-21T12:00:50.000Z");
    assert_eq!(shown["last_refused_at"], "2026-11-21T12:00:10.000Z");
}
