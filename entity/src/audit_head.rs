//! The end of the audit chain; one row, locked by every append.

use sea_orm::entity::prelude::*;

/// The end of the audit chain; one row, locked by every append.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_head")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Of the last entry; 0 before the first.
    pub seq: i64,
    /// Of the last entry.
    pub mac: String,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
