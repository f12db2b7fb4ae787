//! A cap is a cap.

use serde_json::{Value, json};

use crate::support::{
    Answer, Gate, Gateway, Setup, Upstream, VirtualKey, chat_events, chat_ok, done, error,
    gateway::chat_request, usage, usage_chunk,
};

/// One micro-USD a token, in and out: what is spent can be read off the tokens.
const MODEL: &str = "openai/penny";

pub async fn house(upstream: &Upstream) -> Gateway {
    let gateway = Setup::new().await.allow(upstream).at("2026-11-21T12:00:00Z").start().await;
    gateway.provider_key("openai", upstream).await;
    penny(&gateway, json!({})).await;
    gateway
}

async fn penny(gateway: &Gateway, more: Value) {
    let mut price = json!({ "model": MODEL, "input": 1_000_000, "output": 1_000_000 });
    for (name, value) in more.as_object().expect("members") {
        price[name] = value.clone();
    }
    gateway.price(price).await;
}

pub fn penny_chat(more: Value) -> Value {
    let mut body = json!({ "model": MODEL });
    for (name, value) in more.as_object().expect("members") {
        body[name] = value.clone();
    }
    body
}

/// The most a request of these members can cost in micro-USD, by the contract: a token for each byte that is sent, 16 a
/// message, and the output limit.
pub fn worst(more: &Value, output: u64) -> u64 {
    let mut sent = penny_chat(more.clone());
    sent["model"] = json!("penny");
    if more["stream"] == json!(true) {
        sent["stream_options"] = json!({ "include_usage": true });
    }
    chat_request(sent).len() as u64 + 16 + output
}

/// What a limit that the gateway adds takes in the body.
fn added(name: &str, limit: u64) -> u64 {
    format!(",\"{name}\":{limit}").len() as u64
}

async fn spent(gateway: &Gateway, key: &VirtualKey) -> (i64, i64) {
    let view = gateway.read("/v1/key", key).await.expect(200).json();
    let of = |member: &str| view[member].as_i64().expect("a number");
    (of("spent_micro_usd"), of("reserved_micro_usd"))
}

#[tokio::test]
async fn p03_of_a_thousand_requests_at_once_exactly_those_that_fit_are_sent() {
    const CROWD: usize = 1_000;
    const FIT: usize = 37;
    let gate = Gate::new();
    let held = Answer::default().wait(&gate);
    let body = crate::support::chat_body("hi", &usage(20, 100)).to_string();
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::always(held.send(whole)).await;
    let gateway = house(&upstream).await;
    let asked = json!({ "max_tokens": 100 });
    let cap = worst(&asked, 100) * FIT as u64 + worst(&asked, 100) - 1;
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": cap })).await;

    let crowd = (0..CROWD).map(|_| gateway.chat(&key, penny_chat(asked.clone())));
    let decided = async {
        gate.reached(FIT).await;
        // All who are not at the gate have their answer.
        crate::support::eventually("the others to be refused", || async {
            let refused = gateway.metrics.encode();
            refused.contains(&format!("code=\"spend_cap_reserved\"}} {}", CROWD - FIT)).then_some(())
        })
        .await;
        assert_eq!(upstream.count(), FIT);
        let (settled, reserved) = spent(&gateway, &key).await;
        assert_eq!((settled, reserved as u64), (0, worst(&asked, 100) * FIT as u64));
        gate.open();
    };
    let (replies, ()) = tokio::join!(futures_util::future::join_all(crowd), decided);
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), FIT);
    for reply in replies.into_iter().filter(|reply| reply.status != 200) {
        reply.refused(402, "spend_cap_reserved");
    }
    assert_eq!(upstream.count(), FIT);
    assert_eq!(spent(&gateway, &key).await, (120 * FIT as i64, 0));
    assert_eq!(gateway.usage_of(FIT).await.len(), FIT, "refusals leave no row");
}

#[tokio::test]
async fn under_load_the_cap_is_spent_and_never_exceeded() {
    let upstream = Upstream::always(chat_ok("hi", &usage(200, 100))).await;
    let gateway = house(&upstream).await;
    let asked = json!({ "max_tokens": 100 });
    assert!(worst(&asked, 100) < 300, "each charges what it holds: the provider says more than was possible");
    let cap = 5_000;
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": cap })).await;
    let replies =
        futures_util::future::join_all((0..300).map(|_| gateway.chat(&key, penny_chat(asked.clone())))).await;
    let sent = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(sent as u64, cap / worst(&asked, 100));
    let (settled, reserved) = spent(&gateway, &key).await;
    assert!(settled as u64 <= cap && reserved == 0, "{settled}");
    let rows = gateway.usage_of(sent).await;
    let sum: u64 = rows.iter().map(|row| row["cost_micro_usd"].as_u64().expect("whole")).sum();
    assert_eq!(sum, settled as u64, "memory and ledger agree");
}

#[tokio::test]
async fn reserved_is_told_from_reached_and_both_name_the_numbers() {
    let gate = Gate::new();
    let body = crate::support::chat_body("hi", &usage(10, 190)).to_string();
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::always(Answer::default().wait(&gate).send(whole)).await;
    let gateway = house(&upstream).await;
    let asked = json!({ "max_tokens": 200 });
    let need = worst(&asked, 200);
    let limits = json!({ "spend_cap_micro_usd": need + 10, "spend_window": "monthly" });
    let key = gateway.virtual_key(limits).await;
    let (first, ()) = tokio::join!(gateway.chat(&key, penny_chat(asked.clone())), async {
        gate.reached(1).await;
        let reply = gateway.chat(&key, penny_chat(asked.clone())).await.refused(402, "spend_cap_reserved");
        assert_eq!(reply.header("retry-after"), Some("1"));
        let header = |name: &str| reply.header(name).map(str::to_owned);
        assert_eq!(header("x-keystile-cap-micro-usd"), Some((need + 10).to_string()));
        assert_eq!(header("x-keystile-spent-micro-usd"), Some("0".into()));
        assert_eq!(header("x-keystile-reserved-micro-usd"), Some(need.to_string()));
        assert_eq!(reply.json()["error"]["type"], "billing_error");
        gate.open();
    });
    first.expect(200);
    let reply = gateway.chat(&key, penny_chat(asked)).await.refused(402, "spend_cap_reached");
    assert_eq!(reply.header("retry-after"), None);
    assert_eq!(reply.header("x-keystile-spent-micro-usd"), Some("200"));
    assert_eq!(reply.header("x-keystile-reserved-micro-usd"), Some("0"));
    let message = reply.json()["error"]["message"].as_str().expect("a message").to_owned();
    for part in [key.id.as_str(), &(need + 10).to_string(), "200", "2026-12-01T00:00:00"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_request_without_a_limit_is_clamped_to_what_fits() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 10))).await;
    let gateway = house(&upstream).await;
    let input = worst(&json!({}), 0);
    let limit = added("max_completion_tokens", 1_000);
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": input + limit + 1_000 })).await;
    let reply = gateway.chat(&key, penny_chat(json!({}))).await.expect(200);
    assert_eq!(reply.header("x-keystile-max-output-tokens"), Some("1000"));
    let sent = upstream.last().json();
    assert_eq!((&sent["max_completion_tokens"], sent.get("max_tokens")), (&json!(1_000), None));

    // Twenty are spent; a stream is clamped in the same way, and its limit has a digit less.
    let mut events = chat_events(&["a"]);
    events.extend([usage_chunk(&usage(10, 10)), done()]);
    upstream.answer(Answer::stream().send_all(events).end());
    let input = worst(&json!({ "stream": true }), 0) - worst(&json!({}), 0);
    let stream = gateway.stream(&key, penny_chat(json!({}))).await;
    let clamped: u64 =
        stream.header("x-keystile-max-output-tokens").expect("a header").parse().expect("a number");
    assert_eq!(clamped, 980 - input + 1);
    assert_eq!(upstream.last().json()["max_completion_tokens"], clamped);
    stream.text().await;
    gateway.usage_of(2).await;

    // Where the model's own maximum fits, nothing is changed.
    penny(&gateway, json!({ "max_output_tokens": 300 })).await;
    upstream.answer(chat_ok("hi", &usage(10, 10)));
    let reply = gateway.chat(&key, penny_chat(json!({}))).await.expect(200);
    assert_eq!(reply.header("x-keystile-max-output-tokens"), None);
    assert_eq!(upstream.last().json().get("max_completion_tokens"), None);
    // An uncapped key is never clamped.
    let free = gateway.virtual_key(json!({})).await;
    penny(&gateway, json!({})).await;
    let reply = gateway.chat(&free, penny_chat(json!({}))).await.expect(200);
    assert_eq!(reply.header("x-keystile-max-output-tokens"), None);
}

#[tokio::test]
async fn the_clamp_speaks_the_providers_word_for_it() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 10))).await;
    let gateway = house(&upstream).await;
    gateway.provider_key("mistral", &upstream).await;
    gateway.price(json!({ "model": "mistral/penny", "input": 0, "output": 1_000_000 })).await;
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": 1_000 })).await;
    gateway.chat(&key, json!({ "model": "mistral/penny" })).await.expect(200);
    let sent = upstream.last().json();
    assert_eq!((&sent["max_tokens"], sent.get("max_completion_tokens")), (&json!(1_000), None));
    let body = json!({ "model": MODEL, "prompt": "x", "n": 2 }).to_string();
    let reply = gateway.post("/v1/completions", &key, body.clone()).await.expect(200);
    // Ten are spent, and each of two answers may be so long.
    let sent = body.len() as u64 - "openai/".len() as u64 + added("max_tokens", 100);
    let each = (990 - sent) / 2;
    assert_eq!(reply.header("x-keystile-max-output-tokens"), Some(each.to_string().as_str()));
    assert_eq!(upstream.last().json()["max_tokens"], each);
}

#[tokio::test]
async fn a_clamp_of_less_than_256_is_a_refusal() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = house(&upstream).await;
    let input = worst(&json!({}), 0);
    let input = input + added("max_completion_tokens", 256);
    let short = gateway.virtual_key(json!({ "spend_cap_micro_usd": input + 255 })).await;
    gateway.chat(&short, penny_chat(json!({}))).await.refused(402, "spend_cap_reached");
    assert_eq!(upstream.count(), 0);
    let enough = gateway.virtual_key(json!({ "spend_cap_micro_usd": input + 256 })).await;
    let reply = gateway.chat(&enough, penny_chat(json!({}))).await.expect(200);
    assert_eq!(reply.header("x-keystile-max-output-tokens"), Some("256"));
}

#[tokio::test]
async fn a_clients_own_limit_that_does_not_fit_is_refused_and_never_changed() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = house(&upstream).await;
    for name in ["max_tokens", "max_completion_tokens"] {
        let asked = json!({ name: 1_000 });
        let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": worst(&asked, 1_000) - 1 })).await;
        gateway.chat(&key, penny_chat(asked.clone())).await.refused(402, "spend_cap_reached");
        let before = upstream.count();
        let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": worst(&asked, 1_000) })).await;
        let reply = gateway.chat(&key, penny_chat(asked)).await.expect(200);
        assert_eq!(reply.header("x-keystile-max-output-tokens"), None);
        assert_eq!((upstream.count(), &upstream.last().json()[name]), (before + 1, &json!(1_000)));
    }
    let both = json!({ "max_tokens": 10, "max_completion_tokens": 1_000 });
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": worst(&both, 999) })).await;
    gateway.chat(&key, penny_chat(both)).await.refused(402, "spend_cap_reached");
    let many = json!({ "max_tokens": 10, "n": 128 });
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": worst(&many, 1_279) })).await;
    gateway.chat(&key, penny_chat(many.clone())).await.refused(402, "spend_cap_reached");
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": worst(&many, 1_280) })).await;
    gateway.chat(&key, penny_chat(many)).await.expect(200);
}

#[tokio::test]
async fn zero_blocks_everything_and_null_nothing() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1_000_000, 1))).await;
    let gateway = house(&upstream).await;
    gateway.price(json!({ "model": "openai/free", "input": 0, "output": 0 })).await;
    let blocked = gateway.virtual_key(json!({ "spend_cap_micro_usd": 0 })).await;
    for model in [MODEL, "openai/free"] {
        gateway
            .chat(&blocked, json!({ "model": model, "max_tokens": 1 }))
            .await
            .refused(402, "spend_cap_reached");
    }
    assert_eq!(upstream.count(), 0);
    let unlimited = gateway.virtual_key(json!({ "spend_cap_micro_usd": null })).await;
    for _ in 0..3 {
        gateway.chat(&unlimited, penny_chat(json!({}))).await.expect(200);
    }
    let view = gateway.read("/v1/key", &unlimited).await.expect(200).json();
    assert_eq!((&view["spend_cap_micro_usd"], &view["remaining_micro_usd"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_spent_cap_refuses_free_models_too() {
    let upstream = Upstream::always(chat_ok("hi", &usage(200, 100))).await;
    let gateway = house(&upstream).await;
    gateway.price(json!({ "model": "openai/free", "input": 0, "output": 0 })).await;
    let asked = json!({ "max_tokens": 100 });
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": worst(&asked, 100) })).await;
    gateway.chat(&key, json!({ "model": "openai/free" })).await.expect(200);
    gateway.chat(&key, penny_chat(asked)).await.expect(200);
    gateway.chat(&key, json!({ "model": "openai/free" })).await.refused(402, "spend_cap_reached");
    // AT-031: neither does a free model lead to a paid one.
    let models = json!({ "models": ["openai/free", MODEL], "max_tokens": 1 });
    gateway.chat(&key, models).await.refused(402, "spend_cap_reached");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_soft_cap_admits_while_anything_is_left() {
    let upstream = Upstream::always(chat_ok("hi", &usage(60, 40))).await;
    let gateway = house(&upstream).await;
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": 250, "cap_mode": "soft" })).await;
    for _ in 0..3 {
        let reply = gateway.chat(&key, penny_chat(json!({ "max_tokens": 5_000 }))).await.expect(200);
        assert_eq!(reply.header("x-keystile-max-output-tokens"), None);
    }
    gateway.chat(&key, penny_chat(json!({}))).await.refused(402, "spend_cap_reached");
    assert_eq!(spent(&gateway, &key).await, (300, 0), "a soft cap settles in full");
}

#[tokio::test]
async fn p13_p19_windows_begin_anew_in_utc() {
    let upstream = Upstream::always(chat_ok("hi", &usage(60, 40))).await;
    let gateway = house(&upstream).await;
    let asked = penny_chat(json!({ "max_tokens": 40 }));
    // A Saturday. Each window's last moment, and the first of the next.
    for (window, last, next) in [
        ("daily", "2026-11-21T23:59:59.999Z", "2026-11-22T00:00:00Z"),
        ("weekly", "2026-11-22T23:59:59.999Z", "2026-11-23T00:00:00Z"),
        ("monthly", "2026-11-30T23:59:59.999Z", "2026-12-01T00:00:00Z"),
    ] {
        gateway.turn_clock("2026-11-21T12:00:00Z");
        let limits = json!({ "spend_cap_micro_usd": 100, "spend_window": window, "cap_mode": "soft" });
        let key = gateway.virtual_key(limits).await;
        gateway.chat(&key, asked.clone()).await.expect(200);
        gateway.chat(&key, asked.clone()).await.refused(402, "spend_cap_reached");
        gateway.turn_clock(last);
        gateway.chat(&key, asked.clone()).await.refused(402, "spend_cap_reached");
        let view = gateway.read("/v1/key", &key).await.expect(200).json();
        let resets = view["window_resets_at"].as_str().expect("a moment");
        assert!(resets.starts_with(next.trim_end_matches('Z')), "{window}: {resets}");
        gateway.turn_clock(next);
        assert_eq!(spent(&gateway, &key).await, (0, 0), "{window}");
        gateway.chat(&key, asked.clone()).await.expect(200);
        gateway.chat(&key, asked.clone()).await.refused(402, "spend_cap_reached");
        // A clock that is put back does not give the old window's money again.
        gateway.turn_clock("2026-11-21T12:00:00Z");
        gateway.chat(&key, asked.clone()).await.refused(402, "spend_cap_reached");
    }
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": 100, "cap_mode": "soft" })).await;
    gateway.chat(&key, asked.clone()).await.expect(200);
    gateway.turn_clock("2036-01-01");
    gateway.chat(&key, asked).await.refused(402, "spend_cap_reached");
    assert_eq!(gateway.read("/v1/key", &key).await.json()["window_resets_at"], Value::Null);
}

#[tokio::test]
async fn p13_a_request_counts_in_the_window_in_which_it_began() {
    let gate = Gate::new();
    let body = crate::support::chat_body("hi", &usage(60, 40)).to_string();
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::always(Answer::default().wait(&gate).send(whole)).await;
    let gateway = house(&upstream).await;
    gateway.turn_clock("2026-11-21T23:59:59Z");
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": 100_000, "spend_window": "daily" })).await;
    let (reply, ()) = tokio::join!(gateway.chat(&key, penny_chat(json!({}))), async {
        gate.reached(1).await;
        gateway.turn_clock("2026-11-22T00:00:01Z");
        gate.open();
    });
    reply.expect(200);
    assert_eq!(spent(&gateway, &key).await, (0, 0));
    gateway.turn_clock("2026-11-21T23:59:59Z");
    assert_eq!(spent(&gateway, &key).await, (100, 0));
    assert!(
        gateway.only_usage().await["started_at"]
            .as_str()
            .is_some_and(|at| at.starts_with("2026-11-21T23:59:59"))
    );
}

#[tokio::test]
async fn p12_a_request_must_fit_its_tenants_cap_as_well() {
    let upstream = Upstream::always(chat_ok("hi", &usage(60, 40))).await;
    let gateway = house(&upstream).await;
    let asked = json!({ "max_tokens": 100 });
    let need = worst(&asked, 100);
    let limits = json!({ "name": "small", "spend_cap_micro_usd": need + 100 });
    let tenant = gateway.create("/api/tenants", limits).await["id"].clone();
    gateway.provider_key_with("openai", &upstream, json!({ "tenant_id": tenant })).await;
    let key = |cap: Value| gateway.virtual_key(json!({ "tenant_id": tenant, "spend_cap_micro_usd": cap }));
    let (rich, unlimited, poor) =
        (key(json!(1_000_000)).await, key(Value::Null).await, key(json!(need - 1)).await);

    let reply = gateway.chat(&poor, penny_chat(asked.clone())).await.refused(402, "spend_cap_reached");
    assert!(reply.text().contains(&poor.id));
    gateway.chat(&rich, penny_chat(asked.clone())).await.expect(200);
    gateway.chat(&unlimited, penny_chat(asked.clone())).await.expect(200);
    for key in [&rich, &unlimited] {
        let reply = gateway.chat(key, penny_chat(asked.clone())).await.refused(402, "spend_cap_reached");
        assert!(reply.text().contains(tenant.as_str().expect("an id")), "{}", reply.text());
        assert_eq!(reply.header("x-keystile-spent-micro-usd"), Some("200"));
    }
    // What a refusal of one scope asked of the other was given back.
    assert_eq!(spent(&gateway, &rich).await, (100, 0));
}

#[tokio::test]
async fn a_capped_key_may_not_call_what_has_no_price() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = house(&upstream).await;
    gateway.provider_key("my-vllm", &upstream).await;
    let capped = gateway.virtual_key(json!({ "spend_cap_micro_usd": 1_000_000 })).await;
    gateway.chat(&capped, json!({ "model": "my-vllm/llama" })).await.refused(403, "model_unpriced");
    assert_eq!(upstream.count(), 0);
    let free = gateway.virtual_key(json!({})).await;
    let reply = gateway.chat(&free, json!({ "model": "my-vllm/llama" })).await.expect(200);
    assert_eq!(reply.header("x-keystile-cost-micro-usd"), None, "unknown is not free");
    let row = gateway.only_usage().await;
    assert_eq!((&row["cost_micro_usd"], &row["price_version"]), (&Value::Null, &Value::Null));
    // A price makes it callable, from the next request on.
    gateway.price(json!({ "model": "my-vllm/llama", "input": 1_000_000, "output": 1_000_000 })).await;
    let reply = gateway.chat(&capped, json!({ "model": "my-vllm/llama" })).await.expect(200);
    assert_eq!(reply.header("x-keystile-cost-micro-usd"), Some("2"));
}

/// AT-032
#[tokio::test]
async fn what_changes_the_price_is_priced_or_refused_for_capped_keys() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = house(&upstream).await;
    let capped = gateway.virtual_key(json!({ "spend_cap_micro_usd": 1_000_000_000 })).await;
    let free = gateway.virtual_key(json!({})).await;
    let audio = json!([{ "role": "user", "content": [{ "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } }] }]);
    for members in [
        json!({ "web_search_options": {} }),
        json!({ "plugins": [{ "id": "web" }] }),
        json!({ "service_tier": "priority" }),
        json!({ "service_tier": "something-new" }),
        json!({ "modalities": ["text", "audio"], "audio": { "voice": "alloy", "format": "wav" } }),
        json!({ "messages": audio }),
    ] {
        gateway.chat(&capped, penny_chat(members.clone())).await.refused(400, "invalid_request");
        gateway.chat(&free, penny_chat(members)).await.expect(200);
    }
    // Where the tier has a price, it is reserved and charged at that price.
    let priority = json!({ "model": "openai/gpt-4o-mini", "service_tier": "priority", "max_tokens": 10 });
    let mut answered = crate::support::chat_body("hi", &usage(100, 10));
    answered["service_tier"] = json!("priority");
    upstream.answer(Answer::json(200, &answered));
    let reply = gateway.chat(&capped, priority).await.expect(200);
    // 100 × 0.25 + 10 × 1 micro-USD.
    assert_eq!(reply.header("x-keystile-cost-micro-usd"), Some("35"));
}

#[tokio::test]
async fn p04_impossible_figures_are_clamped_and_what_was_taken_is_kept() {
    let upstream = Upstream::always(error(500, "no")).await;
    let gateway = house(&upstream).await;
    let asked = json!({ "max_tokens": 100 });
    let most = worst(&asked, 100);
    let cases = [
        json!({ "prompt_tokens": 20, "completion_tokens": 1_000_000_000 }),
        json!({ "prompt_tokens": 1_000_000_000_000_u64, "completion_tokens": 10 }),
        json!({ "prompt_tokens": -5, "completion_tokens": 10 }),
        json!({ "prompt_tokens": 20, "completion_tokens": 1.5 }),
        json!({ "prompt_tokens": "20", "completion_tokens": "many" }),
        json!({ "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "total_tokens": u64::MAX }),
    ];
    for figures in cases {
        upstream.answer(chat_ok("hi", &figures));
        let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": most })).await;
        gateway.chat(&key, penny_chat(asked.clone())).await.expect(200);
        let (settled, reserved) = spent(&gateway, &key).await;
        assert!(settled as u64 <= most && reserved == 0, "{figures}: {settled}");
        let row = gateway.usage().await.pop().expect("a row");
        assert!(
            row["cost_micro_usd"].as_f64().is_some_and(|cost| cost <= most as f64 && cost >= 0.0),
            "{row}"
        );
        assert!(row["output_tokens"].as_u64() <= Some(100), "{row}");
        if figures["completion_tokens"] == 1_000_000_000 {
            assert_eq!(row["clamped_micro_usd"], 1_000_000_000 - 100, "{row}");
        }
    }
}

#[tokio::test]
async fn p14_a_cap_holds_from_the_next_request_on_however_it_is_changed() {
    let upstream = Upstream::always(chat_ok("hi", &usage(60, 40))).await;
    let gateway = house(&upstream).await;
    let asked = json!({ "max_tokens": 40 });
    let key = gateway.virtual_key(json!({})).await;
    let path = format!("/api/virtual-keys/{}", key.id);
    gateway.chat(&key, penny_chat(asked.clone())).await.expect(200);
    gateway.patch(&path, json!({ "spend_cap_micro_usd": 99 })).await;
    let reply = gateway.chat(&key, penny_chat(asked.clone())).await.refused(402, "spend_cap_reached");
    assert_eq!(
        reply.header("x-keystile-spent-micro-usd"),
        Some("100"),
        "what was spent without a cap counts"
    );
    let view = gateway.patch(&path, json!({ "spend_cap_micro_usd": 100_000 })).await;
    assert_eq!(view["remaining_micro_usd"], 99_900);
    gateway.chat(&key, penny_chat(asked.clone())).await.expect(200);
    gateway.patch(&path, json!({ "spend_cap_micro_usd": null })).await;
    gateway.chat(&key, penny_chat(asked)).await.expect(200);
}

#[tokio::test]
async fn p06_p08_attempts_that_failed_give_back_what_they_held() {
    let upstream = Upstream::always(error(500, "no")).await;
    let gateway = house(&upstream).await;
    let asked = json!({ "max_tokens": 100 });
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": worst(&asked, 100) })).await;
    for answer in [error(500, "no"), error(429, "no"), error(400, "no"), error(401, "no")] {
        upstream.answer(answer);
        assert!(gateway.chat(&key, penny_chat(asked.clone())).await.status >= 400);
        assert_eq!(spent(&gateway, &key).await, (0, 0));
    }
    // Sent, and nobody knows what came of it: the input's estimate is charged.
    upstream.answer(Answer::default().close());
    gateway.chat(&key, penny_chat(asked)).await.refused(502, "upstream_error");
    let (settled, reserved) = spent(&gateway, &key).await;
    assert!(settled > 0 && reserved == 0, "{settled}");
    let row = gateway.usage().await.pop().expect("a row");
    assert_eq!((&row["usage_source"], &row["cost_micro_usd"]), (&json!("estimated"), &json!(settled)));
}
