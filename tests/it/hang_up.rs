//! Clients that leave: streams are cut at the provider, other calls run to their end, and both leave one usage row.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Answer, Gate, Gateway, RawClient, Upstream, VirtualKey, chat_events, chat_ok, done, eventually,
    gateway::chat_request, usage, usage_chunk,
};

/// The contract's second, and room for a machine that builds something else at the same time.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn ask(gateway: &Gateway, key: &VirtualKey, more: Value) -> RawClient {
    let body = chat_request(more);
    let mut client = gateway.raw().await;
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            key.key,
            body.len()
        ))
        .await;
    client
}

#[derive(Clone, Copy, Debug)]
enum Leave {
    Close,
    Reset,
}

fn leave(client: RawClient, how: Leave) {
    match how {
        Leave::Close => drop(client),
        Leave::Reset => client.reset(),
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_a_streams_head_cuts_the_provider() {
    for how in [Leave::Close, Leave::Reset] {
        let upstream = Upstream::always(Answer::default().stall()).await;
        let (gateway, key) = Gateway::simple(&upstream).await;
        let client = ask(&gateway, &key, json!({ "stream": true })).await;
        let seen = upstream.arrived(1).await;
        let left = Instant::now();
        leave(client, how);
        seen.disconnected().await;
        assert!(left.elapsed() < AT_ONCE, "{how:?}: {:?}", left.elapsed());
        let row = gateway.only_usage().await;
        assert_eq!((&row["outcome"], &row["status"]), (&json!("client_gone"), &json!(499)), "{how:?}");
        assert_eq!(
            (&row["usage_source"], &row["output_tokens"]),
            (&json!("estimated"), &json!(0)),
            "{how:?}"
        );
        assert!(row["input_tokens"].as_u64() > Some(0), "it was sent");
        gateway.nothing_reserved().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_meaningful_event_cuts_the_provider() {
    let gate = Gate::new();
    let upstream = Upstream::always(Answer::stream().send(&chat_events(&[])[0]).wait(&gate)).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let client = ask(&gateway, &key, json!({ "stream": true })).await;
    gate.reached(1).await;
    drop(client);
    upstream.only().disconnected().await;
    assert_eq!(gateway.only_usage().await["outcome"], "client_gone");
    gateway.nothing_reserved().await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_cuts_the_provider_even_a_silent_one() {
    for how in [Leave::Close, Leave::Reset] {
        let gate = Gate::new();
        let mut events = chat_events(&["12345678"]);
        events.pop();
        let upstream =
            Upstream::always(Answer::stream().send_all(events).wait(&gate).send(done()).end()).await;
        let (gateway, key) = Gateway::simple(&upstream).await;
        let mut client = ask(&gateway, &key, json!({ "stream": true })).await;
        client.first_byte().await;
        gate.reached(1).await;
        let left = Instant::now();
        leave(client, how);
        upstream.only().disconnected().await;
        assert!(left.elapsed() < AT_ONCE, "{how:?}: {:?}", left.elapsed());
        let row = gateway.only_usage().await;
        assert_eq!((&row["outcome"], &row["status"]), (&json!("client_gone"), &json!(200)), "{how:?}");
        assert_eq!((&row["usage_source"], &row["output_tokens"]), (&json!("estimated"), &json!(2)));
        gateway.nothing_reserved().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_busy_stream_cuts_it_too() {
    let gate = Gate::new();
    let mut events = chat_events(&["x"; 2_000]);
    events.pop();
    let upstream = Upstream::always(
        Answer::stream().send_all(events.clone()).send_all(events).wait(&gate).send(done()).end(),
    )
    .await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let mut client = ask(&gateway, &key, json!({ "stream": true })).await;
    client.first_byte().await;
    drop(client);
    upstream.only().disconnected().await;
    assert_eq!(gateway.only_usage().await["outcome"], "client_gone");
    gateway.nothing_reserved().await;
}

#[tokio::test]
async fn a_call_without_a_stream_runs_to_its_end_and_is_metered_exactly() {
    for how in [Leave::Close, Leave::Reset] {
        let gate = Gate::new();
        let answer = Answer::default().wait(&gate);
        let body = crate::support::chat_body("a long answer", &usage(1_000, 500)).to_string();
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let upstream = Upstream::always(answer.send(whole)).await;
        let (gateway, key) = Gateway::simple(&upstream).await;
        let client = ask(&gateway, &key, json!({})).await;
        gate.reached(1).await;
        leave(client, how);
        gate.open();
        let row = gateway.only_usage().await;
        assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(1_000), &json!(500)), "{how:?}");
        assert_eq!(
            (&row["usage_source"], &row["cost_micro_usd"]),
            (&json!("provider"), &json!(450)),
            "{how:?}"
        );
        assert!(!upstream.only().is_disconnected(), "the provider was heard out");
        gateway.nothing_reserved().await;
    }
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_is_gone() {
    use tokio::io::AsyncWriteExt;
    let upstream = Upstream::always(Answer::default().stall()).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let mut client = tokio::net::TcpStream::connect(gateway.app.address).await.expect("a connection");
    let body = chat_request(json!({ "stream": true }));
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        key.key,
        body.len()
    );
    client.write_all(head.as_bytes()).await.expect("sent");
    let seen = upstream.arrived(1).await;
    client.shutdown().await.expect("closed");
    seen.disconnected().await;
    assert_eq!(gateway.only_usage().await["outcome"], "client_gone");
}

#[tokio::test]
async fn p06_p07_a_crowd_that_leaves_at_once_leaves_one_row_each_and_nothing_reserved() {
    const CROWD: usize = 200;
    let gate = Gate::new();
    let mut events = chat_events(&["x"]);
    events.pop();
    let upstream = Upstream::always(Answer::stream().send_all(events).wait(&gate)).await;
    let (gateway, _) = Gateway::simple(&upstream).await;
    let key =
        gateway.virtual_key(json!({ "spend_cap_micro_usd": 1_000_000_000, "max_parallel": CROWD })).await;
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        clients.push(ask(&gateway, &key, json!({ "stream": true, "max_tokens": 10 })).await);
    }
    gate.reached(CROWD).await;
    for client in &mut clients {
        client.first_byte().await;
    }
    assert!(gateway.reserved() > keystile::domain::NanoUsd::ZERO);
    drop(clients);
    for seen in upstream.seen() {
        seen.disconnected().await;
    }
    let rows = gateway.usage_of(CROWD).await;
    assert!(rows.iter().all(|row| row["outcome"] == "client_gone"));
    gateway.nothing_reserved().await;
    // Every place of the concurrency limit is free again.
    upstream.answer(chat_ok("hi", &usage(1, 1)));
    gateway.chat(&key, json!({})).await.expect(200);
}

/// A gateway before a provider that streams a lot to whoever asks for 7 tokens, and a client that asks and never reads.
async fn with_a_client_that_never_reads(stall: Duration) -> (Upstream, Gateway, VirtualKey, RawClient) {
    let text = "y".repeat(64 * 1024);
    let many: Vec<&str> = vec![&text; 400];
    let mut events = chat_events(&many);
    events.push(done());
    let upstream = Upstream::scripted(move |seen, _| {
        if seen.json()["max_tokens"] == 7 {
            Answer::stream().send_all(events.clone()).end()
        } else {
            chat_ok("hi", &usage(1, 1))
        }
    })
    .await;
    let (gateway, key) =
        Gateway::simple_with(&upstream, |config| config.server.write_stall_timeout = stall).await;
    let mut slow = ask(&gateway, &key, json!({ "stream": true, "max_tokens": 7 })).await;
    slow.first_byte().await;
    (upstream, gateway, key, slow)
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_else() {
    let (_upstream, gateway, key, slow) = with_a_client_that_never_reads(Duration::from_secs(600)).await;
    for _ in 0..20 {
        gateway.chat(&key, json!({})).await.expect(200);
    }
    // Only those who read are done: nobody waited for the one who does not.
    assert_eq!(gateway.usage_of(20).await.iter().filter(|row| row["outcome"] == "ok").count(), 20);
    drop(slow);
    let rows = gateway.usage_of(21).await;
    assert_eq!(rows.iter().filter(|row| row["outcome"] == "client_gone").count(), 1);
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_in_the_end() {
    let (upstream, gateway, _key, slow) = with_a_client_that_never_reads(Duration::from_millis(500)).await;
    upstream.seen()[0].disconnected().await;
    assert_eq!(gateway.only_usage().await["outcome"], "client_gone");
    drop(slow);
}

#[tokio::test]
async fn a_stream_may_be_read_to_its_end_after_its_client_left_and_is_settled_exactly() {
    let gate = Gate::new();
    let mut events = chat_events(&["one", "two"]);
    let rest = events.split_off(2);
    let answer = Answer::stream()
        .send_all(events)
        .wait(&gate)
        .send_all(rest)
        .send(usage_chunk(&usage(11, 7)))
        .send(done())
        .end();
    let upstream = Upstream::always(answer).await;
    let (gateway, key) = Gateway::simple_with(&upstream, |config| {
        config.upstream.drain_after_disconnect = Duration::from_secs(60);
    })
    .await;
    let mut client = ask(&gateway, &key, json!({ "stream": true })).await;
    client.first_byte().await;
    drop(client);
    eventually("the gateway to notice", || async {
        (gateway.app.house.drains.available_permits() == 63).then_some(())
    })
    .await;
    gate.open();
    let row = gateway.only_usage().await;
    assert_eq!((&row["outcome"], &row["usage_source"]), (&json!("client_gone"), &json!("provider")));
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(11), &json!(7)));
}
