//! A provider key's secret is rotated in steps, and what is known of its health.

use serde_json::{Value, json};

use super::harness::{CANARY, House};
use crate::{
    control::Verdict,
    domain::{Actor, Role, Timestamp},
    store::{KeyUse, StoreError, Tx, provider_key_update},
};

async fn key(house: &House) -> (Value, String) {
    let body = json!({"provider": "openai", "key_name": "k", "api_key": CANARY});
    let made = house.post("/api/keys", body).await.expect(201);
    let path = format!("/api/keys/{}", made["id"].as_str().expect("an id"));
    (made, path)
}

async fn bare(house: &House, path: &str) -> super::harness::Answer {
    house.send("POST", path, Some(&house.owner), None).await
}

/// Actions and outcomes of the newest entries, the oldest of them first.
async fn audited(house: &House, count: usize) -> Vec<(String, String)> {
    let page = house.get(&format!("/api/v1/audit?limit={count}")).await.expect(200);
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let entries = page["data"].as_array().expect("entries");
    entries.iter().rev().map(|entry| (text(entry, "action"), text(entry, "outcome"))).collect()
}

fn entry(action: &str, outcome: &str) -> (String, String) {
    (action.to_owned(), outcome.to_owned())
}

#[tokio::test]
async fn a_staged_secret_is_verified_and_promoted() {
    let house = House::new().await;
    let (made, path) = key(&house).await;
    let before = house.sealed(&made).await;
    let staged = house.post(&format!("{path}/stage"), json!({"api_key": "sk-next"})).await.expect(200);
    assert_eq!(staged["fingerprint"], made["fingerprint"], "the present one stays");
    assert_ne!(staged["staged"]["fingerprint"], made["fingerprint"]);
    assert_eq!(staged["staged"]["verified_at"], Value::Null);
    let promote = format!("{path}/promote");
    bare(&house, &promote).await.refused(409, "not_verified");
    house.post(&promote, json!({"unverified": false})).await.refused(409, "not_verified");

    let verify = format!("{path}/verify");
    *house.verdict.lock().expect("not poisoned") = Verdict::Answered(401);
    let refused = bare(&house, &verify).await.expect(200);
    assert_eq!((&refused["ok"], &refused["status"]), (&json!(false), &json!(401)));
    bare(&house, &promote).await.refused(409, "not_verified");
    *house.verdict.lock().expect("not poisoned") = Verdict::NotAsked("the provider did not answer in time");
    let silent = bare(&house, &verify).await.expect(200);
    assert_eq!((&silent["ok"], &silent["status"]), (&json!(false), &Value::Null));
    *house.verdict.lock().expect("not poisoned") = Verdict::Answered(200);
    let taken = bare(&house, &verify).await.expect(200);
    assert_eq!(taken, json!({"ok": true, "status": 200, "reason": null}));
    let shown = house.get(&path).await.expect(200);
    assert!(shown["staged"]["verified_at"].is_string());

    house.told.lock().expect("not poisoned").clear();
    let promoted = bare(&house, &promote).await.expect(200);
    assert_eq!((&promoted["staged"], &promoted["openable"]), (&Value::Null, &json!(true)));
    assert_eq!(promoted["fingerprint"], staged["staged"]["fingerprint"]);
    assert_eq!(house.told.lock().expect("not poisoned").len(), 1, "gateways are told");
    assert!(house.sealed(&made).await.sealed != before.sealed);
    bare(&house, &promote).await.refused(409, "conflict");
    bare(&house, &verify).await.refused(409, "conflict");
    let audited = audited(&house, 5).await;
    let expected = [
        entry("provider_key.staged", "success"),
        entry("provider_key.verified", "failure"),
        entry("provider_key.verified", "failure"),
        entry("provider_key.verified", "success"),
        entry("provider_key.promoted", "success"),
    ];
    assert_eq!(audited, expected);
}

#[tokio::test]
async fn a_staged_secret_can_be_thrown_away_replaced_or_promoted_untried() {
    let house = House::new().await;
    let (made, path) = key(&house).await;
    let stage = format!("{path}/stage");
    house.delete(&stage).await.refused(404, "not_found");
    house.post(&stage, json!({"api_key": "sk-one"})).await.expect(200);
    assert_eq!(house.delete(&stage).await.status.as_u16(), 204);
    assert_eq!(house.get(&path).await.expect(200)["staged"], Value::Null);
    let one = house.post(&stage, json!({"api_key": "sk-one"})).await.expect(200);
    bare(&house, &format!("{path}/verify")).await.expect(200);
    let two = house.post(&stage, json!({"api_key": {"value": "sk-two"}})).await.expect(200);
    assert_ne!(one["staged"]["fingerprint"], two["staged"]["fingerprint"]);
    assert_eq!(two["staged"]["verified_at"], Value::Null, "what was tried was another");
    let promoted = house.post(&format!("{path}/promote"), json!({"unverified": true})).await.expect(200);
    assert_eq!(promoted["fingerprint"], two["staged"]["fingerprint"]);

    for (body, code) in [
        (json!({}), "secret_required"),
        (json!({"api_key": null}), "secret_required"),
        (json!({"api_key": ""}), "secret_required"),
        (json!({"api_key": "********"}), "masked_secret"),
        (json!({"api_key": "env:PATH"}), "reference_not_allowed"),
        (json!({"api_key": {"store": "OPENAI"}}), "invalid_request"),
        (json!({"api_key": "sk-x", "base_url": "https://evil.example.com"}), "invalid_request"),
    ] {
        house.post(&stage, body).await.refused(400, code);
    }
    house.post(&stage, json!({"api_key": "sk-two"})).await.refused(409, "conflict");

    // What waits was given for the old address as well.
    house.post(&stage, json!({"api_key": "sk-three"})).await.expect(200);
    let moved = json!({"base_url": "https://proxy.example.com", "api_key": "sk-there"});
    assert_eq!(house.patch(&path, moved).await.expect(200)["staged"], Value::Null);
    let (_, other) = house.user(Role::TenantAdmin, house.tenant("other").await).await;
    for (method, verb, body) in [
        ("POST", "/stage", Some(json!({"api_key": "sk-x"}))),
        ("DELETE", "/stage", None),
        ("POST", "/verify", None),
        ("POST", "/promote", None),
    ] {
        house.send(method, &format!("{path}{verb}"), Some(&other), body).await.refused(404, "not_found");
    }
    assert!(made["id"].is_string());
}

#[tokio::test]
async fn a_key_says_how_it_is() {
    let house = House::new().await;
    let (made, path) = key(&house).await;
    let (well, _) = key(&house).await;
    let at = |text: &str| Timestamp::parse(text).expect("a time");
    let (early, late) = (at("2026-11-21T12:00:01Z"), at("2026-11-21T12:00:05Z"));
    let id = |key: &Value| key["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let uses = [
        (id(&made), KeyUse { used_at: Some(early), refused: Some((late, 401)) }),
        (id(&well), KeyUse { used_at: Some(late), refused: Some((early, 403)) }),
    ];
    house.control.store.note_key_use(&uses).await.expect("noted");
    let shown = house.get(&path).await.expect(200);
    assert_eq!(shown["last_used_at"], early.to_string());
    assert_eq!(shown["last_refused_at"], late.to_string());
    assert_eq!(shown["last_refusal"], json!({"status": 401}));
    let views = house.control.provider_keys(&Actor::Cli, None).await.expect("keys");
    assert!(views[0].trouble().expect("trouble").contains("401"));
    assert_eq!(views[1].trouble(), None, "it was used again since");

    // Somebody with the database in hand.
    let other = house.sealed(&well).await;
    for (what, change) in [("another row's", other.sealed.as_str()), ("plain", "sk-plain"), ("nothing", "")] {
        let mut row = house.sealed(&made).await;
        row.sealed = change.to_owned();
        let row = &row;
        let wrote = house.control.store.write(async |tx: &Tx| provider_key_update(tx, row).await).await;
        wrote.map_err(|error: StoreError| error).expect("written");
        let shown = house.get(&path).await.expect(200);
        assert_eq!(shown["openable"], false, "{what}");
        let views = house.control.provider_keys(&Actor::Cli, None).await.expect("keys");
        assert!(views[0].trouble().expect("trouble").contains("does not open"));
    }
    assert_eq!(house.delete(&path).await.status.as_u16(), 204);
    assert!(house.control.store.key_uses(&[id(&made)]).await.expect("read").is_empty());
}
