//! Spend of one scope in one window: what is settled, written in the transaction that writes the usage rows, and what
//! gateways have leased of its cap.

use sea_orm::entity::prelude::*;

/// Settled and leased spend of one scope in one window.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "spend_counter")]
pub struct Model {
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
    /// Nano-USD.
    pub settled_nano_usd: i64,
    /// Nano-USD: the sum of the leases on it.
    pub leased_nano_usd: i64,
    /// When a gateway last asked the others to give back what they do not use; milliseconds of the database's clock.
    pub wanted_at: Option<i64>,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
