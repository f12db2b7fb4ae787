//! Budgets that keys share, and windows on the tenant's own calendar.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    spend_cap::{house, penny_chat, worst},
    support::{Answer, Gate, Gateway, Reply, Upstream, VirtualKey, chat_body, chat_ok, eventually, usage},
};

/// Each answered request costs a hundred micro-USD.
async fn hundreds() -> (Upstream, Gateway) {
    let upstream = Upstream::always(chat_ok("hi", &usage(60, 40))).await;
    let gateway = house(&upstream).await;
    (upstream, gateway)
}

/// The same, answered when `gate` opens.
async fn hundreds_behind(gate: &Gate) -> (Upstream, Gateway) {
    let body = chat_body("hi", &usage(60, 40)).to_string();
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::always(Answer::default().wait(gate).send(whole)).await;
    let gateway = house(&upstream).await;
    (upstream, gateway)
}

fn limit() -> Value {
    json!({ "max_tokens": 40 })
}

/// The most that a request of [`limit`] can cost.
fn most() -> u64 {
    worst(&limit(), 40)
}

async fn ask(gateway: &Gateway, key: &VirtualKey) -> Reply {
    gateway.chat(key, penny_chat(limit())).await
}

/// Makes a budget; answers its id.
async fn budget(gateway: &Gateway, more: Value) -> String {
    let mut asked = json!({ "name": "shared", "cap_micro_usd": null, "window": "total" });
    for (name, value) in more.as_object().expect("members") {
        asked[name] = value.clone();
    }
    gateway.create("/api/budgets", asked).await["id"].as_str().expect("an id").to_owned()
}

async fn joined(gateway: &Gateway, budgets: &[&str]) -> VirtualKey {
    gateway.virtual_key(json!({ "budgets": budgets })).await
}

/// What is spent and reserved under a budget, by the admin plane.
async fn spent(gateway: &Gateway, budget: &str) -> (u64, u64) {
    let view = gateway.get(&format!("/api/budgets/{budget}")).await;
    let of = |member: &str| view[member].as_u64().expect("a number");
    (of("spent_micro_usd"), of("reserved_micro_usd"))
}

/// The budgets of a key, as the key itself is told.
async fn told(gateway: &Gateway, key: &VirtualKey) -> Vec<Value> {
    let view = gateway.read("/v1/key", key).await.expect(200).json();
    view["budgets"].as_array().expect("budgets").clone()
}

/// That the cap of `scope` refused.
fn refused_by(reply: Reply, code: &str, scope: &str) -> String {
    let reply = reply.refused(402, code);
    assert_eq!(reply.header("x-keystile-cap-scope"), Some(scope));
    let message = reply.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(message.contains(scope), "{message}");
    message
}

#[tokio::test]
async fn what_one_key_spent_of_a_budget_the_other_cannot_spend() {
    let (upstream, gateway) = hundreds().await;
    let cap = most() + 50;
    let shared = budget(&gateway, json!({ "name": "Marketing 2026", "cap_micro_usd": cap })).await;
    let (first, second) = (joined(&gateway, &[&shared]).await, joined(&gateway, &[&shared]).await);
    let alone = gateway.virtual_key(json!({})).await;

    ask(&gateway, &first).await.expect(200);
    let reply = ask(&gateway, &second).await;
    assert_eq!(reply.header("x-keystile-cap-micro-usd"), Some(cap.to_string().as_str()));
    assert_eq!(reply.header("x-keystile-spent-micro-usd"), Some("100"));
    assert_eq!(reply.header("x-keystile-reserved-micro-usd"), Some("0"));
    let message = refused_by(reply, "spend_cap_reached", &shared);
    assert!(message.contains("budget `Marketing 2026`"), "{message}");
    ask(&gateway, &alone).await.expect(200);
    assert_eq!(upstream.count(), 2, "nothing was sent for the refusal");

    let view = gateway.get(&format!("/api/budgets/{shared}")).await;
    for (name, value) in [
        ("name", json!("Marketing 2026")),
        ("cap_micro_usd", json!(cap)),
        ("window", json!("total")),
        ("cap_mode", json!("hard")),
        ("spent_micro_usd", json!(100)),
        ("reserved_micro_usd", json!(0)),
        ("remaining_micro_usd", json!(cap - 100)),
        ("window_resets_at", Value::Null),
        ("virtual_keys", json!(2)),
    ] {
        assert_eq!(view[name], value, "{name}");
    }
    // Each key is told the same, beside what it spent itself.
    let told = told(&gateway, &second).await;
    assert_eq!(told.len(), 1);
    for name in
        ["id", "name", "cap_micro_usd", "window", "cap_mode", "spent_micro_usd", "remaining_micro_usd"]
    {
        assert_eq!(told[0][name], view[name], "{name}");
    }
    assert_eq!(gateway.read("/v1/key", &second).await.json()["spent_micro_usd"], 0);
}

#[tokio::test]
async fn a_key_must_fit_its_daily_and_its_monthly_budget() {
    let (_upstream, gateway) = hundreds().await;
    let soft = |name: &str, cap: u64, window: &str| json!({ "name": name, "cap_micro_usd": cap, "window": window, "cap_mode": "soft" });
    let day = budget(&gateway, soft("a day", 100, "daily")).await;
    let month = budget(&gateway, soft("a month", 200, "monthly")).await;
    let key = joined(&gateway, &[&day, &month]).await;
    ask(&gateway, &key).await.expect(200);
    let message = refused_by(ask(&gateway, &key).await, "spend_cap_reached", &day);
    assert!(message.contains("2026-11-22T00:00:00"), "{message}");
    gateway.turn_clock("2026-11-22T12:00:00Z");
    ask(&gateway, &key).await.expect(200);
    // Both are spent now: the one that was named first is named.
    refused_by(ask(&gateway, &key).await, "spend_cap_reached", &day);
    gateway.turn_clock("2026-11-23T12:00:00Z");
    let message = refused_by(ask(&gateway, &key).await, "spend_cap_reached", &month);
    assert!(message.contains("2026-12-01T00:00:00"), "{message}");
    let standings: Vec<_> =
        told(&gateway, &key).await.iter().map(|each| each["spent_micro_usd"].as_u64()).collect();
    assert_eq!(standings, [Some(0), Some(200)]);
}

#[tokio::test]
async fn what_one_scope_refuses_is_reserved_in_none() {
    let (upstream, gateway) = hundreds().await;
    let limits = json!({ "name": "small", "spend_cap_micro_usd": most() - 1 });
    let tenant = gateway.create("/api/tenants", limits).await["id"].clone();
    gateway.provider_key_with("openai", &upstream, json!({ "tenant_id": tenant })).await;
    let rich = budget(&gateway, json!({ "tenant_id": tenant, "cap_micro_usd": 1_000_000 })).await;
    let poor = budget(&gateway, json!({ "name": "poor", "tenant_id": tenant, "cap_micro_usd": 1 })).await;
    let key = gateway.virtual_key(json!({ "tenant_id": tenant, "budgets": [rich] })).await;
    let other = gateway.virtual_key(json!({ "tenant_id": tenant, "budgets": [rich, poor] })).await;

    let tenant = tenant.as_str().expect("an id");
    refused_by(ask(&gateway, &key).await, "spend_cap_reached", tenant);
    refused_by(ask(&gateway, &other).await, "spend_cap_reached", &poor);
    assert_eq!(spent(&gateway, &rich).await, (0, 0));
    assert_eq!(gateway.reserved().nano(), 0);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_soft_budget_admits_while_anything_is_left() {
    let (upstream, gateway) = hundreds().await;
    let soft = json!({ "cap_micro_usd": 250, "cap_mode": "soft" });
    let shared = budget(&gateway, soft).await;
    let keys = [joined(&gateway, &[&shared]).await, joined(&gateway, &[&shared]).await];
    for key in [&keys[0], &keys[1], &keys[0]] {
        let reply = gateway.chat(key, penny_chat(json!({ "max_tokens": 5_000 }))).await.expect(200);
        assert_eq!(reply.header("x-keystile-max-output-tokens"), None);
    }
    refused_by(ask(&gateway, &keys[1]).await, "spend_cap_reached", &shared);
    assert_eq!(spent(&gateway, &shared).await, (300, 0), "a soft cap settles in full");
    // Like any cap, a hard one clamps what has no limit of its own, and wants a price.
    gateway
        .patch(&format!("/api/budgets/{shared}"), json!({ "cap_mode": "hard", "cap_micro_usd": 1_500 }))
        .await;
    let reply = gateway.chat(&keys[1], penny_chat(json!({}))).await.expect(200);
    assert!(reply.header("x-keystile-max-output-tokens").is_some());
    gateway.provider_key("my-vllm", &upstream).await;
    gateway.chat(&keys[1], json!({ "model": "my-vllm/llama" })).await.refused(403, "model_unpriced");
}

#[tokio::test]
async fn joining_leaving_and_changing_hold_from_the_next_request_on() {
    let (_upstream, gateway) = hundreds().await;
    let shared = budget(&gateway, json!({ "cap_micro_usd": 100, "cap_mode": "soft" })).await;
    let spender = joined(&gateway, &[&shared]).await;
    ask(&gateway, &spender).await.expect(200);

    let key = gateway.virtual_key(json!({})).await;
    let path = format!("/api/virtual-keys/{}", key.id);
    ask(&gateway, &key).await.expect(200);
    assert_eq!(gateway.patch(&path, json!({ "budgets": [shared] })).await["budgets"], json!([shared]));
    refused_by(ask(&gateway, &key).await, "spend_cap_reached", &shared);
    assert_eq!(gateway.patch(&path, json!({ "name": "renamed" })).await["budgets"], json!([shared]));
    for leave in [json!(null), json!([])] {
        assert_eq!(gateway.patch(&path, json!({ "budgets": leave })).await["budgets"], json!([]));
        ask(&gateway, &key).await.expect(200);
        gateway.patch(&path, json!({ "budgets": [shared] })).await;
        refused_by(ask(&gateway, &key).await, "spend_cap_reached", &shared);
    }
    // What was spent outside is not counted afterwards.
    assert_eq!(spent(&gateway, &shared).await, (100, 0));
    gateway.patch(&format!("/api/budgets/{shared}"), json!({ "cap_micro_usd": 101 })).await;
    ask(&gateway, &key).await.expect(200);
    refused_by(ask(&gateway, &spender).await, "spend_cap_reached", &shared);
    gateway.patch(&format!("/api/budgets/{shared}"), json!({ "cap_micro_usd": null })).await;
    ask(&gateway, &spender).await.expect(200);
    assert_eq!(spent(&gateway, &shared).await, (300, 0));
}

#[tokio::test]
async fn a_request_counts_where_it_was_admitted_also_after_a_restart() {
    let gate = Gate::new();
    let (_upstream, gateway) = hundreds_behind(&gate).await;
    let (old, new) = (
        budget(&gateway, json!({ "name": "old" })).await,
        budget(&gateway, json!({ "name": "new", "cap_micro_usd": 1_000_000, "window": "daily" })).await,
    );
    let key = joined(&gateway, &[&old]).await;
    let (reply, ()) = tokio::join!(ask(&gateway, &key), async {
        gate.reached(1).await;
        gateway.patch(&format!("/api/virtual-keys/{}", key.id), json!({ "budgets": [new] })).await;
        assert_eq!(spent(&gateway, &old).await, (0, most()), "it holds its share without a cap, too");
        gate.open();
    });
    reply.expect(200);
    ask(&gateway, &key).await.expect(200);
    ask(&gateway, &key).await.expect(200);
    let stands = [(100, 0), (200, 0)];
    assert_eq!([spent(&gateway, &old).await, spent(&gateway, &new).await], stands);
    let gateway = gateway.stop(crate::support::PATIENCE).await.again.start().await;
    assert_eq!([spent(&gateway, &old).await, spent(&gateway, &new).await], stands, "memory and ledger agree");
}

#[tokio::test]
async fn a_budget_goes_when_nobody_is_left_in_it_and_frees_its_name() {
    let (_upstream, gateway) = hundreds().await;
    let shared = budget(&gateway, json!({})).await;
    let path = format!("/api/budgets/{shared}");
    let (first, second) = (joined(&gateway, &[&shared]).await, joined(&gateway, &[&shared]).await);
    let delete = || gateway.admin(Method::DELETE, &path, None);
    let refused = delete().await.expect(409).json();
    assert_eq!(refused["error"]["code"], "conflict");
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(message.contains("2 virtual keys have joined") && message.contains("`budgets`"), "{message}");

    gateway.patch(&format!("/api/virtual-keys/{}", first.id), json!({ "budgets": [] })).await;
    assert!(delete().await.expect(409).text().contains("1 virtual key has joined"));
    gateway.admin(Method::DELETE, &format!("/api/virtual-keys/{}", second.id), None).await.expect(204);
    assert_eq!(gateway.get(&path).await["virtual_keys"], 0);
    let asked = json!({ "name": "shared", "cap_micro_usd": 1, "window": "total" });
    gateway.admin(Method::POST, "/api/budgets", Some(&asked)).await.expect(409);
    delete().await.expect(204);
    delete().await.expect(404);
    gateway.admin(Method::GET, &path, None).await.expect(404);
    assert_eq!(gateway.get("/api/budgets").await["data"], json!([]));
    let join = json!({ "budgets": [shared] });
    gateway.admin(Method::PATCH, &format!("/api/virtual-keys/{}", first.id), Some(&join)).await.expect(404);
    gateway.create("/api/budgets", asked).await;
}

#[tokio::test]
async fn a_key_joins_few_budgets_each_once_and_only_its_own_tenants() {
    let (_upstream, gateway) = hundreds().await;
    let tenant = gateway.create("/api/tenants", json!({ "name": "other" })).await["id"].clone();
    let foreign = budget(&gateway, json!({ "tenant_id": tenant })).await;
    // The same name in another tenant is another budget.
    let own = budget(&gateway, json!({})).await;
    let key = gateway.virtual_key(json!({})).await;
    let path = format!("/api/virtual-keys/{}", key.id);
    let unknown = "bud_01890000000070008000000000000000";
    for (budgets, status) in [
        (json!([foreign]), 404),
        (json!([own, foreign]), 404),
        (json!([unknown]), 404),
        (json!(["shared"]), 404),
        (json!([own, own]), 400),
        (json!(vec![&own; 17]), 400),
        (json!(own), 400),
    ] {
        let asked = json!({ "budgets": budgets });
        gateway.admin(Method::PATCH, &path, Some(&asked)).await.expect(status);
        let asked = json!({ "name": "x", "budgets": budgets });
        gateway.admin(Method::POST, "/api/virtual-keys", Some(&asked)).await.expect(status);
    }
    assert_eq!(gateway.get(&path).await["budgets"], json!([]), "a refused change changes nothing");
    let mut many = Vec::new();
    for number in 0..16 {
        many.push(budget(&gateway, json!({ "name": format!("budget {number}") })).await);
    }
    assert_eq!(gateway.patch(&path, json!({ "budgets": many })).await["budgets"], json!(many));
    ask(&gateway, &key).await.expect(200);
    for budget in &many {
        assert_eq!(spent(&gateway, budget).await, (100, 0));
    }
    assert_eq!(spent(&gateway, &own).await, (0, 0));
    assert_eq!(told(&gateway, &key).await.len(), 16);
}

#[tokio::test]
async fn of_two_hundred_requests_of_four_keys_exactly_those_that_the_budget_affords_are_sent() {
    const CROWD: usize = 200;
    const FIT: usize = 17;
    let gate = Gate::new();
    let (upstream, gateway) = hundreds_behind(&gate).await;
    let shared = budget(&gateway, json!({ "cap_micro_usd": most() * FIT as u64 + most() - 1 })).await;
    let (mut keys, mut sum) = (Vec::new(), 0);
    for _ in 0..4 {
        keys.push(joined(&gateway, &[&shared]).await);
    }
    let crowd = (0..CROWD).map(|number| ask(&gateway, &keys[number % keys.len()]));
    let decided = async {
        gate.reached(FIT).await;
        eventually("the others to be refused", || async {
            let refused = gateway.metrics.encode();
            refused.contains(&format!("code=\"spend_cap_reserved\"}} {}", CROWD - FIT)).then_some(())
        })
        .await;
        assert_eq!(upstream.count(), FIT);
        assert_eq!(spent(&gateway, &shared).await, (0, most() * FIT as u64));
        gate.open();
    };
    let (replies, ()) = tokio::join!(join_all(crowd), decided);
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), FIT);
    for reply in replies.into_iter().filter(|reply| reply.status != 200) {
        refused_by(reply, "spend_cap_reserved", &shared);
    }
    assert_eq!(upstream.count(), FIT);
    assert_eq!(spent(&gateway, &shared).await, (100 * FIT as u64, 0));
    for key in &keys {
        sum += gateway.read("/v1/key", key).await.json()["spent_micro_usd"].as_u64().expect("a number");
    }
    assert_eq!(sum, 100 * FIT as u64);
    assert_eq!(gateway.usage_of(FIT).await.len(), FIT, "refusals leave no row");
}

/// A tenant with a provider key at `upstream`, in a time zone.
async fn tenant_in(gateway: &Gateway, zone: &str, upstream: &Upstream) -> String {
    let made = gateway.create("/api/tenants", json!({ "name": zone, "time_zone": zone })).await;
    assert_eq!(made["time_zone"], zone);
    let tenant = made["id"].as_str().expect("an id").to_owned();
    gateway.provider_key_with("openai", upstream, json!({ "tenant_id": tenant })).await;
    tenant
}

#[tokio::test]
async fn windows_begin_where_the_tenant_lives_also_when_its_clocks_change() {
    let upstream = Upstream::always(chat_ok("hi", &usage(60, 40))).await;
    // Each window's first and last moment, and the first of the next.
    for (window, first, last, next) in [
        ("monthly", "2026-11-30T23:00:00Z", "2026-12-31T22:59:59.999Z", "2026-12-31T23:00:00.000Z"),
        ("monthly", "2027-02-28T23:00:00Z", "2027-03-31T21:59:59.999Z", "2027-03-31T22:00:00.000Z"),
        ("monthly", "2027-09-30T22:00:00Z", "2027-10-31T22:59:59.999Z", "2027-10-31T23:00:00.000Z"),
        ("daily", "2027-03-27T23:00:00Z", "2027-03-28T21:59:59.999Z", "2027-03-28T22:00:00.000Z"),
        ("daily", "2027-10-30T22:00:00Z", "2027-10-31T22:59:59.999Z", "2027-10-31T23:00:00.000Z"),
        ("weekly", "2027-10-24T22:00:00Z", "2027-10-31T22:59:59.999Z", "2027-10-31T23:00:00.000Z"),
    ] {
        let gateway = house(&upstream).await;
        let tenant = tenant_in(&gateway, "Europe/Berlin", &upstream).await;
        let soft = json!({ "tenant_id": tenant, "cap_micro_usd": 100, "window": window, "cap_mode": "soft" });
        let shared = budget(&gateway, soft).await;
        let key = gateway
            .virtual_key(json!({ "tenant_id": tenant, "budgets": [shared], "spend_window": window }))
            .await;
        gateway.turn_clock(first);
        ask(&gateway, &key).await.expect(200);
        for moment in [first, last] {
            gateway.turn_clock(moment);
            let message = refused_by(ask(&gateway, &key).await, "spend_cap_reached", &shared);
            assert!(message.contains(next), "{window} at {moment}: {message}");
            assert_eq!(told(&gateway, &key).await[0]["window_resets_at"], next, "{window} at {moment}");
        }
        gateway.turn_clock(next);
        assert_eq!(told(&gateway, &key).await[0]["spent_micro_usd"], 0, "{window}");
        ask(&gateway, &key).await.expect(200);
    }
}

#[tokio::test]
async fn a_change_of_zone_moves_where_the_next_window_begins_and_nothing_else() {
    let (upstream, gateway) = hundreds().await;
    let tenant = tenant_in(&gateway, "UTC", &upstream).await;
    let path = format!("/api/tenants/{tenant}");
    let soft = json!({ "tenant_id": tenant, "cap_micro_usd": 100, "window": "daily", "cap_mode": "soft" });
    let shared = budget(&gateway, soft).await;
    let key = gateway
        .virtual_key(json!({ "tenant_id": tenant, "budgets": [shared], "spend_cap_micro_usd": 1_000_000, "spend_window": "daily" }))
        .await;
    let resets = || async {
        let of_key = gateway.read("/v1/key", &key).await.json()["window_resets_at"].clone();
        let admins = gateway.get(&format!("/api/virtual-keys/{}", key.id)).await["window_resets_at"].clone();
        let budgets = gateway.get(&format!("/api/budgets/{shared}")).await["window_resets_at"].clone();
        assert_eq!((&of_key, &of_key), (&admins, &budgets));
        of_key
    };
    ask(&gateway, &key).await.expect(200);
    assert_eq!(resets().await, "2026-11-22T00:00:00.000Z");

    // The same date in both zones: what is spent stays spent, and the day is over an hour earlier.
    gateway.patch(&path, json!({ "time_zone": "Europe/Berlin" })).await;
    refused_by(ask(&gateway, &key).await, "spend_cap_reached", &shared);
    assert_eq!(resets().await, "2026-11-21T23:00:00.000Z");
    gateway.turn_clock("2026-11-21T23:30:00Z");
    ask(&gateway, &key).await.expect(200);
    refused_by(ask(&gateway, &key).await, "spend_cap_reached", &shared);
    // Back where it is still yesterday: that day is spent, too.
    assert_eq!(gateway.patch(&path, json!({ "time_zone": null })).await["time_zone"], "UTC");
    refused_by(ask(&gateway, &key).await, "spend_cap_reached", &shared);
    assert_eq!(spent(&gateway, &shared).await, (100, 0));

    for unknown in ["berlin", "", "+01:00", "Europe/Atlantis"] {
        let change = json!({ "time_zone": unknown });
        let refused = gateway.admin(Method::PATCH, &path, Some(&change)).await.expect(400);
        assert!(refused.text().contains("Europe/Berlin"), "{}", refused.text());
    }
    assert_eq!(gateway.get(&path).await["time_zone"], "UTC");
}

#[tokio::test]
async fn a_day_that_is_not_utcs_is_remembered_over_a_restart() {
    let (upstream, gateway) = hundreds().await;
    let mut keys = Vec::new();
    for zone in ["Pacific/Kiritimati", "Pacific/Niue", "Etc/GMT+12", "UTC"] {
        let tenant = tenant_in(&gateway, zone, &upstream).await;
        let soft =
            json!({ "tenant_id": tenant, "cap_micro_usd": 100, "window": "daily", "cap_mode": "soft" });
        let shared = budget(&gateway, soft).await;
        keys.push((gateway.virtual_key(json!({ "tenant_id": tenant, "budgets": [shared] })).await, shared));
    }
    // Kiritimati is a day ahead of UTC now, and the next two are a day behind.
    gateway.turn_clock("2026-11-22T10:30:00Z");
    for (key, _) in &keys {
        ask(&gateway, key).await.expect(200);
    }
    let gateway = gateway.stop(crate::support::PATIENCE).await.again.start().await;
    for (key, shared) in &keys {
        refused_by(ask(&gateway, key).await, "spend_cap_reached", shared);
    }
}

#[tokio::test]
async fn each_tenant_has_its_own_budgets_and_days() {
    let (upstream, gateway) = hundreds().await;
    let mut made = Vec::new();
    for zone in ["America/New_York", "Asia/Tokyo"] {
        let tenant = tenant_in(&gateway, zone, &upstream).await;
        let soft =
            json!({ "tenant_id": tenant, "cap_micro_usd": 100, "window": "daily", "cap_mode": "soft" });
        let shared = budget(&gateway, soft).await;
        let key = gateway.virtual_key(json!({ "tenant_id": tenant, "budgets": [shared] })).await;
        made.push((tenant, shared, key));
    }
    ask(&gateway, &made[0].2).await.expect(200);
    assert_eq!(spent(&gateway, &made[0].1).await, (100, 0));
    assert_eq!(spent(&gateway, &made[1].1).await, (0, 0));
    ask(&gateway, &made[1].2).await.expect(200);
    for (tenant, shared, key) in &made {
        let listed = gateway.get(&format!("/api/budgets?tenant_id={tenant}")).await;
        let ids: Vec<_> = listed["data"].as_array().expect("budgets").iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, [shared], "{listed}");
        refused_by(ask(&gateway, key).await, "spend_cap_reached", shared);
    }
    let all = gateway.get("/api/budgets").await;
    let resets: Vec<_> =
        all["data"].as_array().expect("budgets").iter().map(|one| &one["window_resets_at"]).collect();
    assert_eq!(resets, ["2026-11-22T05:00:00.000Z", "2026-11-21T15:00:00.000Z"]);
    // A deleted tenant's budgets are out of sight with it.
    gateway.admin(Method::DELETE, &format!("/api/tenants/{}", made[0].0), None).await.expect(204);
    gateway.admin(Method::GET, &format!("/api/budgets/{}", made[0].1), None).await.expect(404);
    assert_eq!(gateway.get("/api/budgets").await["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_done_to_budgets_is_audited() {
    let (_upstream, gateway) = hundreds().await;
    let shared = budget(&gateway, json!({})).await;
    let path = format!("/api/budgets/{shared}");
    gateway.patch(&path, json!({ "cap_micro_usd": 5, "window": "weekly" })).await;
    gateway.admin(Method::DELETE, &path, None).await.expect(204);
    let entries = gateway.get("/api/v1/audit?category=key_management").await;
    let of: Vec<_> = entries["data"]
        .as_array()
        .expect("entries")
        .iter()
        .filter(|entry| entry.to_string().contains(&shared))
        .map(|entry| entry["action"].as_str().expect("an action"))
        .collect();
    assert_eq!(of, ["budget.deleted", "budget.updated", "budget.created"]);
    assert!(entries.to_string().contains("cap_micro_usd,window"), "{entries}");
}
