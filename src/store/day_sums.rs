//! Sums over requests, and those of each day of a month as one column holds them.

use super::{StoreError, rows};
use crate::domain::{NanoUsd, UsageRecord};

/// Sums over requests. Counts stop at the largest number; a cost is wide enough for any number of amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many.
    pub requests: u64,
    /// All input.
    pub input_tokens: u64,
    /// All output.
    pub output_tokens: u64,
    /// Known costs, in nano-USD.
    pub cost_nano_usd: i128,
}

impl Sums {
    /// What one request adds.
    pub(super) fn of(record: &UsageRecord) -> Self {
        Self {
            requests: 1,
            input_tokens: record.usage.input_total(),
            output_tokens: record.usage.output_total(),
            cost_nano_usd: record.cost.unwrap_or_default().max(NanoUsd::ZERO).nano().into(),
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(other.cost_nano_usd);
    }
}

/// The sums of each day of a month that has any, by how many days it lies after the first. One column holds them: what a
/// month of one key and model has is read at once, where a row for each day would cost more than what stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DaySums(Vec<(u8, Sums)>);

/// A day as it is written: how many days it lies after the first, requests, input and output tokens, nano-USD.
type Written = (u8, u64, u64, u64, i128);

impl DaySums {
    /// Reads the column `days` of `spend_rollup`.
    pub(super) fn read(column: &str) -> Result<Self, StoreError> {
        let days: Vec<Written> = rows::json("spend_rollup", "`days` are not sums by day", column)?;
        let sums = |(day, requests, input_tokens, output_tokens, cost_nano_usd)| {
            (day, Sums { requests, input_tokens, output_tokens, cost_nano_usd })
        };
        Ok(Self(days.into_iter().map(sums).collect()))
    }

    /// As the column has it: JSON, in one line.
    pub(super) fn column(&self) -> String {
        let written = |(day, sums): (u8, &Sums)| -> Written {
            (day, sums.requests, sums.input_tokens, sums.output_tokens, sums.cost_nano_usd)
        };
        rows::json_text(&self.iter().map(written).collect::<Vec<_>>())
    }

    /// Adds to the sums of one day.
    pub(super) fn add(&mut self, day: u8, sums: &Sums) {
        match self.0.binary_search_by_key(&day, |(day, _)| *day) {
            Ok(place) => self.0[place].1.add(sums),
            Err(place) => self.0.insert(place, (day, *sums)),
        }
    }

    /// Adds other days of the same month.
    pub(super) fn add_all(&mut self, other: &Self) {
        for (day, sums) in other.iter() {
            self.add(day, sums);
        }
    }

    /// The days, the first one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &Sums)> {
        self.0.iter().map(|(day, sums)| (*day, sums))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums() -> impl Strategy<Value = Sums> {
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<i128>()).prop_map(
            |(requests, input_tokens, output_tokens, cost_nano_usd)| Sums {
                requests,
                input_tokens,
                output_tokens,
                cost_nano_usd,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(days in proptest::collection::btree_map(0u8..31, sums(), 0..31)) {
            let days = DaySums(days.into_iter().collect());
            prop_assert_eq!(DaySums::read(&days.column()).expect("days"), days);
        }

        #[test]
        fn what_is_no_such_column_is_refused_and_nothing_worse(column in "[\\[\\]0-9,-]{0,40}") {
            if let Ok(days) = DaySums::read(&column) {
                prop_assert_eq!(DaySums::read(&days.column()).expect("days"), days);
            }
        }
    }

    #[test]
    fn a_column_that_was_cut_or_goes_on_is_refused() {
        let mut days = DaySums::default();
        days.add(30, &Sums { requests: 300, ..Sums::default() });
        let column = days.column();
        assert_eq!(column, "[[30,300,0,0,0]]");
        for bad in [
            &column[1..],
            &format!("{column},"),
            "",
            "{}",
            "[[30,300,0,0]]",
            "[[256,300,0,0,0]]",
            "[[30,-1,0,0,0]]",
        ] {
            assert!(
                matches!(DaySums::read(bad), Err(StoreError::Corrupt { table: "spend_rollup", .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn sums_stop_at_the_largest_numbers() {
        let most = Sums {
            requests: u64::MAX,
            input_tokens: u64::MAX,
            output_tokens: u64::MAX,
            cost_nano_usd: i128::MAX,
        };
        let mut sums = most;
        sums.add(&most);
        assert_eq!(sums, most);
    }
}
