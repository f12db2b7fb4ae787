//! The policy pack: the operator's file of providers' keys by reference, and of what is audited.
//!
//! Everything that can be said without the database is checked here, with the line it stands on: unknown keys, names,
//! addresses that may not be called, variables that are not set. Secrets never stand in the file itself.

use std::{
    collections::HashSet,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::Spanned;
use zeroize::Zeroizing;

use super::{
    env::{Environment, concerns_us},
    error::{ConfigError, Origin},
    settings::{Config, SecretText},
};
use crate::domain::{EgressPolicy, ModelName, ProviderSlug};

/// The only policy of a chain so far.
const AUDIT_LOGGER: &str = "audit-logger";
const MAX_NAME: usize = 128;
const MAX_TARGETS: usize = 500;
const MAX_SECRET_BYTES: usize = 4 * 1024;
const DAY: u64 = 24 * 60 * 60;
/// As for `audit.retention`.
const MIN_RETENTION_DAYS: u32 = 30;
/// Ten years, as for every other retention.
const MAX_RETENTION_DAYS: u32 = 3_650;

/// What the operator's policy pack says.
#[derive(Clone, Debug)]
pub struct PolicyPack {
    /// Where it was read.
    pub file: PathBuf,
    /// What the keys it brings are marked with.
    pub name: String,
    /// As the operator counts.
    pub version: String,
    /// Whether its keys may be used.
    pub enabled: bool,
    /// One provider key each.
    pub targets: Vec<PackTarget>,
    /// What the chain's `audit-logger` says.
    pub audit: AuditLogger,
}

/// A provider's key that the pack brings.
#[derive(Clone, Debug)]
pub struct PackTarget {
    /// Becomes the key's name.
    pub id: String,
    /// At which provider.
    pub provider: ProviderSlug,
    /// The one model it serves; `None` serves all.
    pub model: Option<ModelName>,
    /// Where it is used, if not at the provider's own address.
    pub base_url: Option<String>,
    /// Where its secret comes from.
    pub secret: SecretRef,
}

/// Where a secret comes from.
#[derive(Clone, Debug)]
pub enum SecretRef {
    /// A sensitive config variable of the tenant `default`.
    Store(String),
    /// An environment variable of the gateway.
    Env {
        /// Its name.
        name: String,
        /// What it held when the configuration was read.
        value: SecretText,
    },
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(name) => write!(f, "store:{name}"),
            Self::Env { name, .. } => write!(f, "env:{name}"),
        }
    }
}

/// What the audit log does beyond its ordinary work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditLogger {
    /// How long entries are kept, if the pack says so.
    pub retention: Option<Duration>,
    /// Whether the use of provider keys is logged, summed by key and minute.
    pub log_all_access: bool,
}

impl Config {
    /// Reads the policy pack, if one is configured, and the variables that it names. For the gateway itself: other
    /// commands run where those variables need not be.
    pub fn read_policy(&mut self, environment: &Environment) -> Result<(), ConfigError> {
        let Some(path) = &self.policy.file else { return Ok(()) };
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(source) => {
                let origin = self.origins.of("policy.file").cloned();
                let origin = origin.unwrap_or(Origin::File { path: path.clone(), line: 0 });
                return Err(ConfigError::Unreadable { origin, path: path.clone(), source });
            }
        };
        let egress =
            EgressPolicy::new(self.egress_allow.iter().map(|allowed| (allowed.host.clone(), allowed.port)));
        self.policy.pack = Some(Arc::new(read(path, &text, environment, &egress)?));
        Ok(())
    }
}

fn read(
    path: &Path,
    text: &str,
    environment: &Environment,
    egress: &EgressPolicy,
) -> Result<PolicyPack, ConfigError> {
    let origin = |line| Origin::File { path: path.to_owned(), line };
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        // The error's own text shows a piece of the file; only its cause is repeated.
        let error = error.without_snippet();
        let line = error.location().map_or(0, |location| location.line());
        ConfigError::Malformed { origin: origin(line), problem: error.to_string() }
    })?;
    let reading = Reading { path, environment, egress };
    let name = reading.name("pack.name", &file.pack.name)?;
    let version = reading.name("pack.version", &file.pack.version)?;
    let targets = file.providers.map_or_else(Vec::new, |providers| providers.targets);
    if targets.len() > MAX_TARGETS {
        let problem = format!("has {} targets; at most {MAX_TARGETS} are taken", targets.len());
        return Err(ConfigError::Malformed { origin: origin(0), problem });
    }
    let mut ids = HashSet::new();
    let mut read = Vec::with_capacity(targets.len());
    for target in targets {
        let line = target.id.referenced.line();
        let target = reading.target(target)?;
        if !ids.insert(target.id.clone()) {
            let problem = format!("target `{}` stands here a second time; give each its own id", target.id);
            return Err(ConfigError::Malformed { origin: origin(line), problem });
        }
        read.push(target);
    }
    let chain = file.policies.map_or_else(Vec::new, |policies| policies.chain);
    let audit = reading.chain(chain)?;
    Ok(PolicyPack {
        file: path.to_owned(),
        name,
        version,
        enabled: file.pack.enabled.unwrap_or(true),
        targets: read,
        audit,
    })
}

/// What the parts of a file are checked against.
struct Reading<'a> {
    path: &'a Path,
    environment: &'a Environment,
    egress: &'a EgressPolicy,
}

impl Reading<'_> {
    fn wrong<T>(&self, line: u64, problem: String) -> Result<T, ConfigError> {
        let origin = Origin::File { path: self.path.to_owned(), line };
        Err(ConfigError::Malformed { origin, problem })
    }

    /// A text of a line: not empty, not long, nothing to forge lines with.
    fn name(&self, what: &str, text: &Spanned<String>) -> Result<String, ConfigError> {
        let count = text.value.chars().count();
        if count == 0 || count > MAX_NAME || text.value.chars().any(char::is_control) {
            let problem = format!("`{what}` must have 1 to {MAX_NAME} characters and no control characters");
            return self.wrong(text.referenced.line(), problem);
        }
        Ok(text.value.clone())
    }

    fn target(&self, target: Target) -> Result<PackTarget, ConfigError> {
        let line = target.id.referenced.line();
        let id = target.id.value;
        if !is_plain_name(&id) {
            let problem = format!("a target's `id` {NAME_RULE}");
            return self.wrong(line, problem);
        }
        let provider = match ProviderSlug::parse(&target.provider.value) {
            Ok(slug) => slug,
            Err(error) => {
                let problem = format!("target `{id}`: `provider`: {error}");
                return self.wrong(target.provider.referenced.line(), problem);
            }
        };
        let model = match target.model {
            None => None,
            Some(model) => match ModelName::parse(&model.value) {
                Ok(name) => Some(name),
                Err(error) => {
                    let problem = format!("target `{id}`: `model`: {error}");
                    return self.wrong(model.referenced.line(), problem);
                }
            },
        };
        let base_url = match target.base_url {
            None => None,
            Some(url) => match self.egress.check_url(&url.value) {
                Ok(_) => Some(url.value),
                Err(error) => {
                    return self.wrong(url.referenced.line(), format!("target `{id}`: {error}"));
                }
            },
        };
        let secret = self.secret(&id, target.secret_key_ref)?;
        Ok(PackTarget { id, provider, model, base_url, secret })
    }

    fn secret(&self, target: &str, reference: Spanned<Reference>) -> Result<SecretRef, ConfigError> {
        let line = reference.referenced.line();
        let (store, env) = (reference.value.store, reference.value.env);
        let variable = match (store, env) {
            (Some(name), None) if is_plain_name(&name) => return Ok(SecretRef::Store(name)),
            (Some(_), None) => {
                let problem = format!("target `{target}`: the name in `store` {NAME_RULE}");
                return self.wrong(line, problem);
            }
            (None, Some(name)) => name,
            (Some(_), Some(_)) | (None, None) => {
                let problem = format!(
                    "target `{target}`: `secret_key_ref` takes either `store: NAME` (a config variable) or `env: NAME` (an environment variable)"
                );
                return self.wrong(line, problem);
            }
        };
        if !is_variable_name(&variable) {
            let problem = format!(
                "target `{target}`: the name in `env` must have letters, digits and `_`, and begin with no digit"
            );
            return self.wrong(line, problem);
        }
        if concerns_us(&variable) {
            let problem = format!(
                "target `{target}`: `{variable}` is one of the gateway's own variables and is sent to no provider; name another"
            );
            return self.wrong(line, problem);
        }
        let origin = Origin::File { path: self.path.to_owned(), line };
        let Some(value) = self.environment.named(&variable)? else {
            return Err(ConfigError::MissingVariable { origin, target: target.to_owned(), variable });
        };
        // It will stand in a header.
        if value.len() > MAX_SECRET_BYTES || value.bytes().any(|byte| !byte.is_ascii_graphic()) {
            let problem = format!(
                "target `{target}`: what the variable `{variable}` holds is no key: it must be visible ASCII without spaces and line breaks, at most {MAX_SECRET_BYTES} bytes"
            );
            return self.wrong(line, problem);
        }
        Ok(SecretRef::Env { name: variable, value: value.into() })
    }

    fn chain(&self, chain: Vec<Spanned<Policy>>) -> Result<AuditLogger, ConfigError> {
        let mut found = None;
        for policy in chain {
            let line = policy.referenced.line();
            let policy = policy.value;
            let names = [policy.name.as_ref(), policy.kind.as_ref()];
            if let Some(stranger) = names.into_iter().flatten().find(|name| *name != AUDIT_LOGGER) {
                let shown: String = stranger.chars().filter(|c| !c.is_control()).take(64).collect();
                let problem = format!("there is no policy `{shown}`; a chain may have `{AUDIT_LOGGER}`");
                return self.wrong(line, problem);
            }
            let named = names.into_iter().flatten().next().is_some();
            let beside = AuditMembers {
                immutable: policy.immutable,
                retention_days: policy.retention_days,
                log_all_access: policy.log_all_access,
            };
            let members = match (policy.audit_logger, named) {
                (Some(below), false) if beside.is_empty() => below.unwrap_or_default(),
                (None, true) => beside,
                _ => {
                    let problem = format!(
                        "a policy of the chain is written `- {AUDIT_LOGGER}:` with its settings below it"
                    );
                    return self.wrong(line, problem);
                }
            };
            if found.replace(self.audit(line, &members)?).is_some() {
                return self.wrong(line, format!("`{AUDIT_LOGGER}` stands in the chain twice; keep one"));
            }
        }
        Ok(found.unwrap_or_default())
    }

    fn audit(&self, line: u64, members: &AuditMembers) -> Result<AuditLogger, ConfigError> {
        if members.immutable == Some(false) {
            let problem = "`immutable` cannot be false: the audit log is append-only in any case; remove it, or write `true`";
            return self.wrong(line, problem.to_owned());
        }
        let retention = match members.retention_days {
            None => None,
            Some(days @ MIN_RETENTION_DAYS..=MAX_RETENTION_DAYS) => {
                Some(Duration::from_secs(u64::from(days) * DAY))
            }
            Some(days) => {
                let problem = format!(
                    "`retention_days` cannot be `{days}`; write {MIN_RETENTION_DAYS} to {MAX_RETENTION_DAYS}"
                );
                return self.wrong(line, problem);
            }
        };
        Ok(AuditLogger { retention, log_all_access: members.log_all_access.unwrap_or(false) })
    }
}

const NAME_RULE: &str = "must have 1 to 128 ASCII letters, digits, `_`, `-` or `.`";

/// What config variables may be called, too.
fn is_plain_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain)
}

fn is_variable_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pack: Pack,
    providers: Option<Providers>,
    policies: Option<Policies>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pack {
    name: Spanned<String>,
    version: Spanned<String>,
    enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Providers {
    targets: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    id: Spanned<String>,
    provider: Spanned<String>,
    model: Option<Spanned<String>>,
    base_url: Option<Spanned<String>>,
    secret_key_ref: Spanned<Reference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceMembers {
    store: Option<String>,
    env: Option<String>,
}

/// A mapping and nothing else: a key that somebody pasted in its place must not be repeated by the error.
struct Reference {
    store: Option<String>,
    env: Option<String>,
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        const PASTED: &str = "`secret_key_ref` takes `store: NAME` or `env: NAME`, never the key itself";

        impl<'de> Visitor<'de> for Either {
            type Value = Reference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PASTED)
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Reference, E> {
                Err(E::custom(PASTED))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Reference, A::Error> {
                let members = ReferenceMembers::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Reference { store: members.store, env: members.env })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policies {
    chain: Vec<Spanned<Policy>>,
}

/// One policy of the chain: `- audit-logger: {…}`, or `- name: audit-logger` (or `type:`) with its settings beside it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    #[serde(rename = "audit-logger", default, deserialize_with = "present")]
    audit_logger: Option<Option<AuditMembers>>,
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    immutable: Option<bool>,
    retention_days: Option<u32>,
    log_all_access: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditMembers {
    immutable: Option<bool>,
    retention_days: Option<u32>,
    log_all_access: Option<bool>,
}

impl AuditMembers {
    fn is_empty(&self) -> bool {
        self.immutable.is_none() && self.retention_days.is_none() && self.log_all_access.is_none()
    }
}

/// A member that may be there with nothing below it.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<AuditMembers>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
