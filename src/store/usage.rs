//! Usage rows, the counters of settled spend and the sums by day, written together: a counter and a sum are at every
//! moment those of their rows.
//!
//! Writing the same record again changes nothing, whichever way records are cut into batches, so that a batch whose
//! commit was answered by an error can simply be written again.

use std::collections::{BTreeMap, HashSet};

use entity::usage_record;
use sea_orm::{
    ActiveValue::Set,
    ConnectionTrait, EntityTrait, QueryTrait,
    sea_query::{OnConflict, Query},
};

use super::{
    StoreError, Tx,
    counters::{self, Posting},
    rollup, rows,
};
use crate::domain::{Counter, NanoUsd, UsageRecord};

/// Rows in one statement: 25 columns each, far below SQLite's 32 766 and Postgres' 65 535 parameters.
const ROWS_AT_ONCE: usize = 500;

/// Writes the records that are not there yet, adds their cost to the counters and all their counts to the sums by day.
/// Records without a cost add nothing to the counters; of two with one request id the first stands.
pub async fn write_usage(tx: &Tx, records: &[UsageRecord]) -> Result<(), StoreError> {
    let inserted = insert_new(tx, records).await?;
    let postings: Vec<_> = sums(inserted.iter().copied())
        .into_iter()
        .map(|(counter, settled)| Posting { counter, settled, returned: NanoUsd::ZERO })
        .collect();
    counters::post(tx, &postings).await?;
    add_to_days(tx, inserted).await
}

/// Adds the records to the sums by day. Last of all, in every transaction: what they cost is settled then, and one order
/// for everybody keeps two who write from waiting for each other in a circle.
pub(super) async fn add_to_days<'a>(
    tx: &Tx,
    records: impl IntoIterator<Item = &'a UsageRecord>,
) -> Result<(), StoreError> {
    let mut by_day = rollup::Added::default();
    for record in records {
        by_day.count(record);
    }
    by_day.write(tx).await
}

/// What the records add to each counter. Those without a cost add nothing.
pub(super) fn sums<'a>(records: impl IntoIterator<Item = &'a UsageRecord>) -> BTreeMap<Counter, NanoUsd> {
    let mut added = BTreeMap::<Counter, NanoUsd>::new();
    for record in records {
        let cost = record.cost.unwrap_or_default().max(NanoUsd::ZERO);
        if cost == NanoUsd::ZERO {
            continue;
        }
        for counter in counters_of(record) {
            let sum = added.entry(counter).or_default();
            *sum = sum.plus(cost);
        }
    }
    added
}

/// The counters that a record counts in: every window of every scope.
pub(super) fn counters_of(record: &UsageRecord) -> impl Iterator<Item = Counter> {
    record
        .scopes
        .iter()
        .flat_map(|&scope| record.windows.iter().map(move |(window, index)| Counter { scope, window, index }))
}

/// Inserts the records that are not there yet and returns them, by request id. Of two with one request id the first
/// stands.
pub(super) async fn insert_new<'a>(
    tx: &Tx,
    records: impl IntoIterator<Item = &'a UsageRecord>,
) -> Result<Vec<&'a UsageRecord>, StoreError> {
    let mut seen = HashSet::new();
    let mut records: Vec<&UsageRecord> =
        records.into_iter().filter(|record| seen.insert(record.request_id)).collect();
    // One order for everybody, so that two instances that write the same rows wait and do not deadlock.
    records.sort_by_key(|record| record.request_id);
    let mut fresh: Vec<&UsageRecord> = Vec::with_capacity(records.len());
    for chunk in records.chunks(ROWS_AT_ONCE) {
        let mut insert = usage_record::Entity::insert_many(chunk.iter().map(|record| usage_row(record)))
            .on_conflict(OnConflict::column(usage_record::Column::RequestId).do_nothing().to_owned())
            .into_query();
        insert.returning(Query::returning().column(usage_record::Column::RequestId));
        let rows = tx.query_all(&insert).await?;
        let inserted: HashSet<String> =
            rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?;
        fresh.extend(chunk.iter().filter(|record| inserted.contains(&record.request_id.to_string())));
    }
    Ok(fresh)
}

fn usage_row(record: &UsageRecord) -> usage_record::ActiveModel {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    usage_record::ActiveModel {
        request_id: Set(record.request_id.to_string()),
        started_at: Set(record.started_at.millis()),
        tenant_id: Set(record.tenant_id.to_string()),
        virtual_key_id: Set(record.virtual_key_id.to_string()),
        provider_key_id: Set(record.provider_key_id.to_string()),
        provider: Set(record.served_model.provider.to_string()),
        requested_model: Set(record.requested_model.to_string()),
        served_model: Set(record.served_model.to_string()),
        status: Set(record.status.into()),
        outcome: Set(record.outcome.as_str().into()),
        attempts: Set(rows::json_text(&record.attempts)),
        stream: Set(record.stream),
        input_tokens: Set(count(record.usage.input_total())),
        cache_read_tokens: Set(count(record.usage.cache_read)),
        cache_write_tokens: Set(count(record.usage.cache_write_total())),
        output_tokens: Set(count(record.usage.output_total())),
        reasoning_tokens: Set(count(record.usage.reasoning)),
        cost_nano_usd: Set(record.cost.map(|cost| cost.max(NanoUsd::ZERO).nano())),
        cost_lines: Set(rows::json_text(&record.cost_lines)),
        clamped_nano_usd: Set(record.clamped.nano()),
        price_version: Set(record.price_version.clone()),
        usage_source: Set(record.usage_source.as_str().into()),
        latency_ms: Set(count(record.latency_ms)),
        time_to_first_token_ms: Set(record.time_to_first_token_ms.map(count)),
        tags: Set(rows::json_text(&record.tags)),
    }
}

#[cfg(test)]
mod tests;
