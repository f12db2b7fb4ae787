//! Where the audit chain begins once its oldest entries were pruned; one row, or none.

use sea_orm::entity::prelude::*;

/// Where the audit chain begins once its oldest entries were pruned; one row, or none.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_anchor")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Of the last entry that was pruned.
    pub seq: i64,
    /// Of the last entry that was pruned.
    pub mac: String,
    /// When, in UTC milliseconds since the epoch.
    pub at: i64,
    /// HMAC-SHA-256 over `seq` and `mac`; 64 hex digits.
    pub seal: String,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
