//! When the database is gone or busy: who is known goes on, who is not is told so, and no usage is lost.

use std::time::Duration;

use reqwest::Method;
use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::{
    several::{live, priced, stop_all},
    support::{
        Answer, Gate, Gateway, Setup, Upstream, chat_events, chat_ok,
        database::{Away, hold_writes, intruder},
        done, eventually, usage, usage_chunk,
    },
};

#[tokio::test]
async fn while_another_holds_the_write_lock_known_keys_are_served_and_nothing_is_lost() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let other = intruder(&gateway.database_url()).await;
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
    let other = intruder(&gateway.database_url()).await;
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
    let other = intruder(&gateway.database_url()).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p24_a_capped_key_goes_on_within_its_lease_while_nothing_can_be_written_and_no_other_does() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 15))).await;
    let (gateway, _) = Gateway::simple(&upstream).await;
    priced(std::slice::from_ref(&gateway)).await;
    let leased = gateway.virtual_key(json!({ "spend_cap_micro_usd": 15 * 20 })).await;
    let new = gateway.virtual_key(json!({ "spend_cap_micro_usd": 15 * 20 })).await;
    let asked = || json!({ "max_tokens": 15 });
    gateway.chat(&leased, asked()).await.expect(200);
    // Known, so that only its money is in question.
    gateway.read("/v1/key", &new).await.expect(200);
    gateway.usage_of(1).await;
    let other = intruder(&gateway.database_url()).await;
    hold_writes(&other).await;
    for _ in 0..19 {
        gateway.chat(&leased, asked()).await.expect(200);
    }
    gateway.chat(&leased, asked()).await.refused(402, "spend_cap_reached");
    let began = upstream.count();
    gateway.chat(&new, asked()).await.refused(503, "ledger_unavailable");
    assert_eq!(upstream.count(), began, "what no lease covers is not sent");
    other.execute_unprepared("ROLLBACK").await.expect("released");
    assert_eq!(gateway.usage_of(20).await.len(), 20);
    gateway.chat(&new, asked()).await.expect(200);
    let shown = gateway.get(&format!("/api/virtual-keys/{}", leased.id)).await;
    assert_eq!((&shown["spent_micro_usd"], &shown["reserved_micro_usd"]), (&json!(15 * 20), &json!(0)));
    assert_eq!(gateway.stop(Duration::from_secs(5)).await.lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_p07_p24_instances_without_their_database_go_on_for_the_grace_of_their_leases_and_lose_nothing_fm_o07()
 {
    let first = Setup::new().await;
    if first.config.database_url.is_none() {
        println!("skipped: several gateways need TEST_POSTGRES_URL");
        return;
    }
    let gate = Gate::new();
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 15))).await;
    let first = first.allow(&upstream).with(|config| config.ledger.lease_grace = Duration::from_secs(8));
    let mut gateways = vec![first.start().await];
    gateways.push(gateways[0].beside().start().await);
    gateways[0].provider_key("openai", &upstream).await;
    live(&gateways).await;
    priced(&gateways).await;
    let capped = gateways[0].virtual_key(json!({ "spend_cap_micro_usd": 15 * 10_000 })).await;
    let free = gateways[0].virtual_key(json!({})).await;
    let asked = || json!({ "max_tokens": 15 });
    let events = chat_events(&["one"]);
    let held = Answer::stream().send(&events[0]).send(&events[1]).wait(&gate).send(&events[2]);
    let held = held.send(usage_chunk(&usage(1, 15))).send(done()).end();
    for gateway in &gateways {
        gateway.chat(&capped, asked()).await.expect(200);
        gateway.chat(&free, json!({})).await.expect(200);
    }
    upstream.answer(held);
    let mut streams = Vec::new();
    for gateway in &gateways {
        let mut stream = gateway.stream(&capped, asked()).await;
        assert_eq!(stream.frame().await.as_ref(), Some(&events[0]));
        streams.push(stream);
    }
    upstream.answer(chat_ok("hi", &usage(1, 15)));

    let away = Away::take(&gateways[0]).await;
    for gateway in &gateways {
        gateway.chat(&capped, asked()).await.expect(200);
    }
    for gateway in &gateways {
        eventually("the grace of the leases to end", || async {
            let reply = gateway.chat(&capped, asked()).await;
            (reply.status != 200).then(|| reply.refused(503, "ledger_unavailable"))
        })
        .await;
    }
    let sent = upstream.count();
    for gateway in &gateways {
        let refused = gateway.chat(&capped, asked()).await.refused(503, "ledger_unavailable");
        assert!(refused.header("retry-after").is_some());
        assert_eq!(gateway.admin(Method::GET, "/ready", None).await.status, 503);
    }
    assert_eq!(upstream.count(), sent, "what is refused is not sent");
    // Whoever has no cap, and whoever has begun, is served for as long as there are places.
    for gateway in &gateways {
        gateway.chat(&free, json!({})).await.expect(200);
    }
    gate.open();
    for stream in streams {
        assert!(stream.text().await.ends_with(&done()), "a stream that had begun has its end");
    }
    away.bring_back().await;
    for gateway in &gateways {
        eventually("capped keys to be served again", || async {
            (gateway.chat(&capped, asked()).await.status == 200).then_some(())
        })
        .await;
        eventually("to be ready", || async {
            (gateway.admin(Method::GET, "/ready", None).await.status == 200).then_some(())
        })
        .await;
        gateway.app.house.ledger.flushed().await;
        assert_eq!(gateway.app.house.ledger.pending(), 0);
    }
    let rows = gateways[1].usage_of(upstream.count()).await;
    assert!(rows.iter().all(|row| row["outcome"] == "ok" && row["clamped_micro_usd"] == 0), "{rows:#?}");
    let of_capped = rows.iter().filter(|row| row["virtual_key_id"] == capped.id.as_str()).count();
    eventually("the spend to be shown", || async {
        let shown = gateways[0].get(&format!("/api/virtual-keys/{}", capped.id)).await;
        (shown["spent_micro_usd"] == 15 * of_capped && shown["reserved_micro_usd"] == 0).then_some(())
    })
    .await;
    stop_all(gateways).await;
}
