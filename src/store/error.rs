//! What can go wrong with the database. No driver type and no driver text escapes: Postgres puts row values in its
//! messages.

use std::path::PathBuf;

use sea_orm::{DbErr, RuntimeErr, SqlErr};
use sqlx::postgres::PgDatabaseError;

use crate::domain::SqliteUrlError;

/// A failure of the database or of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// Another row has that name already.
    #[error("it exists already")]
    Conflict,
    /// The database refuses what was to be written, for what it is: trying again does not help.
    #[error("the database refuses what was to be written")]
    Refused,
    /// The database is locked, gone, full, or did not answer in time.
    #[error("the database does not answer; look at its process, disk and locks")]
    Unavailable,
    /// A row does not say what it must say.
    #[error("a row of `{table}` is unreadable: {what}")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// What is wrong with it, without the value.
        what: &'static str,
    },
    /// The database cannot be used as it is; only opening it says so.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a database cannot be used as it is. Somebody must change something: trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database that can be used. The URL itself may carry a password and is not repeated.
    #[error("the database URL cannot be used: {0}")]
    Url(&'static str),
    /// The SQLite URL names no file.
    #[error("the database URL {0}")]
    SqliteUrl(SqliteUrlError),
    /// The file cannot be opened or made.
    #[error("`{}` cannot be opened: {why}", path.display())]
    File {
        /// The file, or the directory that is missing.
        path: PathBuf,
        /// What is wrong and what to do.
        why: &'static str,
    },
    /// Postgres answered, and refused.
    #[error("the database refuses the connection: {0}")]
    Refused(&'static str),
    /// A later version of the gateway has been here.
    #[error(
        "the schema is newer than this version of keystile knows (`{found}`); run the version that made it, or a newer one"
    )]
    SchemaTooNew {
        /// The oldest step that is not known.
        found: String,
    },
    /// Another version has been here that is not known to be a later one: perhaps a build between two versions.
    #[error(
        "the schema has a step that this version of keystile does not know (`{found}`); run the version that made it; if that was an unreleased build, move the database away and begin with a new one"
    )]
    SchemaForeign {
        /// The oldest such step.
        found: String,
    },
    /// An earlier version of the gateway was here last, or none.
    #[error(
        "its schema lacks {pending} step(s) of this version of keystile; start the new `keystile serve` once, which makes them"
    )]
    SchemaTooOld {
        /// How many.
        pending: usize,
    },
    /// SQLite before 3.51.3 may corrupt its write-ahead log.
    #[error(
        "SQLite {found} is too old; build with 3.51.3 or newer, which does not corrupt its write-ahead log"
    )]
    OldSqlite {
        /// The version that runs.
        found: String,
    },
}

impl StoreError {
    /// Whether the database answered, so that trying the same again does not help.
    pub fn is_an_answer(&self) -> bool {
        !matches!(self, Self::Unavailable)
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_) | SqlErr::ForeignKeyConstraintViolation(_)) => {
                Self::Conflict
            }
            _ => match error {
                DbErr::RecordNotFound(_) | DbErr::RecordNotUpdated => Self::NotFound,
                other if is_refusal(&other) => Self::Refused,
                other => {
                    // The variant's name only: the text of a driver error may carry values.
                    tracing::warn!(kind = variant_name(&other), "store.failed");
                    Self::Unavailable
                }
            },
        }
    }
}

/// Whether the database answered that it does not take this data: a constraint, a range, a text that is none. An error
/// of its own, a schema that is not what it should be, or no answer at all are something else.
fn is_refusal(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    let Some(error) = error.as_database_error() else { return false };
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        // Data exceptions, and violations of integrity.
        return code.starts_with("22") || code.starts_with("23");
    }
    // The low byte is the class: too big, constraint, mismatch, range.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20 | 25))
}

fn variant_name(error: &DbErr) -> &'static str {
    match error {
        DbErr::ConnectionAcquire(_) => "connection_acquire",
        DbErr::Conn(_) => "connection",
        DbErr::Exec(_) => "exec",
        DbErr::Query(_) => "query",
        DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. } => "type",
        DbErr::Migration(_) => "migration",
        _ => "other",
    }
}
