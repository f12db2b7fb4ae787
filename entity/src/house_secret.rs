//! A secret of the gateway itself, sealed: pepper, audit key, JWT key.

use sea_orm::entity::prelude::*;

/// A secret of the gateway itself, sealed: pepper, audit key, JWT key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "house_secret")]
pub struct Model {
    /// Name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// `v1.<kid>.<fernet token>`.
    pub sealed: String,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
