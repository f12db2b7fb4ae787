//! Several gateways on one Postgres: one cap, one set of keys, one book. On SQLite there is only ever one gateway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use keystile::domain::ModelRef;
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Answer, Gate, Gateway, Setup, Upstream, VirtualKey, chat_body, chat_ok, eventually, usage,
};

const MODEL: &str = "openai/gpt-4o-mini";

/// `count` gateways on one database, which all may call `upstream`; `None` on SQLite, and says so.
async fn several(count: usize, upstream: &Upstream) -> Option<Vec<Gateway>> {
    let first = Setup::new().await;
    if first.config.database_url.is_none() {
        println!("skipped: several gateways need TEST_POSTGRES_URL");
        return None;
    }
    let mut gateways = vec![first.allow(upstream).start().await];
    while gateways.len() < count {
        gateways.push(gateways[0].beside().start().await);
    }
    gateways[0].provider_key("openai", upstream).await;
    live(&gateways).await;
    Some(gateways)
}

/// Waits until all know of each other: whoever was alone holds everything until it has heard of the others.
pub async fn live(gateways: &[Gateway]) {
    for gateway in gateways {
        eventually("all instances to know of each other", || async {
            (gateway.app.house.ledger.counts().live_instances as usize == gateways.len()).then_some(())
        })
        .await;
    }
}

pub async fn stop_all(gateways: Vec<Gateway>) {
    for gateway in gateways {
        assert_eq!(gateway.stop(Duration::from_secs(5)).await.lost, 0);
    }
}

/// Every answer costs 15 micro-USD and is reserved at that, on every gateway.
pub async fn priced(gateways: &[Gateway]) {
    gateways[0].price(json!({ "model": MODEL, "input": 0, "output": 1_000_000 })).await;
    let model = ModelRef::parse(MODEL).expect("a model");
    let version = |gateway: &Gateway| {
        let house = &gateway.app.house;
        house.catalogue.prices.load().price(&model, house.clock.now()).map(|price| price.version.clone())
    };
    for gateway in gateways {
        eventually("the price to be known everywhere", || async {
            (version(gateway) == version(&gateways[0])).then_some(())
        })
        .await;
    }
}

/// Waits until every gateway says that the key has spent so much: what is shown may be a second old.
async fn spent_everywhere(gateways: &[Gateway], key: &VirtualKey, micro_usd: usize) {
    for gateway in gateways {
        eventually("the spend to be shown everywhere", || async {
            let shown = gateway.get(&format!("/api/virtual-keys/{}", key.id)).await;
            (shown["spent_micro_usd"] == micro_usd && shown["reserved_micro_usd"] == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_p04_a_thousand_at_once_on_three_instances_get_exactly_what_one_cap_affords_fm_o19() {
    const ASKED: usize = 999;
    const AFFORDED: usize = 100;
    let gate = Gate::new();
    let body = chat_body("hi", &usage(1, 15)).to_string();
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::always(Answer::default().wait(&gate).send(whole)).await;
    let Some(gateways) = several(3, &upstream).await else { return };
    priced(&gateways).await;
    let key = gateways[0].virtual_key(json!({ "spend_cap_micro_usd": 15 * AFFORDED + 14 })).await;
    let gateways = Arc::new(gateways);
    let refused = Arc::new(AtomicUsize::new(0));
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..ASKED {
        let (gateways, key, refused) = (Arc::clone(&gateways), key.clone(), Arc::clone(&refused));
        asked.spawn(async move {
            let reply = gateways[number % 3].chat(&key, json!({ "max_tokens": 15 })).await;
            match reply.status {
                200 => true,
                402 => {
                    refused.fetch_add(1, Ordering::SeqCst);
                    false
                }
                other => panic!("{other}: {}", reply.text()),
            }
        });
    }
    eventually("all to be decided", || async {
        (refused.load(Ordering::SeqCst) + upstream.count() >= ASKED).then_some(())
    })
    .await;
    gate.open();
    let mut served = 0;
    while let Some(answer) = asked.join_next().await {
        served += usize::from(answer.expect("no panic"));
    }
    assert_eq!((served, upstream.count()), (AFFORDED, AFFORDED));
    let Ok(gateways) = Arc::try_unwrap(gateways) else { panic!("still in use") };
    for gateway in &gateways {
        gateway.app.house.ledger.flushed().await;
    }
    spent_everywhere(&gateways, &key, 15 * AFFORDED).await;
    assert_eq!(gateways[2].usage_of(AFFORDED).await.len(), AFFORDED);
    stop_all(gateways).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p18_the_last_micro_dollar_is_usable_wherever_it_is_asked_for() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 15))).await;
    let Some(gateways) = several(3, &upstream).await else { return };
    priced(&gateways).await;
    let key = gateways[0].virtual_key(json!({ "spend_cap_micro_usd": 15 * 31 })).await;
    let ask = |number: usize| gateways[number % 3].chat(&key, json!({ "max_tokens": 15 }));
    for number in 0..31 {
        ask(number).await.expect(200);
    }
    for number in 0..3 {
        ask(number).await.expect(402);
    }
    for gateway in &gateways {
        gateway.app.house.ledger.flushed().await;
    }
    spent_everywhere(&gateways, &key, 15 * 31).await;
    stop_all(gateways).await;
}

#[tokio::test]
async fn what_is_changed_on_one_is_in_force_on_the_others_within_a_second() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let Some(gateways) = several(2, &upstream).await else { return };
    let key = gateways[0].virtual_key(json!({})).await;
    let until = |status: u16, key: VirtualKey| {
        let other = &gateways[1];
        async move {
            let began = std::time::Instant::now();
            eventually("the other to know", || async {
                (other.chat(&key, json!({})).await.status == status).then_some(())
            })
            .await;
            began.elapsed()
        }
    };
    until(200, key.clone()).await;
    let path = format!("/api/virtual-keys/{}", key.id);
    gateways[0].patch(&path, json!({ "models_allowed": [] })).await;
    until(403, key.clone()).await;
    gateways[0].patch(&path, json!({ "models_allowed": null })).await;
    until(200, key.clone()).await;
    gateways[0].admin(Method::POST, &format!("{path}/revoke"), None).await.expect(200);
    let took = until(401, key).await;
    // A second, and room for a machine that builds something else at the same time.
    assert!(took < Duration::from_secs(2), "{took:?}");
    stop_all(gateways).await;
}
