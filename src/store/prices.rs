//! Prices that owners set: rows to values and back. Rows are only ever added; the newest in force counts.

use entity::price::{ActiveModel, Column, Entity, Model};
use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait, QueryOrder, Set};

use super::{Store, StoreError, Tx, columns::moment, rows};
use crate::domain::{ModelRef, PriceId, PricePerMillion, Timestamp};

const TABLE: &str = "price";

/// One version of the price of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPrice {
    /// Its version.
    pub id: PriceId,
    /// Of which model.
    pub model: ModelRef,
    /// Fresh input.
    pub input: PricePerMillion,
    /// Output.
    pub output: PricePerMillion,
    /// Cache reads.
    pub cache_read: Option<PricePerMillion>,
    /// Five-minute cache writes.
    pub cache_write: Option<PricePerMillion>,
    /// One-hour cache writes.
    pub cache_write_1h: Option<PricePerMillion>,
    /// Tokens.
    pub context_window: Option<u64>,
    /// Tokens.
    pub max_output_tokens: Option<u64>,
    /// From when it holds.
    pub effective_from: Timestamp,
    /// When it was set.
    pub created_at: Timestamp,
}

impl Store {
    /// Every version ever set, in the order in which they were set.
    pub async fn prices(&self) -> Result<Vec<StoredPrice>, StoreError> {
        all(self.reader()).await
    }
}

/// Adds a version.
pub async fn price_insert(tx: &Tx, price: &StoredPrice) -> Result<(), StoreError> {
    let wide = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    let amount = |price: Option<PricePerMillion>| price.map(PricePerMillion::micro_usd_per_million);
    let row = ActiveModel {
        id: Set(price.id.to_string()),
        model: Set(price.model.to_string()),
        input: Set(price.input.micro_usd_per_million()),
        output: Set(price.output.micro_usd_per_million()),
        cache_read: Set(amount(price.cache_read)),
        cache_write: Set(amount(price.cache_write)),
        cache_write_1h: Set(amount(price.cache_write_1h)),
        context_window: Set(wide(price.context_window)),
        max_output_tokens: Set(wide(price.max_output_tokens)),
        effective_from: Set(price.effective_from.millis()),
        created_at: Set(price.created_at.millis()),
    };
    row.insert(tx).await?;
    Ok(())
}

async fn all(db: &impl ConnectionTrait) -> Result<Vec<StoredPrice>, StoreError> {
    let rows = Entity::find().order_by_asc(Column::CreatedAt).order_by_asc(Column::Id).all(db).await?;
    rows.into_iter().map(read).collect()
}

fn read(row: Model) -> Result<StoredPrice, StoreError> {
    let corrupt = |what| StoreError::Corrupt { table: TABLE, what };
    let price = |value: i64, what| PricePerMillion::new(value).ok_or(corrupt(what));
    let maybe = |value: Option<i64>, what| value.map(|value| price(value, what)).transpose();
    let tokens = |value: Option<i64>, what| value.map(u64::try_from).transpose().map_err(|_| corrupt(what));
    Ok(StoredPrice {
        id: rows::id(TABLE, &row.id)?,
        model: ModelRef::parse(&row.model).map_err(|_| corrupt("model"))?,
        input: price(row.input, "input")?,
        output: price(row.output, "output")?,
        cache_read: maybe(row.cache_read, "cache_read")?,
        cache_write: maybe(row.cache_write, "cache_write")?,
        cache_write_1h: maybe(row.cache_write_1h, "cache_write_1h")?,
        context_window: tokens(row.context_window, "context_window")?,
        max_output_tokens: tokens(row.max_output_tokens, "max_output_tokens")?,
        effective_from: moment(row.effective_from),
        created_at: moment(row.created_at),
    })
}
