//! Sums by UTC day, kept as usage rows are written, so that reports read thousands of rows where there are millions.
//!
//! A row has the sums of each day of one month, of the requests of one tenant that are alike in what its grain looks at.
//! Every request counts at five grains, each of which tells requests apart by less or by more; a report reads the
//! coarsest that knows what it asks about. Tags are free texts and may be different in every request: then the grains
//! that look at them are as long as the usage table, and those that do not stay short.
//!
//! A row is read, added to and written back, in the transaction that writes the usage rows. So a row whose days cannot
//! be read, which only somebody else can have written, refuses the charges that it would count: they are set aside, as
//! all charges that the database does not take, and written once it is mended.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write, sync::LazyLock};

use chrono::Datelike;
use entity::spend_rollup::Column;
use sea_orm::{ConnectionTrait, DbBackend, IdenStatic, Statement, Value};
use sha2::{Digest, Sha256};

use super::{
    StoreError, Tx,
    day_sums::{DaySums, Sums},
    many::{ROWS_AT_ONCE, filled, parameters, room},
    rows,
};
use crate::domain::{ModelName, ModelRef, TenantId, Timestamp, UsageRecord, VirtualKeyId};

/// Milliseconds of a day in UTC, which has no leap seconds here.
pub(super) const DAY_MILLIS: i64 = 86_400_000;
/// What requests of one tenant and month are told apart by.
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
}

impl Grain {
    const EVERY: [Self; 5] = [Self::Key, Self::Model, Self::Tags, Self::KeyModel, Self::All];

    /// The coarsest that knows what is asked about.
    pub(super) const fn coarsest(key: bool, model: bool, tags: bool) -> Self {
        match (key, model, tags) {
            (_, false, false) => Self::Key,
            (false, true, false) => Self::Model,
            (false, false, true) => Self::Tags,
            (true, true, false) => Self::KeyModel,
            (_, _, true) => Self::All,
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
        }
    }

    const fn knows_key(self) -> bool {
        matches!(self, Self::Key | Self::KeyModel | Self::All)
    }

    const fn knows_model(self) -> bool {
        matches!(self, Self::Model | Self::KeyModel | Self::All)
    }

    const fn knows_tags(self) -> bool {
        matches!(self, Self::Tags | Self::All)
    }
}

/// The first day of the month that a day is in, in days since 1970-01-01, and how many days the day lies after it.
pub(super) fn month_of(day: i64) -> (i64, u8) {
    let after = Timestamp::from_millis(day.saturating_mul(DAY_MILLIS)).utc().day0();
    (day - i64::from(after), u8::try_from(after).expect("a month has at most 31 days"))
}

/// What the finest grain tells requests apart by, as a record has it, and the day.
type Finest<'a> = (i64, TenantId, VirtualKeyId, &'a ModelRef, &'a ModelName, &'a BTreeMap<String, String>);

/// What one batch adds. Counted by the finest grain first: a batch has many records and few cells, and a cell is all
/// texts.
#[derive(Default)]
pub(super) struct Added<'a>(BTreeMap<Finest<'a>, Sums>);

impl<'a> Added<'a> {
    /// Counts a record that was not there before.
    pub(super) fn count(&mut self, record: &'a UsageRecord) {
        let finest = (
            record.started_at.millis().div_euclid(DAY_MILLIS),
            record.tenant_id,
            record.virtual_key_id,
            &record.served_model,
            &record.requested_model,
            &*record.tags,
        );
        self.0.entry(finest).or_default().add(&Sums::of(record));
    }

    /// Adds it to the table. Rows are locked in the order of their keys, so that two instances that add to the same ones
    /// wait and do not deadlock.
    pub(super) async fn write(self, tx: &Tx) -> Result<(), StoreError> {
        let spelt: Vec<_> = self.0.into_iter().map(texts_of).collect();
        let mut rows = rows_of(&spelt);
        if tx.get_database_backend() == DbBackend::Postgres {
            // A row that is not there cannot be locked. So all are made before the first is locked: whoever holds a
            // lock then waits for no row that another is about to make. SQLite has one writer.
            let kept = kept(tx, Step::Look, &rows).await?;
            let absent = rows.iter().zip(kept).filter(|(_, kept)| kept.is_none());
            let empty: Vec<_> = absent
                .map(|(row, _)| Row { series: row.series.clone(), sums: DaySums::default(), ..*row })
                .collect();
            run(tx, Step::Make, &empty).await?;
        }
        let kept = kept(tx, Step::Find, &rows).await?;
        for (row, kept) in rows.iter_mut().zip(kept) {
            row.sums.add_all(&kept.unwrap_or_default());
        }
        run(tx, Step::Put, &rows).await
    }
}

/// A day, what is told apart within it as texts, and what there is of it.
type Spelt = (i64, [String; 6], Sums);

fn texts_of(((day, tenant, key, served, requested, tags), sums): (Finest<'_>, Sums)) -> Spelt {
    let texts = [
        tenant.to_string(),
        key.to_string(),
        served.provider.to_string(),
        requested.to_string(),
        served.to_string(),
        rows::json_text(tags),
    ];
    (day, texts, sums)
}

/// What is added to one row.
struct Row<'a> {
    grain: Grain,
    /// Its first day.
    month: i64,
    series: String,
    /// Tenant, virtual key, provider, requested model, served model and tags, as far as the grain looks at them.
    texts: [&'a str; 6],
    sums: DaySums,
}

/// What is added at every grain, in the order of the table's key: one for everybody who locks.
fn rows_of(spelt: &[Spelt]) -> Vec<Row<'_>> {
    let mut cells = BTreeMap::<(Grain, i64, [&str; 6]), DaySums>::new();
    for (day, [tenant, key, provider, requested, served, tags], sums) in spelt {
        let (month, day) = month_of(*day);
        for grain in Grain::EVERY {
            let key = if grain.knows_key() { key } else { "" };
            let [provider, requested, served] =
                if grain.knows_model() { [provider.as_str(), requested, served] } else { [""; 3] };
            let tags = if grain.knows_tags() { tags } else { "" };
            let cell = (grain, month, [tenant, key, provider, requested, served, tags]);
            cells.entry(cell).or_default().add(day, sums);
        }
    }
    let row = |((grain, month, texts), sums)| Row { grain, month, series: series(&texts), texts, sums };
    let mut rows: Vec<Row<'_>> = cells.into_iter().map(row).collect();
    rows.sort_unstable_by(|one, other| one.key().cmp(&other.key()));
    rows
}

impl Row<'_> {
    /// What it is found by.
    fn key(&self) -> (&'static str, i64, &str) {
        (self.grain.as_str(), self.month, &self.series)
    }
}

/// What stands for the texts in the table's key, as hexadecimal digits: they may be longer than Postgres can index, and
/// are dear to compare. Two that had the same would be added up as one; of 128 bits of SHA-256 nobody finds such.
fn series(texts: &[&str; 6]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let digest = hash.finalize();
    digest[..16].iter().fold(String::with_capacity(32), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("writing to a string cannot fail");
        digits
    })
}

/// What a row is found by.
const KEY: [Column; 3] = [Column::Grain, Column::Month, Column::Series];
/// What it says of the requests that it is about.
const TEXTS: [Column; 6] = [
    Column::TenantId,
    Column::VirtualKeyId,
    Column::Provider,
    Column::RequestedModel,
    Column::ServedModel,
    Column::Tags,
];

/// A step of adding to many rows at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Answers which rows are there, by number, as rows without days.
    Look,
    /// Locks rows and answers their days, by number.
    Find,
    /// Makes rows where there are none.
    Make,
    /// Makes rows, or writes their sums in place of those that are there.
    Put,
}

impl Step {
    const fn finds(self) -> bool {
        matches!(self, Self::Look | Self::Find)
    }

    /// How many values of a row it takes.
    const fn width(self) -> usize {
        if self.finds() { 1 + KEY.len() } else { KEY.len() + TEXTS.len() + 1 }
    }

    /// What it takes of a row: its number and key, or all of it.
    fn values(self, number: usize, row: &Row<'_>, values: &mut Vec<Value>) {
        let key = [row.grain.as_str().into(), row.month.into(), row.series.as_str().into()];
        if self.finds() {
            values.push(i64::try_from(number).unwrap_or(i64::MAX).into());
            values.extend(key);
        } else {
            values.extend(key);
            values.extend(row.texts.map(Value::from));
            values.push(row.sums.column().into());
        }
    }

    /// The statement for so many rows, spelt out once on SQLite, where there are few.
    fn statement(self, backend: DbBackend, rows: usize) -> Cow<'static, str> {
        const SIZES: usize = ROWS_AT_ONCE.ilog2() as usize + 1;
        type Statements = LazyLock<[String; SIZES]>;
        fn of_every_size(step: Step) -> [String; SIZES] {
            std::array::from_fn(|power| step.spell(DbBackend::Sqlite, 1 << power))
        }
        static FIND: Statements = LazyLock::new(|| of_every_size(Step::Find));
        static PUT: Statements = LazyLock::new(|| of_every_size(Step::Put));
        match (backend, self) {
            (DbBackend::Sqlite, Self::Find) => FIND[rows.ilog2() as usize].as_str().into(),
            (DbBackend::Sqlite, Self::Put) => PUT[rows.ilog2() as usize].as_str().into(),
            _ => self.spell(backend, rows).into(),
        }
    }

    fn spell(self, backend: DbBackend, rows: usize) -> String {
        let list = |columns: &[Column]| columns.iter().map(IdenStatic::as_str).collect::<Vec<_>>().join(", ");
        let (key, texts) = (list(&KEY), list(&TEXTS));
        let values = parameters(backend, 0, rows, self.width());
        if self.finds() {
            let same = KEY.map(|column| format!("spend_rollup.{0} = given.{0}", column.as_str()));
            let days = if self == Self::Look { "'[]'" } else { "days" };
            // SQLite's one writer has locked everything.
            let locks = self == Self::Find && backend == DbBackend::Postgres;
            return format!(
                "WITH given (number, {key}) AS (VALUES {values})
                SELECT number, (SELECT {days} FROM spend_rollup WHERE {same} {lock}) FROM given",
                same = same.join(" AND "),
                lock = if locks { "FOR UPDATE" } else { "" },
            );
        }
        let action = if self == Self::Make { "NOTHING" } else { "UPDATE SET days = excluded.days" };
        format!(
            "INSERT INTO spend_rollup ({key}, {texts}, days) VALUES {values} ON CONFLICT ({key}) DO {action}"
        )
    }

    /// Its statement with the values of some rows; the last of them again until it is full, with numbers that none has.
    fn of(self, backend: DbBackend, rows: &[Row<'_>]) -> Statement {
        let room = room(backend, rows.len());
        let rows: Vec<&Row<'_>> = rows.iter().collect();
        let mut values = Vec::with_capacity(room * self.width());
        for (number, row) in filled(&rows, room, |last| *last).enumerate() {
            self.values(number, row, &mut values);
        }
        Statement::from_sql_and_values(backend, self.statement(backend, room), values)
    }
}

/// The sums that the table has of these rows, in their order.
async fn kept(tx: &Tx, step: Step, rows: &[Row<'_>]) -> Result<Vec<Option<DaySums>>, StoreError> {
    let mut kept = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        let first = kept.len();
        kept.resize_with(first + chunk.len(), || None);
        for row in tx.query_all_raw(step.of(tx.get_database_backend(), chunk)).await? {
            let number: i64 = row.try_get_by_index(0)?;
            let place = usize::try_from(number).ok().and_then(|number| kept.get_mut(first + number));
            if let (Some(place), Some(days)) = (place, row.try_get_by_index::<Option<String>>(1)?) {
                *place = Some(DaySums::read(&days)?);
            }
        }
    }
    Ok(kept)
}

async fn run(tx: &Tx, step: Step, rows: &[Row<'_>]) -> Result<(), StoreError> {
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        tx.execute_raw(step.of(tx.get_database_backend(), chunk)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_in_the_month_that_began_last() {
        let day = |text: &str| Timestamp::parse(text).expect("a time").millis() / DAY_MILLIS;
        for (one, first) in [
            ("2026-10-01", "2026-10-01"),
            ("2026-10-31", "2026-10-01"),
            ("2026-12-31", "2026-12-01"),
            ("2028-02-29", "2028-02-01"),
            ("2026-02-28", "2026-02-01"),
            ("1970-01-01", "1970-01-01"),
        ] {
            let (month, after) = month_of(day(one));
            assert_eq!((month, month + i64::from(after)), (day(first), day(one)), "{one}");
        }
    }

    /// Rows are found by it for ever.
    #[test]
    fn a_series_is_told_apart_by_every_text_and_its_place() {
        let texts = ["tnt_1", "vk_1", "openai", "smart", "openai/gpt", r#"{"team":"a"}"#];
        assert_eq!(series(&texts), "12879e4d1a33055e47a73b9c0d2240a3");
        assert_ne!(series(&["ab", "", "", "", "", ""]), series(&["a", "b", "", "", "", ""]));
        assert_ne!(series(&["", "a", "", "", "", ""]), series(&["a", "", "", "", "", ""]));
    }
}
