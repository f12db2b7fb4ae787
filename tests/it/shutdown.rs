//! Stopping loses nothing: live requests finish or are cut with a word, all of it is metered, and a restart knows what
//! was spent.

use std::time::{Duration, Instant};

use keystile::{app::StartError, domain::NanoUsd, server::Drained};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Answer, Gate, Gateway, RawClient, Upstream, chat_events, chat_ok, chat_stream, client::last_error, done,
    usage,
};

const LONG: Duration = Duration::from_secs(15);

fn held_stream(gate: &Gate) -> (Vec<String>, Answer) {
    let events = chat_events(&["one"]);
    let answer =
        Answer::stream().send(&events[0]).send(&events[1]).wait(gate).send(&events[2]).send(done()).end();
    (events, answer)
}

#[tokio::test]
async fn a_drain_lets_a_stream_finish_and_takes_nothing_new() {
    let gate = Gate::new();
    let (events, answer) = held_stream(&gate);
    let upstream = Upstream::always(answer).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let mut stream = gateway.stream(&key, json!({})).await;
    assert_eq!(stream.frame().await.as_ref(), Some(&events[0]));
    // A connection that is open before the drain begins and has a request on its way.
    let mut late = gateway.raw().await;
    late.send("GET /v1/key HTTP/1.1\r\nhost: a\r\n").await;
    let (address, admin_address) = (gateway.app.address, gateway.app.admin_address);
    let ready = gateway.admin(Method::GET, "/ready", None).await;
    assert_eq!(ready.status, 200);

    let stopping = gateway.stop(LONG);
    let (stopped, text) = tokio::join!(stopping, async {
        // The listener is gone while the stream goes on.
        crate::support::eventually("the listener to close", || async {
            tokio::net::TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
        let mut prober = RawClient::connect(admin_address).await;
        prober.send("GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let ready = prober.reply().await.expect(503);
        assert_eq!(ready.json()["reason"], "draining");
        late.send(format!("authorization: Bearer {}\r\n\r\n", key.key)).await;
        let answer = late.closed_or_answered().await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
        gate.open();
        stream.text().await
    });
    assert!(text.ends_with(&(events[2].clone() + &done())), "{text}");
    assert_eq!((stopped.drained, stopped.lost), (Drained::Finished, 0));
    let gateway = stopped.again.start().await;
    assert_eq!(gateway.only_usage().await["outcome"], "ok");
}

#[tokio::test]
async fn at_the_deadline_a_stream_is_cut_with_a_word_and_metered() {
    let gate = Gate::new();
    let (_, answer) = held_stream(&gate);
    let upstream = Upstream::always(answer).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let mut stream = gateway.stream(&key, json!({})).await;
    stream.frame().await.expect("a frame");
    let began = Instant::now();
    let (stopped, text) = tokio::join!(gateway.stop(Duration::from_millis(100)), stream.text());
    let error = last_error(&text).expect("an error event");
    assert_eq!(error["code"], "stream_cut", "{text}");
    assert!(!text.contains("[DONE]"));
    assert_eq!((stopped.drained, stopped.lost), (Drained::Cut, 0));
    assert!(began.elapsed() < LONG);
    upstream.only().disconnected().await;
    let gateway = stopped.again.start().await;
    let row = gateway.only_usage().await;
    assert_eq!((&row["outcome"], &row["usage_source"]), (&json!("cut_shutdown"), &json!("estimated")));
    assert_eq!(gateway.reserved(), NanoUsd::ZERO);
}

#[tokio::test]
async fn at_the_deadline_a_call_without_a_stream_ends_with_503_and_is_metered() {
    let upstream = Upstream::always(Answer::default().stall()).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let request = gateway
        .request(Method::POST, "/v1/chat/completions", &key)
        .header("content-type", "application/json")
        .body(crate::support::gateway::chat_request(json!({})));
    let call = request.send();
    let (reply, stopped) = tokio::join!(call, async {
        upstream.arrived(1).await;
        gateway.stop(Duration::from_millis(100)).await
    });
    let reply = reply.expect("an answer");
    assert_eq!((reply.status().as_u16(), stopped.lost), (503, 0));
    assert!(reply.text().await.expect("a body").contains("draining"));
    let gateway = stopped.again.start().await;
    assert_eq!(gateway.only_usage().await["outcome"], "cut_shutdown");
}

#[tokio::test]
async fn a_second_instance_on_the_same_data_is_refused() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let refused = gateway.another().try_start().await.err().expect("refused");
    assert!(matches!(refused, StartError::Lock(_)), "{refused}");
    gateway.chat(&key, json!({})).await.expect(200);
    let stopped = gateway.stop(LONG).await;
    let gateway = stopped.again.start().await;
    gateway.chat(&key, json!({})).await.expect(200);
}

#[tokio::test]
async fn a_restart_knows_what_was_spent_and_who_may_come_in() {
    let upstream = Upstream::always(chat_ok("hi", &usage(100, 100))).await;
    let (gateway, _) = Gateway::simple(&upstream).await;
    gateway.price(json!({ "model": "openai/gpt-4o-mini", "input": 1_000_000, "output": 1_000_000 })).await;
    let limits = json!({ "spend_cap_micro_usd": 500, "spend_window": "monthly", "cap_mode": "soft" });
    let key = gateway.virtual_key(limits).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.chat(&key, json!({})).await.expect(200);
    let before = gateway.read("/v1/key", &key).await.json();
    let stopped = gateway.stop(LONG).await;
    assert_eq!((stopped.drained, stopped.lost), (Drained::Finished, 0));

    let gateway = stopped.again.start().await;
    assert_eq!(gateway.read("/v1/key", &key).await.expect(200).json(), before);
    assert_eq!(before["spent_micro_usd"], 400);
    let reply = gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(reply.header("x-keystile-cost-micro-usd"), Some("200"), "the owner's price as well");
    gateway.chat(&key, json!({})).await.refused(402, "spend_cap_reached");
    assert_eq!(gateway.usage_of(3).await.len(), 3);
}

#[tokio::test]
async fn records_of_the_last_moment_are_written_before_it_is_over() {
    let upstream = Upstream::always(chat_stream(&["a"], Some(&usage(3, 4)))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let streams = (0..50).map(|_| async { gateway.stream(&key, json!({})).await.text().await });
    futures_util::future::join_all(streams).await;
    let stopped = gateway.stop(LONG).await;
    assert_eq!(stopped.lost, 0);
    let gateway = stopped.again.start().await;
    assert_eq!(gateway.usage_of(50).await.len(), 50);
}

#[tokio::test]
async fn without_its_master_key_it_does_not_start() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway.chat(&key, json!({})).await.expect(200);
    let stopped = gateway.stop(LONG).await;
    let other = keystile::vault::KeyRing::generate();
    let own = stopped.again.config.vault.master_keys.clone();
    let again = stopped.again.with(|config| config.vault.master_keys = vec![other.clone()]);
    let refused = again.another_try().try_start().await.err().expect("refused");
    let said = format!("{refused}");
    assert!(!said.contains(other.0.as_str()), "no key is printed: {said}");
    let gateway = again.with(|config| config.vault.master_keys = own).start().await;
    gateway.chat(&key, json!({})).await.expect(200);
}
