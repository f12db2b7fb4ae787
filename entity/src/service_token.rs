//! What a service may fetch keys with; its secrets are in `service_token_secret`.

use sea_orm::entity::prelude::*;

/// What a service may fetch keys with; its secrets are in `service_token_secret`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "service_token")]
pub struct Model {
    /// `st_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose keys it fetches.
    pub tenant_id: String,
    /// For people.
    pub service_name: String,
    /// May be used.
    pub is_active: bool,
    /// When a key was last asked for with it; UTC, milliseconds since the epoch.
    pub last_used_at: Option<i64>,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
