//! Sums over requests by group: whole UTC days from the sums that are kept by day, whole months from those by month where
//! there are such, what a report has of the days at its bounds from the usage rows. Every total in the product is a query
//! in this file.
//!
//! Costs are summed by the database in two halves, dollars and the nano-dollars below them, and joined in 128 bits: a
//! plain sum of 64-bit amounts can overflow, which is an error on SQLite.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
};

use entity::{spend_rollup, usage_pruned, virtual_key};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, ExprTrait, Order, QueryFilter,
    QueryOrder, QueryResult, QuerySelect, StreamTrait,
    sea_query::{Alias, Expr, Query, SelectStatement},
};
use tokio_stream::StreamExt;

use super::{
    Store, StoreError, TenantScope, Tx, UsageFilter,
    rollup::{DAY_MILLIS, Grain, NANO, month_after, month_of},
    rows,
};
use crate::domain::Timestamp;

/// Most groups that one report has.
pub const MAX_GROUPS: usize = 50_000;

/// Most days that a query names one by one: ten years and more.
const DAYS_NAMED: i64 = 4_000;

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

/// Sums over requests.
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
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(other.cost_nano_usd);
    }
}

/// One group: a value for each of its keys, in their order; `None` where rows have no such tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its values.
    pub values: Vec<Option<String>>,
    /// Its sums.
    pub sums: Sums,
}

/// Sums by group, and the sum of everything, of one moment.
#[derive(Clone, Debug)]
pub struct Spend {
    /// In the order of their values; more than [`MAX_GROUPS`] of them are not all.
    pub groups: Vec<Group>,
    /// Asked for by itself, so that it is right whatever the groups are.
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

/// A part of a report that one query answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// From this UTC day on, up to that one.
    Days(Option<i64>, Option<i64>),
    /// From the month on that begins with this UTC day, up to the one that begins with that.
    Months(Option<i64>, Option<i64>),
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

    /// The parts of a span of time for a question that takes its sums by day from `grain`.
    fn for_question(parts: &[Self], grain: Grain, keys: &[GroupKey]) -> Vec<Self> {
        if grain.by_month().is_none() || keys.contains(&GroupKey::Day) {
            return parts.to_vec();
        }
        parts.iter().flat_map(|part| part.by_month()).collect()
    }

    /// The same, days that make up a month as that month.
    fn by_month(self) -> Vec<Self> {
        let Self::Days(first, end) = self else { return vec![self] };
        // The month that the day before is in has begun before the first.
        let first_month = first.map(|first| month_after(first - 1));
        let end_month = end.map(month_of);
        if let (Some(first_month), Some(end_month)) = (first_month, end_month)
            && first_month >= end_month
        {
            return vec![self];
        }
        let mut parts = vec![Self::Months(first_month, end_month)];
        if first < first_month {
            parts.push(Self::Days(first, first_month));
        }
        if end_month < end {
            parts.push(Self::Days(end_month, end));
        }
        parts
    }

    /// Whether it needs rows from before `moment`.
    fn needs_rows_before(self, moment: Timestamp) -> bool {
        matches!(self, Self::Millis(from, _) if from < moment.millis())
    }

    /// Asks for sums by `keys`.
    fn query(
        self,
        backend: DbBackend,
        scope: TenantScope,
        filter: &SpendFilter,
        keys: &[GroupKey],
        grain: Grain,
    ) -> SelectStatement {
        let column = |name: &'static str| Expr::col(Alias::new(name));
        let mut wanted = Condition::all()
            .add_option(scope.column().map(|tenant| column("tenant_id").eq(tenant)))
            .add_option(filter.virtual_key.map(|key| column("virtual_key_id").eq(key.to_string())))
            .add_option(filter.provider.as_ref().map(|provider| column("provider").eq(provider)))
            .add_option(filter.model.as_ref().map(|model| {
                Condition::any()
                    .add(column("served_model").eq(model))
                    .add(column("requested_model").eq(model))
            }));
        let mut query = Query::select();
        let (day, sums) = match self {
            Self::Days(first, end) | Self::Months(first, end) => {
                let by_month = grain.by_month().filter(|_| matches!(self, Self::Months(..)));
                let grain = by_month.unwrap_or(grain);
                wanted = wanted.add(column("grain").eq(grain.as_str())).add(days_between(first, end));
                query.from(Alias::new("spend_rollup"));
                ("day".to_owned(), ["SUM(requests)".to_owned(), sum("cost_usd"), sum("cost_nano_usd")])
            }
            Self::Millis(from, to) => {
                wanted = wanted.add(column("started_at").gte(from)).add(column("started_at").lt(to));
                query.from(Alias::new("usage_record"));
                (
                    format!("started_at / {DAY_MILLIS}"),
                    [
                        "COUNT(*)".to_owned(),
                        sum(&format!("cost_nano_usd / {NANO}")),
                        sum(&format!("cost_nano_usd % {NANO}")),
                    ],
                )
            }
        };
        query.cond_where(wanted);
        for (number, key) in keys.iter().enumerate() {
            let by = match key {
                GroupKey::Tenant => column("tenant_id"),
                GroupKey::Key => column("virtual_key_id"),
                GroupKey::Provider => column("provider"),
                GroupKey::Model => column("served_model"),
                GroupKey::Day => Expr::cust(day.clone()),
                GroupKey::Tag(name) => Expr::cust(tag_value(backend, name)),
            };
            query.expr_as(by.clone(), Alias::new(format!("g{number}"))).add_group_by([by]);
        }
        let [requests, usd, nano] = sums;
        query
            .expr_as(whole(&requests), Alias::new("requests"))
            .expr_as(whole(&sum("input_tokens")), Alias::new("input_tokens"))
            .expr_as(whole(&sum("output_tokens")), Alias::new("output_tokens"))
            .expr_as(whole(&usd), Alias::new("usd"))
            .expr_as(whole(&nano), Alias::new("nano"));
        query
    }
}

/// Days from one on and up to another. They are named one by one where that can be, so that the sums of one tenant are
/// found by the index on each of them, and not among those of all tenants.
fn days_between(first: Option<i64>, end: Option<i64>) -> Condition {
    let day = || Expr::col(Alias::new("day"));
    match (first, end) {
        (Some(first), Some(end)) if end - first <= DAYS_NAMED => {
            Condition::all().add(day().is_in(first..end))
        }
        _ => Condition::all()
            .add_option(first.map(|first| day().gte(first)))
            .add_option(end.map(|end| day().lt(end))),
    }
}

/// The coarsest sums by day that tell apart what is filtered and grouped by.
fn grain_of(filter: &SpendFilter, keys: &[GroupKey]) -> Grain {
    let by = |wanted: &[GroupKey]| keys.iter().any(|key| wanted.contains(key));
    Grain::coarsest(
        filter.virtual_key.is_some() || by(&[GroupKey::Key]),
        filter.provider.is_some() || filter.model.is_some() || by(&[GroupKey::Provider, GroupKey::Model]),
        keys.iter().any(|key| matches!(key, GroupKey::Tag(_))),
    )
}

/// The value of one tag of a row. Names of tags are plain, wherever they come in; no row has one of another name.
fn tag_value(backend: DbBackend, name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    match backend {
        _ if !name.bytes().all(plain) => "CAST(NULL AS TEXT)".to_owned(),
        DbBackend::Postgres => format!("(CAST(tags AS jsonb) ->> '{name}')"),
        _ => format!(r#"json_extract(tags, '$."{name}"')"#),
    }
}

fn sum(of: &str) -> String {
    format!("SUM({of})")
}

/// Postgres sums 64-bit numbers into decimals, and nothing is summed into null.
fn whole(sum: &str) -> Expr {
    Expr::cust(format!("CAST(COALESCE({sum}, 0) AS BIGINT)"))
}

impl Store {
    /// Sums by group, and of everything. At most [`MAX_GROUPS`] + 1 groups: one more than allowed tells that there are
    /// too many.
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
        let backend = ConnectionTrait::get_database_backend(&moment);
        // Within the snapshot, so that it tells of every row that is missing there.
        if let Some(before) = pruned_before(&moment).await?
            && parts.iter().any(|part| part.needs_rows_before(before))
        {
            return Err(Pruned { before }.into());
        }
        let scope = tenant_of_key(&moment, scope, filter).await?;
        let parts = within_kept(&moment, parts).await?;
        let mut total = Sums::default();
        let grain = grain_of(filter, &[]);
        for part in Part::for_question(&parts, grain, &[]) {
            if let Some(row) = moment.query_one(&part.query(backend, scope, filter, &[], grain)).await? {
                total.add(&read_sums(&row, 0)?);
            }
        }
        let mut groups: BTreeMap<Vec<Option<String>>, Sums> = BTreeMap::new();
        if keys.is_empty() {
            // The one group is there also where there is nothing.
            groups.insert(Vec::new(), Sums::default());
        }
        let grain = grain_of(filter, keys);
        let mut days = DayNames::default();
        'parts: for part in Part::for_question(&parts, grain, keys) {
            // Not held but added up as they come; all of them: a limit here would leave out parts of a group.
            let query = part.query(backend, scope, filter, keys, grain);
            let mut rows = pin!(moment.stream(&query).await?);
            while let Some(row) = rows.next().await {
                let (values, sums) = read_group(&row?, keys, &mut days)?;
                groups.entry(values).or_default().add(&sums);
                if groups.len() > MAX_GROUPS {
                    break 'parts;
                }
            }
        }
        moment.commit().await?;
        let groups = groups.into_iter().map(|(values, sums)| Group { values, sums }).collect();
        Ok(Spend { groups, total })
    }
}

/// The scope, as one tenant's if the report is of one virtual key: a key stays with its tenant, and sums are found by
/// tenant first.
async fn tenant_of_key(tx: &Tx, scope: TenantScope, filter: &SpendFilter) -> Result<TenantScope, StoreError> {
    let Some(key) = filter.virtual_key.filter(|_| scope.tenant().is_none()) else { return Ok(scope) };
    let row = virtual_key::Entity::find_by_id(key.to_string()).one(tx).await?;
    row.map_or(Ok(scope), |row| Ok(TenantScope::only(rows::id("virtual_key", &row.tenant_id)?)))
}

/// The same parts, with the first and last day of which there are sums in place of a bound that was left out.
async fn within_kept(tx: &Tx, mut parts: Vec<Part>) -> Result<Vec<Part>, StoreError> {
    for part in &mut parts {
        let Part::Days(first, end) = part else { continue };
        if first.is_none() {
            *first = kept_day(tx, Order::Asc).await?;
        }
        if end.is_none() {
            *end = kept_day(tx, Order::Desc).await?.map(|last| last + 1);
        }
    }
    Ok(parts)
}

/// The first or last day of which there are sums.
async fn kept_day(tx: &Tx, order: Order) -> Result<Option<i64>, StoreError> {
    use spend_rollup::{Column, Entity};
    let days = Entity::find().select_only().column(Column::Day);
    let days = days.filter(Column::Grain.eq(Grain::Key.as_str())).order_by(Column::Day, order);
    Ok(days.into_tuple().one(tx).await?)
}

/// How far usage rows were deleted, if they were.
pub(super) async fn pruned_before(tx: &Tx) -> Result<Option<Timestamp>, StoreError> {
    let row = usage_pruned::Entity::find().one(tx).await?;
    Ok(row.map(|row| Timestamp::from_millis(row.before)))
}

/// What days are called, each told once: a report has a day in many of its rows.
#[derive(Default)]
struct DayNames(HashMap<i64, String>);

impl DayNames {
    fn of(&mut self, day: i64) -> String {
        let name = self.0.entry(day).or_insert_with(|| {
            Timestamp::from_millis(day.saturating_mul(DAY_MILLIS)).utc().format("%Y-%m-%d").to_string()
        });
        name.clone()
    }
}

/// Reads a row by the places of its columns: first the keys, then the sums.
fn read_group(
    row: &QueryResult,
    keys: &[GroupKey],
    days: &mut DayNames,
) -> Result<(Vec<Option<String>>, Sums), StoreError> {
    let mut values = Vec::with_capacity(keys.len());
    for (place, key) in keys.iter().enumerate() {
        values.push(match key {
            GroupKey::Tag(_) => row.try_get_by_index(place)?,
            GroupKey::Day => Some(days.of(row.try_get_by_index(place)?)),
            GroupKey::Tenant | GroupKey::Key | GroupKey::Provider | GroupKey::Model => {
                Some(row.try_get_by_index(place)?)
            }
        });
    }
    Ok((values, read_sums(row, keys.len())?))
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
        cost_nano_usd: i128::from(usd) * i128::from(NANO) + i128::from(nano),
    })
}

#[cfg(test)]
mod tests;
