//! What a report of spend costs over a month of 1,000,000 requests on SQLite, and what the sums behind it cost when
//! usage is written.
//!
//!     cargo bench --bench spend_report
//!
//! The month is written by the gateway's own `write_usage` in batches of 500, in the order of time: 200 keys of 20
//! tenants, each with 6 models of 4 providers, every key with a tag `team`, half of the requests with a tag `feature`.
//! Then a gateway is started on it and asked for `/api/spend` over its admin plane: the median and the quickest of five,
//! by every set of tenant, key, provider, model, day and the two tags, of the whole month and with hours cut off its first
//! and its last day. Beside the reports by one of them stands the same question to the usage rows. `-- --rows N` takes
//! another number of requests; `--dir D` writes into that directory and keeps what is there, so that a second run need not
//! write the month again; `--only G` asks for the grouping G alone.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use keystile::{
    app::{App, StartOptions},
    config::{Config, SecretText},
    domain::{
        ModelName, ModelRef, NanoUsd, Outcome, ProviderKeyId, RequestId, TenantId, Timestamp, TokenUsage,
        UsageRecord, UsageSource, VirtualKeyId, Windows, Zone,
    },
    store::{MAX_GROUPS, Store, StoreError, Tx, sqlite_url, usage::write_usage},
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::{Value, json};

const ROWS: u64 = 1_000_000;
const BATCH: u64 = 500;
const KEYS: usize = 200;
const TENANTS: usize = 20;
const PROVIDERS: [&str; 4] = ["openai", "anthropic", "groq", "mistral"];
const MODELS: u64 = 6;
const FROM: &str = "2026-10-01";
const TO: &str = "2026-11-01";
const EMAIL: &str = "owner@example.com";
const PASSWORD: &str = "correct horse battery staple";
const ASKED: usize = 5;
/// What is grouped by, as `group_by` names it and as the column of the usage rows that knows it.
const KEYS_OF_GROUPS: [(&str, &str); 7] = [
    ("day", "started_at / 86400000"),
    ("tenant", "tenant_id"),
    ("key", "virtual_key_id"),
    ("provider", "provider"),
    ("model", "served_model"),
    ("tag:team", "tags ->> '$.team'"),
    ("tag:feature", "tags ->> '$.feature'"),
];

/// Numbers that look random and are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct Month {
    numbers: Numbers,
    tenants: Vec<TenantId>,
    keys: Vec<VirtualKeyId>,
    provider_key: ProviderKeyId,
    start: i64,
    step: f64,
}

impl Month {
    fn record(&mut self, number: u64) -> UsageRecord {
        let mut below = |bound| self.numbers.below(bound);
        let key = below(KEYS as u64) as usize;
        let provider = PROVIDERS[below(PROVIDERS.len() as u64) as usize];
        let model = format!("{provider}/model-{}", below(MODELS));
        let started_at = Timestamp::from_millis(self.start + (number as f64 * self.step) as i64);
        let (tenant_id, virtual_key_id) = (self.tenants[key % TENANTS], self.keys[key]);
        let mut tags = vec![("team".to_owned(), format!("team-{}", key % 10))];
        if below(2) == 0 {
            tags.push(("feature".to_owned(), format!("feature-{}", below(4))));
        }
        UsageRecord {
            request_id: RequestId::generate(),
            started_at,
            windows: Windows::of(started_at, Zone::UTC),
            scopes: [virtual_key_id.into(), tenant_id.into()].into(),
            tenant_id,
            virtual_key_id,
            provider_key_id: self.provider_key,
            requested_model: ModelName::parse(&model).expect("a name"),
            served_model: ModelRef::parse(&model).expect("a model"),
            status: 200,
            outcome: Outcome::Ok,
            attempts: vec![],
            stream: false,
            usage: TokenUsage { input: below(4_000), output: below(1_000), ..TokenUsage::default() },
            cost: Some(NanoUsd::new(below(30_000_000) as i64)),
            cost_lines: vec![],
            clamped: NanoUsd::ZERO,
            price_version: Some("catalogue:2026-10-01".into()),
            usage_source: UsageSource::Provider,
            latency_ms: below(9_000),
            time_to_first_token_ms: None,
            tags: Arc::new(tags.into_iter().collect()),
        }
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

/// Median and least.
fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[0])
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Writes the month; prints what a batch took.
async fn fill(store: &Store, rows: u64) {
    let (start, end) = (at(FROM).millis(), at(TO).millis());
    let mut month = Month {
        numbers: Numbers(1),
        tenants: (0..TENANTS).map(|_| TenantId::generate()).collect(),
        keys: (0..KEYS).map(|_| VirtualKeyId::generate()).collect(),
        provider_key: ProviderKeyId::generate(),
        start,
        step: (end - start) as f64 / rows as f64,
    };
    let mut times = Vec::new();
    for first in (0..rows).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..rows.min(first + BATCH)).map(|number| month.record(number)).collect();
        let began = Instant::now();
        store
            .write(async |tx: &Tx| {
                write_usage(tx, &batch).await?;
                Ok::<_, StoreError>(())
            })
            .await
            .expect("written");
        times.push(began.elapsed());
    }
    let whole: Duration = times.iter().sum();
    println!(
        "{rows} requests written in {:.1} s; a batch of {BATCH}: median {:.1} ms, mean {:.1} ms",
        whole.as_secs_f64(),
        millis(median(times.clone()).0),
        millis(whole / times.len() as u32),
    );
}

async fn query(store: &Store, sql: &str) -> Vec<sea_orm::QueryResult> {
    store.reader().query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.expect("rows")
}

/// What the usage rows say.
struct Rows {
    requests: i64,
    groups: usize,
    took: Duration,
}

/// The same question to the usage rows.
async fn scan(store: &Store, columns: Option<&str>, from: i64, to: i64) -> Rows {
    let by = columns.map(|columns| format!("GROUP BY {columns}")).unwrap_or_default();
    let sql = format!(
        "SELECT COUNT(*), SUM(input_tokens), SUM(output_tokens), SUM(cost_nano_usd / 1000000000),
            SUM(cost_nano_usd % 1000000000)
        FROM usage_record WHERE started_at >= {from} AND started_at < {to} {by}"
    );
    let began = Instant::now();
    let rows = query(store, &sql).await;
    let took = began.elapsed();
    let requests = rows.iter().map(|row| row.try_get_by_index::<i64>(0).expect("a count")).sum();
    Rows { requests, groups: rows.len(), took }
}

/// Every set of keys, the small ones first.
fn groupings() -> Vec<Vec<(&'static str, &'static str)>> {
    let set = |bits: usize| {
        KEYS_OF_GROUPS
            .iter()
            .enumerate()
            .filter(|(bit, _)| bits >> bit & 1 == 1)
            .map(|(_, key)| *key)
            .collect()
    };
    let mut sets: Vec<Vec<_>> = (0..1 << KEYS_OF_GROUPS.len()).map(set).collect();
    sets.sort_by_key(Vec::len);
    sets
}

#[expect(clippy::disallowed_methods, reason = "this client calls the gateway on loopback, not a provider")]
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

#[tokio::main]
async fn main() {
    // `cargo bench` itself passes `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut rows, mut kept, mut only) = (ROWS, None, None);
    while let Some(name) = arguments.next() {
        match (name.as_str(), arguments.next()) {
            ("--rows", Some(number)) => rows = number.parse().expect("`--rows` takes a number"),
            ("--dir", Some(dir)) => kept = Some(PathBuf::from(dir)),
            ("--only", Some(grouping)) => only = Some(grouping),
            _ => panic!("usage: spend_report [--rows N] [--dir D] [--only GROUPING]"),
        }
    }
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = kept.unwrap_or_else(|| temporary.path().to_owned());
    let mut config = Config::default();
    config.server.data_dir.clone_from(&dir);
    config.server.listen.set_port(0);
    config.server.admin_listen.set_port(0);
    config.admin.email = Some(EMAIL.into());
    config.admin.password = Some(SecretText::new(PASSWORD));
    let file = dir.join("keystile.db");
    let is_written = file.exists();
    let store = Store::open(&sqlite_url(&file)).await.expect("a store");
    if !is_written {
        fill(&store, rows).await;
    }
    let written: i64 =
        query(&store, "SELECT COUNT(*) FROM usage_record").await[0].try_get_by_index(0).expect("a count");
    assert_eq!(written as u64, rows, "`--dir` has another month; delete it");
    for row in query(&store, "SELECT grain, COUNT(*) FROM spend_rollup GROUP BY grain ORDER BY 2").await {
        let (grain, count): (String, i64) =
            (row.try_get_by_index(0).expect("a name"), row.try_get_by_index(1).expect("a count"));
        println!("  sums at grain {grain}: {count} rows");
    }

    let app = App::start(config, StartOptions::default()).await.expect("a gateway");
    let (client, base) = (client(), format!("http://{}", app.admin_address));
    let login = client
        .post(format!("{base}/api/auth/login"))
        .header("content-type", "application/json")
        .body(json!({ "email": EMAIL, "password": PASSWORD }).to_string());
    let session: Value = serde_json::from_slice(&read(login).await.expect("a session")).expect("JSON");
    let token = session["token"].as_str().expect("a token");

    let cut = ("2026-10-01T10:00:00Z", "2026-10-31T19:00:00Z");
    for ((from, to), span) in [((FROM, TO), "the month"), (cut, "the month but 10 h and 5 h")] {
        println!(
            "\n{:<52} {:>8} {:>12} {:>12} {:>14}",
            span, "groups", "/api/spend", "quickest", "scan of rows"
        );
        let requests = scan(&store, None, at(from).millis(), at(to).millis()).await.requests;
        let mut medians = Vec::new();
        for keys in groupings() {
            let group_by = keys.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
            let name = if group_by.is_empty() { "nothing" } else { &group_by };
            if only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let url = format!("{base}/api/spend?from={from}&to={to}&group_by={group_by}");
            let mut times = Vec::new();
            let mut answer = None;
            for _ in 0..ASKED {
                let began = Instant::now();
                answer = read(client.get(&url).bearer_auth(token)).await;
                times.push(began.elapsed());
            }
            let columns = keys.iter().map(|(_, column)| *column).collect::<Vec<_>>().join(",");
            let (mut groups, mut scanned) = ("too many".to_owned(), String::new());
            if let Some(report) = &answer {
                let report: Value = serde_json::from_slice(report).expect("JSON");
                assert_eq!(report["total"]["requests"].as_i64(), Some(requests), "{name}: every request");
                groups = report["data"].as_array().map_or(0, Vec::len).to_string();
            }
            if keys.len() == 1 || answer.is_none() {
                let rows = scan(&store, Some(&columns), at(from).millis(), at(to).millis()).await;
                assert!(answer.is_some() || rows.groups > MAX_GROUPS, "{name} is refused for no reason");
                scanned = format!("{:.0} ms", millis(rows.took));
            }
            let (median, quickest) = median(times);
            println!(
                "{name:<52} {groups:>8} {:>9.1} ms {:>9.1} ms {scanned:>14}",
                millis(median),
                millis(quickest)
            );
            medians.push((median, name.to_owned()));
        }
        let (slowest, name) =
            medians.iter().max().expect("`--only` takes a grouping as it stands in the table");
        let slow = medians.iter().filter(|(median, _)| *median >= Duration::from_millis(200)).count();
        println!(
            "{} groupings, {slow} of them in 200 ms or more; the slowest {:.1} ms, by {name}",
            medians.len(),
            millis(*slowest)
        );
    }
    drop(store);
    app.stop(Duration::from_secs(1), std::future::pending()).await;
}

/// What was answered; `None` where it was refused for too many groups.
async fn read(request: reqwest::RequestBuilder) -> Option<Bytes> {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let body = response.bytes().await.expect("a body");
    if status == 400 && String::from_utf8_lossy(&body).contains("too_many_groups") {
        return None;
    }
    assert!(status.is_success(), "{status}");
    Some(body)
}
