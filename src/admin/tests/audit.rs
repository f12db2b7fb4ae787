//! The audit log: every act is in it, nothing secret is, and a changed one is found.

use serde_json::{Value, json};

use super::harness::{CANARY, House, PASSWORD};

pub(super) async fn acted() -> (House, String) {
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
async fn at_111_verification_names_the_first_entry_that_is_not_what_was_written() {
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
async fn acts_at_the_same_time_make_one_chain() {
    let house = House::new().await;
    let acts = (0..20).map(|number| house.post("/api/virtual-keys", json!({"name": format!("k{number}")})));
    for answer in futures_util::future::join_all(acts).await {
        answer.expect(201);
    }
    let verdict = house.control.audit_verify(None).await.expect("a verdict");
    assert_eq!((verdict.good, verdict.first_bad), (22, None));
}

#[tokio::test]
async fn the_log_is_filtered_by_everything_an_entry_has() {
    let (house, _) = acted().await;
    let first = house.get("/api/v1/audit").await.expect(200);
    let object = first["data"][2]["object"].as_str().expect("an id").to_owned();
    let seqs = async |query: &str| -> Vec<i64> {
        let found = house.get(&format!("/api/v1/audit?{query}")).await.expect(200);
        let entries = found["data"].as_array().expect("entries");
        entries.iter().map(|entry| entry["seq"].as_i64().expect("a number")).collect()
    };
    assert_eq!(seqs(&format!("object={object}")).await, [4]);
    assert_eq!(seqs("actor=system").await, [2, 1]);
    assert_eq!(seqs("category=key_management").await, [6, 3]);
    assert_eq!(seqs("outcome=refused").await, [0; 0]);
    assert_eq!(seqs("from=2026-11-21&to=2026-11-22&action=prices.set").await, [5]);
    assert_eq!(seqs("from=2026-11-21T12:00:00Z").await.len(), 6, "from is inclusive");
    assert_eq!(seqs("to=2026-11-21T12:00:00Z").await, [0; 0], "to is exclusive");
    for (query, names) in [
        ("what=1", "`outcome`"),
        ("category=secrets", "`secret_management`"),
        ("outcome=ok", "`refused`"),
        ("action=key.made", "`virtual_key.created`"),
        ("from=yesterday", "RFC 3339"),
        ("from=2026-11-22&to=2026-11-21", "`to`"),
        ("format=xml", "`jsonl`"),
        ("format=jsonl&limit=3", "`limit`"),
    ] {
        let refused = house.get(&format!("/api/v1/audit?{query}")).await;
        refused.refused(400, "invalid_request");
        assert!(refused.text.contains(names), "{query}: {}", refused.text);
    }
}

#[tokio::test]
async fn everything_that_matches_is_exported_as_lines_page_after_page() {
    let house = House::new().await;
    for number in 0..520 {
        house.post("/api/virtual-keys", json!({"name": format!("k{number}")})).await.expect(201);
    }
    let answer = house.get("/api/v1/audit?format=jsonl&category=key_management").await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> =
        answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 520, "more than one page of 500");
    assert!(lines.iter().zip(3..).all(|(line, seq)| line["seq"] == seq), "oldest first, none left out");
    let one = house.get("/api/v1/audit?action=virtual_key.created&limit=1").await.expect(200);
    assert_eq!(lines[519], one["data"][0], "a line is what the list shows");
    for member in ["actor", "category", "action", "object", "outcome", "at", "request_id", "details"] {
        assert!(!lines[519][member].is_null(), "{member}");
    }
    let owner = house.owner.clone();
    let accepted = house
        .send_with(
            "GET",
            "/api/v1/audit?action=user.created",
            Some(&owner),
            None,
            &[("accept", "application/x-ndjson")],
        )
        .await;
    assert_eq!(accepted.text.lines().count(), 1);
    let none = house.get("/api/v1/audit?format=jsonl&action=lease.released").await;
    assert_eq!((none.status.as_u16(), none.text.as_str()), (200, ""));
}
