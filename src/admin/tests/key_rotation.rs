//! A provider key's secret is rotated in steps, and what is known of its health.

use serde_json::{Value, json};

use super::harness::{CANARY, House};
use crate::{
    control::{Control, Verdict},
    domain::{Actor, Role, Timestamp},
    store::{KeyUse, ProviderKey, StoreError, TenantScope, Tx, provider_key_update},
    vault::SealedRow,
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
    let audited = audited(&house, 8).await;
    let expected = [
        entry("provider_key.staged", "success"),
        entry("provider_key.verified", "success"),
        entry("provider_key.verified", "failure"),
        entry("provider_key.verified", "success"),
        entry("provider_key.verified", "failure"),
        entry("provider_key.verified", "success"),
        entry("provider_key.verified", "success"),
        entry("provider_key.promoted", "success"),
    ];
    assert_eq!(audited, expected);
    let entries = house.audited(7).await;
    let phases: Vec<_> = entries[1..].iter().map(|entry| entry["details"]["phase"].clone()).collect();
    assert_eq!(phases, ["done", "started", "done", "started", "done", "started"]);
    let reasons: Vec<_> = entries.iter().map(|entry| entry["details"]["reason"].clone()).collect();
    assert_eq!((&reasons[3], &reasons[5]), (&silent["reason"], &refused["reason"]));
    assert!(reasons[1].is_null() && reasons[3].is_string() && reasons[5].is_string());
}

async fn write(control: &Control, row: &ProviderKey) {
    let wrote = control.store.write(async |tx: &Tx| provider_key_update(tx, row).await).await;
    wrote.map_err(|error: StoreError| error).expect("written");
}

#[tokio::test]
async fn that_a_secret_is_tried_is_on_record_before_it_is_opened() {
    let house = House::new().await;
    let (made, path) = key(&house).await;
    house.post(&format!("{path}/stage"), json!({"api_key": "sk-next"})).await.expect(200);
    let control = house.control.clone();
    house.meanwhile.lock().expect("not poisoned").push(Box::pin(async move {
        let rows = control.store.audit_rows().await;
        let last = rows.last().expect("an entry");
        assert_eq!(last.action, "provider_key.verified");
        assert!(last.canonical.contains(r#""phase":"started""#), "{}", last.canonical);
    }));
    *house.verdict.lock().expect("not poisoned") = Verdict::Unsealable("mismatch");
    let said = bare(&house, &format!("{path}/verify")).await.expect(200);
    assert!(house.meanwhile.lock().expect("not poisoned").is_empty(), "it was looked at");
    assert_eq!((&said["ok"], &said["status"]), (&json!(false), &Value::Null));
    assert!(said["reason"].as_str().is_some_and(|reason| reason.contains("does not open")), "{said}");
    assert_eq!(house.get(&path).await.expect(200)["staged"]["verified_at"], Value::Null);
    let entries = house.audited(2).await;
    assert_eq!(entries[1]["action"], "provider_key.unsealable");
    for (name, value) in [("outcome", &json!("failure")), ("object", &made["id"])] {
        assert_eq!((&entries[0][name], &entries[1][name]), (value, value), "{name}");
    }
    assert_eq!(entries[1]["details"]["reason"], "mismatch");
    assert_eq!(entries[0]["action"], "provider_key.verified");
    let details = &entries[0]["details"];
    assert_eq!((&details["phase"], &details["reason"]), (&json!("done"), &said["reason"]));
}

#[tokio::test]
async fn what_was_tried_is_told_by_the_secret_and_its_address_and_not_by_how_it_is_sealed() {
    let house = House::new().await;
    let (made, path) = key(&house).await;
    let (stage, verify) = (format!("{path}/stage"), format!("{path}/verify"));
    house.post(&stage, json!({"api_key": "sk-next"})).await.expect(200);
    let row = house.sealed(&made).await;
    let id = row.id;
    let meanwhile = |change: fn(&Control, &mut ProviderKey)| {
        let control = house.control.clone();
        house.meanwhile.lock().expect("not poisoned").push(Box::pin(async move {
            let mut row = control.store.provider_key(TenantScope::house(), id).await.expect("a key");
            change(&control, &mut row);
            write(&control, &row).await;
        }));
    };
    // As a rotation of master keys does.
    meanwhile(|control, row| {
        let (tenant, key, provider) = (row.tenant_id, row.id, row.provider.clone());
        let staged = row.staged.as_mut().expect("staged");
        let old = SealedRow {
            tenant,
            key,
            provider: provider.as_str(),
            origin: &row.origin,
            sealed: &staged.sealed,
        };
        let new = control.vault.reseal_provider_key(&old).expect("it opens");
        assert_ne!(new, staged.sealed);
        staged.sealed = new;
    });
    assert_eq!(bare(&house, &verify).await.expect(200)["ok"], true);
    assert!(house.get(&path).await.expect(200)["staged"]["verified_at"].is_string());

    let changes: [fn(&Control, &mut ProviderKey); 4] = [
        |_, row| row.staged = None,
        |_, row| row.base_url.push_str("/elsewhere"),
        |_, row| row.staged.as_mut().expect("staged").fingerprint = "another".into(),
        |_, row| {
            let staged = row.staged.as_mut().expect("staged");
            staged.at = staged.at.plus(std::time::Duration::from_secs(1));
        },
    ];
    for change in changes {
        let mut untried = row.clone();
        untried.staged.as_mut().expect("staged").verified_at = None;
        write(&house.control, &untried).await;
        meanwhile(change);
        bare(&house, &verify).await.refused(409, "conflict");
        let shown = house.get(&path).await.expect(200);
        assert!(shown["staged"].is_null() || shown["staged"]["verified_at"].is_null(), "{shown}");
        let last = &house.audited(1).await[0];
        assert_eq!((&last["outcome"], &last["details"]["phase"]), (&json!("failure"), &json!("done")));
    }
}

#[tokio::test]
async fn a_changed_key_drops_what_was_staged_and_a_named_secret_is_the_only_one_promoted() {
    let house = House::new().await;
    let (_, path) = key(&house).await;
    let (stage, promote) = (format!("{path}/stage"), format!("{path}/promote"));
    house.post(&stage, json!({"api_key": "sk-one"})).await.expect(200);
    let kept = house.patch(&path, json!({"weight": 3})).await.expect(200);
    assert!(kept["staged"].is_object(), "the secret is the same");
    let replaced = house.patch(&path, json!({"api_key": "sk-leaked-no-more"})).await.expect(200);
    assert_eq!(replaced["staged"], Value::Null);

    let one = house.post(&stage, json!({"api_key": "sk-one"})).await.expect(200);
    bare(&house, &format!("{path}/verify")).await.expect(200);
    let two = house.post(&stage, json!({"api_key": "sk-two"})).await.expect(200);
    let of_one = json!({"fingerprint": one["staged"]["fingerprint"], "unverified": true});
    house.post(&promote, of_one).await.refused(409, "not_staged");
    assert_eq!(house.get(&path).await.expect(200)["fingerprint"], replaced["fingerprint"]);
    let of_two = json!({"fingerprint": two["staged"]["fingerprint"]});
    house.post(&promote, of_two.clone()).await.refused(409, "not_verified");
    bare(&house, &format!("{path}/verify")).await.expect(200);
    let promoted = house.post(&promote, of_two).await.expect(200);
    assert_eq!(promoted["fingerprint"], two["staged"]["fingerprint"]);

    // Another path of the same origin: it was not tried there.
    let config = |path: &str| json!({"endpoint": format!("https://x.endpoints.huggingface.cloud{path}")});
    let face = json!({"provider": "huggingface", "key_name": "h", "api_key": CANARY,
        "huggingface_key_config": config("/a")});
    let face = house.post("/api/keys", face).await.expect(201);
    let path = format!("/api/keys/{}", face["id"].as_str().expect("an id"));
    house.post(&format!("{path}/stage"), json!({"api_key": "sk-next"})).await.expect(200);
    let mut row = house.sealed(&face).await;
    row.staged.as_mut().expect("staged").verified_at = Some(house.clock.now());
    write(&house.control, &row).await;
    let verified = |key: &Value| key["staged"]["verified_at"].is_string();
    let same = house.patch(&path, json!({"huggingface_key_config": config("/a")})).await.expect(200);
    assert!(verified(&same), "{same}");
    let moved = house.patch(&path, json!({"huggingface_key_config": config("/b")})).await.expect(200);
    assert_ne!(moved["base_url"], same["base_url"]);
    assert!(moved["staged"].is_object() && !verified(&moved), "{moved}");
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
