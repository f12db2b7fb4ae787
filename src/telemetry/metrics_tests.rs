use super::*;

const FAMILIES: [&str; 36] = [
    "keystile_requests_total",
    "keystile_request_duration_seconds_bucket",
    "keystile_time_to_first_token_seconds_bucket",
    "keystile_upstream_attempts_total",
    "keystile_upstream_duration_seconds_bucket",
    "keystile_tokens_total",
    "keystile_cost_nano_usd_total",
    "keystile_refusals_total",
    "keystile_requests_in_flight",
    "keystile_reserved_nano_usd",
    "keystile_record_queue_depth",
    "keystile_records_written_total",
    "keystile_records_failed_total",
    "keystile_redis_up",
    "keystile_redis_failures_total",
    "keystile_rate_corrections_dropped_total",
    "keystile_unpriced_requests_total",
    "keystile_clamped_nano_usd_total",
    "keystile_scrubbed_total",
    "keystile_cooldowns_total",
    "keystile_connections",
    "keystile_instances_live",
    "keystile_leases_taken_total",
    "keystile_leases_fenced_total",
    "keystile_journal_records_total",
    "keystile_journal_bytes_total",
    "keystile_journal_writes_total",
    "keystile_journal_syncs_total",
    "keystile_journal_segments",
    "keystile_journal_open",
    "keystile_journal_unapplied",
    "keystile_ledger_stuck_records",
    "keystile_journal_broken",
    "keystile_vault_open_failures_total",
    "keystile_audit_checkpoints_total",
    "keystile_audit_checkpoint_failures_total",
];

fn touched() -> Metrics {
    let metrics = Metrics::new(["openai"], ["gpt-5.4-mini"]);
    metrics.request_ended("/chat/completions", true, 200, "ok", Duration::from_millis(300));
    metrics.request_refused("spend_cap_reached");
    metrics.first_token_came(Duration::from_millis(80));
    metrics.attempt_ended("openai", "ok", Duration::from_millis(290));
    metrics.tokens_metered("openai", "gpt-5.4-mini", "input", 12);
    metrics.tokens_metered("openai", "gpt-5.4-mini", "output", 0);
    metrics.cost_settled("openai", "gpt-5.4-mini", 1_500);
    metrics.cooldown_began("openai");
    metrics.vault_open_failed("mismatch");
    metrics
}

fn series(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn every_family_is_there_under_its_name() {
    let page = touched().encode();
    for family in FAMILIES {
        let begins =
            |line: &str| line.starts_with(&format!("{family} ")) || line.starts_with(&format!("{family}{{"));
        assert!(page.lines().any(begins), "{family} in\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn labels_and_values_are_as_documented() {
    let page = touched().encode();
    for line in [
        r#"keystile_requests_total{endpoint="/chat/completions",status="200",outcome="ok"} 1"#,
        r#"keystile_request_duration_seconds_count{endpoint="/chat/completions",stream="true"} 1"#,
        r#"keystile_upstream_attempts_total{provider="openai",outcome="ok"} 1"#,
        r#"keystile_tokens_total{provider="openai",model="gpt-5.4-mini",class="input"} 12"#,
        r#"keystile_cost_nano_usd_total{provider="openai",model="gpt-5.4-mini"} 1500"#,
        r#"keystile_refusals_total{code="spend_cap_reached"} 1"#,
        r#"keystile_connections{plane="data"} 0"#,
        "keystile_scrubbed_total 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
    assert!(!page.contains(r#"class="output""#), "nothing was used of it");
}

#[test]
fn no_name_that_a_client_chose_makes_a_series() {
    let metrics = touched();
    let meet = |name: &str| {
        metrics.attempt_ended(name, "ok", Duration::ZERO);
        metrics.tokens_metered(name, name, "input", 1);
        metrics.cost_settled("openai", name, 1);
        metrics.cost_settled(name, "gpt-5.4-mini", 1);
        metrics.cooldown_began(name);
    };
    meet("first");
    let before = series(&metrics.encode());
    for number in 0..10_000 {
        meet(&format!("canary-{number}"));
    }
    let page = metrics.encode();
    assert_eq!(series(&page), before);
    assert!(!page.contains("canary"));
    assert!(page.contains(r#"keystile_tokens_total{provider="custom",model="other",class="input"} 10001"#));
}

#[test]
fn what_is_open_is_counted_until_it_is_dropped() {
    let metrics = Metrics::new([], []);
    let (request, connection) = (metrics.request_began(), metrics.connection_opened(Plane::Admin));
    let page = metrics.encode();
    assert!(page.contains("keystile_requests_in_flight 1"));
    assert!(page.contains(r#"keystile_connections{plane="admin"} 1"#));
    drop((request, connection));
    let page = metrics.encode();
    assert!(page.contains("keystile_requests_in_flight 0"));
    assert!(page.contains(r#"keystile_connections{plane="admin"} 0"#));
}
