//! Reads on the usage rows: lists, one request. Sums over them are in `spend_reports`.

use std::collections::BTreeMap;

use entity::{
    spend_counter,
    usage_record::{Column, Entity, Model},
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};

use super::{Page, Paged, Store, StoreError, TenantScope, rows};
use crate::domain::{
    AttemptRecord, CostLine, NanoUsd, RequestId, Scope, SpendWindow, Timestamp, VirtualKeyId, WindowIndex,
};

const TABLE: &str = "usage_record";

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
