//! Usage and spend, read from one ledger: rows, how one cost came about, sums by group.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{
    Control, ControlError,
    act::{permit, scope_of},
    error::OrMissing,
    spend_report::{SpendReport, group_keys},
};
use crate::{
    domain::{Actor, AttemptRecord, CostLine, NanoUsd, Permission, RequestId, Timestamp, TokenClass},
    store::{MAX_GROUPS, Page, Paged, UsageFilter, UsageRow},
};

/// How long a report may take, its wait for others included.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

/// Which usage rows are asked for, as texts; `null` members do not filter.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// Inclusive.
    pub from: Option<String>,
    /// Exclusive.
    pub to: Option<String>,
    /// One tenant.
    pub tenant_id: Option<String>,
    /// One virtual key.
    pub virtual_key_id: Option<String>,
    /// One model, as requested or served.
    pub model: Option<String>,
    /// One provider.
    pub provider: Option<String>,
}

/// Which sums are asked for.
#[derive(Clone, Debug, Default)]
pub struct SpendQuery {
    /// Which rows are summed.
    pub rows: UsageQuery,
    /// `tenant,key,provider,model,day,tag:NAME`, any of them; one sum of everything when left out.
    pub group_by: Option<String>,
}

/// One finished request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UsageView {
    /// `req_…`.
    pub request_id: String,
    /// When it arrived.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Whose.
    pub tenant_id: String,
    /// With which virtual key.
    pub virtual_key_id: String,
    /// Provider key of the last attempt.
    pub provider_key_id: String,
    /// Provider of the last attempt.
    pub provider: String,
    /// As the client named it.
    pub requested_model: String,
    /// `provider/model` of the last attempt.
    pub served_model: String,
    /// HTTP status sent to the client.
    pub status: i32,
    /// `ok`, `upstream_error`, `client_gone`, `cut_deadline`, `cut_shutdown`, `rejected` or `recovered`.
    pub outcome: String,
    /// How many.
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
    /// Up to three decimals; `null` when no price is known.
    #[schema(value_type = Option<f64>)]
    #[serde(serialize_with = "maybe_micro")]
    pub cost_micro_usd: Option<NanoUsd>,
    /// What a clamp took away from the provider's figures.
    #[schema(value_type = f64)]
    #[serde(serialize_with = "micro")]
    pub clamped_micro_usd: NanoUsd,
    /// Price in force.
    pub price_version: Option<String>,
    /// `provider`, `estimated`, `recovered` or `none`.
    pub usage_source: String,
    /// To the end of the answer.
    pub latency_ms: i64,
    /// Streams only.
    pub time_to_first_token_ms: Option<i64>,
    /// The key's, joined by the request's.
    pub tags: BTreeMap<String, String>,
}

impl From<UsageRow> for UsageView {
    fn from(row: UsageRow) -> Self {
        Self {
            request_id: row.request_id,
            started_at: row.started_at,
            tenant_id: row.tenant_id,
            virtual_key_id: row.virtual_key_id,
            provider_key_id: row.provider_key_id,
            provider: row.provider,
            requested_model: row.requested_model,
            served_model: row.served_model,
            status: row.status,
            outcome: row.outcome,
            attempts: row.attempts,
            stream: row.stream,
            input_tokens: row.input_tokens,
            cache_read_tokens: row.cache_read_tokens,
            cache_write_tokens: row.cache_write_tokens,
            output_tokens: row.output_tokens,
            reasoning_tokens: row.reasoning_tokens,
            cost_micro_usd: row.cost,
            clamped_micro_usd: row.clamped,
            price_version: row.price_version,
            usage_source: row.usage_source,
            latency_ms: row.latency_ms,
            time_to_first_token_ms: row.time_to_first_token_ms,
            tags: row.tags,
        }
    }
}

/// How the cost of one request came about.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ExplainView {
    /// `req_…`.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// Up to three decimals; `null` when no price is known.
    #[schema(value_type = Option<f64>)]
    #[serde(serialize_with = "maybe_micro")]
    pub cost_micro_usd: Option<NanoUsd>,
    /// Price in force.
    pub price_version: Option<String>,
    /// Token classes × rates.
    pub lines: Vec<LineView>,
    /// Every try, in order.
    pub attempts: Vec<AttemptView>,
}

/// One class of tokens at its price.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LineView {
    /// Which tokens.
    #[schema(value_type = String)]
    pub class: TokenClass,
    /// How many.
    pub tokens: u64,
    /// At which price.
    pub micro_usd_per_million: i64,
    /// What they cost. Lines are rounded so that they sum to the whole.
    #[schema(value_type = f64)]
    #[serde(serialize_with = "micro")]
    pub cost_micro_usd: NanoUsd,
}

/// One try of one candidate.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AttemptView {
    /// The provider called.
    pub provider: String,
    /// The upstream's own model name.
    pub model: String,
    /// The key used.
    pub provider_key_id: String,
    /// HTTP status the provider answered with.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: &'static str,
    /// From its start to its end.
    pub latency_ms: u64,
}

impl From<AttemptRecord> for AttemptView {
    fn from(attempt: AttemptRecord) -> Self {
        Self {
            provider: attempt.provider.to_string(),
            model: attempt.model.to_string(),
            provider_key_id: attempt.provider_key_id.to_string(),
            status: attempt.status,
            outcome: attempt.outcome.as_str(),
            latency_ms: attempt.latency_ms,
        }
    }
}

impl Control {
    /// Usage rows that the actor may see, newest first.
    pub async fn usage(
        &self,
        actor: &Actor,
        query: &UsageQuery,
        page: &Page,
    ) -> Result<Paged<UsageView>, ControlError> {
        permit(actor, Permission::ReadSpend)?;
        let scope = self.scope(actor, query.tenant_id.as_deref()).await?;
        let filter = self.filter(actor, query).await?;
        let rows = report(self.store.usage_rows(scope, &filter, page)).await?;
        Ok(rows.or_bad_cursor()?.map(UsageView::from))
    }

    /// How the cost of one request came about.
    pub async fn usage_explain(&self, actor: &Actor, request: &str) -> Result<ExplainView, ControlError> {
        permit(actor, Permission::ReadSpend)?;
        let request_id: RequestId = request.parse().map_err(|_| ControlError::NotFound("request"))?;
        let cost = self.store.usage_cost(scope_of(actor), request_id).await.or_missing("request")?;
        Ok(ExplainView {
            request_id,
            cost_micro_usd: cost.cost,
            price_version: cost.price_version,
            lines: lines(cost.lines),
            attempts: cost.attempts.into_iter().map(AttemptView::from).collect(),
        })
    }

    /// Sums by group.
    pub async fn spend(&self, actor: &Actor, query: &SpendQuery) -> Result<SpendReport, ControlError> {
        permit(actor, Permission::ReadSpend)?;
        let keys = group_keys(query.group_by.as_deref())?;
        let scope = self.scope(actor, query.rows.tenant_id.as_deref()).await?;
        let filter = self.filter(actor, &query.rows).await?;
        let spend = report(self.store.spend(scope, &filter, &keys)).await??;
        if spend.groups.len() > MAX_GROUPS {
            return Err(ControlError::invalid(
                "too_many_groups",
                format!(
                    "the report has more than {MAX_GROUPS} rows; narrow `from` and `to` or group by less"
                ),
            ));
        }
        let unreconciled = self.unreconciled_of_keys(scope, filter.virtual_key).await?;
        Ok(SpendReport { keys, spend, unreconciled })
    }

    async fn filter(&self, actor: &Actor, query: &UsageQuery) -> Result<UsageFilter, ControlError> {
        let (from, to) = span(query.from.as_deref(), query.to.as_deref())?;
        let virtual_key = match &query.virtual_key_id {
            Some(text) => {
                let key = text.parse().map_err(|_| ControlError::NotFound("virtual key"))?;
                if !self.store.virtual_key_existed(scope_of(actor), key).await? {
                    return Err(ControlError::NotFound("virtual key"));
                }
                Some(key)
            }
            None => None,
        };
        Ok(UsageFilter {
            from,
            to,
            virtual_key,
            model: query.model.clone(),
            provider: query.provider.clone(),
        })
    }
}

/// Ends a report that takes too long. Whoever asked is told; what the database still does for it, it does on connections
/// that nobody else waits for.
async fn report<T>(asked: impl Future<Output = T>) -> Result<T, ControlError> {
    tokio::time::timeout(REPORT_TIMEOUT, asked).await.map_err(|_| ControlError::ReportTooLong)
}

/// Takes a page out of texts.
pub fn parse_page(limit: Option<&str>, cursor: Option<&str>) -> Result<Page, ControlError> {
    let limit = match limit {
        Some(text) => Some(text.parse::<u64>().map_err(|_| {
            ControlError::bad("`limit` must be a whole number, 1 or more; at most 500 rows are answered")
        })?),
        None => None,
    };
    Page::parse(limit, cursor)
        .ok_or_else(|| ControlError::bad("`limit` must be 1 or more, and `cursor` one that a list answered"))
}

/// Reads `from` and `to`.
pub(super) fn span(
    from: Option<&str>,
    to: Option<&str>,
) -> Result<(Option<Timestamp>, Option<Timestamp>), ControlError> {
    let (from, to) = (bound("from", from)?, bound("to", to)?);
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(ControlError::bad("`from` must not be after `to`"));
    }
    Ok((from, to))
}

fn bound(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, ControlError> {
    let parse = |text: &str| {
        Timestamp::parse(text).ok_or_else(|| {
            ControlError::bad(format!(
                "`{name}` must be RFC 3339 (2026-11-21T08:00:00Z) or a UTC date (2026-11-21)"
            ))
        })
    };
    text.map(parse).transpose()
}

/// Each line takes what its exact cost adds to the rounded sum so far: so they sum to the whole, and none is off by a
/// nano-dollar or more.
fn lines(lines: Vec<CostLine>) -> Vec<LineView> {
    let (mut exact, mut shown) = (0_u128, NanoUsd::ZERO);
    lines
        .into_iter()
        .map(|line| {
            exact = exact.saturating_add(line.micro_usd_per_million.pico_usd(line.tokens));
            let sum = NanoUsd::from_pico_rounded_up(exact);
            let cost = sum.minus(shown);
            shown = sum;
            LineView {
                class: line.class,
                tokens: line.tokens,
                micro_usd_per_million: line.micro_usd_per_million.micro_usd_per_million(),
                cost_micro_usd: cost,
            }
        })
        .collect()
}

fn micro<S: Serializer>(amount: &NanoUsd, serializer: S) -> Result<S::Ok, S::Error> {
    amount.as_micro().serialize(serializer)
}

fn maybe_micro<S: Serializer>(amount: &Option<NanoUsd>, serializer: S) -> Result<S::Ok, S::Error> {
    amount.map(NanoUsd::as_micro).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PricePerMillion;

    #[test]
    fn lines_sum_to_the_rounded_whole() {
        let line = |tokens, price| CostLine {
            class: TokenClass::Input,
            tokens,
            micro_usd_per_million: PricePerMillion::new(price).expect("not negative"),
        };
        let shown = lines(vec![line(1, 1), line(1, 1), line(1_000, 1_001)]);
        let sum: NanoUsd = shown.iter().map(|line| line.cost_micro_usd).sum();
        assert_eq!(sum, NanoUsd::from_pico_rounded_up(1_001_002));
    }
}
