//! One version of the price of one model, set by an owner; the newest in force wins over the catalogue.

use sea_orm::entity::prelude::*;

/// One version of the price of one model, set by an owner; the newest in force wins over the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "price")]
pub struct Model {
    /// `prc_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `provider/model`.
    pub model: String,
    /// Micro-USD per million tokens.
    pub input: i64,
    /// Micro-USD per million tokens.
    pub output: i64,
    /// Micro-USD per million tokens.
    pub cache_read: Option<i64>,
    /// Five-minute cache writes, micro-USD per million tokens.
    pub cache_write: Option<i64>,
    /// One-hour cache writes, micro-USD per million tokens.
    pub cache_write_1h: Option<i64>,
    /// Tokens.
    pub context_window: Option<i64>,
    /// Tokens.
    pub max_output_tokens: Option<i64>,
    /// UTC, milliseconds since the epoch.
    pub effective_from: i64,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
