//! Two processes on copies of one data directory. Only on a shared database: on SQLite a copy has a database of its own.

use std::{error::Error, time::Duration};

use keystile::app::StartError;
use serde_json::json;

use crate::{
    several::priced,
    support::{
        Answer, Gate, Gateway, Setup, Upstream, VirtualKey, chat_events, chat_ok, copy, done, eventually,
        process::Process, usage, usage_chunk,
    },
};

const COST: usize = 15;
const GRACE: Duration = Duration::from_secs(3);

fn asked() -> serde_json::Value {
    json!({ "max_tokens": COST })
}

/// A gateway with a capped key; `None` on SQLite.
async fn original(upstream: &Upstream) -> Option<(Gateway, VirtualKey)> {
    let setup = Setup::new().await.allow(upstream).with(|config| config.ledger.lease_grace = GRACE);
    if setup.config.database_url.is_none() {
        println!("skipped: several gateways need TEST_POSTGRES_URL");
        return None;
    }
    let gateway = setup.start().await;
    gateway.provider_key("openai", upstream).await;
    priced(std::slice::from_ref(&gateway)).await;
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": COST * 100 })).await;
    gateway.chat(&key, asked()).await.expect(200);
    gateway.usage_of(1).await;
    Some((gateway, key))
}

/// The same settings on a copy of the data directory.
fn copied(setup: &Setup, gateway: &Gateway) -> Setup {
    copy(&gateway.config.server.data_dir, &setup.config.server.data_dir);
    setup.another_try()
}

fn told(error: &StartError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_refused_while_its_original_lives_which_does_not_notice() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, COST as u64))).await;
    let Some((gateway, key)) = original(&upstream).await else { return };
    let copy = gateway.beside();
    let copy = copied(&copy, &gateway);
    for _ in 0..3 {
        let refused = told(&copy.another_try().try_start().await.err().expect("refused"));
        assert!(refused.contains("on a copy of this data directory"), "{refused}");
        assert!(refused.contains("a data directory of its own"), "{refused}");
        gateway.chat(&key, asked()).await.expect(200);
    }
    assert_eq!(gateway.app.house.ledger.counts().fenced, 0);
    assert_eq!(gateway.usage_of(4).await.len(), 4);
    // Stopped in good order it needs no wait.
    assert_eq!(gateway.stop(Duration::from_secs(5)).await.lost, 0);
    let gateway = copy.start().await;
    gateway.chat(&key, asked()).await.expect(200);
    assert_eq!(gateway.usage_of(5).await.len(), 5);
    gateway.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_a_killed_gateway_starts_again_at_once_where_it_was_and_as_a_copy_once_it_is_silent() {
    let gate = Gate::new();
    let upstream = Upstream::always(chat_ok("hi", &usage(1, COST as u64))).await;
    let Some((gateway, key)) = original(&upstream).await else { return };
    let elsewhere = gateway.beside();
    let here = gateway.stop(Duration::from_secs(5)).await.again;
    for _ in 0..2 {
        let process = Process::serve(&here).await;
        process.chat(&key, asked()).await.expect(200);
        process.kill();
    }
    let process = Process::serve(&here).await;
    upstream.answer(held(&gate));
    let mut stream = process.stream(&key, asked()).await;
    stream.frame().await.expect("a frame");
    process.kill();
    gate.open();
    upstream.answer(chat_ok("hi", &usage(1, COST as u64)));

    copy(&here.config.server.data_dir, &elsewhere.config.server.data_dir);
    let refused = told(&elsewhere.another_try().try_start().await.err().expect("its last word is young"));
    assert!(refused.contains("on a copy of this data directory"), "{refused}");
    let gateway = eventually("its original to be silent for long enough", || async {
        Box::pin(elsewhere.another_try().try_start()).await.ok()
    })
    .await;
    gateway.chat(&key, asked()).await.expect(200);
    let rows = gateway.usage_of(upstream.count()).await;
    assert_eq!(rows.iter().filter(|row| row["outcome"] == "recovered").count(), 1, "{rows:#?}");
    gateway.stop(Duration::from_secs(5)).await;
}

/// A stream that stops in the middle until the gate opens.
fn held(gate: &Gate) -> Answer {
    let events = chat_events(&["one"]);
    let answer = Answer::stream().send(&events[0]).send(&events[1]).wait(gate).send(&events[2]);
    answer.send(usage_chunk(&usage(1, COST as u64))).send(done()).end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_p22_an_original_that_wakes_up_beside_its_copy_gives_way_and_neither_takes_from_the_other_fm_o21()
{
    let gate = Gate::new();
    let upstream = Upstream::always(chat_ok("hi", &usage(1, COST as u64))).await;
    let Some((gateway, key)) = original(&upstream).await else { return };
    let elsewhere = gateway.beside();
    let here = gateway.stop(Duration::from_secs(5)).await.again;
    // A process has the usual grace of a minute; the copy knows better when it was last heard of.
    let process = Process::serve(&here).await;
    process.chat(&key, asked()).await.expect(200);
    upstream.answer(held(&gate));
    let mut stream = process.stream(&key, asked()).await;
    stream.frame().await.expect("a frame");
    upstream.answer(chat_ok("hi", &usage(1, COST as u64)));
    process.pause();
    copy(&here.config.server.data_dir, &elsewhere.config.server.data_dir);
    let gateway = eventually("the paused one to be silent for long enough", || async {
        Box::pin(elsewhere.another_try().try_start()).await.ok()
    })
    .await;
    gateway.chat(&key, asked()).await.expect(200);

    process.go_on();
    eventually("the one that woke up to give way", || async {
        let ready = process.ready().await;
        (ready.status == 503).then(|| assert!(ready.text().contains("copy of this data directory")))
    })
    .await;
    let sent = upstream.count();
    for _ in 0..3 {
        process.chat(&key, asked()).await.refused(503, "ledger_unavailable");
    }
    assert_eq!(upstream.count(), sent, "what is refused is not sent");
    gate.open();
    assert!(stream.text().await.ends_with(&done()), "what had begun has its end");
    let own = gateway.app.house.ledger.id().to_string();
    let row = async || {
        let listed = gateway.get("/api/instances").await;
        let rows = listed["data"].as_array().expect("rows");
        rows.iter().find(|row| row["id"] == own.as_str()).expect("its row").clone()
    };
    // For as many turns as either would need to notice that the other has taken something back.
    let before = row().await;
    for _ in 0..3 {
        let beat = row().await["heartbeat_at"].clone();
        eventually("the next word of the copy", || async {
            (row().await["heartbeat_at"] != beat).then_some(())
        })
        .await;
        gateway.chat(&key, asked()).await.expect(200);
        process.chat(&key, asked()).await.refused(503, "ledger_unavailable");
    }
    assert_eq!(gateway.app.house.ledger.counts().fenced, 0);
    assert_eq!(row().await["epoch"], before["epoch"]);
    assert!(!gateway.app.house.ledger.is_usurped());
    assert_eq!(gateway.usage_of(upstream.count()).await.len(), upstream.count());
    process.kill();
    gateway.stop(Duration::from_secs(5)).await;
}
