//! A tenant's config variable: a named value, in the open or sealed.

use sea_orm::entity::prelude::*;

/// A tenant's config variable: a named value, in the open or sealed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "config_variable")]
pub struct Model {
    /// `cfg_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub tenant_id: String,
    /// Letters, digits, `_`, `-`, `.`; once in a tenant.
    pub name: String,
    /// The value of one that is not sensitive.
    pub value: Option<String>,
    /// The value of a sensitive one: `v2.<kid>.<AES-256-GCM-SIV>`. Exactly one of the two is there.
    pub sealed: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
