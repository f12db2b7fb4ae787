//! Money in whole units. Inside, amounts are nano-USD; prices are micro-USD per million tokens, which is the same
//! number as pico-USD per token, so `tokens × price` is exact. One rounding, up, at the end of an attempt.

use std::{fmt, iter::Sum};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

const NANO_PER_MICRO: i64 = 1_000;
const PICO_PER_NANO: u128 = 1_000;

/// An amount in nano-USD (10⁻⁹ USD). Sums saturate: a balance that no account can reach must not wrap to a small one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NanoUsd(i64);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);

    /// From nano-USD.
    pub const fn new(nano: i64) -> Self {
        Self(nano)
    }

    /// From micro-USD, as the API speaks it; `None` when it does not fit.
    pub fn from_micro(micro: i64) -> Option<Self> {
        micro.checked_mul(NANO_PER_MICRO).map(Self)
    }

    /// Rounds an exact amount of pico-USD up.
    pub fn from_pico_rounded_up(pico: u128) -> Self {
        Self(i64::try_from(pico.div_ceil(PICO_PER_NANO)).unwrap_or(i64::MAX))
    }

    /// Nano-USD.
    pub const fn nano(self) -> i64 {
        self.0
    }

    /// Whole micro-USD, rounded up: what is shown of money that is spent.
    pub const fn micro_rounded_up(self) -> i64 {
        self.0.div_euclid(NANO_PER_MICRO) + (self.0.rem_euclid(NANO_PER_MICRO) != 0) as i64
    }

    /// Whole micro-USD, rounded down: what is shown of money that is left.
    pub const fn micro_rounded_down(self) -> i64 {
        self.0.div_euclid(NANO_PER_MICRO)
    }

    /// The sum, or the largest amount.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; below zero where `other` is larger.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// As a JSON number of micro-USD with up to three decimals.
    pub const fn as_micro(self) -> MicroUsd {
        MicroUsd(self)
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Debug for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}nUSD", self.0)
    }
}

/// How an amount is written for people and programs: micro-USD with up to three decimals (`12`, `0.75`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MicroUsd(NanoUsd);

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nano = self.0.0;
        let sign = if nano < 0 { "-" } else { "" };
        let (whole, rest) = (nano.unsigned_abs() / 1_000, nano.unsigned_abs() % 1_000);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let decimals = format!("{rest:03}");
        write!(f, "{sign}{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl Serialize for MicroUsd {
    // Through a raw number: a float would lose digits of a large amount.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// A price in micro-USD per million tokens, which equals pico-USD per token. Never negative.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Deserialize, Serialize,
)]
#[serde(try_from = "i64", into = "i64")]
pub struct PricePerMillion(i64);

impl PricePerMillion {
    /// Explicitly free, which is not the same as unknown.
    pub const FREE: Self = Self(0);

    /// Micro-USD per million tokens; `None` when negative.
    pub const fn new(micro_usd_per_million: i64) -> Option<Self> {
        if micro_usd_per_million < 0 { None } else { Some(Self(micro_usd_per_million)) }
    }

    /// Micro-USD per million tokens.
    pub const fn micro_usd_per_million(self) -> i64 {
        self.0
    }

    /// The exact cost of so many tokens in pico-USD. Cannot overflow: 2⁶³ × 2⁶⁴ fits 128 bits.
    pub const fn pico_usd(self, tokens: u64) -> u128 {
        self.0.unsigned_abs() as u128 * tokens as u128
    }
}

impl TryFrom<i64> for PricePerMillion {
    type Error = &'static str;

    fn try_from(value: i64) -> Result<Self, Self::Error> {
        Self::new(value).ok_or("a price cannot be negative")
    }
}

impl From<PricePerMillion> for i64 {
    fn from(price: PricePerMillion) -> Self {
        price.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_written_in_micro_usd_with_up_to_three_decimals() {
        for (nano, text) in [(0, "0"), (12_000, "12"), (750, "0.75"), (1, "0.001"), (-1_500, "-1.5")] {
            assert_eq!(NanoUsd::new(nano).as_micro().to_string(), text);
            assert_eq!(serde_json::to_string(&NanoUsd::new(nano).as_micro()).expect("a number"), text);
        }
    }

    #[test]
    fn spent_is_rounded_up_and_left_is_rounded_down() {
        assert_eq!(NanoUsd::new(1_001).micro_rounded_up(), 2);
        assert_eq!(NanoUsd::new(1_000).micro_rounded_up(), 1);
        assert_eq!(NanoUsd::new(1_999).micro_rounded_down(), 1);
    }

    proptest! {
        #[test]
        fn p10_rounding_is_up_and_by_less_than_one_nano(pico in 0u128..(1 << 90)) {
            let nano = NanoUsd::from_pico_rounded_up(pico);
            if nano < NanoUsd::MAX {
                let back = u128::from(nano.nano().unsigned_abs()) * 1_000;
                prop_assert!(back >= pico && back - pico < 1_000);
            }
        }

        #[test]
        fn p10_a_cost_never_falls_when_tokens_or_price_rise(a in 0u64..u64::MAX, b in 0u64..u64::MAX, p in 0i64..i64::MAX, q in 0i64..i64::MAX) {
            let (less, more) = (a.min(b), a.max(b));
            let (cheap, dear) = (PricePerMillion(p.min(q)), PricePerMillion(p.max(q)));
            prop_assert!(cheap.pico_usd(less) <= dear.pico_usd(more));
        }
    }
}
