//! What the operator changes while the gateway runs: the policy pack, variables, allowed addresses. A valid configuration
//! is in force on the next request, an invalid one changes nothing and says why.

use std::{
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use keystile::{
    config::{AuditLogger, Config, EgressAllow, PackTarget, PolicyPack, SecretRef, SecretText},
    domain::ProviderSlug,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Setup, Upstream, VirtualKey, chat_ok, eventually,
    gateway::{ADMIN_EMAIL, ADMIN_PASSWORD},
    process::Process,
    usage,
};

fn answered() -> Answer {
    chat_ok("hello", &usage(3, 5))
}

fn target(id: &str, upstream: &Upstream, secret: SecretRef) -> PackTarget {
    PackTarget {
        id: id.to_owned(),
        provider: ProviderSlug::parse("openai").expect("a slug"),
        model: None,
        base_url: Some(upstream.base_url()),
        secret,
    }
}

fn env(value: &str) -> SecretRef {
    SecretRef::Env { name: "OPENAI_API_KEY".to_owned(), value: SecretText::new(value) }
}

fn store(name: &str) -> SecretRef {
    SecretRef::Store(name.to_owned())
}

/// `config` with a pack of these targets.
fn with_pack(config: &Config, targets: Vec<PackTarget>) -> Config {
    let pack = PolicyPack {
        file: "pack.yaml".into(),
        name: "production".to_owned(),
        version: "1".to_owned(),
        enabled: true,
        targets,
        audit: AuditLogger { retention: None, log_all_access: true },
    };
    let mut config = config.clone();
    config.policy.file = Some("pack.yaml".into());
    config.policy.pack = Some(Arc::new(pack));
    config
}

fn allow(config: &mut Config, upstream: &Upstream) {
    let (host, port) = (upstream.address.ip().to_string(), upstream.address.port());
    config.egress_allow.push(EgressAllow { host, port });
}

/// Which secret the last request at `upstream` came with.
fn secret_at(upstream: &Upstream) -> String {
    upstream.last().header("authorization").expect("a credential").to_owned()
}

async fn audited(gateway: &Gateway, action: &str) -> Vec<Value> {
    let page = gateway.get(&format!("/api/v1/audit?limit=100&action={action}")).await;
    page["data"].as_array().expect("entries").clone()
}

async fn variable(gateway: &Gateway, name: &str, value: &str) -> String {
    let asked = json!({"name": name, "value": value, "sensitive": true});
    let made = gateway.create("/v1/config-variables", asked).await;
    format!("/v1/config-variables/{}", made["id"].as_str().expect("an id"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_variable_is_what_the_provider_sees_on_the_next_request() {
    let upstream = Upstream::always(answered()).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let path = variable(&gateway, "OPENAI", "sk-first").await;
    let config = with_pack(&gateway.config, vec![target("main", &upstream, store("OPENAI"))]);
    gateway.app.reload(config).await.expect("reloaded");
    let key = gateway.virtual_key(json!({})).await;
    gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(secret_at(&upstream), "Bearer sk-first");

    gateway.patch(&path, json!({"value": "sk-second"})).await;
    gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(secret_at(&upstream), "Bearer sk-second");

    // A value that cannot be a key changes nothing.
    let unfit = json!({"value": "not a key"});
    let refused = gateway.admin(Method::PATCH, &path, Some(&unfit)).await.expect(400);
    assert_eq!(refused.json()["error"]["code"], "unfit_variable");
    gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(secret_at(&upstream), "Bearer sk-second");

    // Every access is counted, by key; the entry has no secret.
    gateway.app.write_key_uses().await;
    let used = audited(&gateway, "provider_key.used").await;
    assert_eq!(used.len(), 1);
    assert_eq!(used[0]["details"]["openings"], "3");
    gateway.app.write_key_uses().await;
    assert_eq!(audited(&gateway, "provider_key.used").await.len(), 1, "nothing was used since");

    // A restart resolves it again and changes nothing.
    let mut again = gateway.stop(std::time::Duration::from_secs(5)).await.again;
    again.config = with_pack(&again.config, vec![target("main", &upstream, store("OPENAI"))]);
    let gateway = again.start().await;
    gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(secret_at(&upstream), "Bearer sk-second");
    assert_eq!(audited(&gateway, "provider_key.created").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_or_reload_with_a_reference_that_leads_nowhere_fails_as_a_whole() {
    let upstream = Upstream::always(answered()).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let good = with_pack(&gateway.config, vec![target("main", &upstream, env("sk-good"))]);
    gateway.app.reload(good.clone()).await.expect("reloaded");
    let key = gateway.virtual_key(json!({})).await;
    let bad = with_pack(
        &gateway.config,
        vec![target("main", &upstream, env("sk-bad")), target("other", &upstream, store("NOBODY"))],
    );
    let refused = gateway.app.reload(bad.clone()).await.expect_err("nothing there").to_string();
    assert!(refused.contains("target `other`: there is no config variable `NOBODY`"), "{refused}");
    gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(secret_at(&upstream), "Bearer sk-good");
    let failed = audited(&gateway, "configuration.reloaded").await;
    assert_eq!((&failed[0]["outcome"], &failed[1]["outcome"]), (&json!("failure"), &json!("success")));
    assert_eq!(audited(&gateway, "reference.resolved").await[0]["outcome"], "failure");
    let status = gateway.get("/api/gateway/status").await;
    assert_eq!(status["last_reload"]["outcome"], "failure");
    assert_eq!(status["targets"].as_array().map(Vec::len), Some(1), "the old pack is in force");

    let mut again = gateway.stop(std::time::Duration::from_secs(5)).await.again;
    again.config = bad;
    let error = again.another_try().try_start().await.err().expect("it does not start");
    assert!(matches!(error, keystile::app::StartError::References { .. }), "{error}");
    again.config = good;
    let gateway = again.start().await;
    gateway.chat(&key, json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_traffic_fail_no_request() {
    let (one, two) = (Upstream::always(answered()).await, Upstream::always(answered()).await);
    let gateway = Setup::new().await.allow(&one).start().await;
    // The second provider's address comes with the configuration that uses it, and goes with it.
    let first = with_pack(&gateway.config, vec![target("main", &one, env("sk-one"))]);
    let mut second = with_pack(&gateway.config, vec![target("main", &two, env("sk-two"))]);
    second.egress_allow.clear();
    allow(&mut second, &two);
    gateway.app.reload(first.clone()).await.expect("reloaded");
    let key = gateway.virtual_key(json!({})).await;

    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let traffic = async |key: &VirtualKey| {
        while !stop.load(Ordering::Relaxed) {
            gateway.chat(key, json!({})).await.expect(200);
            sent.fetch_add(1, Ordering::Relaxed);
        }
    };
    let reloads = async {
        for round in 0..10 {
            let config = if round % 2 == 0 { &second } else { &first };
            let before = sent.load(Ordering::Relaxed);
            gateway.app.reload(config.clone()).await.expect("reloaded");
            eventually("requests between reloads", || async {
                (sent.load(Ordering::Relaxed) >= before + 4).then_some(())
            })
            .await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(traffic(&key), traffic(&key), traffic(&key), reloads);
    assert!(one.count() > 0 && two.count() > 0);
    // Each provider saw only the secret that is meant for it.
    for (upstream, secret) in [(&one, "Bearer sk-one"), (&two, "Bearer sk-two")] {
        assert!(upstream.seen().iter().all(|seen| seen.header("authorization") == Some(secret)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_more_allowed_is_not_called_any_more() {
    let upstream = Upstream::always(answered()).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway.chat(&key, json!({})).await.expect(200);
    let mut closed = gateway.config.clone();
    closed.egress_allow.clear();
    closed.upstream.max_attempts = 3;
    let report = gateway.app.reload(closed).await.expect("reloaded");
    assert_eq!(report.needs_restart, ["upstream.max_attempts"]);
    assert!(gateway.chat(&key, json!({})).await.status >= 500);
    assert_eq!(upstream.count(), 1);
    gateway.app.reload(gateway.config.clone()).await.expect("reloaded");
    gateway.chat(&key, json!({})).await.expect(200);
    let status = gateway.get("/api/gateway/status").await;
    assert_eq!(status["needs_restart"], json!([]));
}

const PACK: &str = "\
pack: {name: production, version: '1'}
providers:
  targets:
    - id: main
      provider: openai
      base_url: BASE
      secret_key_ref: {env: TEAM_OPENAI_KEY}
";

fn keystile(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystile"));
    command.args(arguments).arg("--data-dir").arg(data).env_clear().output().expect("the command runs")
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text").trim().to_owned()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_runs_reloads_and_asks_a_gateway_from_the_command_line() {
    let upstream = Upstream::always(answered()).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("pack.yaml"));
    let text = PACK.replace("BASE", &upstream.base_url());
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystile"));
        command
            .args([
                "gateway",
                "run",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--policy-config",
            ])
            .arg(&file)
            .arg("--data-dir")
            .arg(&data)
            .env_clear()
            .env("KEYSTILE_EGRESS_ALLOW", upstream.address.to_string())
            .env("KEYSTILE_ADMIN_EMAIL", ADMIN_EMAIL)
            .env("KEYSTILE_ADMIN_PASSWORD", ADMIN_PASSWORD)
            .envs(variables.iter().copied());
        command
    };

    // What is wrong with the file or the environment stops it before it opens anything.
    write(&text);
    let said = refused(&run(&[]).output().expect("the command runs"));
    assert!(
        said.contains("line 7: target `main` takes its key from the variable `TEAM_OPENAI_KEY`"),
        "{said}"
    );
    write(&text.replace("provider:", "providr:"));
    let variables = [("TEAM_OPENAI_KEY", "sk-canary-from-the-environment")];
    let said = refused(&run(&variables).output().expect("the command runs"));
    assert!(said.contains("line 5") && said.contains("providr"), "{said}");
    assert!(!data.join("keystile.db").exists());

    write(&text);
    let gateway = Process::start(run(&variables)).await;
    let key = out(&keystile(&data, &["keys", "create", "team"]));
    let key = VirtualKey { id: String::new(), key };
    gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(secret_at(&upstream), "Bearer sk-canary-from-the-environment");

    let url = gateway.admin_url();
    let asked = |arguments: &[&str]| keystile(&data, &[arguments, &["--gateway-url", &url]].concat());
    let status =
        || -> Value { serde_json::from_str(&out(&asked(&["gateway", "status", "--json"]))).expect("JSON") };
    let before = status();
    assert_eq!(before["pack"]["name"], "production");
    assert_eq!(
        (&before["targets"][0]["reference"], &before["targets"][0]["resolved"]),
        (&json!("env:TEAM_OPENAI_KEY"), &json!(true))
    );
    let setting = |name: &str| -> Value {
        let settings = before["settings"].as_array().expect("settings");
        settings.iter().find(|setting| setting["name"] == name).cloned().expect("a setting")
    };
    assert_eq!(setting("policy.file")["origin"], "flag `--policy-config`");
    assert_eq!(setting("egress.allow")["origin"], "variable `KEYSTILE_EGRESS_ALLOW`");
    assert_eq!(
        setting("server.drain_timeout"),
        json!({"name": "server.drain_timeout", "value": "30s", "origin": "default"})
    );
    let table = out(&asked(&["gateway", "status"]));
    assert!(table.contains("policy pack production 1 · enabled") && !table.contains("canary"), "{table}");
    let said = refused(&asked(&["gateway", "status", "--name", "staging"]));
    assert!(said.contains("runs the policy pack `production`, not `staging`"), "{said}");

    // A broken file: the old one goes on, and both ways of asking say why.
    write(&text.replace("      provider", "      provdier"));
    gateway.hang_up();
    let last = eventually("the reload to be refused", || async {
        Some(status()).filter(|now| !now["last_reload"].is_null())
    })
    .await;
    assert_eq!(last["last_reload"]["outcome"], "failure");
    assert!(last["last_reload"]["reason"].as_str().expect("a reason").contains("line 5"), "{last}");
    let said = refused(&asked(&["gateway", "reload"]));
    assert!(said.contains("line 5") && said.contains("the old configuration stays in force"), "{said}");
    gateway.chat(&key, json!({})).await.expect(200);

    // A good one, with another key that is not for this model.
    let more = "    - id: second\n      provider: openai\n      model: gpt-9\n      base_url: BASE\n      secret_key_ref: {env: TEAM_OPENAI_KEY}\n";
    write(&format!("{text}{}", more.replace("BASE", &upstream.base_url())));
    let said = out(&asked(&["gateway", "reload", "--name", "production"]));
    assert!(said.starts_with("reloaded: 1 keys added, 0 changed, 0 removed"), "{said}");
    assert_eq!(status()["targets"].as_array().map(Vec::len), Some(2));
    gateway.chat(&key, json!({})).await.expect(200);
    write(&text);
    gateway.hang_up();
    eventually("the second target to go", || async {
        (status()["targets"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    assert!(!gateway.said().contains("canary"), "{}", gateway.said());
    let events =
        out(&keystile(&data, &["events", "list", "--filter", "action=configuration.reloaded", "--json"]));
    assert!(
        events.matches("\"failure\"").count() == 2 && events.matches("\"success\"").count() == 2,
        "{events}"
    );
}
