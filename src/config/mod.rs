//! What the operator decided, as plain data: nothing in here is built, opened or running.
//!
//! Layers, each over the one before: `config/default.yaml` (compiled in), the operator's YAML file, the environment,
//! the flags. Every setting stands once, in `table.rs`, with its key, its variable and its reader, so that the layers
//! cannot disagree about a name or a spelling. A name that is in no table is an error with its nearest neighbour: a
//! typo in a limit costs money. The environment is handed in; only [`environment`] reads the real one.
//!
//! The operator's policy pack is a file of its own ([`PolicyPack`]), read and checked for a gateway only.
//!
//! Secrets are wrapped as soon as they are read and appear in no error.

mod check;
mod client;
mod env;
mod error;
mod file;
mod load;
mod near;
mod origins;
mod pack;
mod settings;
mod show;
mod table;
mod value;

pub use client::reachable;
pub use env::{Environment, environment};
pub use error::{ConfigError, Origin};
pub use load::Overrides;
pub use origins::{Origins, ValueView};
pub use pack::{AuditLogger, PackTarget, PolicyPack, SecretRef};
pub use settings::{
    Admin, CheckpointSink, ClientSettings, Config, DatabaseUrl, Durability, EgressAllow, JwtKey, Ledger,
    Limits, LogFormat, MasterKeyText, Policy, Redis, SecretText, Server, Telemetry, Upstream, Vault,
};
