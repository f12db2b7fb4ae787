//! An owner of keys and of their spend.

use sea_orm::entity::prelude::*;

/// An owner of keys and of their spend.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant")]
pub struct Model {
    /// `tnt_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Unique among the tenants that are not deleted.
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
    /// IANA name of the zone in which its days begin.
    pub time_zone: String,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
    /// Set when the tenant was deleted; its rows stay.
    pub deleted_at: Option<i64>,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
