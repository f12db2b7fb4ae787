//! Virtual keys, tenants and aliases.

use serde_json::{Value, json};

use super::harness::{CANARY, House, usage};
use crate::{
    control::{ControlError, NewVirtualKey},
    domain::{Actor, Role},
};

#[tokio::test]
async fn a_key_is_shown_once_and_its_figures_ever_after() {
    let house = House::new().await;
    let made = house
        .post(
            "/api/virtual-keys",
            json!({"name": "app", "spend_cap_micro_usd": 0, "spend_window": "daily", "tags": {"team": "a"},
                   "models_allowed": ["openai/*"], "fallback_models": ["openai/gpt-5.4-mini"], "expires_in_days": 1}),
        )
        .await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.expect(201);
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    assert!(crate::vault::token::well_formed(key));
    assert!(key.starts_with(made["key_prefix"].as_str().expect("a prefix")));

    let one = house.get(&format!("/api/virtual-keys/{id}")).await;
    assert!(!one.text.contains(key));
    let one = one.expect(200);
    assert!(one.get("key").is_none());
    for (name, value) in [
        ("spent_micro_usd", json!(0)),
        ("reserved_micro_usd", json!(0)),
        ("remaining_micro_usd", json!(0)),
        ("window_resets_at", json!("2026-11-22T00:00:00.000Z")),
        ("expires_at", json!("2026-11-22T12:00:00.000Z")),
        ("state", json!("active")),
        ("tags", json!({"team": "a"})),
        ("cap_mode", json!("hard")),
        ("rate_limit_rpm", Value::Null),
    ] {
        assert_eq!(one[name], value, "{name}");
    }
    house.pass(86_400);
    assert_eq!(house.get(&format!("/api/virtual-keys/{id}")).await.expect(200)["state"], "expired");
    let told = house.told.lock().expect("not poisoned").clone();
    assert_eq!(told.last(), Some(&Some(house.default_tenant)));
}

#[tokio::test]
async fn absent_keeps_null_clears_and_unknown_members_are_refused() {
    let house = House::new().await;
    let made = house
        .post(
            "/api/virtual-keys",
            json!({"name": "k", "models_allowed": [], "spend_cap_micro_usd": 5, "rate_limit_rpm": 9}),
        )
        .await
        .expect(201);
    assert_eq!((&made["models_allowed"], &made["remaining_micro_usd"]), (&json!([]), &json!(5)));
    let path = format!("/api/virtual-keys/{}", made["id"].as_str().expect("an id"));
    let kept = house.patch(&path, json!({"name": "k2"})).await.expect(200);
    assert_eq!(
        (&kept["name"], &kept["rate_limit_rpm"], &kept["models_allowed"]),
        (&json!("k2"), &json!(9), &json!([]))
    );
    let cleared = house
        .patch(&path, json!({"models_allowed": null, "spend_cap_micro_usd": null, "rate_limit_rpm": null}))
        .await
        .expect(200);
    for name in ["models_allowed", "spend_cap_micro_usd", "rate_limit_rpm", "remaining_micro_usd"] {
        assert_eq!(cleared[name], Value::Null, "{name}");
    }
    for body in [
        json!({"budget": 5}),
        json!({"tenant_id": "tnt_x"}),
        json!({"name": null}),
        json!({"name": ""}),
        json!({"spend_cap_micro_usd": -1}),
        json!({"spend_cap_micro_usd": 1.5}),
        json!({"spend_cap_micro_usd": i64::MAX}),
        json!({"spend_cap_micro_usd": "5"}),
        json!({"spend_window": "yearly"}),
        json!({"cap_mode": "firm"}),
        json!({"rate_limit_rpm": 0}),
        json!({"max_parallel": 4_294_967_296_i64}),
        json!({"models_allowed": ["openai/gpt-*"]}),
        json!({"models_allowed": "openai/*"}),
        json!({"fallback_models": ["a b"]}),
        json!({"tags": {"a b": "x"}}),
        json!({"tags": {"a": 1}}),
        json!({"tags": {"a": "x\ny"}}),
        json!({"expires_in_days": 0}),
        json!([]),
    ] {
        let refused = house.patch(&path, body.clone()).await;
        assert_eq!(refused.status.as_u16(), 400, "{body}: {}", refused.text);
    }
}

#[tokio::test]
async fn rotation_keeps_the_id_and_revocation_is_for_good() {
    let house = House::new().await;
    let made = house.post("/api/virtual-keys", json!({"name": "k"})).await.expect(201);
    let path = format!("/api/virtual-keys/{}", made["id"].as_str().expect("an id"));
    let rotated = house.send("POST", &format!("{path}/rotate"), Some(&house.owner), None).await.expect(200);
    assert_eq!(rotated["id"], made["id"]);
    assert_ne!(rotated["key"], made["key"]);
    let digest = |key: &Value| house.control.pepper.digest(key.as_str().expect("a key"));
    let live = async |key: &Value| {
        let row = house.control.store.key_by_digest(&digest(key)).await.expect("read");
        row.is_some_and(|row| row.secret_expires_at.is_none_or(|end| end > house.clock.now()))
    };
    assert!(!live(&made["key"]).await && live(&rotated["key"]).await);

    let graceful = house.post(&format!("{path}/rotate"), json!({"grace_seconds": 60})).await.expect(200);
    assert!(live(&rotated["key"]).await && live(&graceful["key"]).await);
    let prefix = graceful["key_prefix"].clone();
    assert_eq!(house.get(&path).await.expect(200)["key_prefix"], prefix);
    house.pass(61);
    assert!(!live(&rotated["key"]).await);
    house.post(&format!("{path}/rotate"), json!({"grace_seconds": -1})).await.refused(400, "invalid_request");

    let revoked = house.send("POST", &format!("{path}/revoke"), Some(&house.owner), None).await.expect(200);
    assert_eq!(revoked["state"], "revoked");
    house.post(&format!("{path}/rotate"), json!({})).await.refused(409, "conflict");
    assert_eq!(house.delete(&path).await.status.as_u16(), 204);
    house.get(&path).await.refused(404, "not_found");
    assert_eq!(house.get("/api/virtual-keys").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn an_alias_in_an_allow_list_is_refused_and_aliases_name_real_models() {
    let house = House::new().await;
    let alias = house
        .post("/api/aliases", json!({"name": "fast", "models": ["openai/gpt-5.4-mini", "groq/x"]}))
        .await
        .expect(201);
    let refused = house.post("/api/virtual-keys", json!({"name": "k", "models_allowed": ["fast"]})).await;
    refused.refused(400, "alias_in_allow_list");
    for models in [json!(["fast"]), json!([]), json!(["openai/*"])] {
        let refused = house.post("/api/aliases", json!({"name": "chain", "models": models})).await;
        assert_eq!(refused.status.as_u16(), 400, "{}", refused.text);
    }
    house
        .post("/api/aliases", json!({"name": "openai/gpt", "models": ["a/b"]}))
        .await
        .refused(400, "invalid_model");
    house.post("/api/aliases", json!({"name": "fast", "models": ["a/b"]})).await.refused(409, "conflict");
    let path = format!("/api/aliases/{}", alias["id"].as_str().expect("an id"));
    assert_eq!(house.patch(&path, json!({"models": ["a/b"]})).await.expect(200)["models"], json!(["a/b"]));
    assert_eq!(house.get("/api/aliases").await.expect(200)["data"][0]["name"], "fast");
    assert_eq!(house.delete(&path).await.status.as_u16(), 204);
}

#[tokio::test]
async fn the_same_create_under_one_idempotency_key_is_done_once() {
    let house = House::new().await;
    let create = async |body: Value, key: &str| {
        let headers = [("idempotency-key", key)];
        house.send_with("POST", "/api/virtual-keys", Some(&house.owner), Some(body), &headers).await
    };
    let first = create(json!({"name": "k", "tags": {"a": "b"}}), "one").await.expect(201);
    let again = create(json!({"tags": {"a": "b"}, "name": "k"}), "one").await.expect(201);
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again["key"], Value::Null);
    create(json!({"name": "other"}), "one").await.refused(422, "idempotency_mismatch");
    assert_ne!(create(json!({"name": "k"}), "two").await.expect(201)["id"], first["id"]);
    assert_eq!(house.get("/api/virtual-keys").await.expect(200)["data"].as_array().map(Vec::len), Some(2));
    create(json!({"name": "k"}), &"x".repeat(256)).await.refused(400, "invalid_request");
}

#[tokio::test]
async fn tenants_have_limits_and_default_stays() {
    let house = House::new().await;
    let made = house
        .post("/api/tenants", json!({"name": "acme", "spend_cap_micro_usd": 7, "spend_window": "weekly"}))
        .await
        .expect(201);
    assert_eq!(
        (&made["remaining_micro_usd"], &made["window_resets_at"]),
        (&json!(7), &json!("2026-11-23T00:00:00.000Z"))
    );
    house.post("/api/tenants", json!({"name": "acme"})).await.refused(409, "conflict");
    house.post("/api/tenants", json!({"name": "default"})).await.refused(409, "conflict");
    let default = format!("/api/tenants/{}", house.default_tenant);
    house.delete(&default).await.refused(409, "conflict");
    house.patch(&default, json!({"name": "x"})).await.refused(409, "conflict");
    assert_eq!(house.patch(&default, json!({"max_parallel": 3})).await.expect(200)["max_parallel"], 3);

    let id = made["id"].as_str().expect("an id");
    let key = house.post("/api/virtual-keys", json!({"name": "k", "tenant_id": id})).await.expect(201);
    assert_eq!(house.delete(&format!("/api/tenants/{id}")).await.status.as_u16(), 204);
    house
        .get(&format!("/api/virtual-keys/{}", key["id"].as_str().expect("an id")))
        .await
        .refused(404, "not_found");
    house.get(&format!("/api/tenants/{id}")).await.refused(404, "not_found");
    house.post("/api/virtual-keys", json!({"name": "k", "tenant_id": id})).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_deleted_tenant_is_dead_everywhere() {
    let house = House::new().await;
    let tenant = house.tenant("acme").await;
    let with = |mut body: Value| {
        body["tenant_id"] = tenant.to_string().into();
        body
    };
    let (user, admin) = house.user(Role::TenantAdmin, tenant).await;
    let key = house.post("/api/virtual-keys", with(json!({"name": "k"}))).await.expect(201);
    let body = with(json!({"provider": "openai", "key_name": "k", "api_key": CANARY}));
    let provider = house.post("/api/keys", body).await.expect(201);
    let body = with(json!({"name": "fast", "models": ["openai/gpt-5.4-mini"]}));
    let alias = house.post("/api/aliases", body).await.expect(201);
    let key_id = key["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    house.record(&[usage(tenant, key_id, "openai/x", "2026-11-20", Some(5_000))]).await;
    let sealed = house.control.store.sealed_rows().await.expect("rows").len();
    assert_eq!(house.delete(&format!("/api/tenants/{tenant}")).await.status.as_u16(), 204);

    assert_eq!(house.control.store.sealed_rows().await.expect("rows").len(), sealed - 1);
    house.send("GET", "/api/auth/session", Some(&admin), None).await.refused(401, "unauthorized");
    let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    for (path, change) in [
        (format!("/api/users/{user}"), json!({"is_active": true})),
        (format!("/api/virtual-keys/{}", id(&key)), json!({"name": "x"})),
        (format!("/api/keys/{}", id(&provider)), json!({"is_active": true})),
        (format!("/api/aliases/{}", id(&alias)), json!({"name": "x"})),
    ] {
        house.get(&path).await.refused(404, "not_found");
        house.patch(&path, change).await.refused(404, "not_found");
        house.delete(&path).await.refused(404, "not_found");
    }
    for path in ["/api/virtual-keys", "/api/aliases", "/api/users", "/api/keys"] {
        assert!(!house.get(path).await.text.contains(&tenant.to_string()), "{path}");
    }
    let spend = house.get("/api/spend?group_by=tenant").await.expect(200);
    assert_eq!(spend["data"][0]["tenant_id"], tenant.to_string(), "what was spent stays");

    // A session that was looked at just before makes nothing in it either.
    let actor =
        Actor::User { id: user.parse().expect("an id"), role: Role::TenantAdmin, tenant, request: None };
    let asked = NewVirtualKey { name: "late".into(), ..NewVirtualKey::default() };
    let late = house.control.virtual_key_create(&actor, asked, None).await;
    assert!(matches!(late, Err(ControlError::NotFound("tenant"))), "{late:?}");
}

#[tokio::test]
async fn deleting_a_tenant_leaves_an_owner() {
    let house = House::new().await;
    let (home, other) = (house.tenant("home").await, house.tenant("other").await);
    let (_, owner) = house.user(Role::Owner, home).await;
    let refused = house.send("DELETE", &format!("/api/tenants/{home}"), Some(&owner), None).await;
    refused.refused(403, "forbidden");
    let root = house.control.store.user_with_email("root@example.com").await.expect("read").expect("a user");
    let root = format!("/api/users/{}", root.id);
    assert_eq!(house.send("DELETE", &root, Some(&owner), None).await.status.as_u16(), 204);
    let refused = house.control.tenant_delete(&Actor::Cli, &home.to_string()).await;
    assert!(matches!(refused, Err(ControlError::Conflict(_))), "{refused:?}");
    house.send("GET", "/api/auth/session", Some(&owner), None).await.expect(200);
    let gone = house.send("DELETE", &format!("/api/tenants/{other}"), Some(&owner), None).await;
    assert_eq!(gone.status.as_u16(), 204);
}

#[tokio::test]
async fn lists_page_by_cursor() {
    let house = House::new().await;
    for number in 0..5 {
        house.post("/api/virtual-keys", json!({"name": format!("k{number}")})).await.expect(201);
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = house.get(&format!("/api/virtual-keys?limit=2{cursor}")).await.expect(200);
        names.extend(page["data"].as_array().expect("rows").iter().map(|key| key["name"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["k0", "k1", "k2", "k3", "k4"]);
    for bad in ["limit=0", "limit=x", "limit=-1", "cursor=%25", "cursor=!!", "page=1", "limit=1&limit=2"] {
        let refused = house.get(&format!("/api/virtual-keys?{bad}")).await;
        assert_eq!(refused.status.as_u16(), 400, "{bad}: {}", refused.text);
    }
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let house = House::new().await;
    let lists =
        ["/api/virtual-keys", "/api/aliases", "/api/users", "/api/tenants", "/api/usage", "/api/v1/audit"];
    for place in ["nowhere", "pk_00000000000000000000000000000000", "-1", "5.req_x", "5", ""] {
        let cursor = URL_SAFE_NO_PAD.encode(place);
        for path in lists {
            if (path, place) != ("/api/v1/audit", "5") {
                house.get(&format!("{path}?cursor={cursor}")).await.refused(400, "invalid_request");
            }
        }
    }
}

#[tokio::test]
async fn a_tag_that_stands_twice_is_refused() {
    use axum::{body::Body, http::Request};
    let house = House::new().await;
    let made = house.post("/api/virtual-keys", json!({"name": "k"})).await.expect(201);
    let one = format!("/api/virtual-keys/{}", made["id"].as_str().expect("an id"));
    let send = async |method: &str, path: &str, body: &'static str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", house.owner))
            .header("content-type", "application/json")
            .body(Body::from(body))
            .expect("a request");
        house.raw(request).await
    };
    let twice = r#"{"name":"k","tags":{"team":"a","team":"b"}}"#;
    send("POST", "/api/virtual-keys", twice).await.refused(400, "invalid_request");
    send("PATCH", &one, twice).await.refused(400, "invalid_request");
    let set = send("PATCH", &one, r#"{"tags":{"team":"a"}}"#).await.expect(200);
    assert_eq!(set["tags"], json!({"team": "a"}));
    assert_eq!(send("PATCH", &one, r#"{"name":"x"}"#).await.expect(200)["tags"], json!({"team": "a"}));
    assert_eq!(send("PATCH", &one, r#"{"tags":null}"#).await.expect(200)["tags"], json!({}));
    send("POST", "/api/virtual-keys", r#"{"name":"k","tags":null}"#).await.expect(201);
}
