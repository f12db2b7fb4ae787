//! What a key may call is decided on what will really be called, on every route and for every candidate.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, Setup, Upstream, chat_ok, error, gateway::chat_request, usage};

const ALLOWED: &str = "openai/gpt-4o-mini";
const FORBIDDEN: &str = "openai/gpt-4o";

async fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key("openai", &upstream).await;
    (upstream, gateway)
}

/// AT-020
#[tokio::test]
async fn a_forbidden_model_is_refused_on_every_route() {
    let (upstream, gateway) = house().await;
    let key = gateway.virtual_key(json!({ "models_allowed": [ALLOWED] })).await;
    let cases = [
        ("/v1/chat/completions", chat_request(json!({ "model": FORBIDDEN }))),
        ("/v1/completions", json!({ "model": FORBIDDEN, "prompt": "x" }).to_string()),
        ("/v1/embeddings", json!({ "model": FORBIDDEN, "input": "x" }).to_string()),
    ];
    for (path, body) in cases {
        let reply = gateway.post(path, &key, body).await.refused(403, "model_not_allowed");
        assert_eq!(reply.json()["error"]["param"], "model");
    }
    for path in [
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/moderations",
        "/v1/files",
        "/v1/batches",
        "/v1/realtime",
        "/v1/proxy/openai/chat/completions",
        "/openai/deployments/gpt-4o/chat/completions",
        "/bedrock/model/gpt-4o/invoke",
    ] {
        gateway
            .post(path, &key, chat_request(json!({ "model": FORBIDDEN })))
            .await
            .refused(404, "unknown_path");
    }
    gateway.read(&format!("/v1/models/{FORBIDDEN}"), &key).await.refused(404, "model_not_found");
    assert_eq!(upstream.count(), 0);
    assert!(gateway.usage().await.is_empty());
}

/// AT-021
#[tokio::test]
async fn a_body_that_names_two_models_names_none() {
    let (upstream, gateway) = house().await;
    let key = gateway.virtual_key(json!({ "models_allowed": [ALLOWED] })).await;
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    let bodies = [
        format!(r#"{{"model":"{ALLOWED}","model":"{FORBIDDEN}",{messages}}}"#),
        format!(r#"{{"model":"{FORBIDDEN}","model":"{ALLOWED}",{messages}}}"#),
        format!(r#"{{"model":"{ALLOWED}","mod\u0065l":"{FORBIDDEN}",{messages}}}"#),
        format!(r#"{{"mod\u0065l":"{ALLOWED}",{messages}}}"#),
        format!(r#"{{"model":"{ALLOWED}",{messages},"messages":[]}}"#),
        format!("\u{feff}{{\"model\":\"{ALLOWED}\",{messages}}}"),
        format!(r#"{{"model":"{ALLOWED}",{messages}}}{{"model":"{FORBIDDEN}",{messages}}}"#),
        format!(r#"{{"model":/*"{FORBIDDEN}"*/"{ALLOWED}",{messages}}}"#),
    ];
    for body in bodies {
        gateway.post("/v1/chat/completions", &key, body.clone()).await.expect(400);
    }
    // A list of candidates and a model beside it: each that is called was checked.
    gateway
        .chat(&key, json!({ "model": ALLOWED, "models": [FORBIDDEN] }))
        .await
        .refused(403, "model_not_allowed");
    assert_eq!(upstream.count(), 0);
}

/// AT-022
#[tokio::test]
async fn only_the_bodys_model_counts() {
    let (upstream, gateway) = house().await;
    let key = gateway.virtual_key(json!({ "models_allowed": [ALLOWED] })).await;
    let request = gateway
        .request(Method::POST, &format!("/v1/chat/completions?model={FORBIDDEN}"), &key)
        .header("content-type", "application/json")
        .header("x-model", FORBIDDEN)
        .header("cookie", format!("model={FORBIDDEN}"))
        .body(chat_request(json!({ "model": ALLOWED, "metadata": { "model": FORBIDDEN } })));
    let reply = gateway.send(request).await.expect(200);
    assert_eq!(reply.header("x-keystile-model"), Some(ALLOWED));
    let seen = upstream.only();
    assert_eq!((seen.path.as_str(), &seen.json()["model"]), ("/v1/chat/completions", &json!("gpt-4o-mini")));

    let request = gateway
        .request(Method::POST, &format!("/v1/chat/completions?model={ALLOWED}"), &key)
        .header("content-type", "application/json")
        .body(chat_request(json!({ "model": FORBIDDEN })));
    gateway.send(request).await.refused(403, "model_not_allowed");
}

/// AT-023
#[tokio::test]
async fn names_are_matched_exactly() {
    let (upstream, gateway) = house().await;
    let key = gateway.virtual_key(json!({ "models_allowed": [ALLOWED] })).await;
    for name in [
        "OpenAI/gpt-4o-mini",
        "OPENAI/GPT-4O-MINI",
        " openai/gpt-4o-mini",
        "openai/gpt-4o-mini ",
        "openai /gpt-4o-mini",
        "openai/gpt\u{200b}-4o-mini",
        "openai/gpt\u{2011}4o-mini",
        "\u{ff4f}penai/gpt-4o-mini",
        "openai/gpt-4\u{043e}-mini",
        "openai/gpt-4o-mini\u{0}",
        "openai/gpt-4o-mini\n",
    ] {
        let reply = gateway.chat(&key, json!({ "model": name })).await;
        assert!(matches!(reply.status, 403 | 404), "{name:?}: {}", reply.status);
    }
    // A name that the provider may know is the provider's to judge, but not this key's to call.
    gateway.chat(&key, json!({ "model": "openai/GPT-4o-mini" })).await.refused(403, "model_not_allowed");
    assert_eq!(upstream.count(), 0);
}

/// AT-024
#[tokio::test]
async fn a_wildcard_ends_at_its_provider() {
    let (upstream, gateway) = house().await;
    gateway.provider_key("openaiz", &upstream).await;
    gateway.provider_key("groq", &upstream).await;
    let key = gateway.virtual_key(json!({ "models_allowed": ["openai/*"] })).await;
    gateway.chat(&key, json!({ "model": "openai/gpt-4o" })).await.expect(200);
    for name in ["openaiz/x", "openai", "openai/", "xopenai/y", "groq/x", "/openai/x"] {
        let reply = gateway.chat(&key, json!({ "model": name })).await;
        assert!(matches!(reply.status, 403 | 404), "{name}: {}", reply.status);
    }
    // What follows the slash is the provider's own name, whatever it looks like: it goes into the body, not the path.
    gateway.chat(&key, json!({ "model": "openai/../groq/x" })).await.expect(200);
    assert_eq!(upstream.last().path, "/v1/chat/completions");
    assert_eq!(upstream.last().json()["model"], "../groq/x");
    assert_eq!(upstream.count(), 2);
    for pattern in ["openai*", "*/gpt-4o", "openai/gpt-*", "**", ""] {
        let asked = json!({ "name": "k", "models_allowed": [pattern] });
        gateway.admin(Method::POST, "/api/virtual-keys", Some(&asked)).await.expect(400);
    }
}

/// AT-025
#[tokio::test]
async fn an_alias_is_judged_by_what_it_stands_for() {
    let (upstream, gateway) = house().await;
    gateway.create("/api/aliases", json!({ "name": "fast", "models": [ALLOWED] })).await;
    gateway.create("/api/aliases", json!({ "name": "good", "models": [FORBIDDEN] })).await;
    gateway.create("/api/aliases", json!({ "name": "both", "models": [FORBIDDEN, ALLOWED] })).await;
    let key = gateway.virtual_key(json!({ "models_allowed": [ALLOWED] })).await;
    gateway.chat(&key, json!({ "model": "fast" })).await.expect(200);
    gateway.chat(&key, json!({ "model": "good" })).await.refused(403, "model_not_allowed");
    let reply = gateway.chat(&key, json!({ "model": "both" })).await.expect(200);
    assert_eq!(reply.header("x-keystile-model"), Some(ALLOWED), "the forbidden one was skipped");
    assert!(upstream.seen().iter().all(|seen| seen.json()["model"] == "gpt-4o-mini"));

    // An alias neither stands in an allow-list nor for another alias.
    let asked = json!({ "name": "k", "models_allowed": ["fast"] });
    gateway.admin(Method::POST, "/api/virtual-keys", Some(&asked)).await.expect(400);
    for models in [json!(["fast"]), json!(["loop"]), json!([])] {
        let asked = json!({ "name": "loop", "models": models });
        gateway.admin(Method::POST, "/api/aliases", Some(&asked)).await.expect(400);
    }
    // An alias that looks like a model of a provider the tenant has cannot shadow it.
    let asked = json!({ "name": ALLOWED, "models": [FORBIDDEN] });
    let shadow = gateway.admin(Method::POST, "/api/aliases", Some(&asked)).await;
    assert!(matches!(shadow.status, 201 | 400), "{}", shadow.status);
    let reply = gateway.chat(&key, json!({ "model": ALLOWED })).await.expect(200);
    assert_eq!(reply.header("x-keystile-model"), Some(ALLOWED));
}

/// AT-026
#[tokio::test]
async fn variants_of_an_allowed_name_are_other_models() {
    let (upstream, gateway) = house().await;
    let key = gateway.virtual_key(json!({ "models_allowed": [ALLOWED] })).await;
    for name in
        ["openai/ft:gpt-4o-mini:acme::1", "openai/gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini-latest"]
    {
        gateway.chat(&key, json!({ "model": name })).await.refused(403, "model_not_allowed");
    }
    assert_eq!(upstream.count(), 0);
}

/// AT-027
#[tokio::test]
async fn p15_a_fallback_is_authorised_like_any_candidate() {
    let (primary, secondary) =
        (Upstream::always(error(500, "down")).await, Upstream::always(chat_ok("hi", &usage(1, 1))).await);
    let gateway = Setup::new().await.allow(&primary).allow(&secondary).start().await;
    gateway.provider_key("openai", &primary).await;
    gateway.provider_key("groq", &secondary).await;
    let limits = json!({ "models_allowed": [ALLOWED], "fallback_models": ["groq/llama-3.3-70b-versatile"] });
    let made = gateway.admin(Method::POST, "/api/virtual-keys", Some(&with_name(limits))).await;
    // Whether it is refused here or skipped later, it is never called.
    let key = match made.status {
        201 => made.json(),
        status => {
            assert_eq!(status, 400);
            let key = gateway.virtual_key(json!({ "models_allowed": [ALLOWED] })).await;
            json!({ "id": key.id, "key": key.key })
        }
    };
    let text = |member: &str| key[member].as_str().expect("a text").to_owned();
    let key = crate::support::VirtualKey { id: text("id"), key: text("key") };
    for status in [500, 429, 503] {
        primary.answer(error(status, "down"));
        let reply = gateway.chat(&key, json!({})).await;
        assert_eq!(reply.json()["error"]["provider_status"], status, "the primary's own error");
        let models = json!({ "models": [ALLOWED, "groq/llama-3.3-70b-versatile"] });
        assert!(gateway.chat(&key, models).await.status >= 400);
    }
    primary.answer(crate::support::Answer::json(
        400,
        &json!({ "error": { "message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded" } }),
    ));
    gateway.chat(&key, json!({})).await.refused(400, "context_length_exceeded");
    assert_eq!(secondary.count(), 0);
}

fn with_name(mut limits: Value) -> Value {
    limits["name"] = json!("with fallbacks");
    limits
}

/// AT-028
#[tokio::test]
async fn the_list_of_models_shows_what_the_key_may_call_and_nothing_of_others() {
    let (upstream, gateway) = house().await;
    gateway.create("/api/aliases", json!({ "name": "fast", "models": [ALLOWED] })).await;
    gateway.create("/api/aliases", json!({ "name": "good", "models": [FORBIDDEN] })).await;
    let other = gateway.create("/api/tenants", json!({ "name": "other" })).await["id"].clone();
    let more = json!({ "tenant_id": other, "models": ["their-secret-model"] });
    gateway.provider_key_with("their-vllm", &upstream, more).await;
    gateway
        .create("/api/aliases", json!({ "name": "theirs", "models": [ALLOWED], "tenant_id": other }))
        .await;

    let key = gateway.virtual_key(json!({ "models_allowed": [ALLOWED, "openai/private-tune"] })).await;
    let list = gateway.read("/v1/models", &key).await.expect(200).json();
    let ids: Vec<&str> =
        list["data"].as_array().expect("models").iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(ids, [ALLOWED, "openai/private-tune", "fast"]);

    let nothing = gateway.virtual_key(json!({ "models_allowed": [] })).await;
    assert_eq!(gateway.read("/v1/models", &nothing).await.expect(200).json()["data"], json!([]));
    gateway.chat(&nothing, json!({})).await.refused(403, "model_not_allowed");
    let everything = gateway.virtual_key(json!({ "models_allowed": null })).await;
    gateway.chat(&everything, json!({ "model": FORBIDDEN })).await.expect(200);
}

#[tokio::test]
async fn the_tenants_list_binds_all_its_keys() {
    let (upstream, gateway) = house().await;
    let tenant =
        gateway.create("/api/tenants", json!({ "name": "narrow", "models_allowed": [ALLOWED] })).await;
    let id = tenant["id"].clone();
    gateway.provider_key_with("openai", &upstream, json!({ "tenant_id": id })).await;
    let key = gateway.virtual_key(json!({ "tenant_id": id, "models_allowed": ["*"] })).await;
    gateway.chat(&key, json!({ "model": FORBIDDEN })).await.refused(403, "model_not_allowed");
    gateway.chat(&key, json!({ "model": ALLOWED })).await.expect(200);
}
