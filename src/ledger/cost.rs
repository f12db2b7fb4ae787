//! Usage × price = cost, exactly. The one place where tokens become money.

use crate::{
    catalogue::{ModelPrice, Rates, ServiceTier},
    domain::{CostLine, NanoUsd, TokenClass, TokenUsage},
};

/// What an attempt cost, and of what that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The sum of all lines, rounded up once.
    pub total: NanoUsd,
    /// One line for every class of tokens that was used.
    pub lines: Vec<CostLine>,
}

/// What `usage` costs at `price`, served in `tier`. Above a long-context threshold (all input counted, cached input
/// too) every token of the request takes the long-context rates. A service tier without prices costs as standard: ask
/// [`ModelPrice::supports`] first where that matters. Audio without a price costs as text: ask [`ModelPrice::covers`].
pub fn cost(usage: &TokenUsage, price: &ModelPrice, tier: ServiceTier) -> Cost {
    let rates = price.rates_for(tier, usage.input_total());
    let lines = TokenClass::ALL
        .into_iter()
        .filter(|class| usage.of(*class) > 0)
        .map(|class| CostLine { class, tokens: usage.of(class), micro_usd_per_million: rates.of(class) })
        .collect();
    Cost { total: NanoUsd::from_pico_rounded_up(pico_usd(usage, &rates)), lines }
}

/// The exact sum. Saturates where seven classes of the largest counts at the largest price would not fit 128 bits.
fn pico_usd(usage: &TokenUsage, rates: &Rates) -> u128 {
    TokenClass::ALL
        .into_iter()
        .map(|class| rates.of(class).pico_usd(usage.of(class)))
        .fold(0, u128::saturating_add)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        catalogue::Tier,
        domain::{ModelRef, PricePerMillion, Timestamp},
    };

    pub(in crate::ledger) fn micro(price: i64) -> PricePerMillion {
        PricePerMillion::new(price).expect("not negative")
    }

    pub(in crate::ledger) fn price_of(rates: Rates) -> ModelPrice {
        ModelPrice {
            model: ModelRef::parse("a/x").expect("a model"),
            rates,
            tiers: Vec::new(),
            priority: None,
            flex: None,
            fee_per_request: false,
            context_window: None,
            max_output_tokens: None,
            overhead_tokens: 512,
            max_image_tokens: 50_000,
            max_file_tokens: 1_000_000,
            version: "catalogue:2026-11-20".into(),
            effective_from: Timestamp::from_millis(0),
            mode: None,
        }
    }

    fn any_rate() -> impl Strategy<Value = PricePerMillion> {
        prop_oneof![Just(0), 1i64..1_000, 1_000i64..1_000_000_000].prop_map(micro)
    }

    pub(in crate::ledger) fn any_rates() -> impl Strategy<Value = Rates> {
        let maybe = || proptest::option::of(any_rate());
        (any_rate(), any_rate(), maybe(), maybe(), maybe(), maybe(), maybe()).prop_map(
            |(input, output, cache_read, cache_write, cache_write_1h, input_audio, output_audio)| Rates {
                input,
                output,
                cache_read,
                cache_write,
                cache_write_1h,
                input_audio,
                output_audio,
            },
        )
    }

    pub(in crate::ledger) fn any_price() -> impl Strategy<Value = ModelPrice> {
        let tiers = proptest::collection::btree_map(1u64..100_000, any_rates(), 0..3);
        let list = || proptest::option::of(any_rates());
        (any_rates(), tiers, list(), list()).prop_map(|(rates, tiers, priority, flex)| ModelPrice {
            tiers: tiers
                .into_iter()
                .map(|(above_input_tokens, rates)| Tier { above_input_tokens, rates })
                .collect(),
            priority,
            flex,
            ..price_of(rates)
        })
    }

    pub(in crate::ledger) fn any_tier() -> impl Strategy<Value = ServiceTier> {
        prop_oneof![Just(ServiceTier::Standard), Just(ServiceTier::Priority), Just(ServiceTier::Flex)]
    }

    pub(in crate::ledger) fn any_usage(most: u64) -> impl Strategy<Value = TokenUsage> {
        let n = || prop_oneof![Just(0), 0..=most];
        (n(), n(), n(), n(), n(), n(), n()).prop_map(
            |(input, cache_read, cache_write, cache_write_1h, input_audio, output, output_audio)| {
                TokenUsage {
                    input,
                    cache_read,
                    cache_write,
                    cache_write_1h,
                    input_audio,
                    output,
                    output_audio,
                    reasoning: output / 2,
                }
            },
        )
    }

    #[test]
    fn a_cost_is_the_sum_of_its_lines_and_reasoning_is_not_charged_twice() {
        let rates = Rates { cache_read: Some(micro(75_000)), ..Rates::new(micro(750_000), micro(4_500_000)) };
        let usage =
            TokenUsage { input: 1_000, cache_read: 200, output: 30, reasoning: 20, ..TokenUsage::default() };
        let cost = cost(&usage, &price_of(rates), ServiceTier::Standard);
        assert_eq!(cost.total, NanoUsd::new(750_000 + 15_000 + 135_000));
        let classes: Vec<_> = cost.lines.iter().map(|line| (line.class, line.tokens)).collect();
        assert_eq!(
            classes,
            [(TokenClass::Input, 1_000), (TokenClass::CacheRead, 200), (TokenClass::Output, 30)]
        );
    }

    #[test]
    fn p10_fractions_of_classes_are_rounded_together_and_once() {
        let rates = Rates { cache_read: Some(micro(300)), ..Rates::new(micro(300), micro(300)) };
        let usage = TokenUsage { input: 1, cache_read: 1, output: 1, ..TokenUsage::default() };
        assert_eq!(cost(&usage, &price_of(rates), ServiceTier::Standard).total, NanoUsd::new(1));
    }

    #[test]
    fn p10_nothing_used_costs_nothing_and_free_is_free() {
        let free = price_of(Rates::new(PricePerMillion::FREE, PricePerMillion::FREE));
        let none = cost(&TokenUsage::default(), &free, ServiceTier::Standard);
        assert_eq!((none.total, none.lines.len()), (NanoUsd::ZERO, 0));
        let some = cost(&TokenUsage { output: 5, ..TokenUsage::default() }, &free, ServiceTier::Standard);
        assert_eq!((some.total, some.lines.len()), (NanoUsd::ZERO, 1));
    }

    #[test]
    fn the_long_context_cliff_takes_the_whole_request_and_counts_cached_input() {
        let mut price = price_of(Rates::new(micro(1_000), micro(2_000)));
        price.tiers = vec![Tier { above_input_tokens: 100, rates: Rates::new(micro(2_000), micro(3_000)) }];
        let usage = |cache_read| TokenUsage { input: 60, cache_read, output: 1, ..TokenUsage::default() };
        let total = |cache_read| cost(&usage(cache_read), &price, ServiceTier::Standard).total;
        assert_eq!(total(40), NanoUsd::new(102));
        assert_eq!(total(41), NanoUsd::new(205));
    }

    #[test]
    fn a_service_tier_has_its_own_list_and_over_the_cliff_the_dearer_of_both() {
        let mut price = price_of(Rates::new(micro(1_000), micro(2_000)));
        price.tiers = vec![Tier { above_input_tokens: 100, rates: Rates::new(micro(2_000), micro(3_000)) }];
        price.priority = Some(Rates::new(micro(1_500), micro(9_000)));
        let total =
            |input, tier| cost(&TokenUsage { input, output: 1, ..TokenUsage::default() }, &price, tier).total;
        assert_eq!(total(100, ServiceTier::Priority), NanoUsd::new(159));
        assert_eq!(total(101, ServiceTier::Priority), NanoUsd::new(211));
        assert_eq!(total(100, ServiceTier::Flex), NanoUsd::new(102), "no flex list: as standard");
        assert_eq!(total(101, ServiceTier::Flex), NanoUsd::new(205));
        assert!(price.supports(ServiceTier::Priority) && !price.supports(ServiceTier::Flex));
    }

    #[test]
    fn the_largest_counts_at_the_largest_price_saturate() {
        let price = price_of(Rates::new(micro(i64::MAX), micro(i64::MAX)));
        let usage =
            TokenUsage { input: u64::MAX, cache_read: u64::MAX, output: u64::MAX, ..TokenUsage::default() };
        assert_eq!(cost(&usage, &price, ServiceTier::Standard).total, NanoUsd::MAX);
    }

    proptest! {
        #[test]
        fn p10_rounding_takes_less_than_one_nano(usage in any_usage(1 << 40), price in any_price(), tier in any_tier()) {
            let cost = cost(&usage, &price, tier);
            let exact: u128 = cost.lines.iter().map(|line| line.micro_usd_per_million.pico_usd(line.tokens)).sum();
            if cost.total < NanoUsd::MAX {
                let charged = u128::from(cost.total.nano().unsigned_abs()) * 1_000;
                prop_assert!(charged >= exact && charged - exact < 1_000);
            }
        }

        #[test]
        fn p10_more_output_never_costs_less(usage in any_usage(1 << 30), more in 0u64..(1 << 30), price in any_price(), tier in any_tier()) {
            let larger = TokenUsage { output: usage.output + more, ..usage };
            prop_assert!(cost(&usage, &price, tier).total <= cost(&larger, &price, tier).total);
        }

        #[test]
        fn p10_more_input_never_costs_less_where_no_tier_is_cheaper(usage in any_usage(1 << 18), more in 0u64..(1 << 18), mut price in any_price()) {
            let mut below = price.rates;
            for tier in &mut price.tiers {
                tier.rates = tier.rates.dearer(&below);
                below = tier.rates;
            }
            let larger = TokenUsage { input: usage.input + more, ..usage };
            let total = |usage| cost(usage, &price, ServiceTier::Standard).total;
            prop_assert!(total(&usage) <= total(&larger));
        }

        #[test]
        fn p10_more_of_any_class_never_costs_less(usage in any_usage(1 << 40), more in any_usage(1 << 40), rates in any_rates()) {
            let price = price_of(rates);
            let total = |usage| cost(usage, &price, ServiceTier::Standard).total;
            prop_assert!(total(&usage) <= total(&usage.plus(&more)));
        }

        #[test]
        fn p10_a_dearer_price_never_costs_less(usage in any_usage(1 << 40), rates in any_rates(), other in any_rates()) {
            let total = |rates| cost(&usage, &price_of(rates), ServiceTier::Standard).total;
            let dearer = rates.dearer(&other);
            prop_assert!(total(rates) <= total(dearer) && total(other) <= total(dearer));
        }

        #[test]
        fn p10_nothing_used_costs_nothing_at_any_price(price in any_price(), tier in any_tier()) {
            prop_assert_eq!(cost(&TokenUsage::default(), &price, tier).total, NanoUsd::ZERO);
        }
    }
}
