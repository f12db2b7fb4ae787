//! Before a request: a bound no honest provider's figures exceed. After one whose figures never came: an estimate.
//!
//! The bound rests on one fact: a token of text is at least one byte. It is some four times a typical count, and it is
//! held only until settlement. Images and files have no byte bound (a small file can become many tokens) and count
//! with the catalogue's maximum instead.

use crate::{
    catalogue::{
        DEFAULT_MAX_FILE_TOKENS, DEFAULT_MAX_IMAGE_TOKENS, DEFAULT_OVERHEAD_TOKENS, ModelPrice, ServiceTier,
    },
    domain::{NanoUsd, TokenClass},
};

/// Input tokens a chat template adds around one message.
const TOKENS_A_MESSAGE: u64 = 16;
const BYTES_A_TOKEN: u64 = 4;
const PICO_PER_NANO: u128 = 1_000;

/// What is known of a request's size before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the body that is sent. Inline data of images and files may be left out, as these count by number;
    /// inline audio may not.
    pub body_bytes: u64,
    /// Messages of a conversation; 0 for text completions and embeddings.
    pub messages: u64,
    /// Images.
    pub images: u64,
    /// Files.
    pub files: u64,
    /// Pieces of audio. Their tokens are within their bytes: audio takes tens of tokens a second, and no encoding
    /// comes near so few bytes.
    pub audio_inputs: u64,
    /// Whether audio is asked for as output.
    pub audio_output: bool,
    /// Whether tools or functions are present.
    pub tools: bool,
    /// Whether the request asks for one-hour cache writes.
    pub hour_cache: bool,
    /// How many answers are asked for; 0 counts as 1.
    pub choices: u64,
}

/// An upper bound on all input tokens of a request.
///
/// A conversation cannot exceed its model's context window, so a known window bounds it too. A batch of prompts or
/// of texts to embed can: there the window holds for each, and the bytes bound them all.
pub fn input_bound(sizes: &Sizes, price: Option<&ModelPrice>) -> u64 {
    let (overhead, image, file) = price
        .map_or((DEFAULT_OVERHEAD_TOKENS, DEFAULT_MAX_IMAGE_TOKENS, DEFAULT_MAX_FILE_TOKENS), |price| {
            (price.overhead_tokens, price.max_image_tokens, price.max_file_tokens)
        });
    let bound = sizes
        .body_bytes
        .saturating_add(sizes.messages.saturating_mul(TOKENS_A_MESSAGE))
        .saturating_add(if sizes.tools { overhead } else { 0 })
        .saturating_add(sizes.images.saturating_mul(image))
        .saturating_add(sizes.files.saturating_mul(file));
    match price.and_then(|price| price.context_window) {
        Some(window) if sizes.messages > 0 => bound.min(window),
        _ => bound,
    }
}

/// An estimate of the tokens in text whose count no provider gave: a quarter of its bytes, rounded up.
pub const fn estimated_tokens(text_bytes: u64) -> u64 {
    text_bytes.div_ceil(BYTES_A_TOKEN)
}

/// The most a request can cost, as a function of its output limit. Priced by the same rates as its settlement, taking
/// for each direction the dearest class it can meet, and the dearest long-context step its input bound can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorstCase {
    /// Upper bound on input of every class together.
    pub input_tokens: u64,
    /// How many answers, each with its own output limit.
    pub choices: u64,
    /// The service tier that is asked for. The case covers being served as standard instead.
    pub tier: ServiceTier,
    /// Whether input may be audio.
    pub audio_input: bool,
    /// Whether output may be audio.
    pub audio_output: bool,
    /// Whether input may be written to an hour's cache.
    pub hour_cache: bool,
}

impl WorstCase {
    /// The worst case of a request of this size.
    pub fn new(sizes: &Sizes, price: Option<&ModelPrice>, tier: ServiceTier) -> Self {
        Self {
            input_tokens: input_bound(sizes, price),
            choices: sizes.choices.max(1),
            tier,
            audio_input: sizes.audio_inputs > 0,
            audio_output: sizes.audio_output,
            hour_cache: sizes.hour_cache,
        }
    }

    /// The most it can cost when every answer is at most `output_limit` tokens.
    pub fn cost(&self, price: &ModelPrice, output_limit: u64) -> NanoUsd {
        let (input, a_token) = self.pico_usd(price);
        NanoUsd::from_pico_rounded_up(input.saturating_add(a_token.saturating_mul(output_limit.into())))
    }

    /// The largest output limit an answer may have so that [`WorstCase::cost`] stays within `budget`; at most the
    /// model's own largest output. `None` when the input alone does not fit.
    pub fn largest_output(&self, price: &ModelPrice, budget: NanoUsd) -> Option<u64> {
        let most = price.max_output_tokens.unwrap_or(u64::MAX);
        let budget = u128::try_from(budget.nano()).ok()? * PICO_PER_NANO;
        let (input, a_token) = self.pico_usd(price);
        let left = budget.checked_sub(input)?;
        let fits = left.checked_div(a_token).and_then(|tokens| u64::try_from(tokens).ok());
        Some(fits.unwrap_or(u64::MAX).min(most))
    }

    /// Pico-USD of all input, and of one more token of output in every answer.
    fn pico_usd(&self, price: &ModelPrice) -> (u128, u128) {
        let rates = price.dearest_rates(self.tier, self.input_tokens);
        let mut input = rates
            .of(TokenClass::Input)
            .max(rates.of(TokenClass::CacheRead))
            .max(rates.of(TokenClass::CacheWrite));
        if self.audio_input {
            input = input.max(rates.of(TokenClass::InputAudio));
        }
        if self.hour_cache {
            input = input.max(rates.of(TokenClass::CacheWrite1h));
        }
        let mut output = rates.of(TokenClass::Output);
        if self.audio_output {
            output = output.max(rates.of(TokenClass::OutputAudio));
        }
        (input.pico_usd(self.input_tokens), output.pico_usd(self.choices.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        catalogue::{Rates, Tier},
        domain::TokenUsage,
        ledger::cost::{
            cost,
            tests::{any_price, any_tier, any_usage, micro, price_of},
        },
    };

    fn case(input_tokens: u64) -> WorstCase {
        WorstCase {
            input_tokens,
            choices: 1,
            tier: ServiceTier::Standard,
            audio_input: false,
            audio_output: false,
            hour_cache: false,
        }
    }

    #[test]
    fn the_input_bound_adds_messages_tools_images_and_files() {
        let sizes =
            Sizes { body_bytes: 1_000, messages: 2, images: 1, files: 1, tools: true, ..Sizes::default() };
        assert_eq!(input_bound(&sizes, None), 1_000 + 32 + 512 + 50_000 + 1_000_000);
        let mut price = price_of(Rates::new(micro(1), micro(1)));
        price.max_file_tokens = 7;
        price.max_image_tokens = 5;
        price.overhead_tokens = 3;
        assert_eq!(input_bound(&sizes, Some(&price)), 1_000 + 32 + 3 + 5 + 7);
    }

    #[test]
    fn a_conversation_fits_its_window_and_a_batch_of_texts_need_not() {
        let mut price = price_of(Rates::new(micro(1), micro(1)));
        price.context_window = Some(8_192);
        let chat = Sizes { body_bytes: 1_000_000, messages: 1, ..Sizes::default() };
        assert_eq!(input_bound(&chat, Some(&price)), 8_192);
        let texts = Sizes { messages: 0, ..chat };
        assert_eq!(input_bound(&texts, Some(&price)), 1_000_000);
    }

    #[test]
    fn sizes_beyond_reason_saturate() {
        let sizes = Sizes { body_bytes: u64::MAX, messages: u64::MAX, files: u64::MAX, ..Sizes::default() };
        assert_eq!(input_bound(&sizes, None), u64::MAX);
        let price = price_of(Rates::new(micro(i64::MAX), micro(i64::MAX)));
        assert_eq!(WorstCase::new(&sizes, None, ServiceTier::Standard).cost(&price, u64::MAX), NanoUsd::MAX);
    }

    #[test]
    fn estimates_are_a_quarter_of_the_bytes_rounded_up() {
        assert_eq!([0, 1, 4, 5].map(estimated_tokens), [0, 1, 1, 2]);
    }

    #[test]
    fn the_worst_case_takes_the_dearest_input_the_request_can_meet() {
        let rates = Rates {
            cache_write: Some(micro(1_250)),
            input_audio: Some(micro(40_000)),
            ..Rates::new(micro(1_000), micro(0))
        };
        let price = price_of(rates);
        assert_eq!(case(1_000).cost(&price, 0), NanoUsd::new(1_250));
        assert_eq!(WorstCase { hour_cache: true, ..case(1_000) }.cost(&price, 0), NanoUsd::new(2_000));
        assert_eq!(WorstCase { audio_input: true, ..case(1_000) }.cost(&price, 0), NanoUsd::new(40_000));
    }

    #[test]
    fn a_bound_over_the_cliff_reserves_the_long_context_price() {
        let mut price = price_of(Rates::new(micro(1_000), micro(1_000)));
        price.tiers = vec![Tier { above_input_tokens: 100, rates: Rates::new(micro(2_000), micro(3_000)) }];
        assert_eq!(case(100).cost(&price, 10), NanoUsd::new(110));
        assert_eq!(case(101).cost(&price, 10), NanoUsd::new(232));
    }

    #[test]
    fn the_largest_output_is_the_models_own_when_all_of_it_fits() {
        let mut price = price_of(Rates::new(micro(1_000), micro(1_000)));
        price.max_output_tokens = Some(50);
        assert_eq!(case(100).largest_output(&price, NanoUsd::new(1_000)), Some(50));
        assert_eq!(case(100).largest_output(&price, NanoUsd::new(130)), Some(30));
        assert_eq!(case(100).largest_output(&price, NanoUsd::new(100)), Some(0));
        assert_eq!(case(100).largest_output(&price, NanoUsd::new(99)), None);
        assert_eq!(case(0).largest_output(&price, NanoUsd::new(-1)), None);
        let free = price_of(Rates::new(micro(0), micro(0)));
        assert_eq!(case(100).largest_output(&free, NanoUsd::ZERO), Some(u64::MAX));
    }

    fn any_case() -> impl Strategy<Value = WorstCase> {
        (0u64..200_000, 1u64..5, any_tier(), any::<[bool; 3]>()).prop_map(
            |(input_tokens, choices, tier, [audio_input, audio_output, hour_cache])| WorstCase {
                input_tokens,
                choices,
                tier,
                audio_input,
                audio_output,
                hour_cache,
            },
        )
    }

    /// Usage that keeps to what the case allows.
    fn within(case: &WorstCase, limit: u64, wild: &TokenUsage) -> TokenUsage {
        let mut input_left = case.input_tokens;
        let mut input = |allowed: bool, wanted: u64| {
            let taken = if allowed { wanted.min(input_left) } else { 0 };
            input_left -= taken;
            taken
        };
        let mut output_left = limit * case.choices;
        let mut output = |allowed: bool, wanted: u64| {
            let taken = if allowed { wanted.min(output_left) } else { 0 };
            output_left -= taken;
            taken
        };
        TokenUsage {
            input_audio: input(case.audio_input, wild.input_audio),
            cache_write_1h: input(case.hour_cache, wild.cache_write_1h),
            cache_write: input(true, wild.cache_write),
            cache_read: input(true, wild.cache_read),
            input: input(true, wild.input),
            output_audio: output(case.audio_output, wild.output_audio),
            output: output(true, wild.output),
            reasoning: 0,
        }
    }

    proptest! {
        #[test]
        fn p04_no_usage_within_the_bounds_costs_more_than_was_reserved(
            case in any_case(), limit in 0u64..100_000, wild in any_usage(400_000), price in any_price(),
        ) {
            let usage = within(&case, limit, &wild);
            prop_assert!(cost(&usage, &price, case.tier).total <= case.cost(&price, limit));
        }

        #[test]
        fn a_request_served_as_standard_instead_costs_no_more_than_was_reserved(
            case in any_case(), limit in 0u64..100_000, wild in any_usage(400_000), price in any_price(),
        ) {
            let usage = within(&case, limit, &wild);
            prop_assert!(cost(&usage, &price, ServiceTier::Standard).total <= case.cost(&price, limit));
        }

        #[test]
        fn the_worst_case_grows_with_input_output_and_choices(
            case in any_case(), limit in 0u64..100_000, more in any::<[u16; 3]>(), price in any_price(),
        ) {
            let [input, output, choices] = more.map(u64::from);
            let larger = WorstCase {
                input_tokens: case.input_tokens + input,
                choices: case.choices + choices,
                ..case
            };
            prop_assert!(case.cost(&price, limit) <= larger.cost(&price, limit + output));
        }

        #[test]
        fn the_largest_output_fits_and_one_more_does_not(
            case in any_case(), budget in 0i64..1_000_000_000_000, most in proptest::option::of(0u64..1_000_000), price in any_price(),
        ) {
            let price = ModelPrice { max_output_tokens: most, ..price };
            let budget = NanoUsd::new(budget);
            match case.largest_output(&price, budget) {
                None => prop_assert!(case.cost(&price, 0) > budget),
                Some(limit) => {
                    prop_assert!(case.cost(&price, limit) <= budget);
                    let larger = limit.checked_add(1).filter(|larger| *larger <= most.unwrap_or(u64::MAX));
                    if let Some(larger) = larger {
                        prop_assert!(case.cost(&price, larger) > budget);
                    }
                }
            }
        }
    }
}
