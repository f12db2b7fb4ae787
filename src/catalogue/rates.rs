//! What one model costs and how much it can take. Pure values: looking prices up is [`super::prices`], applying them is
//! `ledger::cost`.
//!
//! A price that is not listed is unknown, never zero. Where a class of tokens has no price of its own, a documented
//! default stands in that errs on the dear side; audio has none, because its price is many times that of text.

use std::sync::Arc;

use serde::Deserialize;

use crate::domain::{ModelRef, PricePerMillion, Timestamp, TokenClass, TokenUsage};

/// Hidden input tokens a provider may add when tools are present; used where `providers.toml` says nothing.
///
/// The largest such surplus over bytes sent in the recorded traffic the gateway is tested with is 443.
pub const DEFAULT_OVERHEAD_TOKENS: u64 = 512;

/// The most input tokens one image may become, where `providers.toml` says nothing.
///
/// Above the dearest published scheme (48 169 tokens, OpenAI's `gpt-4o-mini`).
pub const DEFAULT_MAX_IMAGE_TOKENS: u64 = 50_000;

/// The most input tokens one file may become, where neither the provider's maximum nor the context window is known.
///
/// No byte count bounds a file: a PDF is compressed, and each page may be read as text and as an image.
pub const DEFAULT_MAX_FILE_TOKENS: u64 = 1_000_000;

/// Prices of one list: micro-USD per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Fresh input.
    pub input: PricePerMillion,
    /// Output, reasoning included.
    pub output: PricePerMillion,
    /// Input read from the provider's cache.
    pub cache_read: Option<PricePerMillion>,
    /// Input written to the provider's cache for about five minutes.
    pub cache_write: Option<PricePerMillion>,
    /// Input written to the provider's cache for an hour.
    pub cache_write_1h: Option<PricePerMillion>,
    /// Audio input.
    pub input_audio: Option<PricePerMillion>,
    /// Audio output.
    pub output_audio: Option<PricePerMillion>,
}

impl Rates {
    /// Rates with a price for input and output only.
    pub const fn new(input: PricePerMillion, output: PricePerMillion) -> Self {
        Self {
            input,
            output,
            cache_read: None,
            cache_write: None,
            cache_write_1h: None,
            input_audio: None,
            output_audio: None,
        }
    }

    /// The price of a class. Not listed: `cache_read` and `cache_write` cost as input, `cache_write_1h` as 1.6 ×
    /// `cache_write` rounded up, audio as text. The last is no safe price: ask [`Rates::has`] first.
    pub fn of(&self, class: TokenClass) -> PricePerMillion {
        match class {
            TokenClass::Input => self.input,
            TokenClass::Output => self.output,
            TokenClass::CacheRead => self.cache_read.unwrap_or(self.input),
            TokenClass::CacheWrite => self.cache_write.unwrap_or(self.input),
            TokenClass::CacheWrite1h => {
                self.cache_write_1h.unwrap_or_else(|| scaled(self.of(TokenClass::CacheWrite), 8, 5))
            }
            TokenClass::InputAudio => self.input_audio.unwrap_or(self.input),
            TokenClass::OutputAudio => self.output_audio.unwrap_or(self.output),
        }
    }

    /// Whether the class has a price that can be relied on: its own, or a default that is not below it.
    pub const fn has(&self, class: TokenClass) -> bool {
        match class {
            TokenClass::InputAudio => self.input_audio.is_some(),
            TokenClass::OutputAudio => self.output_audio.is_some(),
            TokenClass::Input
            | TokenClass::Output
            | TokenClass::CacheRead
            | TokenClass::CacheWrite
            | TokenClass::CacheWrite1h => true,
        }
    }

    /// Class by class the dearer of the two.
    #[must_use]
    pub fn dearer(&self, other: &Self) -> Self {
        let of = |class| self.of(class).max(other.of(class));
        let audio = |class| (self.has(class) || other.has(class)).then(|| of(class));
        Self {
            input: of(TokenClass::Input),
            output: of(TokenClass::Output),
            cache_read: Some(of(TokenClass::CacheRead)),
            cache_write: Some(of(TokenClass::CacheWrite)),
            cache_write_1h: Some(of(TokenClass::CacheWrite1h)),
            input_audio: audio(TokenClass::InputAudio),
            output_audio: audio(TokenClass::OutputAudio),
        }
    }

    /// These rates, with what a partial list (a long-context or service tier) leaves out taken from `standard`: cache
    /// writes keep their ratio to input, audio keeps its price. Cache reads stay out, so they cost as input.
    #[must_use]
    pub(super) fn completed_from(mut self, standard: &Self) -> Self {
        let keep_ratio = |price: PricePerMillion| {
            if standard.input == PricePerMillion::FREE {
                price
            } else {
                ratio(self.input, price, standard.input)
            }
        };
        self.cache_write = self.cache_write.or(standard.cache_write.map(keep_ratio));
        self.cache_write_1h = self.cache_write_1h.or(standard.cache_write_1h.map(keep_ratio));
        self.input_audio = self.input_audio.or(standard.input_audio);
        self.output_audio = self.output_audio.or(standard.output_audio);
        self
    }
}

fn scaled(price: PricePerMillion, times: i64, by: i64) -> PricePerMillion {
    let of = |n| PricePerMillion::new(n).unwrap_or_default();
    ratio(price, of(times), of(by))
}

/// `price × times ÷ by`, rounded up; the largest price where it does not fit.
fn ratio(price: PricePerMillion, times: PricePerMillion, by: PricePerMillion) -> PricePerMillion {
    let wide = |p: PricePerMillion| u128::from(p.micro_usd_per_million().unsigned_abs());
    let exact = (wide(price) * wide(times)).div_ceil(wide(by).max(1));
    i64::try_from(exact).ok().and_then(PricePerMillion::new).unwrap_or(LARGEST)
}

const LARGEST: PricePerMillion = match PricePerMillion::new(i64::MAX) {
    Some(price) => price,
    None => PricePerMillion::FREE,
};

/// A long-context price list. It is a cliff: when the total input of a request, cached input included, is above the
/// threshold, *all* its tokens take these rates, output too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// In force for requests with more input tokens than this.
    pub above_input_tokens: u64,
    /// The prices.
    pub rates: Rates,
}

/// The speed class a provider served a request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ServiceTier {
    /// What is served when nothing else is asked for.
    #[default]
    Standard,
    /// Faster and dearer.
    Priority,
    /// Slower and cheaper.
    Flex,
}

impl ServiceTier {
    /// Reads a provider's `service_tier`. `auto` is what leaving the field out means. `None`: its price effect is not
    /// known (`scale`, `performance`, …).
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" | "default" | "standard" | "on_demand" => Some(Self::Standard),
            "priority" => Some(Self::Priority),
            "flex" => Some(Self::Flex),
            _ => None,
        }
    }
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Chat completions.
    Chat,
    /// Text completions.
    Completion,
    /// The Responses API only.
    Responses,
    /// Embeddings.
    Embedding,
}

/// One price of one model, with the limits that bound a request to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// Which model.
    pub model: ModelRef,
    /// Standard prices.
    pub rates: Rates,
    /// Long-context prices, by rising threshold.
    pub tiers: Vec<Tier>,
    /// Prices of the priority service tier.
    pub priority: Option<Rates>,
    /// Prices of the flex service tier.
    pub flex: Option<Rates>,
    /// The provider also bills something by the request (a web search, say), which no token price covers: the true
    /// cost is above what is computed from tokens.
    pub fee_per_request: bool,
    /// Tokens, input and output together.
    pub context_window: Option<u64>,
    /// The most output tokens of one choice.
    pub max_output_tokens: Option<u64>,
    /// Hidden input tokens the provider may add when tools are present.
    pub overhead_tokens: u64,
    /// The most input tokens one image can become.
    pub max_image_tokens: u64,
    /// The most input tokens one file can become.
    pub max_file_tokens: u64,
    /// Where the price comes from: `catalogue:2026-11-20`, or the id of an owner's price, `prc_…`.
    pub version: Arc<str>,
    /// Since when it holds; for undated catalogue prices, always.
    pub effective_from: Timestamp,
    /// What the model is for, where that is known.
    pub mode: Option<Mode>,
}

impl ModelPrice {
    /// Whether the model has a price list for this service tier. Without one it is priced as standard.
    pub const fn supports(&self, tier: ServiceTier) -> bool {
        match tier {
            ServiceTier::Standard => true,
            ServiceTier::Priority => self.priority.is_some(),
            ServiceTier::Flex => self.flex.is_some(),
        }
    }

    /// Whether every token of `usage` has a price that can be relied on.
    pub fn covers(&self, usage: &TokenUsage) -> bool {
        TokenClass::ALL.into_iter().all(|class| usage.of(class) == 0 || self.rates.has(class))
    }

    /// The list of a service tier for requests below every long-context threshold.
    pub fn list(&self, tier: ServiceTier) -> Rates {
        match tier {
            ServiceTier::Standard => None,
            ServiceTier::Priority => self.priority,
            ServiceTier::Flex => self.flex,
        }
        .unwrap_or(self.rates)
    }

    /// The rates of a request with this much input in total. Where a long-context list and a service tier's meet,
    /// their product is published nowhere: each class takes the dearer of the two.
    pub fn rates_for(&self, tier: ServiceTier, input_tokens: u64) -> Rates {
        let list = self.list(tier);
        match self.tiers.iter().rev().find(|step| input_tokens > step.above_input_tokens) {
            Some(step) if tier == ServiceTier::Standard || !self.supports(tier) => step.rates,
            Some(step) => step.rates.dearer(&list),
            None => list,
        }
    }

    /// Class by class the dearest rates a request with *at most* this much input can meet, served in `tier` or, as
    /// providers do when a tier has no room, as standard.
    pub fn dearest_rates(&self, tier: ServiceTier, input_tokens: u64) -> Rates {
        self.tiers
            .iter()
            .filter(|step| input_tokens > step.above_input_tokens)
            .fold(self.list(tier).dearer(&self.rates), |dearest, step| dearest.dearer(&step.rates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(micro: i64) -> PricePerMillion {
        PricePerMillion::new(micro).expect("not negative")
    }

    #[test]
    fn classes_without_a_price_take_their_documented_default() {
        let mut rates = Rates::new(price(1_000), price(5_000));
        assert_eq!(rates.of(TokenClass::CacheRead), price(1_000));
        assert_eq!(rates.of(TokenClass::CacheWrite), price(1_000));
        rates.cache_write = Some(price(1_251));
        assert_eq!(rates.of(TokenClass::CacheWrite1h), price(2_002), "2001.6 rounded up");
        rates.cache_write_1h = Some(price(7));
        assert_eq!(rates.of(TokenClass::CacheWrite1h), price(7));
    }

    #[test]
    fn audio_has_no_default_to_rely_on() {
        let mut rates = Rates::new(price(1), price(2));
        assert!(!rates.has(TokenClass::InputAudio) && !rates.has(TokenClass::OutputAudio));
        rates.input_audio = Some(price(40));
        assert!(rates.has(TokenClass::InputAudio) && !rates.has(TokenClass::OutputAudio));
    }

    #[test]
    fn a_partial_list_keeps_the_ratio_of_cache_writes_to_input() {
        let mut standard = Rates::new(price(200), price(1_200));
        standard.cache_write = Some(price(250));
        let priority = Rates::new(price(400), price(2_400)).completed_from(&standard);
        assert_eq!(priority.cache_write, Some(price(500)));
        assert_eq!(priority.of(TokenClass::CacheRead), price(400));
    }

    #[test]
    fn extreme_prices_do_not_overflow() {
        let rates = Rates::new(LARGEST, LARGEST);
        assert_eq!(rates.of(TokenClass::CacheWrite1h), LARGEST);
    }

    #[test]
    fn service_tiers_of_unknown_price_are_not_taken_for_standard() {
        assert_eq!(ServiceTier::from_name("on_demand"), Some(ServiceTier::Standard));
        assert_eq!(ServiceTier::from_name("flex"), Some(ServiceTier::Flex));
        for unknown in ["scale", "performance", "", "Priority"] {
            assert_eq!(ServiceTier::from_name(unknown), None, "{unknown}");
        }
    }
}
