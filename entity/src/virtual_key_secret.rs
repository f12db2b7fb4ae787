//! One secret of a virtual key: its digest only.

use sea_orm::entity::prelude::*;

/// One secret of a virtual key: its digest only.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "virtual_key_secret")]
pub struct Model {
    /// HMAC-SHA-256 under the pepper, 64 hex digits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub digest: String,
    /// Which key it opens.
    pub virtual_key_id: String,
    /// The non-secret id inside the key, 12 base62 characters.
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
