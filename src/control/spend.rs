//! Usage and spend, read from one ledger: rows, how one cost came about, sums by group.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Control, ControlError,
    act::{permit, scope_of},
    checks, csv,
    error::OrMissing,
};
use crate::{
    domain::{Actor, AttemptRecord, CostLine, NanoUsd, Permission, RequestId, Timestamp, TokenClass},
    store::{Group, GroupKey, MAX_GROUPS, Page, Paged, Sums, UsageFilter, UsageRow},
};

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
            provider: attempt.provider,
            model: attempt.model,
            provider_key_id: attempt.provider_key_id.to_string(),
            status: attempt.status,
            outcome: attempt.outcome.as_str(),
            latency_ms: attempt.latency_ms,
        }
    }
}

/// Sums by group, and the sum of everything.
#[derive(Clone, Debug)]
pub struct SpendReport {
    keys: Vec<GroupKey>,
    groups: Vec<Group>,
    total: Sums,
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
        Ok(self.store.usage_rows(scope, &filter, page).await.or_bad_cursor()?.map(UsageView::from))
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
        let groups = self.store.spend(scope, &filter, &keys).await?;
        if groups.len() > MAX_GROUPS {
            return Err(ControlError::invalid(
                "too_many_groups",
                format!(
                    "the report has more than {MAX_GROUPS} rows; narrow `from` and `to` or group by less"
                ),
            ));
        }
        let mut total = Sums::default();
        for group in &groups {
            total.add(&group.sums);
        }
        Ok(SpendReport { keys, groups, total })
    }

    async fn filter(&self, actor: &Actor, query: &UsageQuery) -> Result<UsageFilter, ControlError> {
        let (from, to) = (bound("from", query.from.as_deref())?, bound("to", query.to.as_deref())?);
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            return Err(ControlError::bad("`from` must not be after `to`"));
        }
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

fn group_keys(text: Option<&str>) -> Result<Vec<GroupKey>, ControlError> {
    let mut keys = Vec::new();
    for part in text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let key = match part {
            "tenant" => GroupKey::Tenant,
            "key" => GroupKey::Key,
            "provider" => GroupKey::Provider,
            "model" => GroupKey::Model,
            "day" => GroupKey::Day,
            _ => {
                let name = part.strip_prefix("tag:").ok_or_else(|| {
                    ControlError::bad(
                        "`group_by` takes `tenant`, `key`, `provider`, `model`, `day` and `tag:NAME`, separated by commas",
                    )
                })?;
                checks::tag_name(name)?;
                GroupKey::Tag(name.to_owned())
            }
        };
        if keys.contains(&key) {
            return Err(ControlError::bad("`group_by` names something twice; remove one"));
        }
        keys.push(key);
    }
    if keys.len() > 8 {
        return Err(ControlError::bad("`group_by` takes at most 8 names"));
    }
    Ok(keys)
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

impl SpendReport {
    /// The sum of everything.
    pub fn total(&self) -> &Sums {
        &self.total
    }

    /// The names of the grouping's columns.
    pub fn columns(&self) -> Vec<String> {
        self.keys
            .iter()
            .map(|key| match key {
                GroupKey::Tenant => "tenant_id".to_owned(),
                GroupKey::Key => "virtual_key_id".to_owned(),
                GroupKey::Provider => "provider".to_owned(),
                GroupKey::Model => "model".to_owned(),
                GroupKey::Day => "day".to_owned(),
                GroupKey::Tag(name) => format!("tag:{name}"),
            })
            .collect()
    }

    /// The names of all columns: the grouping's, then the sums'.
    pub fn heading(&self) -> Vec<String> {
        let sums = ["requests", "input_tokens", "output_tokens", "cost_micro_usd"];
        self.columns().into_iter().chain(sums.map(str::to_owned)).collect()
    }

    /// The groups as text, in the heading's columns.
    pub fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.groups.iter().map(|group| {
            let values = group.values.iter().map(|value| value.clone().unwrap_or_default());
            values.chain(group.sums.texts()).collect()
        })
    }

    /// The groups, one line each, under a line of names. Without a total: a column is to be summed.
    pub fn to_csv(&self) -> String {
        let mut out = String::new();
        csv::line(&mut out, self.heading().iter().map(String::as_str));
        for row in self.rows() {
            csv::line(&mut out, row.iter().map(String::as_str));
        }
        out
    }
}

impl Sums {
    /// The four sums as text.
    pub fn texts(&self) -> [String; 4] {
        [
            self.requests.to_string(),
            self.input_tokens.to_string(),
            self.output_tokens.to_string(),
            micro_text(self.cost_nano_usd),
        ]
    }
}

impl Serialize for SpendReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let columns = self.columns();
        let rows: Vec<_> = self
            .groups
            .iter()
            .map(|group| SpendRow { columns: &columns, values: &group.values, sums: &group.sums })
            .collect();
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("data", &rows)?;
        map.serialize_entry("next_cursor", &None::<&str>)?;
        map.serialize_entry("total", &SpendRow { columns: &[], values: &[], sums: &self.total })?;
        map.end()
    }
}

struct SpendRow<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
    sums: &'a Sums,
}

impl Serialize for SpendRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (column, value) in self.columns.iter().zip(self.values) {
            map.serialize_entry(column, value)?;
        }
        map.serialize_entry("requests", &self.sums.requests)?;
        map.serialize_entry("input_tokens", &self.sums.input_tokens)?;
        map.serialize_entry("output_tokens", &self.sums.output_tokens)?;
        let cost =
            RawValue::from_string(micro_text(self.sums.cost_nano_usd)).map_err(serde::ser::Error::custom)?;
        map.serialize_entry("cost_micro_usd", &cost)?;
        map.end()
    }
}

/// Micro-USD with up to three decimals, of a sum that may be larger than one amount can be.
fn micro_text(nano: i128) -> String {
    let mut text = String::new();
    let (whole, rest) = (nano.unsigned_abs() / 1_000, nano.unsigned_abs() % 1_000);
    let sign = if nano < 0 { "-" } else { "" };
    write!(text, "{sign}{whole}").expect("writing to a string cannot fail");
    if rest > 0 {
        write!(text, ".{rest:03}").expect("writing to a string cannot fail");
        text.truncate(text.trim_end_matches('0').len());
    }
    text
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
    fn large_sums_keep_their_digits() {
        assert_eq!(micro_text(i128::from(i64::MAX) * 10 + 5), "92233720368547758.075");
        assert_eq!(micro_text(0), "0");
        assert_eq!(micro_text(1_500), "1.5");
        assert_eq!(micro_text(-1), "-0.001");
    }

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

    #[test]
    fn groupings_are_read_and_others_refused() {
        assert_eq!(group_keys(None).expect("none"), []);
        assert_eq!(
            group_keys(Some("tenant,tag:team")).expect("two"),
            [GroupKey::Tenant, GroupKey::Tag("team".into())]
        );
        for bad in ["team", "tag:", "tag:a b", "day,day", "tenant;drop", "tag:a\nb"] {
            assert!(group_keys(Some(bad)).is_err(), "{bad}");
        }
    }
}
