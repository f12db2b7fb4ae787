//! One finished request: counts, cost and outcome; no content.

use sea_orm::entity::prelude::*;

/// One finished request: counts, cost and outcome; no content.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_record")]
pub struct Model {
    /// `req_…`, ours.
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: String,
    /// UTC, milliseconds since the epoch.
    pub started_at: i64,
    /// Tenant id.
    pub tenant_id: String,
    /// Virtual key id.
    pub virtual_key_id: String,
    /// Of the last attempt.
    pub provider_key_id: String,
    /// Of the last attempt.
    pub provider: String,
    /// As the client named it.
    pub requested_model: String,
    /// `provider/model` of the last attempt.
    pub served_model: String,
    /// HTTP status sent to the client.
    pub status: i32,
    /// How it ended.
    pub outcome: String,
    /// JSON array: provider, model, key id, status, outcome, latency.
    pub attempts: String,
    /// Stream.
    pub stream: bool,
    /// All input.
    pub input_tokens: i64,
    /// Of the input.
    pub cache_read_tokens: i64,
    /// Of the input.
    pub cache_write_tokens: i64,
    /// All output.
    pub output_tokens: i64,
    /// Of the output.
    pub reasoning_tokens: i64,
    /// Null when no price is known.
    pub cost_nano_usd: Option<i64>,
    /// JSON array: class, tokens, price.
    pub cost_lines: String,
    /// What a clamp took away from the provider's figures.
    pub clamped_nano_usd: i64,
    /// Which price was in force.
    pub price_version: Option<String>,
    /// `provider`, `estimated`, `recovered` or `none`.
    pub usage_source: String,
    /// Latency ms.
    pub latency_ms: i64,
    /// Streams only.
    pub time_to_first_token_ms: Option<i64>,
    /// JSON object of strings.
    pub tags: String,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
