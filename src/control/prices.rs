//! Prices: the catalogue's, under those that owners set. A price that was recorded with a request never changes; a new
//! one is a new version.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Control, ControlError, act::permit};
use crate::{
    catalogue::{ModelPrice, PriceOverride},
    domain::{Actor, AuditAction, ModelRef, Permission, PriceId, PricePerMillion, Timestamp},
    store::{StoreError, StoredPrice, price_insert},
};

const MAX_ENTRIES: usize = 2_000;
/// A thousand dollars a token: a price above it is a slip of the unit.
const MAX_PRICE: i64 = 1_000_000_000_000_000;
const MAX_TOKENS: i64 = 1_000_000_000;

/// Prices to be set. Each entry replaces the whole price of its model; models that are not named keep theirs.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPrices {
    /// The entries; one bad entry refuses them all.
    pub prices: Vec<NewPrice>,
}

/// The price of one model, in micro-USD per million tokens.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPrice {
    /// `provider/model`.
    pub model: String,
    /// Fresh input.
    #[schema(minimum = 0)]
    pub input: i64,
    /// Output.
    #[schema(minimum = 0)]
    pub output: i64,
    /// Cache reads; as `input` when left out.
    #[serde(default)]
    pub cache_read: Option<i64>,
    /// Five-minute cache writes; as `input` when left out.
    #[serde(default)]
    pub cache_write: Option<i64>,
    /// One-hour cache writes; 1.6 × `cache_write` when left out.
    #[serde(default)]
    pub cache_write_1h: Option<i64>,
    /// Tokens; the catalogue's when left out.
    #[serde(default)]
    pub context_window: Option<i64>,
    /// Tokens; the catalogue's when left out.
    #[serde(default)]
    pub max_output_tokens: Option<i64>,
    /// RFC 3339 or a UTC date; now when left out.
    #[serde(default)]
    pub effective_from: Option<String>,
}

/// A price.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PriceView {
    /// `provider/model`.
    pub model: String,
    /// Fresh input.
    #[schema(value_type = i64)]
    pub input: PricePerMillion,
    /// Output.
    #[schema(value_type = i64)]
    pub output: PricePerMillion,
    /// Cache reads.
    #[schema(value_type = Option<i64>)]
    pub cache_read: Option<PricePerMillion>,
    /// Five-minute cache writes.
    #[schema(value_type = Option<i64>)]
    pub cache_write: Option<PricePerMillion>,
    /// One-hour cache writes.
    #[schema(value_type = Option<i64>)]
    pub cache_write_1h: Option<PricePerMillion>,
    /// Tokens.
    pub context_window: Option<u64>,
    /// Tokens.
    pub max_output_tokens: Option<u64>,
    /// Since when it holds; `null` for the catalogue's undated prices.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub effective_from: Option<Timestamp>,
    /// `catalogue:<date>`, or the id of an owner's price.
    pub version: String,
}

/// Prices.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PricesView {
    /// By model.
    pub prices: Vec<PriceView>,
}

impl Control {
    /// The prices in force now, by model; `model` asks for one.
    pub async fn prices(&self, actor: &Actor, model: Option<&str>) -> Result<PricesView, ControlError> {
        permit(actor, Permission::ReadSpend)?;
        let (book, now) = (self.catalogue.prices.load_full(), self.clock.now());
        let wanted: Vec<ModelRef> = match model {
            Some(text) => vec![checked_model(text)?],
            None => {
                let mut models: Vec<_> = book.models().cloned().collect();
                models.sort_unstable();
                models
            }
        };
        let prices =
            wanted.iter().filter_map(|model| book.price(model, now)).map(|price| view(&price)).collect();
        Ok(PricesView { prices })
    }

    /// Sets prices; all or none. Requests that began before keep the price they began with. Answers each as
    /// [`Control::prices`] shows it once it is in force.
    pub async fn prices_set(&self, actor: &Actor, asked: NewPrices) -> Result<PricesView, ControlError> {
        permit(actor, Permission::ManageHouse)?;
        if asked.prices.is_empty() || asked.prices.len() > MAX_ENTRIES {
            return Err(ControlError::bad(format!("`prices` must have 1 to {MAX_ENTRIES} entries")));
        }
        let mut act = self.begin(actor, Permission::ManageHouse).await?;
        let at = act.at();
        let mut seen = HashSet::new();
        let mut prices = Vec::with_capacity(asked.prices.len());
        for entry in &asked.prices {
            let price = checked(entry, at)?;
            if !seen.insert((price.model.clone(), price.effective_from.millis())) {
                let twice = format!("`{}` stands twice in `prices` for one date; remove one", price.model);
                return Err(ControlError::invalid("invalid_price", twice));
            }
            prices.push(price);
        }
        for price in &prices {
            price_insert(act.tx(), price).await?;
        }
        act.changed(None, "price");
        let models: Vec<_> = prices.iter().take(50).map(|price| price.model.to_string()).collect();
        let event = act
            .event(AuditAction::PricesSet, None, "prices")
            .with("entries", prices.len())
            .with("models", models.join(","));
        act.commit(event).await?;
        self.reload_prices().await?;
        let book = self.catalogue.prices.load();
        let set = prices.iter().filter_map(|price| book.price(&price.model, price.effective_from));
        Ok(PricesView { prices: set.map(|price| view(&price)).collect() })
    }

    /// Reads the owners' prices and swaps the price book. To be called at start, and when another process changed them.
    pub async fn reload_prices(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.0.reloading.lock().await;
        let overrides = self.store.prices().await?.into_iter().map(over).collect();
        let book = self.catalogue.prices.load().with_overrides(overrides);
        self.catalogue.prices.store(book.into());
        Ok(())
    }
}

fn checked_model(text: &str) -> Result<ModelRef, ControlError> {
    ModelRef::parse(text).map_err(|error| ControlError::invalid("invalid_model", format!("`model`: {error}")))
}

fn checked(entry: &NewPrice, now: Timestamp) -> Result<StoredPrice, ControlError> {
    let model = checked_model(&entry.model)?;
    let bad = |name: &str, what: &str| {
        ControlError::invalid("invalid_price", format!("`{name}` of `{model}` must be {what}"))
    };
    let price = |name: &str, value: i64| {
        PricePerMillion::new(value)
            .filter(|_| value <= MAX_PRICE)
            .ok_or_else(|| bad(name, "0 or more whole micro-USD per million tokens"))
    };
    let maybe = |name: &str, value: Option<i64>| value.map(|value| price(name, value)).transpose();
    let tokens = |name: &str, value: Option<i64>| match value {
        Some(value) if (1..=MAX_TOKENS).contains(&value) => Ok(Some(value.unsigned_abs())),
        Some(_) => Err(bad(name, "1 to 1000000000 tokens")),
        None => Ok(None),
    };
    let effective_from = match &entry.effective_from {
        Some(text) => Timestamp::parse(text)
            .ok_or_else(|| bad("effective_from", "RFC 3339 or a date such as 2026-11-21"))?,
        None => now,
    };
    Ok(StoredPrice {
        id: PriceId::generate(),
        input: price("input", entry.input)?,
        output: price("output", entry.output)?,
        cache_read: maybe("cache_read", entry.cache_read)?,
        cache_write: maybe("cache_write", entry.cache_write)?,
        cache_write_1h: maybe("cache_write_1h", entry.cache_write_1h)?,
        context_window: tokens("context_window", entry.context_window)?,
        max_output_tokens: tokens("max_output_tokens", entry.max_output_tokens)?,
        effective_from,
        created_at: now,
        model,
    })
}

fn over(price: StoredPrice) -> PriceOverride {
    PriceOverride {
        id: price.id,
        model: price.model,
        input: price.input,
        output: price.output,
        cache_read: price.cache_read,
        cache_write: price.cache_write,
        cache_write_1h: price.cache_write_1h,
        context_window: price.context_window,
        max_output_tokens: price.max_output_tokens,
        effective_from: price.effective_from,
        created_at: price.created_at,
    }
}

fn view(price: &ModelPrice) -> PriceView {
    PriceView {
        model: price.model.to_string(),
        input: price.rates.input,
        output: price.rates.output,
        cache_read: price.rates.cache_read,
        cache_write: price.rates.cache_write,
        cache_write_1h: price.rates.cache_write_1h,
        context_window: price.context_window,
        max_output_tokens: price.max_output_tokens,
        effective_from: Some(price.effective_from).filter(|from| from.millis() != 0),
        version: price.version.to_string(),
    }
}
