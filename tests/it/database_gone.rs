//! When the database is gone or busy: who is known goes on, who is not is told so, and no usage is lost.

use std::{path::PathBuf, time::Duration};

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend};
use serde_json::json;

use crate::support::{Gateway, Setup, Upstream, chat_ok, database::on_the_server, eventually, usage};

/// Somebody else's connection to the same database.
async fn intruder(gateway: &Gateway) -> DatabaseConnection {
    // One connection, so that what it begins it also ends.
    let mut options = sea_orm::ConnectOptions::new(gateway.database_url());
    options.max_connections(1).min_connections(1);
    Database::connect(options).await.expect("a connection")
}

/// Keeps everybody else from writing until `ROLLBACK`; reading goes on.
async fn hold_writes(other: &DatabaseConnection) {
    let sql = match other.get_database_backend() {
        DbBackend::Postgres => {
            "BEGIN; DO $$ DECLARE name text; BEGIN \
             FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP \
             EXECUTE format('LOCK TABLE %I IN EXCLUSIVE MODE', name); END LOOP; END $$"
        }
        _ => "BEGIN IMMEDIATE",
    };
    other.execute_unprepared(sql).await.expect("the lock");
}

/// The database of a gateway, out of its reach.
enum Away {
    File { here: PathBuf, aside: PathBuf },
    Postgres { server: String, name: String },
}

impl Away {
    async fn take(gateway: &Gateway) -> Self {
        if let Some(here) = gateway.config.database_file() {
            let aside = here.with_extension("aside");
            std::fs::rename(&here, &aside).expect("moved");
            return Self::File { here, aside };
        }
        let url = gateway.database_url();
        let (server, name) = url.rsplit_once('/').expect("a name");
        let (server, name) = (server.to_owned(), name.to_owned());
        on_the_server(&server, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        on_the_server(&server, &end).await;
        Self::Postgres { server, name }
    }

    async fn bring_back(self) {
        match self {
            Self::File { here, aside } => std::fs::rename(aside, here).expect("moved back"),
            Self::Postgres { server, name } => {
                on_the_server(&server, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
            }
        }
    }
}

#[tokio::test]
async fn while_another_holds_the_write_lock_known_keys_are_served_and_nothing_is_lost() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let other = intruder(&gateway).await;
    hold_writes(&other).await;
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
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let other = intruder(&gateway).await;
    hold_writes(&other).await;
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
async fn p24_a_database_that_is_gone_shows_in_health_and_its_return_loses_nothing() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let away = Away::take(&gateway).await;
    let health = gateway.read("/health", &key).await.expect(503).json();
    assert_eq!((&health["status"], &health["database"]), (&json!("unhealthy"), &json!("disconnected")));
    gateway.chat(&key, json!({})).await.expect(200);
    away.bring_back().await;
    gateway.read("/health", &key).await.expect(200);
    assert_eq!(gateway.usage_of(2).await.len(), 2);
    assert_eq!(gateway.stop(Duration::from_secs(5)).await.lost, 0);
}
