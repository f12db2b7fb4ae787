//! Rows to domain values and back; the only room that knows SeaORM, `entity` and `migration`.
//!
//! One writer with immediate transactions and readers apart on SQLite, one pool on Postgres. When the database is
//! locked or gone every call answers [`StoreError::Unavailable`]; nothing is cached here and nothing is retried.

mod aliases;
mod audit;
mod budgets;
pub mod change_log;
mod charges;
mod columns;
mod config_variables;
mod connection;
mod counters;
mod day_sums;
mod error;
pub mod house_secrets;
mod idempotency;
mod instances;
mod leases;
mod many;
mod master_keys;
mod open;
mod page;
mod prices;
mod provider_key_use;
mod provider_keys;
mod references;
mod retention;
mod rollup;
pub(crate) mod rows;
mod scope;
mod sealed;
mod service_tokens;
mod sessions;
pub mod snapshot;
mod spend_groups;
mod spend_lines;
mod spend_reports;
mod tenants;
mod unreconciled;
pub mod usage;
mod usage_reports;
mod users;
mod virtual_keys;

#[cfg(test)]
pub(crate) mod testing;

/// How a SQLite file is written as a URL, for whoever opens one.
pub use crate::domain::sqlite_url;

pub use aliases::{Alias, alias_delete, alias_exists, alias_find, alias_insert, alias_update};
pub use audit::{
    AuditColumns, AuditFilter, ChainAnchor, ChainHead, ChainedEntry, RawEntry, audit_anchor_find,
    audit_anchor_set, audit_append, audit_entries_after, audit_lock,
};
pub use budgets::{
    Budget, budget_count_joins, budget_delete, budget_find, budget_find_named, budget_insert, budget_update,
};
pub use change_log::{CHANGES_AT_ONCE, Change};
pub use charges::Charge;
pub use columns::StoredLimits;
pub use config_variables::{
    ConfigVariable, VariableValue, config_variable_delete, config_variable_find, config_variable_insert,
    config_variable_named, config_variable_reseal, config_variable_update, config_variables_delete,
};
pub use connection::{Options, Reader, Schema, StatementCounts, Store, Tx};
pub use counters::CounterState;
pub use day_sums::Sums;
pub use error::{OpenError, StoreError};
pub use house_secrets::{
    StoredHouseSecret, house_secret_delete, house_secret_find, house_secret_or_insert, house_secret_set,
};
pub use idempotency::{DoneCreate, idempotency_find, idempotency_insert};
pub use instances::{
    Claim, Holder, InstanceRow, LeaseError, RegisterError, Registered, Released, Run, instance_release,
};
pub use leases::LeaseAsk;
pub use master_keys::{MasterKeyState, StoredMasterKey, master_key_set, master_key_state, master_keys};
pub use page::{DEFAULT_PAGE, MAX_PAGE, Page, Paged};
pub use prices::{StoredPrice, price_insert};
pub use provider_key_use::KeyUse;
pub use provider_keys::{
    ProviderKey, StagedSecret, provider_key_delete, provider_key_find, provider_key_insert,
    provider_key_update, provider_keys_delete, provider_keys_of,
};
pub use references::{provider_keys_referring, provider_keys_resolved};
pub use scope::TenantScope;
pub use sealed::{
    SealedColumn, SealedCounts, SealedFor, SealedText, SealedVariable, sealed_counts, sealed_replace,
};
pub use service_tokens::{
    PresentedToken, ServiceToken, service_token_delete, service_token_find, service_token_insert,
    service_token_secret_insert, service_token_secrets_retire, service_token_update, service_tokens_delete,
};
pub use sessions::{StoredSession, session_end, session_insert, sessions_end};
pub use snapshot::{KeyRow, ProviderKeyRow, TenantRow};
pub use spend_groups::{Group, GroupKey, MAX_GROUPS, Spend};
pub use spend_reports::{Pruned, SpendError, SpendFilter};
pub use tenants::{Tenant, tenant_delete, tenant_find, tenant_find_named, tenant_insert, tenant_update};
pub use unreconciled::Dead;
pub use usage_reports::{UsageCost, UsageFilter, UsageRow};
pub use users::{
    User, user_count_active_owners, user_delete, user_find, user_find_email, user_insert, user_update,
    users_delete, users_exist,
};
pub use virtual_keys::{
    VirtualKey, virtual_key_find, virtual_key_insert, virtual_key_secret_insert, virtual_key_secrets_retire,
    virtual_key_update, virtual_keys_revoke,
};
