//! Service tokens: made, listed, switched, rotated, deleted; and what they do not open.

use serde_json::{Value, json};

use super::harness::{CANARY, House};
use crate::{
    admin::{auth::Access, routes::table},
    domain::Role,
    vault::{service_token, token},
};

#[tokio::test]
async fn a_token_is_shown_once_and_its_metadata_ever_after() {
    let house = House::new().await;
    let made = house.post("/api/service-tokens", json!({"service_name": "indexer"})).await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.expect(201);
    let (id, text) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    assert!(id.starts_with("st_") && service_token::well_formed(text) && !token::well_formed(text));
    assert!(text.starts_with(made["token_prefix"].as_str().expect("a prefix")));
    for (name, value) in [
        ("service_name", json!("indexer")),
        ("tenant_id", json!(house.default_tenant.to_string())),
        ("is_active", json!(true)),
        ("last_used_at", Value::Null),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    let mut metadata = made.clone();
    metadata.as_object_mut().expect("an object").remove("token");
    let list = house.get("/api/service-tokens").await.expect(200);
    assert_eq!(list, json!({"data": [metadata], "next_cursor": null}));
    let path = format!("/api/service-tokens/{id}");
    assert_eq!(house.get(&path).await.expect(200), metadata);

    let off = house.patch(&path, json!({"is_active": false})).await.expect(200);
    assert_eq!((&off["is_active"], off.get("token")), (&json!(false), None));
    assert_eq!(house.patch(&path, json!({"is_active": true})).await.expect(200)["is_active"], true);
    let rotated = house.post(&format!("{path}/rotate"), json!({"grace_seconds": 60})).await;
    assert_eq!(rotated.headers["cache-control"], "no-store");
    let rotated = rotated.expect(200);
    assert_eq!(rotated["id"], id);
    assert_ne!((&rotated["token"], &rotated["token_prefix"]), (&made["token"], &made["token_prefix"]));
    let renewed = rotated["token"].as_str().expect("a token");
    assert!(renewed.starts_with(house.get(&path).await.expect(200)["token_prefix"].as_str().expect("one")));
    assert_eq!(house.delete(&path).await.status.as_u16(), 204);
    house.get(&path).await.refused(404, "not_found");
    house.delete(&path).await.refused(404, "not_found");

    let log = house.get("/api/v1/audit?category=secret_management").await;
    assert!(!log.text.contains(text) && !log.text.contains(renewed));
    let log = log.expect(200);
    let actions: Vec<_> =
        log["data"].as_array().expect("entries").iter().map(|e| e["action"].clone()).collect();
    let updated = "service_token.updated";
    let wanted =
        ["service_token.deleted", "service_token.rotated", updated, updated, "service_token.created"];
    assert_eq!(actions, wanted);
    assert!(log["data"].as_array().expect("entries").iter().all(|entry| entry["object"] == id));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let house = House::new().await;
    for body in [
        json!({}),
        json!({"service_name": " "}),
        json!({"service_name": null}),
        json!({"service_name": "x".repeat(129)}),
        json!({"service_name": "x", "token": "kst_x"}),
        json!({"service_name": "x", "is_active": true}),
    ] {
        house.post("/api/service-tokens", body).await.refused(400, "invalid_request");
    }
    let unknown = json!({"service_name": "x", "tenant_id": "tnt_none"});
    house.post("/api/service-tokens", unknown).await.refused(404, "not_found");
    let made = house.post("/api/service-tokens", json!({"service_name": "x"})).await.expect(201);
    let path = format!("/api/service-tokens/{}", made["id"].as_str().expect("an id"));
    for body in [
        json!({"is_active": null}),
        json!({"is_active": "no"}),
        json!({"is_active": true, "service_name": "y"}),
    ] {
        house.patch(&path, body).await.refused(400, "invalid_request");
    }
    assert_eq!(house.patch(&path, json!({})).await.expect(200)["is_active"], true, "what is left out stays");
    for grace in [json!(-1), json!(30 * 24 * 3600 + 1), json!("1")] {
        let body = json!({"grace_seconds": grace});
        house.post(&format!("{path}/rotate"), body).await.refused(400, "invalid_request");
    }
    house.get("/api/service-tokens?cursor=!").await.refused(400, "invalid_request");
    house.get("/api/service-tokens?fields=token").await.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_create_that_is_sent_twice_makes_one_token_and_shows_it_once() {
    let house = House::new().await;
    let again = [("idempotency-key", "once")];
    let send = async |name: &str| {
        let body = Some(json!({"service_name": name}));
        house.send_with("POST", "/api/service-tokens", Some(&house.owner), body, &again).await
    };
    let first = send("indexer").await.expect(201);
    let second = send("indexer").await.expect(201);
    assert_eq!((&second["id"], &second["token"]), (&first["id"], &Value::Null));
    send("another").await.refused(422, "idempotency_mismatch");
}

#[tokio::test]
async fn tokens_of_another_tenant_are_as_if_they_were_not_there() {
    let house = House::new().await;
    let (a, b) = (house.tenant("a").await, house.tenant("b").await);
    let of_a = json!({"service_name": "x", "tenant_id": a.to_string()});
    let made = house.post("/api/service-tokens", of_a.clone()).await.expect(201);
    let path = format!("/api/service-tokens/{}", made["id"].as_str().expect("an id"));
    let (_, admin) = house.user(Role::TenantAdmin, b).await;
    let as_b = async |method: &str, path: &str, body: Option<Value>| {
        house.send(method, path, Some(&admin), body).await
    };
    as_b("GET", &path, None).await.refused(404, "not_found");
    as_b("PATCH", &path, Some(json!({"is_active": false}))).await.refused(404, "not_found");
    as_b("POST", &format!("{path}/rotate"), None).await.refused(404, "not_found");
    as_b("DELETE", &path, None).await.refused(404, "not_found");
    as_b("POST", "/api/service-tokens", Some(of_a)).await.refused(404, "not_found");
    as_b("GET", &format!("/api/service-tokens?tenant_id={a}"), None).await.refused(404, "not_found");
    let list = as_b("GET", "/api/service-tokens", None).await.expect(200);
    assert_eq!(list["data"], json!([]));
    let own = as_b("POST", "/api/service-tokens", Some(json!({"service_name": "own"}))).await.expect(201);
    assert_eq!(own["tenant_id"], b.to_string());

    // A tenant's tokens go with it.
    let text = made["token"].as_str().expect("a token");
    assert_eq!(house.delete(&format!("/api/tenants/{a}")).await.status.as_u16(), 204);
    house.retrieve("openai", &[("x-service-token", text)]).await.refused(401, "unauthorized");
    house.get(&path).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_service_token_opens_nothing_else() {
    let house = House::new().await;
    let service = house.service("indexer", house.default_tenant).await;
    let body = json!({"provider": "openai", "key_name": "k", "api_key": CANARY, "retrievable": true});
    house.post("/api/keys", body).await.expect(201);
    for route in table() {
        let path = route.path.replace("{provider}", "openai").replace(['{', '}'], "");
        let (method, body) = (route.method.as_str(), Some(json!({})));
        let as_bearer = house.send(method, &path, Some(&service), body.clone()).await;
        let header = [("x-service-token", service.as_str())];
        if route.access == Access::Service {
            as_bearer.refused(401, "unauthorized");
            continue;
        }
        let alone = house.send_with(method, &path, None, body.clone(), &header).await;
        let beside = house.send_with(method, &path, Some(&house.owner), body, &header).await;
        if route.access == Access::Anyone {
            assert_eq!(alone.text, as_bearer.text, "{}", route.path);
            continue;
        }
        as_bearer.refused(401, "unauthorized");
        alone.refused(401, "unauthorized");
        beside.refused(400, "invalid_authorization");
    }
}
