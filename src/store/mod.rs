//! Rows to domain values and back; the only room that knows SeaORM, `entity` and `migration`.
//!
//! One writer with immediate transactions and readers apart on SQLite, one pool on Postgres. When the database is
//! locked or gone every call answers [`StoreError::Unavailable`]; nothing is cached here and nothing is retried.

mod connection;
mod error;

pub use connection::{Reader, Store, Tx};
pub use error::StoreError;
