//! The audit log: every act is in it, nothing secret is, and a changed one is found.

use serde_json::{Value, json};

use super::harness::{CANARY, House, PASSWORD};
use crate::control::BadEntry;

async fn acted() -> (House, String) {
    let house = House::new().await;
    let key = house.post("/api/virtual-keys", json!({"name": "k"})).await.expect(201);
    house
        .post("/api/keys", json!({"provider": "openai", "key_name": "=x", "api_key": CANARY}))
        .await
        .expect(201);
    house
        .put("/api/prices", json!({"prices": [{"model": "a/b", "input": 1, "output": 1}]}))
        .await
        .expect(200);
    house.delete(&format!("/api/virtual-keys/{}", key["id"].as_str().expect("an id"))).await;
    (house, key["key"].as_str().expect("a key").to_owned())
}

#[tokio::test]
async fn acts_are_listed_newest_first_without_secrets() {
    let (house, key) = acted().await;
    let answer = house.get("/api/v1/audit").await;
    assert!(!answer.text.contains(&key) && !answer.text.contains(PASSWORD));
    let log = answer.expect(200);
    let actions: Vec<_> =
        log["data"].as_array().expect("entries").iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(
        actions,
        [
            "virtual_key.deleted",
            "prices.set",
            "provider_key.created",
            "virtual_key.created",
            "user.created",
            "tenant.created"
        ]
    );
    let stored = &log["data"][2];
    assert_eq!(
        (&stored["seq"], &stored["details"]["key_name"], &stored["details"]["provider"]),
        (&json!(4), &json!("=x"), &json!("openai"))
    );
    assert_eq!(stored["category"], "secret_management");
    let one = house.get("/api/v1/audit?action=prices.set&limit=1").await.expect(200);
    assert_eq!((one["data"].as_array().map(Vec::len), &one["next_cursor"]), (Some(1), &Value::Null));
    let page = house.get("/api/v1/audit?limit=2").await.expect(200);
    let next = page["next_cursor"].as_str().expect("a cursor");
    let page = house.get(&format!("/api/v1/audit?limit=2&cursor={next}")).await.expect(200);
    assert_eq!(page["data"][0]["seq"], 4);
}

#[tokio::test]
async fn a_refused_act_leaves_nothing() {
    let (house, _) = acted().await;
    let before = house.control.store.audit_head().await.expect("a head");
    house
        .put("/api/prices", json!({"prices": [{"model": "a/b", "input": -1, "output": 1}]}))
        .await
        .refused(400, "invalid_price");
    house.delete("/api/keys/pk_00000000000000000000000000000000").await.refused(404, "not_found");
    assert_eq!(house.control.store.audit_head().await.expect("a head"), before);
}

#[tokio::test]
async fn an_act_that_cannot_be_audited_is_not_done() {
    let (house, _) = acted().await;
    house.control.store.tamper("ALTER TABLE audit_entry RENAME TO gone").await;
    let keys = house.get("/api/keys").await.expect(200);
    let body = json!({"provider": "openai", "key_name": "k", "api_key": CANARY});
    let refused = house.post("/api/keys", body).await;
    assert!(refused.status.is_server_error(), "{}", refused.text);
    assert!(!refused.text.contains("audit_entry"));
    assert_eq!(house.get("/api/keys").await.expect(200), keys);
}

#[tokio::test]
async fn verification_names_the_first_entry_that_is_not_what_was_written() {
    for (sql, seq) in [
        ("UPDATE audit_entry SET canonical = replace(canonical, '=x', 'yy') WHERE seq = 4", 4),
        ("UPDATE audit_entry SET actor = 'cli' WHERE seq = 5", 5),
        ("UPDATE audit_entry SET outcome = 'failure' WHERE seq = 2", 2),
        ("UPDATE audit_entry SET mac = (SELECT mac FROM audit_entry WHERE seq = 1) WHERE seq = 3", 3),
        ("DELETE FROM audit_entry WHERE seq = 3", 3),
        ("DELETE FROM audit_entry WHERE seq = 1", 1),
        ("DELETE FROM audit_entry WHERE seq = 6", 6),
        ("DELETE FROM audit_entry", 1),
        (
            "UPDATE audit_entry SET seq = 60 WHERE seq = 6; UPDATE audit_entry SET seq = 6 WHERE seq = 5; UPDATE audit_entry SET seq = 5 WHERE seq = 60",
            5,
        ),
        (
            "INSERT INTO audit_entry SELECT 7, 'aud_x', at, actor, tenant_id, category, action, object, outcome, request_id, canonical, mac FROM audit_entry WHERE seq = 6",
            7,
        ),
        ("UPDATE audit_head SET mac = (SELECT mac FROM audit_entry WHERE seq = 5)", 6),
        ("UPDATE audit_head SET mac = ''", 6),
        ("UPDATE audit_head SET seq = 4, mac = (SELECT mac FROM audit_entry WHERE seq = 4)", 5),
        ("DELETE FROM audit_head", 1),
    ] {
        let (house, _) = acted().await;
        let verdict = house.control.audit_verify(None).await.expect("a verdict");
        assert_eq!((verdict.good, verdict.first_bad), (6, None));
        house.control.store.tamper(sql).await;
        let verdict = house.control.audit_verify(None).await.expect("a verdict");
        assert_eq!(verdict.first_bad.as_ref().map(|bad| bad.seq), Some(seq), "{sql}: {verdict:?}");
        assert_eq!(verdict.good, seq - 1);
    }
}

#[tokio::test]
async fn nothing_is_appended_to_a_head_that_is_not_the_last_entrys() {
    let (house, _) = acted().await;
    house
        .control
        .store
        .tamper("UPDATE audit_head SET mac = (SELECT mac FROM audit_entry WHERE seq = 5)")
        .await;
    let refused = house.post("/api/virtual-keys", json!({"name": "k"})).await;
    refused.refused(500, "internal_error");
    let log = house.get("/api/v1/audit").await.expect(200);
    assert_eq!(log["data"][0]["seq"], 6);
}

#[tokio::test]
async fn a_chain_that_grows_meanwhile_verifies() {
    let (house, _) = acted().await;
    let acts = async {
        for number in 0..30 {
            house.post("/api/virtual-keys", json!({"name": format!("k{number}")})).await.expect(201);
        }
    };
    let looks = async {
        for _ in 0..30 {
            let verdict = house.control.audit_verify(None).await.expect("a verdict");
            assert_eq!(verdict.first_bad, None);
        }
    };
    tokio::join!(acts, looks);
}

#[tokio::test]
async fn a_cut_end_is_seen_by_a_head_that_was_noted_elsewhere() {
    let (house, _) = acted().await;
    let noted = house.control.store.audit_head().await.expect("a head");
    let expected = Some((noted.seq, noted.mac.as_str()));
    assert_eq!(house.control.audit_verify(expected).await.expect("a verdict").first_bad, None);
    house
        .control
        .store
        .tamper(
            "DELETE FROM audit_entry WHERE seq = 6; UPDATE audit_head SET seq = 5, mac = (SELECT mac FROM audit_entry WHERE seq = 5)",
        )
        .await;
    assert_eq!(house.control.audit_verify(None).await.expect("a verdict").first_bad, None);
    let verdict = house.control.audit_verify(expected).await.expect("a verdict");
    assert!(matches!(verdict.first_bad, Some(BadEntry { seq: 6, .. })), "{verdict:?}");
}

#[tokio::test]
async fn acts_at_the_same_time_make_one_chain() {
    let house = House::new().await;
    let acts = (0..20).map(|number| house.post("/api/virtual-keys", json!({"name": format!("k{number}")})));
    for answer in futures_util::future::join_all(acts).await {
        answer.expect(201);
    }
    let verdict = house.control.audit_verify(None).await.expect("a verdict");
    assert_eq!((verdict.good, verdict.first_bad), (22, None));
}
