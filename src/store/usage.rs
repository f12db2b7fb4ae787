//! Usage rows, the counters of settled spend and the sums by day, written together: a counter and a sum are at every
//! moment those of their rows.
//!
//! Writing the same record again changes nothing, whichever way records are cut into batches, so that a batch whose
//! commit was answered by an error can simply be written again.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
};

use entity::usage_record;
use sea_orm::{ConnectionTrait, DbBackend, IdenStatic, Statement, Value};

use super::{
    StoreError, Tx,
    counters::{self, Posting},
    many::{ROWS_AT_ONCE, filled, parameters},
    rollup, rows,
};
use crate::domain::{Counter, NanoUsd, Spent, UsageRecord};

/// Rows that are not worth more than one statement.
const FEW_ROWS: usize = 32;

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
    for (counter, nano) in Spent::of(records).counters().filter(|(_, nano)| *nano > 0) {
        let sum = added.entry(counter).or_default();
        *sum = sum.plus(NanoUsd::new(i64::try_from(nano).unwrap_or(i64::MAX)));
    }
    added
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
    let backend = tx.get_database_backend();
    let mut rest = &records[..];
    while !rest.is_empty() {
        let size = piece(rest.len());
        let (chunk, left) = rest.split_at(size.min(rest.len()));
        rest = left;
        // The last record again and again up to the size: it is in the way of itself.
        let values: Vec<Value> = filled(chunk, size, |last| *last).flat_map(usage_row).collect();
        let insert = Statement::from_sql_and_values(backend, insert_of(backend, size), values);
        match insert_and_tell(tx, insert, chunk.len()).await? {
            None => fresh.extend(chunk),
            Some(new) => {
                fresh.extend(chunk.iter().filter(|record| new.contains(&record.request_id.to_string())));
            }
        }
    }
    Ok(fresh)
}

/// Runs an insert of so many records. Answers the request ids of those that were not there, or `None` when that is all of
/// them, as nearly always.
async fn insert_and_tell(
    tx: &Tx,
    insert: Statement,
    records: usize,
) -> Result<Option<HashSet<String>>, StoreError> {
    let rows = if tx.get_database_backend() == DbBackend::Postgres {
        tx.query_all_raw(insert).await?
    } else {
        // Rows that are handed back one by one cost as much as inserting them.
        let done = tx.execute_raw(insert).await?;
        match done.rows_affected() {
            all if all == records as u64 => return Ok(None),
            0 => return Ok(Some(HashSet::new())),
            // New rows are numbered on from the highest number that there is, and nobody else writes meanwhile.
            some => {
                let before = [done.last_insert_id().saturating_sub(some).into()];
                let sql = "SELECT request_id FROM usage_record WHERE rowid > ?";
                let new = Statement::from_sql_and_values(DbBackend::Sqlite, sql, before);
                tx.query_all_raw(new).await?
            }
        }
    };
    let new: HashSet<String> = rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?;
    Ok((new.len() < records).then_some(new))
}

/// How many rows the next statement takes when so many are left: a power of two, as large as fits. The few rows at the end
/// go together in one that is a little too long, because a statement costs about as much as they do.
fn piece(left: usize) -> usize {
    if left <= FEW_ROWS { left.next_power_of_two() } else { 1 << left.min(ROWS_AT_ONCE).ilog2() }
}

/// The columns in the order of [`usage_row`].
const COLUMNS: [usage_record::Column; 25] = {
    use usage_record::Column as C;
    [
        C::RequestId,
        C::StartedAt,
        C::TenantId,
        C::VirtualKeyId,
        C::ProviderKeyId,
        C::Provider,
        C::RequestedModel,
        C::ServedModel,
        C::Status,
        C::Outcome,
        C::Attempts,
        C::Stream,
        C::InputTokens,
        C::CacheReadTokens,
        C::CacheWriteTokens,
        C::OutputTokens,
        C::ReasoningTokens,
        C::CostNanoUsd,
        C::CostLines,
        C::ClampedNanoUsd,
        C::PriceVersion,
        C::UsageSource,
        C::LatencyMs,
        C::TimeToFirstTokenMs,
        C::Tags,
    ]
};

/// The statement that inserts so many rows where they are not there yet; on Postgres it returns which those were. Only one
/// for each power of two, so that it is written and prepared once and used again: that is most of what an insert costs.
fn insert_of(backend: DbBackend, rows: usize) -> &'static str {
    const SIZES: usize = ROWS_AT_ONCE.ilog2() as usize + 1;
    type Inserts = LazyLock<[String; SIZES]>;
    static POSTGRES: Inserts = LazyLock::new(|| inserts(DbBackend::Postgres, r#" RETURNING "request_id""#));
    static SQLITE: Inserts = LazyLock::new(|| inserts(DbBackend::Sqlite, ""));
    fn inserts(backend: DbBackend, returning: &str) -> [String; SIZES] {
        let columns = COLUMNS.map(|column| format!(r#""{}""#, column.as_str())).join(",");
        std::array::from_fn(|power| {
            format!(
                r#"INSERT INTO "usage_record" ({columns}) VALUES {}
                ON CONFLICT ("request_id") DO NOTHING{returning}"#,
                parameters(backend, 0, 1 << power, COLUMNS.len())
            )
        })
    }
    let inserts = if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE };
    &inserts[rows.ilog2() as usize]
}

fn usage_row(record: &UsageRecord) -> [Value; COLUMNS.len()] {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    [
        record.request_id.to_string().into(),
        record.started_at.millis().into(),
        record.tenant_id.to_string().into(),
        record.virtual_key_id.to_string().into(),
        record.provider_key_id.to_string().into(),
        record.served_model.provider.to_string().into(),
        record.requested_model.to_string().into(),
        record.served_model.to_string().into(),
        i32::from(record.status).into(),
        record.outcome.as_str().into(),
        rows::json_text(&record.attempts).into(),
        record.stream.into(),
        count(record.usage.input_total()).into(),
        count(record.usage.cache_read).into(),
        count(record.usage.cache_write_total()).into(),
        count(record.usage.output_total()).into(),
        count(record.usage.reasoning).into(),
        record.cost.map(|cost| cost.max(NanoUsd::ZERO).nano()).into(),
        rows::json_text(&record.cost_lines).into(),
        record.clamped.nano().into(),
        record.price_version.as_deref().map(str::to_owned).into(),
        record.usage_source.as_str().into(),
        count(record.latency_ms).into(),
        record.time_to_first_token_ms.map(count).into(),
        rows::json_text(&record.tags).into(),
    ]
}

#[cfg(test)]
mod tests;
