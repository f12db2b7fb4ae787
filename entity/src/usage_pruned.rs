//! How far usage rows were deleted for their age; one row, or none while nothing was.

use sea_orm::entity::prelude::*;

/// How far usage rows were deleted for their age; one row, or none while nothing was.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_pruned")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Start of a UTC day, milliseconds since the epoch: rows of requests that started before it may be gone.
    pub before: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
