//! Reads on the usage rows: lists, one request, sums by group. Every total in the product is a query in this file.
//!
//! Sums are taken by the database in two halves, dollars and the nano-dollars below them, and joined in 128 bits: a
//! plain sum of 64-bit amounts can overflow, which is an error on SQLite.

use std::{collections::BTreeMap, pin::pin};

use entity::{
    spend_counter,
    usage_record::{Column, Entity, Model},
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect,
    QueryTrait, Select, StreamTrait, sea_query::Expr,
};
use tokio_stream::StreamExt;

use super::{Page, Paged, Store, StoreError, TenantScope, rows};
use crate::domain::{
    AttemptRecord, CostLine, NanoUsd, RequestId, Scope, SpendWindow, Timestamp, VirtualKeyId, WindowIndex,
};

const TABLE: &str = "usage_record";
/// Most groups that one report has.
pub const MAX_GROUPS: usize = 50_000;
const DAY_MILLIS: i64 = 86_400_000;

/// Which usage rows are wanted.
#[derive(Clone, Debug, Default)]
pub struct UsageFilter {
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    /// Only this key.
    pub virtual_key: Option<VirtualKeyId>,
    /// Only this model, as it was requested or as it was served.
    pub model: Option<String>,
    /// Only this provider.
    pub provider: Option<String>,
}

/// The same filter for sums.
pub type SpendFilter = UsageFilter;

/// One finished request as it is listed.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// `req_…`.
    pub request_id: String,
    /// When it arrived.
    pub started_at: Timestamp,
    /// Whose.
    pub tenant_id: String,
    /// With which key.
    pub virtual_key_id: String,
    /// Provider key of the last attempt.
    pub provider_key_id: String,
    /// Provider of the last attempt.
    pub provider: String,
    /// As the client named it.
    pub requested_model: String,
    /// `provider/model` of the last attempt.
    pub served_model: String,
    /// Sent to the client.
    pub status: i32,
    /// How it ended.
    pub outcome: String,
    /// Number of attempts.
    pub attempts: usize,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// All input.
    pub input_tokens: i64,
    /// Of the input.
    pub cache_read_tokens: i64,
    /// Of the input.
    pub cache_write_tokens: i64,
    /// All output.
    pub output_tokens: i64,
    /// Of the output.
    pub reasoning_tokens: i64,
    /// `None` when no price is known.
    pub cost: Option<NanoUsd>,
    /// What a clamp took away.
    pub clamped: NanoUsd,
    /// Price in force.
    pub price_version: Option<String>,
    /// Where the counts come from.
    pub usage_source: String,
    /// To the end of the answer.
    pub latency_ms: i64,
    /// Streams only.
    pub time_to_first_token_ms: Option<i64>,
    /// The key's and the request's.
    pub tags: BTreeMap<String, String>,
}

/// How the cost of one request came about.
#[derive(Clone, Debug)]
pub struct UsageCost {
    /// Whole cost.
    pub cost: Option<NanoUsd>,
    /// Price in force.
    pub price_version: Option<String>,
    /// Cost by class.
    pub lines: Vec<CostLine>,
    /// Every try.
    pub attempts: Vec<AttemptRecord>,
}

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

impl Store {
    /// Usage rows, newest first.
    pub async fn usage_rows(
        &self,
        scope: TenantScope,
        filter: &UsageFilter,
        page: &Page,
    ) -> Result<Paged<UsageRow>, StoreError> {
        let place = page.after().map(place_of).transpose()?;
        let rows =
            filtered(scope, filter)
                .apply_if(place, |query, (at, request)| {
                    query.filter(Condition::any().add(Column::StartedAt.lt(at)).add(
                        Condition::all().add(Column::StartedAt.eq(at)).add(Column::RequestId.lt(request)),
                    ))
                })
                .order_by_desc(Column::StartedAt)
                .order_by_desc(Column::RequestId)
                .limit(page.fetch())
                .all(self.reports())
                .await?;
        let rows = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(rows, |row: &UsageRow| format!("{}.{}", row.started_at.millis(), row.request_id)))
    }

    /// How the cost of one request came about.
    pub async fn usage_cost(&self, scope: TenantScope, request: RequestId) -> Result<UsageCost, StoreError> {
        let row = Entity::find_by_id(request.to_string())
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .one(self.reader())
            .await?
            .ok_or(StoreError::NotFound)?;
        Ok(UsageCost {
            cost: row.cost_nano_usd.map(NanoUsd::new),
            price_version: row.price_version,
            lines: rows::json(TABLE, "cost_lines", &row.cost_lines)?,
            attempts: rows::json(TABLE, "attempts", &row.attempts)?,
        })
    }

    /// Sums by group, and of everything. At most [`MAX_GROUPS`] + 1 groups: one more than allowed tells that there are
    /// too many.
    pub async fn spend(
        &self,
        scope: TenantScope,
        filter: &SpendFilter,
        keys: &[GroupKey],
    ) -> Result<Spend, StoreError> {
        let mut query = filtered(scope, filter).select_only();
        let by_tags = keys.iter().any(|key| matches!(key, GroupKey::Tag(_)));
        for (number, key) in keys.iter().enumerate() {
            let name = format!("g{number}");
            query = match key {
                GroupKey::Tenant => by(query, Column::TenantId, name),
                GroupKey::Key => by(query, Column::VirtualKeyId, name),
                GroupKey::Provider => by(query, Column::Provider, name),
                GroupKey::Model => by(query, Column::ServedModel, name),
                GroupKey::Day => {
                    let day = || Expr::cust(format!("started_at / {DAY_MILLIS}"));
                    query.expr_as(day(), name).group_by(day())
                }
                GroupKey::Tag(_) => query,
            };
        }
        if by_tags {
            // JSON is read differently by every database; requests with equal tags are summed there, the rest here.
            query = by(query, Column::Tags, "tags".to_owned());
        }
        let moment = self.snapshot().await?;
        let whole = with_sums(filtered(scope, filter).select_only()).into_query();
        let total = match moment.query_one(&whole).await? {
            Some(row) => read_sums(&row)?,
            None => Sums::default(),
        };
        let mut groups: BTreeMap<Vec<Option<String>>, Sums> = BTreeMap::new();
        {
            // As many rows as there are different tags, so they are not held but added up as they come; all of them: a
            // limit here would leave out parts of a group.
            let query = with_sums(query).into_query();
            let mut rows = pin!(moment.stream(&query).await?);
            while let Some(row) = rows.next().await {
                let (values, sums) = read_group(&row?, keys)?;
                groups.entry(values).or_default().add(&sums);
                if groups.len() > MAX_GROUPS {
                    break;
                }
            }
        }
        moment.commit().await?;
        let groups = groups.into_iter().map(|(values, sums)| Group { values, sums }).collect();
        Ok(Spend { groups, total })
    }

    /// Settled spend of one scope in one window, as the database knows it.
    pub async fn spend_settled(
        &self,
        scope: Scope,
        window: SpendWindow,
        index: WindowIndex,
    ) -> Result<NanoUsd, StoreError> {
        let (kind, of, window) = (scope.kind().to_owned(), scope.to_string(), window.as_str().to_owned());
        let row = spend_counter::Entity::find_by_id((kind, of, window, index.0)).one(self.reader()).await?;
        Ok(row.map_or(NanoUsd::ZERO, |row| NanoUsd::new(row.settled_nano_usd)))
    }
}

fn filtered(scope: TenantScope, filter: &UsageFilter) -> Select<Entity> {
    Entity::find()
        .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
        .apply_if(filter.from, |query, from| query.filter(Column::StartedAt.gte(from.millis())))
        .apply_if(filter.to, |query, to| query.filter(Column::StartedAt.lt(to.millis())))
        .apply_if(filter.virtual_key, |query, key| query.filter(Column::VirtualKeyId.eq(key.to_string())))
        .apply_if(filter.provider.as_ref(), |query, provider| query.filter(Column::Provider.eq(provider)))
        .apply_if(filter.model.as_ref(), |query, model| {
            query.filter(
                Condition::any().add(Column::ServedModel.eq(model)).add(Column::RequestedModel.eq(model)),
            )
        })
}

fn with_sums(query: Select<Entity>) -> Select<Entity> {
    let sum = |column: &str| Expr::cust(format!("CAST(COALESCE(SUM({column}), 0) AS BIGINT)"));
    query
        .expr_as(Expr::cust("COUNT(*)"), "requests")
        .expr_as(sum("input_tokens"), "input_tokens")
        .expr_as(sum("output_tokens"), "output_tokens")
        .expr_as(sum("cost_nano_usd / 1000000000"), "usd")
        .expr_as(sum("cost_nano_usd % 1000000000"), "nano")
}

fn by(query: Select<Entity>, column: Column, name: String) -> Select<Entity> {
    query.column_as(column, name).group_by(column)
}

fn read_group(row: &QueryResult, keys: &[GroupKey]) -> Result<(Vec<Option<String>>, Sums), StoreError> {
    let tags: BTreeMap<String, String> = if keys.iter().any(|key| matches!(key, GroupKey::Tag(_))) {
        rows::json(TABLE, "tags", &row.try_get::<String>("", "tags")?)?
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
        cost_nano_usd: i128::from(usd) * 1_000_000_000 + i128::from(nano),
    })
}

fn place_of(cursor: &str) -> Result<(i64, String), StoreError> {
    let (at, request) = cursor.split_once('.').ok_or(StoreError::NotFound)?;
    let _: RequestId = request.parse().map_err(|_| StoreError::NotFound)?;
    Ok((at.parse().map_err(|_| StoreError::NotFound)?, request.to_owned()))
}

fn read(row: Model) -> Result<UsageRow, StoreError> {
    let attempts: Vec<serde::de::IgnoredAny> = rows::json(TABLE, "attempts", &row.attempts)?;
    let _: RequestId = rows::id(TABLE, &row.request_id)?;
    Ok(UsageRow {
        request_id: row.request_id,
        started_at: Timestamp::from_millis(row.started_at),
        tenant_id: row.tenant_id,
        virtual_key_id: row.virtual_key_id,
        provider_key_id: row.provider_key_id,
        provider: row.provider,
        requested_model: row.requested_model,
        served_model: row.served_model,
        status: row.status,
        outcome: row.outcome,
        attempts: attempts.len(),
        stream: row.stream,
        input_tokens: row.input_tokens,
        cache_read_tokens: row.cache_read_tokens,
        cache_write_tokens: row.cache_write_tokens,
        output_tokens: row.output_tokens,
        reasoning_tokens: row.reasoning_tokens,
        cost: row.cost_nano_usd.map(NanoUsd::new),
        clamped: NanoUsd::new(row.clamped_nano_usd),
        price_version: row.price_version,
        usage_source: row.usage_source,
        latency_ms: row.latency_ms,
        time_to_first_token_ms: row.time_to_first_token_ms,
        tags: rows::json(TABLE, "tags", &row.tags)?,
    })
}
