//! Gateways that died with leases in hand: what an operator sees of them, and how their money comes back.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use keystile::{
    app::{App, StartOptions},
    config::{Config, SecretText},
    domain::{Counter, InstanceId, NanoUsd, PlaceId, Scope, SpendWindow, Timestamp, Zone},
    store::{Claim, LeaseAsk, Run, Store},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::support::{Gateway, Reply, Upstream, chat_ok, eventually, usage};

const CAP: i64 = 1_000;
const EMAIL: &str = "owner@example.com";
const PASSWORD: &str = "correct-horse-battery-71";

/// A gateway that took leases, in micro-USD, and was never heard of again.
async fn dies_with(store: &Store, leases: &[(Scope, i64)]) -> String {
    let holder = store
        .instance_register(InstanceId::generate(), Run::at(PlaceId::generate()), Claim::Sole)
        .await
        .expect("registered")
        .holder;
    let window = SpendWindow::Total;
    let index = window.index(Timestamp::from_millis(0), Zone::UTC);
    for &(scope, micro) in leases {
        let amount = NanoUsd::new(micro * 1_000);
        let wish = move |_: &_| (amount, amount);
        let ask = LeaseAsk { counter: Counter { scope, window, index }, cap: amount, wish: &wish };
        let taken = store.leases_take(holder, &[ask]).await.expect("taken");
        assert_eq!(taken[0].granted, amount);
    }
    holder.instance.to_string()
}

async fn instance(gateway: &Gateway, id: &str) -> Value {
    let listed = gateway.get("/api/instances").await;
    assert_eq!(listed["next_cursor"], Value::Null);
    let rows = listed["data"].as_array().expect("rows");
    rows.iter().find(|each| each["id"] == id).unwrap_or_else(|| panic!("{id} in {listed}")).clone()
}

async fn session(gateway: &Gateway, role: &str) -> String {
    let email = format!("{role}@example.com");
    gateway.create("/api/users", json!({ "email": email, "password": PASSWORD, "role": role })).await;
    let asked = json!({ "email": email, "password": PASSWORD });
    let session = gateway.admin_as("", Method::POST, "/api/auth/login", Some(&asked)).await.expect(200);
    session.json()["token"].as_str().expect("a token").to_owned()
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_instance_holds_counts_as_spent_until_an_operator_releases_it() {
    let upstream = Upstream::always(chat_ok("hello", &usage(10, 5))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let tenant = gateway.get("/api/tenants").await["data"][0]["id"].as_str().expect("an id").to_owned();
    let budget = json!({ "name": "shared", "cap_micro_usd": null, "window": "total" });
    let budget = gateway.create("/api/budgets", budget).await["id"].as_str().expect("an id").to_owned();
    let limits = json!({ "spend_cap_micro_usd": CAP, "budgets": [budget] });
    gateway.patch(&format!("/api/virtual-keys/{}", key.id), limits).await;
    let scopes = [
        (Scope::VirtualKey(key.id.parse().expect("a key")), CAP),
        (Scope::Tenant(tenant.parse().expect("a tenant")), 700),
        (Scope::Budget(budget.parse().expect("a budget")), 600),
    ];
    let dead = dies_with(&gateway.app.house.store, &scopes).await;
    let own = gateway.app.house.ledger.id().to_string();
    assert_eq!(instance(&gateway, &own).await["state"], "live");

    // The usual 90 seconds are not over.
    let release = async |gateway: &Gateway, id: &str| {
        gateway.admin(Method::POST, &format!("/api/instances/{id}/release"), None).await
    };
    let refused = release(&gateway, &dead).await;
    assert_eq!(code(&refused), (409, "instance_alive".into()));
    assert!(refused.text().contains("silent for 90 seconds"), "{}", refused.text());
    assert_eq!(code(&release(&gateway, &own).await), (409, "instance_alive".into()));
    let unknown = InstanceId::generate().to_string();
    assert_eq!(code(&release(&gateway, &unknown).await), (404, "not_found".into()));

    let gateway = gateway.stop(Duration::from_secs(5)).await.again.with(|config| {
        config.ledger.lease_grace = Duration::from_secs(2);
        config.ledger.release_after = Duration::from_secs(3);
    });
    let gateway = gateway.start().await;
    eventually("the instance to be silent for long enough", || async {
        let silent = instance(&gateway, &dead).await;
        (silent["state"] == "silent" && silent["silent_seconds"].as_u64() >= Some(4)).then_some(())
    })
    .await;
    assert_eq!(instance(&gateway, &dead).await["leased_micro_usd"], CAP + 700 + 600);
    let paths = [
        (format!("/api/virtual-keys/{}", key.id), CAP),
        (format!("/api/tenants/{tenant}"), 700),
        (format!("/api/budgets/{budget}"), 600),
    ];
    let is = async |gateway: &Gateway, none: bool| {
        for (path, held) in &paths {
            let held = if none { 0 } else { *held };
            assert_eq!(gateway.get(path).await["unreconciled_micro_usd"], held, "{path}");
            let list = path.rsplit_once('/').expect("a path").0;
            let rows = gateway.get(list).await["data"].as_array().expect("rows").clone();
            let sum: i64 = rows.iter().filter_map(|row| row["unreconciled_micro_usd"].as_i64()).sum();
            assert_eq!(sum, held, "{list}");
        }
    };
    is(&gateway, false).await;
    let finance = session(&gateway, "finance").await;
    for query in ["", "?group_by=day,key", &format!("?virtual_key_id={}", key.id)] {
        let path = format!("/api/spend{query}");
        let spend = gateway.admin_as(&finance, Method::GET, &path, None).await.expect(200).json();
        assert_eq!(spend["total"]["unreconciled_micro_usd"], CAP, "a dollar counts once: {spend}");
    }
    let other = gateway.virtual_key(json!({})).await;
    let spend = gateway.get(&format!("/api/spend?virtual_key_id={}", other.id)).await;
    assert_eq!(spend["total"]["unreconciled_micro_usd"], 0);
    gateway.chat(&key, json!({ "max_tokens": 10 })).await.expect(402);

    for role in ["finance", "tenant_admin", "auditor"] {
        let session = if role == "finance" { finance.clone() } else { session(&gateway, role).await };
        let path = format!("/api/instances/{dead}/release");
        for (method, path) in [(Method::GET, "/api/instances"), (Method::POST, path.as_str())] {
            let refused = gateway.admin_as(&session, method, path, None).await;
            assert_eq!(code(&refused), (403, "forbidden".into()), "{role} {path}");
        }
    }

    let done = release(&gateway, &dead).await.expect(200).json();
    assert_eq!(done, json!({ "id": dead, "released_micro_usd": CAP + 700 + 600, "counters": 3 }));
    let again = release(&gateway, &dead).await.expect(200).json();
    assert_eq!(again, json!({ "id": dead, "released_micro_usd": 0, "counters": 0 }));
    assert_eq!(instance(&gateway, &dead).await["state"], "stopped");
    is(&gateway, true).await;
    eventually("the money to be usable again", || async {
        (gateway.chat(&key, json!({ "max_tokens": 10 })).await.status == 200).then_some(())
    })
    .await;
    let audited = gateway.get("/api/v1/audit?action=lease.released").await;
    let first = &audited["data"][1];
    assert_eq!((&first["object"], &first["category"]), (&dead.as_str().into(), &"configuration".into()));
    assert_eq!(first["details"], json!({ "counters": "3", "released_nano_usd": "2300000" }));
    gateway.stop(Duration::from_secs(5)).await;
}

fn run(data_dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keystile"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the command runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).expect("text")
}

async fn gateway_in(dir: &Path) -> App {
    let mut config = Config::default();
    config.server.data_dir = dir.to_owned();
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.server.admin_listen = config.server.listen;
    config.admin.email = Some(EMAIL.into());
    config.admin.password = Some(SecretText::new(PASSWORD));
    config.ledger.release_after = Duration::from_millis(1);
    App::start(config, StartOptions::default()).await.expect("a gateway")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_lists_and_releases_instances_of_a_running_gateway() {
    let dir = tempfile::tempdir().expect("a directory");
    let app = gateway_in(dir.path()).await;
    let key = keystile::domain::VirtualKeyId::generate();
    let dead = dies_with(&app.house.store, &[(key.into(), CAP)]).await;
    let own = app.house.ledger.id().to_string();
    let url = format!("http://{}", app.admin_address);
    let here = [("KEYSTILE_URL", url.as_str())];

    let listed: Value =
        serde_json::from_str(&said(&run(dir.path(), &here, &["instances", "list", "--json"]))).expect("JSON");
    let state = |id: &str| {
        let rows = listed.as_array().expect("rows");
        rows.iter().find(|each| each["id"] == id).map(|each| each["state"].clone())
    };
    assert_eq!((state(&own), state(&dead)), (Some("live".into()), Some("silent".into())), "{listed}");
    let table = said(&run(dir.path(), &[], &["instances", "list", "--url", &url]));
    assert!(table.starts_with("ID") && table.contains(&dead), "{table}");

    let refused = complaint(&run(dir.path(), &here, &["instances", "release", &own]));
    assert!(refused.contains("instance_alive"), "{refused}");
    let refused = complaint(&run(dir.path(), &here, &["instances", "release", "../x"]));
    assert!(refused.contains("ins_"), "{refused}");
    let done = said(&run(dir.path(), &here, &["instances", "release", &dead]));
    assert_eq!(done, "1000 µUSD released on 1 counters\n");

    // Elsewhere there is nothing to sign with: a token is needed, and it must be good.
    let nowhere = tempfile::tempdir().expect("a directory");
    let refused = complaint(&run(nowhere.path(), &here, &["instances", "list"]));
    assert!(refused.contains("KEYSTILE_ADMIN_TOKEN is not set"), "{refused}");
    let token = app.control.sign_owner_session(Duration::from_secs(600)).await.expect("a session");
    let with = |token| [here[0], ("KEYSTILE_ADMIN_TOKEN", token)];
    assert!(said(&run(nowhere.path(), &with(&token), &["instances", "list"])).contains(&own));
    let refused = complaint(&run(nowhere.path(), &with("canary.x.y"), &["instances", "list"]));
    assert!(
        refused.contains("does not take KEYSTILE_ADMIN_TOKEN") && !refused.contains("canary"),
        "{refused}"
    );
    let elsewhere = format!("http://0.0.0.0:{}", app.admin_address.port());
    let misdirected = [("KEYSTILE_URL", elsewhere.as_str())];
    let refused = complaint(&run(dir.path(), &misdirected, &["instances", "list"]));
    assert!(refused.contains("KEYSTILE_ADMIN_HOSTS"), "{refused}");

    app.stop(Duration::from_secs(5), std::future::pending()).await;
    let refused = complaint(&run(dir.path(), &here, &["instances", "list"]));
    assert!(refused.contains("is it running") && refused.contains(&url), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_what_is_wrong_and_no_secret() {
    let parent = tempfile::tempdir().expect("a directory");
    // Made by the gateway, and so closed to others.
    let dir = parent.path().join("data");
    let app = gateway_in(&dir).await;
    let url = format!("http://{}", app.admin_address);
    let here = [("KEYSTILE_URL", url.as_str())];
    let master_key = std::fs::read_to_string(dir.join("master.key")).expect("a key");
    let checked = |variables: &[(&str, &str)]| -> (bool, Value, String) {
        let output = run(&dir, variables, &["doctor", "--json"]);
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(!text.contains(master_key.trim()) && !text.contains(PASSWORD), "{text}");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(report["ok"].as_bool(), Some(output.status.success()), "{text}");
        (output.status.success(), report["checks"].clone(), text)
    };
    let state = |checks: &Value, name: &str| {
        let checks = checks.as_array().expect("checks");
        let found = checks.iter().find(|each| each["check"] == name);
        found.unwrap_or_else(|| panic!("{name} in {checks:?}"))["state"].as_str().expect("a state").to_owned()
    };

    let (healthy, checks, text) = checked(&here);
    assert!(healthy, "{text}");
    for name in [
        "data directory",
        "database",
        "master keys",
        "prices",
        "audit log",
        "instances",
        "journal",
        "gateway",
    ] {
        assert_eq!(state(&checks, name), "ok", "{text}");
    }
    assert!(text.contains(&app.house.ledger.id().to_string()), "{text}");

    let key = keystile::domain::VirtualKeyId::generate();
    let dead = dies_with(&app.house.store, &[(key.into(), CAP)]).await;
    let lines = said(&run(&dir, &here, &["doctor"]));
    let warned = lines.lines().find(|line| line.starts_with("warn  instances")).expect("a warning");
    assert!(warned.contains(&dead) && warned.contains("1000 µUSD"), "{warned}");

    let other = keystile::vault::KeyRing::generate().0.to_string();
    let (healthy, checks, text) = checked(&[here[0], ("PROVIDER_KEY_ENCRYPTION_KEY", &other)]);
    assert_eq!((healthy, state(&checks, "master keys").as_str()), (false, "fail"), "{text}");
    assert_eq!(state(&checks, "gateway"), "ok", "each check stands for itself");
    assert!(!text.contains(&other), "{text}");

    app.stop(Duration::from_secs(5), std::future::pending()).await;
    let (healthy, checks, text) = checked(&here);
    assert_eq!((healthy, state(&checks, "gateway").as_str()), (false, "fail"), "{text}");
}
