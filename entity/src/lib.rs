//! Keystile's database rows: one file a table, primitive columns only, the same shape on SQLite and Postgres.
//! Times are UTC milliseconds, money is nano-USD, lists and maps are JSON text.

#![allow(missing_docs, reason = "the derive makes items that cannot carry docs")]

pub mod audit_anchor;
pub mod audit_entry;
pub mod audit_head;
pub mod budget;
pub mod change_log;
pub mod config_variable;
pub mod house_secret;
pub mod idempotency_key;
pub mod instance;
pub mod lease;
pub mod master_key;
pub mod model_alias;
pub mod price;
pub mod provider_key;
pub mod provider_key_use;
pub mod service_token;
pub mod service_token_secret;
pub mod session;
pub mod spend_counter;
pub mod spend_rollup;
pub mod tenant;
pub mod usage_pruned;
pub mod usage_record;
pub mod user;
pub mod virtual_key;
pub mod virtual_key_secret;
