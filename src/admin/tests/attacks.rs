//! Attacks on who one is: making oneself more, giving more than one has, guessing passwords.

use axum::{http::Request, response::IntoResponse};
use serde_json::{Value, json};

use super::harness::{House, PASSWORD};
use crate::{
    admin::AdminError,
    config::SecretText,
    domain::{Actor, Role},
};

async fn login(house: &House, email: &str, password: &str) -> super::harness::Answer {
    let asked = json!({"email": email, "password": password});
    house.send("POST", "/api/auth/login", None, Some(asked)).await
}

#[tokio::test]
async fn at_070_nobody_makes_themselves_more() {
    let house = House::new().await;
    let tenant = house.tenant("acme").await;
    let other = house.default_tenant.to_string();
    let payloads = [
        json!({"role": "owner"}),
        json!({"role": "tenant_admin"}),
        json!({"role": ["owner"]}),
        json!({"role": {"name": "owner"}}),
        json!({"role": "Owner"}),
        json!({"role": null}),
        json!({"is_active": true}),
        json!({"tenant_id": other}),
        json!({"org_id": other}),
        json!({"is_admin": true}),
        json!({"permissions": ["*"]}),
        json!({"session_version": 9}),
        json!({"password_hash": "$argon2id$"}),
        json!({"email": "root@example.com"}),
        json!({"id": "usr_00000000000000000000000000000000"}),
        json!({"user": {"role": "owner"}}),
        json!({"spend_cap_micro_usd": null, "models_allowed": null}),
        json!([{"role": "owner"}]),
        json!([]),
        json!("owner"),
        json!(null),
        json!({"password": "another long passphrase", "role": "owner"}),
        json!({"password": "another long passphrase", "tenant_id": other}),
    ];
    for role in [Role::TenantAdmin, Role::Finance, Role::Auditor] {
        let (id, token) = house.user(role, tenant).await;
        let path = format!("/api/users/{id}");
        let before = house.get(&path).await.expect(200);
        for body in &payloads {
            for (method, path) in
                [("PATCH", path.as_str()), ("POST", "/api/auth/password"), ("POST", "/api/users")]
            {
                let answer = house.send(method, path, Some(&token), Some(body.clone())).await;
                let status = answer.status.as_u16();
                assert!(matches!(status, 400 | 403), "{method} {path} {body}: {status} {}", answer.text);
            }
        }
        // Twice in one body, the second time with what one is not.
        let twice = r#"{"password":"another long passphrase","role":"auditor","role":"owner"}"#;
        let request = Request::builder()
            .method("PATCH")
            .uri(&path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(twice.into())
            .expect("a request");
        assert!(matches!(house.raw(request).await.status.as_u16(), 400 | 403));
        assert_eq!(house.get(&path).await.expect(200), before, "{role:?}");
        house.send("GET", "/api/auth/session", Some(&token), None).await.expect(200);
    }
}

#[tokio::test]
async fn at_071_nobody_gives_more_than_they_have() {
    let house = House::new().await;
    let tenant = house.tenant("acme").await;
    let (_, admin) = house.user(Role::TenantAdmin, tenant).await;
    let (finance, finances) = house.user(Role::Finance, tenant).await;
    let (owner, _) = house.user(Role::Owner, tenant).await;
    let as_admin = async |method: &str, path: &str, body: Value| {
        house.send(method, path, Some(&admin), Some(body)).await
    };
    let user = |role: &str| json!({"email": "new@acme.example", "password": PASSWORD, "role": role});
    as_admin("POST", "/api/users", user("owner")).await.refused(403, "forbidden");
    let elsewhere = json!({"email": "new@acme.example", "password": PASSWORD, "role": "finance",
        "tenant_id": house.default_tenant.to_string()});
    as_admin("POST", "/api/users", elsewhere).await.refused(404, "not_found");
    as_admin("PATCH", &format!("/api/users/{finance}"), json!({"role": "owner"}))
        .await
        .refused(403, "forbidden");
    // Whoever could set an owner's password would be one.
    for change in [
        json!({"password": "another long passphrase"}),
        json!({"role": "finance"}),
        json!({"is_active": false}),
    ] {
        as_admin("PATCH", &format!("/api/users/{owner}"), change).await.refused(403, "forbidden");
    }
    // A tenant's own limits and the prices are the house's; a key that is wider than its tenant is held by both.
    let wider = json!({"models_allowed": null, "spend_cap_micro_usd": null});
    as_admin("PATCH", &format!("/api/tenants/{tenant}"), wider.clone()).await.refused(403, "forbidden");
    as_admin("POST", "/api/tenants", json!({"name": "mine"})).await.refused(403, "forbidden");
    as_admin("PUT", "/api/prices", json!({"prices": []})).await.refused(403, "forbidden");
    for (method, path, body) in [
        ("POST", "/api/virtual-keys", json!({"name": "k"})),
        (
            "POST",
            "/api/keys",
            json!({"provider": "openai", "key_name": "k", "api_key": "sk-some-key-0123456789"}),
        ),
        ("POST", "/api/users", user("finance")),
        ("POST", "/api/budgets", json!({"name": "b", "cap_micro_usd": null, "window": "total"})),
    ] {
        house.send(method, path, Some(&finances), Some(body)).await.refused(403, "forbidden");
    }
    let users = house.get(&format!("/api/users?tenant_id={tenant}")).await.expect(200);
    assert_eq!(users["data"].as_array().map(Vec::len), Some(3), "nobody was made");
}

#[tokio::test]
async fn at_085_ten_thousand_guesses_in_every_spelling_are_throttled_as_one_account() {
    let house = House::new().await;
    let spellings = [
        "root@example.com",
        "ROOT@example.com",
        "rOOt@eXample.CoM",
        " root@example.com",
        "root@example.com ",
        "\troot@example.com\n",
        "\u{a0}root@example.com\u{3000}",
        "\u{2003}Root@Example.com\u{2028}",
        "Root@Example.Com\u{85}",
    ];
    let mut tried = 0;
    for guess in 0..10_000 {
        let answer = login(&house, spellings[guess % spellings.len()], "a wrong guess").await;
        match answer.status.as_u16() {
            401 => tried += 1,
            _ => answer.refused(429, "too_many_attempts"),
        }
    }
    assert_eq!(tried, 5, "only so many took a hash");
    // The right password is not let in either, until the minute is over.
    login(&house, "root@example.com", PASSWORD).await.refused(429, "too_many_attempts");
    house.pass(61);
    login(&house, "root@example.com", PASSWORD).await.expect(200);
    // What only looks alike is another account, and none.
    for unlike in [
        "root@exa\u{212a}ple.com",
        "r\u{043e}\u{043e}t@example.com",
        "root@example.com\u{200b}",
        "root@example.com\0",
    ] {
        login(&house, unlike, PASSWORD).await.refused(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn at_087_the_stored_hash_does_not_log_in_and_an_unknown_user_takes_a_hash_too() {
    let house = House::new().await;
    let store = &house.control.store;
    let user = store.user_with_email("root@example.com").await.expect("read").expect("a user");
    login(&house, "root@example.com", &user.password_hash).await.refused(401, "invalid_credentials");
    let output = user.password_hash.rsplit('$').next().expect("a hash").to_owned();
    login(&house, "root@example.com", &output).await.refused(401, "invalid_credentials");
    let before = house.control.passwords.checked();
    let known = login(&house, "root@example.com", "a wrong guess").await;
    assert_eq!(house.control.passwords.checked(), before + 1);
    let unknown = login(&house, "nobody@example.com", "a wrong guess").await;
    assert_eq!(house.control.passwords.checked(), before + 2);
    assert_eq!((known.status, known.text), (unknown.status, unknown.text));
}

#[tokio::test]
async fn at_091_of_many_starts_at_once_one_makes_the_first_admin() {
    let house = House::new().await;
    for sql in [r#"DELETE FROM "user""#, "DELETE FROM session"] {
        house.control.store.tamper(sql).await;
    }
    let password = SecretText::new(PASSWORD);
    // Two instances may have been told different addresses.
    let addresses: Vec<_> = (0..8).map(|number| format!("first-{}@example.com", number / 2)).collect();
    let starts = addresses.iter().map(|address| house.control.ensure_first_admin(address, &password));
    let made = futures_util::future::join_all(starts).await;
    let made: Vec<_> = made.into_iter().map(|made| made.expect("an answer")).collect();
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    let mut let_in = 0;
    for address in addresses.iter().step_by(2) {
        let_in += usize::from(login(&house, address, PASSWORD).await.status.is_success());
    }
    assert_eq!(let_in, 1);
    assert!(!house.control.ensure_first_admin("late@example.com", &password).await.expect("an answer"));
}

/// What a database says when it refuses, with the values and the statement that it says it about.
#[tokio::test]
async fn at_067_what_the_database_says_is_told_to_nobody() {
    const CANARY_EMAIL: &str = "canary-value@example.com";
    for (sabotage, status, code) in [
        // A unique index that the second finance user violates.
        (r#"CREATE UNIQUE INDEX sabotage ON "user" (role)"#, 409, "conflict"),
        // A reference to a row that is not there.
        (
            r#"ALTER TABLE "user" RENAME TO aside; CREATE TABLE known (id varchar PRIMARY KEY);
            CREATE TABLE "user" (id varchar, email varchar, password_hash varchar, role varchar,
            tenant_id varchar REFERENCES known (id), session_version integer, is_active boolean, created_at bigint,
            updated_at bigint)"#,
            409,
            "conflict",
        ),
        // A value that its column does not take.
        (
            r#"ALTER TABLE "user" RENAME TO aside;
            CREATE TABLE "user" (id varchar, email varchar CHECK (length(email) < 5), password_hash varchar,
            role varchar, tenant_id varchar, session_version integer, is_active boolean, created_at bigint,
            updated_at bigint)"#,
            500,
            "internal_error",
        ),
        // A column that is gone.
        (r#"ALTER TABLE "user" RENAME COLUMN password_hash TO gone"#, 503, "database_unavailable"),
        // A table that is gone.
        ("ALTER TABLE audit_entry RENAME TO gone", 503, "database_unavailable"),
    ] {
        let house = House::new().await;
        house.user(Role::Finance, house.default_tenant).await;
        house.control.store.tamper(sabotage).await;
        let asked = crate::control::NewUser {
            email: CANARY_EMAIL.into(),
            password: crate::control::SecretInput::new(PASSWORD.into()),
            role: Role::Finance,
            tenant_id: None,
        };
        let made = house.control.user_create(&Actor::Cli, asked, None).await;
        let error = made.expect_err("refused");
        let chain = format!("{error} {error:?}");
        let answer = AdminError::from(error).into_response();
        let found = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        assert_eq!((found, text.contains(code)), (status, true), "{sabotage}: {text}");
        for word in [
            CANARY_EMAIL,
            "argon2",
            "INSERT",
            "insert",
            "SELECT",
            "select",
            "sabotage",
            "aside",
            "known",
            "gone",
            "constraint",
            "column",
            "audit_entry",
            "sqlx",
            "usr_",
        ] {
            assert!(!text.contains(word) && !chain.contains(word), "{sabotage}: `{word}` in {text} {chain}");
        }
    }
}

#[tokio::test]
async fn at_067_a_database_that_takes_too_long_is_told_without_its_words() {
    let house = House::new().await;
    // Somebody else is in the middle of an act.
    let held = house.control.store.begin().await.expect("a transaction");
    crate::store::audit_lock(&held).await.expect("a lock");
    let asked = json!({"name": "canary-name", "models": ["openai/canary-model"]});
    let answer = house.post("/api/aliases", asked).await;
    answer.refused(503, "database_unavailable");
    for word in ["canary", "alias", "lock timeout", "busy", "audit_head", "statement"] {
        assert!(!answer.text.contains(word), "`{word}` in {}", answer.text);
    }
    held.rollback().await.expect("given back");
    let listed = house.get("/api/aliases").await.expect(200);
    assert_eq!(listed["data"], json!([]));
}
