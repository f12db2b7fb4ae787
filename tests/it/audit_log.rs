//! The audit log as an operator has it: on several instances, with checkpoints elsewhere, and from the command line.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use keystile::{
    app::{Foundation, MasterKeys, egress_policy},
    config::{CheckpointSink, SecretText},
    control::{Control, Notify},
    domain::Actor,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Setup, Upstream, eventually};

/// A command beside the gateway.
fn run(gateway: &Setup, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystile"));
    command.args(arguments).arg("--data-dir").arg(&gateway.config.server.data_dir).env_clear();
    if let Some(url) = &gateway.config.database_url {
        command.env("KEYSTILE_DATABASE_URL", url.0.as_str());
    }
    if let [key, ..] = gateway.config.vault.master_keys.as_slice() {
        command.env("PROVIDER_KEY_ENCRYPTION_KEY", key.0.as_str());
    }
    command.output().expect("the command runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

async fn acts(gateway: &Gateway, count: usize) {
    for number in 0..count {
        gateway.create("/api/virtual-keys", json!({ "name": format!("k{number}") })).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_112_eight_control_planes_on_one_database_make_one_chain_without_gaps() {
    const EACH: i64 = 50;
    let gateway = Setup::new().await.start().await;
    let before = gateway.app.control.audit_head_seq().await.expect("a head");
    let mut planes = vec![gateway.app.control.clone()];
    for _ in 1..8 {
        let foundation =
            Foundation::open(&gateway.config, &gateway.clock, MasterKeys::MustExist).await.expect("open");
        let control =
            foundation.control(&gateway.config, egress_policy(&gateway.config), None, Notify::nobody());
        planes.push(control.expect("a control plane"));
    }
    let append = |control: Control, plane: usize| async move {
        for number in 0..EACH {
            let asked = json!({ "name": format!("{plane}-{number}") });
            let asked = serde_json::from_value(asked).expect("a virtual key");
            control.virtual_key_create(&Actor::Cli, asked, None).await.expect("made");
        }
    };
    let all = planes.iter().cloned().zip(0..).map(|(control, plane)| append(control, plane));
    futures_util::future::join_all(all).await;
    let verdict = gateway.app.control.audit_verify(None).await.expect("a verdict");
    assert_eq!((verdict.first_bad, verdict.good), (None, before + 8 * EACH));
    let lines = gateway
        .admin(Method::GET, "/api/v1/audit?format=jsonl&action=virtual_key.created", None)
        .await
        .expect(200);
    assert_eq!(lines.text().lines().count(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_in_a_file_show_that_an_older_database_was_restored() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let file = elsewhere.path().join("checkpoints.jsonl");
    let sink = CheckpointSink::File(file.clone());
    let gateway = Setup::new().await.with(|config| config.audit.checkpoint = Some(sink)).start().await;
    eventually("the checkpoint of the start", async || file.exists().then_some(())).await;
    acts(&gateway, 3).await;
    let Some(database) = gateway.config.database_file() else {
        println!("the rest is about SQLite's file");
        return;
    };
    let stopped = gateway.stop(Duration::from_secs(5)).await.again;
    let older = elsewhere.path().join("older.db");
    fs::copy(&database, &older).expect("copied");
    let lines = || fs::read_to_string(&file).expect("checkpoints").lines().count();
    assert_eq!(lines(), 2, "one at the start and one at the end");
    let checkpoints = file.to_str().expect("a path");
    let verified = said(&run(&stopped, &["audit", "verify", "--checkpoints", checkpoints]));
    assert!(verified.contains("2 checkpoints fit"), "{verified}");

    let gateway = stopped.start().await;
    acts(&gateway, 2).await;
    let stopped = gateway.stop(Duration::from_secs(5)).await.again;
    assert!(lines() >= 4);
    said(&run(&stopped, &["audit", "verify", "--checkpoints", checkpoints]));
    let printed: Value = serde_json::from_str(&said(&run(&stopped, &["audit", "checkpoint"]))).expect("JSON");
    let last: Value = fs::read_to_string(&file)
        .expect("checkpoints")
        .lines()
        .last()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .expect("a line");
    assert_eq!((&printed["seq"], &printed["mac"]), (&last["seq"], &last["mac"]));

    fs::copy(&older, &database).expect("restored");
    for log in ["db-wal", "db-shm"] {
        let _ = fs::remove_file(database.with_extension(log));
    }
    assert!(
        said(&run(&stopped, &["audit", "verify"])).contains("entries hold"),
        "a chain by itself does not tell"
    );
    let refused = run(&stopped, &["audit", "verify", "--checkpoints", checkpoints]);
    let told = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(
        !refused.status.success() && told.contains("the checkpoint of line ") && told.contains("restored"),
        "{told}"
    );
    let head = format!("{}:{}", last["seq"], last["mac"].as_str().expect("a MAC"));
    assert!(!run(&stopped, &["audit", "verify", "--expect-head", &head]).status.success());
    let refused = run(&stopped, &["audit", "verify", "--expect-head", &format!("0:{}", "a".repeat(64))]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("no head"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_lines_among_checkpoints_are_told_and_all_others_are_looked_at() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let file = elsewhere.path().join("checkpoints.jsonl");
    let path = file.to_str().expect("a path");
    let gateway = Setup::new().await.start().await;
    acts(&gateway, 1).await;
    let setup = gateway.another();
    let good = said(&run(&setup, &["audit", "checkpoint"]));
    let verify = |lines: &[&[u8]]| {
        fs::write(&file, lines.concat()).expect("written");
        let output = run(&setup, &["audit", "verify", "--checkpoints", path]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let good = good.as_bytes();
    let torn = &good[..good.len() / 2];
    let (fits, told, warned) = verify(&[good, torn, b"\n", good, b"\xff\0\0\n\n", good, torn]);
    assert!(fits && told.contains("3 checkpoints fit"), "{told}{warned}");
    assert!(warned.contains("3 lines") && warned.contains("line 2;"), "{warned}");
    let (_, _, warned) = verify(&[good]);
    assert!(!warned.contains("warning"), "{warned}");

    // One after the torn line that does not fit is found.
    let mut other: Value = serde_json::from_slice(good).expect("JSON");
    other["mac"] = json!("00".repeat(32));
    let other = format!("{other}\n");
    let (fits, told, _) = verify(&[torn, b"\n", good, other.as_bytes(), good]);
    assert!(!fits && told.contains("the checkpoint of line 3 does not fit"), "{told}");
    assert!(told.contains("1 checkpoints do not fit; 2 do"), "{told}");

    for nothing in [&b""[..], b"\n\n", torn, b"{\"seq\":1}\n"] {
        let (fits, told, warned) = verify(&[nothing]);
        assert!(!fits && warned.contains("no line of"), "{told}{warned}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_fails_holds_nothing_up_and_is_tried_again_and_redirects_are_not_followed() {
    let elsewhere = Upstream::always(Answer::json(200, &json!({}))).await;
    let location = format!("http://{}/taken", elsewhere.address);
    let sink = Upstream::queue([Answer::whole(307, &[("location", &location)], "")]).await;
    let url = CheckpointSink::Url(SecretText::new(format!("http://{}/audit?token=t", sink.address)));
    let gateway = Setup::new().await.with(|config| config.audit.checkpoint = Some(url)).start().await;
    sink.arrived(1).await;
    acts(&gateway, 2).await;
    let metric = async |name: &str| {
        let page = gateway.admin(Method::GET, "/metrics", None).await.expect(200);
        let line = page.text().lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()))
            .expect("a count")
    };
    eventually("the failure to be counted", async || {
        (metric("keystile_audit_checkpoint_failures_total").await >= 1).then_some(())
    })
    .await;
    assert_eq!(elsewhere.connections(), 0);
    sink.answer(Answer::json(200, &json!({})));
    let seen = sink.arrived(2).await;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/audit?token=t"));
    eventually("it to be counted", async || {
        (metric("keystile_audit_checkpoints_total").await >= 1).then_some(())
    })
    .await;
    acts(&gateway, 1).await;
    let control = gateway.app.control.clone();
    let newest = control.audit_head_seq().await.expect("a head");
    drop(control);
    gateway.stop(Duration::from_secs(5)).await;
    assert_eq!(sink.last().json()["seq"], newest, "the last one at shutdown");
    assert_eq!(sink.last().json().as_object().expect("an object").len(), 4);
}

#[tokio::test]
async fn old_entries_are_pruned_when_the_operator_says_so_and_the_rest_verifies() {
    let setup = Setup::new().await.at("2026-09-01T08:00:00Z");
    let setup = setup.with(|config| config.audit.retention = Some(Duration::from_secs(30 * 24 * 3600)));
    let gateway = setup.start().await;
    acts(&gateway, 3).await;
    let old = gateway.app.control.audit_head_seq().await.expect("a head");
    gateway.turn_clock("2026-11-09T00:00:00Z");
    let gateway = gateway.stop(Duration::from_secs(5)).await.again.start().await;
    let oldest = eventually("the old entries to go", || async {
        let lines = gateway.admin(Method::GET, "/api/v1/audit?format=jsonl", None).await.expect(200);
        let first: Value = serde_json::from_str(lines.text().lines().next()?).expect("JSON");
        first["seq"].as_i64().filter(|seq| *seq > 1)
    })
    .await;
    assert!(oldest > old, "{oldest}");
    let pruned = gateway.get("/api/v1/audit?action=audit.pruned").await;
    assert_eq!(pruned["data"].as_array().map(Vec::len), Some(1));
    let verdict = gateway.app.control.audit_verify(None).await.expect("a verdict");
    assert_eq!((verdict.first_bad, verdict.pruned), (None, oldest - 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_listed_filtered_and_exported_from_the_command_line() {
    let gateway = Setup::new().await.start().await;
    acts(&gateway, 3).await;
    let setup = gateway.another();
    let listed = said(&run(
        &setup,
        &[
            "events",
            "list",
            "--filter",
            "category=key_management,outcome=success",
            "--filter",
            "from=2026-01-01",
            "--limit",
            "2",
        ],
    ));
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let json = said(&run(&setup, &["audit", "list", "--filter", "action=virtual_key.created", "--json"]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    assert!(json[0]["request_id"].as_str().is_some_and(|id| id.starts_with("req_")));
    let lines = said(&run(&setup, &["audit", "export", "--from", "2026-01-01", "--to", "2999-01-01"]));
    let seqs: Vec<i64> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_i64().expect("a number"))
        .collect();
    assert!(seqs.len() >= 5 && seqs.iter().copied().eq(1..=seqs.len() as i64), "{seqs:?}");
    assert_eq!(said(&run(&setup, &["audit", "export", "--to", "2020-01-01"])), "");
    let refused = run(&setup, &["events", "list", "--filter", "catgory=identity"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("`category`") && told.contains("`object`"), "{told}");
}
