//! When the database is gone or busy: who is known goes on, who is not is told so, and no usage is lost.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use serde_json::json;

use crate::support::{Gateway, Setup, Upstream, chat_ok, eventually, usage};

/// Somebody else's connection to the same database.
async fn intruder(gateway: &Gateway) -> DatabaseConnection {
    // One connection, so that what it begins it also ends.
    let mut options = sea_orm::ConnectOptions::new(gateway.database_url());
    options.max_connections(1).min_connections(1);
    Database::connect(options).await.expect("a connection")
}

fn is_sqlite(gateway: &Gateway) -> bool {
    gateway.database_url().starts_with("sqlite")
}

#[tokio::test]
async fn while_another_holds_the_write_lock_known_keys_are_served_and_nothing_is_lost() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    if !is_sqlite(&gateway) {
        return;
    }
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let other = intruder(&gateway).await;
    other.execute_unprepared("BEGIN IMMEDIATE").await.expect("the lock");
    for _ in 0..20 {
        let reply = gateway.chat(&key, json!({})).await.expect(200);
        assert_eq!(reply.header("x-keystile-cost-micro-usd"), Some("4.5"));
    }
    assert_eq!(gateway.read("/v1/key", &key).await.expect(200).json()["spent_micro_usd"], 95, "21 × 4.5");
    assert!(gateway.app.house.ledger.pending() >= 20);
    other.execute_unprepared("ROLLBACK").await.expect("released");
    assert_eq!(gateway.usage_of(21).await.len(), 21);
    assert_eq!(gateway.app.house.ledger.pending(), 0);
}

#[tokio::test]
async fn when_the_queue_is_full_requests_are_refused_rather_than_forgotten() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, key) = Gateway::simple_with(&upstream, |config| config.ledger.record_queue = 8).await;
    if !is_sqlite(&gateway) {
        return;
    }
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let other = intruder(&gateway).await;
    other.execute_unprepared("BEGIN IMMEDIATE").await.expect("the lock");
    let mut served = 1;
    let refused = eventually("the queue to be full", || async {
        let reply = gateway.chat(&key, json!({})).await;
        Some(reply)
    });
    let mut last = refused.await;
    while last.status == 200 {
        served += 1;
        assert!(served < 1_000, "the queue is bounded");
        last = gateway.chat(&key, json!({})).await;
    }
    let reply = last.refused(503, "ledger_unavailable");
    assert!(reply.header("retry-after").is_some());
    assert_eq!(upstream.count(), served, "what could not be recorded was not sent");
    other.execute_unprepared("ROLLBACK").await.expect("released");
    eventually("service to come back", || async {
        (gateway.chat(&key, json!({})).await.status == 200).then_some(())
    })
    .await;
    let rows = gateway.usage_of(served + 1).await;
    assert_eq!(rows.len(), served + 1);
}

#[tokio::test]
async fn a_key_that_is_not_known_yet_gets_503_and_never_401() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, known) = Gateway::simple(&upstream).await;
    let unknown = gateway.virtual_key(json!({})).await;
    gateway.changes_followed().await;
    gateway.chat(&known, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let other = intruder(&gateway).await;
    // As far as the gateway can tell, its database has become unusable.
    for table in ["virtual_key_secret", "usage_record"] {
        other
            .execute_unprepared(&format!("ALTER TABLE {table} RENAME TO {table}_gone"))
            .await
            .expect("renamed");
    }
    for _ in 0..3 {
        let reply = gateway.chat(&unknown, json!({})).await.refused(503, "ledger_unavailable");
        assert!(reply.header("retry-after").is_some());
        gateway.chat(&known, json!({})).await.expect(200);
    }
    for table in ["virtual_key_secret", "usage_record"] {
        other
            .execute_unprepared(&format!("ALTER TABLE {table}_gone RENAME TO {table}"))
            .await
            .expect("renamed");
    }
    gateway.chat(&unknown, json!({})).await.expect(200);
}

#[tokio::test]
async fn a_database_file_that_is_gone_shows_in_health_and_its_return_loses_nothing() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    if !is_sqlite(&gateway) {
        return;
    }
    gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let file = gateway.config.database_file().expect("a file");
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).expect("moved");
    let health = gateway.read("/health", &key).await.expect(503).json();
    assert_eq!((&health["status"], &health["database"]), (&json!("unhealthy"), &json!("disconnected")));
    gateway.chat(&key, json!({})).await.expect(200);
    std::fs::rename(&aside, &file).expect("moved back");
    gateway.read("/health", &key).await.expect(200);
    assert_eq!(gateway.usage_of(2).await.len(), 2);
    assert_eq!(gateway.stop(Duration::from_secs(5)).await.lost, 0);
}
