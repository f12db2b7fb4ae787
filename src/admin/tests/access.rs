//! What is described is what is served, and walls between tenants. Who gets past which guard stands in
//! `tests/it/routes.matrix`.

use std::collections::BTreeSet;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use super::harness::{CANARY, House, usage};
use crate::{
    admin::{document, routes::table},
    domain::Role,
};

#[tokio::test]
async fn every_route_is_described_and_every_description_is_a_route() {
    let house = House::new().await;
    let served = house.send("GET", "/api/openapi.json", None, None).await.expect(200);
    let mut described = BTreeSet::new();
    for (path, operations) in served["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let routes: BTreeSet<_> =
        table().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(described, routes);
    let text = document().to_json().expect("a document");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let schemas = value["components"]["schemas"].as_object().expect("schemas");
    for reference in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains_key(reference), "{reference}");
    }
}

#[tokio::test]
async fn a_tenant_sees_and_touches_nothing_of_another() {
    let house = House::new().await;
    let (a, b) = (house.tenant("a").await, house.tenant("b").await);
    let with = |mut body: Value| {
        body["tenant_id"] = a.to_string().into();
        body
    };
    let key = house.post("/api/virtual-keys", with(json!({"name": "a-key"}))).await.expect(201);
    let provider = house
        .post("/api/keys", with(json!({"provider": "openai", "key_name": "a-pk", "api_key": CANARY})))
        .await
        .expect(201);
    let alias =
        house.post("/api/aliases", with(json!({"name": "a-alias", "models": ["x/y"]}))).await.expect(201);
    let (user, _) = house.user(Role::Finance, a).await;
    let text = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    let key_id = text(&key).parse().expect("an id");
    let record = usage(a, key_id, "openai/x", "2026-11-20", Some(5));
    house.record(std::slice::from_ref(&record)).await;
    let head = house.control.store.audit_head().await.expect("a head");

    let (_, admin) = house.user(Role::TenantAdmin, b).await;
    let (_, finance) = house.user(Role::Finance, b).await;
    let (_, auditor) = house.user(Role::Auditor, b).await;
    let as_b = async |method: &str, path: &str, body: Option<Value>| {
        house.send(method, path, Some(&admin), body).await
    };
    for (path, change) in [
        (format!("/api/virtual-keys/{}", text(&key)), json!({"name": "x"})),
        (format!("/api/keys/{}", text(&provider)), json!({"weight": 5})),
        (format!("/api/aliases/{}", text(&alias)), json!({"models": ["x/y"]})),
        (format!("/api/users/{user}"), json!({"role": "auditor"})),
    ] {
        as_b("GET", &path, None).await.refused(404, "not_found");
        as_b("PATCH", &path, Some(change)).await.refused(404, "not_found");
        as_b("DELETE", &path, None).await.refused(404, "not_found");
        house.get(&path).await.expect(200);
    }
    for action in ["rotate", "revoke"] {
        as_b("POST", &format!("/api/virtual-keys/{}/{action}", text(&key)), None)
            .await
            .refused(404, "not_found");
    }
    as_b("GET", &format!("/api/tenants/{a}"), None).await.refused(404, "not_found");
    as_b("GET", &format!("/api/usage/{}/explain", record.request_id), None).await.refused(404, "not_found");
    for path in ["/api/keys", "/api/virtual-keys", "/api/aliases", "/api/users", "/api/usage", "/api/spend"] {
        as_b("GET", &format!("{path}?tenant_id={a}"), None).await.refused(404, "not_found");
    }
    as_b("GET", &format!("/api/usage?virtual_key_id={}", text(&key)), None).await.refused(404, "not_found");
    for (path, body) in [
        ("/api/virtual-keys", json!({"name": "x"})),
        ("/api/keys", json!({"provider": "openai", "key_name": "x", "api_key": "x"})),
        ("/api/aliases", json!({"name": "x", "models": ["x/y"]})),
    ] {
        as_b("POST", path, Some(with(body))).await.refused(404, "not_found");
    }

    for path in ["/api/virtual-keys", "/api/aliases", "/api/usage"] {
        assert_eq!(as_b("GET", path, None).await.expect(200)["data"], json!([]), "{path}");
    }
    assert_eq!(as_b("GET", "/api/keys", None).await.expect(200), json!([]));
    let tenants = as_b("GET", "/api/tenants", None).await.expect(200);
    assert_eq!(
        (tenants["data"].as_array().map(Vec::len), &tenants["data"][0]["name"]),
        (Some(1), &json!("b"))
    );
    let users = as_b("GET", "/api/users", None).await.expect(200);
    assert_eq!(users["data"].as_array().map(Vec::len), Some(3));
    let spend = house.send("GET", "/api/spend?group_by=tenant", Some(&finance), None).await.expect(200);
    assert_eq!((&spend["data"], &spend["total"]["requests"]), (&json!([]), &json!(0)));
    let log = house.send("GET", "/api/v1/audit", Some(&auditor), None).await;
    assert!(!log.text.contains(&a.to_string()) && !log.text.contains("a-key"));
    assert!(
        log.expect(200)["data"]
            .as_array()
            .expect("entries")
            .iter()
            .all(|entry| entry["seq"].as_i64() > Some(head.seq) || entry["tenant_id"] == b.to_string())
    );
    assert_eq!(house.get(&format!("/api/spend?tenant_id={a}")).await.expect(200)["total"]["requests"], 1);

    // What it makes without naming a tenant is its own.
    let own = as_b("POST", "/api/virtual-keys", Some(json!({"name": "mine"}))).await.expect(201);
    assert_eq!(own["tenant_id"], b.to_string());
}

#[tokio::test]
async fn strange_hosts_paths_types_and_sizes_are_refused_in_one_shape() {
    let house = House::new().await;
    let plain = |host: &str, uri: &str| {
        Request::builder().uri(uri).header("host", host).body(Body::empty()).expect("a request")
    };
    house.raw(plain("evil.example", "/api/keys")).await.refused(421, "misdirected_request");
    house.raw(plain("127.0.0.1@evil.example", "/api/keys")).await.refused(421, "misdirected_request");
    house
        .raw(Request::builder().uri("/api/keys").body(Body::empty()).expect("a request"))
        .await
        .refused(421, "misdirected_request");
    house.raw(plain("admin.example", "/api/keys")).await.refused(401, "unauthorized");
    for path in ["//api/keys", "/api/./keys", "/api/x/../keys", "/api/%6beys", "/api/keys;x"] {
        house.raw(plain("localhost", path)).await.refused(400, "invalid_path");
    }
    house.raw(plain("localhost", "/api/nothing")).await.refused(404, "unknown_path");
    house.raw(plain("localhost", "/api/keys/")).await.refused(404, "unknown_path");
    house.send("PUT", "/api/keys", Some(&house.owner), None).await.refused(405, "method_not_allowed");

    let post = |kind: &str, body: String| {
        Request::builder()
            .method("POST")
            .uri("/api/virtual-keys")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", house.owner))
            .header("content-type", kind)
            .body(Body::from(body))
            .expect("a request")
    };
    house.raw(post("text/plain", r#"{"name":"x"}"#.into())).await.refused(415, "unsupported_media_type");
    house.raw(post("application/json", "{".into())).await.refused(400, "invalid_json");
    house
        .raw(post("application/json", r#"{"name":"x","name":"y"}"#.into()))
        .await
        .refused(400, "invalid_request");
    house.raw(post("application/json", "x".repeat(300_000))).await.refused(413, "request_too_large");
    house.raw(post("application/json; charset=utf-8", r#"{"name":"x"}"#.into())).await.expect(201);
    let long = json!({"email": "x".repeat(9_000), "password": "x"});
    house.send("POST", "/api/auth/login", None, Some(long)).await.refused(413, "request_too_large");

    let site = [("origin", "https://evil.example")];
    let body = Some(json!({"name": "x"}));
    house
        .send_with("POST", "/api/virtual-keys", Some(&house.owner), body.clone(), &site)
        .await
        .refused(403, "cross_site_request");
    let site = [("origin", "http://127.0.0.1:8081")];
    house.send_with("POST", "/api/virtual-keys", Some(&house.owner), body, &site).await.expect(201);
    let twice = [("authorization", "Bearer x")];
    house
        .send_with("GET", "/api/keys", Some(&house.owner), None, &twice)
        .await
        .refused(400, "invalid_authorization");
}
