//! The list of all settings: key in the file, variable in the environment, how a value is read into place. `FILE` in
//! docs/configuration.md is checked against it.

use super::{
    settings::Config,
    show::Show,
    value::{self, Value},
};

/// One setting.
pub(super) struct Setting {
    /// `section.key` in the file; `None` for what has no place in a file.
    pub(super) key: Option<&'static str>,
    /// Its variable.
    pub(super) variable: Option<&'static str>,
    /// Reads a value into place.
    pub(super) set: fn(&mut Config, Value) -> Result<(), String>,
    /// The value as people may see it; a secret is `(set)`.
    pub(super) show: fn(&Config) -> String,
    /// Whether two configurations say the same.
    pub(super) same: fn(&Config, &Config) -> bool,
    /// Takes the value over from another configuration.
    pub(super) copy: fn(&mut Config, &Config),
}

impl Setting {
    /// What errors call it.
    pub(super) fn name(&self) -> &'static str {
        self.key.or(self.variable).unwrap_or("setting")
    }
}

/// Variables that are no settings of the gateway: where its file is, and what the commands use that talk to it.
pub(super) const OTHER_VARIABLES: [&str; 3] = ["KEYSTILE_CONFIG", "KEYSTILE_URL", "KEYSTILE_ADMIN_TOKEN"];

macro_rules! settings {
    ($( $key:expr, $variable:expr => $($place:ident).+ = $read:expr; )*) => {
        /// All settings, in the order of the file.
        pub(super) const SETTINGS: &[Setting] = &[$(
            Setting {
                key: $key,
                variable: $variable,
                set: |config, value| {
                    let read: fn(Value) -> Result<_, String> = $read;
                    config.$($place).+ = read(value)?;
                    Ok(())
                },
                show: |config| Show::show(&config.$($place).+),
                same: |one, other| Show::same(&one.$($place).+, &other.$($place).+),
                copy: |to, from| to.$($place).+ = from.$($place).+.clone(),
            },
        )*];
    };
}

settings! {
    Some("server.listen"), Some("KEYSTILE_LISTEN") => server.listen = value::address;
    Some("server.admin_listen"), Some("KEYSTILE_ADMIN_LISTEN") => server.admin_listen = value::address;
    Some("server.data_dir"), Some("KEYSTILE_DATA_DIR") => server.data_dir = value::path;
    Some("server.drain_timeout"), Some("KEYSTILE_DRAIN_TIMEOUT") => server.drain_timeout = value::duration_or_zero;
    Some("server.header_timeout"), None => server.header_timeout = value::duration;
    Some("server.body_idle_timeout"), None => server.body_idle_timeout = value::duration;
    Some("server.keep_alive_timeout"), None => server.keep_alive_timeout = value::duration;
    Some("server.write_stall_timeout"), None => server.write_stall_timeout = value::duration;
    Some("server.max_connections"), None => server.max_connections = |v| value::count(v, 1, 1_000_000);
    Some("database.url"), Some("KEYSTILE_DATABASE_URL") => database_url = |v| value::database_url(v).map(Some);
    Some("database.usage_retention"), Some("KEYSTILE_USAGE_RETENTION") => usage_retention = value::retention;
    Some("redis.url"), Some("KEYSTILE_REDIS_URL") => redis.url = |v| value::redis_url(v).map(Some);
    Some("redis.timeout"), None => redis.timeout = value::duration;
    Some("audit.checkpoint"), Some("KEYSTILE_AUDIT_CHECKPOINT") => audit.checkpoint = |v| value::checkpoint_sink(v).map(Some);
    Some("audit.retention"), Some("KEYSTILE_AUDIT_RETENTION") => audit.retention = value::audit_retention;
    Some("vault.master_key_file"), None => vault.master_keys = value::master_key_file;
    None, Some("PROVIDER_KEY_ENCRYPTION_KEY") => vault.master_keys = value::master_keys;
    None, Some("KEYSTILE_SECRET_ENCRYPTION_KEY") => vault.secret_keys = value::master_keys;
    Some("vault.allow_retrieval"), Some("KEYSTILE_VAULT_ALLOW_RETRIEVAL")
        => vault.allow_retrieval = value::flag;
    Some("vault.retrievable_by_default"), Some("KEYSTILE_VAULT_RETRIEVABLE_BY_DEFAULT")
        => vault.retrievable_by_default = value::flag;
    Some("admin.hosts"), Some("KEYSTILE_ADMIN_HOSTS") => admin.hosts = value::host_names;
    Some("admin.session_ttl"), None => admin.session_ttl = value::duration;
    None, Some("KEYSTILE_ADMIN_EMAIL") => admin.email = |v| value::email(v).map(Some);
    None, Some("KEYSTILE_ADMIN_PASSWORD") => admin.password = |v| value::password(v).map(Some);
    None, Some("KEYSTILE_JWT_KEYS") => admin.jwt_keys = value::jwt_keys;
    // hyper takes no smaller buffer than 8192 bytes.
    Some("limits.max_head_bytes"), None => limits.max_head_bytes = |v| value::size(v, 8192);
    Some("limits.max_headers"), None => limits.max_headers = |v| value::count(v, 8, 1024);
    Some("limits.max_body_bytes"), None => limits.max_body_bytes = |v| value::size(v, 1024);
    // serde_json itself stops at 128.
    Some("limits.max_json_depth"), None => limits.max_json_depth = |v| value::count(v, 4, 128);
    Some("limits.max_answer_bytes"), None => limits.max_answer_bytes = |v| value::size(v, 1024);
    Some("limits.max_error_bytes"), None => limits.max_error_bytes = |v| value::size(v, 1024);
    Some("limits.max_event_bytes"), None => limits.max_event_bytes = |v| value::size(v, 1024);
    Some("ledger.durability"), Some("KEYSTILE_DURABILITY") => ledger.durability = value::durability;
    Some("ledger.record_queue"), None => ledger.record_queue = |v| value::count(v, 1, 10_000_000);
    Some("ledger.segment_bytes"), None => ledger.segment_bytes = |v| value::size(v, 1024 * 1024);
    Some("ledger.lease_grace"), None => ledger.lease_grace = value::duration;
    Some("ledger.release_after"), None => ledger.release_after = value::duration;
    Some("upstream.connect_timeout"), Some("KEYSTILE_UPSTREAM_CONNECT_TIMEOUT")
        => upstream.connect_timeout = value::duration;
    Some("upstream.first_byte_timeout"), Some("KEYSTILE_UPSTREAM_FIRST_BYTE_TIMEOUT")
        => upstream.first_byte_timeout = value::duration;
    Some("upstream.stream_first_byte_timeout"), Some("KEYSTILE_UPSTREAM_STREAM_FIRST_BYTE_TIMEOUT")
        => upstream.stream_first_byte_timeout = value::duration;
    Some("upstream.idle_timeout"), Some("KEYSTILE_UPSTREAM_IDLE_TIMEOUT")
        => upstream.idle_timeout = value::duration;
    Some("upstream.total_timeout"), Some("KEYSTILE_UPSTREAM_TOTAL_TIMEOUT")
        => upstream.total_timeout = value::duration;
    Some("upstream.max_attempts"), None => upstream.max_attempts = |v| value::count(v, 1, 100);
    Some("upstream.heartbeat_after"), None => upstream.heartbeat_after = value::duration;
    Some("upstream.drain_after_disconnect"), None
        => upstream.drain_after_disconnect = value::duration_or_zero;
    Some("policy.file"), Some("KEYSTILE_POLICY_CONFIG") => policy.file = |v| value::path(v).map(Some);
    Some("egress.allow"), Some("KEYSTILE_EGRESS_ALLOW") => egress_allow = value::egress_allow;
    Some("log.filter"), Some("KEYSTILE_LOG") => telemetry.log_filter = value::log_filter;
    Some("log.format"), Some("KEYSTILE_LOG_FORMAT") => telemetry.log_format = value::log_format;
}

/// What a reload puts in force; everything else waits for a restart.
pub(super) const RELOADED: [&str; 8] = [
    "policy.file",
    "egress.allow",
    "vault.master_key_file",
    "PROVIDER_KEY_ENCRYPTION_KEY",
    "KEYSTILE_SECRET_ENCRYPTION_KEY",
    "KEYSTILE_JWT_KEYS",
    "admin.session_ttl",
    "audit.retention",
];

/// The setting with this key.
pub(super) fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == Some(key))
}

/// All keys of the file.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter_map(|setting| setting.key)
}

/// All variables, without their `…_FILE` twins.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter_map(|setting| setting.variable).chain(OTHER_VARIABLES)
}
