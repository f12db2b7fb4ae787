//! What is metered is what the provider said, to the nano-dollar, in one row a request.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Setup, Upstream, chat_body, chat_events, chat_ok, done, error, gateway::chat_request,
    usage, usage_chunk,
};

#[tokio::test]
async fn a_usage_row_has_every_member_of_the_contract() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1_000, 77))).await;
    let gateway = Setup::new().await.allow(&upstream).at("2026-11-21T08:00:00Z").start().await;
    let provider_key = gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({ "tags": { "team": "search", "env": "prod" } })).await;
    let request = gateway
        .request(Method::POST, "/v1/chat/completions", &key)
        .header("content-type", "application/json")
        .header("x-keystile-tags", "run=42, env=test")
        .body(chat_request(json!({})));
    let reply = gateway.send(request).await.expect(200);

    let row = gateway.only_usage().await;
    let tenant = gateway.get(&format!("/api/virtual-keys/{}", key.id)).await["tenant_id"].clone();
    let expected = json!({
        "request_id": reply.header("x-request-id"),
        "started_at": "2026-11-21T08:00:00.000Z",
        "tenant_id": tenant,
        "virtual_key_id": key.id,
        "provider_key_id": provider_key,
        "provider": "openai",
        "requested_model": "openai/gpt-4o-mini",
        "served_model": "openai/gpt-4o-mini",
        "status": 200,
        "outcome": "ok",
        "attempts": 1,
        "stream": false,
        "input_tokens": 1_000,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 77,
        "reasoning_tokens": 0,
        // 1 000 × 0.15 + 77 × 0.6 micro-USD.
        "cost_micro_usd": 196.2,
        "clamped_micro_usd": 0,
        "price_version": row["price_version"],
        "usage_source": "provider",
        "latency_ms": row["latency_ms"],
        "time_to_first_token_ms": null,
        "tags": { "team": "search", "env": "test", "run": "42" },
    });
    assert_eq!(row, expected);
    assert!(row["price_version"].as_str().is_some_and(|version| version.starts_with("catalogue:")));
    assert!(row["latency_ms"].is_u64());
    assert_eq!(reply.header("x-keystile-cost-micro-usd"), Some("196.2"));

    let id = row["request_id"].as_str().expect("an id");
    let explained = gateway.get(&format!("/api/usage/{id}/explain")).await;
    let expected = json!({
        "request_id": id,
        "cost_micro_usd": 196.2,
        "price_version": row["price_version"],
        "lines": [
            { "class": "input", "tokens": 1_000, "micro_usd_per_million": 150_000, "cost_micro_usd": 150 },
            { "class": "output", "tokens": 77, "micro_usd_per_million": 600_000, "cost_micro_usd": 46.2 },
        ],
        "attempts": [{ "provider": "openai", "model": "gpt-4o-mini", "provider_key_id": provider_key,
            "status": 200, "outcome": "ok", "latency_ms": explained["attempts"][0]["latency_ms"] }],
    });
    assert_eq!(explained, expected);
    let key_view = gateway.read("/v1/key", &key).await.expect(200).json();
    assert_eq!(key_view["spent_micro_usd"], 197, "what is shown as spent is rounded up");
}

#[tokio::test]
async fn a_stream_says_when_its_first_token_came() {
    let mut events = chat_events(&["hi"]);
    events.extend([usage_chunk(&usage(10, 5)), done()]);
    let upstream = Upstream::always(Answer::stream().send_all(events).end()).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway.stream(&key, json!({})).await.text().await;
    let row = gateway.only_usage().await;
    assert_eq!((&row["stream"], &row["cost_micro_usd"]), (&json!(true), &json!(4.5)));
    assert!(row["time_to_first_token_ms"].as_u64() <= row["latency_ms"].as_u64(), "{row}");
    assert!(row["time_to_first_token_ms"].is_u64());
}

#[tokio::test]
async fn the_row_is_there_when_the_client_sees_the_end() {
    let mut events = chat_events(&["hi"]);
    events.extend([usage_chunk(&usage(10, 5)), done()]);
    let upstream = Upstream::always(Answer::stream().send_all(events).end()).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let mut stream = gateway.stream(&key, json!({})).await;
    while let Some(frame) = stream.frame().await {
        if frame == done() {
            assert_eq!(gateway.usage().await.len(), 1);
            assert_eq!(gateway.read("/v1/key", &key).await.json()["spent_micro_usd"], 5);
        }
    }
}

#[tokio::test]
async fn cached_input_and_reasoning_are_counted_apart_and_never_twice() {
    let figures = json!({
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_tokens_details": { "cached_tokens": 40, "cache_write_tokens": 10, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 8, "audio_tokens": 0, "accepted_prediction_tokens": 0 },
    });
    let upstream = Upstream::always(chat_ok("hi", &figures)).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway
        .price(json!({ "model": "openai/gpt-4o-mini", "input": 1_000_000, "output": 10_000_000,
            "cache_read": 100_000, "cache_write": 1_250_000 }))
        .await;
    gateway.chat(&key, json!({})).await.expect(200);
    let row = gateway.only_usage().await;
    let of = |member: &str| row[member].as_u64().expect("a count");
    assert_eq!((of("input_tokens"), of("cache_read_tokens"), of("cache_write_tokens")), (100, 40, 10));
    assert_eq!((of("output_tokens"), of("reasoning_tokens")), (20, 8));
    // 50 × 1 + 40 × 0.1 + 10 × 1.25 + 20 × 10.
    assert_eq!(row["cost_micro_usd"], 266.5);
    assert!(row["price_version"].as_str().is_some_and(|version| version.starts_with("prc_")), "{row}");
    let id = row["request_id"].as_str().expect("an id");
    let lines = gateway.get(&format!("/api/usage/{id}/explain")).await["lines"].clone();
    let classes: Vec<(&str, u64)> = lines
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| (line["class"].as_str().expect("a class"), line["tokens"].as_u64().expect("tokens")))
        .collect();
    assert_eq!(classes, [("input", 50), ("cache_read", 40), ("cache_write", 10), ("output", 20)]);
}

#[tokio::test]
async fn reasoning_that_a_provider_leaves_out_of_its_completion_is_charged() {
    let figures = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45,
        "completion_tokens_details": { "reasoning_tokens": 30 } });
    let upstream = Upstream::always(chat_ok("hi", &figures)).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    for (provider, output) in [("xai", 35), ("openai", 5)] {
        gateway.provider_key(provider, &upstream).await;
        gateway.price(json!({ "model": format!("{provider}/m"), "input": 0, "output": 1_000_000 })).await;
        let key = gateway.virtual_key(json!({})).await;
        gateway.chat(&key, json!({ "model": format!("{provider}/m") })).await.expect(200);
        let row = gateway.usage().await.pop().expect("a row");
        assert_eq!(
            (&row["output_tokens"], &row["cost_micro_usd"]),
            (&json!(output), &json!(output)),
            "{provider}"
        );
    }
}

#[tokio::test]
async fn a_fraction_of_a_nano_is_rounded_up_once() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway.price(json!({ "model": "openai/gpt-4o-mini", "input": 1, "output": 1 })).await;
    let reply = gateway.chat(&key, json!({})).await.expect(200);
    // Two pico-USD are one nano-USD, not two.
    assert_eq!(reply.header("x-keystile-cost-micro-usd"), Some("0.001"));
    assert_eq!(gateway.only_usage().await["cost_micro_usd"], 0.001);
}

#[tokio::test]
async fn a_new_price_never_rewrites_what_was_recorded() {
    let upstream = Upstream::always(chat_ok("hi", &usage(100, 0))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let price = |input: u64| json!({ "model": "openai/gpt-4o-mini", "input": input, "output": 0 });
    for input in [1_000_000, 2_000_000, 0] {
        gateway.price(price(input)).await;
        gateway.chat(&key, json!({})).await.expect(200);
    }
    let rows = gateway.usage_of(3).await;
    let costs: Vec<&Value> = rows.iter().map(|row| &row["cost_micro_usd"]).collect();
    assert_eq!(costs, [100, 200, 0]);
    let versions: std::collections::BTreeSet<&str> =
        rows.iter().filter_map(|row| row["price_version"].as_str()).collect();
    assert_eq!(versions.len(), 3);
    let spend = gateway.get("/api/spend?group_by=model").await;
    assert_eq!(spend["total"]["cost_micro_usd"], 300, "{spend}");
    assert_eq!(spend["total"]["requests"], 3);
}

#[tokio::test]
async fn spend_sums_to_the_same_total_however_it_is_grouped() {
    let upstream = Upstream::always(chat_ok("hi", &usage(100, 10))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let tagged = gateway.virtual_key(json!({ "tags": { "team": "a" } })).await;
    for _ in 0..3 {
        gateway.chat(&key, json!({})).await.expect(200);
        gateway.chat(&tagged, json!({ "model": "openai/gpt-4.1-nano" })).await.expect(200);
    }
    gateway.usage_of(6).await;
    let plain = gateway.get("/api/spend").await["total"].clone();
    assert_eq!(
        (&plain["requests"], &plain["input_tokens"], &plain["output_tokens"]),
        (&json!(6), &json!(600), &json!(60))
    );
    for group in ["tenant", "key", "provider", "model", "day", "tag:team", "tenant,key,model,day"] {
        let spend = gateway.get(&format!("/api/spend?group_by={group}")).await;
        assert_eq!(spend["total"], plain, "{group}");
        let rows =
            spend.as_object().expect("a report").values().find_map(Value::as_array).expect("rows").clone();
        let requests: u64 = rows.iter().map(|row| row["requests"].as_u64().expect("a count")).sum();
        assert_eq!(requests, 6, "{group}");
    }
    let csv = gateway.admin(Method::GET, "/api/spend?group_by=model&format=csv", None).await.expect(200);
    assert_eq!(csv.text().lines().count(), 3, "a head, two rows, no total: {}", csv.text());
}

#[tokio::test]
async fn p08_what_was_refused_before_an_attempt_makes_no_row() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let narrow = gateway.virtual_key(json!({ "models_allowed": [] })).await;
    let broke = gateway.virtual_key(json!({ "spend_cap_micro_usd": 0 })).await;
    gateway.chat(&narrow, json!({})).await.expect(403);
    gateway.chat(&broke, json!({})).await.expect(402);
    gateway.chat(&key, json!({ "model": "nope" })).await.expect(404);
    gateway.post("/v1/chat/completions", &key, "{").await.expect(400);
    let mut wrong = key.clone();
    wrong.key.push('x');
    gateway.chat(&wrong, json!({})).await.expect(401);
    let tags = gateway
        .request(Method::POST, "/v1/chat/completions", &key)
        .header("content-type", "application/json")
        .header("x-keystile-tags", "no pair")
        .body(chat_request(json!({})));
    gateway.send(tags).await.refused(400, "invalid_request");
    assert!(gateway.usage().await.is_empty());
    assert_eq!(upstream.count(), 0);
    let metrics = gateway.metrics.encode();
    for code in
        ["model_not_allowed", "spend_cap_reached", "model_not_found", "invalid_json", "invalid_api_key"]
    {
        assert!(metrics.contains(&format!("code=\"{code}\"}} 1")), "{code} is counted: {metrics}");
    }
}

#[tokio::test]
async fn an_answer_without_usage_is_estimated_from_its_text() {
    let mut body = chat_body("0123456789", &Value::Null);
    body.as_object_mut().expect("an object").remove("usage");
    let upstream = Upstream::always(Answer::json(200, &body)).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway.chat(&key, json!({})).await.expect(200);
    let row = gateway.only_usage().await;
    assert_eq!((&row["usage_source"], &row["output_tokens"]), (&json!("estimated"), &json!(3)));
    assert_eq!(row["input_tokens"], "hello".len().div_ceil(4), "of what is said, not of what frames it");
}

#[tokio::test]
async fn p15_every_attempt_that_was_used_is_paid_for_in_one_row() {
    let mut broken = chat_body("lost", &usage(100, 50)).to_string();
    broken.truncate(broken.len() - 10);
    let upstream = Upstream::queue([
        Answer::whole(200, &[("content-type", "application/json")], broken),
        error(500, "no"),
        chat_ok("hi", &usage(100, 50)),
    ])
    .await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    for _ in 0..3 {
        gateway.provider_key("openai", &upstream).await;
    }
    let key = gateway.virtual_key(json!({})).await;
    let reply = gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(reply.header("x-keystile-attempts"), Some("3"));
    let row = gateway.only_usage().await;
    // The first was sent and is unreadable: its input is estimated. The second was refused and is free.
    let estimate = "hello".len().div_ceil(4) as u64;
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(100 + estimate), &json!(50)));
    assert_eq!((&row["usage_source"], &row["attempts"]), (&json!("estimated"), &json!(3)));
    let id = row["request_id"].as_str().expect("an id");
    let explained = gateway.get(&format!("/api/usage/{id}/explain")).await;
    let statuses: Vec<&Value> = explained["attempts"]
        .as_array()
        .expect("attempts")
        .iter()
        .map(|attempt| &attempt["status"])
        .collect();
    assert_eq!(statuses, [200, 500, 200]);
}

#[tokio::test]
async fn a_cached_key_asks_the_database_nothing_and_usage_is_written_in_batches() {
    const REQUESTS: usize = 1_000;
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, _) = Gateway::simple(&upstream).await;
    let key = gateway
        .virtual_key(json!({ "spend_cap_micro_usd": 1_000_000_000, "rate_limit_rpm": 1_000_000 }))
        .await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let (before, began) = (gateway.app.house.store.statements(), Instant::now());
    for _ in 0..REQUESTS / 50 {
        let some = (0..50).map(|_| gateway.chat(&key, json!({})));
        for reply in futures_util::future::join_all(some).await {
            reply.expect(200);
        }
    }
    crate::support::soon("usage to be written", gateway.app.house.ledger.flushed()).await;
    let after = gateway.app.house.store.statements();
    let elapsed = began.elapsed() + Duration::from_secs(1);
    // The follower of changes made elsewhere asks now and then, whether anybody calls or not.
    let polls = elapsed.as_millis() / 100;
    assert!(u128::from(after.reads - before.reads) <= polls, "{before:?} → {after:?} in {elapsed:?}");
    let writes = after.writes - before.writes;
    assert!(writes <= REQUESTS as u64 / 4, "{writes} statements");
    assert_eq!(gateway.usage_of(REQUESTS + 1).await.len(), REQUESTS + 1);
}
