//! The wall clock goes where it wants: by minutes and days, forward and back, while requests run. It names the window that
//! a request counts in, and nothing else: what is held stays held, what is spent counts once, and no cap is broken.

use std::{sync::Arc, time::Duration};

use keystile::domain::{NanoUsd, Scope, SpendWindow, Timestamp, WindowIndex, Zone};
use serde_json::json;

use crate::{
    several::{live, priced, stop_all},
    spend_cap::{penny_chat, worst},
    support::{Answer, Gate, Gateway, Setup, Upstream, VirtualKey, chat_body, chat_ok, usage},
};

/// Before everything else that is ever shown here: what is made then is in force, and its session is young.
const LONG_AGO: &str = "1990-01-01T00:00:00Z";
const NOON: &str = "2026-11-21T12:00:00Z";
/// From noon: ten minutes and a day forward and back, years away, over the end of a month, and back again.
const JUMPS: [&str; 9] = [
    "2026-11-21T12:10:00Z",
    "2026-11-21T11:50:00Z",
    "2026-11-22T12:00:00Z",
    "2026-11-20T12:00:00Z",
    "2036-01-01T00:00:00Z",
    "1991-01-01T00:00:00Z",
    "2026-12-01T00:00:00Z",
    "2026-11-30T23:59:59.999Z",
    NOON,
];

fn at(moment: &str) -> Timestamp {
    Timestamp::parse(moment).expect("a moment")
}

fn scope(key: &VirtualKey) -> Scope {
    Scope::VirtualKey(key.id.parse().expect("a key"))
}

/// Settled and reserved of a key on the day of `moment`, as the gateway holds it.
fn on_the_day(gateway: &Gateway, key: &VirtualKey, moment: &str) -> (i64, i64) {
    let index = SpendWindow::Daily.index(at(moment), Zone::UTC);
    let standing = gateway.app.house.ledger.accounts().standing(scope(key), SpendWindow::Daily, index);
    (standing.settled.nano(), standing.reserved.nano())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_p19_a_clock_that_jumps_under_live_requests_releases_nothing_and_counts_nothing_twice_fm_o14() {
    const EACH: usize = 3;
    let gate = Gate::new();
    let body = chat_body("hi", &usage(60, 40)).to_string();
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::always(Answer::default().wait(&gate).send(whole)).await;
    let gateway = Setup::new().await.allow(&upstream).at(LONG_AGO).start().await;
    gateway.provider_key("openai", &upstream).await;
    gateway.price(json!({ "model": "openai/penny", "input": 1_000_000, "output": 1_000_000 })).await;
    let asked = json!({ "max_tokens": 40 });
    let need = worst(&asked, 40);
    let cap = need * EACH as u64;
    let total = gateway.virtual_key(json!({ "spend_cap_micro_usd": cap })).await;
    let daily = gateway.virtual_key(json!({ "spend_cap_micro_usd": cap, "spend_window": "daily" })).await;
    gateway.turn_clock(NOON);

    let gateway = Arc::new(gateway);
    let mut live = tokio::task::JoinSet::new();
    for number in 0..2 * EACH {
        let (gateway, asked) = (Arc::clone(&gateway), penny_chat(asked.clone()));
        let key = if number % 2 == 0 { total.clone() } else { daily.clone() };
        live.spawn(async move { gateway.chat(&key, asked).await });
    }
    gate.reached(2 * EACH).await;
    let held = gateway.reserved();
    let nano = i64::try_from(need * 1_000).expect("small");
    assert_eq!(held, NanoUsd::new(2 * EACH as i64 * nano));
    for jump in JUMPS {
        gateway.turn_clock(jump);
        gateway.chat(&total, penny_chat(asked.clone())).await.refused(402, "spend_cap_reserved");
        if jump.starts_with("2026-11-21") {
            gateway.chat(&daily, penny_chat(asked.clone())).await.refused(402, "spend_cap_reserved");
        }
        assert_eq!(gateway.reserved(), held, "{jump}: nothing is released");
        assert_eq!(on_the_day(&gateway, &daily, NOON), (0, EACH as i64 * nano), "{jump}");
    }

    // They end on another day, which has room of its own.
    gateway.turn_clock("2026-11-22T12:00:00Z");
    gate.open();
    while let Some(reply) = live.join_next().await {
        reply.expect("no panic").expect(200);
    }
    assert_eq!(gateway.reserved(), NanoUsd::ZERO);
    let spent = EACH as i64 * 100_000;
    assert_eq!(on_the_day(&gateway, &daily, NOON), (spent, 0), "in the day of their reservation");
    assert_eq!(on_the_day(&gateway, &daily, "2026-11-22T12:00:00Z"), (0, 0), "and in no other");
    gateway.chat(&daily, penny_chat(asked.clone())).await.expect(200);
    for jump in JUMPS.into_iter().filter(|jump| !jump.starts_with("2026-11-22")) {
        gateway.turn_clock(jump);
        assert_eq!(on_the_day(&gateway, &daily, NOON), (spent, 0), "{jump}");
        assert_eq!(on_the_day(&gateway, &daily, "2026-11-22T12:00:00Z"), (100_000, 0), "{jump}");
    }

    gateway.turn_clock(LONG_AGO);
    let rows = gateway.usage_of(2 * EACH + 1).await;
    assert!(rows.iter().all(|row| row["outcome"] == "ok" && row["cost_micro_usd"] == 100), "{rows:#?}");
    let noon = rows.iter().filter(|row| row["started_at"] == "2026-11-21T12:00:00.000Z").count();
    assert_eq!(noon, 2 * EACH);
    let settled = async |key: &VirtualKey| {
        let store = &gateway.app.house.store;
        store.spend_settled(scope(key), SpendWindow::Total, WindowIndex(0)).await.expect("a counter").nano()
    };
    assert_eq!((settled(&total).await, settled(&daily).await), (spent, spent + 100_000));
    let Ok(gateway) = Arc::try_unwrap(gateway) else { panic!("still in use") };
    assert_eq!(gateway.stop(Duration::from_secs(5)).await.lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_p18_p19_instances_whose_clocks_disagree_and_jump_share_a_cap_to_the_last_unit_fm_o14() {
    const AFFORDED: usize = 31;
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 15))).await;
    let first = Setup::new().await;
    if first.config.database_url.is_none() {
        println!("skipped: several gateways need TEST_POSTGRES_URL");
        return;
    }
    let mut gateways = vec![first.allow(&upstream).at(LONG_AGO).start().await];
    while gateways.len() < 3 {
        // Each with a clock of its own.
        gateways.push(gateways[0].beside().at(LONG_AGO).start().await);
    }
    gateways[0].provider_key("openai", &upstream).await;
    live(&gateways).await;
    priced(&gateways).await;
    let key = gateways[0].virtual_key(json!({ "spend_cap_micro_usd": 15 * AFFORDED })).await;
    for number in 0..AFFORDED {
        let gateway = &gateways[number % 3];
        gateway.turn_clock(JUMPS[(number * 4 + number % 3) % JUMPS.len()]);
        gateway.chat(&key, json!({ "max_tokens": 15 })).await.expect(200);
    }
    for (gateway, jump) in gateways.iter().cycle().zip(JUMPS) {
        gateway.turn_clock(jump);
        gateway.chat(&key, json!({ "max_tokens": 15 })).await.expect(402);
    }
    for gateway in &gateways {
        gateway.app.house.ledger.flushed().await;
        let counts = gateway.app.house.ledger.counts();
        assert_eq!(
            (counts.live_instances, counts.fenced),
            (3, 0),
            "who lives is said by the database's clock"
        );
        assert_eq!(gateway.reserved(), NanoUsd::ZERO);
        gateway.turn_clock(LONG_AGO);
    }
    let store = &gateways[0].app.house.store;
    let settled = store.spend_settled(scope(&key), SpendWindow::Total, WindowIndex(0)).await;
    assert_eq!(settled.expect("a counter").nano(), 15_000 * AFFORDED as i64);
    assert_eq!((gateways[1].usage_of(AFFORDED).await.len(), upstream.count()), (AFFORDED, AFFORDED));
    stop_all(gateways).await;
}
