//! Logging in, sessions, and who may make whom.

use serde_json::json;

use super::harness::{House, PASSWORD};
use crate::domain::Role;

#[tokio::test]
async fn a_login_opens_a_session_that_the_account_can_lose() {
    let house = House::new().await;
    let session = house
        .send(
            "POST",
            "/api/auth/login",
            None,
            Some(json!({"email": " ROOT@example.com ", "password": PASSWORD})),
        )
        .await
        .expect(200);
    assert_eq!(session["token"], session["access_token"]);
    assert_eq!((&session["token_type"], &session["expires_in"]), (&json!("bearer"), &json!(86_400)));
    let token = session["token"].as_str().expect("a token");
    let current = house.send("GET", "/api/auth/session", Some(token), None).await.expect(200);
    assert_eq!(current["role"], "owner");

    let tenant = house.default_tenant;
    let (id, other) = house.user(Role::TenantAdmin, tenant).await;
    house.send("GET", "/api/keys", Some(&other), None).await.expect(200);
    house.patch(&format!("/api/users/{id}"), json!({"role": "finance"})).await.expect(200);
    house.send("GET", "/api/keys", Some(&other), None).await.refused(401, "unauthorized");
    house.pass(86_400 + 10);
    house.send("GET", "/api/auth/session", Some(token), None).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn failed_logins_are_alike_and_soon_throttled() {
    let house = House::new().await;
    let login = async |email: &str, password: &str| {
        house.send("POST", "/api/auth/login", None, Some(json!({"email": email, "password": password}))).await
    };
    let wrong = login("root@example.com", "wrong password here").await;
    let unknown = login("nobody@example.com", "wrong password here").await;
    wrong.refused(401, "invalid_credentials");
    assert_eq!(wrong.text, unknown.text);
    for spelling in ["Root@example.com", " root@example.com", "ROOT@EXAMPLE.COM", "root@example.com "] {
        login(spelling, "wrong password here").await.refused(401, "invalid_credentials");
    }
    let shut = login("root@example.com", PASSWORD).await;
    shut.refused(429, "too_many_attempts");
    assert_eq!(shut.headers["retry-after"], "60");
    house.pass(61);
    login("root@example.com", PASSWORD).await.expect(200);
    let refusals = house.get("/api/v1/audit?action=session.refused").await.expect(200);
    assert_eq!(refusals["data"].as_array().map(Vec::len), Some(6));
    assert_eq!(refusals["data"][0]["outcome"], "refused");
}

#[tokio::test]
async fn a_stored_hash_is_no_password_and_weak_ones_are_refused() {
    let house = House::new().await;
    let (_, _) = house.user(Role::Finance, house.default_tenant).await;
    let user = house.control.store.user_with_email("root@example.com").await.expect("read").expect("a user");
    let asked = json!({"email": "root@example.com", "password": user.password_hash});
    house.send("POST", "/api/auth/login", None, Some(asked)).await.refused(401, "invalid_credentials");
    for password in ["short", "changeme1234", "aaaaaaaaaaaaaaaa"] {
        let asked = json!({"email": "x@example.com", "password": password, "role": "finance"});
        let refused = house.post("/api/users", asked).await;
        refused.refused(400, "invalid_password");
        assert!(!refused.text.contains(&format!("\"{password}\"")));
    }
    for body in [
        json!({"email": "x@example.com", "password": PASSWORD, "role": "king"}),
        json!({"email": "nobody", "password": PASSWORD, "role": "finance"}),
        json!({"email": "x@example.com", "password": PASSWORD, "role": "finance", "is_admin": true}),
        json!({"email": "x@example.com", "password": PASSWORD}),
    ] {
        house.post("/api/users", body).await.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn nobody_gives_more_than_they_have_or_changes_themselves() {
    let house = House::new().await;
    let tenant = house.tenant("acme").await;
    let (own, admin) = house.user(Role::TenantAdmin, tenant).await;
    let make = async |role: &str, tenant_id: Option<&str>| {
        let mut body = json!({"email": format!("{role}@acme.example"), "password": PASSWORD, "role": role});
        if let Some(tenant_id) = tenant_id {
            body["tenant_id"] = tenant_id.into();
        }
        house.send("POST", "/api/users", Some(&admin), Some(body)).await
    };
    make("owner", None).await.refused(403, "forbidden");
    make("finance", Some(&house.default_tenant.to_string())).await.refused(404, "not_found");
    let made = make("finance", None).await.expect(201);
    assert_eq!(made["tenant_id"], tenant.to_string());
    assert!(made.get("password_hash").is_none());
    make("finance", None).await.refused(409, "conflict");

    let itself = format!("/api/users/{own}");
    let change = async |body| house.send("PATCH", &itself, Some(&admin), Some(body)).await;
    change(json!({"role": "owner"})).await.refused(403, "forbidden");
    change(json!({"role": "tenant_admin"})).await.refused(403, "forbidden");
    change(json!({"tenant_id": "x"})).await.refused(400, "invalid_request");
    house.send("DELETE", &itself, Some(&admin), None).await.refused(403, "forbidden");
    change(json!({"password": "another long passphrase"})).await.expect(200);

    let users = house.get("/api/users").await.expect(200);
    let root =
        users["data"].as_array().expect("users").iter().find(|user| user["role"] == "owner").expect("one");
    let root = format!("/api/users/{}", root["id"].as_str().expect("an id"));
    let (_, second) = house.user(Role::TenantAdmin, house.default_tenant).await;
    house
        .send("PATCH", &root, Some(&second), Some(json!({"is_active": false})))
        .await
        .refused(403, "forbidden");
    house.send("DELETE", &root, Some(&second), None).await.refused(403, "forbidden");
}

#[tokio::test]
async fn the_last_owner_stays() {
    let house = House::new().await;
    let (id, other) = house.user(Role::Owner, house.default_tenant).await;
    let users = house.get("/api/users?limit=1").await.expect(200);
    let root = format!("/api/users/{}", users["data"][0]["id"].as_str().expect("an id"));
    assert_eq!(house.send("DELETE", &root, Some(&other), None).await.status.as_u16(), 204);
    house
        .send("PATCH", &format!("/api/users/{id}"), Some(&other), Some(json!({"role": "finance"})))
        .await
        .refused(403, "forbidden");
    let cli = crate::domain::Actor::Cli;
    let refused = house.control.user_delete(&cli, &id).await.expect_err("the last one");
    assert!(refused.to_string().contains("last active owner"));
}
