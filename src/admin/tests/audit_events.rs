//! What the audit log says of each act: its request, its facts, and never a secret.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::harness::{CANARY, House, PASSWORD};
use crate::domain::{Actor, AuditAction, ProviderSlug, Role, UnsealableKey};

/// Acts that need more than one admin plane in one process; each is driven, with what its entry says, where it lives.
const ELSEWHERE: &[AuditAction] = &[
    AuditAction::LeasesReleased,
    AuditAction::ProviderKeyStaged,
    AuditAction::ProviderKeyVerified,
    AuditAction::ProviderKeyPromoted,
    AuditAction::ProviderKeyUnstaged,
    AuditAction::ProviderKeyRetrieved,
    AuditAction::ProviderKeyUsed,
    AuditAction::ServiceTokenCreated,
    AuditAction::ServiceTokenUpdated,
    AuditAction::ServiceTokenRotated,
    AuditAction::ServiceTokenDeleted,
    AuditAction::ConfigVariableCreated,
    AuditAction::ConfigVariableUpdated,
    AuditAction::ConfigVariableDeleted,
    AuditAction::ReferenceResolved,
    AuditAction::MasterKeyRotationStarted,
    AuditAction::MasterKeyRotated,
    AuditAction::MasterKeyRetired,
    AuditAction::SessionEnded,
    AuditAction::SessionsEnded,
    AuditAction::PasswordChanged,
    AuditAction::SigningKeyRotated,
    AuditAction::ConfigurationReloaded,
];

const OTHER_PASSWORD: &str = "staple battery horse correct";

async fn log_in(house: &House, password: &str) -> super::harness::Answer {
    let asked = json!({"email": "root@example.com", "password": password});
    house.send("POST", "/api/auth/login", None, Some(asked)).await
}

#[tokio::test]
async fn at_065_no_entry_has_a_secret_and_each_has_its_facts() {
    let house = House::new().await;
    let id = |made: &Value| made["id"].as_str().expect("an id").to_owned();
    let mut secrets = vec![CANARY.to_owned(), PASSWORD.to_owned(), OTHER_PASSWORD.to_owned()];

    let tenant = id(&house.post("/api/tenants", json!({"name": "seen-tenant"})).await.expect(201));
    house.patch(&format!("/api/tenants/{tenant}"), json!({"max_parallel": 5})).await.expect(200);
    house.delete(&format!("/api/tenants/{tenant}")).await;

    let user = json!({"email": "seen@example.com", "password": OTHER_PASSWORD, "role": "finance"});
    let user = id(&house.post("/api/users", user).await.expect(201));
    house
        .patch(&format!("/api/users/{user}"), json!({"password": "another one that is fine"}))
        .await
        .expect(200);
    secrets.push("another one that is fine".into());
    house.delete(&format!("/api/users/{user}")).await;

    let key = json!({"provider": "openai", "key_name": "seen-provider-key", "api_key": CANARY});
    let key = id(&house.post("/api/keys", key).await.expect(201));
    house.patch(&format!("/api/keys/{key}"), json!({"api_key": format!("{CANARY}-2")})).await.expect(200);
    house.delete(&format!("/api/keys/{key}")).await;

    let key = house
        .post("/api/virtual-keys", json!({"name": "seen-virtual-key", "tags": {"t": "v"}}))
        .await
        .expect(201);
    secrets.push(key["key"].as_str().expect("a key").to_owned());
    let path = format!("/api/virtual-keys/{}", id(&key));
    house.patch(&path, json!({"rate_limit_rpm": 7})).await.expect(200);
    let rotated = house.post(&format!("{path}/rotate"), json!({"grace_seconds": 61})).await.expect(200);
    secrets.push(rotated["key"].as_str().expect("a key").to_owned());
    house.post(&format!("{path}/revoke"), json!({})).await.expect(200);
    house.delete(&path).await;

    let budget = json!({"name": "seen-budget", "cap_micro_usd": 5, "window": "daily"});
    let budget = format!("/api/budgets/{}", id(&house.post("/api/budgets", budget).await.expect(201)));
    house.patch(&budget, json!({"cap_micro_usd": 6})).await.expect(200);
    house.delete(&budget).await;
    let alias =
        house.post("/api/aliases", json!({"name": "seen-alias", "models": ["a/b"]})).await.expect(201);
    house.delete(&format!("/api/aliases/{}", id(&alias))).await;
    house
        .put("/api/prices", json!({"prices": [{"model": "seen/price", "input": 1, "output": 1}]}))
        .await
        .expect(200);

    log_in(&house, CANARY).await.refused(401, "invalid_credentials");
    secrets.push(log_in(&house, PASSWORD).await.expect(200)["token"].as_str().expect("a token").to_owned());
    let (_, finance) = house.user(Role::Finance, house.default_tenant).await;
    let path = format!("/api/keys/seen-nowhere?query={CANARY}");
    house
        .send("PATCH", &path, Some(&finance), Some(json!({"api_key": CANARY})))
        .await
        .refused(403, "forbidden");
    let provider = ProviderSlug::parse("openai").expect("a slug");
    let alarm = UnsealableKey {
        tenant: house.default_tenant,
        key: crate::domain::ProviderKeyId::generate(),
        provider,
        reason: "mismatch",
    };
    house.control.note_unsealable(&alarm).await.expect("noted");

    let before = house.control.store.audit_rows().await;
    house.pass(40 * 24 * 3600);
    house.control.audit_prune(std::time::Duration::from_secs(30 * 24 * 3600)).await.expect("pruned");
    let rows = house.control.store.audit_rows().await;
    assert_eq!(rows.len(), before.len() + 1);

    let whole: String = rows.iter().map(|row| format!("{row:?}\n")).collect();
    for secret in &secrets {
        assert!(!whole.contains(secret.as_str()), "a secret is in the log");
    }
    assert!(!whole.contains("seen-nowhere") && !whole.contains("query="), "{whole}");

    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in &rows {
        let canonical: Value = serde_json::from_str(&row.canonical).expect("JSON");
        let details = canonical["details"].as_object().expect("facts").keys().cloned();
        said.entry(row.action.clone()).or_default().extend(details);
    }
    // Reviewed: which facts an entry may have, by act.
    let mut reviewed = BTreeMap::new();
    for (action, facts) in [
        ("access.refused", "method route"),
        ("alias.deleted", "name"),
        ("alias.set", "name"),
        ("audit.pruned", "before through_seq"),
        ("budget.created", "name"),
        ("budget.deleted", "name"),
        ("budget.updated", "changed"),
        ("prices.set", "entries models"),
        ("provider_key.created", "fingerprint key_name origin provider retrievable"),
        ("provider_key.deleted", "key_name provider"),
        ("provider_key.unsealable", "provider reason"),
        ("provider_key.updated", "changed fingerprint origin"),
        ("session.created", "session"),
        ("session.refused", ""),
        ("tenant.created", "name"),
        ("tenant.deleted", "name"),
        ("tenant.updated", "changed"),
        ("user.created", "email role"),
        ("user.deleted", "email"),
        ("user.updated", "changed role"),
        ("virtual_key.created", "name token_id"),
        ("virtual_key.deleted", "name"),
        ("virtual_key.revoked", ""),
        ("virtual_key.rotated", "grace_seconds token_id"),
        ("virtual_key.updated", "changed"),
    ] {
        reviewed.insert(action.to_owned(), facts.split_whitespace().map(str::to_owned).collect());
    }
    assert_eq!(said, reviewed);
    for (action, facts) in [
        ("tenant.created", "seen-tenant"),
        ("user.created", "seen@example.com"),
        ("provider_key.created", "seen-provider-key"),
        ("provider_key.updated", "api_key"),
        ("virtual_key.created", "seen-virtual-key"),
        ("virtual_key.updated", "rate_limit_rpm"),
        ("virtual_key.rotated", "61"),
        ("budget.created", "seen-budget"),
        ("alias.set", "seen-alias"),
        ("prices.set", "seen/price"),
        ("access.refused", "/api/keys/{id}"),
        ("access.refused", "PATCH"),
        ("provider_key.unsealable", "mismatch"),
    ] {
        let found = rows.iter().any(|row| row.action == action && row.canonical.contains(facts));
        assert!(found, "`{facts}` is not in `{action}`");
    }
    for action in AuditAction::ALL {
        let here = said.contains_key(action.as_str());
        assert!(here != ELSEWHERE.contains(action), "{} is driven here: {here}", action.as_str());
    }
}

#[tokio::test]
async fn every_answer_has_an_id_of_ours_and_the_entries_of_its_acts_carry_it() {
    let house = House::new().await;
    let owner = house.owner.clone();
    let theirs = [("x-request-id", "req_00000000000000000000000000000001")];
    let id_of =
        |answer: &super::harness::Answer| answer.headers["x-request-id"].to_str().expect("text").to_owned();
    let body = Some(json!({"name": "k"}));
    let made = house.send_with("POST", "/api/virtual-keys", Some(&owner), body, &theirs).await;
    let mut ids = BTreeSet::from([id_of(&made)]);
    let log = house.get("/api/v1/audit?action=virtual_key.created").await.expect(200);
    assert_eq!(log["data"][0]["request_id"], id_of(&made).as_str());
    assert!(!ids.contains(theirs[0].1), "a client's own is ignored");

    let login = log_in(&house, PASSWORD).await;
    let wrong = log_in(&house, "wrong password here").await;
    let (_, finance) = house.user(Role::Finance, house.default_tenant).await;
    let refused = house.send("GET", "/api/keys", Some(&finance), None).await;
    for (answer, action) in
        [(&login, "session.created"), (&wrong, "session.refused"), (&refused, "access.refused")]
    {
        let log = house.get(&format!("/api/v1/audit?action={action}")).await.expect(200);
        assert_eq!(log["data"][0]["request_id"], id_of(answer).as_str(), "{action}");
        assert!(ids.insert(id_of(answer)));
    }
    for (path, token, status) in [
        ("/nowhere", None, 404),
        ("/api/keys", None, 401),
        ("/api/keys/..", Some(&owner), 404),
        ("/api/openapi.json", None, 200),
    ] {
        let answer = house.send("GET", path, token.map(String::as_str), None).await;
        assert!(
            answer.status.as_u16() == status || answer.status.as_u16() == 400,
            "{path}: {}",
            answer.status
        );
        assert!(id_of(&answer).starts_with("req_") && ids.insert(id_of(&answer)), "{path}");
    }
    house
        .control
        .tenant_create(&Actor::Cli, serde_json::from_value(json!({"name": "t"})).expect("asked"), None)
        .await
        .expect("made");
    let log = house.get("/api/v1/audit?action=tenant.created&actor=cli").await.expect(200);
    assert_eq!(log["data"][0]["request_id"], Value::Null, "outside of a request there is none");
}

#[tokio::test]
async fn refusals_by_role_are_audited_and_cannot_flood_the_log() {
    let house = House::new().await;
    let (user, auditor) = house.user(Role::Auditor, house.default_tenant).await;
    let (_, other) = house.user(Role::Finance, house.default_tenant).await;
    let loops = async |token: &str, times: usize| {
        for _ in 0..times {
            house.send("DELETE", "/api/keys/pk_x", Some(token), None).await.refused(403, "forbidden");
        }
    };
    loops(&auditor, 40).await;
    loops(&other, 1).await;
    let log = house.get("/api/v1/audit?action=access.refused").await.expect(200);
    let entries = log["data"].as_array().expect("entries");
    assert_eq!(entries.len(), 6, "five of a loop, and another's");
    assert_eq!(entries[1]["actor"], user.as_str());
    assert_eq!(entries[1]["outcome"], "refused");
    assert_eq!(entries[1]["category"], "identity");
    assert_eq!(entries[1]["details"], json!({"method": "DELETE", "route": "/api/keys/{id}"}));
    house.pass(61);
    loops(&auditor, 1).await;
    let log = house.get("/api/v1/audit?action=access.refused&limit=1").await.expect(200);
    assert_eq!(log["data"][0]["details"]["unwritten_before"], "35");
    // One who does not come again is told of all the same, once the window is over.
    loops(&auditor, 9).await;
    house.control.note_refusals_unwritten(false).await;
    assert_eq!(
        house.get("/api/v1/audit?action=access.refused&limit=1").await.expect(200)["data"][0]["details"]["unwritten"],
        Value::Null
    );
    house.pass(61);
    house.control.note_refusals_unwritten(false).await;
    let log = house.get("/api/v1/audit?action=access.refused&limit=1").await.expect(200);
    let last = &log["data"][0];
    assert_eq!((&last["actor"], &last["outcome"]), (&json!(user), &json!("refused")));
    assert_eq!(last["details"], json!({"unwritten": "5"}));
    let head = house.control.store.audit_head().await.expect("a head");
    house.control.note_refusals_unwritten(true).await;
    assert_eq!(house.control.store.audit_head().await.expect("a head"), head, "said once");
    // A stranger is not in the log: anybody could fill it.
    house.send("GET", "/api/keys", None, None).await.refused(401, "unauthorized");
    let head = house.control.store.audit_head().await.expect("a head");
    house.send("GET", "/api/keys", Some("x.y.z"), None).await.refused(401, "unauthorized");
    assert_eq!(house.control.store.audit_head().await.expect("a head"), head);
}
