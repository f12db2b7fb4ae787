//! Master keys come and go while requests are served: AT-053. And what other processes see of the keys: AT-092, AT-093.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use keystile::{
    config::{Config, MasterKeyText},
    domain::{DispatchGrant, ModelRef},
    store::TenantScope,
    vault::{KeyRing, SealedRow, load_key_file, replace_key_file},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    Gateway, Setup, Upstream, VirtualKey, chat_ok, eventually, gateway::chat_request, process::Process, usage,
};

/// Provider keys that take part.
const KEYS: usize = 150;
/// Requests under way at a time.
const AT_ONCE: usize = 24;

/// A gateway with a key file of its own, many provider keys, and one virtual key.
async fn a_house(upstream: &Upstream) -> (Gateway, VirtualKey, Vec<String>) {
    let own_files = |config: &mut Config| {
        config.database_url = None;
        config.vault.master_keys.clear();
    };
    let gateway = Setup::new().await.allow(upstream).with(own_files).start().await;
    let mut keys = Vec::with_capacity(KEYS);
    for number in 0..KEYS {
        let more = json!({ "key_name": format!("key {number}"), "api_key": format!("sk-first-{number:04}") });
        keys.push(gateway.provider_key_with("openai", upstream, more).await);
    }
    let key = gateway.virtual_key(json!({})).await;
    (gateway, key, keys)
}

fn key_file(config: &Config) -> PathBuf {
    config.server.data_dir.join("master.key")
}

fn kids(config: &Config) -> Vec<String> {
    let keys = load_key_file(&key_file(config)).expect("readable").expect("a file");
    KeyRing::from_texts(&keys).expect("keys").kids().map(str::to_owned).collect()
}

fn command(config: &Config, master_keys: &[MasterKeyText], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystile"));
    command.args(arguments).arg("--data-dir").arg(&config.server.data_dir).env_clear().stdin(Stdio::null());
    if let Some(url) = &config.database_url {
        command.env("KEYSTILE_DATABASE_URL", url.0.as_str());
    }
    if !master_keys.is_empty() {
        let texts: Vec<&str> = master_keys.iter().map(|key| key.0.as_str()).collect();
        command.env("PROVIDER_KEY_ENCRYPTION_KEY", texts.join(","));
    }
    if !config.vault.secret_keys.is_empty() {
        let texts: Vec<&str> = config.vault.secret_keys.iter().map(|key| key.0.as_str()).collect();
        command.env("KEYSTILE_SECRET_ENCRYPTION_KEY", texts.join(","));
    }
    command
}

/// Runs a command beside the gateway, which goes on meanwhile. No key may come back on either output.
async fn run(
    config: &Config,
    master_keys: &[MasterKeyText],
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let mut command = command(config, master_keys, arguments);
    let output: Output =
        tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let own = load_key_file(&key_file(config)).ok().flatten().unwrap_or_default();
    for key in own.iter().chain(master_keys) {
        assert!(!out.contains(key.0.as_str()) && !err.contains(key.0.as_str()), "{arguments:?} prints a key");
    }
    (output.status.code(), out, err)
}

/// How many rows that only a master key seals stand under each key.
async fn counts(gateway: &Gateway) -> BTreeMap<String, u64> {
    gateway.app.house.store.sealed_counts().await.expect("counts").master
}

/// How many config variables stand under each key.
async fn variables(gateway: &Gateway) -> BTreeMap<String, u64> {
    gateway.app.house.store.sealed_counts().await.expect("counts").variables
}

/// Chats without a pause from many sides until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Load {
    fn of(gateway: &Gateway, key: &VirtualKey) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let client = crate::support::gateway::http_client();
        let url = format!("http://{}/v1/chat/completions", gateway.app.address);
        for _ in 0..AT_ONCE {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            let (client, url, key) = (client.clone(), url.clone(), key.key.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let asked =
                        client.post(&url).bearer_auth(&key).header("content-type", "application/json");
                    let answer = asked.body(chat_request(json!({}))).send().await.expect("an answer");
                    let (status, text) = (answer.status(), answer.text().await.expect("a body"));
                    assert_eq!(status, 200, "{text}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { stop, served, tasks }
    }

    /// So many have been served.
    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until so many more were served.
    async fn more(&self, count: usize) {
        let wanted = self.served() + count;
        while self.served() < wanted {
            let before = self.served();
            eventually("more answers", || async { (self.served() > before).then_some(()) }).await;
        }
    }

    /// Ends it. No request failed.
    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            done.expect("no request failed");
        }
    }
}

/// Kills the command as soon as `reached` says so; answers whether it was still running.
async fn killed_when(mut child: Child, mut reached: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..20_000 {
        if child.try_wait().expect("a process").is_some() {
            return false;
        }
        if reached().await {
            let was_running = child.try_wait().expect("a process").is_none();
            child.kill().expect("killed");
            child.wait().expect("gone");
            return was_running;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the command neither ended nor got so far");
}

/// That every provider key still holds the secret that was stored last.
#[expect(clippy::disallowed_methods, reason = "the test looks whether what is sealed is what was stored")]
async fn nothing_was_lost(gateway: &Gateway) {
    let (store, control) = (&gateway.app.house.store, &gateway.app.control);
    let keys = store.provider_keys(TenantScope::house()).await.expect("keys");
    assert_eq!(keys.len(), KEYS);
    for key in keys {
        let grant = DispatchGrant::issue(
            key.tenant_id,
            key.id,
            ModelRef::parse("openai/gpt-4o-mini").expect("a model"),
        );
        let row = SealedRow {
            tenant: key.tenant_id,
            key: key.id,
            provider: key.provider.as_str(),
            origin: &key.origin,
            sealed: &key.sealed,
        };
        let secret = control.vault.open_provider_key(&grant, &row).expect("it opens");
        assert_eq!(control.fingerprints.of(&secret), key.fingerprint, "{}", key.key_name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_053_the_master_key_is_rotated_under_load_and_kills_and_no_request_fails() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key, provider_keys) = a_house(&upstream).await;
    let old = kids(&gateway.config).remove(0);
    let rows = counts(&gateway).await[&old];
    assert!(rows > KEYS as u64, "{rows}");
    let load = Load::of(&gateway, &key);

    // Secrets are replaced all the time: the rotation must never put an old one back.
    let stop = Arc::new(AtomicBool::new(false));
    let replacing = async {
        let mut replaced = 0;
        while !stop.load(Ordering::Relaxed) {
            let id = &provider_keys[(replaced * 7) % KEYS];
            let change = json!({ "api_key": format!("sk-later-{replaced:05}") });
            gateway.admin(Method::PATCH, &format!("/api/keys/{id}"), Some(&change)).await.expect(200);
            replaced += 1;
            // Each makes every cache of the tenant stale: requests are to come between.
            load.more(5).await;
        }
        replaced
    };
    let rotating = async {
        let arguments = ["master-key", "rotate", "--retire", "--wait", "60"];
        let begin = || {
            let mut command = command(&gateway.config, &[], &arguments);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
        };
        let mut halfway = 0;
        // Right behind the file, at the first row, and further and further on.
        for at_least in [0, 1, rows / 4, rows / 2, rows * 3 / 4] {
            let killed = killed_when(begin(), async || {
                let under_new: u64 =
                    counts(&gateway).await.iter().filter(|(kid, _)| **kid != old).map(|(_, n)| n).sum();
                kids(&gateway.config).len() > 1 && under_new >= at_least
            })
            .await;
            let counts = counts(&gateway).await;
            if killed && counts.len() == 2 {
                halfway += 1;
            }
            if !counts.contains_key(&old) {
                break;
            }
            assert_eq!(kids(&gateway.config).len(), 2, "it goes on with the same new key");
            // Half of it under the one and half under the other key: all is served.
            load.more(100).await;
        }
        assert!(halfway > 0, "no kill came between two rows");
        let (code, out, err) = run(&gateway.config, &[], &arguments).await;
        assert_eq!(code, Some(0), "{out} {err}");
        assert!(out.contains("done:") || err.contains("retired"), "{out} {err}");
        stop.store(true, Ordering::Relaxed);
    };
    let (replaced, ()) = tokio::join!(replacing, rotating);
    assert!(replaced > 10, "{replaced} replacements were made meanwhile");

    let new = kids(&gateway.config);
    assert_eq!(new.len(), 1, "the old key was dropped from the file");
    assert_ne!(new[0], old);
    let left = counts(&gateway).await;
    assert_eq!(left.keys().collect::<Vec<_>>(), [&new[0]], "nothing stands under another key");
    eventually("the gateway to drop the old key", || async {
        gateway.app.control.vault.ring().kids().eq([new[0].as_str()]).then_some(())
    })
    .await;
    nothing_was_lost(&gateway).await;
    load.more(100).await;
    assert!(load.served() > 500, "{} requests were served", load.served());
    load.end().await;

    // What was done is written down, whole, and says no key.
    let entries = gateway.get("/api/v1/audit?limit=500&action=master_key.rotated").await;
    assert!(entries.to_string().contains(&new[0]), "{entries}");
    let entries = gateway.get("/api/v1/audit?limit=500&action=master_key.retired").await;
    assert!(entries.to_string().contains(&old), "{entries}");
    assert_eq!(run(&gateway.config, &[], &["audit", "verify"]).await.0, Some(0));
    let (code, out, _) = run(&gateway.config, &[], &["master-key", "status", "--json"]).await;
    let status: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &status["unfinished"]), (Some(0), &json!(false)), "{status}");
    assert_eq!((&status["keys"][0]["kid"], &status["keys"][0]["seals"]), (&json!(new[0]), &json!(true)));
    assert_eq!(status["instances"][0]["kids"], json!(new), "{status}");

    // With the new key alone it starts again, and the pepper still knows the virtual key.
    let again = gateway.stop(Duration::from_secs(5)).await.again.start().await;
    again.chat(&key, json!({})).await.expect(200);
    let again = again.stop(Duration::from_secs(5)).await.again;
    // A gateway that lacks it does not start, and names it.
    replace_key_file(&key_file(&again.config), &[KeyRing::generate()]).expect("replaced");
    let Err(refused) = again.try_start().await else { panic!("it started without its key") };
    let why = chain(&refused);
    assert!(why.contains(&new[0]) && why.contains("not loaded"), "{why}");
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_053_a_key_that_the_operator_gives_is_taken_up_by_every_gateway_before_anything_is_sealed_with_it()
{
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let keys = [KeyRing::generate(), KeyRing::generate()];
    let (old, new) = (keys[0].clone(), keys[1].clone());
    let given = |list: &[&MasterKeyText]| list.iter().map(|key| (*key).clone()).collect::<Vec<_>>();
    let kid = |key: &MasterKeyText| {
        KeyRing::from_texts(std::slice::from_ref(key)).expect("a key").primary().to_owned()
    };
    let (old_kid, new_kid) = (kid(&old), kid(&new));
    let first = Setup::new().await.allow(&upstream).with(|config| config.vault.master_keys = given(&[&old]));
    let mut gateways = vec![first.start().await];
    if gateways[0].config.database_url.is_some() {
        gateways.push(gateways[0].beside().start().await);
    }
    let config = gateways[0].config.clone();
    let provider_key = gateways[0].provider_key("openai", &upstream).await;
    let key = gateways[0].virtual_key(json!({})).await;
    let under = async |kid: &str| counts(&gateways[0]).await.get(kid).copied().unwrap_or_default();
    let rotate = ["master-key", "rotate", "--wait", "1"];

    let (code, _, err) = run(&config, &given(&[&old]), &rotate).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("master-key generate") && err.contains(&old_kid), "{err}");

    // Gateways that do not know it are named, and nothing is touched.
    let rows = under(&old_kid).await;
    let both = given(&[&new, &old]);
    let (code, _, err) = run(&config, &both, &rotate).await;
    assert_eq!(code, Some(1));
    assert!(
        err.contains("nothing was sealed anew") && err.contains(&format!("put `{new_kid}` first")),
        "{err}"
    );
    assert_eq!(err.matches("ins_").count(), gateways.len(), "{err}");
    assert_eq!((under(&old_kid).await, under(&new_kid).await), (rows, 0));

    // One that knows it and does not seal with it is not enough.
    let with = |list: Vec<MasterKeyText>| {
        let mut config = config.clone();
        config.vault.master_keys = list;
        config
    };
    for gateway in &gateways {
        gateway.app.reload(with(given(&[&old, &new]))).await.expect("reloaded");
    }
    let (code, _, err) = run(&config, &both, &rotate).await;
    assert_eq!((code, under(&new_kid).await), (Some(1), 0));
    assert!(err.contains(&format!("seals with `{old_kid}`")), "{err}");

    for gateway in &gateways {
        gateway.app.reload(with(both.clone())).await.expect("reloaded");
    }
    let (code, out, err) = run(&config, &both, &rotate).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&format!("under `{new_kid}`")) && err.contains(&old_kid), "{out} {err}");
    assert_eq!((under(&old_kid).await, under(&new_kid).await), (0, rows));
    for gateway in &gateways {
        gateway.chat(&key, json!({})).await.expect(200);
    }

    // Retired, it seals nothing any more, not even in a gateway that has it first.
    let (code, _, err) = run(&config, &both, &["master-key", "retire"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains(&format!("retired {old_kid}")), "{err}");
    let gateway = &gateways[0];
    gateway.app.reload(with(given(&[&old, &new]))).await.expect("reloaded");
    let change = json!({ "api_key": "sk-sealed-with-the-wrong-key" });
    let path = format!("/api/keys/{provider_key}");
    let refused = gateway.admin(Method::PATCH, &path, Some(&change)).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains(&old_kid), "{}", refused.text());
    assert_eq!(under(&old_kid).await, 0);
    let doctor = run(&config, &given(&[&old, &new]), &["doctor"]).await.1;
    assert!(doctor.contains("was retired"), "{doctor}");

    // A ring that lacks what is needed is refused while the gateway runs, and the present one stays.
    let refused = gateway.app.reload(with(given(&[&old]))).await.expect_err("refused").to_string();
    assert!(refused.contains(&new_kid), "{refused}");
    gateway.app.reload(with(given(&[&new]))).await.expect("reloaded");
    gateway.admin(Method::PATCH, &path, Some(&change)).await.expect(200);
    gateway.chat(&key, json!({})).await.expect(200);
    let doctor: Value =
        serde_json::from_str(&run(&config, &given(&[&new]), &["doctor", "--json"]).await.1).expect("JSON");
    assert_eq!(doctor["provider_keys"][0]["opens"], true, "{doctor}");
    assert_eq!(doctor["provider_keys"][0]["master_key"], json!(new_kid), "{doctor}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_053_a_key_of_their_own_keeps_config_variables_out_of_a_rotation_and_has_one_of_its_own() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let own = [KeyRing::generate(), KeyRing::generate()];
    let settings = |config: &mut Config| {
        config.database_url = None;
        config.vault.master_keys.clear();
        config.vault.secret_keys = vec![own[0].clone()];
    };
    let gateway = Setup::new().await.allow(&upstream).with(settings).start().await;
    let value = json!({ "name": "OPENAI", "value": "sk-from-a-variable", "sensitive": true });
    gateway.create("/v1/config-variables", value).await;
    let referring = json!({ "api_key": { "store": "OPENAI" } });
    gateway.provider_key_with("openai", &upstream, referring).await;
    let key = gateway.virtual_key(json!({})).await;
    let old = kids(&gateway.config)[0].clone();
    let first = variables(&gateway).await;
    assert!(first.len() == 1 && !first.contains_key(&old), "{first:?}");

    // A new master key takes everything but the variable, and the rotation ends.
    let (code, out, err) = run(&gateway.config, &[], &["master-key", "rotate"]).await;
    assert_eq!(code, Some(0), "{out} {err}");
    let new = kids(&gateway.config)[0].clone();
    assert_ne!(new, old, "{out} {err}");
    assert_eq!(counts(&gateway).await.keys().collect::<Vec<_>>(), [&new]);
    assert_eq!(variables(&gateway).await, first);
    let (_, out, _) = run(&gateway.config, &[], &["master-key", "status", "--json"]).await;
    let status: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&status["unfinished"], &status["rows_left"]), (&json!(false), &json!(0)), "{status}");
    let (_, doctor, _) = run(&gateway.config, &[], &["doctor"]).await;
    assert!(!doctor.contains("lacks"), "{doctor}");

    // Another key for variables: a gateway that does not seal with it is named; then only the variable moves.
    let mut config = gateway.config.clone();
    config.vault.secret_keys = vec![own[1].clone(), own[0].clone()];
    let (code, _, err) = run(&config, &[], &["master-key", "rotate", "--wait", "1"]).await;
    assert!(code == Some(1) && err.contains("KEYSTILE_SECRET_ENCRYPTION_KEY"), "{err}");
    assert_eq!(variables(&gateway).await, first);
    gateway.app.reload(config.clone()).await.expect("reloaded");
    let (code, out, err) = run(&config, &[], &["master-key", "rotate"]).await;
    assert_eq!(code, Some(0), "{out} {err}");
    assert_eq!(kids(&gateway.config)[0], new, "no other master key was made: {out} {err}");
    let second = variables(&gateway).await;
    assert!(second.len() == 1 && second != first && !second.contains_key(&new), "{second:?}");

    // The first of the two is not needed any more.
    config.vault.secret_keys.pop();
    gateway.app.reload(config.clone()).await.expect("reloaded");
    gateway.chat(&key, json!({})).await.expect(200);
    config.vault.secret_keys.clear();
    gateway.app.reload(config).await.expect_err("the variable stands under it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_does_not_open_stops_the_end_of_a_rotation_and_not_the_rest_of_it() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key, provider_keys) = a_house(&upstream).await;
    let old = kids(&gateway.config).remove(0);
    // Somebody exchanges two rows' ciphertexts: each opens, and for its own row neither does.
    let db = crate::support::database::intruder(&gateway.database_url()).await;
    let (one, two) = (&provider_keys[3], &provider_keys[9]);
    let swap = format!(
        "UPDATE provider_key SET sealed = (SELECT sealed FROM provider_key AS other WHERE other.id = '{two}') WHERE id = '{one}'"
    );
    sea_orm::ConnectionTrait::execute_unprepared(&db, &swap).await.expect("written");
    let (code, _, err) = run(&gateway.config, &[], &["master-key", "rotate"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("1 sealed rows do not open") && err.contains(one), "{err}");
    assert_eq!(counts(&gateway).await[&old], 1, "all others are done");
    let doctor: Value =
        serde_json::from_str(&run(&gateway.config, &[], &["doctor", "--json"]).await.1).expect("JSON");
    let looks = doctor["provider_keys"].as_array().expect("keys");
    let closed: Vec<&Value> = looks.iter().filter(|look| look["opens"] == false).collect();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0]["id"], json!(one));
    // Stored anew it is whole again, and the rotation is over with the same new key.
    let change = json!({ "api_key": "sk-stored-anew" });
    gateway.admin(Method::PATCH, &format!("/api/keys/{one}"), Some(&change)).await.expect(200);
    let new = kids(&gateway.config)[0].clone();
    let (code, out, err) = run(&gateway.config, &[], &["master-key", "rotate"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&new), "{out}");
    gateway.chat(&key, json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_092_no_secret_is_in_the_arguments_and_at_093_an_aborted_gateway_leaves_no_core() {
    let own_files = |config: &mut Config| {
        config.database_url = None;
        config.vault.master_keys = vec![KeyRing::generate()];
    };
    let setup = Setup::new().await.with(own_files);
    fs::create_dir(&setup.config.server.data_dir).expect("a directory");
    // To root everything is open: then the gateway runs as somebody else, as it should anyway.
    let me = rustix::process::getuid().as_raw();
    let user = if me == 0 { 65_534 } else { me };
    if me == 0 {
        let dir = &setup.config.server.data_dir;
        for each in [dir.as_path(), dir.parent().expect("a parent")] {
            std::os::unix::fs::chown(each, Some(user), None).expect("given away");
        }
    }
    let process = Process::serve_as(&setup, (me == 0).then_some(user)).await;
    let proc = PathBuf::from(format!("/proc/{}", process.id()));
    let arguments = fs::read(proc.join("cmdline")).expect("arguments");
    let arguments = String::from_utf8_lossy(&arguments);
    assert!(arguments.contains("serve"), "{arguments}");
    assert!(
        !arguments.contains(setup.config.vault.master_keys[0].0.as_str()),
        "a key is among the arguments"
    );
    let limits = fs::read_to_string(proc.join("limits")).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    // What the kernel does with a process that may not be dumped: what shows its memory belongs to root.
    let owner = |of: PathBuf| fs::metadata(of.join("mem")).expect("there").uid();
    assert_eq!(owner(proc), 0);
    let mut other = Command::new("sleep");
    std::os::unix::process::CommandExt::uid(&mut other, user);
    let mut other = other.arg("60").spawn().expect("a process");
    let others = eventually("the other one to be itself", || async {
        let arguments = fs::read(format!("/proc/{}/cmdline", other.id())).ok()?;
        arguments.starts_with(b"sleep").then(|| owner(format!("/proc/{}", other.id()).into()))
    })
    .await;
    other.kill().expect("killed");
    other.wait().expect("gone");
    assert_eq!(others, user, "and that of one that may belongs to its user");

    let ended = process.abort();
    let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
    assert_eq!(signal, Some(6), "{ended}");
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&ended));
    for dir in [setup.config.server.data_dir.clone(), std::env::current_dir().expect("here")] {
        let core = |name: String| name == "core" || name.starts_with("core.");
        let names = fs::read_dir(dir).expect("a directory").flatten();
        assert!(!names.map(|each| each.file_name().to_string_lossy().into_owned()).any(core));
    }
}
