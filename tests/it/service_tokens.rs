//! Services fetch keys over the wire, as teams already do it, and their tokens open nothing else.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Gateway, Reply, Setup, Upstream, VirtualKey, chat_ok,
    gateway::{ADMIN_EMAIL, ADMIN_PASSWORD, http_client},
    usage,
};

const KEY: &str = "sk-proj-the-key-that-services-share-0123456789";

/// One call as it is written: method, path, headers, body.
async fn call(
    gateway: &Gateway,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Reply {
    let mut request = http_client().request(method, format!("http://{}{path}", gateway.app.admin_address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.header("Content-Type", "application/json").body(body.to_string());
    }
    gateway.send(request).await
}

async fn a_gateway() -> Gateway {
    let settings = |config: &mut keystile::config::Config| {
        config.vault.allow_retrieval = true;
        config.vault.retrievable_by_default = true;
    };
    Setup::new().await.with(settings).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_that_teams_already_make_work_word_for_word() {
    let gateway = &a_gateway().await;
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);

    // GET /health
    let health = call(gateway, get.clone(), "/health", &[], None).await.expect(200).json();
    assert_eq!((&health["status"], &health["database"]), (&json!("healthy"), &json!("connected")));

    // POST /api/auth/login
    let login = json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD});
    let session = call(gateway, post.clone(), "/api/auth/login", &[], Some(login)).await.expect(200).json();
    assert_eq!((&session["token"], &session["token_type"]), (&session["access_token"], &json!("bearer")));
    let bearer = format!("Bearer {}", session["token"].as_str().expect("a token"));
    let admin = &[("Authorization", bearer.as_str())];

    // POST /api/keys, GET /api/keys
    let asked = json!({"provider": "openai", "key_name": "production", "api_key": KEY});
    let made = call(gateway, post.clone(), "/api/keys", admin, Some(asked)).await.expect(201);
    assert!(!made.text().contains(KEY));
    let made = made.json();
    assert_eq!((&made["provider"], &made["key_name"]), (&json!("openai"), &json!("production")));
    let key = format!("/api/keys/{}", made["id"].as_str().expect("an id"));
    let listed = call(gateway, get.clone(), "/api/keys", admin, None).await.expect(200);
    assert!(!listed.text().contains(KEY));
    assert_eq!(listed.json()[0]["id"], made["id"]);

    // POST /api/service-tokens, GET /api/service-tokens
    let asked = json!({"service_name": "indexer"});
    let token = call(gateway, post.clone(), "/api/service-tokens", admin, Some(asked)).await.expect(201);
    assert_eq!(token.header("cache-control"), Some("no-store"));
    let token = token.json();
    let service = format!("/api/service-tokens/{}", token["id"].as_str().expect("an id"));
    let token = token["token"].as_str().expect("a token").to_owned();
    let listed = call(gateway, get.clone(), "/api/service-tokens", admin, None).await.expect(200);
    assert!(!listed.text().contains(&token));
    assert_eq!(listed.json()["data"][0]["service_name"], "indexer");

    // GET /api/v1/keys/{provider}
    let fetch = "/api/v1/keys/openai";
    let with_token = &[("X-Service-Token", token.as_str())];
    let fetched = call(gateway, get.clone(), fetch, with_token, None).await.expect(200);
    assert_eq!(fetched.header("cache-control"), Some("no-store"));
    assert_eq!(fetched.json(), json!({"provider": "openai", "key_name": "production", "api_key": KEY}));
    call(gateway, get.clone(), "/api/v1/keys/nobody", with_token, None).await.expect(404);
    call(gateway, get.clone(), fetch, &[], None).await.expect(401);

    // PATCH /api/keys/{id}
    let off = json!({"is_active": false});
    let changed = call(gateway, patch.clone(), &key, admin, Some(off.clone())).await.expect(200).json();
    assert_eq!(changed["is_active"], false);
    call(gateway, get.clone(), fetch, with_token, None).await.expect(404);
    call(gateway, patch.clone(), &key, admin, Some(json!({"is_active": true}))).await.expect(200);
    call(gateway, get.clone(), fetch, with_token, None).await.expect(200);

    // PATCH /api/service-tokens/{id}
    let changed = call(gateway, patch.clone(), &service, admin, Some(off)).await.expect(200).json();
    assert_eq!(changed["is_active"], false);
    call(gateway, get.clone(), fetch, with_token, None).await.expect(401);
    call(gateway, patch, &service, admin, Some(json!({"is_active": true}))).await.expect(200);
    call(gateway, get.clone(), fetch, with_token, None).await.expect(200);

    // DELETE /api/keys/{id}, DELETE /api/service-tokens/{id}
    call(gateway, delete.clone(), &key, admin, None).await.expect(204);
    call(gateway, get.clone(), fetch, with_token, None).await.expect(404);
    call(gateway, delete, &service, admin, None).await.expect(204);
    call(gateway, get, fetch, with_token, None).await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_token_opens_nothing_on_the_data_plane_and_goes_no_further() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple_with(&upstream, |config| config.vault.allow_retrieval = true).await;
    let made = gateway.create("/api/service-tokens", json!({"service_name": "indexer"})).await;
    let token = made["token"].as_str().expect("a token").to_owned();
    let as_key = VirtualKey { id: "none".into(), key: token.clone() };
    gateway.chat(&as_key, json!({})).await.refused(401, "invalid_api_key");
    gateway.read("/v1/models", &as_key).await.refused(401, "invalid_api_key");
    gateway.read("/v1/key", &as_key).await.refused(401, "invalid_api_key");
    assert_eq!(upstream.seen().len(), 0);
    // In its own header it is no credential there, and no provider hears of it.
    let models = format!("http://{}/v1/models", gateway.app.address);
    let alone = http_client().get(models).header("x-service-token", &token);
    gateway.send(alone).await.refused(401, "invalid_api_key");
    let beside = gateway.request(Method::POST, "/v1/chat/completions", &key);
    let beside = beside.header("x-service-token", &token).header("content-type", "application/json");
    let body = crate::support::gateway::chat_request(json!({}));
    gateway.send(beside.body(body)).await.expect(200);
    assert!(upstream.last().header("x-service-token").is_none());
    // A virtual key fetches nothing.
    let headers = [("X-Service-Token", key.key.as_str())];
    call(&gateway, Method::GET, "/api/v1/keys/openai", &headers, None).await.expect(401);
}

#[tokio::test]
async fn a_mark_by_default_needs_retrieval() {
    let marked = async |allow: bool, by_default: bool| {
        let settings = |config: &mut keystile::config::Config| {
            config.vault.allow_retrieval = allow;
            config.vault.retrievable_by_default = by_default;
        };
        let gateway = Setup::new().await.with(settings).start().await;
        let said = gateway.app.facts.iter().any(|fact| fact.contains("`vault.retrievable_by_default`"));
        assert_eq!(said, by_default && !allow, "{:?}", gateway.app.facts);
        let body = json!({"provider": "openai", "key_name": "k", "api_key": KEY});
        gateway.create("/api/keys", body).await["retrievable"].clone()
    };
    assert_eq!(marked(true, true).await, true);
    assert_eq!(marked(true, false).await, false);
    assert_eq!(marked(false, true).await, false);
}
