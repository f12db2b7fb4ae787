//! Sums by UTC day and by month, kept as usage rows are written, so that reports read thousands of rows where there are
//! millions.
//!
//! Every request is counted at seven grains, each of which tells requests of one tenant and day, or month, apart by less or
//! by more. A report reads the coarsest that knows what it asks about. Tags are free texts and may be different in every
//! request: then the grains that look at them are as long as the usage table, and those that do not stay short. Months
//! are only kept of the grains that are long by the day: of the others a month has few rows as it is, and every grain
//! has its price when usage is written.
//!
//! A cost is kept as dollars and the nano-dollars below them, each summed by itself: a day's sum may be more than one
//! amount can be. The counts stop at the largest number instead of going on in floating point.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use chrono::Datelike;
use entity::spend_rollup::Column;
use sea_orm::{ConnectionTrait, DbBackend, IdenStatic, Statement, Value};

use super::{
    StoreError, Tx,
    many::{ROWS_AT_ONCE, filled, parameters, room},
    rows,
};
use crate::domain::{ModelName, ModelRef, NanoUsd, TenantId, Timestamp, UsageRecord, VirtualKeyId};

/// Milliseconds of a day in UTC, which has no leap seconds here.
pub(super) const DAY_MILLIS: i64 = 86_400_000;
/// What a dollar has of nano-dollars.
pub(super) const NANO: i64 = 1_000_000_000;
/// What an upsert of Postgres finds its row by, word for word as in the index.
const TAGS_DIGEST: &str = r"sha256(replace(tags, '\', '\\')::bytea)";

/// What requests of one tenant and day, or month, are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grain {
    /// Virtual key.
    Key,
    /// Provider and models.
    Model,
    /// Tags.
    Tags,
    /// Virtual key, provider and models.
    KeyModel,
    /// All of these.
    All,
    /// Virtual key, provider and models, by month.
    KeyModelMonth,
    /// All of these, by month.
    AllMonth,
}

impl Grain {
    const EVERY: [Self; 7] =
        [Self::Key, Self::Model, Self::Tags, Self::KeyModel, Self::All, Self::KeyModelMonth, Self::AllMonth];

    /// The coarsest by the day that knows what is asked about.
    pub(super) const fn coarsest(key: bool, model: bool, tags: bool) -> Self {
        match (key, model, tags) {
            (_, false, false) => Self::Key,
            (false, true, false) => Self::Model,
            (false, false, true) => Self::Tags,
            (true, true, false) => Self::KeyModel,
            (_, _, true) => Self::All,
        }
    }

    /// What tells as much apart, by the month, if that is kept.
    pub(super) const fn by_month(self) -> Option<Self> {
        match self {
            Self::KeyModel | Self::KeyModelMonth => Some(Self::KeyModelMonth),
            Self::All | Self::AllMonth => Some(Self::AllMonth),
            Self::Key | Self::Model | Self::Tags => None,
        }
    }

    /// The name in the database.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Model => "model",
            Self::Tags => "tags",
            Self::KeyModel => "key_model",
            Self::All => "all",
            Self::KeyModelMonth => "key_model_month",
            Self::AllMonth => "all_month",
        }
    }

    const fn knows_key(self) -> bool {
        !matches!(self, Self::Model | Self::Tags)
    }

    const fn knows_model(self) -> bool {
        !matches!(self, Self::Key | Self::Tags)
    }

    const fn knows_tags(self) -> bool {
        matches!(self, Self::Tags | Self::All | Self::AllMonth)
    }

    const fn is_by_month(self) -> bool {
        matches!(self, Self::KeyModelMonth | Self::AllMonth)
    }
}

/// The first day of the month that a day is in.
pub(super) fn month_of(day: i64) -> i64 {
    day - i64::from(Timestamp::from_millis(day.saturating_mul(DAY_MILLIS)).utc().day0())
}

/// The first day of the month after the one that a day is in.
pub(super) fn month_after(day: i64) -> i64 {
    // The 32nd day of a month is one of the first days of the next.
    month_of(month_of(day) + 31)
}

/// One row's key: grain, day, then tenant, virtual key, provider, requested model, served model, tags.
type Cell<'a> = (Grain, i64, [&'a str; 6]);

#[derive(Clone, Copy, Default)]
struct Counts {
    requests: i64,
    input_tokens: i64,
    output_tokens: i64,
    cost_usd: i64,
    cost_nano_usd: i64,
}

/// What the finest grain tells requests apart by, as a record has it.
type Finest<'a> = (i64, TenantId, VirtualKeyId, &'a ModelRef, &'a ModelName, &'a BTreeMap<String, String>);

impl Counts {
    fn of(record: &UsageRecord) -> Self {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let cost = record.cost.unwrap_or_default().max(NanoUsd::ZERO).nano();
        Self {
            requests: 1,
            input_tokens: whole(record.usage.input_total()),
            output_tokens: whole(record.usage.output_total()),
            cost_usd: cost / NANO,
            cost_nano_usd: cost % NANO,
        }
    }

    fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_usd = self.cost_usd.saturating_add(other.cost_usd);
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(other.cost_nano_usd);
    }
}

/// What one batch adds. Counted by the finest grain first: a batch has many records and few cells, and a cell is all
/// texts.
#[derive(Default)]
pub(super) struct Added<'a>(BTreeMap<Finest<'a>, Counts>);

impl<'a> Added<'a> {
    /// Counts a record that was not there before.
    pub(super) fn count(&mut self, record: &'a UsageRecord) {
        let finest = (
            record.started_at.millis().div_euclid(DAY_MILLIS),
            record.tenant_id,
            record.virtual_key_id,
            &record.served_model,
            &record.requested_model,
            &record.tags,
        );
        self.0.entry(finest).or_default().add(Counts::of(record));
    }

    /// Adds it to the table. Rows go in the order of their keys, so that two instances that add to the same ones wait
    /// and do not deadlock.
    pub(super) async fn write(self, tx: &Tx) -> Result<(), StoreError> {
        let spelt: Vec<_> = self.0.into_iter().map(spell).collect();
        let cells: Vec<_> = cells(&spelt).into_iter().collect();
        let backend = tx.get_database_backend();
        for chunk in cells.chunks(ROWS_AT_ONCE) {
            let room = room(backend, chunk.len());
            let values: Vec<Value> =
                filled(chunk, room, |(cell, _)| (*cell, Counts::default())).flat_map(row).collect();
            let upsert = upsert_of(backend, room);
            tx.execute_raw(Statement::from_sql_and_values(backend, upsert, values)).await?;
        }
        Ok(())
    }
}

/// A day, what is told apart within it as texts, and what there is of it.
type Spelt = (i64, [String; 6], Counts);

fn spell(((day, tenant, key, served, requested, tags), counts): (Finest<'_>, Counts)) -> Spelt {
    let texts = [
        tenant.to_string(),
        key.to_string(),
        served.provider.to_string(),
        requested.to_string(),
        served.to_string(),
        rows::json_text(tags),
    ];
    (day, texts, counts)
}

/// The sums of every grain.
fn cells(spelt: &[Spelt]) -> BTreeMap<Cell<'_>, Counts> {
    let mut cells = BTreeMap::<Cell<'_>, Counts>::new();
    for (day, [tenant, key, provider, requested, served, tags], counts) in spelt {
        let month = month_of(*day);
        for grain in Grain::EVERY {
            let day = if grain.is_by_month() { month } else { *day };
            let key = if grain.knows_key() { key } else { "" };
            let [provider, requested, served] =
                if grain.knows_model() { [provider.as_str(), requested, served] } else { [""; 3] };
            let tags = if grain.knows_tags() { tags } else { "" };
            let cell = (grain, day, [tenant, key, provider, requested, served, tags]);
            cells.entry(cell).or_default().add(*counts);
        }
    }
    cells
}

/// The columns in the order of [`row`]: the key's, then the sums'.
const COLUMNS: [Column; 13] = [
    Column::Grain,
    Column::Day,
    Column::TenantId,
    Column::VirtualKeyId,
    Column::Provider,
    Column::RequestedModel,
    Column::ServedModel,
    Column::Tags,
    Column::Requests,
    Column::InputTokens,
    Column::OutputTokens,
    Column::CostUsd,
    Column::CostNanoUsd,
];
/// How many of them are the key's.
const KEY: usize = 8;

fn row((cell, sum): (Cell<'_>, Counts)) -> [Value; COLUMNS.len()] {
    let (grain, day, [tenant, key, provider, requested, served, tags]) = cell;
    [
        grain.as_str().into(),
        day.into(),
        tenant.into(),
        key.into(),
        provider.into(),
        requested.into(),
        served.into(),
        tags.into(),
        sum.requests.into(),
        sum.input_tokens.into(),
        sum.output_tokens.into(),
        sum.cost_usd.into(),
        sum.cost_nano_usd.into(),
    ]
}

/// The statement that adds so many rows to those of their keys, spelt out once on SQLite, where there are few.
fn upsert_of(backend: DbBackend, rows: usize) -> Cow<'static, str> {
    const SIZES: usize = ROWS_AT_ONCE.ilog2() as usize + 1;
    static SQLITE: LazyLock<[String; SIZES]> = LazyLock::new(|| {
        let values = |rows| parameters(DbBackend::Sqlite, 0, rows, COLUMNS.len());
        std::array::from_fn(|power| upsert("tags", &values(1 << power)))
    });
    match backend {
        DbBackend::Postgres => upsert(TAGS_DIGEST, &parameters(backend, 0, rows, COLUMNS.len())).into(),
        _ => SQLITE[rows.ilog2() as usize].as_str().into(),
    }
}

fn upsert(tags: &str, values: &str) -> String {
    let names = COLUMNS.map(|column| column.as_str());
    let adding = |name: &&str| {
        format!(
            r#""{name}" = CASE WHEN "spend_rollup"."{name}" > {max} - "excluded"."{name}" THEN {max}
            ELSE "spend_rollup"."{name}" + "excluded"."{name}" END"#,
            max = i64::MAX,
        )
    };
    format!(
        r#"INSERT INTO "spend_rollup" ({names}) VALUES {values} ON CONFLICT ({key}, {tags}) DO UPDATE SET {sums}"#,
        key = names[..KEY - 1].join(", "),
        sums = names[KEY..].iter().map(adding).collect::<Vec<_>>().join(", "),
        names = names.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_goes_from_its_first_day_to_the_next_ones() {
        let day = |text: &str| Timestamp::parse(text).expect("a time").millis() / DAY_MILLIS;
        for (one, first, next) in [
            ("2026-10-01", "2026-10-01", "2026-11-01"),
            ("2026-10-31", "2026-10-01", "2026-11-01"),
            ("2026-12-31", "2026-12-01", "2027-01-01"),
            ("2028-02-29", "2028-02-01", "2028-03-01"),
            ("2026-02-28", "2026-02-01", "2026-03-01"),
            ("1970-01-01", "1970-01-01", "1970-02-01"),
        ] {
            assert_eq!((month_of(day(one)), month_after(day(one))), (day(first), day(next)), "{one}");
        }
    }
}
