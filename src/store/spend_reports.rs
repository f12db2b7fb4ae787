//! Sums over requests by group: whole UTC days from the sums that are kept of them, what a report has of the days at its
//! bounds from the usage rows. Every total in the product is a query in this file.
//!
//! The sums of a month's days are one column, so they are added up here and not in the database. Costs of usage rows are
//! summed by the database in two halves, dollars and the nano-dollars below them, and joined in 128 bits: a plain sum of
//! 64-bit amounts can overflow, which is an error on SQLite.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write,
    pin::pin,
    sync::Arc,
};

use entity::{usage_pruned, virtual_key};
use sea_orm::{
    Condition, ConnectionTrait, EntityTrait, ExprTrait, Order, QueryResult, StreamTrait,
    sea_query::{Alias, Expr, Query, SelectStatement},
};
use tokio_stream::StreamExt;

use super::{
    Store, StoreError, TenantScope, Tx, UsageFilter,
    day_sums::{DaySums, NANO_PER_USD, Sums},
    rollup::{DAY_MILLIS, Grain, month_of},
    rows,
};
use crate::domain::Timestamp;

/// Most groups that one report has.
pub const MAX_GROUPS: usize = 50_000;

/// How many rows of a month are read at once.
const ROWS_READ_AT_ONCE: u64 = if cfg!(test) { 3 } else { 500 };

/// Which requests are summed.
pub type SpendFilter = UsageFilter;

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

/// One group: a value for each of its keys, in their order; `None` where rows have no such tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its values.
    pub values: Vec<Option<Arc<str>>>,
    /// Its sums.
    pub sums: Sums,
}

/// Sums by group, and the sum of everything, of one moment.
#[derive(Clone, Debug)]
pub struct Spend {
    /// In the order of their values; more than [`MAX_GROUPS`] of them are not all, and the total is not either.
    pub groups: Vec<Group>,
    /// Of all groups.
    pub total: Sums,
}

/// Rows that a report would need were deleted for their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the usage rows of requests before {before} were deleted")]
pub struct Pruned {
    /// The start of the first UTC day that has all its rows.
    pub before: Timestamp,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    /// A bound lies inside a day of which only the whole sums are left.
    #[error(transparent)]
    Pruned(#[from] Pruned),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sea_orm::DbErr> for SpendError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// A part of a report that is read in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// From this UTC day on, up to that one.
    Days(Option<i64>, Option<i64>),
    /// From this millisecond on, up to that one: less than two days.
    Millis(i64, i64),
}

impl Part {
    /// The parts of a span of time.
    fn of(filter: &SpendFilter) -> Vec<Self> {
        let (from, to) = (filter.from.map(Timestamp::millis), filter.to.map(Timestamp::millis));
        let first = from.map(|from| from.div_euclid(DAY_MILLIS) + i64::from(from.rem_euclid(DAY_MILLIS) > 0));
        let end = to.map(|to| to.div_euclid(DAY_MILLIS));
        if let (Some(first), Some(end), Some(from), Some(to)) = (first, end, from, to)
            && first >= end
        {
            // No whole day lies between them.
            return if from < to { vec![Self::Millis(from, to)] } else { Vec::new() };
        }
        let mut parts = vec![Self::Days(first, end)];
        if let (Some(from), Some(first)) = (from, first)
            && from < first * DAY_MILLIS
        {
            parts.push(Self::Millis(from, first * DAY_MILLIS));
        }
        if let (Some(to), Some(end)) = (to, end)
            && end * DAY_MILLIS < to
        {
            parts.push(Self::Millis(end * DAY_MILLIS, to));
        }
        parts
    }

    /// Whether it needs rows from before `moment`.
    fn needs_rows_before(self, moment: Timestamp) -> bool {
        matches!(self, Self::Millis(from, _) if from < moment.millis())
    }
}

/// Which requests a report is about, and what by.
struct Question<'a> {
    scope: TenantScope,
    filter: &'a SpendFilter,
    keys: &'a [GroupKey],
}

impl Question<'_> {
    /// The columns that tell groups apart, but for the day: those of the keys, in their order, and the tags in place of
    /// all tags.
    fn columns(&self) -> Vec<&'static str> {
        let is_tag = |key: &&GroupKey| matches!(key, GroupKey::Tag(_));
        let of_keys = self.keys.iter().filter_map(|key| match key {
            GroupKey::Tenant => Some("tenant_id"),
            GroupKey::Key => Some("virtual_key_id"),
            GroupKey::Provider => Some("provider"),
            GroupKey::Model => Some("served_model"),
            GroupKey::Day | GroupKey::Tag(_) => None,
        });
        of_keys.chain(self.keys.iter().find(is_tag).map(|_| "tags")).collect()
    }

    fn wanted(&self) -> Condition {
        let filter = self.filter;
        Condition::all()
            .add_option(self.scope.column().map(|tenant| column("tenant_id").eq(tenant)))
            .add_option(filter.virtual_key.map(|key| column("virtual_key_id").eq(key.to_string())))
            .add_option(filter.provider.as_ref().map(|provider| column("provider").eq(provider)))
            .add_option(filter.model.as_ref().map(|model| {
                Condition::any()
                    .add(column("served_model").eq(model))
                    .add(column("requested_model").eq(model))
            }))
    }

    /// The coarsest sums that tell apart what is filtered and grouped by.
    fn grain(&self) -> Grain {
        let (filter, keys) = (self.filter, self.keys);
        let by = |wanted: &[GroupKey]| keys.iter().any(|key| wanted.contains(key));
        Grain::coarsest(
            filter.virtual_key.is_some() || by(&[GroupKey::Key]),
            filter.provider.is_some() || filter.model.is_some() || by(&[GroupKey::Provider, GroupKey::Model]),
            keys.iter().any(|key| matches!(key, GroupKey::Tag(_))),
        )
    }

    /// Asks for the next rows of a month after `series`: each of the columns and `days` of all of them in one text, a
    /// line each, and the last one's series. Rows that come one by one from SQLite's thread cost several times what is
    /// done with them. No column has a line's end in it: tags and days are JSON of one line, names have no such character.
    fn of_month(&self, month: i64, series: &str) -> SelectStatement {
        let columns = || self.columns().into_iter().chain(["days"]);
        let page = Query::select()
            .columns(columns().map(Alias::new))
            .column(Alias::new("series"))
            .from(Alias::new("spend_rollup"))
            .and_where(column("grain").eq(self.grain().as_str()))
            .and_where(column("month").eq(month))
            .and_where(column("series").gt(series))
            .cond_where(self.wanted())
            .order_by(Alias::new("series"), Order::Asc)
            .limit(ROWS_READ_AT_ONCE)
            .take();
        Query::select()
            .exprs(columns().map(|name| Expr::cust(format!("STRING_AGG({name}, '\n')"))))
            .expr(Expr::cust("MAX(series)"))
            .from_subquery(page, Alias::new("page"))
            .take()
    }

    /// Asks for sums of usage rows: after the columns the day and what [`read_sums`] reads.
    fn of_rows(&self, from: i64, to: i64) -> SelectStatement {
        let day = Expr::cust(format!("started_at / {DAY_MILLIS}"));
        let by: Vec<_> = self.columns().into_iter().map(column).chain([day]).collect();
        let sums = [
            "COUNT(*)",
            "SUM(input_tokens)",
            "SUM(output_tokens)",
            &format!("SUM(cost_nano_usd / {NANO_PER_USD})"),
            &format!("SUM(cost_nano_usd % {NANO_PER_USD})"),
        ];
        Query::select()
            .exprs(by.clone())
            .exprs(sums.map(whole))
            .from(Alias::new("usage_record"))
            .and_where(column("started_at").gte(from))
            .and_where(column("started_at").lt(to))
            .cond_where(self.wanted())
            .add_group_by(by)
            .take()
    }
}

fn column(name: &'static str) -> Expr {
    Expr::col(Alias::new(name))
}

/// Postgres sums 64-bit numbers into decimals, and nothing is summed into null.
fn whole(sum: &str) -> Expr {
    Expr::cust(format!("CAST(COALESCE({sum}, 0) AS BIGINT)"))
}

/// The columns of some rows of a month, a line for each row.
struct Lines {
    columns: Vec<String>,
    days: String,
    /// The last row's.
    series: String,
}

impl Lines {
    /// Reads what [`Question::of_month`] asked for; `None` when there were no rows.
    fn read(row: &QueryResult, columns: usize) -> Result<Option<Self>, StoreError> {
        let Some(days) = row.try_get_by_index::<Option<String>>(columns)? else { return Ok(None) };
        let texts = (0..columns).map(|place| row.try_get_by_index(place)).collect::<Result<_, _>>()?;
        Ok(Some(Self { columns: texts, days, series: row.try_get_by_index(columns + 1)? }))
    }
}

/// Groups that differ in their day only: the values of the other keys, and the sums by day, in their order, or under 0.
type DayGroups = (Vec<Option<Arc<str>>>, Vec<(i64, Sums)>);

/// Groups as they are found.
struct Groups<'a> {
    keys: &'a [GroupKey],
    by_day: bool,
    /// Places in `groups`, by [`name`].
    places: HashMap<String, usize>,
    groups: Vec<DayGroups>,
    /// Every value once: groups have few different ones, and are compared often when they are put in order.
    values: HashSet<Arc<str>>,
    /// How many there are, each day one.
    count: usize,
    total: Sums,
}

impl<'a> Groups<'a> {
    fn by(keys: &'a [GroupKey]) -> Self {
        Self {
            keys,
            by_day: keys.contains(&GroupKey::Day),
            places: HashMap::new(),
            groups: Vec::new(),
            values: HashSet::new(),
            count: 0,
            total: Sums::default(),
        }
    }

    fn are_too_many(&self) -> bool {
        self.count > MAX_GROUPS
    }

    /// Adds rows of a month, of the days that are asked for.
    fn add_lines(
        &mut self,
        lines: &Lines,
        month: i64,
        asked: impl Fn(i64) -> bool,
    ) -> Result<(), StoreError> {
        const UNEVEN: StoreError =
            StoreError::Corrupt { table: "spend_rollup", what: "a text has more than one line" };
        let mut texts: Vec<_> = lines.columns.iter().map(|column| column.split('\n')).collect();
        let mut columns = Vec::with_capacity(texts.len());
        for days in lines.days.split('\n') {
            columns.clear();
            for lines in &mut texts {
                columns.push(lines.next().ok_or(UNEVEN)?);
            }
            let days = DaySums::read(days)?;
            let days = days.iter().map(|(after, sums)| (month + i64::from(after), sums));
            self.add(&columns, days.filter(|(day, _)| asked(*day)))?;
        }
        if texts.iter_mut().any(|lines| lines.next().is_some()) { Err(UNEVEN) } else { Ok(()) }
    }

    /// Adds sums to the groups of what has these columns, which are [`Question::columns`].
    fn add<'s>(
        &mut self,
        columns: &[&str],
        days: impl IntoIterator<Item = (i64, &'s Sums)>,
    ) -> Result<(), StoreError> {
        let mut days = days.into_iter().peekable();
        // What has no day that is asked for makes no group: a month may have millions of such tags.
        if days.peek().is_none() {
            return Ok(());
        }
        let values = self.values_of(columns)?;
        let name = name(&values);
        let place = match self.places.get(&name) {
            Some(place) => *place,
            None => {
                let shared = values.into_iter().map(|value| value.map(|value| self.shared(&value))).collect();
                self.groups.push((shared, Vec::new()));
                self.places.insert(name, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[place].1;
        let before = group.len();
        for (day, sums) in days {
            let day = if self.by_day { day } else { 0 };
            match group.binary_search_by_key(&day, |(day, _)| *day) {
                Ok(place) => group[place].1.add(sums),
                Err(place) => group.insert(place, (day, *sums)),
            }
            self.total.add(sums);
        }
        self.count += group.len() - before;
        Ok(())
    }

    fn shared(&mut self, value: &str) -> Arc<str> {
        if let Some(shared) = self.values.get(value) {
            return Arc::clone(shared);
        }
        let shared = Arc::from(value);
        self.values.insert(Arc::clone(&shared));
        shared
    }

    /// The values of the keys but the day.
    fn values_of<'c>(&self, columns: &[&'c str]) -> Result<Vec<Option<Cow<'c, str>>>, StoreError> {
        let mut plain = columns.iter();
        let mut tags = None::<BTreeMap<String, String>>;
        let mut values = Vec::with_capacity(self.keys.len());
        for key in self.keys {
            match key {
                GroupKey::Day => {}
                GroupKey::Tenant | GroupKey::Key | GroupKey::Provider | GroupKey::Model => {
                    values.push(plain.next().map(|value| Cow::Borrowed(*value)));
                }
                GroupKey::Tag(name) => {
                    if tags.is_none() {
                        let text = columns.last().copied().unwrap_or_default();
                        tags = Some(rows::json("spend_rollup", "`tags` is not an object of texts", text)?);
                    }
                    values.push(tags.as_mut().and_then(|tags| tags.remove(name)).map(Cow::Owned));
                }
            }
        }
        Ok(values)
    }

    /// The groups, each with all its values, in their order.
    fn finish(self) -> Spend {
        let total = self.total;
        if self.keys.is_empty() {
            // The one group is there also where there is nothing.
            return Spend { groups: vec![Group { values: Vec::new(), sums: total }], total };
        }
        let place = self.keys.iter().position(|key| *key == GroupKey::Day);
        let mut names = DayNames::default();
        let mut groups = Vec::with_capacity(self.count);
        for (values, days) in self.groups {
            for (day, sums) in days {
                let mut values = values.clone();
                if let Some(place) = place {
                    values.insert(place, Some(names.of(day)));
                }
                groups.push(Group { values, sums });
            }
        }
        groups.sort_unstable_by(|one, other| in_order(&one.values, &other.values));
        Spend { groups, total }
    }
}

/// As the values themselves compare, without a look at those that are shared.
fn in_order(one: &[Option<Arc<str>>], other: &[Option<Arc<str>>]) -> Ordering {
    let is_same = |one: &Option<Arc<str>>, other: &Option<Arc<str>>| match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    };
    let mut pairs = one.iter().zip(other);
    pairs
        .find(|(one, other)| !is_same(one, other) && one != other)
        .map_or(Ordering::Equal, |(one, other)| one.cmp(other))
}

/// One text for some values, and another one for others.
fn name(values: &[Option<Cow<'_, str>>]) -> String {
    let mut name = String::with_capacity(64);
    for value in values {
        match value {
            // With its length, so that nothing in a value can pass for the end of it.
            Some(value) => write!(name, "{}:{value}", value.len()).expect("writing to a string cannot fail"),
            None => name.push('-'),
        }
    }
    name
}

impl Store {
    /// Sums by group, and of everything. More than [`MAX_GROUPS`] groups tell that there are too many.
    ///
    /// # Errors
    /// [`SpendError::Pruned`] when a bound lies inside a day whose rows were deleted.
    pub async fn spend(
        &self,
        scope: TenantScope,
        filter: &SpendFilter,
        keys: &[GroupKey],
    ) -> Result<Spend, SpendError> {
        let parts = Part::of(filter);
        let moment = self.snapshot().await?;
        // Within the snapshot, so that it tells of every row that is missing there.
        if let Some(before) = pruned_before(&moment).await?
            && parts.iter().any(|part| part.needs_rows_before(before))
        {
            return Err(Pruned { before }.into());
        }
        let scope = tenant_of_key(&moment, scope, filter).await?;
        let question = Question { scope, filter, keys };
        let mut groups = Groups::by(keys);
        for part in parts {
            match part {
                Part::Days(from, to) => {
                    let asked = |day| from.is_none_or(|from| from <= day) && to.is_none_or(|to| day < to);
                    for month in months(&moment, from, to).await? {
                        add_month(&moment, &question, month, asked, &mut groups).await?;
                    }
                }
                Part::Millis(from, to) => add_rows(&moment, &question, from, to, &mut groups).await?,
            }
        }
        moment.commit().await?;
        Ok(groups.finish())
    }
}

/// Adds what a month has of the days that are asked for.
async fn add_month(
    tx: &Tx,
    question: &Question<'_>,
    month: i64,
    asked: impl Fn(i64) -> bool,
    groups: &mut Groups<'_>,
) -> Result<(), StoreError> {
    let columns = question.columns().len();
    let after = async |series: &str| {
        let row = tx.query_one(&question.of_month(month, series)).await?;
        row.map_or(Ok(None), |row| Lines::read(&row, columns))
    };
    let mut next = after("").await?;
    while let Some(lines) = next
        && !groups.are_too_many()
    {
        // The database gathers the next ones while these are added.
        let (found, added) =
            tokio::join!(after(&lines.series), async { groups.add_lines(&lines, month, &asked) });
        added?;
        next = found?;
    }
    Ok(())
}

/// Adds usage rows from one millisecond on and up to another.
async fn add_rows(
    tx: &Tx,
    question: &Question<'_>,
    from: i64,
    to: i64,
    groups: &mut Groups<'_>,
) -> Result<(), StoreError> {
    let count = question.columns().len();
    let mut rows = pin!(tx.stream(&question.of_rows(from, to)).await?);
    // Not held but added up as they come.
    while let Some(row) = rows.next().await
        && !groups.are_too_many()
    {
        let row = row?;
        let columns: Vec<String> =
            (0..count).map(|place| row.try_get_by_index(place)).collect::<Result<_, _>>()?;
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let sums = read_sums(&row, count + 1)?;
        groups.add(&columns, [(row.try_get_by_index(count)?, &sums)])?;
    }
    Ok(())
}

/// The scope, as one tenant's if the report is of one virtual key: a key stays with its tenant, and sums are found by
/// tenant first.
async fn tenant_of_key(tx: &Tx, scope: TenantScope, filter: &SpendFilter) -> Result<TenantScope, StoreError> {
    let Some(key) = filter.virtual_key.filter(|_| scope.tenant().is_none()) else { return Ok(scope) };
    let row = virtual_key::Entity::find_by_id(key.to_string()).one(tx).await?;
    row.map_or(Ok(scope), |row| Ok(TenantScope::only(rows::id("virtual_key", &row.tenant_id)?)))
}

/// The months of which there are sums and that have a day from one on and up to another. Asked for one after the other:
/// between one request with its clock at 1970 and all others there are hundreds that have none.
async fn months(tx: &Tx, from: Option<i64>, to: Option<i64>) -> Result<Vec<i64>, StoreError> {
    let mut found = Vec::new();
    let mut after = from.map_or(i64::MIN, |from| month_of(from).0 - 1);
    loop {
        let next = Query::select()
            .expr(Expr::cust("MIN(month)"))
            .from(Alias::new("spend_rollup"))
            .and_where(column("grain").eq(Grain::Key.as_str()))
            .and_where(column("month").gt(after))
            .take();
        let row = tx.query_one(&next).await?;
        let month = row.map(|row| row.try_get_by_index::<Option<i64>>(0)).transpose()?.flatten();
        let Some(month) = month.filter(|month| to.is_none_or(|to| *month < to)) else { return Ok(found) };
        found.push(month);
        after = month;
    }
}

/// How far usage rows were deleted, if they were.
pub(super) async fn pruned_before(tx: &Tx) -> Result<Option<Timestamp>, StoreError> {
    let row = usage_pruned::Entity::find().one(tx).await?;
    Ok(row.map(|row| Timestamp::from_millis(row.before)))
}

/// What days are called, each told once: a report has a day in many of its rows.
#[derive(Default)]
struct DayNames(HashMap<i64, Arc<str>>);

impl DayNames {
    fn of(&mut self, day: i64) -> Arc<str> {
        let name = self.0.entry(day).or_insert_with(|| {
            Timestamp::from_millis(day.saturating_mul(DAY_MILLIS)).utc().format("%Y-%m-%d").to_string().into()
        });
        Arc::clone(name)
    }
}

/// Reads the sums, which stand at `place` and after.
fn read_sums(row: &QueryResult, place: usize) -> Result<Sums, StoreError> {
    let count = |number: usize| -> Result<u64, StoreError> {
        let value: i64 = row.try_get_by_index(place + number)?;
        Ok(value.try_into().unwrap_or_default())
    };
    let usd: i64 = row.try_get_by_index(place + 3)?;
    let nano: i64 = row.try_get_by_index(place + 4)?;
    Ok(Sums {
        requests: count(0)?,
        input_tokens: count(1)?,
        output_tokens: count(2)?,
        cost_nano_usd: i128::from(usd) * i128::from(NANO_PER_USD) + i128::from(nano),
    })
}

#[cfg(test)]
mod tests;
