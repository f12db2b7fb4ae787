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

    /// What is left without others that are among them; `None` when they have more.
    pub(super) fn without(&self, other: &Self) -> Option<Self> {
        Some(Self {
            requests: self.requests.checked_sub(other.requests)?,
            input_tokens: self.input_tokens.checked_sub(other.input_tokens)?,
            output_tokens: self.output_tokens.checked_sub(other.output_tokens)?,
            cost_nano_usd: self.cost_nano_usd.checked_sub(other.cost_nano_usd).filter(|cost| *cost >= 0)?,
        })
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

/// What a dollar has of nano-dollars.
pub(super) const NANO_PER_USD: u64 = 1_000_000_000;

/// A day as it is written: how many days it lies after the first, requests, input tokens, output tokens, dollars, and
/// the nano-dollars below them.
type Written = [u64; 6];

impl DaySums {
    /// Reads the column `days` of `spend_rollup`.
    pub(super) fn read(column: &str) -> Result<Self, StoreError> {
        const CORRUPT: StoreError =
            StoreError::Corrupt { table: "spend_rollup", what: "`days` are not sums by day" };
        let mut days = Vec::new();
        read_days(column, |day, sums| days.push((day, sums))).ok_or(CORRUPT)?;
        Ok(Self(days))
    }

    /// As the column has it: JSON, in one line.
    pub(super) fn column(&self) -> String {
        let written = |(day, sums): (u8, &Sums)| -> Written {
            let Sums { requests, input_tokens, output_tokens, cost_nano_usd } = *sums;
            let cost = cost_nano_usd.unsigned_abs();
            let usd = u64::try_from(cost / u128::from(NANO_PER_USD)).unwrap_or(u64::MAX);
            [day.into(), requests, input_tokens, output_tokens, usd, (cost % u128::from(NANO_PER_USD)) as u64]
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

/// Takes the sums of days out of a column as [`DaySums::column`] writes it, one by one; `None` when it is not such a one.
pub(super) fn read_days(column: &str, mut take: impl FnMut(u8, Sums)) -> Option<()> {
    let mut before = None;
    read_written(column, |[day, requests, input_tokens, output_tokens, usd, nano]| {
        let day = u8::try_from(day).ok().filter(|day| *day < 31 && before < Some(*day))?;
        before = Some(day);
        if nano >= NANO_PER_USD {
            return None;
        }
        let cost_nano_usd = i128::from(usd) * i128::from(NANO_PER_USD) + i128::from(nano);
        take(day, Sums { requests, input_tokens, output_tokens, cost_nano_usd });
        Some(())
    })
}

/// Takes a list of days out of JSON as [`DaySums::column`] writes it, one by one. A report reads a hundred and more
/// numbers for each of thousands of rows, and a reader of all JSON spends many times as long on them as this one.
fn read_written(column: &str, mut take: impl FnMut(Written) -> Option<()>) -> Option<()> {
    if column == "[]" {
        return Some(());
    }
    let mut text = Unread(column.as_bytes());
    text.skip(b"[[")?;
    loop {
        let mut day = Written::default();
        for (place, number) in day.iter_mut().enumerate() {
            if place > 0 {
                text.skip(b",")?;
            }
            *number = text.number()?;
        }
        take(day)?;
        if text.skip(b"]]").is_some() {
            return text.0.is_empty().then_some(());
        }
        text.skip(b"],[")?;
    }
}

/// What is left of a text.
struct Unread<'a>(&'a [u8]);

impl Unread<'_> {
    /// Goes on after `expected`, whose length is a constant so that no call compares two or three bytes.
    #[inline]
    fn skip<const N: usize>(&mut self, expected: &[u8; N]) -> Option<()> {
        let (next, rest) = self.0.split_first_chunk()?;
        if next != expected {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    /// Takes a number as JSON has it, which has no `07`.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        let (first, mut rest) = self.0.split_first()?;
        let mut number = digit(*first)?;
        while let Some((next, after)) = rest.split_first()
            && let Some(digit) = digit(*next)
        {
            if number == 0 {
                return None;
            }
            number = number.checked_mul(10)?.checked_add(digit)?;
            rest = after;
        }
        self.0 = rest;
        Some(number)
    }
}

fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums() -> impl Strategy<Value = Sums> {
        (any::<u64>(), any::<u64>(), any::<u64>(), 0..=i128::from(u64::MAX) * i128::from(NANO_PER_USD))
            .prop_map(|(requests, input_tokens, output_tokens, cost_nano_usd)| Sums {
                requests,
                input_tokens,
                output_tokens,
                cost_nano_usd,
            })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written_and_it_is_json(
            days in proptest::collection::btree_map(0u8..31, sums(), 0..31),
        ) {
            let days = DaySums(days.into_iter().collect());
            let column = days.column();
            prop_assert_eq!(DaySums::read(&column).expect("days"), days);
            prop_assert!(serde_json::from_str::<Vec<Written>>(&column).is_ok());
        }

        /// What is read must be what all others read.
        #[test]
        fn what_is_nearly_such_a_column_is_refused_or_read_as_json(
            column in r"\[\[[0-9]{1,2}(,[0-9]{0,3}){4,6}(\],?\[?[0-9,\[\]-]{0,12}){0,2}\]\]?",
        ) {
            let mut days = Vec::new();
            let all = read_written(&column, |day| {
                days.push(day);
                Some(())
            });
            if all.is_some() {
                prop_assert_eq!(serde_json::from_str::<Vec<Written>>(&column).expect("JSON"), days);
            }
        }
    }

    #[test]
    fn a_column_that_is_no_list_of_days_is_refused() {
        let mut days = DaySums::default();
        days.add(30, &Sums { requests: 300, cost_nano_usd: 2_000_000_001, ..Sums::default() });
        let column = days.column();
        assert_eq!(column, "[[30,300,0,0,2,1]]");
        for bad in [
            &column[1..],
            &format!("{column},"),
            &format!("{column}]"),
            "",
            "{}",
            "[[]]",
            "[[30,300,0,0,0]]",
            "[[30,300,0,0,0,0,0]]",
            "[[30,300,0,0,0,0],]",
            "[[30,300,0,0,0,0][30,300,0,0,0,0]]",
            "[[30,300,0,0,0,0]],[[30,300,0,0,0,0]]",
            "[[30,,0,0,0,0]]",
            "[[30,-1,0,0,0,0]]",
            "[[30,01,0,0,0,0]]",
            "[[31,300,0,0,0,0]]",
            "[[256,300,0,0,0,0]]",
            "[[30,300,0,0,0,1000000000]]",
            "[[5,1,0,0,0,0],[5,1,0,0,0,0]]",
            "[[5,1,0,0,0,0],[3,1,0,0,0,0]]",
            "[[30,18446744073709551616,0,0,0,0]]",
        ] {
            assert!(matches!(DaySums::read(bad), Err(StoreError::Corrupt { .. })), "{bad}");
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
