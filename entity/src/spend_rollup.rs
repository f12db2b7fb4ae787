//! Sums over the requests of one UTC day or month, at several grains; written in the transaction that writes the usage rows.

use sea_orm::entity::prelude::*;

/// Sums over the requests of one UTC day, or month, that are alike in what their grain looks at.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "spend_rollup")]
pub struct Model {
    /// What is told apart besides tenant and day: `key`, `model`, `tags`, `key_model` or `all`; or besides tenant and month:
    /// `key_model_month` or `all_month`. Every request is in one row of each grain; columns that a grain does not look at
    /// are empty.
    #[sea_orm(primary_key, auto_increment = false)]
    pub grain: String,
    /// Days since 1970-01-01 in UTC, of the start; of a month, its first.
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: i64,
    /// Tenant id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    /// Virtual key id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub virtual_key_id: String,
    /// Of the last attempt.
    #[sea_orm(primary_key, auto_increment = false)]
    pub provider: String,
    /// As the client named it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub requested_model: String,
    /// `provider/model` of the last attempt.
    #[sea_orm(primary_key, auto_increment = false)]
    pub served_model: String,
    /// JSON object of strings. May be longer than Postgres can index, which indexes a digest of it instead.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tags: String,
    /// How many.
    pub requests: i64,
    /// All input.
    pub input_tokens: i64,
    /// All output.
    pub output_tokens: i64,
    /// The whole dollars of each known cost.
    pub cost_usd: i64,
    /// What each known cost has beyond its whole dollars.
    pub cost_nano_usd: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
