//! The price book: an immutable snapshot of the catalogue's prices with owners' prices laid over them by date.
//!
//! A look-up is one hash of the model and, for the few models with dated prices, a short walk; it allocates nothing.
//! An owner's price, once in force, wins over every price of the catalogue, also over a later dated one: what a person
//! has set is not undone by a file.

use std::{collections::HashMap, sync::Arc};

use super::{
    InputBounds, Providers,
    price_file::{self, PricesError},
    rates::{DEFAULT_MAX_FILE_TOKENS, ModelPrice, Rates},
};
use crate::domain::{ModelRef, PriceId, PricePerMillion, Timestamp};

const BUNDLED: &str = include_str!("../../config/prices.json");

/// A price set by an owner. It replaces the whole price of its model; only limits it leaves out come from the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceOverride {
    /// Which version of which price.
    pub id: PriceId,
    /// Which model.
    pub model: ModelRef,
    /// Micro-USD per million tokens.
    pub input: PricePerMillion,
    /// Micro-USD per million tokens.
    pub output: PricePerMillion,
    /// Micro-USD per million tokens.
    pub cache_read: Option<PricePerMillion>,
    /// Five-minute cache writes, micro-USD per million tokens.
    pub cache_write: Option<PricePerMillion>,
    /// One-hour cache writes, micro-USD per million tokens.
    pub cache_write_1h: Option<PricePerMillion>,
    /// Tokens.
    pub context_window: Option<u64>,
    /// Tokens.
    pub max_output_tokens: Option<u64>,
    /// Since when it holds.
    pub effective_from: Timestamp,
    /// When it was set: of two with one effective date the later set wins.
    pub created_at: Timestamp,
}

/// The prices of one model; both lists by rising date.
#[derive(Clone, Debug, Default)]
struct Versions {
    set: Vec<Arc<ModelPrice>>,
    catalogue: Vec<Arc<ModelPrice>>,
}

impl Versions {
    fn at(&self, at: Timestamp) -> Option<&Arc<ModelPrice>> {
        let in_force =
            |list: &'_ [Arc<ModelPrice>]| list.iter().rposition(|price| price.effective_from <= at);
        match in_force(&self.set) {
            Some(position) => self.set.get(position),
            None => self.catalogue.get(in_force(&self.catalogue)?),
        }
    }
}

/// Every known price. Immutable: a change makes another book.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    versions: HashMap<ModelRef, Versions>,
    order: Vec<ModelRef>,
    by_name: HashMap<Box<str>, Vec<ModelRef>>,
    bounds: HashMap<Box<str>, InputBounds>,
}

impl PriceBook {
    /// The prices compiled in.
    pub fn bundled() -> Self {
        Self::parse(BUNDLED, &Providers::bundled()).expect("a test reads the same compiled-in file")
    }

    /// Reads and checks a price file. Bounds that prices do not have, such as the largest image, come from `providers`.
    pub fn parse(text: &str, providers: &Providers) -> Result<Self, PricesError> {
        let mut book = Self {
            bounds: providers
                .iter()
                .map(|provider| (provider.slug.as_str().into(), provider.bounds))
                .collect(),
            ..Self::default()
        };
        for price in price_file::parse(text, providers)? {
            book.enter(&price.model);
            let versions = book.versions.entry(price.model.clone()).or_default();
            versions.catalogue.push(Arc::new(price));
            versions.catalogue.sort_by_key(|price| price.effective_from);
        }
        Ok(book)
    }

    /// The catalogue's prices under these owners' prices; those of an earlier call are forgotten.
    #[must_use]
    pub fn with_overrides(&self, mut overrides: Vec<PriceOverride>) -> Self {
        let mut book = self.without_overrides();
        overrides.sort_by_key(|price| (price.effective_from, price.created_at, price.id));
        for price in overrides {
            book.enter(&price.model);
            let price = Arc::new(book.complete(price));
            book.versions.entry(price.model.clone()).or_default().set.push(price);
        }
        book
    }

    /// The price in force at `at`; `None` when none is known.
    pub fn price(&self, model: &ModelRef, at: Timestamp) -> Option<Arc<ModelPrice>> {
        self.versions.get(model)?.at(at).cloned()
    }

    /// Every model with a price, now or later: the catalogue's in its order, then those only owners named.
    pub fn models(&self) -> impl Iterator<Item = &ModelRef> {
        self.order.iter()
    }

    /// Every real model that a bare name can mean, in catalogue order. The name must be the upstream's own, exactly.
    pub fn providers_of(&self, bare_name: &str) -> impl Iterator<Item = &ModelRef> {
        self.by_name.get(bare_name).into_iter().flatten()
    }

    fn enter(&mut self, model: &ModelRef) {
        if !self.versions.contains_key(model) {
            self.order.push(model.clone());
            self.by_name.entry(model.model.as_str().into()).or_default().push(model.clone());
        }
    }

    fn without_overrides(&self) -> Self {
        let mut book = Self { bounds: self.bounds.clone(), ..Self::default() };
        for model in &self.order {
            if let Some(Versions { catalogue, .. }) = self.versions.get(model)
                && !catalogue.is_empty()
            {
                book.enter(model);
                book.versions
                    .insert(model.clone(), Versions { set: Vec::new(), catalogue: catalogue.clone() });
            }
        }
        book
    }

    fn complete(&self, price: PriceOverride) -> ModelPrice {
        let listed = self
            .versions
            .get(&price.model)
            .and_then(|versions| versions.at(price.effective_from).or_else(|| versions.catalogue.first()));
        let bounds = self.bounds.get(price.model.provider.as_str()).copied().unwrap_or_default();
        let context_window = price.context_window.or_else(|| listed?.context_window);
        ModelPrice {
            rates: Rates {
                cache_read: price.cache_read,
                cache_write: price.cache_write,
                cache_write_1h: price.cache_write_1h,
                ..Rates::new(price.input, price.output)
            },
            tiers: Vec::new(),
            priority: None,
            flex: None,
            fee_per_request: listed.is_some_and(|listed| listed.fee_per_request),
            context_window,
            max_output_tokens: price.max_output_tokens.or_else(|| listed?.max_output_tokens),
            overhead_tokens: bounds.overhead_tokens,
            max_image_tokens: bounds.max_image_tokens,
            max_file_tokens: bounds.max_file_tokens.or(context_window).unwrap_or(DEFAULT_MAX_FILE_TOKENS),
            version: price.id.to_string().into(),
            effective_from: price.effective_from,
            mode: listed.and_then(|listed| listed.mode),
            model: price.model,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rates::Mode, *};
    use crate::domain::TokenClass;

    fn model(text: &str) -> ModelRef {
        ModelRef::parse(text).expect("a model")
    }

    fn at(date: &str) -> Timestamp {
        Timestamp::parse(date).expect("a date")
    }

    fn set(name: &str, input: i64, from: &str) -> PriceOverride {
        PriceOverride {
            id: PriceId::generate(),
            model: model(name),
            input: PricePerMillion::new(input).expect("not negative"),
            output: PricePerMillion::FREE,
            cache_read: None,
            cache_write: None,
            cache_write_1h: None,
            context_window: None,
            max_output_tokens: None,
            effective_from: at(from),
            created_at: at(from),
        }
    }

    fn input(book: &PriceBook, name: &str, date: &str) -> Option<i64> {
        book.price(&model(name), at(date)).map(|price| price.rates.input.micro_usd_per_million())
    }

    const DAY: &str = "2026-11-21";

    #[test]
    fn the_compiled_in_prices_are_sound_and_all_of_known_providers() {
        let providers = Providers::bundled();
        let book = PriceBook::parse(BUNDLED, &providers).expect("the compiled-in file");
        assert!(book.models().count() > 700);
        for known in book.models() {
            assert!(providers.get(&known.provider).is_some(), "{known}");
            assert!(book.price(known, at(DAY)).is_some(), "{known}");
        }
    }

    #[test]
    fn well_known_prices_are_what_the_sources_agree_on() {
        let book = PriceBook::bundled();
        let price = book.price(&model("openai/gpt-5.4-mini"), at(DAY)).expect("priced");
        assert_eq!(price.rates.of(TokenClass::Input).micro_usd_per_million(), 750_000);
        assert_eq!(price.rates.of(TokenClass::Output).micro_usd_per_million(), 4_500_000);
        assert_eq!(price.rates.of(TokenClass::CacheRead).micro_usd_per_million(), 75_000);
        let long = book.price(&model("openai/gpt-5.4"), at(DAY)).expect("priced");
        assert_eq!(long.tiers.first().map(|tier| tier.above_input_tokens), Some(272_000));
        let embedding = book.price(&model("openai/text-embedding-3-small"), at(DAY)).expect("priced");
        assert_eq!((embedding.rates.output, embedding.mode), (PricePerMillion::FREE, Some(Mode::Embedding)));
    }

    #[test]
    fn what_the_sources_dispute_has_no_price() {
        let book = PriceBook::bundled();
        for disputed in ["deepseek/deepseek-chat", "openai/gpt-5.6-sol", "mistral/magistral-small-latest"] {
            assert_eq!(input(&book, disputed, DAY), None, "{disputed}");
        }
    }

    #[test]
    fn tiers_and_lists_are_never_below_the_standard_list_by_omission() {
        let book = PriceBook::bundled();
        for name in book.models() {
            let price = book.price(name, at(DAY)).expect("priced");
            for tier in &price.tiers {
                for class in
                    [TokenClass::Input, TokenClass::Output, TokenClass::CacheRead, TokenClass::CacheWrite]
                {
                    assert!(tier.rates.of(class) >= price.rates.of(class), "{name} {class:?}");
                }
            }
        }
    }

    #[test]
    fn an_owners_price_wins_from_its_date_on_and_the_newest_in_force_wins() {
        let name = "openai/gpt-4o";
        let book = PriceBook::bundled().with_overrides(vec![
            set(name, 3, "2026-12-03"),
            set(name, 1, "2026-12-01"),
            set(name, 2, "2026-12-02"),
        ]);
        assert_eq!(input(&book, name, "2026-11-30"), Some(2_500_000));
        assert_eq!(input(&book, name, "2026-12-01"), Some(1));
        assert_eq!(input(&book, name, "2026-12-02"), Some(2));
        assert_eq!(input(&book, name, "2027-01-01"), Some(3));
    }

    #[test]
    fn of_two_prices_for_one_date_the_later_set_wins() {
        let (mut first, mut second) = (set("a/x", 1, DAY), set("a/x", 2, DAY));
        first.created_at = at("2026-11-20");
        second.created_at = at("2026-11-19");
        let book = PriceBook::default().with_overrides(vec![first, second]);
        assert_eq!(input(&book, "a/x", DAY), Some(1));
    }

    #[test]
    fn an_owners_price_inherits_limits_but_no_prices() {
        let book = PriceBook::bundled();
        let listed = book.price(&model("openai/gpt-5.4"), at(DAY)).expect("priced");
        let mut small = set("openai/gpt-5.4", 1, DAY);
        small.context_window = Some(1_000);
        let book = book.with_overrides(vec![set("openai/gpt-4o", 1, DAY), small]);
        let price = book.price(&model("openai/gpt-5.4"), at(DAY)).expect("priced");
        assert_eq!((price.context_window, price.max_output_tokens), (Some(1_000), listed.max_output_tokens));
        assert!(price.rates.cache_read.is_none() && price.tiers.is_empty() && price.flex.is_none());
        assert!(price.version.starts_with("prc_"));
    }

    #[test]
    fn an_owners_price_of_an_unknown_model_is_added_and_a_new_set_forgets_the_old() {
        let book = PriceBook::bundled().with_overrides(vec![set("my-vllm/org/llama", 5, DAY)]);
        assert_eq!(input(&book, "my-vllm/org/llama", DAY), Some(5));
        assert_eq!(book.providers_of("org/llama").count(), 1);
        assert_eq!(book.models().last(), Some(&model("my-vllm/org/llama")));
        let book = book.with_overrides(vec![set("openai/gpt-4o", 1, DAY)]);
        assert_eq!(input(&book, "my-vllm/org/llama", DAY), None);
        assert_eq!(book.providers_of("org/llama").count(), 0);
        assert_eq!(book.models().count(), PriceBook::bundled().models().count());
    }

    #[test]
    fn dated_prices_of_the_catalogue_follow_the_date_and_yield_to_an_owners() {
        let text = r#"{"unit":"micro-USD per million tokens","date":"2026-11-20","sources":[{"name":"s","repo":"o/r","version":"1","date":"2026-11-20","licence":"MIT"}],"models":[
            {"model":"a/x","input":9,"output":1,"effective_from":"2027-01-01","sources":["s"]},
            {"model":"a/x","input":3,"output":1,"sources":["s"]}]}"#;
        let book = PriceBook::parse(text, &Providers::default()).expect("prices");
        assert_eq!((input(&book, "a/x", DAY), input(&book, "a/x", "2027-01-01")), (Some(3), Some(9)));
        let book = book.with_overrides(vec![set("a/x", 5, DAY)]);
        assert_eq!(input(&book, "a/x", "2027-06-01"), Some(5));
    }

    #[test]
    fn bare_names_match_exactly_and_in_catalogue_order() {
        let book = PriceBook::bundled();
        let found: Vec<_> = book.providers_of("openai/gpt-oss-120b").map(ToString::to_string).collect();
        assert_eq!(found, ["groq/openai/gpt-oss-120b", "together/openai/gpt-oss-120b"]);
        assert_eq!(
            book.providers_of("gpt-4o").map(ToString::to_string).collect::<Vec<_>>(),
            ["openai/gpt-4o"]
        );
        for near in ["GPT-4o", "gpt-4o-", "openai/gpt-4o"] {
            assert_eq!(book.providers_of(near).count(), 0, "{near}");
        }
    }
}
