//! Rows to domain values and back; the only room that knows SeaORM, `entity` and `migration`.
//!
//! One writer with immediate transactions and readers apart on SQLite, one pool on Postgres. When the database is
//! locked or gone every call answers [`StoreError::Unavailable`]; nothing is cached here and nothing is retried.

pub mod change_log;
mod connection;
mod error;
pub mod house_secrets;
mod open;
pub(crate) mod rows;
pub mod snapshot;
pub mod usage;

#[cfg(test)]
mod testing;

pub use change_log::{CHANGES_AT_ONCE, Change};
pub use connection::{Options, Reader, StatementCounts, Store, Tx, sqlite_url};
pub use error::{OpenError, StoreError};
pub use house_secrets::SealedText;
pub use snapshot::{KeyRow, ProviderKeyRow, TenantRow};
pub use usage::{SpendRow, SpendScope};
