//! One link of the audit chain.

use sea_orm::entity::prelude::*;

/// One link of the audit chain.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entry")]
pub struct Model {
    /// 1, 2, 3 … without a gap.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    /// `aud_…`.
    pub id: String,
    /// UTC, milliseconds since the epoch.
    pub at: i64,
    /// User id, `cli` or `system`.
    pub actor: String,
    /// Tenant id.
    pub tenant_id: Option<String>,
    /// Category.
    pub category: String,
    /// Action.
    pub action: String,
    /// Id of what was acted on.
    pub object: Option<String>,
    /// `success`, `refused` or `failure`.
    pub outcome: String,
    /// Id of the request on the admin plane.
    pub request_id: Option<String>,
    /// The exact bytes that were MACed, as JSON.
    pub canonical: String,
    /// HMAC-SHA-256 over sequence, previous MAC and `canonical`; 64 hex digits.
    pub mac: String,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
