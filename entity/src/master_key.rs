//! What became of the master keys: which one everything is sealed anew under, and which seal nothing any more. The keys
//! themselves are never in the database; one that was never rotated has no row.

use sea_orm::entity::prelude::*;

/// What became of a master key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "master_key")]
pub struct Model {
    /// Its id, 8 hex digits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kid: String,
    /// `rotating`, `primary` or `retired`.
    pub state: String,
    /// Since when; UTC, milliseconds since the epoch.
    pub since: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
