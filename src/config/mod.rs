//! Plain data: what the operator decided. Nothing in here is built, opened or running.

mod settings;

pub use settings::{
    Admin, Config, DatabaseUrl, EgressAllow, JwtKey, Limits, LogFormat, MasterKeyText, SecretText, Server,
    Telemetry, Upstream, Vault,
};
