//! What can go wrong with the database. No driver type and no driver text escapes: Postgres puts row values in its
//! messages.

use sea_orm::{DbErr, SqlErr};

/// A failure of the database or of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// Another row has that name already.
    #[error("it exists already")]
    Conflict,
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
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_) | SqlErr::ForeignKeyConstraintViolation(_)) => {
                Self::Conflict
            }
            _ => match error {
                DbErr::RecordNotFound(_) | DbErr::RecordNotUpdated => Self::NotFound,
                other => {
                    // The variant's name only: the text of a driver error may carry values.
                    tracing::warn!(kind = variant_name(&other), "store.failed");
                    Self::Unavailable
                }
            },
        }
    }
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
