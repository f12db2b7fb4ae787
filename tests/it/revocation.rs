//! A change is in force on the next request of this instance, and within a second when it was made elsewhere.

use std::time::Duration;

use keystile::{
    app::{Foundation, MasterKeys},
    control::Notify,
    domain::Actor,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Gate, Gateway, Setup, Upstream, VirtualKey, chat_events, chat_ok, done, eventually, usage,
};

async fn house() -> (Upstream, Gateway, VirtualKey) {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).at("2026-11-21T12:00:00Z").start().await;
    gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    gateway.chat(&key, json!({})).await.expect(200);
    (upstream, gateway, key)
}

fn path(key: &VirtualKey) -> String {
    format!("/api/virtual-keys/{}", key.id)
}

/// AT-014
#[tokio::test]
async fn a_revoked_key_is_refused_at_once_also_in_a_storm() {
    let (_upstream, gateway, key) = house().await;
    let storm = futures_util::future::join_all((0..100).map(|_| gateway.chat(&key, json!({}))));
    let revoke_path = format!("{}/revoke", path(&key));
    let revoke = gateway.admin(Method::POST, &revoke_path, None);
    let (_, revoked) = tokio::join!(storm, revoke);
    assert_eq!(revoked.expect(200).json()["state"], "revoked");
    let after = futures_util::future::join_all((0..100).map(|_| gateway.chat(&key, json!({})))).await;
    for reply in after {
        reply.refused(401, "invalid_api_key");
    }
    gateway.read("/v1/key", &key).await.refused(401, "invalid_api_key");
    gateway.read("/v1/models", &key).await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn a_deleted_key_is_refused_and_hidden_and_its_usage_stays() {
    let (_upstream, gateway, key) = house().await;
    gateway.admin(Method::DELETE, &path(&key), None).await.expect(204);
    gateway.chat(&key, json!({})).await.refused(401, "invalid_api_key");
    gateway.admin(Method::GET, &path(&key), None).await.expect(404);
    let listed = gateway.get("/api/virtual-keys").await;
    assert!(!listed.to_string().contains(&key.id));
    assert_eq!(gateway.only_usage().await["virtual_key_id"], key.id.as_str());
}

#[tokio::test]
async fn a_change_made_here_makes_a_key_load_once_and_not_again_when_its_row_is_found() {
    let (_upstream, gateway, key) = house().await;
    let reads = || gateway.app.house.store.statements().reads;
    let read_by_a_chat = async || {
        let before = reads();
        gateway.chat(&key, json!({})).await.expect(200);
        reads() - before
    };
    gateway.changes_followed().await;
    gateway.patch(&path(&key), json!({ "tags": { "a": "b" } })).await;
    assert!(read_by_a_chat().await >= 2, "the key is loaded");
    gateway.changes_followed().await;
    assert!(read_by_a_chat().await <= 1, "at most the follower's own question");
}

#[tokio::test]
async fn what_is_patched_holds_on_the_next_request() {
    let (_upstream, gateway, key) = house().await;
    let patch = |body: Value| {
        let (gateway, path) = (&gateway, path(&key));
        async move { gateway.patch(&path, body).await }
    };
    patch(json!({ "models_allowed": ["openai/gpt-4o"] })).await;
    gateway.chat(&key, json!({})).await.refused(403, "model_not_allowed");
    patch(json!({ "models_allowed": null })).await;
    gateway.chat(&key, json!({})).await.expect(200);
    patch(json!({ "spend_cap_micro_usd": 0 })).await;
    gateway.chat(&key, json!({})).await.refused(402, "spend_cap_reached");
    patch(json!({ "spend_cap_micro_usd": null })).await;
    patch(json!({ "rate_limit_rpm": 1 })).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.chat(&key, json!({})).await.refused(429, "rate_limit_exceeded");
    patch(json!({ "rate_limit_rpm": null, "tags": { "a": "b" } })).await;
    gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(gateway.usage().await.pop().expect("a row")["tags"], json!({ "a": "b" }));
    patch(json!({ "expires_in_days": 1 })).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.turn_clock("2026-11-22T12:00:00Z");
    gateway.chat(&key, json!({})).await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn a_rotated_key_has_a_new_secret_and_the_old_budget() {
    let (_upstream, gateway, key) = house().await;
    gateway.patch(&path(&key), json!({ "spend_cap_micro_usd": 1_000_000 })).await;
    let rotate = |body: Value| {
        let (gateway, path) = (&gateway, format!("{}/rotate", path(&key)));
        let id = key.id.clone();
        async move {
            let made = gateway.admin(Method::POST, &path, Some(&body)).await.expect(200).json();
            assert_eq!(made["id"], id.as_str(), "the same key");
            VirtualKey { id, key: made["key"].as_str().expect("a key").to_owned() }
        }
    };
    let spent = gateway.read("/v1/key", &key).await.json()["spent_micro_usd"].clone();
    let second = rotate(json!({})).await;
    gateway.chat(&key, json!({})).await.refused(401, "invalid_api_key");
    let view = gateway.read("/v1/key", &second).await.expect(200).json();
    assert_eq!((&view["id"], &view["spent_micro_usd"]), (&json!(key.id), &spent));

    let third = rotate(json!({ "grace_seconds": 60 })).await;
    for live in [&second, &third] {
        gateway.chat(live, json!({})).await.expect(200);
    }
    gateway.turn_clock("2026-11-21T12:00:59.999Z");
    gateway.chat(&second, json!({})).await.expect(200);
    gateway.turn_clock("2026-11-21T12:01:00Z");
    gateway.chat(&second, json!({})).await.refused(401, "invalid_api_key");
    gateway.chat(&third, json!({})).await.expect(200);
    gateway.admin(Method::POST, &format!("{}/revoke", path(&key)), None).await.expect(200);
    gateway.chat(&third, json!({})).await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn a_change_of_a_provider_key_holds_on_the_next_request() {
    let (upstream, gateway, key) = house().await;
    let id = gateway.get("/api/keys").await[0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/keys/{id}");
    gateway.patch(&path, json!({ "api_key": "sk-the-new-one" })).await;
    gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer sk-the-new-one"));
    gateway.patch(&path, json!({ "is_active": false })).await;
    gateway.chat(&key, json!({})).await.refused(404, "model_not_found");
    gateway.patch(&path, json!({ "is_active": true, "models": ["gpt-4o"] })).await;
    gateway.chat(&key, json!({})).await.refused(404, "model_not_found");
    gateway.patch(&path, json!({ "models": null })).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.admin(Method::DELETE, &path, None).await.expect(204);
    gateway.chat(&key, json!({})).await.refused(404, "model_not_found");
}

#[tokio::test]
async fn a_tenants_end_is_its_keys_end() {
    let (upstream, gateway, _) = house().await;
    let tenant = gateway.create("/api/tenants", json!({ "name": "short-lived" })).await["id"].clone();
    gateway.provider_key_with("openai", &upstream, json!({ "tenant_id": tenant })).await;
    let key = gateway.virtual_key(json!({ "tenant_id": tenant })).await;
    let path = format!("/api/tenants/{}", tenant.as_str().expect("an id"));
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.patch(&path, json!({ "models_allowed": [] })).await;
    gateway.chat(&key, json!({})).await.refused(403, "model_not_allowed");
    let deleted = gateway.admin(Method::DELETE, &path, None).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    gateway.chat(&key, json!({})).await.refused(401, "invalid_api_key");
}

/// AT-016
#[tokio::test]
async fn a_stream_under_way_ends_in_peace_and_the_next_request_is_refused() {
    let (upstream, gateway, key) = house().await;
    let gate = Gate::new();
    let events = chat_events(&["one"]);
    upstream.answer(
        Answer::stream().send(&events[0]).send(&events[1]).wait(&gate).send(&events[2]).send(done()).end(),
    );
    let mut stream = gateway.stream(&key, json!({})).await;
    stream.frame().await.expect("a frame");
    gateway.admin(Method::POST, &format!("{}/revoke", path(&key)), None).await.expect(200);
    gateway.chat(&key, json!({})).await.refused(401, "invalid_api_key");
    gate.open();
    assert!(stream.text().await.ends_with(&done()));
    gateway.chat(&key, json!({})).await.refused(401, "invalid_api_key");
    gateway.usage_of(2).await;
}

/// AT-015, as far as one machine goes: a command that opens the database beside the running gateway.
#[tokio::test]
async fn a_change_made_beside_the_running_gateway_holds_within_a_second() {
    let (_upstream, gateway, key) = house().await;
    let beside =
        Foundation::open(&gateway.config, &gateway.clock, MasterKeys::MustExist).await.expect("opened");
    let control = beside
        .control(&gateway.config, keystile::app::egress_policy(&gateway.config), None, Notify::nobody())
        .expect("a control");
    control.virtual_key_revoke(&Actor::System, &key.id).await.expect("revoked");
    let began = std::time::Instant::now();
    eventually("the key to be refused", || async {
        (gateway.chat(&key, json!({})).await.status == 401).then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(1) + Duration::from_millis(250), "{:?}", began.elapsed());
    gateway.chat(&key, json!({})).await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn a_key_that_was_unknown_and_is_made_works_at_once() {
    let (_upstream, gateway, _) = house().await;
    for _ in 0..5 {
        let key = gateway.virtual_key(json!({})).await;
        gateway.chat(&key, json!({})).await.expect(200);
    }
}
