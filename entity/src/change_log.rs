//! Numbered outbox of changes that running gateways must notice.

use sea_orm::entity::prelude::*;

/// Numbered outbox of changes that running gateways must notice.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "change_log")]
pub struct Model {
    /// Ascending.
    #[sea_orm(primary_key)]
    pub seq: i64,
    /// Whose caches are stale; null means everybody's.
    pub tenant_id: Option<String>,
    /// What changed: `virtual_key`, `provider_key`, `alias`, `tenant`, `price`.
    pub subject: String,
    /// UTC, milliseconds since the epoch.
    pub at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
