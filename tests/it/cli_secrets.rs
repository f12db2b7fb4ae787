//! The commands that take secrets, prices and single requests: what they print, what they refuse, and that no secret is
//! ever printed or taken as an argument.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, Setup, Upstream, chat_ok, error, eventually, usage};

const SECRET: &str = "sk-typed-at-the-gate-0123456789";
const PASSWORD: &str = "stile-latch-hinge-post-92";

/// A running gateway and the commands beside it, on the same data.
struct Beside {
    gateway: Gateway,
    upstream: Upstream,
}

/// What a command said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text").trim().to_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// What is on standard output, of a command that did its work.
    #[track_caller]
    fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// That it was refused for this reason and printed nothing for programs to read.
    #[track_caller]
    fn refused(self, code: i32, why: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{}", self.err);
        assert!(self.err.contains(why), "`{why}` is not in: {}", self.err);
    }
}

impl Beside {
    /// In front of a provider that answers each chat with a hundred tokens for fifty.
    async fn a_gateway() -> Self {
        let upstream = Upstream::always(chat_ok("hi", &usage(100, 50))).await;
        let own_files = |config: &mut keystile::config::Config| {
            config.database_url = None;
            config.vault.master_keys.clear();
        };
        let gateway = Setup::new().await.allow(&upstream).with(own_files).start().await;
        Self { gateway, upstream }
    }

    /// Runs a command with `input` on its standard input. No secret may come back on either output.
    fn run(&self, arguments: &[&str], input: &str) -> Said {
        self.run_in(&[], arguments, input)
    }

    fn run_in(&self, environment: &[(&str, &str)], arguments: &[&str], input: &str) -> Said {
        let mut child = Command::new(env!("CARGO_BIN_EXE_keystile"))
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.gateway.config.server.data_dir)
            .env_clear()
            .env("KEYSTILE_EGRESS_ALLOW", self.upstream.address.to_string())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        // A command that refuses its arguments has gone before it reads.
        let _ = child.stdin.take().expect("an input").write_all(input.as_bytes());
        let said = Said::of(&child.wait_with_output().expect("the command ends"));
        for secret in [SECRET, PASSWORD] {
            assert!(!said.out.contains(secret), "{arguments:?} prints a secret");
            // The parser of arguments quotes what it refuses; then the secret stood among them already.
            let given = arguments.iter().any(|argument| argument.contains(secret));
            assert!(given || !said.err.contains(secret), "{arguments:?} prints a secret");
        }
        said
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments, "").done()).expect("JSON")
    }

    /// Stores a key and answers its id.
    fn provider_key(&self) -> String {
        let base_url = self.upstream.base_url();
        let create = ["provider-keys", "create", "openai", "--name", "main", "--base-url", &base_url];
        self.run(&create, &format!("{SECRET}\nwhat follows is not the secret\n")).done()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_key_that_was_piped_in_is_used_listed_changed_and_deleted() {
    let beside = Beside::a_gateway().await;
    let id = beside.provider_key();
    assert!(id.starts_with("pk_") && id.lines().count() == 1, "the id alone is on standard output: {id}");

    let listed = beside.json(&["provider-keys", "list", "--json"]);
    let key = &listed[0];
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&key["id"], &key["provider"], &key["key_name"]),
        (&json!(id), &json!("openai"), &json!("main"))
    );
    let fingerprint = key["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let table = beside.run(&["provider-keys", "list"], "").done();
    assert!(table.starts_with("ID") && table.contains(&id) && table.contains(&fingerprint), "{table}");

    let virtual_key = beside.gateway.virtual_key(json!({})).await;
    beside.gateway.chat(&virtual_key, json!({})).await.expect(200);
    assert_eq!(beside.upstream.last().header("authorization"), Some(format!("Bearer {SECRET}").as_str()));

    let update = ["provider-keys", "update", &id, "--weight", "7", "--active", "false"];
    assert!(beside.run(&update, "").done().contains("false"));
    let key = &beside.json(&["provider-keys", "list", "--json"])[0];
    assert_eq!((&key["weight"], &key["is_active"]), (&json!(7), &json!(false)));
    assert_eq!(key["fingerprint"], json!(fingerprint), "the secret is still the same");
    let renewed = format!("{SECRET}-renewed");
    beside.run(&["provider-keys", "update", &id, "--secret"], &renewed).done();
    assert_ne!(beside.json(&["provider-keys", "list", "--json"])[0]["fingerprint"], json!(fingerprint));

    assert_eq!(beside.run(&["provider-keys", "delete", &id], "").done(), "");
    assert_eq!(beside.json(&["provider-keys", "list", "--json"]), json!([]));
    beside.run(&["provider-keys", "delete", &id], "").refused(1, "there is no such provider key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_key_that_cannot_be_used_is_not_stored() {
    let beside = Beside::a_gateway().await;
    let create = |more: &[&'static str]| [&["provider-keys", "create"], more].concat();
    let cases: [(&[&str], &str, &str); 6] = [
        (&["openai", "--name", "a"], "", "`api_key`"),
        (&["openai", "--name", "a"], "two words\n", "visible ASCII"),
        (&["openai", "--name", "a"], "sk-12***89\n", "masked preview"),
        (&["openai", "--name", ""], SECRET, "`key_name`"),
        (&["nobody-knows-it", "--name", "a"], SECRET, "base_url"),
        (&["openai", "--name", "a", "--base-url", "http://192.0.2.7:9/v1"], SECRET, "192.0.2.7"),
    ];
    for (arguments, input, why) in cases {
        beside.run(&create(arguments), input).refused(1, why);
    }
    // Every process on the machine could read a secret among the arguments: there is no place for one.
    beside.run(&create(&["openai", SECRET, "--name", "a"]), "").refused(2, "unexpected argument");
    beside.run(&create(&["openai", "--name", "a", "--secret", SECRET]), "").refused(2, "unexpected argument");
    beside
        .run(&["provider-keys", "update", "pk_x", "--secret", SECRET], "")
        .refused(2, "unexpected argument");
    let moved = ["provider-keys", "update", "pk_x", "--base-url", "https://example.com"];
    beside.run(&moved, "").refused(2, "--secret");
    beside.run(&["provider-keys", "update", "pk_x", "--weight", "1"], "").refused(1, "provider key");
    assert_eq!(beside.json(&["provider-keys", "list", "--json"]), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_staged_secret_is_tried_by_the_gateway_and_takes_the_present_ones_place() {
    let beside = Beside::a_gateway().await;
    let id = beside.provider_key();
    let next = format!("{SECRET}-next");
    let knows = |secret: &str| {
        let known = format!("Bearer {secret}");
        beside.upstream.rescript(move |seen, _| match seen.header("authorization") {
            Some(given) if given == known => chat_ok("hi", &usage(100, 50)),
            _ => error(401, "no such key"),
        });
    };
    let url = format!("http://{}", beside.gateway.app.admin_address);
    let verify = ["provider-keys", "verify", &id, "--url", &url];
    let promote = ["provider-keys", "promote", &id];

    let virtual_key = beside.gateway.virtual_key(json!({})).await;
    let answered = async || beside.gateway.chat(&virtual_key, json!({})).await.status;
    knows(SECRET);
    assert_eq!(answered().await, 200, "the present one is used, and remembered");

    let staged = beside.run(&["provider-keys", "stage", &id], &next).done();
    assert!(!staged.is_empty() && staged.lines().count() == 1, "the fingerprint alone: {staged}");
    beside.run(&promote, "").refused(1, "verif");
    let said = beside.run(&verify, "");
    assert_eq!((said.code, said.err.as_str()), (Some(1), ""));
    assert!(said.out.contains("401"), "{}", said.out);
    beside.run(&promote, "").refused(1, "verif");

    assert_eq!(answered().await, 200, "nobody is sent the staged one");

    knows(&next);
    assert!(beside.run(&verify, "").done().contains("takes the staged secret (200)"));
    assert!(beside.run(&promote, "").done().contains(&staged), "the new fingerprint is shown");
    eventually("the gateway to use the new secret", || async { (answered().await == 200).then_some(()) })
        .await;

    beside.run(&verify, "").refused(1, "staged");
    beside.run(&["provider-keys", "stage", &id], SECRET).done();
    assert_eq!(beside.run(&["provider-keys", "unstage", &id], "").done(), "");
    beside.run(&["provider-keys", "promote", &id, "--unverified"], "").refused(1, "staged");
    let elsewhere = ["provider-keys", "verify", &id, "--url", "http://127.0.0.1:1"];
    beside.run(&elsewhere, "").refused(1, "no gateway answers");
    beside.run(&["provider-keys", "verify", "../x", "--url", &url], "").refused(1, "is not an id");
    beside.run(&["provider-keys", "stage", &id], "").refused(1, "`api_key`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_token_is_printed_once_listed_switched_rotated_and_deleted() {
    let beside = Beside::a_gateway().await;
    let made = beside.run(&["service-tokens", "create", "indexer"], "");
    assert!(made.err.contains("shown this once"), "{}", made.err);
    let token = made.done();
    assert!(token.starts_with("kst_") && token.lines().count() == 1, "the token alone: {token}");
    let listed = beside.json(&["service-tokens", "list", "--json"]);
    let id = listed[0]["id"].as_str().expect("an id");
    assert_eq!((&listed[0]["service_name"], &listed[0]["is_active"]), (&json!("indexer"), &json!(true)));
    assert!(!listed.to_string().contains(&token));

    let fetch = async |token: &str| {
        let url = format!("http://{}/api/v1/keys/openai", beside.gateway.app.admin_address);
        let request = crate::support::gateway::http_client().get(url).header("x-service-token", token);
        beside.gateway.send(request).await.status
    };
    // Retrieval is off: a live token is told so, any other is no token.
    assert_eq!(fetch(&token).await, 403);
    assert_eq!(beside.run(&["service-tokens", "deactivate", id], "").done(), "");
    assert_eq!(fetch(&token).await, 401);
    beside.run(&["service-tokens", "activate", id], "").done();
    let renewed = beside.run(&["service-tokens", "rotate", id], "").done();
    assert_eq!((fetch(&token).await, fetch(&renewed).await), (401, 403));
    let next = beside.run(&["service-tokens", "rotate", id, "--grace", "600"], "").done();
    assert_eq!((fetch(&renewed).await, fetch(&next).await), (403, 403));
    let table = beside.run(&["service-tokens", "list"], "").done();
    assert!(table.starts_with("ID") && table.contains(id) && table.contains(&next[..16]), "{table}");
    beside.run(&["service-tokens", "delete", id], "").done();
    assert_eq!(fetch(&next).await, 401);
    assert_eq!(beside.json(&["service-tokens", "list", "--json"]), json!([]));
    beside.run(&["service-tokens", "delete", id], "").refused(1, "there is no such service token");
    beside.run(&["service-tokens", "create", ""], "").refused(1, "`service_name`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_that_were_piped_in_are_listed_and_in_force_in_the_gateway() {
    let beside = Beside::a_gateway().await;
    let model = "openai/gpt-4o-mini";
    let asked =
        json!({ "prices": [{ "model": model, "input": 7_000_000, "output": 11_000_000 }] }).to_string();
    let set: Value = serde_json::from_str(&beside.run(&["prices", "set"], &asked).done()).expect("JSON");
    assert_eq!((&set["prices"][0]["input"], &set["prices"][0]["model"]), (&json!(7_000_000), &json!(model)));

    let listed = beside.json(&["prices", "list", "--model", model, "--json"]);
    assert_eq!(listed["prices"], set["prices"], "one model, as it was set");
    let table = beside.run(&["prices", "list", "--model", model], "").done();
    let row = table.lines().last().expect("a row");
    assert!(table.starts_with("MODEL") && table.lines().count() == 2, "{table}");
    assert!(row.starts_with(model) && row.contains("7000000") && row.contains("11000000"), "{table}");
    assert!(beside.run(&["prices", "list"], "").done().lines().count() > 2, "the catalogue's as well");

    eventually("the price to be in force", || async {
        let prices = beside.gateway.get(&format!("/api/prices?model={model}")).await;
        (prices["prices"] == set["prices"]).then_some(())
    })
    .await;

    for (input, why) in [
        ("", "EOF"),
        ("not json", "expected"),
        ("{\"prices\":[]}", "1 to 2000 entries"),
        (&json!({ "prices": [{ "model": model, "input": -1, "output": 1 }] }).to_string(), "input"),
        (&json!({ "prices": [{ "model": "gpt", "input": 1, "output": 1 }] }).to_string(), "provider/model"),
        (&json!({ "prices": [{ "model": model, "inptu": 1, "output": 1 }] }).to_string(), "inptu"),
    ] {
        beside.run(&["prices", "set"], input).refused(1, why);
    }
    assert_eq!(beside.json(&["prices", "list", "--model", model, "--json"])["prices"], set["prices"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_explained_as_the_admin_plane_explains_it() {
    let beside = Beside::a_gateway().await;
    beside.provider_key();
    let key = beside.gateway.virtual_key(json!({})).await;
    beside.gateway.chat(&key, json!({})).await.expect(200);
    let row = beside.gateway.only_usage().await;
    let id = row["request_id"].as_str().expect("an id");

    let told = beside.json(&["usage", "explain", id, "--json"]);
    assert_eq!(told, beside.gateway.get(&format!("/api/usage/{id}/explain")).await);
    let text = beside.run(&["usage", "explain", id], "").done();
    let (lines, attempts) = text.split_once("\n\n").expect("two tables");
    let cells = |table: &str| -> Vec<Vec<String>> {
        table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    // 100 tokens at 0.15 and 50 at 0.6 micro-USD.
    assert_eq!(cells(lines)[1], ["input", "100", "150000", "15"]);
    assert_eq!(cells(lines)[2], ["output", "50", "600000", "30"]);
    let total = cells(lines)[3].clone();
    assert_eq!((total[0].as_str(), total.last().map(String::as_str)), ("total", Some("45")));
    let attempt = &cells(attempts)[1];
    assert_eq!((attempt[0].as_str(), attempt[1].as_str()), ("openai", "gpt-4o-mini"));
    assert_eq!((attempt[3].as_str(), attempt[4].as_str()), ("200", "ok"));

    let nobody = format!("req_{}", "0".repeat(32));
    for wrong in [nobody.as_str(), "req_1", "x"] {
        beside.run(&["usage", "explain", wrong], "").refused(1, "there is no such request");
    }
    beside.run(&["usage", "explain"], "").refused(2, "<REQUEST>");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_whose_password_was_piped_in_may_log_in() {
    let beside = Beside::a_gateway().await;
    let log_in = async |email: &str| {
        let asked = json!({ "email": email, "password": PASSWORD });
        beside.gateway.admin_as("", Method::POST, "/api/auth/login", Some(&asked)).await
    };
    let create =
        |email: &'static str, more: &[&'static str]| [&["admin", "create", "--email", email], more].concat();

    let id = beside.run(&create("typed@example.com", &[]), &format!("{PASSWORD}\n")).done();
    assert!(id.starts_with("usr_") && id.lines().count() == 1, "the id alone is on standard output: {id}");
    let session = log_in("typed@example.com").await.expect(200).json();
    let session = session["token"].as_str().expect("a token");
    assert_eq!(beside.gateway.admin_as(session, Method::GET, "/api/users", None).await.status, 200);

    let variable = [("KEYSTILE_ADMIN_PASSWORD", PASSWORD)];
    let auditor = create("set@example.com", &["--role", "auditor"]);
    beside.run_in(&variable, &auditor, "").done();
    let session = log_in("set@example.com").await.expect(200).json();
    let session = session["token"].as_str().expect("a token");
    assert_eq!(beside.gateway.admin_as(session, Method::GET, "/api/users", None).await.status, 403);

    beside.run(&create("typed@example.com", &[]), PASSWORD).refused(1, "exists already");
    beside.run(&create("short@example.com", &[]), "too short\n").refused(1, "12");
    beside.run(&create("none@example.com", &[]), "").refused(1, "12");
    beside.run(&create("no address", &[]), PASSWORD).refused(1, "email");
    beside.run(&create("x@example.com", &["--tenant", "tnt_1"]), PASSWORD).refused(1, "no such tenant");
    beside.run(&create("x@example.com", &["--role", "king"]), PASSWORD).refused(2, "tenant_admin");
    beside.run(&create("x@example.com", &["--password", PASSWORD]), "").refused(2, "unexpected argument");
    log_in("x@example.com").await.expect(401);
}
