//! Prices, usage and spend.

use std::sync::Arc;

use serde_json::{Value, json};

use super::harness::{House, usage};
use crate::domain::{TenantId, VirtualKeyId};

async fn key(house: &House, tenant: TenantId) -> VirtualKeyId {
    let made = house
        .post("/api/virtual-keys", json!({"name": "k", "tenant_id": tenant.to_string()}))
        .await
        .expect(201);
    made["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

#[tokio::test]
async fn prices_are_set_whole_or_not_at_all() {
    let house = House::new().await;
    let before = house.get("/api/prices?model=openai/gpt-5.4-mini").await.expect(200);
    assert_eq!(before["prices"][0]["input"], 750_000);
    let good = json!({"model": "openai/gpt-5.4-mini", "input": 1, "output": 0});
    for bad in [
        json!({"model": "gpt", "input": 1, "output": 1}),
        json!({"model": "openai/*", "input": 1, "output": 1}),
        json!({"model": "openai/x", "input": -1, "output": 1}),
        json!({"model": "openai/x", "input": 1.5, "output": 1}),
        json!({"model": "openai/x", "input": null, "output": 1}),
        json!({"model": "openai/x", "input": 1}),
        json!({"model": "openai/x", "input": 1, "output": 1, "context_window": 0}),
        json!({"model": "openai/x", "input": 1, "output": 1, "effective_from": "soon"}),
        json!({"model": "openai/x", "input": 1, "output": 1, "cache": 3}),
        good.clone(),
    ] {
        let refused = house.put("/api/prices", json!({"prices": [good, bad]})).await;
        assert_eq!(refused.status.as_u16(), 400, "{bad}: {}", refused.text);
    }
    assert_eq!(house.get("/api/prices?model=openai/gpt-5.4-mini").await.expect(200), before);

    let set = house
        .put(
            "/api/prices",
            json!({"prices": [good, {"model": "mine/x", "input": 3, "output": 4, "cache_read": 0,
        "effective_from": "2026-11-22"}]}),
        )
        .await
        .expect(200);
    assert!(set["prices"][0]["version"].as_str().is_some_and(|version| version.starts_with("prc_")));
    let now = house.get("/api/prices?model=openai/gpt-5.4-mini").await.expect(200)["prices"][0].clone();
    assert_eq!(now, set["prices"][0], "a set price is answered as it is read");
    assert_eq!(now["context_window"], before["prices"][0]["context_window"]);
    assert!(
        now["context_window"].is_u64() && set["prices"][1]["effective_from"] == "2026-11-22T00:00:00.000Z"
    );
    assert_eq!((&now["input"], &now["output"], &now["cache_read"]), (&json!(1), &json!(0), &Value::Null));
    assert_eq!(now["version"], set["prices"][0]["version"]);
    assert_eq!(now["effective_from"], "2026-11-21T12:00:00.000Z");
    assert_eq!(house.get("/api/prices?model=mine/x").await.expect(200)["prices"], json!([]));
    house.pass(86_400);
    assert_eq!(house.get("/api/prices?model=mine/x").await.expect(200)["prices"][0]["cache_read"], 0);
    assert!(
        house.get("/api/prices").await.expect(200)["prices"].as_array().is_some_and(|all| all.len() > 700)
    );
    assert_eq!(house.told.lock().expect("not poisoned").last(), Some(&None));
}

#[tokio::test]
async fn usage_rows_are_listed_filtered_and_explained() {
    let house = House::new().await;
    let tenant = house.default_tenant;
    let key = key(&house, tenant).await;
    let records = [
        usage(tenant, key, "openai/gpt-5.4-mini", "2026-11-20T00:00:00Z", Some(160_500)),
        usage(tenant, key, "groq/x", "2026-11-20T23:59:59.999Z", None),
        usage(tenant, key, "groq/x", "2026-11-21T00:00:00Z", Some(1_000)),
    ];
    house.record(&records).await;
    let rows = house.get("/api/usage").await.expect(200);
    assert_eq!(rows["data"].as_array().map(Vec::len), Some(3));
    let row = &rows["data"][2];
    for (name, value) in [
        ("request_id", json!(records[0].request_id.to_string())),
        ("started_at", json!("2026-11-20T00:00:00.000Z")),
        ("provider", json!("openai")),
        ("requested_model", json!("fast")),
        ("served_model", json!("openai/gpt-5.4-mini")),
        ("status", json!(200)),
        ("outcome", json!("ok")),
        ("attempts", json!(1)),
        ("stream", json!(true)),
        ("input_tokens", json!(120)),
        ("cache_read_tokens", json!(20)),
        ("cache_write_tokens", json!(0)),
        ("output_tokens", json!(7)),
        ("reasoning_tokens", json!(3)),
        ("cost_micro_usd", json!(160.5)),
        ("usage_source", json!("provider")),
        ("latency_ms", json!(34)),
        ("time_to_first_token_ms", json!(5)),
        ("tags", json!({"team": "=cmd()"})),
    ] {
        assert_eq!(row[name], value, "{name}");
    }
    assert_eq!(rows["data"][1]["cost_micro_usd"], Value::Null);
    for (query, count) in [
        ("from=2026-11-21", 1),
        ("to=2026-11-21", 2),
        ("from=2026-11-20&to=2026-11-20T23:59:59.999Z", 1),
        ("model=groq/x", 2),
        ("model=fast", 3),
        ("provider=openai", 1),
        (&format!("virtual_key_id={key}"), 3),
    ] {
        let rows = house.get(&format!("/api/usage?{query}")).await.expect(200);
        assert_eq!(rows["data"].as_array().map(Vec::len), Some(count), "{query}");
    }
    let first = house.get("/api/usage?limit=2").await.expect(200);
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let second = house.get(&format!("/api/usage?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!((&second["data"][0], &second["next_cursor"]), (row, &Value::Null));
    for bad in [
        "from=yesterday",
        "to=x",
        "from=2026-11-22&to=2026-11-21",
        "limit=x",
        "cursor=bm8",
        "color=red",
        "model=%00",
        "provider=a%0Ab",
    ] {
        let refused = house.get(&format!("/api/usage?{bad}")).await;
        assert!(matches!(refused.status.as_u16(), 400), "{bad}: {} {}", refused.status, refused.text);
    }
    house
        .get(&format!("/api/usage?virtual_key_id={}", VirtualKeyId::generate()))
        .await
        .refused(404, "not_found");

    let explained = house.get(&format!("/api/usage/{}/explain", records[0].request_id)).await.expect(200);
    assert_eq!(explained["cost_micro_usd"], 160.5);
    assert_eq!(
        explained["lines"],
        json!([
            {"class": "input", "tokens": 100, "micro_usd_per_million": 1_500_000, "cost_micro_usd": 150},
            {"class": "output", "tokens": 7, "micro_usd_per_million": 1_500_000, "cost_micro_usd": 10.5},
        ])
    );
    let attempt = &explained["attempts"][0];
    assert_eq!(
        (&attempt["provider"], &attempt["status"], &attempt["outcome"]),
        (&json!("openai"), &json!(200), &json!("ok"))
    );
    house.get("/api/usage/req_x/explain").await.refused(404, "not_found");
}

#[tokio::test]
async fn sums_by_any_grouping_are_the_sums_of_the_rows() {
    let house = House::new().await;
    let acme = house.tenant("acme").await;
    let keys = [key(&house, house.default_tenant).await, key(&house, acme).await];
    let mut records = Vec::new();
    let mut raw = 0_i128;
    for number in 0..40_i64 {
        let (tenant, key) = if number % 3 == 0 { (acme, keys[1]) } else { (house.default_tenant, keys[0]) };
        let model = if number % 2 == 0 { "openai/gpt-5.4-mini" } else { "groq/x" };
        let cost = if number == 7 { None } else { Some(i64::MAX / 4 + number) };
        let at = format!("2026-11-{:02}T01:00:00Z", 1 + number % 5);
        let mut record = usage(tenant, key, model, &at, cost);
        Arc::make_mut(&mut record.tags).insert("n".into(), format!("{}", number % 4));
        raw += i128::from(cost.unwrap_or_default());
        records.push(record);
    }
    house.record(&records).await;
    let micro = format!("{}.{:03}", raw / 1_000, raw % 1_000);
    for group_by in [
        "",
        "tenant",
        "key",
        "provider",
        "model",
        "day",
        "tag:n",
        "tag:none",
        "tenant,key,provider,model,day,tag:n,tag:team",
    ] {
        let text = house.get(&format!("/api/spend?group_by={group_by}")).await;
        assert!(text.text.contains(&format!("\"cost_micro_usd\":{micro}")), "{group_by}: {}", text.text);
        let report = text.expect(200);
        let sum: u64 =
            report["data"].as_array().expect("rows").iter().filter_map(|row| row["requests"].as_u64()).sum();
        assert_eq!((sum, &report["total"]["requests"]), (40, &json!(40)), "{group_by}");
        assert_eq!(report["total"]["input_tokens"], 40 * 120);
    }
    let days = house.get("/api/spend?group_by=day&from=2026-11-02&to=2026-11-04").await.expect(200);
    let days: Vec<_> = days["data"].as_array().expect("rows").iter().map(|row| row["day"].clone()).collect();
    assert_eq!(days, ["2026-11-02", "2026-11-03"]);
    let rows = house.get(&format!("/api/spend?group_by=model,tag:n&tenant_id={acme}")).await.expect(200);
    assert_eq!(rows["total"]["requests"], 14);
    assert!(rows["data"][0]["model"].is_string() && rows["data"][0]["tag:n"].is_string());
    for bad in ["group_by=team", "group_by=day,day", "format=xml", "from=x", "group_by=tag:a%20b"] {
        house.get(&format!("/api/spend?{bad}")).await.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_spreadsheet_runs_nothing() {
    let house = House::new().await;
    let key = key(&house, house.default_tenant).await;
    house.record(&[usage(house.default_tenant, key, "openai/x", "2026-11-20", Some(1_500))]).await;
    let answer = house.get("/api/spend?group_by=model,tag:team&format=csv").await;
    assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(
        answer.text,
        "model,tag:team,requests,input_tokens,output_tokens,cost_micro_usd\nopenai/x,'=cmd(),1,120,7,1.5\n"
    );
}

#[tokio::test]
async fn sums_are_whole_however_many_different_tags_there_are() {
    let house = House::new().await;
    let key = key(&house, house.default_tenant).await;
    house.record(&[usage(house.default_tenant, key, "openai/x", "2026-11-20", Some(1_000))]).await;
    house
        .control
        .store
        .tamper(
            r#"INSERT INTO usage_record (request_id, started_at, tenant_id, virtual_key_id, provider_key_id, provider,
                requested_model, served_model, status, outcome, attempts, stream, input_tokens, cache_read_tokens,
                cache_write_tokens, output_tokens, reasoning_tokens, cost_nano_usd, cost_lines, clamped_nano_usd,
                price_version, usage_source, latency_ms, time_to_first_token_ms, tags)
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50010)
            SELECT 'req_' || i, started_at, tenant_id, virtual_key_id, provider_key_id, provider, requested_model,
                served_model, status, outcome, attempts, stream, input_tokens, cache_read_tokens, cache_write_tokens,
                output_tokens, reasoning_tokens, cost_nano_usd, cost_lines, clamped_nano_usd, price_version,
                usage_source, latency_ms, time_to_first_token_ms, '{"user":"' || i || '","team":"' || (i % 2) || '"}'
            FROM usage_record, n"#,
        )
        .await;
    // Of these rows there are no sums by day: less than half of one is read from the rows themselves.
    let span = "from=2026-11-20&to=2026-11-20T11:00:00Z";
    let report = house.get(&format!("/api/spend?group_by=tag:team&{span}")).await.expect(200);
    let requests: Vec<_> =
        report["data"].as_array().expect("rows").iter().map(|row| row["requests"].clone()).collect();
    assert_eq!(requests, [25_005, 25_005, 1].map(Value::from));
    assert_eq!(report["total"]["requests"], 50_011);
    assert_eq!(report["total"]["cost_micro_usd"], 50_011);
    house.get(&format!("/api/spend?group_by=tag:user&{span}")).await.refused(400, "too_many_groups");
}

#[tokio::test]
async fn a_report_is_not_refused_for_groups_that_only_the_rest_of_its_last_day_has() {
    let house = House::new().await;
    let key = key(&house, house.default_tenant).await;
    house.record(&[usage(house.default_tenant, key, "openai/x", "2026-11-20T01:00:00Z", Some(1_000))]).await;
    let more = "INSERT INTO spend_rollup (grain, month, series, tenant_id, virtual_key_id, provider, requested_model,
            served_model, tags, days)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50010)
        SELECT grain, month, 'series-' || i, tenant_id, virtual_key_id, provider, requested_model, served_model,
            '{\"user\":\"' || i || '\"}', days
        FROM spend_rollup, n WHERE grain = 'tags'";
    house.control.store.tamper(more).await;
    // As if all else that the sums count had come after 13:00.
    let asked =
        async |to: &str| house.get(&format!("/api/spend?group_by=tag:user&from=2026-11-20&to={to}")).await;
    asked("2026-11-21").await.refused(400, "too_many_groups");
    let report = asked("2026-11-20T13:00:00Z").await.expect(200);
    assert_eq!((report["data"].as_array().map(Vec::len), &report["total"]["requests"]), (Some(1), &1.into()));
}

#[tokio::test]
async fn a_report_of_too_many_groups_is_refused_where_they_come_from_the_sums_by_day() {
    let house = House::new().await;
    let key = key(&house, house.default_tenant).await;
    house.record(&[usage(house.default_tenant, key, "openai/x", "2026-11-20", Some(1_000))]).await;
    let days: Vec<_> = (0..30).map(|day| format!("[{day},1,2,3,0,4]")).collect();
    let more = format!(
        "INSERT INTO spend_rollup (grain, month, series, tenant_id, virtual_key_id, provider, requested_model,
            served_model, tags, days)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1666)
        SELECT grain, month, 'series-' || i, tenant_id, 'vk-' || i, provider, requested_model, served_model, tags,
            '[{}]'
        FROM spend_rollup, n WHERE grain = 'key' AND virtual_key_id NOT LIKE 'vk-%'",
        days.join(",")
    );
    house.control.store.tamper(&more).await;
    let report = house.get("/api/spend?group_by=day,key").await.expect(200);
    assert_eq!(report["data"].as_array().map(Vec::len), Some(1_666 * 30 + 1));
    assert_eq!(report["total"]["requests"], 1_666 * 30 + 1);
    let one_more =
        more.replace("1666", "1").replace("'series-'", "'another-'").replace("'vk-'", "'vk-another-'");
    house.control.store.tamper(&one_more).await;
    house.get("/api/spend?group_by=day,key").await.refused(400, "too_many_groups");
    assert_eq!(house.get("/api/spend?group_by=key").await.expect(200)["total"]["requests"], 1_667 * 30 + 1);
}
