//! The one way in which a key leaves: who gets which key, who gets none, and what the audit log says of it.

use serde_json::{Value, json};

use super::harness::{CANARY, House};
use crate::domain::{Role, TenantId};

/// Stores a key of `tenant` and answers its id.
async fn key(house: &House, tenant: TenantId, more: Value) -> String {
    let mut body = json!({"provider": "openai", "key_name": "k", "api_key": CANARY, "retrievable": true,
        "tenant_id": tenant.to_string()});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let made = house.post("/api/keys", body).await.expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_service_gets_its_tenants_key_once_it_is_on_record() {
    let house = House::new().await;
    let id = key(&house, house.default_tenant, json!({"key_name": "main \"é\""})).await;
    let made = house.post("/api/service-tokens", json!({"service_name": "indexer"})).await.expect(201);
    let (token_id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    let answer = house.retrieve("openai", &[("X-Service-Token", token)]).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.expect(200),
        json!({"provider": "openai", "key_name": "main \"é\"", "api_key": CANARY})
    );
    let entry = &house.audited(1).await[0];
    for (name, value) in [
        ("actor", json!(token_id)),
        ("action", json!("provider_key.retrieved")),
        ("category", json!("secret_management")),
        ("outcome", json!("success")),
        ("object", json!(id)),
        ("tenant_id", json!(house.default_tenant.to_string())),
        ("details", json!({"provider": "openai", "service_name": "indexer", "key_name": "main \"é\""})),
    ] {
        assert_eq!(entry[name], value, "{name}");
    }
    let used = house.get(&format!("/api/service-tokens/{token_id}")).await.expect(200);
    assert_eq!(used["last_used_at"], house.clock.now().to_string());
    assert_eq!(house.control.audit_verify(None).await.expect("a verdict").first_bad, None);
}

#[tokio::test]
async fn the_active_retrievable_key_of_the_highest_weight_is_given_then_the_newest() {
    let house = House::new().await;
    let (ours, theirs) = (house.default_tenant, house.tenant("other").await);
    let token = house.service("indexer", ours).await;
    let given = async || {
        let answer = house.retrieve("openai", &[("x-service-token", &token)]).await;
        answer.expect(200)["key_name"].as_str().expect("a name").to_owned()
    };
    key(&house, theirs, json!({"key_name": "theirs", "weight": 1000})).await;
    house.retrieve("openai", &[("x-service-token", &token)]).await.refused(404, "not_found");
    key(&house, ours, json!({"key_name": "spare", "weight": 0})).await;
    assert_eq!(given().await, "spare", "a key of weight 0 is better than none");
    key(&house, ours, json!({"key_name": "old"})).await;
    assert_eq!(given().await, "old");
    let newest = key(&house, ours, json!({"key_name": "new"})).await;
    assert_eq!(given().await, "new");
    let heavy = key(&house, ours, json!({"key_name": "heavy", "weight": 7})).await;
    key(&house, ours, json!({"key_name": "newest"})).await;
    key(&house, ours, json!({"key_name": "kept", "weight": 9, "retrievable": false})).await;
    key(&house, ours, json!({"key_name": "off", "weight": 9, "is_active": false})).await;
    assert_eq!(given().await, "heavy");
    house.patch(&format!("/api/keys/{heavy}"), json!({"is_active": false})).await.expect(200);
    assert_eq!(given().await, "newest");
    house.patch(&format!("/api/keys/{newest}"), json!({"weight": 2})).await.expect(200);
    assert_eq!(given().await, "new");
}

#[tokio::test]
async fn who_is_no_service_is_told_so_alike_and_without_what_was_typed() {
    let house = House::new().await;
    key(&house, house.default_tenant, json!({})).await;
    let made = house.post("/api/service-tokens", json!({"service_name": "old"})).await.expect(201);
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    let path = format!("/api/service-tokens/{id}");
    let virtual_key = house.post("/api/virtual-keys", json!({"name": "k"})).await.expect(201);
    let virtual_key = virtual_key["key"].as_str().expect("a key").to_owned();
    let broken = format!("{}0", &token[..65]);
    let broken = if broken == token { format!("{}1", &token[..65]) } else { broken };
    let (stranger, _) = crate::vault::service_token::generate();
    #[expect(clippy::disallowed_methods, reason = "the test presents a token that nobody made")]
    let stranger = stranger.expose_secret().to_owned();

    let rotated = house.post(&format!("{path}/rotate"), json!({"grace_seconds": 30})).await.expect(200);
    let rotated = rotated["token"].as_str().expect("a token").to_owned();
    house.retrieve("openai", &[("x-service-token", token)]).await.expect(200);
    house.retrieve("openai", &[("x-service-token", &rotated)]).await.expect(200);
    house.pass(31);
    house.retrieve("openai", &[("x-service-token", &rotated)]).await.expect(200);

    let mut said = Vec::new();
    let system = "system";
    for (headers, actor, reason) in [
        (&[][..], system, "missing_token"),
        (&[("authorization", &*format!("Bearer {}", house.owner))], system, "missing_token"),
        (&[("x-service-token", "")], system, "malformed_token"),
        (&[("x-service-token", CANARY)], system, "malformed_token"),
        (&[("x-service-token", &*broken)], system, "malformed_token"),
        (&[("x-service-token", &*virtual_key)], system, "malformed_token"),
        (&[("x-service-token", &*house.owner)], system, "malformed_token"),
        (&[("x-service-token", &*stranger)], system, "unknown_token"),
        (&[("x-service-token", token)], id, "expired_token"),
    ] {
        house.pass(61);
        let answer = house.retrieve("openai", headers).await;
        answer.refused(401, "unauthorized");
        assert_eq!(answer.headers["www-authenticate"], "X-Service-Token");
        said.push(answer.text);
        let entry = &house.audited(1).await[0];
        assert_eq!(
            (&entry["actor"], &entry["action"], &entry["outcome"], &entry["object"], &entry["details"]),
            (
                &json!(actor),
                &json!("provider_key.retrieved"),
                &json!("refused"),
                &Value::Null,
                &json!({"reason": reason})
            )
        );
    }
    house.patch(&path, json!({"is_active": false})).await.expect(200);
    house.pass(61);
    let answer = house.retrieve("openai", &[("x-service-token", &rotated)]).await;
    answer.refused(401, "unauthorized");
    said.push(answer.text);
    assert_eq!(house.audited(1).await[0]["details"]["reason"], "deactivated_token");
    house.patch(&path, json!({"is_active": true})).await.expect(200);
    house.retrieve("openai", &[("x-service-token", &rotated)]).await.expect(200);
    house.delete(&path).await;
    house.pass(61);
    let answer = house.retrieve("openai", &[("x-service-token", &rotated)]).await;
    answer.refused(401, "unauthorized");
    said.push(answer.text);
    assert_eq!(house.audited(1).await[0]["details"]["reason"], "unknown_token");
    assert!(said.iter().all(|text| *text == said[0]), "{said:#?}");
    let log = house.get("/api/v1/audit?limit=500").await;
    for typed in [token, &rotated, &broken, &virtual_key, &stranger, &house.owner] {
        assert!(!log.text.contains(typed));
    }
}

#[tokio::test]
async fn two_credentials_are_no_credential() {
    let house = House::new().await;
    key(&house, house.default_tenant, json!({})).await;
    let token = house.service("indexer", house.default_tenant).await;
    let session = format!("Bearer {}", house.owner);
    for headers in [
        [("x-service-token", token.as_str()), ("x-service-token", token.as_str())],
        [("x-service-token", token.as_str()), ("authorization", session.as_str())],
        [("x-service-token", token.as_str()), ("authorization", "")],
    ] {
        let answer = house.retrieve("openai", &headers).await;
        answer.refused(400, "invalid_authorization");
        assert!(!answer.text.contains(CANARY));
        assert_eq!(house.audited(1).await[0]["details"], json!({"reason": "several_credentials"}));
    }
}

#[tokio::test]
async fn strangers_are_told_to_wait_and_do_not_flood_the_log_and_services_go_on() {
    let house = House::new().await;
    key(&house, house.default_tenant, json!({})).await;
    let token = house.service("indexer", house.default_tenant).await;
    let before = house.control.store.audit_head().await.expect("a head").seq;
    for _ in 0..5 {
        house.retrieve("openai", &[("x-service-token", "x")]).await.refused(401, "unauthorized");
    }
    for _ in 0..20 {
        let answer = house.retrieve("openai", &[]).await;
        answer.refused(429, "too_many_attempts");
        assert_eq!(answer.headers["retry-after"], "60");
    }
    assert_eq!(house.control.store.audit_head().await.expect("a head").seq, before + 5);
    house.retrieve("openai", &[("x-service-token", &token)]).await.expect(200);
    let login = json!({"email": "root@example.com", "password": super::harness::PASSWORD});
    house.send("POST", "/api/auth/login", None, Some(login)).await.expect(200);
    house.pass(61);
    house.retrieve("openai", &[]).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn a_token_that_asks_too_often_waits_and_that_is_noted_once() {
    let house = House::new().await;
    key(&house, house.default_tenant, json!({})).await;
    let token = house.service("loop", house.default_tenant).await;
    let other = house.service("calm", house.default_tenant).await;
    let before = house.control.store.audit_head().await.expect("a head").seq;
    for _ in 0..60 {
        house.retrieve("openai", &[("x-service-token", &token)]).await.expect(200);
    }
    for _ in 0..10 {
        let answer = house.retrieve("openai", &[("x-service-token", &token)]).await;
        answer.refused(429, "rate_limit_exceeded");
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(!answer.text.contains(CANARY));
    }
    assert_eq!(house.control.store.audit_head().await.expect("a head").seq, before + 61);
    let entry = &house.audited(1).await[0];
    assert_eq!(
        (&entry["outcome"], &entry["details"]),
        (&json!("refused"), &json!({"reason": "rate_limited", "service_name": "loop"}))
    );
    house.retrieve("openai", &[("x-service-token", &other)]).await.expect(200);
    house.ticks.advance(std::time::Duration::from_secs(1));
    house.retrieve("openai", &[("x-service-token", &token)]).await.expect(200);
}

#[tokio::test]
async fn without_the_operators_leave_nothing_is_given() {
    let house = House::with(false).await;
    let token = house.service("indexer", house.default_tenant).await;
    let id = key(&house, house.default_tenant, json!({})).await;
    for provider in ["openai", "nobody", "Not-A-Slug"] {
        let answer = house.retrieve(provider, &[("x-service-token", &token)]).await;
        answer.refused(403, "retrieval_disabled");
        assert!(answer.text.contains("KEYSTILE_VAULT_ALLOW_RETRIEVAL") && !answer.text.contains(CANARY));
        assert_eq!(house.audited(1).await[0]["details"]["reason"], "retrieval_disabled");
    }
    house.retrieve("openai", &[]).await.refused(401, "unauthorized");
    assert_eq!(house.get(&format!("/api/keys/{id}")).await.expect(200)["retrievable"], true);
}

#[tokio::test]
async fn which_key_is_missing_is_said_and_nothing_of_other_tenants() {
    let house = House::new().await;
    let (ours, theirs) = (house.default_tenant, house.tenant("other").await);
    let token = house.service("indexer", ours).await;
    let custom = json!({"provider": "theirs", "base_url": "https://llm.example.com"});
    key(&house, theirs, custom).await;
    key(&house, theirs, json!({"provider": "groq"})).await;
    key(&house, ours, json!({"provider": "mistral", "retrievable": false})).await;
    let off = json!({"provider": "openai", "is_active": false});
    key(&house, ours, off).await;
    let mut said = Vec::new();
    for (provider, reason, known) in [
        ("nobody", "unknown_provider", false),
        ("theirs", "unknown_provider", false),
        ("sk-canary-0123456789abcdef", "unknown_provider", false),
        ("OpenAI", "unknown_provider", false),
        ("groq", "no_key", true),
        ("mistral", "not_retrievable", true),
        ("openai", "not_active", true),
    ] {
        let answer = house.retrieve(provider, &[("x-service-token", &token)]).await;
        answer.refused(404, "not_found");
        let entry = &house.audited(1).await[0];
        let mut details = json!({"reason": reason, "service_name": "indexer"});
        if known {
            details["provider"] = provider.into();
        }
        assert_eq!((&entry["details"], &entry["object"]), (&details, &Value::Null), "{provider}");
        said.push(answer.text);
    }
    assert!(said[0] == said[1] && said[1] == said[2] && said[2] == said[3]);
    said.dedup();
    assert_eq!(said.len(), 4);
}

#[tokio::test]
async fn a_key_that_does_not_open_is_an_incident_and_no_other_is_given() {
    let house = House::new().await;
    let token = house.service("indexer", house.default_tenant).await;
    let first = key(&house, house.default_tenant, json!({"key_name": "first", "weight": 5})).await;
    let second = key(&house, house.default_tenant, json!({"key_name": "second"})).await;
    let moved = format!(
        "UPDATE provider_key SET sealed = (SELECT sealed FROM provider_key WHERE id = '{second}') WHERE id = '{first}'"
    );
    house.control.store.tamper(&moved).await;
    let answer = house.retrieve("openai", &[("x-service-token", &token)]).await;
    answer.refused(503, "provider_key_unsealable");
    assert!(!answer.text.contains(CANARY));
    let entry = &house.audited(1).await[0];
    assert_eq!(
        (&entry["action"], &entry["outcome"], &entry["object"]),
        (&json!("provider_key.unsealable"), &json!("failure"), &json!(first))
    );
    assert!(entry["details"]["reason"].as_str().is_some_and(|reason| reason.contains("`key` differs")));
}

#[tokio::test]
async fn at_113_what_cannot_be_recorded_is_not_given() {
    for broken in [
        "ALTER TABLE audit_entry RENAME TO gone",
        "UPDATE audit_head SET mac = ''",
        "ALTER TABLE audit_head RENAME TO gone",
    ] {
        let house = House::new().await;
        key(&house, house.default_tenant, json!({})).await;
        let token = house.service("indexer", house.default_tenant).await;
        house.control.store.tamper(broken).await;
        for headers in [&[("x-service-token", token.as_str())][..], &[]] {
            let answer = house.retrieve("openai", headers).await;
            assert_eq!(answer.status.as_u16(), 503, "{broken}: {}", answer.text);
            assert!(matches!(answer.code().as_str(), "audit_unavailable" | "database_unavailable"));
            assert!(!answer.text.contains(CANARY), "{broken}");
        }
    }
}

#[tokio::test]
async fn whether_a_key_is_retrievable_is_decided_once() {
    let house = House::new().await;
    let id = key(&house, house.default_tenant, json!({"retrievable": false})).await;
    let path = format!("/api/keys/{id}");
    for value in [json!(true), json!(false), json!(null), json!("x")] {
        let refused = house.patch(&path, json!({"retrievable": value, "weight": 5})).await;
        refused.refused(400, "invalid_request");
        assert!(refused.text.contains("fixed at upload"), "{}", refused.text);
    }
    let kept = house.get(&path).await.expect(200);
    assert_eq!((&kept["retrievable"], &kept["weight"]), (&json!(false), &json!(1)));
    let (_, finance) = house.user(Role::Finance, house.default_tenant).await;
    house
        .send("PATCH", &path, Some(&finance), Some(json!({"retrievable": true})))
        .await
        .refused(403, "forbidden");
}
