//! What one gateway may spend of one counter's cap without asking again.

use sea_orm::entity::prelude::*;

/// What one gateway may spend of one counter's cap without asking again.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lease")]
pub struct Model {
    /// Which gateway.
    #[sea_orm(primary_key, auto_increment = false)]
    pub instance_id: String,
    /// `virtual_key`, `tenant` or `budget`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub scope: String,
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub scope_id: String,
    /// `total`, `daily`, `weekly` or `monthly`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub window: String,
    /// Which day, week or month; 0 for `total`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub window_index: i64,
    /// Nano-USD, more than 0.
    pub granted_nano_usd: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
