//! The OpenAPI document of the admin plane tells the truth: every route is called as it is described and as it is not,
//! by everybody who may and may not, and each status and body is held against the document. So is the list of routes in
//! `docs/api-design.md`.

mod plane;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use keystile::{
    admin::document,
    domain::{InstanceId, PlaceId},
    store::{Claim, Run},
};
use serde_json::{Value, json};

use self::plane::{PASSWORD, Plane, ROLES, matrix};

const API_DESIGN: &str = include_str!("../../docs/api-design.md");

fn id(made: &Value) -> &str {
    made["id"].as_str().expect("an id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_the_admin_plane_is_as_the_document_says() {
    let mut plane = Plane::start().await;
    plane.everybody().await;
    plane.good("GET /api/openapi.json", &[], None).await;
    sessions(&plane).await;
    ends_of_sessions(&mut plane).await;
    tenants_and_users(&plane).await;
    provider_keys(&plane).await;
    service_tokens(&plane).await;
    budgets(&plane).await;
    virtual_keys_and_aliases(&plane).await;
    prices_and_spend(&plane).await;
    instances(&plane).await;
    config_variables(&plane).await;
    gateway(&plane).await;
    plane.good("GET /api/v1/audit", &["?limit=2&category=identity"], None).await;
    plane.good("GET /api/v1/audit", &["?format=jsonl&outcome=success&from=2026-01-01"], None).await;
    plane.bad("GET /api/v1/audit", &["?format=xml"], None, 400, "invalid_request").await;
    plane.bad("GET /api/v1/audit", &["?cursor=!"], None, 400, "invalid_request").await;
    plane.bad("GET /api/v1/audit", &["?what=1"], None, 400, "invalid_request").await;

    let called = plane.called.take();
    for (route, _) in matrix() {
        assert_eq!(called.get(route), Some(&(true, true)), "`{route}` did not both do and refuse something");
    }
    let Plane { app, client, .. } = plane;
    drop(client);
    app.stop(Duration::from_secs(5), std::future::pending()).await;
}

async fn sessions(plane: &Plane) {
    plane.good("GET /api/auth/session", &[], None).await;
    let login = "POST /api/auth/login";
    let wrong = json!({"email": "nobody@example.com", "password": PASSWORD});
    plane.bad(login, &[], Some(wrong.clone()), 401, "invalid_credentials").await;
    plane.bad(login, &[], Some(json!({"email": "x"})), 400, "invalid_request").await;
    plane.bad(login, &[], None, 415, "unsupported_media_type").await;
    let long = json!({"email": "x".repeat(9_000), "password": ""});
    plane.bad(login, &[], Some(long), 413, "request_too_large").await;
}

/// What ends sessions, tried on people who are not needed any more.
async fn ends_of_sessions(plane: &mut Plane) {
    let leaver = json!({"email": "leaver@example.com", "password": PASSWORD, "role": "finance"});
    let leaver = id(&plane.good("POST /api/users", &[], Some(leaver)).await).to_owned();
    let enter = async |plane: &mut Plane, password: &str| {
        let token = plane.log_in("leaver@example.com", password).await;
        plane.tokens.insert("leaver".into(), token);
    };
    enter(plane, PASSWORD).await;
    let listed = plane.call("leaver", "GET /api/auth/sessions", &["?limit=5"], None).await.1;
    let own = id(&listed["data"][0]).to_owned();
    plane.bad("GET /api/auth/sessions", &["?cursor=!"], None, 400, "invalid_request").await;
    plane.good("GET /api/users/{id}/sessions", &[&leaver], None).await;
    plane.bad("GET /api/users/{id}/sessions", &["none"], None, 404, "not_found").await;
    let end = "DELETE /api/auth/sessions/{id}";
    plane.bad(end, &[&own], None, 404, "not_found").await;
    assert_eq!(plane.call("leaver", end, &[&own], None).await.0, 204);
    assert_eq!(plane.call("leaver", "GET /api/auth/session", &[], None).await.0, 401);

    enter(plane, PASSWORD).await;
    let change = "POST /api/auth/password";
    for (current, new, status) in
        [(PASSWORD, "short", 400), (PASSWORD, PASSWORD, 400), ("wrong", "another long passphrase", 403)]
    {
        let body = json!({"current_password": current, "new_password": new});
        assert_eq!(plane.call("leaver", change, &[], Some(body)).await.0, status);
    }
    let body = json!({"current_password": PASSWORD, "new_password": "another long passphrase"});
    assert_eq!(plane.call("leaver", change, &[], Some(body)).await.0, 200);
    for route in ["POST /api/auth/logout", "POST /api/auth/logout-all"] {
        enter(plane, "another long passphrase").await;
        assert_eq!(plane.call("leaver", route, &[], None).await.0, 204, "{route}");
        assert_eq!(plane.call("leaver", route, &[], None).await.0, 401, "{route}");
    }
    plane.good("DELETE /api/users/{id}/sessions", &[&leaver], None).await;
    plane.bad("DELETE /api/users/{id}/sessions", &["none"], None, 404, "not_found").await;
}

async fn tenants_and_users(plane: &Plane) {
    let asked = json!({"name": "search", "models_allowed": ["demo/*"], "spend_cap_micro_usd": 5, "spend_window": "daily",
        "cap_mode": "soft", "rate_limit_rpm": 60, "rate_limit_tpm": 1000, "max_parallel": 2, "time_zone": "Europe/Berlin"});
    let tenant = plane.good("POST /api/tenants", &[], Some(asked.clone())).await;
    plane.bad("POST /api/tenants", &[], Some(asked), 409, "conflict").await;
    plane.bad("POST /api/tenants", &[], Some(json!({"name": "x", "cap": 1})), 400, "invalid_request").await;
    plane.good("GET /api/tenants", &["?limit=1"], None).await;
    plane.good("GET /api/tenants/{id}", &[id(&tenant)], None).await;
    plane.bad("GET /api/tenants/{id}", &["tnt_none"], None, 404, "not_found").await;
    plane.good("PATCH /api/tenants/{id}", &[id(&tenant)], Some(json!({"name": "found"}))).await;
    plane.nulls("PATCH /api/tenants/{id}", id(&tenant)).await;

    let asked =
        json!({"email": "a@example.com", "password": PASSWORD, "role": "finance", "tenant_id": id(&tenant)});
    let user = plane.good("POST /api/users", &[], Some(asked)).await;
    let weak = json!({"email": "b@example.com", "password": "short", "role": "finance"});
    plane.bad("POST /api/users", &[], Some(weak), 400, "invalid_password").await;
    plane.good("GET /api/users", &["?tenant_id=", id(&tenant)], None).await;
    plane.good("GET /api/users/{id}", &[id(&user)], None).await;
    plane.good("PATCH /api/users/{id}", &[id(&user)], Some(json!({"role": "auditor"}))).await;
    plane.nulls("PATCH /api/users/{id}", id(&user)).await;
    plane.good("DELETE /api/users/{id}", &[id(&user)], None).await;
    plane.bad("DELETE /api/users/{id}", &[id(&user)], None, 404, "not_found").await;
    plane.good("DELETE /api/tenants/{id}", &[id(&tenant)], None).await;
    plane.bad("DELETE /api/tenants/{id}", &[id(&tenant)], None, 404, "not_found").await;
}

async fn provider_keys(plane: &Plane) {
    let asked = json!({"provider": "openai", "key_name": "main", "api_key": "sk-canary-0123456789", "models": ["gpt-5.4-mini"],
        "weight": 0, "is_active": false, "retrievable": true});
    let key = plane.good("POST /api/keys", &[], Some(asked)).await;
    let own = json!({"provider": "own", "key_name": "own", "base_url": "https://llm.example.com/v1", "dialect": "openai"});
    plane.good("POST /api/keys", &[], Some(own)).await;
    for (body, code) in [
        (json!({"provider": "openai", "key_name": "x"}), "secret_required"),
        (json!({"provider": "openai", "key_name": "x", "api_key": "sk-***"}), "masked_secret"),
        (json!({"provider": "openai", "key_name": "x", "api_key": "env:HOME"}), "reference_not_allowed"),
        (json!({"provider": "nobody", "key_name": "x", "api_key": "x"}), "unknown_provider"),
        (json!({"provider": "rotate", "key_name": "x", "api_key": "x"}), "invalid_provider"),
        (
            json!({"provider": "x", "key_name": "x", "api_key": "x", "base_url": "http://10.0.0.1/"}),
            "invalid_base_url",
        ),
        (json!({"provider": "openai", "key_name": 1}), "invalid_request"),
    ] {
        plane.bad("POST /api/keys", &[], Some(body), 400, code).await;
    }
    plane.good("GET /api/keys", &[], None).await;
    plane.good("GET /api/keys/{id}", &[id(&key)], None).await;
    plane.good("PATCH /api/keys/{id}", &[id(&key)], Some(json!({"weight": 5, "api_key": "sk-other"}))).await;
    let moved = json!({"base_url": "https://llm.example.com"});
    plane.bad("PATCH /api/keys/{id}", &[id(&key)], Some(moved), 400, "secret_required").await;
    plane.nulls("PATCH /api/keys/{id}", id(&key)).await;
    clouds(plane).await;
    let (stage, verify, promote) =
        ("POST /api/keys/{id}/stage", "POST /api/keys/{id}/verify", "POST /api/keys/{id}/promote");
    let demo = plane.good("GET /api/keys", &[], None).await;
    let demo =
        demo.as_array().expect("keys").iter().find(|key| key["provider"] == "demo").expect("the demo's");
    plane.bad(verify, &[id(demo)], None, 409, "conflict").await;
    plane.good(stage, &[id(demo)], Some(json!({"api_key": "sk-next"}))).await;
    plane.bad(stage, &[id(demo)], Some(json!({"api_key": "****"})), 400, "masked_secret").await;
    plane.bad(promote, &[id(demo)], None, 409, "not_verified").await;
    plane.good(verify, &[id(demo)], None).await;
    plane.good("DELETE /api/keys/{id}/stage", &[id(demo)], None).await;
    plane.bad("DELETE /api/keys/{id}/stage", &[id(demo)], None, 404, "not_found").await;
    plane.good(stage, &[id(&key)], Some(json!({"api_key": {"value": "sk-next"}}))).await;
    plane.good("GET /api/keys/{id}", &[id(&key)], None).await;
    plane.good(promote, &[id(&key)], Some(json!({"unverified": true}))).await;
    plane.good("DELETE /api/keys/{id}", &[id(&key)], None).await;
    plane.bad("GET /api/keys/{id}", &[id(&key)], None, 404, "not_found").await;
}

async fn service_tokens(plane: &Plane) {
    let (route, asked) = ("POST /api/service-tokens", json!({"service_name": "indexer"}));
    let again = [("idempotency-key", "one token")];
    let (_, token) = plane.call_with("owner", route, &[], Some(asked.clone()), &again).await;
    let (_, same) = plane.call_with("owner", route, &[], Some(asked), &again).await;
    assert_eq!((id(&token), &same["token"]), (id(&same), &Value::Null), "{token} {same}");
    plane.bad(route, &[], Some(json!({"service_name": ""})), 400, "invalid_request").await;
    plane.bad(route, &[], Some(json!({"service": "x"})), 400, "invalid_request").await;
    plane.good("GET /api/service-tokens", &["?limit=1"], None).await;
    plane.good("GET /api/service-tokens/{id}", &[id(&token)], None).await;
    plane.good("PATCH /api/service-tokens/{id}", &[id(&token)], Some(json!({"is_active": false}))).await;
    plane.nulls("PATCH /api/service-tokens/{id}", id(&token)).await;
    plane.good("POST /api/service-tokens/{id}/rotate", &[id(&token)], None).await;
    plane
        .good("POST /api/service-tokens/{id}/rotate", &[id(&token)], Some(json!({"grace_seconds": 9})))
        .await;
    plane.good("DELETE /api/service-tokens/{id}", &[id(&token)], None).await;
    plane.bad("DELETE /api/service-tokens/{id}", &[id(&token)], None, 404, "not_found").await;

    let asked =
        json!({"provider": "openai", "key_name": "shared", "api_key": "sk-shared", "retrievable": true});
    let key = plane.good("POST /api/keys", &[], Some(asked)).await;
    let fetch = "GET /api/v1/keys/{provider}";
    let (status, fetched) = plane.call("service", fetch, &["openai"], None).await;
    assert_eq!((status, &fetched["api_key"]), (200, &json!("sk-shared")), "{fetched}");
    let (status, refused) = plane.call("service", fetch, &["groq"], None).await;
    assert_eq!((status, &refused["error"]["code"]), (404, &json!("not_found")), "{refused}");
    plane.good("DELETE /api/keys/{id}", &[id(&key)], None).await;
}

async fn clouds(plane: &Plane) {
    for body in [
        json!({"provider": "azure", "name": "a", "value": {"value": "x"}, "enabled": true, "azure_key_config": {
            "endpoint": "https://r.openai.azure.com", "deployments": {"gpt-4o": "prod"}, "api_version": "2024-10-21",
            "client_id": "c", "client_secret": {"value": "s", "env_var": "", "from_env": false}, "tenant_id": "t",
            "scopes": ["https://cognitiveservices.azure.com/.default"]}}),
        json!({"provider": "vertex", "key_name": "v", "vertex_key_config": {"project_id": "p", "project_number": "1",
            "region": "global", "auth_credentials": "{}"}}),
        json!({"provider": "bedrock", "key_name": "b", "bedrock_key_config": {"access_key": "a", "secret_key": "s",
            "session_token": "t", "region": "us-east-1", "arn": "arn:aws:iam::1:role/x", "deployments": {"m": "p"},
            "batch_s3_config": {"buckets": [{"bucket_name": "bucket", "prefix": null, "is_default": true}]}}}),
        json!({"provider": "huggingface", "key_name": "h", "api_key": "hf", "huggingface_key_config": {
            "endpoint": "https://x.example.com", "deployments": {}}}),
    ] {
        let made = plane.good("POST /api/keys", &[], Some(body)).await;
        plane.good("GET /api/keys/{id}", &[id(&made)], None).await;
    }
}

async fn config_variables(plane: &Plane) {
    let route = "POST /v1/config-variables";
    let asked = json!({"name": "REGION", "value": "eu", "description": "where", "sensitive": false});
    let made = plane.good(route, &[], Some(asked.clone())).await;
    plane.bad(route, &[], Some(asked), 409, "conflict").await;
    let sealed = json!({"name": "KEY", "value": "sk-canary-0123456789", "sensitive": true});
    let sealed = plane.good(route, &[], Some(sealed)).await;
    assert_eq!(sealed["value"], "********");
    plane.bad(route, &[], Some(json!({"name": "a b", "value": "x"})), 400, "invalid_name").await;
    plane.bad(route, &[], Some(json!({"name": "ab"})), 400, "invalid_request").await;
    plane.good("GET /v1/config-variables", &["?limit=1"], None).await;
    plane.bad("GET /v1/config-variables", &["?cursor=!"], None, 400, "invalid_request").await;
    plane.good("GET /v1/config-variables/{id}", &[id(&sealed)], None).await;
    plane.bad("GET /v1/config-variables/{id}", &["cfg_none"], None, 404, "not_found").await;
    let change = json!({"name": "PLACE", "value": "us"});
    plane.good("PATCH /v1/config-variables/{id}", &[id(&made)], Some(change)).await;
    plane.nulls("PATCH /v1/config-variables/{id}", id(&made)).await;
    plane.good("DELETE /v1/config-variables/{id}", &[id(&made)], None).await;
    plane.bad("DELETE /v1/config-variables/{id}", &[id(&made)], None, 404, "not_found").await;
}

async fn gateway(plane: &Plane) {
    plane.good("GET /api/gateway/status", &[], None).await;
    plane.good("POST /api/gateway/reload", &[], None).await;
    plane.readable.store(false, Ordering::Relaxed);
    plane.bad("POST /api/gateway/reload", &[], None, 422, "invalid_configuration").await;
    let status = plane.good("GET /api/gateway/status", &[], None).await;
    assert_eq!(status["last_reload"]["outcome"], "failure");
    plane.readable.store(true, Ordering::Relaxed);
}

async fn budgets(plane: &Plane) {
    let (route, asked) = (
        "POST /api/budgets",
        json!({"name": "all", "cap_micro_usd": 5, "window": "monthly", "cap_mode": "soft"}),
    );
    let again = [("idempotency-key", "one budget")];
    let (_, budget) = plane.call_with("owner", route, &[], Some(asked.clone()), &again).await;
    let (_, same) = plane.call_with("tenant_admin", route, &[], Some(asked.clone()), &again).await;
    assert_eq!(same["error"]["code"], "conflict", "another's key is another request");
    let (_, same) = plane.call_with("owner", route, &[], Some(asked), &again).await;
    assert_eq!(budget, same);
    let unlimited = json!({"name": "free", "cap_micro_usd": null, "window": "total"});
    plane.good(route, &[], Some(unlimited)).await;
    for bad in [
        json!({"name": "x", "cap_micro_usd": 1}),
        json!({"name": "x", "window": "daily"}),
        json!({"name": "x", "cap_micro_usd": -1, "window": "daily"}),
        json!({"name": "x", "cap_micro_usd": 1, "window": "yearly"}),
        json!({"name": "x", "cap_micro_usd": 1, "window": "daily", "spend_cap_micro_usd": 1}),
        json!({"name": " ", "cap_micro_usd": 1, "window": "daily"}),
    ] {
        plane.bad(route, &[], Some(bad), 400, "invalid_request").await;
    }
    plane.good("GET /api/budgets", &["?limit=1"], None).await;
    plane.bad("GET /api/budgets", &["?cursor=!"], None, 400, "invalid_request").await;
    plane.good("GET /api/budgets/{id}", &[id(&budget)], None).await;
    let joined = json!({"name": "member", "budgets": [id(&budget)]});
    let key = plane.good("POST /api/virtual-keys", &[], Some(joined)).await;
    plane.bad("DELETE /api/budgets/{id}", &[id(&budget)], None, 409, "conflict").await;
    plane.good("PATCH /api/virtual-keys/{id}", &[id(&key)], Some(json!({"budgets": null}))).await;
    plane
        .good("PATCH /api/budgets/{id}", &[id(&budget)], Some(json!({"name": "every", "window": "daily"})))
        .await;
    plane
        .bad("PATCH /api/budgets/{id}", &[id(&budget)], Some(json!({"name": "free"})), 409, "conflict")
        .await;
    plane.nulls("PATCH /api/budgets/{id}", id(&budget)).await;
    plane.good("DELETE /api/budgets/{id}", &[id(&budget)], None).await;
    plane.bad("GET /api/budgets/{id}", &[id(&budget)], None, 404, "not_found").await;
}

async fn virtual_keys_and_aliases(plane: &Plane) {
    let (route, asked) = (
        "POST /api/virtual-keys",
        json!({"name": "app", "spend_cap_micro_usd": 0,
        "fallback_models": ["demo/chat"], "expires_in_days": 3, "tags": {"team": "search"}}),
    );
    let again = [("idempotency-key", "once")];
    let (_, key) = plane.call_with("owner", route, &[], Some(asked.clone()), &again).await;
    let (_, same) = plane.call_with("owner", route, &[], Some(asked), &again).await;
    assert_eq!((id(&key), &same["key"]), (id(&same), &Value::Null), "{key} {same}");
    let other = Some(json!({"name": "other"}));
    assert_eq!(plane.call_with("owner", route, &[], other, &again).await.0, 422);
    plane.bad(route, &[], Some(json!({"name": "x", "budget": 1})), 400, "invalid_request").await;
    plane.good("GET /api/virtual-keys", &["?limit=1"], None).await;
    plane.good("GET /api/virtual-keys/{id}", &[id(&key)], None).await;
    plane.good("PATCH /api/virtual-keys/{id}", &[id(&key)], Some(json!({"tags": {}}))).await;
    plane.nulls("PATCH /api/virtual-keys/{id}", id(&key)).await;
    plane.good("POST /api/virtual-keys/{id}/rotate", &[id(&key)], None).await;
    plane.good("POST /api/virtual-keys/{id}/rotate", &[id(&key)], Some(json!({"grace_seconds": 9}))).await;
    plane.good("POST /api/virtual-keys/{id}/revoke", &[id(&key)], None).await;
    plane.bad("POST /api/virtual-keys/{id}/rotate", &[id(&key)], None, 409, "conflict").await;
    plane.good("DELETE /api/virtual-keys/{id}", &[id(&key)], None).await;
    plane.bad("DELETE /api/virtual-keys/{id}", &[id(&key)], None, 404, "not_found").await;

    let asked = json!({"name": "fast", "models": ["demo/chat"]});
    let alias = plane.good("POST /api/aliases", &[], Some(asked.clone())).await;
    plane.bad("POST /api/aliases", &[], Some(asked), 409, "conflict").await;
    let allow = json!({"name": "x", "models_allowed": ["fast"]});
    plane.bad(route, &[], Some(allow), 400, "alias_in_allow_list").await;
    plane.good("GET /api/aliases", &[], None).await;
    plane.good("GET /api/aliases/{id}", &[id(&alias)], None).await;
    plane.good("PATCH /api/aliases/{id}", &[id(&alias)], Some(json!({"name": "quick"}))).await;
    plane.nulls("PATCH /api/aliases/{id}", id(&alias)).await;
    plane.good("DELETE /api/aliases/{id}", &[id(&alias)], None).await;
}

async fn prices_and_spend(plane: &Plane) {
    let asked = json!({"prices": [{"model": "own/llama", "input": 1, "output": 2, "cache_read": 0, "context_window": 8000,
        "effective_from": "2026-01-01"}]});
    plane.good("PUT /api/prices", &[], Some(asked)).await;
    let negative = json!({"prices": [{"model": "own/llama", "input": -1, "output": 2}]});
    plane.bad("PUT /api/prices", &[], Some(negative), 400, "invalid_price").await;
    plane.good("GET /api/prices", &[], None).await;
    plane.good("GET /api/prices", &["?model=own/llama"], None).await;
    plane.bad("GET /api/prices", &["?model=llama"], None, 400, "invalid_model").await;

    let request = plane.spend_something().await;
    plane.good("GET /api/usage/{request_id}/explain", &[&request], None).await;
    let rows = plane.good("GET /api/usage", &["?from=2026-01-01&provider=demo"], None).await;
    assert_eq!(rows["data"][0]["request_id"], request.as_str(), "{rows}");
    plane.bad("GET /api/usage", &["?limit=0"], None, 400, "invalid_request").await;
    plane.bad("GET /api/usage", &["?from=2027-01-01&to=2026-01-01"], None, 400, "invalid_request").await;
    let by = "?group_by=tenant,key,provider,model,day,tag:team";
    let sums = plane.good("GET /api/spend", &[by], None).await;
    assert_eq!(sums["total"]["requests"], 1, "{sums}");
    plane.good("GET /api/spend", &[], None).await;
    plane.good("GET /api/spend", &[by, "&format=csv"], None).await;
    plane.bad("GET /api/spend", &["?format=xml"], None, 400, "invalid_request").await;
    plane.bad("GET /api/spend", &["?group_by=moon"], None, 400, "invalid_request").await;
}

async fn instances(plane: &Plane) {
    let listed = plane.good("GET /api/instances", &[], None).await;
    assert_eq!(listed["data"][0]["state"], "live", "{listed}");
    let release = "POST /api/instances/{id}/release";
    plane.bad(release, &[id(&listed["data"][0])], None, 409, "instance_alive").await;
    plane.bad(release, &["none"], None, 404, "not_found").await;
    let store = &plane.app.house.store;
    let gone = store
        .instance_register(InstanceId::generate(), Run::at(PlaceId::generate()), Claim::Sole)
        .await
        .expect("registered")
        .holder;
    store.instance_stop(gone).await.expect("stopped");
    let done = plane.good(release, &[&gone.instance.to_string()], None).await;
    assert_eq!((&done["counters"], &done["released_micro_usd"]), (&0.into(), &0.into()));
    let listed = plane.good("GET /api/instances", &[], None).await;
    assert!(listed["data"].as_array().expect("rows").iter().any(|each| each["state"] == "stopped"));
}

#[test]
fn the_list_of_routes_in_the_docs_is_the_route_table() {
    let text = document().to_json().expect("a document");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let summary = operation["summary"].as_str().expect("a summary").to_owned();
            routes.insert((format!("{} {path}", method.to_uppercase()), summary));
        }
    }
    let summaries: BTreeMap<_, _> = routes.into_iter().collect();
    let wanted: Vec<String> = matrix()
        .into_iter()
        .map(|(route, shut)| {
            let roles: Vec<_> = ROLES.into_iter().filter(|role| shut[role] == 0).collect();
            let who = match (shut["nobody"], roles.len()) {
                (0, _) => "anybody".to_owned(),
                (_, 0) => "a service token".to_owned(),
                (_, 4) => "any session".to_owned(),
                _ => roles.join(", "),
            };
            format!("| `{route}` | {who} | {} |", summaries[route])
        })
        .collect();
    assert_eq!(wanted.len(), summaries.len());
    let is_route =
        |line: &&str| line.starts_with("| `") && [" /api/", " /v1/"].iter().any(|path| line.contains(path));
    let written: Vec<&str> = API_DESIGN.lines().filter(is_route).collect();
    assert_eq!(written, wanted, "write this list to `docs/api-design.md`:\n{}", wanted.join("\n"));
}
