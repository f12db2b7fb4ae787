//! A create that was asked for under an `Idempotency-Key`.

use sea_orm::entity::prelude::*;

/// A create that was asked for under an `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_key")]
pub struct Model {
    /// Whose key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub actor: String,
    /// As the client chose it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// SHA-256 of route and body, hex.
    pub request_digest: String,
    /// What was created.
    pub object_id: String,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
