//! Sums over requests by group: whole UTC days from the sums that are kept by day, what a report has of the days at its
//! bounds from the usage rows. Every total in the product is a query in this file.
//!
//! Costs are summed by the database in two halves, dollars and the nano-dollars below them, and joined in 128 bits: a
//! plain sum of 64-bit amounts can overflow, which is an error on SQLite.

use std::{collections::BTreeMap, pin::pin};

use entity::usage_pruned;
use sea_orm::{
    Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryResult, StreamTrait,
    sea_query::{Alias, Expr, Query, SelectStatement},
};
use tokio_stream::StreamExt;

use super::{
    Store, StoreError, TenantScope, Tx, UsageFilter,
    rollup::{DAY_MILLIS, Grain, NANO},
    rows,
};
use crate::domain::Timestamp;

/// Most groups that one report has.
pub const MAX_GROUPS: usize = 50_000;

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

    /// Asks for sums by `keys`, and by all tags if a key is a tag.
    fn query(self, scope: TenantScope, filter: &SpendFilter, keys: &[GroupKey]) -> SelectStatement {
        let column = |name: &'static str| Expr::col(Alias::new(name));
        let by_tags = keys.iter().any(|key| matches!(key, GroupKey::Tag(_)));
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
            Self::Days(first, end) => {
                let by = |wanted: &[GroupKey]| keys.iter().any(|key| wanted.contains(key));
                let grain = Grain::coarsest(
                    filter.virtual_key.is_some() || by(&[GroupKey::Key]),
                    filter.provider.is_some()
                        || filter.model.is_some()
                        || by(&[GroupKey::Provider, GroupKey::Model]),
                    by_tags,
                );
                wanted = wanted
                    .add(column("grain").eq(grain.as_str()))
                    .add_option(first.map(|first| column("day").gte(first)))
                    .add_option(end.map(|end| column("day").lt(end)));
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
                GroupKey::Tag(_) => continue,
            };
            query.expr_as(by.clone(), Alias::new(format!("g{number}"))).add_group_by([by]);
        }
        if by_tags {
            // JSON is read differently by every database; requests with equal tags are summed there, the rest here.
            query.expr_as(column("tags"), Alias::new("tags")).add_group_by([column("tags")]);
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
        // Within the snapshot, so that it tells of every row that is missing there.
        if let Some(before) = pruned_before(&moment).await?
            && parts.iter().any(|part| part.needs_rows_before(before))
        {
            return Err(Pruned { before }.into());
        }
        let mut total = Sums::default();
        for part in &parts {
            if let Some(row) = moment.query_one(&part.query(scope, filter, &[])).await? {
                total.add(&read_sums(&row)?);
            }
        }
        let mut groups: BTreeMap<Vec<Option<String>>, Sums> = BTreeMap::new();
        if keys.is_empty() {
            // The one group is there also where there is nothing.
            groups.insert(Vec::new(), Sums::default());
        }
        'parts: for part in &parts {
            // As many rows as there are different tags, so they are not held but added up as they come; all of them: a
            // limit here would leave out parts of a group.
            let query = part.query(scope, filter, keys);
            let mut rows = pin!(moment.stream(&query).await?);
            while let Some(row) = rows.next().await {
                let (values, sums) = read_group(&row?, keys)?;
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

/// How far usage rows were deleted, if they were.
pub(super) async fn pruned_before(tx: &Tx) -> Result<Option<Timestamp>, StoreError> {
    let row = usage_pruned::Entity::find().one(tx).await?;
    Ok(row.map(|row| Timestamp::from_millis(row.before)))
}

fn read_group(row: &QueryResult, keys: &[GroupKey]) -> Result<(Vec<Option<String>>, Sums), StoreError> {
    let tags: BTreeMap<String, String> = if keys.iter().any(|key| matches!(key, GroupKey::Tag(_))) {
        rows::json("spend_rollup", "tags", &row.try_get::<String>("", "tags")?)?
    } else {
        BTreeMap::new()
    };
    let mut values = Vec::with_capacity(keys.len());
    for (number, key) in keys.iter().enumerate() {
        let name = format!("g{number}");
        values.push(match key {
            GroupKey::Tag(tag) => tags.get(tag).cloned(),
            GroupKey::Day => {
                let day: i64 = row.try_get("", &name)?;
                let start = Timestamp::from_millis(day.saturating_mul(DAY_MILLIS));
                Some(start.utc().format("%Y-%m-%d").to_string())
            }
            GroupKey::Tenant | GroupKey::Key | GroupKey::Provider | GroupKey::Model => {
                Some(row.try_get("", &name)?)
            }
        });
    }
    Ok((values, read_sums(row)?))
}

fn read_sums(row: &QueryResult) -> Result<Sums, StoreError> {
    let count = |name: &str| -> Result<u64, StoreError> {
        let value: i64 = row.try_get("", name)?;
        Ok(value.try_into().unwrap_or_default())
    };
    let usd: i64 = row.try_get("", "usd")?;
    let nano: i64 = row.try_get("", "nano")?;
    Ok(Sums {
        requests: count("requests")?,
        input_tokens: count("input_tokens")?,
        output_tokens: count("output_tokens")?,
        cost_nano_usd: i128::from(usd) * i128::from(NANO) + i128::from(nano),
    })
}

#[cfg(test)]
mod tests;
