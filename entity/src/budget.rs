//! A cap that several virtual keys share.

use sea_orm::entity::prelude::*;

/// A cap that several virtual keys share.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "budget")]
pub struct Model {
    /// `bud_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub tenant_id: String,
    /// Unique among the tenant's budgets that are not deleted.
    pub name: String,
    /// Cap in nano-USD; null is unlimited, 0 blocks everything.
    pub cap_nano_usd: Option<i64>,
    /// `total`, `daily`, `weekly` or `monthly`.
    pub window: String,
    /// `hard` or `soft`.
    pub cap_mode: String,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
    /// Set when it was deleted; what was spent under it stays.
    pub deleted_at: Option<i64>,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
