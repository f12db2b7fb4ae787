//! What the house knows about providers and prices: two data files, compiled in, read and checked once at start.
//!
//! `config/providers.toml` says where each provider is, which dialect it speaks, and its quirks. `config/prices.json`
//! says what each model costs. Owners' own prices lie over the file by effective date; a change makes a new
//! [`PriceBook`] that is swapped in whole, so a request sees one book from its plan to its settlement and looking a
//! price up takes neither lock nor database. While the database is away the last book stays in force.
//!
//! Invariants: names match exactly, without prefix rules; a price that is absent is unknown, never zero.

mod capabilities;
mod price_file;
mod prices;
mod providers;
pub mod quirks;
mod rates;

use arc_swap::ArcSwap;

pub use capabilities::{Capabilities, ThinkingStyle, capabilities};
pub use price_file::PricesError;
pub use prices::{PriceBook, PriceOverride};
pub use providers::{AuthStyle, InputBounds, Provider, Providers, ProvidersError};
pub use quirks::{DialectKind, OutputLimitField, Quirks, StreamUsage};
pub use rates::{
    DEFAULT_MAX_FILE_TOKENS, DEFAULT_MAX_IMAGE_TOKENS, DEFAULT_OVERHEAD_TOKENS, Mode, ModelPrice, Rates,
    ServiceTier, Tier,
};

/// Providers, and the price book in force.
#[derive(Debug)]
pub struct Catalogue {
    /// Every known provider.
    pub providers: Providers,
    /// The price book in force; replaced whole when an owner changes a price.
    pub prices: ArcSwap<PriceBook>,
}

impl Catalogue {
    /// The compiled-in files, without owners' prices.
    pub fn bundled() -> Self {
        Self { providers: Providers::bundled(), prices: ArcSwap::from_pointee(PriceBook::bundled()) }
    }
}
