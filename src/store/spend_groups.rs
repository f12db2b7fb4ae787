//! The groups of a report and their sums, as they come together from rows read one after the other.
//!
//! A report has many rows and few different values. So a value is known by a number from when it is first seen: groups are
//! found by numbers and put in order by numbers, and texts are compared once for each value.

use std::{collections::HashMap, sync::Arc};

use super::{
    StoreError,
    day_sums::{Sums, read_days},
    rollup::DAY_MILLIS,
    rows,
};
use crate::domain::Timestamp;

/// Most groups that one report has.
pub const MAX_GROUPS: usize = 50_000;

/// For how many different texts of tags their values are remembered: often few stand in all rows, sometimes each row has
/// its own.
const TEXTS_REMEMBERED: usize = if cfg!(test) { 2 } else { 1_024 };

/// What sums are taken by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupKey {
    /// Tenant.
    Tenant,
    /// Virtual key.
    Key,
    /// Provider.
    Provider,
    /// `provider/model` served.
    Model,
    /// Day in UTC.
    Day,
    /// Value of one tag.
    Tag(String),
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where [`Spend::values`] has the values of its keys, in their order.
    pub places: Box<[usize]>,
    /// Its sums.
    pub sums: Sums,
}

/// Sums by group, and the sum of everything, of one moment.
#[derive(Clone, Debug)]
pub struct Spend {
    /// The values of all groups, each once: thousands of groups have the same few. `None` where rows have no such tag.
    /// Some may be of no group.
    pub values: Vec<Option<Arc<str>>>,
    /// In the order of their values; more than [`MAX_GROUPS`] of them are not all, and the total is not either.
    pub groups: Vec<Group>,
    /// Of all groups.
    pub total: Sums,
}

impl Spend {
    /// Each group with its values.
    pub fn rows(&self) -> impl Iterator<Item = (Vec<Option<&str>>, &Sums)> {
        self.groups.iter().map(|group| {
            let values = group.places.iter().map(|place| self.values[*place].as_deref());
            (values.collect(), &group.sums)
        })
    }
}

/// Some rows.
pub(super) struct Lines {
    /// Where they are from.
    pub(super) table: &'static str,
    /// What tells groups apart, of each: a column for each key but the day and the tags, in their order, then the tags.
    pub(super) columns: Vec<String>,
    /// The sums of each, as the column `days` of `spend_rollup` has them.
    pub(super) days: String,
    /// The day that theirs are counted from.
    pub(super) first_day: i64,
}

/// Values of groups. Each has a number, the first one 1; 0 stands for none.
#[derive(Default)]
struct Values {
    numbers: HashMap<Arc<str>, usize>,
    texts: Vec<Arc<str>>,
}

impl Values {
    fn number(&mut self, text: &str) -> usize {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, self.texts.len());
        self.texts.len()
    }

    /// All values in their order, none being the first, and the place there of each number.
    fn in_order(self) -> (Vec<Option<Arc<str>>>, Vec<usize>) {
        let mut numbered: Vec<_> = self.texts.into_iter().zip(1..).collect();
        numbered.sort_unstable();
        let mut places = vec![0; numbered.len() + 1];
        for ((_, number), place) in numbered.iter().zip(1..) {
            places[*number] = place;
        }
        let values = [None].into_iter().chain(numbered.into_iter().map(|(text, _)| Some(text)));
        (values.collect(), places)
    }
}

/// The tags that a report groups by.
struct Tags<'a> {
    names: Vec<&'a str>,
    /// Their values in some texts of tags.
    known: HashMap<String, Box<[usize]>>,
}

impl Tags<'_> {
    /// Their values, in their order, where all tags are this text.
    fn values(
        &mut self,
        text: &str,
        values: &mut Values,
        table: &'static str,
    ) -> Result<&[usize], StoreError> {
        if self.names.is_empty() {
            return Ok(&[]);
        }
        if !self.known.contains_key(text) {
            if self.known.len() >= TEXTS_REMEMBERED {
                self.known.clear();
            }
            let tags = rows::tags(table, text)?;
            let number = |name: &&str| tags.get(*name).map_or(0, |value| values.number(value));
            self.known.insert(text.to_owned(), self.names.iter().map(number).collect());
        }
        Ok(&self.known[text])
    }
}

/// The sums of groups that differ in their day only, by day in order; under 0 when days are not told apart.
type ByDay = Vec<(i64, Sums)>;

/// Groups as they are found.
pub(super) struct Groups<'a> {
    keys: &'a [GroupKey],
    values: Values,
    tags: Tags<'a>,
    /// By their values but the day, in the order of the keys.
    groups: HashMap<Box<[usize]>, ByDay>,
    /// How many there are, each day one.
    count: usize,
}

impl<'a> Groups<'a> {
    pub(super) fn by(keys: &'a [GroupKey]) -> Self {
        let names = keys.iter().filter_map(|key| match key {
            GroupKey::Tag(name) => Some(name.as_str()),
            _ => None,
        });
        Self {
            keys,
            values: Values::default(),
            tags: Tags { names: names.collect(), known: HashMap::new() },
            groups: HashMap::new(),
            count: 0,
        }
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.count > MAX_GROUPS
    }

    /// Adds rows, of the days that are asked for.
    pub(super) fn add(&mut self, lines: &Lines, asked: impl Fn(i64) -> bool) -> Result<(), StoreError> {
        self.each(lines, asked, Self::add_days)
    }

    /// Takes away rows that are among those that were added.
    pub(super) fn take(&mut self, lines: &Lines) -> Result<(), StoreError> {
        const TOO_FEW: StoreError =
            StoreError::Corrupt { table: "spend_rollup", what: "a day's sums have less than its usage rows" };
        self.each(lines, |_| true, |groups, numbers, days| groups.take_days(numbers, days).ok_or(TOO_FEW))
    }

    /// Does something with each row that has days that are asked for, given the numbers of its values.
    fn each(
        &mut self,
        lines: &Lines,
        asked: impl Fn(i64) -> bool,
        change: impl Fn(&mut Self, &[usize], &[(i64, Sums)]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let corrupt = |what| StoreError::Corrupt { table: lines.table, what };
        let uneven = || corrupt("a text has more than one line");
        let by_day = self.keys.contains(&GroupKey::Day);
        let mut texts: Vec<_> = lines.columns.iter().map(|column| column.split('\n')).collect();
        let (mut columns, mut numbers, mut days) = (Vec::new(), Vec::new(), ByDay::new());
        for line in lines.days.split('\n') {
            columns.clear();
            for lines in &mut texts {
                columns.push(lines.next().ok_or_else(uneven)?);
            }
            days.clear();
            let read = read_days(line, |after, sums| {
                let day = lines.first_day + i64::from(after);
                if !asked(day) {
                    return;
                }
                let day = if by_day { day } else { 0 };
                match days.last_mut() {
                    Some((last, added)) if *last == day => added.add(&sums),
                    _ => days.push((day, sums)),
                }
            });
            read.ok_or_else(|| corrupt("what should be sums by day is not"))?;
            // What has no day that is asked for makes no group: a month may have millions of such tags.
            if !days.is_empty() {
                numbers.clear();
                self.number(&columns, &mut numbers, lines.table)?;
                change(self, &numbers, &days)?;
            }
        }
        if texts.iter_mut().any(|lines| lines.next().is_some()) { Err(uneven()) } else { Ok(()) }
    }

    /// Tells the numbers of the values of all keys but the day, given [`Lines::columns`] of one row.
    fn number(
        &mut self,
        columns: &[&str],
        numbers: &mut Vec<usize>,
        table: &'static str,
    ) -> Result<(), StoreError> {
        let missing = StoreError::Corrupt { table, what: "a column is missing" };
        let mut plain = columns.iter();
        let all_tags = columns.last().copied().unwrap_or_default();
        let mut tags = self.tags.values(all_tags, &mut self.values, table)?.iter();
        for key in self.keys {
            match key {
                GroupKey::Day => {}
                GroupKey::Tenant | GroupKey::Key | GroupKey::Provider | GroupKey::Model => {
                    let Some(value) = plain.next() else { return Err(missing) };
                    numbers.push(self.values.number(value));
                }
                GroupKey::Tag(_) => numbers.extend(tags.next()),
            }
        }
        Ok(())
    }

    fn add_days(&mut self, numbers: &[usize], days: &[(i64, Sums)]) -> Result<(), StoreError> {
        if !self.groups.contains_key(numbers) {
            self.groups.insert(numbers.into(), Vec::new());
        }
        let group = self.groups.get_mut(numbers).expect("it was just inserted");
        let before = group.len();
        // Both are in order: from the first of these days on, a few steps lead from one to the next.
        let mut place = days.first().map_or(0, |(first, _)| group.partition_point(|(day, _)| day < first));
        for (day, sums) in days {
            while group.get(place).is_some_and(|(earlier, _)| earlier < day) {
                place += 1;
            }
            match group.get_mut(place) {
                Some((same, added)) if same == day => added.add(sums),
                _ => group.insert(place, (*day, *sums)),
            }
        }
        self.count += group.len() - before;
        Ok(())
    }

    /// `None` when there is not so much.
    fn take_days(&mut self, numbers: &[usize], days: &[(i64, Sums)]) -> Option<()> {
        let group = self.groups.get_mut(numbers)?;
        for (day, sums) in days {
            let place = group.binary_search_by_key(day, |(day, _)| *day).ok()?;
            let left = group[place].1.without(sums)?;
            if left.requests > 0 {
                group[place].1 = left;
            } else {
                group.remove(place);
                self.count -= 1;
            }
        }
        Some(())
    }

    /// The groups, each with all its values, in their order.
    pub(super) fn finish(mut self) -> Spend {
        let mut total = Sums::default();
        for (_, sums) in self.groups.values().flatten() {
            total.add(sums);
        }
        if self.keys.is_empty() {
            // The one group is there also where there is nothing.
            let all = Group { places: [].into(), sums: total };
            return Spend { values: Vec::new(), groups: vec![all], total };
        }
        let place_of_day = self.keys.iter().position(|key| *key == GroupKey::Day);
        let mut days = HashMap::new();
        let mut groups = Vec::with_capacity(self.count);
        for (numbers, by_day) in self.groups {
            for (day, sums) in by_day {
                let places = match place_of_day {
                    Some(place) => {
                        let day = *days.entry(day).or_insert_with(|| self.values.number(&name_of(day)));
                        [&numbers[..place], &[day], &numbers[place..]].concat().into()
                    }
                    None => numbers.clone(),
                };
                groups.push(Group { places, sums });
            }
        }
        let (values, places) = self.values.in_order();
        for number in groups.iter_mut().flat_map(|group| &mut group.places) {
            *number = places[*number];
        }
        groups.sort_unstable_by(|one, other| one.places.cmp(&other.places));
        Spend { values, groups, total }
    }
}

fn name_of(day: i64) -> String {
    Timestamp::from_millis(day.saturating_mul(DAY_MILLIS)).utc().format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests;
