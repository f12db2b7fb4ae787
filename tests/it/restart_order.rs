//! Data directories and databases that come back in the wrong order: late, old, or one without the other.

use std::{fs, path::Path, time::Duration};

use keystile::{config::SecretText, store::sqlite_url, vault::KeyRing};
use reqwest::Method;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use crate::{
    several::priced,
    support::{
        Answer, Gate, Gateway, Setup, Upstream, VirtualKey, chat_events, chat_ok, copy,
        database::{hold_writes, intruder},
        done, eventually,
        process::Process,
        usage, usage_chunk,
    },
};

/// What one request costs, in micro-USD, and is reserved at.
const COST: usize = 15;

fn asked() -> Value {
    json!({ "max_tokens": COST })
}

/// A stream that stops in the middle until the gate opens.
fn held(gate: &Gate) -> Answer {
    let events = chat_events(&["one"]);
    let answer = Answer::stream().send(&events[0]).send(&events[1]).wait(gate).send(&events[2]);
    answer.send(usage_chunk(&usage(1, COST as u64))).send(done()).end()
}

/// Settled of a key in micro-USD, and what all instances together have leased.
async fn books(gateway: &Gateway, key: &VirtualKey) -> (Value, i64) {
    gateway.app.house.ledger.flushed().await;
    let spent = gateway.get(&format!("/api/virtual-keys/{}", key.id)).await["spent_micro_usd"].clone();
    let instances = gateway.get("/api/instances").await;
    let leased = instances["data"].as_array().expect("rows").iter();
    (spent, leased.map(|each| each["leased_micro_usd"].as_i64().expect("a sum")).sum())
}

/// One database for all, and one master key, so that any data directory may come with it.
async fn house(upstream: &Upstream, shared: &Path) -> Setup {
    Setup::new().await.allow(upstream).with(|config| {
        if config.database_url.is_none() {
            config.database_url = Some(SecretText::new(sqlite_url(&shared.join("keystile.db"))));
            config.vault.master_keys = vec![KeyRing::generate()];
        }
        config.ledger.release_after = Duration::from_millis(1);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_p09_p22_the_journal_of_a_released_instance_comes_back_late_and_takes_only_what_is_free() {
    const AFFORDED: usize = 20;
    let gate = Gate::new();
    let upstream = Upstream::always(chat_ok("hi", &usage(1, COST as u64))).await;
    let shared = tempfile::tempdir().expect("a directory");
    let two = house(&upstream, shared.path()).await.start().await;
    two.provider_key("openai", &upstream).await;
    priced(std::slice::from_ref(&two)).await;
    let key = two.virtual_key(json!({ "spend_cap_micro_usd": COST * AFFORDED })).await;
    let one = two.beside();
    let two = two.stop(Duration::from_secs(5)).await.again;

    // One takes all of the cap, and dies with four charges and a stream that nobody but its journal knows.
    let process = Process::serve(&one).await;
    let other = intruder(&one.config.database_url.as_ref().expect("a database").0).await;
    process.chat(&key, asked()).await.expect(200);
    eventually("the first charge to be written", || async {
        let count = Statement::from_string(other.get_database_backend(), "SELECT COUNT(*) FROM usage_record");
        let row = other.query_one_raw(count).await.expect("an answer").expect("a row");
        (row.try_get_by_index::<i64>(0).expect("a number") == 1).then_some(())
    })
    .await;
    hold_writes(&other).await;
    for _ in 0..4 {
        process.chat(&key, asked()).await.expect(200);
    }
    upstream.answer(held(&gate));
    let mut stream = process.stream(&key, asked()).await;
    stream.frame().await.expect("a frame");
    process.kill();
    gate.open();
    upstream.answer(chat_ok("hi", &usage(1, COST as u64)));
    other.execute_unprepared("ROLLBACK").await.expect("released");
    other.close().await.expect("closed");

    let two = two.start().await;
    let instances = two.get("/api/instances").await;
    let dead = instances["data"].as_array().expect("rows").iter().find(|each| each["leased_micro_usd"] != 0);
    let dead =
        dead.unwrap_or_else(|| panic!("a lease: {instances}"))["id"].as_str().expect("an id").to_owned();
    two.chat(&key, asked()).await.expect(402);
    let release = format!("/api/instances/{dead}/release");
    eventually("its leases to be released", || async {
        (two.admin(Method::POST, &release, None).await.status == 200).then_some(())
    })
    .await;
    let before = two.usage().await.len();
    let mut spent = 0;
    eventually("the rest to be spent", || async {
        (two.chat(&key, asked()).await.status == 200).then_some(())
    })
    .await;
    while two.chat(&key, asked()).await.status == 200 {
        spent += 1;
        assert!(spent < AFFORDED, "the cap holds");
    }
    assert_eq!(two.usage_of(before + spent + 1).await.len(), AFFORDED, "all of the cap is used");

    // SQLite has one gateway at a time.
    let beside = if two.config.database_file().is_some() {
        two.stop(Duration::from_secs(5)).await;
        None
    } else {
        Some(two)
    };
    let one = one.start().await;
    assert!(
        one.app.facts.iter().any(|fact| fact.starts_with("recovered from the journal: ")),
        "{:?}",
        one.app.facts
    );
    let rows = one.usage_of(upstream.count()).await;
    let late: Vec<&Value> = rows.iter().filter(|row| row["outcome"] == "recovered").collect();
    assert!(late.iter().all(|row| row["cost_micro_usd"] == 0), "nothing was free: {late:#?}");
    // Those that had ended knew their cost, the stream's was an estimate.
    assert_eq!(late.iter().filter(|row| row["clamped_micro_usd"] == COST).count(), 4, "{late:#?}");
    assert_eq!(late.len(), 5);
    one.chat(&key, asked()).await.refused(402, "spend_cap_reached");
    assert_eq!(books(&one, &key).await.0, json!(COST * AFFORDED));
    one.stop(Duration::from_secs(5)).await;
    if let Some(two) = beside {
        two.chat(&key, asked()).await.refused(402, "spend_cap_reached");
        two.stop(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p05_p23_an_older_journal_beside_a_newer_database_counts_nothing_again_and_new_records_follow() {
    let gate = Gate::new();
    let upstream = Upstream::always(chat_ok("hi", &usage(1, COST as u64))).await;
    let shared = tempfile::tempdir().expect("a directory");
    let gateway = house(&upstream, shared.path()).await.start().await;
    gateway.provider_key("openai", &upstream).await;
    priced(std::slice::from_ref(&gateway)).await;
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": COST * 100 })).await;
    for _ in 0..3 {
        gateway.chat(&key, asked()).await.expect(200);
    }
    upstream.answer(held(&gate));
    let mut stream = gateway.stream(&key, asked()).await;
    stream.frame().await.expect("a frame");
    let journal = gateway.config.server.data_dir.join("journal");
    let old = shared.path().join("old");
    copy(&journal, &old);
    upstream.answer(chat_ok("hi", &usage(1, COST as u64)));
    gate.open();
    assert!(stream.text().await.ends_with(&done()));
    for _ in 0..3 {
        gateway.chat(&key, asked()).await.expect(200);
    }
    let rows = gateway.usage_of(7).await;
    let again = gateway.stop(Duration::from_secs(5)).await.again;

    fs::remove_dir_all(&journal).expect("removed");
    copy(&old, &journal);
    let gateway = again.start().await;
    assert_eq!(
        gateway.usage().await,
        rows,
        "the stream that the old journal has open is known to have ended"
    );
    assert_eq!(books(&gateway, &key).await, (json!(COST * 7), 0));
    for _ in 0..2 {
        gateway.chat(&key, asked()).await.expect(200);
    }
    let rows = gateway.usage_of(9).await;
    let gateway = gateway.stop(Duration::from_secs(5)).await.again.start().await;
    assert_eq!(gateway.usage().await, rows);
    assert_eq!(books(&gateway, &key).await, (json!(COST * 9), 0));
    gateway.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p23_an_older_database_beside_a_newer_journal_gets_back_what_the_journal_still_has() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, COST as u64))).await;
    let shared = tempfile::tempdir().expect("a directory");
    let setup = house(&upstream, shared.path()).await;
    let Some(database) = setup.config.database_file() else {
        println!("skipped: a database is put back by copying its file");
        return;
    };
    let gateway = setup.start().await;
    gateway.provider_key("openai", &upstream).await;
    priced(std::slice::from_ref(&gateway)).await;
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": COST * 10 })).await;
    for _ in 0..3 {
        gateway.chat(&key, asked()).await.expect(200);
    }
    let again = gateway.stop(Duration::from_secs(5)).await.again;
    let backup = shared.path().join("backup.db");
    fs::copy(&database, &backup).expect("copied");
    let gateway = again.start().await;
    for _ in 0..7 {
        gateway.chat(&key, asked()).await.expect(200);
    }
    let rows = gateway.usage_of(10).await;
    let again = gateway.stop(Duration::from_secs(5)).await.again;
    fs::copy(&backup, &database).expect("put back");
    let gateway = again.start().await;
    assert_eq!(gateway.usage().await, rows);
    assert_eq!(books(&gateway, &key).await, (json!(COST * 10), 0));
    gateway.chat(&key, asked()).await.refused(402, "spend_cap_reached");
    gateway.stop(Duration::from_secs(5)).await;
}
