//! Attacks on the audit chain by somebody with the database in hand, and its pruning.

use std::time::Duration;

use entity::audit_entry::Model;
use serde_json::json;

use super::{
    audit::acted,
    harness::{CANARY, House},
};
use crate::control::{BadEntry, ControlError, Fit};

const DAY: u64 = 24 * 3600;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).expect("small")
    }
}

/// The first place at which two logs differ, as verification counts: 1, 2, 3 …
fn first_difference(before: &[Model], after: &mut [Model]) -> Option<i64> {
    after.sort_by_key(|row| row.seq);
    let place = (0..before.len().max(after.len())).find(|at| before.get(*at) != after.get(*at));
    place.map(|at| i64::try_from(at).expect("few") + 1)
}

/// Another character in one place of a text.
fn flip(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn flip_column(row: &mut Model, column: usize, dice: &mut Dice) {
    let mut text = |value: &mut String| {
        let at = dice.roll(value.len().max(1));
        *value = if value.is_empty() { "0".into() } else { flip(value, at) };
    };
    match column {
        0 => text(&mut row.id),
        1 => row.at += 1,
        2 => text(&mut row.actor),
        3 => row.tenant_id = row.tenant_id.take().map_or(Some("tnt_0".into()), |_| None),
        4 => text(&mut row.category),
        5 => text(&mut row.action),
        6 => row.object = row.object.take().map_or(Some("vk_0".into()), |_| None),
        7 => text(&mut row.outcome),
        8 => row.request_id = row.request_id.take().map_or(Some("req_0".into()), |_| None),
        9 => text(&mut row.canonical),
        _ => text(&mut row.mac),
    }
}
const COLUMNS: usize = 11;

async fn first_bad(house: &House) -> Option<i64> {
    let verdict = house.control.audit_verify(None).await.expect("a verdict");
    verdict.first_bad.map(|bad| bad.seq)
}

#[tokio::test]
async fn at_111_a_thousand_random_mutations_are_each_found_where_they_begin() {
    let (house, _) = acted().await;
    for number in 0..6 {
        house.post("/api/virtual-keys", json!({"name": format!("k{number}")})).await.expect(201);
    }
    let store = &house.control.store;
    store.tamper("SELECT 1").await;
    let original = store.audit_rows().await;
    assert_eq!(original.len(), 12);
    let mut dice = Dice(0x4b65_7973_7469_6c65);
    for case in 0..1_000 {
        let mut rows = original.clone();
        let at = dice.roll(rows.len());
        let what = dice.roll(5);
        match what {
            0 => {
                let column = dice.roll(COLUMNS);
                flip_column(&mut rows[at], column, &mut dice);
            }
            1 => drop(rows.remove(at)),
            2 => {
                // One more, in the place of another or at the end; all that follow make room.
                let mut added = rows[at].clone();
                added.id = format!("aud_{case}");
                rows.iter_mut().skip(at + 1).for_each(|row| row.seq += 1);
                added.seq += 1;
                rows.push(added);
            }
            3 => {
                let other = (at + 1 + dice.roll(rows.len() - 1)) % rows.len();
                let (one, two) = (rows[at].seq, rows[other].seq);
                (rows[at].seq, rows[other].seq) = (two, one);
            }
            _ => rows[at].seq = 100 + i64::try_from(dice.roll(1_000)).expect("small"),
        }
        let Some(expected) = first_difference(&original, &mut rows) else { continue };
        store.audit_put(rows).await;
        assert_eq!(first_bad(&house).await, Some(expected), "case {case}: mutation {what} at {at}");
    }
    store.audit_put(original).await;
    assert_eq!(first_bad(&house).await, None);
}

#[tokio::test]
async fn at_111_no_audited_byte_can_be_changed() {
    let (house, _) = acted().await;
    let store = &house.control.store;
    store.tamper("SELECT 1").await;
    let original = store.audit_rows().await;
    let row = &original[3];
    for at in 0..row.canonical.len() + row.mac.len() {
        let mut rows = original.clone();
        match at.checked_sub(row.canonical.len()) {
            None if !row.canonical.is_char_boundary(at) || !row.canonical.is_char_boundary(at + 1) => {
                continue;
            }
            None => rows[3].canonical = flip(&row.canonical, at),
            Some(at) => rows[3].mac = flip(&row.mac, at),
        }
        store.audit_put(rows).await;
        assert_eq!(first_bad(&house).await, Some(4), "byte {at}");
    }
    let mut dice = Dice(7);
    for column in 0..COLUMNS {
        let mut rows = original.clone();
        flip_column(&mut rows[3], column, &mut dice);
        store.audit_put(rows).await;
        assert_eq!(first_bad(&house).await, Some(4), "column {column}");
    }
}

#[tokio::test]
async fn at_113_an_act_that_cannot_be_audited_is_not_done() {
    let (house, _) = acted().await;
    let store = &house.control.store;
    let keys = house.get("/api/keys").await.expect(200);
    let refused = async || {
        let body = json!({"provider": "openai", "key_name": "k", "api_key": CANARY});
        let refused = house.post("/api/keys", body).await;
        assert!(refused.status.is_server_error(), "{}", refused.text);
        assert!(!refused.text.contains("audit_entry") && !refused.text.contains("full"), "{}", refused.text);
        assert_eq!(house.get("/api/keys").await.expect(200), keys, "no row");
    };
    let full = match store.is_postgres() {
        true => {
            "CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$; \
             CREATE TRIGGER full_up BEFORE INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION full_up()"
        }
        false => "CREATE TRIGGER full_up BEFORE INSERT ON audit_entry BEGIN SELECT RAISE(ABORT, 'full'); END",
    };
    store.tamper(full).await;
    refused().await;
    assert_eq!(first_bad(&house).await, None, "and nothing of it is in the chain");
    store.tamper("ALTER TABLE audit_entry RENAME TO gone").await;
    refused().await;
}

#[tokio::test]
async fn at_114_a_cut_end_and_an_older_database_are_seen_from_elsewhere() {
    let (house, _) = acted().await;
    let store = &house.control.store;
    let (older_rows, older) = (store.audit_rows().await, store.audit_head().await.expect("a head"));
    house.post("/api/virtual-keys", json!({"name": "k"})).await.expect(201);
    let noted = store.audit_head().await.expect("a head");
    let checkpoint = house.control.audit_checkpoint().await.expect("a checkpoint");
    let expected = Some((noted.seq, noted.mac.as_str()));
    assert_eq!(house.control.audit_verify(expected).await.expect("a verdict").first_bad, None);
    assert_eq!(house.control.audit_fits(&checkpoint).await.expect("an answer"), Fit::Good);

    store.tamper(&format!("UPDATE audit_head SET seq = {}, mac = '{}'", older.seq, older.mac)).await;
    store.audit_put(older_rows).await;
    assert_eq!(first_bad(&house).await, None, "the chain by itself holds");
    let verdict = house.control.audit_verify(expected).await.expect("a verdict");
    assert!(matches!(verdict.first_bad, Some(BadEntry { seq: 7, .. })), "{verdict:?}");
    let fit = house.control.audit_fits(&checkpoint).await.expect("an answer");
    assert!(matches!(fit, Fit::Bad(why) if why.contains("cut off")), "{fit:?}");

    // Written on from there, it is another chain.
    house.post("/api/virtual-keys", json!({"name": "another"})).await.expect(201);
    assert_eq!(first_bad(&house).await, None);
    let verdict = house.control.audit_verify(expected).await.expect("a verdict");
    assert!(matches!(verdict.first_bad, Some(BadEntry { seq: 7, .. })), "{verdict:?}");
    let fit = house.control.audit_fits(&checkpoint).await.expect("an answer");
    assert!(matches!(fit, Fit::Bad(why) if why.contains("another")), "{fit:?}");
}

#[tokio::test]
async fn a_checkpoint_that_nobody_here_signed_does_not_fit() {
    let (house, _) = acted().await;
    let (other, _) = acted().await;
    let good = house.control.audit_checkpoint().await.expect("a checkpoint");
    let later = crate::domain::Timestamp::from_millis(good.time.millis() + 1);
    for forged in [
        crate::control::Checkpoint { seq: good.seq - 1, ..good.clone() },
        crate::control::Checkpoint { mac: flip(&good.mac, 5), ..good.clone() },
        crate::control::Checkpoint { time: later, ..good.clone() },
        crate::control::Checkpoint { signature: flip(&good.signature, 5), ..good.clone() },
        other.control.audit_checkpoint().await.expect("a checkpoint"),
    ] {
        let fit = house.control.audit_fits(&forged).await.expect("an answer");
        assert!(matches!(fit, Fit::Bad(why) if why.contains("signature")), "{forged:?}: {fit:?}");
    }
}

#[tokio::test]
async fn at_115_the_database_itself_refuses_to_change_or_delete_entries() {
    let (house, _) = acted().await;
    let store = &house.control.store;
    let mut refused = vec![
        "UPDATE audit_entry SET actor = 'cli' WHERE seq = 3",
        "UPDATE audit_entry SET actor = actor",
        "DELETE FROM audit_entry WHERE seq = 6",
        "DELETE FROM audit_entry",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET seq = 5",
        "UPDATE audit_head SET seq = 60",
        "UPDATE audit_head SET mac = 'x'",
        "INSERT INTO audit_head (id, seq, mac) VALUES (1, 0, '')",
    ];
    if store.is_postgres() {
        refused.extend(["TRUNCATE audit_entry", "TRUNCATE audit_head", "TRUNCATE audit_anchor"]);
    } else {
        refused.extend([
            "INSERT OR REPLACE INTO audit_entry SELECT 3, id, at, 'cli', tenant_id, category, action, object, outcome, request_id, canonical, mac FROM audit_entry WHERE seq = 3",
            "REPLACE INTO audit_head (id, seq, mac) VALUES (1, 0, '')",
            "UPDATE OR REPLACE audit_entry SET seq = 5 WHERE seq = 6",
        ]);
    }
    for sql in &refused {
        assert!(!store.takes(sql).await, "{sql}");
    }
    assert!(store.takes("UPDATE audit_head SET seq = seq").await, "what changes nothing is how it is locked");

    // An anchor opens what is behind it and no more, and only goes on.
    house.pass(40 * DAY);
    house.control.audit_prune(Duration::from_secs(30 * DAY)).await.expect("pruned");
    for sql in [
        "UPDATE audit_anchor SET seq = 2",
        "UPDATE audit_anchor SET mac = 'x'",
        "DELETE FROM audit_anchor",
        "DELETE FROM audit_entry WHERE seq = 7",
        "UPDATE audit_entry SET actor = 'cli' WHERE seq = 1",
    ] {
        assert!(!store.takes(sql).await, "{sql}");
    }
    assert!(store.takes("DELETE FROM audit_entry WHERE seq = 6").await);
    assert_eq!(first_bad(&house).await, None);
}

#[tokio::test]
async fn what_is_left_after_pruning_still_proves_where_it_begins() {
    let (house, _) = acted().await;
    let store = &house.control.store;
    let kept = Duration::from_secs(30 * DAY);
    let old = house.control.audit_checkpoint().await.expect("a checkpoint");
    assert_eq!(house.control.audit_prune(kept).await.expect("nothing is old"), None);
    house.pass(29 * DAY);
    let session = house.session_of("root@example.com").await;
    let body = Some(json!({"name": "young"}));
    house.send("POST", "/api/virtual-keys", Some(&session), body).await.expect(201);
    let noted = house.control.audit_checkpoint().await.expect("a checkpoint");
    house.pass(2 * DAY);
    assert_eq!(house.control.audit_prune(kept).await.expect("pruned"), Some(6));
    assert_eq!(house.control.audit_prune(kept).await.expect("once"), None);

    let session = house.session_of("root@example.com").await;
    let listed = async || {
        let log = house.send("GET", "/api/v1/audit", Some(&session), None).await.expect(200);
        let seqs: Vec<_> =
            log["data"].as_array().expect("entries").iter().map(|e| e["seq"].as_i64()).collect();
        (seqs, log["data"][0].clone())
    };
    let (seqs, pruned) = listed().await;
    assert_eq!(seqs, [Some(8), Some(7)], "what an anchor stands for is not shown, deleted or not");
    assert_eq!((&pruned["action"], &pruned["actor"]), (&json!("audit.pruned"), &json!("system")));
    assert_eq!(pruned["details"], json!({"through_seq": "6", "before": "2026-11-22T00:00:00.000Z"}));
    assert_eq!(house.control.audit_delete_pruned().await.expect("deleted"), 6);
    assert_eq!(house.control.audit_delete_pruned().await.expect("deleted"), 0);
    assert_eq!(store.audit_rows().await.len(), 2);
    assert_eq!(listed().await.0, seqs);

    let verdict = house.control.audit_verify(None).await.expect("a verdict");
    assert_eq!((verdict.first_bad, verdict.pruned, verdict.good), (None, 6, 8));
    assert_eq!(house.control.audit_verify_last(5).await.expect("a verdict").first_bad, None);
    assert_eq!(house.control.audit_fits(&noted).await.expect("an answer"), Fit::Good);
    assert_eq!(house.control.audit_fits(&old).await.expect("an answer"), Fit::Good, "the anchor's own");
    let expected = Some((6, old.mac.as_str()));
    assert_eq!(house.control.audit_verify(expected).await.expect("a verdict").first_bad, None);
    house.control.audit_verify(Some((5, "x"))).await.expect_err("nobody knows");

    // Whoever moves the anchor to hide what was done meets its seal.
    let anchor = store.audit_anchor().await.expect("read").expect("an anchor");
    let mac = store.audit_rows().await[0].mac.clone();
    store
        .tamper(&format!(
            "UPDATE audit_anchor SET seq = 7, mac = '{mac}'; DELETE FROM audit_entry WHERE seq = 7"
        ))
        .await;
    assert_eq!(first_bad(&house).await, Some(7));
    store.tamper(&format!("UPDATE audit_anchor SET seq = 6, mac = '{}'", anchor.mac)).await;
    assert_eq!(first_bad(&house).await, Some(7), "it is missing");
    store.tamper("DELETE FROM audit_anchor").await;
    assert_eq!(first_bad(&house).await, Some(1), "it is missing");
}

/// What the log shows its owner, newest first.
async fn shown(house: &House) -> Vec<i64> {
    let session = house.session_of("root@example.com").await;
    let log = house.send("GET", "/api/v1/audit", Some(&session), None).await.expect(200);
    let entries = log["data"].as_array().expect("entries").iter();
    entries.map(|entry| entry["seq"].as_i64().expect("a number")).collect()
}

fn broken_at<T: std::fmt::Debug>(answer: Result<T, ControlError>) -> i64 {
    match answer {
        Err(ControlError::AuditBroken { seq, .. }) => seq,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn entries_that_were_dated_back_or_spoilt_are_not_pruned_away() {
    let kept = Duration::from_secs(30 * DAY);
    for (days, sql, bad) in [
        // Young entries, which only their column makes old.
        (1, "UPDATE audit_entry SET at = 0", 1),
        (1, "UPDATE audit_entry SET at = 0 WHERE seq <= 3", 1),
        // Old ones, whose traces pruning would remove.
        (40, "UPDATE audit_entry SET at = 0 WHERE seq = 4", 4),
        (40, "UPDATE audit_entry SET actor = 'cli' WHERE seq = 6", 6),
        (40, "UPDATE audit_entry SET mac = 'x' WHERE seq = 2", 2),
        (40, "DELETE FROM audit_entry WHERE seq = 3", 3),
        (40, "DELETE FROM audit_entry WHERE seq = 1", 1),
        (40, "DELETE FROM audit_entry WHERE seq = 6", 6),
    ] {
        let (house, _) = acted().await;
        let store = &house.control.store;
        store.tamper(sql).await;
        let before = store.audit_rows().await;
        house.pass(days * DAY);
        assert_eq!(broken_at(house.control.audit_prune(kept).await), bad, "{sql}");
        assert_eq!(house.control.audit_delete_pruned().await.expect("nothing"), 0, "{sql}");
        assert_eq!(store.audit_rows().await, before, "{sql}");
        assert_eq!(store.audit_anchor().await.expect("read"), None, "{sql}");
        assert_eq!(first_bad(&house).await, Some(bad), "{sql}");
    }
}

#[tokio::test]
async fn the_entry_at_which_pruning_stops_must_be_good_too() {
    let (house, _) = acted().await;
    house.pass(40 * DAY);
    let session = house.session_of("root@example.com").await;
    let body = Some(json!({"name": "young"}));
    house.send("POST", "/api/virtual-keys", Some(&session), body).await.expect(201);
    house.control.store.tamper("UPDATE audit_entry SET actor = 'cli' WHERE seq = 7").await;
    assert_eq!(broken_at(house.control.audit_prune(Duration::from_secs(30 * DAY)).await), 7);
    assert_eq!(house.control.store.audit_rows().await.len(), 7);
}

#[tokio::test]
async fn an_anchor_that_the_gateway_did_not_seal_deletes_and_hides_nothing() {
    let kept = Duration::from_secs(30 * DAY);
    let forged = |seq: i64| {
        format!("INSERT INTO audit_anchor (id, seq, mac, at, seal) VALUES (1, {seq}, 'any', 0, 'garbage')")
    };
    // The gateway's own access is enough for it.
    let (house, _) = acted().await;
    let store = &house.control.store;
    assert!(store.takes(&forged(4)).await);
    for seq in [4, 6, 600] {
        let (house, _) = acted().await;
        let store = &house.control.store;
        store.tamper(&forged(seq)).await;
        let before = store.audit_rows().await;
        for days in [1, 40] {
            house.pass(days * DAY);
            assert_eq!(broken_at(house.control.audit_prune(kept).await), seq);
            assert_eq!(broken_at(house.control.audit_delete_pruned().await), seq);
        }
        assert_eq!(store.audit_rows().await, before);
        assert_eq!(shown(&house).await, [6, 5, 4, 3, 2, 1]);
        assert_eq!(first_bad(&house).await, Some(seq));
        let verdict = house.control.audit_verify_last(1).await.expect("a verdict");
        assert_eq!(verdict.first_bad.map(|bad| bad.seq), Some(seq), "as the doctor sees it");
    }

    // Raised from one that the gateway sealed.
    house.pass(40 * DAY);
    assert_eq!(house.control.audit_prune(kept).await.expect("pruned"), Some(6));
    let raised = "UPDATE audit_anchor SET seq = 7, mac = 'any', seal = 'garbage'";
    assert!(store.takes(raised).await);
    store.tamper(raised).await;
    assert_eq!(broken_at(house.control.audit_delete_pruned().await), 7);
    assert_eq!(broken_at(house.control.audit_prune(kept).await), 7);
    assert_eq!(store.audit_rows().await.len(), 7);
    let export = house.control.audit_export(&crate::domain::Actor::Cli, &Default::default()).await;
    assert_eq!(export.expect("an export").next().await.expect("entries").len(), 7);
    assert_eq!(first_bad(&house).await, Some(7));
}
