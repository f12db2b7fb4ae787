//! A name for an ordered list of models.

use sea_orm::entity::prelude::*;

/// A name for an ordered list of models.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "model_alias")]
pub struct Model {
    /// `als_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub tenant_id: String,
    /// The alias.
    pub name: String,
    /// JSON array of `provider/model`, tried in order.
    pub models: String,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
