//! Who is tried after whom, what a failure becomes when nobody is left, and when nobody else is tried.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Setup, Upstream, VirtualKey, chat_events, chat_ok, chat_stream, done, error, event, raw,
    usage,
};

const SECOND: &str = "groq/llama-3.3-70b-versatile";

/// A first provider that answers as told, a second that is well, and a key that falls back from one to the other.
struct Pair {
    first: Upstream,
    second: Upstream,
    gateway: Gateway,
    key: VirtualKey,
}

impl Pair {
    async fn new(answer: Answer) -> Self {
        let first = Upstream::always(answer).await;
        let second = Upstream::scripted(|seen, _| {
            if seen.json()["stream"] == true {
                chat_stream(&["two"], None)
            } else {
                chat_ok("two", &usage(1, 1))
            }
        })
        .await;
        let gateway = Setup::new()
            .await
            .allow(&first)
            .allow(&second)
            .with(|config| {
                config.upstream.first_byte_timeout = Duration::from_millis(250);
                config.upstream.stream_first_byte_timeout = Duration::from_millis(250);
                config.upstream.idle_timeout = Duration::from_millis(250);
            })
            .start()
            .await;
        gateway.provider_key("openai", &first).await;
        gateway.provider_key("groq", &second).await;
        let key = gateway.virtual_key(json!({ "fallback_models": [SECOND] })).await;
        Self { first, second, gateway, key }
    }
}

fn refusal(status: u16, code: &str) -> Answer {
    Answer::json(status, &json!({ "error": { "message": "no", "type": "t", "param": null, "code": code } }))
}

#[tokio::test]
async fn statuses_that_another_could_better_fall_back_and_others_do_not() {
    for status in [401, 403, 408, 409, 425, 429, 500, 502, 503, 504, 520, 529] {
        let pair = Pair::new(error(status, "no")).await;
        for stream in [false, true] {
            let reply = pair.gateway.chat(&pair.key, json!({ "stream": stream })).await.expect(200);
            assert_eq!(reply.header("x-keystile-model"), Some(SECOND), "{status}");
            assert!(reply.text().contains("two"));
        }
        let row = &pair.gateway.usage_of(2).await[0];
        assert_eq!((&row["attempts"], &row["provider"]), (&json!(2), &json!("groq")), "{status}");
    }
    let pair = Pair::new(error(400, "no")).await;
    for status in [400, 402, 404, 405, 413, 415, 422, 451] {
        pair.first.answer(error(status, "no"));
        for stream in [false, true] {
            pair.gateway.chat(&pair.key, json!({ "stream": stream })).await.expect(status);
        }
    }
    assert_eq!(pair.second.count(), 0);
}

#[tokio::test]
async fn a_context_that_is_too_long_here_may_fit_elsewhere() {
    let pair = Pair::new(refusal(400, "context_length_exceeded")).await;
    let reply = pair.gateway.chat(&pair.key, json!({})).await.expect(200);
    assert_eq!(reply.header("x-keystile-attempts"), Some("2"));
}

#[tokio::test]
async fn failures_without_a_status_fall_back() {
    let json = [("content-type", "application/json")];
    let cases: Vec<(&str, bool, Answer)> = vec![
        ("closed before the head", false, raw("")),
        ("reset before the head", false, Answer::default().reset()),
        ("silence", false, Answer::default().stall()),
        ("nonsense", false, raw("nonsense\r\n\r\n")),
        ("a body that breaks off", false, raw("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"choices\":[")),
        ("a body that stalls", false, Answer::chunked(200, &json).send("{\"choices\":").stall()),
        ("no JSON", false, Answer::whole(200, &json, "nope")),
        ("an error inside a 200", false, Answer::json(200, &json!({ "error": { "message": "overloaded" } }))),
        ("a page", false, Answer::whole(200, &[("content-type", "text/html")], "<html>")),
        ("closed before the head", true, raw("")),
        ("silence", true, Answer::default().stall()),
        ("a head and silence", true, Answer::stream().stall()),
        ("a head and the end", true, Answer::stream().end()),
        ("a head and a reset", true, Answer::stream().reset()),
        ("comments and the end", true, Answer::stream().send(": hi\n\n: hi\n\n").end()),
        ("a role and the end", true, Answer::stream().send(&chat_events(&[])[0]).end()),
        ("a role and a reset", true, Answer::stream().send(&chat_events(&[])[0]).reset()),
        ("a role and silence", true, Answer::stream().send(&chat_events(&[])[0]).stall()),
        ("only [DONE]", true, Answer::stream().send(done()).end()),
        ("an error as the first event", true, first_error(&json!({ "error": { "message": "overloaded" } }))),
        (
            "an error after the role",
            true,
            Answer::stream()
                .send(&chat_events(&[])[0])
                .send(event(&json!({ "error": { "message": "overloaded", "code": 529 } })))
                .end(),
        ),
        ("an error event", true, Answer::stream().send("event: error\ndata: {\"message\":\"no\"}\n\n").end()),
        (
            "an error and [DONE]",
            true,
            Answer::stream().send(event(&json!({ "error": { "code": 500 } }))).send(done()).end(),
        ),
        ("JSON in place of a stream", true, Answer::json(200, &json!({ "error": { "message": "no" } }))),
        (
            "an event that is too large",
            true,
            Answer::stream().send(format!("data: {}", "x".repeat(2_000_000))).stall(),
        ),
    ];
    for (what, stream, answer) in cases {
        let pair = Pair::new(answer).await;
        let reply = pair.gateway.chat(&pair.key, json!({ "stream": stream })).await.expect(200);
        assert_eq!(reply.header("x-keystile-model"), Some(SECOND), "{what}");
        assert_eq!(reply.header("x-keystile-attempts"), Some("2"), "{what}");
        if stream {
            assert_eq!(
                reply.text(),
                chat_events(&["two"]).concat() + &done(),
                "{what}: nothing of the first"
            );
        }
        let row = pair.gateway.only_usage().await;
        assert_eq!((&row["outcome"], &row["served_model"]), (&json!("ok"), &json!(SECOND)), "{what}");
        let explained = pair
            .gateway
            .get(&format!("/api/usage/{}/explain", row["request_id"].as_str().expect("id")))
            .await;
        assert_eq!(explained["attempts"].as_array().map(Vec::len), Some(2), "{what}");
        assert_eq!(explained["attempts"][0]["provider"], "openai");
    }
}

fn first_error(error: &Value) -> Answer {
    Answer::stream().send(event(error)).end()
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_falls_back() {
    let Pair { first, second, gateway, key } = Pair::new(error(500, "no")).await;
    drop(first);
    for stream in [false, true] {
        let reply = gateway.chat(&key, json!({ "stream": stream })).await.expect(200);
        assert_eq!(reply.header("x-keystile-model"), Some(SECOND));
    }
    assert_eq!(second.count(), 2);
}

#[tokio::test]
async fn p15_nobody_else_is_tried_once_something_meaningful_was_seen() {
    let openings = [
        json!({ "content": "one" }),
        json!({ "reasoning_content": "hm" }),
        json!({ "refusal": "no" }),
        json!({ "tool_calls": [{ "index": 0, "id": "c", "type": "function", "function": { "name": "f", "arguments": "" } }] }),
    ];
    for delta in openings {
        let opening = event(&json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] }));
        let pair = Pair::new(Answer::stream().send(&opening).reset()).await;
        let stream = pair.gateway.stream(&pair.key, json!({})).await;
        assert_eq!((stream.status, stream.header("x-keystile-provider")), (200, Some("openai")));
        let text = stream.text().await;
        assert!(text.starts_with(&opening) && text.contains("upstream_error"), "{text}");
        assert_eq!(pair.second.count(), 0, "{delta}");
    }
}

#[tokio::test]
async fn a_list_of_models_is_tried_in_order_before_the_keys_fallbacks() {
    let down = || async { Upstream::always(error(500, "down")).await };
    let (one, two, three) = (down().await, down().await, Upstream::always(chat_ok("3", &usage(1, 1))).await);
    let setup = Setup::new().await.allow(&one).allow(&two).allow(&three);
    let gateway = setup.start().await;
    for (slug, upstream) in [("one", &one), ("two", &two), ("three", &three)] {
        gateway.provider_key(slug, upstream).await;
    }
    let key = gateway.virtual_key(json!({ "fallback_models": ["three/c"] })).await;
    let reply =
        gateway.chat(&key, json!({ "model": "three/x", "models": ["two/b", "one/a", "two/b"] })).await;
    assert_eq!(reply.clone().expect(200).header("x-keystile-model"), Some("three/c"));
    assert_eq!(reply.header("x-keystile-attempts"), Some("3"), "a model named twice is tried once");
    assert!(two.only().at < one.only().at);
    assert_eq!((&one.only().json()["model"], &two.only().json()["model"]), (&json!("a"), &json!("b")));
    let sent = three.only().json();
    assert_eq!((&sent["model"], sent.get("models")), (&json!("c"), None), "the list is the gateway's");
    let row = gateway.only_usage().await;
    assert_eq!((&row["requested_model"], &row["served_model"]), (&json!("two/b"), &json!("three/c")));
}

#[tokio::test]
async fn another_key_for_the_same_model_comes_before_another_model() {
    let Pair { first, second, gateway, key } = Pair::new(error(500, "no")).await;
    let spare = Upstream::scripted(|_, _| error(500, "no")).await;
    let stopped = gateway.stop(Duration::from_secs(5)).await;
    let gateway = stopped.again.allow(&spare).start().await;
    gateway.provider_key_with("openai", &spare, json!({ "weight": 0, "api_key": "sk-spare" })).await;
    let reply = gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(reply.header("x-keystile-attempts"), Some("3"));
    assert!(first.only().at < spare.only().at && spare.only().at < second.only().at);
    assert_eq!(spare.only().header("authorization"), Some("Bearer sk-spare"), "each key its own secret");
    assert_eq!(first.only().header("authorization"), Some("Bearer sk-scripted-provider-key"));
}

#[tokio::test]
async fn keys_share_the_load_by_weight_and_weight_0_only_stands_by() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    for (name, weight) in [("sk-heavy", 3), ("sk-light", 1), ("sk-none", 0)] {
        gateway.provider_key_with("openai", &upstream, json!({ "api_key": name, "weight": weight })).await;
    }
    let key = gateway.virtual_key(json!({})).await;
    for _ in 0..400 {
        gateway.chat(&key, json!({})).await.expect(200);
    }
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for seen in upstream.seen() {
        *counts.entry(seen.header("authorization").expect("a key").to_owned()).or_default() += 1;
    }
    assert_eq!(counts.get("Bearer sk-none"), None);
    let heavy = counts["Bearer sk-heavy"];
    // Six standard deviations around 300 of 400.
    assert!((248..=352).contains(&heavy), "{counts:?}");
    // With both others down it serves.
    upstream.rescript(|seen, _| match seen.header("authorization") {
        Some("Bearer sk-none") => chat_ok("hi", &usage(1, 1)),
        _ => error(500, "down"),
    });
    assert_eq!(gateway.chat(&key, json!({})).await.expect(200).header("x-keystile-attempts"), Some("3"));
}

#[tokio::test]
async fn a_key_serves_only_the_models_it_lists() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key_with("openai", &upstream, json!({ "api_key": "sk-a", "models": ["gpt-4o"] })).await;
    gateway
        .provider_key_with("openai", &upstream, json!({ "api_key": "sk-b", "models": ["gpt-4o-mini"] }))
        .await;
    let key = gateway.virtual_key(json!({})).await;
    for (model, secret) in [("openai/gpt-4o", "Bearer sk-a"), ("openai/gpt-4o-mini", "Bearer sk-b")] {
        gateway.chat(&key, json!({ "model": model })).await.expect(200);
        assert_eq!(upstream.last().header("authorization"), Some(secret));
    }
    gateway.chat(&key, json!({ "model": "openai/gpt-4.1" })).await.refused(404, "model_not_found");
}

#[tokio::test]
async fn a_key_that_answers_429_rests_as_long_as_it_asked() {
    let limited = Answer::whole(429, &[("retry-after", "30"), ("content-type", "application/json")], "{}");
    let pair = Pair::new(limited).await;
    pair.gateway.chat(&pair.key, json!({})).await.expect(200);
    pair.first.answer(chat_ok("one", &usage(1, 1)));
    for _ in 0..5 {
        let reply = pair.gateway.chat(&pair.key, json!({})).await.expect(200);
        assert_eq!(
            (reply.header("x-keystile-provider"), reply.header("x-keystile-attempts")),
            (Some("groq"), Some("1"))
        );
    }
    assert_eq!(pair.first.count(), 1, "it was left alone");
    // What rests is better than nothing.
    let lonely = pair.gateway.virtual_key(json!({})).await;
    assert_eq!(
        pair.gateway.chat(&lonely, json!({})).await.expect(200).header("x-keystile-provider"),
        Some("openai")
    );
}

#[tokio::test]
async fn a_key_that_fails_again_and_again_rests_and_one_request_probes_it() {
    let limited = Answer::whole(429, &[("retry-after", "1")], "");
    let pair = Pair::new(limited).await;
    pair.gateway.chat(&pair.key, json!({})).await.expect(200);
    pair.first.answer(chat_ok("one", &usage(1, 1)));
    // The rest is over within the second; the next request that finds it so is the probe, and its success ends it.
    crate::support::eventually("the rest to be over", || async {
        let reply = pair.gateway.chat(&pair.key, json!({})).await.expect(200);
        (reply.header("x-keystile-provider") == Some("openai")).then_some(())
    })
    .await;
    pair.first.answer(error(500, "down"));
    for _ in 0..3 {
        pair.gateway.chat(&pair.key, json!({})).await.expect(200);
    }
    let tried = pair.first.count();
    for _ in 0..5 {
        let reply = pair.gateway.chat(&pair.key, json!({})).await.expect(200);
        assert_eq!(reply.header("x-keystile-attempts"), Some("1"));
    }
    assert_eq!(pair.first.count(), tried, "three failures in a row and it rests");
}

#[tokio::test]
async fn when_all_failed_the_last_error_answers() {
    let upstream = Upstream::always(error(500, "no")).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let cases: [(u16, u16, &str); 13] = [
        (401, 502, "provider_key_rejected"),
        (403, 502, "provider_key_rejected"),
        (408, 502, "upstream_error"),
        (409, 409, "theirs"),
        (425, 502, "upstream_error"),
        (429, 429, "upstream_rate_limited"),
        (500, 502, "upstream_error"),
        (501, 502, "upstream_error"),
        (502, 502, "upstream_error"),
        (503, 503, "upstream_error"),
        (504, 502, "upstream_error"),
        (520, 502, "upstream_error"),
        (529, 502, "upstream_error"),
    ];
    for (theirs, ours, code) in cases {
        upstream.answer(refusal(theirs, "theirs"));
        for stream in [false, true] {
            let reply = gateway.chat(&key, json!({ "stream": stream })).await.refused(ours, code);
            let said = &reply.json()["error"];
            assert_eq!((&said["provider"], &said["provider_status"]), (&json!("openai"), &json!(theirs)));
            let retry = reply.header("x-should-retry");
            assert_eq!(retry, (code == "provider_key_rejected").then_some("false"), "{theirs}");
        }
    }
    upstream.answer(refusal(400, "context_length_exceeded"));
    gateway.chat(&key, json!({})).await.refused(400, "context_length_exceeded");
    // Inside a 200 as well.
    upstream.answer(first_error(&json!({ "error": { "message": "slow down", "code": 429 } })));
    gateway.chat(&key, json!({ "stream": true })).await.refused(429, "upstream_rate_limited");
    upstream.answer(first_error(&json!({ "error": { "message": "hm" } })));
    gateway.chat(&key, json!({ "stream": true })).await.refused(502, "upstream_error");
    let rows = gateway.usage().await;
    assert!(rows.iter().all(|row| row["cost_micro_usd"] == 0), "refusals cost nothing");
}

#[tokio::test]
async fn a_429_passes_a_sane_retry_after_and_one_about_money_says_not_to_retry() {
    let upstream = Upstream::always(error(500, "no")).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    for (theirs, ours) in [
        ("7", Some("7")),
        ("0", Some("1")),
        ("100000", Some("120")),
        ("-5", None),
        ("soon", None),
        ("Mon, 01 Jan 2001 00:00:00 GMT", None),
    ] {
        upstream.answer(Answer::whole(429, &[("retry-after", theirs)], "{}"));
        let reply = gateway.chat(&key, json!({})).await.refused(429, "upstream_rate_limited");
        assert_eq!(reply.header("retry-after"), ours, "{theirs}");
        assert_eq!(reply.header("x-should-retry"), None);
    }
    upstream.answer(refusal(429, "insufficient_quota"));
    let reply = gateway.chat(&key, json!({})).await.refused(429, "upstream_rate_limited");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn of_two_failures_the_last_is_told_and_refused_candidates_are_skipped() {
    let pair = Pair::new(error(503, "one")).await;
    pair.second.answer(error(500, "two"));
    let reply = pair.gateway.chat(&pair.key, json!({})).await.refused(502, "upstream_error");
    assert_eq!(reply.json()["error"]["provider"], "groq");
    // A policy refusal is told only when nothing was sent.
    let narrow = pair.gateway.virtual_key(json!({ "models_allowed": ["openai/gpt-4o-mini"] })).await;
    let models = json!({ "models": [SECOND, "openai/gpt-4o-mini"] });
    pair.gateway.chat(&narrow, models).await.refused(503, "upstream_error");
    pair.gateway
        .chat(&narrow, json!({ "models": [SECOND, "openai/gpt-4o"] }))
        .await
        .refused(403, "model_not_allowed");
}

#[tokio::test]
async fn a_name_that_stands_for_nothing_leads_to_the_fallbacks() {
    let pair = Pair::new(chat_ok("one", &usage(1, 1))).await;
    let reply = pair.gateway.chat(&pair.key, json!({ "model": "gpt-4o-minny" })).await.expect(200);
    assert_eq!(reply.header("x-keystile-model"), Some(SECOND));
    let without = pair.gateway.virtual_key(json!({})).await;
    pair.gateway.chat(&without, json!({ "model": "gpt-4o-minny" })).await.refused(404, "model_not_found");
    assert_eq!(pair.second.count(), 1);
}

#[tokio::test]
async fn p15_attempts_are_bounded() {
    let upstream = Upstream::always(error(500, "down")).await;
    let gateway =
        Setup::new().await.allow(&upstream).with(|config| config.upstream.max_attempts = 3).start().await;
    for _ in 0..6 {
        gateway.provider_key("openai", &upstream).await;
    }
    let key = gateway.virtual_key(json!({})).await;
    gateway.chat(&key, json!({})).await.refused(502, "upstream_error");
    assert_eq!(upstream.count(), 3);
    assert_eq!(gateway.only_usage().await["attempts"], 3);
}
