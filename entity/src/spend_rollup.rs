//! Sums over requests by UTC day, at several grains; written in the transaction that writes the usage rows.

use sea_orm::entity::prelude::*;

/// The sums of each day of one UTC month, over the requests that are alike in what their grain looks at.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "spend_rollup")]
pub struct Model {
    /// What is told apart besides tenant and month: `key`, `model`, `tags`, `key_model` or `all`. Every request counts in
    /// one row of each grain; columns that a grain does not look at are empty.
    #[sea_orm(primary_key, auto_increment = false)]
    pub grain: String,
    /// The month's first day, in days since 1970-01-01; a request belongs to the day and month of its start.
    #[sea_orm(primary_key, auto_increment = false)]
    pub month: i64,
    /// What stands for the columns from tenant to tags: 32 hexadecimal digits of SHA-256, `store::rollup` says of what.
    #[sea_orm(primary_key, auto_increment = false)]
    pub series: String,
    /// Tenant id.
    pub tenant_id: String,
    /// Virtual key id.
    pub virtual_key_id: String,
    /// Of the last attempt.
    pub provider: String,
    /// As the client named it.
    pub requested_model: String,
    /// `provider/model` of the last attempt.
    pub served_model: String,
    /// JSON object of strings.
    pub tags: String,
    /// JSON, for each day that has any: how many days it lies after the first, requests, input tokens, output tokens,
    /// dollars, and the nano-dollars below them.
    pub days: String,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
