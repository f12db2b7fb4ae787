//! The gateway under measurement: the binary of this build, in a directory of its own, furnished as an operator would.
//! Its key has everything on that a key can have: an allow-list, a hard cap, limits on requests, tokens and calls at
//! the same time, and a price for every model.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    admin::{self, Admin},
    payload::{self, Kind},
    process::{self, Process},
};

/// Put before the names of the mock's models.
pub const PREFIX: &str = "mock/";
/// How long the last usage records may take to reach the database.
const PATIENCE: Duration = Duration::from_secs(30);

const EMAIL: &str = "load@example.com";
/// Of a gateway that lives for some seconds, on loopback.
const PASSWORD: &str = "the stile turns once for every caller";
/// Above what any load here reaches, below what the limits can say.
const MANY: u64 = 2_000_000_000;

/// A running gateway.
pub struct Gateway {
    /// Its process.
    pub process: Process,
    /// The virtual key that is measured.
    pub key: String,
    /// The same without a cap.
    pub uncapped: String,
    admin: Admin,
    directory: TempDir,
}

impl Gateway {
    /// Starts `program` before `mock` and waits until it answers.
    pub fn start(program: &Path, mock: SocketAddr) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("the gateway cannot be started: {error}");
        let directory = tempfile::tempdir().map_err(told)?;
        let log_file = directory.path().join("log");
        let (data, admin) = (process::free_address().map_err(told)?, process::free_address().map_err(told)?);
        let log = File::create(&log_file).map_err(told)?;
        let mut serve = Command::new(program);
        serve
            .args([
                "serve",
                "--listen",
                &data.to_string(),
                "--admin-listen",
                &admin.to_string(),
                "--data-dir",
            ])
            .arg(directory.path())
            .env("KEYSTILE_EGRESS_ALLOW", mock.to_string())
            .env("KEYSTILE_ADMIN_EMAIL", EMAIL)
            .env("KEYSTILE_ADMIN_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(told)?)
            .stderr(log);
        let with_log = |error: String| format!("{error}\n{}", process::tail(&log_file));
        let process = Process::listening_at(serve, data, &[admin]).map_err(|error| with_log(told(error)))?;
        let admin = Admin::log_in(admin, EMAIL, PASSWORD).map_err(with_log)?;
        let [key, uncapped] = furnish(&admin, mock)?;
        let gateway = Self { process, key, uncapped, admin, directory };
        gateway.ask_once().map_err(with_log)?;
        Ok(gateway)
    }

    fn ask_once(&self) -> Result<(), String> {
        let body = payload::question(&format!("{PREFIX}{}", Kind::Plain.model()), Kind::Plain);
        let head = format!("authorization: Bearer {}\r\n", self.key);
        match admin::ask(self.process.address, "POST", "/v1/chat/completions", &head, &body) {
            Ok((200, _)) => Ok(()),
            Ok((status, answer)) => Err(format!("the gateway answers with {status}: {answer}")),
            Err(error) => Err(format!("the gateway does not answer: {error}")),
        }
    }

    /// Waits until its ledger has at least `answers` requests, and answers how many it has.
    pub fn recorded(&self, answers: u64) -> Result<u64, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let report = self.admin.call("GET", "/api/spend?group_by=key", &Value::Null)?;
            let requests = report["total"]["requests"].as_u64().unwrap_or(0);
            if requests >= answers || Instant::now() > until {
                return Ok(requests);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// How large its database and its log have become, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        let files = fs::read_dir(self.directory.path()).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Ends it in good order. Answers whether it said that all went well.
    pub fn stop(self) -> bool {
        self.process.stop().unwrap_or(false)
    }
}

/// A provider key, prices, and two virtual keys that may call what they are for, with a hard cap and without one.
fn furnish(admin: &Admin, mock: SocketAddr) -> Result<[String; 2], String> {
    let provider_key = json!({
        "provider": "mock", "key_name": "load", "api_key": "sk-load-0123456789",
        "base_url": format!("http://{mock}/v1"),
    });
    admin.call("POST", "/api/keys", &provider_key)?;
    let price = |kind: Kind| {
        json!({
            "model": format!("{PREFIX}{}", kind.model()), "input": 150_000, "output": 600_000,
            "cache_read": 75_000, "context_window": 128_000, "max_output_tokens": 16_384,
        })
    };
    admin.call("PUT", "/api/prices", &json!({ "prices": Kind::ALL.map(price) }))?;
    let mut virtual_key = json!({
        "name": "load", "models_allowed": [format!("{PREFIX}*")], "spend_cap_micro_usd": 1_000_000_000_000_u64,
        "spend_window": "monthly", "cap_mode": "hard", "rate_limit_rpm": MANY, "rate_limit_tpm": MANY,
        "max_parallel": 100_000, "tags": { "team": "load" },
    });
    let make = |virtual_key: &Value| {
        let made = admin.call("POST", "/api/virtual-keys", virtual_key)?;
        made["key"].as_str().map(str::to_owned).ok_or_else(|| "no virtual key was made".to_owned())
    };
    let capped = make(&virtual_key)?;
    virtual_key["spend_cap_micro_usd"] = Value::Null;
    Ok([capped, make(&virtual_key)?])
}
