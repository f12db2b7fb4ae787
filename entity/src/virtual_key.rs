//! What an application may do; its secrets are in `virtual_key_secret`.

use sea_orm::entity::prelude::*;

/// What an application may do; its secrets are in `virtual_key_secret`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "virtual_key")]
pub struct Model {
    /// `vk_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub tenant_id: String,
    /// For people.
    pub name: String,
    /// Allow-list as a JSON array of patterns; null allows all.
    pub models_allowed: Option<String>,
    /// Cap in nano-USD; null is unlimited, 0 blocks everything.
    pub spend_cap_nano_usd: Option<i64>,
    /// `total`, `daily`, `weekly` or `monthly`.
    pub spend_window: String,
    /// `hard` or `soft`.
    pub cap_mode: String,
    /// Requests a minute.
    pub rate_limit_rpm: Option<i32>,
    /// Tokens a minute.
    pub rate_limit_tpm: Option<i32>,
    /// Requests at the same time.
    pub max_parallel: Option<i32>,
    /// JSON array of model names, tried in order.
    pub fallback_models: String,
    /// JSON object of strings.
    pub tags: String,
    /// JSON array of the ids of the budgets it has joined.
    pub budgets: String,
    /// UTC, milliseconds since the epoch.
    pub expires_at: Option<i64>,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
    /// Set when it was revoked.
    pub revoked_at: Option<i64>,
    /// Set when it was deleted; its rows stay.
    pub deleted_at: Option<i64>,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
