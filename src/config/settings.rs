//! The settings, one struct a section.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{origins::Origins, pack::PolicyPack};
use crate::domain::{sqlite_file, sqlite_url};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A secret of the operator's, wiped on drop and never printed.
#[derive(Clone)]
pub struct SecretText(pub Zeroizing<String>);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl SecretText {
    /// Takes ownership of the text and wipes it when dropped.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }
}

impl From<Zeroizing<String>> for SecretText {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

/// A Fernet master key in its usual base64 spelling.
pub type MasterKeyText = SecretText;
/// `sqlite:…` or `postgres://…`; may carry a password.
pub type DatabaseUrl = SecretText;

/// Everything the operator decided. `Config::default()` is what `config/default.yaml` says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Listeners, directories, connection limits.
    pub server: Server,
    /// `sqlite:…` or `postgres://…`; `None` means `keystile.db` in the data directory.
    pub database_url: Option<DatabaseUrl>,
    /// How long usage rows are kept; `None` means for ever.
    pub usage_retention: Option<Duration>,
    /// Where several instances count rates together.
    pub redis: Redis,
    /// The audit log.
    pub audit: Audit,
    /// Master keys and key retrieval.
    pub vault: Vault,
    /// People and their sessions.
    pub admin: Admin,
    /// Sizes that a request and an answer must keep.
    pub limits: Limits,
    /// How money is kept.
    pub ledger: Ledger,
    /// Timeouts and retries towards providers.
    pub upstream: Upstream,
    /// Private upstreams that are allowed: exactly these hosts and ports.
    pub egress_allow: Vec<EgressAllow>,
    /// The operator's policy pack.
    pub policy: Policy,
    /// Logs.
    pub telemetry: Telemetry,
    /// Where each value came from.
    pub origins: Origins,
}

impl Config {
    /// The same settings without the texts of master keys and of keys for config variables.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.vault.master_keys.clear();
        self.vault.secret_keys.clear();
        self
    }

    /// The database's URL: the one that was set, else `keystile.db` in the data directory.
    pub fn database(&self) -> DatabaseUrl {
        self.database_url
            .clone()
            .unwrap_or_else(|| SecretText::new(sqlite_url(&self.server.data_dir.join("keystile.db"))))
    }

    /// The SQLite database's file; `None` on Postgres.
    pub fn database_file(&self) -> Option<PathBuf> {
        let url = self.database();
        url.0.starts_with("sqlite:").then(|| sqlite_file(&url.0).ok()).flatten()
    }
}

/// Listeners, directories, connection limits.
#[derive(Clone, Debug)]
pub struct Server {
    /// Data plane.
    pub listen: SocketAddr,
    /// Admin plane.
    pub admin_listen: SocketAddr,
    /// Database, master key and lock.
    pub data_dir: PathBuf,
    /// How long live requests may go on after SIGTERM; zero cuts them at once.
    pub drain_timeout: Duration,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a request's body may pause.
    pub body_idle_timeout: Duration,
    /// How long an idle connection is kept between two requests.
    pub keep_alive_timeout: Duration,
    /// How long a client may refuse to read.
    pub write_stall_timeout: Duration,
    /// Connections on one listener at the same time; beyond it new ones wait in the kernel's queue.
    pub max_connections: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            data_dir: PathBuf::from("./data"),
            drain_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            write_stall_timeout: Duration::from_secs(60),
            max_connections: 4096,
        }
    }
}

/// Where several instances count rates together.
#[derive(Clone, Debug)]
pub struct Redis {
    /// `redis://…` or `rediss://…`; may carry a password. `None`: each instance counts for itself.
    pub url: Option<SecretText>,
    /// How long it may take to answer before each instance counts for itself.
    pub timeout: Duration,
}

impl Default for Redis {
    fn default() -> Self {
        Self { url: None, timeout: Duration::from_millis(50) }
    }
}

/// The audit log.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Where signed checkpoints of the chain go; `None`: nowhere.
    pub checkpoint: Option<CheckpointSink>,
    /// How long entries are kept; `None` means for ever.
    pub retention: Option<Duration>,
}

/// Where signed checkpoints of the audit chain go.
#[derive(Clone, Debug)]
pub enum CheckpointSink {
    /// One line each, at the end of a file.
    File(PathBuf),
    /// One POST each; the URL may carry a password.
    Url(SecretText),
}

/// Master keys and key retrieval.
#[derive(Clone, Debug, Default)]
pub struct Vault {
    /// The first seals, all open; empty means that `serve` may make one on SQLite.
    pub master_keys: Vec<MasterKeyText>,
    /// Keys for config variables: the first seals, all open; empty means that they are derived from the master keys.
    pub secret_keys: Vec<SecretText>,
    /// Whether services may fetch keys that were uploaded as retrievable.
    pub allow_retrieval: bool,
    /// Whether uploads are retrievable unless they say otherwise.
    pub retrievable_by_default: bool,
}

/// A key that signs or verifies admin sessions.
#[derive(Clone, Debug)]
pub struct JwtKey {
    /// Key id, 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub kid: String,
    /// At least 32 bytes.
    pub secret: SecretText,
}

/// People and their sessions.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Host names the admin plane answers to besides loopback.
    pub hosts: Vec<String>,
    /// First admin.
    pub email: Option<String>,
    /// First admin's password.
    pub password: Option<SecretText>,
    /// The first signs, all verify; empty means one sealed in the database.
    pub jwt_keys: Vec<JwtKey>,
    /// How long a session lasts.
    pub session_ttl: Duration,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            email: None,
            password: None,
            jwt_keys: Vec::new(),
            session_ttl: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Sizes that a request and an answer must keep, in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Request line and headers together.
    pub max_head_bytes: usize,
    /// Headers.
    pub max_headers: usize,
    /// A data-plane request's body.
    pub max_body_bytes: usize,
    /// Nesting of a request's JSON.
    pub max_json_depth: usize,
    /// A provider's answer that is not a stream.
    pub max_answer_bytes: usize,
    /// What is read of a provider's error body.
    pub max_error_bytes: usize,
    /// One event of a provider's stream.
    pub max_event_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_bytes: 32 * KIB,
            max_headers: 64,
            max_body_bytes: 20 * MIB,
            max_json_depth: 64,
            max_answer_bytes: 64 * MIB,
            max_error_bytes: 64 * KIB,
            max_event_bytes: MIB,
        }
    }
}

/// How money is kept: the journal, and the shares of caps that instances on one database hold.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// What a usage record survives once its client has seen the end.
    pub durability: Durability,
    /// Usage records that may wait for the database; beyond it requests are refused with 503.
    pub record_queue: usize,
    /// Bytes of one segment of the journal; what is open must fit one.
    pub segment_bytes: usize,
    /// How long an instance that hears nothing of a shared database goes on using its leases.
    pub lease_grace: Duration,
    /// How long an instance must have been silent before an operator may give its leases back.
    pub release_after: Duration,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            durability: Durability::Process,
            record_queue: 65_536,
            segment_bytes: 16 * MIB,
            lease_grace: Duration::from_secs(60),
            release_after: Duration::from_secs(90),
        }
    }
}

/// What a record survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it ends.
    Process,
    /// The loss of power too: records are synced to the disk, in groups, before anything goes on.
    Power,
}

/// Timeouts and retries towards providers.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Until the connection stands, TLS included.
    pub connect_timeout: Duration,
    /// Until the first byte of an answer.
    pub first_byte_timeout: Duration,
    /// Until the first byte of a stream.
    pub stream_first_byte_timeout: Duration,
    /// Between two bytes.
    pub idle_timeout: Duration,
    /// Altogether.
    pub total_timeout: Duration,
    /// Attempts for one request.
    pub max_attempts: usize,
    /// Silence in a committed stream after which a comment is sent.
    pub heartbeat_after: Duration,
    /// How long a stream is read on, for the provider's own figures, after its client has left; zero cuts it at once.
    pub drain_after_disconnect: Duration,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(600),
            stream_first_byte_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(120),
            total_timeout: Duration::from_secs(3600),
            max_attempts: 10,
            heartbeat_after: Duration::from_secs(15),
            drain_after_disconnect: Duration::ZERO,
        }
    }
}

/// A private upstream that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressAllow {
    /// Host as it is written in the `base_url`, in lower case; an IPv6 address keeps its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The operator's policy pack.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Where it is; `None` for a gateway without one.
    pub file: Option<PathBuf>,
    /// What is in it, once [`Config::read_policy`] has read it.
    pub pack: Option<Arc<PolicyPack>>,
}

impl Policy {
    /// How long audit entries are kept, if an enabled pack says so.
    pub fn audit_retention(&self) -> Option<Duration> {
        self.pack.as_ref().filter(|pack| pack.enabled)?.audit.retention
    }

    /// Whether the use of provider keys is audited.
    pub fn log_all_access(&self) -> bool {
        self.pack.as_ref().is_some_and(|pack| pack.audit.log_all_access)
    }
}

/// Logs.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// `tracing` filter directives.
    pub log_filter: String,
    /// Text for people, JSON for programs.
    pub log_format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_filter: "info".to_owned(), log_format: LogFormat::Text }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the commands need that talk to a running gateway.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The admin plane's base URL, without a trailing slash.
    pub url: String,
    /// A session token; without one, the commands sign a short one themselves.
    pub admin_token: Option<SecretText>,
}
