//! The commands beside a running gateway: what they print, and that it is in force there.

use std::process::{Command, Output};

use keystile::{
    app::{App, StartOptions},
    config::Config,
};
use serde_json::Value;

fn run(data_dir: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keystile"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .env_clear()
        .output()
        .expect("the command runs")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_make_list_and_end_keys_beside_a_running_gateway() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.server.data_dir = dir.path().to_owned();
    config.server.listen = "127.0.0.1:0".parse().expect("an address");
    config.server.admin_listen = config.server.listen;
    let app = App::start(config, StartOptions::default()).await.expect("a gateway");

    let key = text(&run(dir.path(), &["keys", "create", "team", "--cap", "5000", "--window", "monthly"]));
    assert!(key.starts_with("ks_") && key.len() == 65, "the key alone is on standard output");
    let listed: Value =
        serde_json::from_str(&text(&run(dir.path(), &["keys", "list", "--json"]))).expect("JSON");
    assert_eq!((&listed[0]["name"], &listed[0]["spend_cap_micro_usd"]), (&"team".into(), &5000.into()));
    assert!(!listed.to_string().contains(&key), "shown once");
    assert!(text(&run(dir.path(), &["spend"])).starts_with("DAY"));
    let spent: Value = serde_json::from_str(&text(&run(dir.path(), &["spend", "--json"]))).expect("JSON");
    assert_eq!((&spent["data"], &spent["total"]["requests"]), (&Value::Array(vec![]), &0.into()));
    assert_eq!(text(&run(dir.path(), &["spend", "--csv", "--group-by", "day"])).lines().count(), 1);
    assert!(text(&run(dir.path(), &["audit", "verify"])).contains("entries hold"));
    let made =
        text(&run(dir.path(), &["events", "list", "--filter", "action=virtual_key.created", "--json"]));
    assert!(made.contains("\"cli\""), "{made}");

    let budget =
        text(&run(dir.path(), &["budgets", "create", "all of us", "--cap", "900", "--window", "weekly"]));
    text(&run(dir.path(), &["keys", "create", "member", "--budget", &budget]));
    let budgets: Value =
        serde_json::from_str(&text(&run(dir.path(), &["budgets", "list", "--json"]))).expect("JSON");
    assert_eq!(budgets[0]["id"], budget.as_str());
    assert_eq!((&budgets[0]["cap_micro_usd"], &budgets[0]["virtual_keys"]), (&900.into(), &1.into()));
    assert!(text(&run(dir.path(), &["budgets", "list"])).contains("all of us"));
    let kept = run(dir.path(), &["budgets", "delete", &budget]);
    assert!(String::from_utf8_lossy(&kept.stderr).contains("1 virtual key has joined"));

    let id = listed[0]["id"].as_str().expect("an id");
    text(&run(dir.path(), &["keys", "revoke", id]));
    let table = text(&run(dir.path(), &["keys", "list"]));
    assert!(table.contains("revoked"), "{table}");
    let second = run(dir.path(), &["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    assert!(!second.status.success(), "one gateway a data directory");
    assert!(String::from_utf8_lossy(&second.stderr).contains("held by another instance"));
    app.stop(std::time::Duration::from_secs(1), std::future::pending()).await;
}

#[test]
fn a_command_without_a_database_says_where_it_looked() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = run(dir.path(), &["keys", "list"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no database"));
    let key = text(
        &Command::new(env!("CARGO_BIN_EXE_keystile"))
            .args(["master-key", "generate"])
            .output()
            .expect("runs"),
    );
    assert_eq!(key.len(), 44, "a Fernet key in base64");
}
