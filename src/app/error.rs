//! Why a gateway does not start. Each says what to do about it.

use crate::{
    control::ControlError,
    ledger::RecoveryError,
    redis::RedisUrlError,
    server::{ListenError, LockError},
    store::StoreError,
    vault::{KeyFileError, KeyRingError, OpenError, PasswordError, SecretKeyError, SessionKeyError},
};

/// A start-up failure.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another instance runs here.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database cannot be opened or read.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// What an earlier run left behind cannot be settled.
    #[error("the ledger cannot be brought up to date")]
    Ledger(#[from] RecoveryError),
    /// The URL of Redis is none.
    #[error(transparent)]
    Redis(#[from] RedisUrlError),
    /// A master key is unusable.
    #[error(transparent)]
    KeyRing(#[from] KeyRingError),
    /// A key for config variables is unusable.
    #[error(transparent)]
    SecretKey(#[from] SecretKeyError),
    /// The master key's file is unusable.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// There are sealed keys and no master key.
    #[error(
        "the database holds sealed keys and no master key is given; set `PROVIDER_KEY_ENCRYPTION_KEY` to the one they were sealed with"
    )]
    NoMasterKey,
    /// Several instances would each make their own.
    #[error(
        "on Postgres the master key is not made up, because all instances must share it; make one with `keystile master-key generate` and set `PROVIDER_KEY_ENCRYPTION_KEY`"
    )]
    MasterKeyForPostgres,
    /// A sealed row cannot be opened with the master keys given.
    #[error("`{what}` cannot be opened")]
    Sealed {
        /// Which row.
        what: String,
        /// Why.
        source: OpenError,
    },
    /// A session key is unusable.
    #[error(transparent)]
    SessionKey(#[from] SessionKeyError),
    /// Passwords cannot be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The TLS client cannot be built.
    #[error("the client for providers cannot be built")]
    Client(#[from] reqwest::Error),
    /// A reference to a secret leads nowhere, or a target of the policy pack cannot be used.
    #[error("the references to secrets cannot be resolved")]
    References {
        /// Which, and why.
        source: ControlError,
    },
    /// The policy pack is named and was not read.
    #[error("a policy pack is configured and was not read; call `Config::read_policy` before the start")]
    PolicyNotRead,
    /// A first act failed.
    #[error("the first admin, tenant or prices cannot be set up")]
    Control(#[from] ControlError),
    /// A socket or file failed.
    #[error("the built-in provider cannot listen on loopback")]
    Io(#[from] std::io::Error),
}

/// An error and its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}
