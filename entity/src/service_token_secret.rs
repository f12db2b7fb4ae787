//! One secret of a service token: its digest only.

use sea_orm::entity::prelude::*;

/// One secret of a service token: its digest only.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "service_token_secret")]
pub struct Model {
    /// HMAC-SHA-256 under the pepper, 64 hex digits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub digest: String,
    /// Which service token it is.
    pub service_token_id: String,
    /// The non-secret id inside the token, 12 base62 characters.
    pub token_id: String,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// End of its grace period after a rotation.
    pub expires_at: Option<i64>,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
