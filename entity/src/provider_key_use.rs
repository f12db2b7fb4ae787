//! When a provider key was last used, and last refused by its provider; written now and then, for people to look at.

use sea_orm::entity::prelude::*;

/// When a provider key was last used, and last refused by its provider.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "provider_key_use")]
pub struct Model {
    /// `pk_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub provider_key_id: String,
    /// UTC, milliseconds since the epoch; 0 for never.
    pub last_used_at: i64,
    /// UTC, milliseconds since the epoch; 0 for never.
    pub last_refused_at: i64,
    /// With which HTTP status it was refused then; 0 for never.
    pub last_refusal_status: i32,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
