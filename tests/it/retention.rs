//! Old usage rows go when the operator says so; what was spent is still known.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::{Setup, Upstream, chat_ok, eventually, usage};

#[tokio::test]
async fn old_rows_are_deleted_and_whole_days_are_still_reported() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1_000, 77))).await;
    let setup = Setup::new().await.allow(&upstream).at("2026-11-01T08:00:00Z");
    let gateway =
        setup.with(|config| config.usage_retention = Some(Duration::from_secs(7 * 24 * 3600))).start().await;
    gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    gateway.chat(&key, json!({})).await.expect(200);
    gateway.usage_of(1).await;
    let by_day = "/api/spend?group_by=day,key,model&from=2026-11-01&to=2026-11-20";
    let (report, old) = (gateway.get(by_day).await, gateway.only_usage().await["request_id"].clone());
    assert_eq!(report["total"]["requests"], 1);

    // A day more than seven later, by the clock; a start begins with the chores.
    gateway.turn_clock("2026-11-09T00:00:00Z");
    let gateway = gateway.stop(Duration::from_secs(5)).await.again.start().await;
    eventually("the old row to go", async || gateway.usage().await.is_empty().then_some(())).await;
    let explain = format!("/api/usage/{}/explain", old.as_str().expect("an id"));
    gateway.admin(Method::GET, &explain, None).await.expect(404);
    assert_eq!(gateway.get(by_day).await, report, "whole days are known for good");
    let listed = gateway.get(&format!("/api/virtual-keys/{}", key.id)).await;
    assert_eq!(listed["spent_micro_usd"], 197, "counters stay: 196.2, rounded up");

    let part = "/api/spend?from=2026-11-01T06:00:00Z&to=2026-11-20";
    let refused = gateway.admin(Method::GET, part, None).await.expect(400).json();
    assert_eq!(refused["error"]["code"], "usage_pruned");
    let message = refused["error"]["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("2026-11-02") && message.contains("UTC dates"), "{message}");
    gateway.get("/api/spend?from=2026-11-02T06:00:00Z").await;
}
