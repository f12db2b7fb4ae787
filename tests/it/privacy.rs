//! Bodies and secrets leave no trace: not in a log at any level, not in a metric, not in an answer, not in the database,
//! in no spelling that would give them away.

use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose};
use keystile::config::{LogFormat, SecretText, Telemetry};
use reqwest::Method;
use sea_orm::{ConnectionTrait, Database, Statement};
use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Reply, Setup, Upstream, VirtualKey, chat_body, chat_events, done, error, event,
    gateway::ADMIN_PASSWORD, usage, usage_chunk,
};

/// Everything logged, for as long as the guard of its subscriber lives.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PROMPT: &str = "canary-PROMPT-7fQ2xw \"quoted\" \u{e9}";
const COMPLETION: &str = "canary-COMPLETION-9Lk3vb \"quoted\" \u{fc}";
const TOOL: &str = "canary-TOOL-4Rt8mn";
const EMBEDDING: &str = "canary-EMBEDDING-2Hs6pd";
const PROVIDER_KEY: &str = "sk-proj-canaryPROVIDERkey5Wd1zc0abcdefghijklmnopqrstuv";
const REPLACED_KEY: &str = "sk-proj-canaryREPLACEDkey8Bn4yx0abcdefghijklmnopqrstuv";

/// The spellings in which a canary would still give itself away.
fn spellings(canary: &str) -> Vec<Vec<u8>> {
    let bytes = canary.as_bytes();
    let json = serde_json::to_string(canary).expect("JSON");
    let json = json.trim_matches('"').to_owned();
    let ascii: String = canary
        .chars()
        .flat_map(|c| {
            if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) }
                .chars()
                .collect::<Vec<_>>()
        })
        .collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let debug = format!("{bytes:?}");
    let mut all = vec![
        bytes.to_vec(),
        json.clone().into_bytes(),
        serde_json::to_string(&json).expect("JSON").trim_matches('"').as_bytes().to_vec(),
        ascii.into_bytes(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        debug.trim_matches(['[', ']']).as_bytes().to_vec(),
        canary.chars().rev().collect::<String>().into_bytes(),
    ];
    // Inside a longer text base64 can begin at three offsets; what is alike in all contexts is the middle.
    for skip in 0..3 {
        for engine in [general_purpose::STANDARD_NO_PAD, general_purpose::URL_SAFE_NO_PAD] {
            let whole = engine.encode(&bytes[skip..]);
            all.push(whole.as_bytes()[..whole.len() - 4].to_vec());
        }
    }
    all
}

#[track_caller]
fn assert_absent(canaries: &[String], place: &str, haystack: &[u8]) {
    for canary in canaries {
        for spelling in spellings(canary) {
            let found = haystack.windows(spelling.len()).position(|window| window == spelling);
            if let Some(at) = found {
                let around = &haystack[at.saturating_sub(60)..(at + spelling.len() + 20).min(haystack.len())];
                panic!("`{canary}` is in {place}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

#[test]
fn the_search_finds_every_spelling() {
    let canary = vec![PROMPT.to_owned()];
    for text in [
        format!("x{PROMPT}y"),
        json!({ "a": PROMPT }).to_string(),
        json!({ "a": json!({ "b": PROMPT }).to_string() }).to_string(),
        general_purpose::STANDARD.encode(format!("xx{PROMPT}y")),
        general_purpose::URL_SAFE.encode(format!("x{PROMPT}yy")),
        format!("{:?}", format!("x{PROMPT}").as_bytes()),
    ] {
        let found = std::panic::catch_unwind(|| assert_absent(&canary, "a text", text.as_bytes()));
        assert!(found.is_err(), "{text}");
    }
    assert_absent(&canary, "a text", b"canary-PROMPT-7fQ2x");
}

fn prompt() -> Value {
    json!([
        { "role": "system", "content": PROMPT },
        { "role": "user", "content": [{ "type": "text", "text": PROMPT }] },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "call_1", "type": "function",
            "function": { "name": "look", "arguments": json!({ "q": TOOL }).to_string() } }] },
        { "role": "tool", "tool_call_id": "call_1", "content": TOOL },
    ])
}

/// Answers that a provider gives of itself, in every way in which it can fail, all of them full of canaries.
fn answers() -> Vec<Answer> {
    let json = [("content-type", "application/json")];
    let echo = json!({ "error": { "message": format!("bad: {PROMPT} with key {PROVIDER_KEY}"), "type": "t", "code": "c",
        "param": PROVIDER_KEY } });
    let whole = chat_body(COMPLETION, &usage(10, 5)).to_string();
    let mut events = chat_events(&[COMPLETION]);
    events.pop();
    vec![
        Answer::whole(200, &json, &whole),
        Answer::whole(200, &json, &whole[..whole.len() - 20]),
        Answer::whole(200, &json, format!("{COMPLETION} is no JSON")),
        Answer::whole(200, &[("content-type", "application/json"), ("x-leak", PROVIDER_KEY)], &whole),
        Answer::json(400, &echo),
        Answer::json(401, &echo),
        Answer::json(429, &echo),
        Answer::json(500, &echo),
        Answer::whole(502, &[("content-type", "text/html")], format!("<html>{PROMPT} {PROVIDER_KEY}</html>")),
        Answer::json(200, &echo),
        crate::support::raw(format!("{COMPLETION}\r\n{PROVIDER_KEY}\r\n\r\n")),
        Answer::stream()
            .send_all(chat_events(&[COMPLETION]))
            .send(usage_chunk(&usage(10, 5)))
            .send(done())
            .end(),
        Answer::stream().send_all(&events).reset(),
        Answer::stream().send_all(&events).send(event(&echo)).end(),
        Answer::stream().send(event(&echo)).end(),
        Answer::stream().send(format!("data: {{\"broken {COMPLETION}\n\n")).send_all(&events).end(),
    ]
}

/// Runs in one thread, so that one thread's subscriber sees everything.
#[tokio::test(flavor = "current_thread")]
async fn canaries_are_found_nowhere() {
    let logged = Captured::default();
    let setup = Setup::new().await;
    let telemetry = |format| Telemetry { log_filter: "trace".into(), log_format: format };
    let writer = {
        let logged = logged.clone();
        move || logged.clone()
    };
    let subscriber =
        keystile::telemetry::logs::subscriber(&telemetry(LogFormat::Json), &setup.metrics, writer)
            .expect("a subscriber");
    // With one subscriber only, a place in the code that another test's thread reaches first would stay silent for
    // ever, as that thread has none; with two, both are asked.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let _logging = tracing::subscriber::set_default(subscriber);
    tracing::info!(target: "keystile::test", "capture begins");

    let master = keystile::vault::KeyRing::generate();
    let master_text = master.0.to_string();
    let upstream = Upstream::always(error(500, "unscripted")).await;
    let gateway = setup
        .allow(&upstream)
        .with(|config| {
            config.vault.master_keys = vec![SecretText::new(master_text.clone())];
            config.upstream.first_byte_timeout = Duration::from_millis(300);
            config.upstream.stream_first_byte_timeout = Duration::from_millis(300);
            config.upstream.idle_timeout = Duration::from_millis(300);
        })
        .start()
        .await;
    let mut replies: Vec<Reply> = Vec::new();
    let stored = json!({ "provider": "openai", "key_name": "k", "api_key": PROVIDER_KEY, "base_url": upstream.base_url() });
    replies.push(gateway.admin(Method::POST, "/api/keys", Some(&stored)).await.expect(201));
    let provider_key = replies[0].json()["id"].as_str().expect("an id").to_owned();
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": 1_000_000_000 })).await;
    let uncapped = gateway.virtual_key(json!({})).await;

    for answer in answers() {
        upstream.answer(answer);
        for stream in [false, true] {
            let asked = json!({ "messages": prompt(), "stream": stream, "user": PROMPT, "max_tokens": 50 });
            replies.push(gateway.chat(&key, asked).await);
        }
        let asked = json!({ "model": "openai/text-embedding-3-small", "input": [EMBEDDING] }).to_string();
        replies.push(gateway.post("/v1/embeddings", &uncapped, asked).await);
    }
    replies.extend(refused(&gateway, &key).await);
    replies.extend(administered(&gateway, &key, &provider_key).await);
    gateway.usage().await;

    let lines = String::from_utf8(logged.0.lock().expect("no panic").clone()).expect("UTF-8");
    assert!(
        lines.contains("capture begins") && lines.contains("\"level\":\"DEBUG\""),
        "the log is on: {lines}"
    );
    let secrets = vec![
        PROVIDER_KEY.to_owned(),
        REPLACED_KEY.to_owned(),
        key.key.clone(),
        uncapped.key.clone(),
        ADMIN_PASSWORD.to_owned(),
        master_text,
    ];
    let bodies = [PROMPT, COMPLETION, TOOL, EMBEDDING].map(str::to_owned).to_vec();
    let everything = [secrets.clone(), bodies.clone()].concat();
    assert_absent(&everything, "the log", lines.as_bytes());
    assert_absent(&everything, "the metrics", gateway.metrics.encode().as_bytes());
    for reply in &replies {
        assert_absent(&secrets, "an answer", &reply.body);
        assert_absent(&secrets, "an answer's head", format!("{:?}", reply.headers).as_bytes());
    }
    let data = gateway.config.server.data_dir.clone();
    let on_postgres = gateway.config.database_file().is_none().then(|| gateway.database_url());
    if on_postgres.is_none() {
        // While it runs there is a write-ahead log; after it there is none.
        search_files(&everything, &data);
    }
    let stopped = gateway.stop(Duration::from_secs(5)).await;
    match on_postgres {
        Some(url) => search_tables(&everything, &url).await,
        None => search_files(&everything, &data),
    }
    assert_eq!(stopped.lost, 0);
}

/// Looks at every row of every table, as text.
async fn search_tables(canaries: &[String], url: &str) {
    let db = Database::connect(url).await.expect("a connection");
    let first_column = async |sql: &str| -> Vec<String> {
        let statement = Statement::from_string(db.get_database_backend(), sql);
        let rows = db.query_all_raw(statement).await.expect("an answer");
        rows.iter().map(|row| row.try_get_by_index(0).expect("text")).collect()
    };
    let mut searched = 0;
    for table in
        first_column("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()").await
    {
        for row in first_column(&format!("SELECT t::text FROM {table} t")).await {
            searched += row.len();
            assert_absent(canaries, &table, row.as_bytes());
        }
    }
    assert!(searched > 5_000, "rows are there: {searched} bytes");
}

/// The database, its log, and the journal.
fn search_files(canaries: &[String], dir: &Path) {
    let searched = search_below(canaries, dir);
    assert!(searched > 50_000, "the database is there: {searched} bytes");
}

fn search_below(canaries: &[String], dir: &Path) -> usize {
    let mut searched = 0;
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            searched += search_below(canaries, &entry);
            continue;
        }
        let mut bytes = std::fs::read(&entry).expect("a file");
        // The journal's segments are taken from the disk beforehand: what is not written yet is zeros.
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        searched += bytes.len();
        assert_absent(canaries, &entry.display().to_string(), &bytes);
    }
    searched
}

/// Requests that are refused for what they say.
async fn refused(gateway: &Gateway, key: &VirtualKey) -> Vec<Reply> {
    let mut replies = Vec::new();
    let chat = "/v1/chat/completions";
    for body in [
        format!("{{\"messages\": \"{PROMPT}"),
        PROMPT.to_owned(),
        json!({ "model": PROMPT, "messages": prompt() }).to_string(),
        json!({ "model": "openai/gpt-4o-mini", "messages": PROMPT }).to_string(),
        json!({ "model": "openai/gpt-4o-mini", "messages": prompt(), "stream": TOOL }).to_string(),
        json!({ "model": "openai/gpt-4o-mini", "messages": prompt(), "api_key": PROVIDER_KEY }).to_string(),
        json!({ "model": "openai/gpt-4o-mini", "messages": prompt(), "service_tier": "odd", "plugins": [TOOL] }).to_string(),
        json!({ "model": "openai/gpt-4o-mini", "messages": prompt(), "max_tokens": 100_000_000_000_u64 }).to_string(),
        format!("{{\"model\":\"a\",\"model\":\"{TOOL}\"}}"),
    ] {
        replies.push(gateway.post(chat, key, body).await);
    }
    let wrong = VirtualKey { id: String::new(), key: format!("{}x", key.key) };
    replies.push(gateway.chat(&wrong, json!({ "messages": prompt() })).await);
    replies.push(gateway.read(&format!("/v1/models/{}", key.key), key).await);
    let twice = gateway.request(Method::GET, "/v1/key", key).header("x-api-key", wrong.key.as_str());
    replies.push(gateway.send(twice).await);
    replies
}

/// What an administrator sees of it all.
async fn administered(gateway: &Gateway, key: &VirtualKey, provider_key: &str) -> Vec<Reply> {
    let mut replies = Vec::new();
    let path = format!("/api/keys/{provider_key}");
    for body in [
        json!({ "api_key": REPLACED_KEY }),
        json!({ "api_key": REPLACED_KEY, "unknown": PROVIDER_KEY }),
        json!({ "api_key": [REPLACED_KEY] }),
    ] {
        replies.push(gateway.admin(Method::PATCH, &path, Some(&body)).await);
    }
    let bad = json!({ "provider": "openai", "key_name": "k", "api_key": PROVIDER_KEY, "base_url": "http://10.0.0.1" });
    replies.push(gateway.admin(Method::POST, "/api/keys", Some(&bad)).await.expect(400));
    let wrong = json!({ "email": "owner@example.com", "password": format!("{ADMIN_PASSWORD}x") });
    replies.push(gateway.admin_as("", Method::POST, "/api/auth/login", Some(&wrong)).await.expect(401));
    for path in [
        "/api/keys".to_owned(),
        path,
        "/api/virtual-keys".to_owned(),
        format!("/api/virtual-keys/{}", key.id),
        "/api/usage".to_owned(),
        "/api/spend?group_by=key,provider,model".to_owned(),
        "/api/v1/audit".to_owned(),
        "/api/users".to_owned(),
        "/api/tenants".to_owned(),
        "/metrics".to_owned(),
        "/health".to_owned(),
    ] {
        replies.push(gateway.admin(Method::GET, &path, None).await.expect(200));
    }
    for row in gateway.usage().await {
        let id = row["request_id"].as_str().expect("an id");
        replies.push(gateway.admin(Method::GET, &format!("/api/usage/{id}/explain"), None).await.expect(200));
    }
    replies.push(gateway.read("/v1/key", key).await.expect(200));
    replies.push(gateway.read("/v1/models", key).await.expect(200));
    replies
}
