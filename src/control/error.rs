//! Why an act was not done.

use std::time::Duration;

use crate::{
    store::{Pruned, SpendError, StoreError},
    vault::PasswordError,
};

/// Why an act was not done. Messages are for the person who asked; none of them carries a secret.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// What was asked for makes no sense as it stands.
    #[error("{message}")]
    Invalid {
        /// Stable name of the mistake.
        code: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// The actor may not do it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such thing, or it is another tenant's.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It stands against what is there already.
    #[error("{0}")]
    Conflict(String),
    /// It stands against something that has a name of its own.
    #[error("{message}")]
    InTheWay {
        /// Stable name of it.
        code: &'static str,
        /// What it is and what to do.
        message: String,
    },
    /// An instance's leases cannot be released, because it lives or may live.
    #[error("{0}")]
    InstanceAlive(String),
    /// A config variable does not open as what its row says it is.
    #[error("{0}")]
    Unresolvable(String),
    /// A configuration that was read anew cannot be taken; the old one stays in force.
    #[error("{0}; the old configuration stays in force")]
    InvalidConfiguration(String),
    /// An `Idempotency-Key` came again with something else.
    #[error("this `Idempotency-Key` was used for another request; choose a new one")]
    IdempotencyMismatch,
    /// Email or password is wrong; it is not said which.
    #[error("email or password is wrong")]
    BadCredentials,
    /// No session, or one that is over.
    #[error("the session token is missing, invalid or expired; log in again")]
    NoSession,
    /// Too many failed logins.
    #[error("too many failed logins; try again in {} seconds", retry_after.as_secs())]
    Throttled {
        /// When to try again.
        retry_after: Duration,
    },
    /// No service token, or one that may not be used; it is not said which.
    #[error("the service token is missing, wrong or ended; send a live one as `X-Service-Token`")]
    NoServiceToken,
    /// A request for a key came with several credentials.
    #[error("send exactly one `X-Service-Token` header, and no `Authorization` beside it")]
    SeveralCredentials,
    /// Too many requests for keys without a live service token.
    #[error(
        "too many requests without a live service token from this address; try again in {} seconds", retry_after.as_secs()
    )]
    ServicesThrottled {
        /// When to try again.
        retry_after: Duration,
    },
    /// A service asks for keys too often.
    #[error(
        "this service token asks for keys more than {} times a minute; keep what was fetched, and try again in {} seconds",
        super::service_rate::FETCHES, retry_after.as_secs().max(1)
    )]
    ServiceTooOften {
        /// When to try again.
        retry_after: Duration,
    },
    /// The operator does not let services fetch keys.
    #[error(
        "this gateway gives no keys to services; its operator can allow it with `vault.allow_retrieval` (`KEYSTILE_VAULT_ALLOW_RETRIEVAL=true`)"
    )]
    RetrievalOff,
    /// There is no key that a service may fetch.
    #[error("{0}")]
    NothingToRetrieve(&'static str),
    /// A stored key does not open.
    #[error(
        "the stored key does not open, and no other is given in its place; the audit log says why: restore it, or enter it anew"
    )]
    KeyDoesNotOpen,
    /// What was asked for could not be written to the audit log.
    #[error("the audit log cannot be written, so no key is given; the gateway's log says why")]
    Unrecorded,
    /// The audit log, which was to be pruned, is not what was written.
    #[error(
        "the audit log is broken at entry {seq}: {why}; nothing is pruned until that is settled: see `keystile audit verify`, \
         find out who changed the database, and compare with a backup"
    )]
    AuditBroken {
        /// The first bad entry.
        seq: i64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A report took too long.
    #[error(
        "the report was not ready within 15 seconds; narrow `from` and `to`, group by less, or try again later"
    )]
    ReportTooLong,
    /// A password could not be checked or is refused.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlError {
    /// A mistake in the request.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into() }
    }

    /// Whether a reference to a config variable could not be resolved.
    pub(super) fn is_about_a_reference(&self) -> bool {
        match self {
            Self::Unresolvable(_) => true,
            Self::Invalid { code, .. } => {
                matches!(*code, "unknown_variable" | "variable_not_sensitive" | "unfit_variable")
            }
            _ => false,
        }
    }

    /// A mistake in the request that has no name of its own.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::invalid("invalid_request", message)
    }
}

impl From<SpendError> for ControlError {
    fn from(error: SpendError) -> Self {
        match error {
            SpendError::Pruned(Pruned { before }) => Self::invalid(
                "usage_pruned",
                format!(
                    "usage rows from before {} were deleted, and only sums of whole days are left; let `from` and `to` be UTC dates (such as 2026-11-21)",
                    before.utc().format("%Y-%m-%d"),
                ),
            ),
            SpendError::Store(error) => error.into(),
        }
    }
}

/// Says what it is that a missing row would have been.
pub(super) trait OrMissing<T> {
    fn or_missing(self, what: &'static str) -> Result<T, ControlError>;

    /// For lists, in which the only thing that can be missing is the place that a cursor names.
    fn or_bad_cursor(self) -> Result<T, ControlError>;
}

impl<T> OrMissing<T> for Result<T, StoreError> {
    fn or_missing(self, what: &'static str) -> Result<T, ControlError> {
        self.map_err(|error| match error {
            StoreError::NotFound => ControlError::NotFound(what),
            other => ControlError::Store(other),
        })
    }

    fn or_bad_cursor(self) -> Result<T, ControlError> {
        self.map_err(|error| match error {
            StoreError::NotFound => ControlError::bad("`cursor` must be one that this list answered"),
            other => ControlError::Store(other),
        })
    }
}
