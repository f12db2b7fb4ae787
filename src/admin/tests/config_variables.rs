//! Config variables: what they may be called, that sealed ones stay unseen, and that keys follow what they refer to.

use serde_json::{Value, json};

use super::harness::{CANARY, House};
use crate::{
    control::{AuditQuery, REDACTED},
    domain::{Actor, ProviderKeyId, Role},
    store::{
        Page, ProviderKey, StoreError, TenantScope, Tx, VariableValue, config_variable_find,
        config_variable_update, provider_key_update,
    },
    vault::SealedRow,
};

const PATH: &str = "/v1/config-variables";

fn path(made: &Value) -> String {
    format!("{PATH}/{}", made["id"].as_str().expect("an id"))
}

async fn variable(house: &House, name: &str, value: &str, sensitive: bool) -> Value {
    let asked = json!({"name": name, "value": value, "sensitive": sensitive});
    house.post(PATH, asked).await.expect(201)
}

pub(super) async fn stored(house: &House, id: &str) -> ProviderKey {
    let id: ProviderKeyId = id.parse().expect("an id");
    house.control.store.provider_key(TenantScope::house(), id).await.expect("a key")
}

/// A provider key that refers to a variable; answers its id.
async fn referring(house: &House, name: &str) -> String {
    let asked = json!({"provider": "openai", "key_name": "follower", "api_key": "sk-before"});
    let made = house.post("/api/keys", asked).await.expect(201);
    let id = made["id"].as_str().expect("an id").to_owned();
    let mut key = stored(house, &id).await;
    key.reference = Some(format!("store:{name}"));
    house.control.store.write(async |tx: &Tx| provider_key_update(tx, &key).await).await.expect("written");
    id
}

fn fingerprint(house: &House, text: &str) -> String {
    let secret = zeroize::Zeroizing::new(text.as_bytes().to_vec());
    house.control.fingerprints.of(&crate::domain::ProviderSecret::new(secret))
}

async fn audited(house: &House, action: &str) -> Vec<crate::control::AuditView> {
    let filter = AuditQuery { action: Some(action.to_owned()), ..AuditQuery::default() };
    house.control.audit_entries(&Actor::Cli, &filter, &Page::first(100)).await.expect("entries").items
}

#[tokio::test]
async fn a_name_of_other_letters_is_refused_with_the_rule() {
    let house = House::new().await;
    let long = "x".repeat(129);
    for name in ["", " ", "a b", "a/b", "ключ", "a\n", "${A}", "../x", "é", "a:b", &long] {
        let answer = house.post(PATH, json!({"name": name, "value": "v"})).await;
        answer.refused(400, "invalid_name");
        assert!(answer.text.contains("ASCII letters, digits, `_`, `-` or `.`"), "{}", answer.text);
    }
    for name in ["A", "a.b-c_D9", "9", "...", &"x".repeat(128)] {
        variable(&house, name, "v", false).await;
    }
    house.post(PATH, json!({"name": "A", "value": "w"})).await.refused(409, "conflict");
    // Another tenant has names of its own.
    let other = house.tenant("other").await;
    house.post(PATH, json!({"name": "A", "value": "w", "tenant_id": other})).await.expect(201);
}

#[tokio::test]
async fn an_open_value_is_shown_and_a_sensitive_one_never() {
    let house = House::new().await;
    let open = variable(&house, "REGION", "eu-central\n1", false).await;
    assert_eq!((&open["value"], &open["sensitive"]), (&json!("eu-central\n1"), &json!(false)));
    let lengths = [CANARY.to_owned(), format!("{CANARY}{}", "x".repeat(60_000))];
    for (name, value) in ["SHORT", "LONG"].into_iter().zip(&lengths) {
        let made = variable(&house, name, value, true).await;
        assert_eq!((&made["value"], &made["sensitive"]), (&json!(REDACTED), &json!(true)));
        assert_eq!(house.get(&path(&made)).await.expect(200)["value"], REDACTED);
        let changed = house.patch(&path(&made), json!({"description": "a key"})).await.expect(200);
        assert_eq!((&changed["value"], &changed["description"]), (&json!(REDACTED), &json!("a key")));
    }
    let list = house.get(PATH).await.expect(200);
    assert_eq!(list["data"].as_array().map(Vec::len), Some(3));
    // In the database it is sealed; in the audit log it is not.
    let rows = house.control.store.sealed_rows().await.expect("rows");
    let sealed: Vec<_> = rows.iter().filter(|row| row.variable.is_some()).collect();
    assert_eq!(sealed.len(), 2);
    assert!(sealed.iter().all(|row| row.sealed.starts_with("v2.") && !row.sealed.contains("canary")));
    let entries = audited(&house, "config_variable.created").await;
    assert_eq!(entries.len(), 3);
    assert!(!format!("{entries:?}").contains("canary") && !format!("{entries:?}").contains("eu-central"));
}

#[tokio::test]
async fn at_056_a_redacted_value_written_back_is_refused_and_the_stored_one_stays() {
    let house = House::new().await;
    let sealed = variable(&house, "KEY", CANARY, true).await;
    let open = variable(&house, "OPEN", "text ... with dots", false).await;
    let before = house.control.store.sealed_rows().await.expect("rows");
    for value in [REDACTED, "***", "sk-…abcd", "••••"] {
        house.patch(&path(&sealed), json!({"value": value})).await.refused(400, "masked_secret");
        house
            .post(PATH, json!({"name": "X", "value": value, "sensitive": true}))
            .await
            .refused(400, "masked_secret");
    }
    house.patch(&path(&open), json!({"value": REDACTED})).await.refused(400, "masked_secret");
    for null in [json!({"value": null}), json!({"name": null})] {
        house.patch(&path(&sealed), null).await.refused(400, "invalid_request");
    }
    house.patch(&path(&sealed), json!({"value": ""})).await.refused(400, "invalid_request");
    house.patch(&path(&sealed), json!({"value": "a\u{0}b"})).await.refused(400, "invalid_request");
    let long = "x".repeat(64 * 1024 + 1);
    house.patch(&path(&sealed), json!({"value": long})).await.refused(400, "invalid_request");
    house.patch(&path(&sealed), json!({"valeu": "x"})).await.refused(400, "invalid_request");
    let after = house.control.store.sealed_rows().await.expect("rows");
    let texts = |rows: &[crate::store::SealedText]| -> Vec<String> {
        rows.iter().map(|row| row.sealed.clone()).collect()
    };
    assert_eq!(texts(&before), texts(&after));
}

#[tokio::test]
async fn turning_sensitive_off_shows_nothing_and_turning_it_on_seals() {
    let house = House::new().await;
    let made = variable(&house, "KEY", CANARY, true).await;
    for off in [json!(false), json!(null)] {
        house.patch(&path(&made), json!({"sensitive": off})).await.refused(400, "secret_required");
    }
    let open = house.patch(&path(&made), json!({"sensitive": false, "value": "eu"})).await.expect(200);
    assert_eq!((&open["value"], &open["sensitive"]), (&json!("eu"), &json!(false)));
    let sealed = house.patch(&path(&made), json!({"sensitive": true})).await.expect(200);
    assert_eq!(sealed["value"], REDACTED);
    // What was sealed in that way, under a new name too, is the value.
    house.patch(&path(&made), json!({"name": "RENAMED"})).await.expect(200);
    let key = referring(&house, "RENAMED").await;
    let reconciled = house.control.reconcile(&Actor::Cli, None, crate::control::Occasion::Start).await;
    assert_eq!(reconciled.expect("resolved").changed, 1);
    assert_eq!(stored(&house, &key).await.fingerprint, fingerprint(&house, "eu"));
}

#[tokio::test]
async fn a_changed_variable_is_in_every_key_that_refers_to_it_in_the_same_act() {
    let house = House::new().await;
    let made = variable(&house, "KEY", "sk-first", true).await;
    let keys = [referring(&house, "KEY").await, referring(&house, "KEY").await];
    let other = variable(&house, "OTHER", "sk-other", true).await;
    let bystander = referring(&house, "OTHER").await;
    house.told.lock().expect("not poisoned").clear();

    house.patch(&path(&made), json!({"value": CANARY})).await.expect(200);
    for id in &keys {
        let key = stored(&house, id).await;
        assert_eq!(key.fingerprint, fingerprint(&house, CANARY));
        let row = SealedRow {
            tenant: key.tenant_id,
            key: key.id,
            provider: "openai",
            origin: &key.origin,
            sealed: &key.sealed,
        };
        house.control.vault.reseal_provider_key(&row).expect("it opens for its own row");
    }
    assert_eq!(stored(&house, &bystander).await.fingerprint, fingerprint(&house, "sk-before"));
    assert!(house.told.lock().expect("not poisoned").contains(&Some(house.default_tenant)));
    assert_eq!(audited(&house, "reference.resolved").await.len(), 2);
    assert_eq!(audited(&house, "config_variable.updated").await[0].details["keys"], "2");

    // What cannot be a key is refused, nothing has changed, and the refusal is audited.
    for unfit in ["two words", "sk-a\nb", "env:HOME", &"k".repeat(5_000)] {
        house.patch(&path(&made), json!({"value": unfit})).await.refused(400, "unfit_variable");
    }
    assert_eq!(stored(&house, &keys[0]).await.fingerprint, fingerprint(&house, CANARY));
    let failed = audited(&house, "reference.resolved").await;
    assert_eq!(failed.iter().filter(|entry| entry.outcome == "failure").count(), 4);
    assert_eq!(failed[0].details["reference"], "store:KEY");

    // It stays what it is as long as keys hang on it.
    for change in [json!({"name": "B"}), json!({"sensitive": false, "value": "x"})] {
        let answer = house.patch(&path(&made), change).await;
        answer.refused(409, "conflict");
        assert!(keys.iter().all(|id| answer.text.contains(id)), "{}", answer.text);
    }
    house.delete(&path(&made)).await.refused(409, "conflict");
    for id in &keys {
        house.delete(&format!("/api/keys/{id}")).await.expect(204);
    }
    house.delete(&path(&made)).await.expect(204);
    house.delete(&path(&other)).await.refused(409, "conflict");
}

#[tokio::test]
async fn a_sealed_value_that_does_not_open_is_audited_when_its_variable_is_renamed() {
    let house = House::new().await;
    let (made, other) =
        (variable(&house, "KEY", CANARY, true).await, variable(&house, "OTHER", "sk-other", true).await);
    let id = |made: &Value| made["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    // Somebody with the database in hand.
    let moved = async |tx: &Tx| -> Result<(), StoreError> {
        let foreign = config_variable_find(tx, TenantScope::house(), id(&other)).await?;
        let mut row = config_variable_find(tx, TenantScope::house(), id(&made)).await?;
        assert!(matches!(foreign.value, VariableValue::Sealed(_)));
        row.value = foreign.value;
        config_variable_update(tx, &row).await
    };
    house.control.store.write(moved).await.expect("written");
    house.patch(&path(&made), json!({"name": "RENAMED"})).await.refused(500, "internal_error");
    let entries = audited(&house, "reference.resolved").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entries[0].outcome.as_str(), entries[0].details["reference"].as_str()),
        ("failure", "store:KEY")
    );
    assert!(entries[0].details["reason"].contains("cannot be opened"));
    assert_eq!(house.get(&path(&made)).await.expect(200)["name"], "KEY");
    // What is merely refused is no such incident.
    house.post(PATH, json!({"name": "OPEN", "value": ""})).await.expect(201);
    let open = house.get(PATH).await.expect(200)["data"][2].clone();
    house.patch(&path(&open), json!({"sensitive": true})).await.refused(400, "invalid_request");
    assert_eq!(audited(&house, "reference.resolved").await.len(), 1);
}

#[tokio::test]
async fn at_059_a_reference_reaches_sensitive_variables_of_the_own_tenant_and_nothing_else() {
    let house = House::new().await;
    let other = house.tenant("other").await;
    let theirs = json!({"name": "THEIRS", "value": CANARY, "sensitive": true, "tenant_id": other});
    house.post(PATH, theirs).await.expect(201);
    variable(&house, "OPEN", "sk-open", false).await;
    variable(&house, "UNFIT", "two words", true).await;
    variable(&house, "GOOD", CANARY, true).await;
    let resolve = async |name: &str| {
        let tx = house.control.store.begin().await.expect("a transaction");
        let resolved = house.control.resolve_store(&tx, house.default_tenant, name).await;
        resolved.map(|secret| house.control.fingerprints.of(&secret)).map_err(|error| error.to_string())
    };
    assert_eq!(resolve("GOOD").await, Ok(fingerprint(&house, CANARY)));
    for (name, says) in [
        ("THEIRS", "there is no config variable `THEIRS`"),
        ("PATH", "there is no config variable `PATH`"),
        ("good", "there is no config variable `good`"),
        ("${PATH}", "ASCII letters, digits"),
        ("../master.key", "ASCII letters, digits"),
        ("OPEN", "is not sensitive"),
        ("UNFIT", "cannot be a provider's key"),
    ] {
        let refused = resolve(name).await.expect_err(name);
        assert!(refused.contains(says) && !refused.contains("canary"), "{name}: {refused}");
    }
}

#[tokio::test]
async fn at_072_variables_of_another_tenant_are_not_there() {
    let house = House::new().await;
    let made = variable(&house, "KEY", CANARY, true).await;
    let other = house.tenant("other").await;
    let (_, admin) = house.user(Role::TenantAdmin, other).await;
    let send =
        async |method: &str, body: Option<Value>| house.send(method, &path(&made), Some(&admin), body).await;
    send("GET", None).await.refused(404, "not_found");
    send("PATCH", Some(json!({"value": "mine"}))).await.refused(404, "not_found");
    send("DELETE", None).await.refused(404, "not_found");
    let list = house.send("GET", PATH, Some(&admin), None).await.expect(200);
    assert_eq!(list["data"], json!([]));
    let own = json!({"name": "KEY", "value": "mine", "tenant_id": house.default_tenant});
    house.send("POST", PATH, Some(&admin), Some(own)).await.refused(404, "not_found");
    // A deleted tenant takes its variables with it.
    house
        .post(PATH, json!({"name": "GONE", "value": "x", "sensitive": true, "tenant_id": other}))
        .await
        .expect(201);
    let before = house.control.store.sealed_rows().await.expect("rows").len();
    house.delete(&format!("/api/tenants/{other}")).await.expect(204);
    assert_eq!(house.control.store.sealed_rows().await.expect("rows").len(), before - 1);
}
