//! Counters of spend: what is settled and what is leased of each window of each scope.
//!
//! A counter's `leased` is at every moment the sum of the leases on it, and both change in one transaction. Rows of
//! counters are locked in the order of [`Counter`], after the row of the instance that writes and after the usage rows:
//! one order for everybody, so that two who write wait for each other and do not deadlock.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};

use super::{
    Store, StoreError, Tx,
    many::{ROWS_AT_ONCE, filled, parameter, parameters, room},
    rows,
};
use crate::domain::{Counter, InstanceId, NanoUsd};

/// How long a wish that others give back holds.
const WANTED_FOR: Duration = Duration::from_secs(2);

/// One counter as it stands in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterState {
    /// Which.
    pub counter: Counter,
    /// What is spent, all instances together.
    pub settled: NanoUsd,
    /// What is leased, all instances together.
    pub leased: NanoUsd,
    /// This instance's part of what is leased.
    pub granted: NanoUsd,
    /// Whether somebody asked the others to give back within the last two seconds, by the database's clock.
    pub wanted: bool,
}

impl CounterState {
    pub(super) const fn untouched(counter: Counter) -> Self {
        let nothing = NanoUsd::ZERO;
        Self { counter, settled: nothing, leased: nothing, granted: nothing, wanted: false }
    }

    /// What neither is spent nor leased of a cap; never below zero.
    pub fn free(&self, cap: NanoUsd) -> NanoUsd {
        cap.minus(self.settled).minus(self.leased).max(NanoUsd::ZERO)
    }

    /// What the other instances have leased.
    pub fn others(&self) -> NanoUsd {
        self.leased.minus(self.granted).max(NanoUsd::ZERO)
    }
}

/// The database's own time in milliseconds since the epoch, as an expression: gateways with skewed clocks share it. On
/// Postgres not the transaction's time, which a wait for a lock leaves behind.
pub(super) fn now(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        _ => "CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER)",
    }
}

/// Milliseconds as a column or an expression holds them.
pub(super) fn millis(duration: Duration) -> i64 {
    // Half of what fits, so that the sum with a time does too.
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 2)
}

/// 1 where `table`'s wish is fresh. One from the future was made before the database's clock was put back.
fn wanted(backend: DbBackend, table: &str) -> String {
    let (now, span) = (now(backend), millis(WANTED_FOR));
    format!(r#"CASE WHEN "{table}"."wanted_at" BETWEEN {now} - {span} AND {now} + {span} THEN 1 ELSE 0 END"#)
}

/// The four columns that name a counter.
pub(super) fn key(counter: Counter) -> [Value; 4] {
    [
        counter.scope.kind().into(),
        counter.scope.to_string().into(),
        counter.window.as_str().into(),
        counter.index.0.into(),
    ]
}

/// Reads a counter from the first four columns of a row.
pub(super) fn read_key(table: &'static str, row: &QueryResult) -> Result<Counter, StoreError> {
    let text = |place| row.try_get_by_index::<String>(place);
    rows::counter(table, &text(0)?, &text(1)?, &text(2)?, row.try_get_by_index(3)?)
}

/// The states of counters, as `instance` sees them; a counter without a row is untouched. Locks nothing.
pub(super) async fn states<C: ConnectionTrait>(
    db: &C,
    instance: InstanceId,
    counters: &[Counter],
) -> Result<BTreeMap<Counter, CounterState>, StoreError> {
    let backend = db.get_database_backend();
    let mut found = BTreeMap::new();
    for chunk in counters.chunks(ROWS_AT_ONCE) {
        let room = room(backend, chunk.len());
        let sql = format!(
            r#"WITH "asked"("scope", "scope_id", "window", "window_index") AS (VALUES {asked})
            SELECT "c"."scope", "c"."scope_id", "c"."window", "c"."window_index", "c"."settled_nano_usd",
                "c"."leased_nano_usd", {wanted}, COALESCE("l"."granted_nano_usd", 0)
            FROM "asked" AS "a"
            JOIN "spend_counter" AS "c" ON "c"."scope" = "a"."scope" AND "c"."scope_id" = "a"."scope_id"
                AND "c"."window" = "a"."window" AND "c"."window_index" = "a"."window_index"
            LEFT JOIN "lease" AS "l" ON "l"."instance_id" = {instance_id} AND "l"."scope" = "a"."scope"
                AND "l"."scope_id" = "a"."scope_id" AND "l"."window" = "a"."window"
                AND "l"."window_index" = "a"."window_index""#,
            asked = parameters(backend, 0, room, 4),
            instance_id = parameter(backend, 4 * room + 1),
            wanted = wanted(backend, "c"),
        );
        let asked = filled(chunk, room, |last| *last).flat_map(key);
        let values: Vec<Value> = asked.chain([instance.to_string().into()]).collect();
        for row in db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
            let state = read_state(&row)?;
            let granted = NanoUsd::new(row.try_get_by_index(7)?);
            found.insert(state.counter, CounterState { granted, ..state });
        }
        for &counter in chunk {
            found.entry(counter).or_insert(CounterState::untouched(counter));
        }
    }
    Ok(found)
}

/// Key, settled, leased and wanted; what is granted stands elsewhere.
fn read_state(row: &QueryResult) -> Result<CounterState, StoreError> {
    Ok(CounterState {
        counter: read_key("spend_counter", row)?,
        settled: NanoUsd::new(row.try_get_by_index(4)?),
        leased: NanoUsd::new(row.try_get_by_index(5)?),
        granted: NanoUsd::ZERO,
        wanted: row.try_get_by_index::<i32>(6)? != 0,
    })
}

/// A change of one counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting {
    pub(super) counter: Counter,
    /// Is added to what is settled.
    pub(super) settled: NanoUsd,
    /// Is taken from what is leased. A counter with a lease has a row already.
    pub(super) returned: NanoUsd,
}

impl Posting {
    /// Changes nothing, but locks the counter until the transaction ends, and makes its row.
    pub(super) const fn lock(counter: Counter) -> Self {
        Self { counter, settled: NanoUsd::ZERO, returned: NanoUsd::ZERO }
    }
}

/// Posts to counters, which must come in order, and answers their states after it, without what is granted.
pub(super) async fn post(
    tx: &Tx,
    postings: &[Posting],
) -> Result<BTreeMap<Counter, CounterState>, StoreError> {
    debug_assert!(postings.is_sorted_by_key(|posting| posting.counter), "counters are locked in one order");
    let backend = tx.get_database_backend();
    let mut after = BTreeMap::new();
    for chunk in postings.chunks(ROWS_AT_ONCE) {
        let room = room(backend, chunk.len());
        // A sum stops at the largest amount: SQLite would go on in floating point, and Postgres refuse the batch for
        // ever.
        let sql = format!(
            r#"INSERT INTO "spend_counter"
                ("scope", "scope_id", "window", "window_index", "settled_nano_usd", "leased_nano_usd")
            VALUES {rows}
            ON CONFLICT ("scope", "scope_id", "window", "window_index") DO UPDATE SET
                "settled_nano_usd" = CASE
                    WHEN "spend_counter"."settled_nano_usd" > {max} - "excluded"."settled_nano_usd" THEN {max}
                    ELSE "spend_counter"."settled_nano_usd" + "excluded"."settled_nano_usd" END,
                "leased_nano_usd" = CASE
                    WHEN "spend_counter"."leased_nano_usd" < "excluded"."leased_nano_usd" THEN 0
                    ELSE "spend_counter"."leased_nano_usd" - "excluded"."leased_nano_usd" END
            RETURNING "scope", "scope_id", "window", "window_index", "settled_nano_usd", "leased_nano_usd",
                {wanted}"#,
            rows = parameters(backend, 0, room, 6),
            max = NanoUsd::MAX.nano(),
            wanted = wanted(backend, "spend_counter"),
        );
        let values = filled(chunk, room, |last| Posting::lock(last.counter)).flat_map(|posting| {
            let sums = [posting.settled.nano().into(), posting.returned.nano().into()];
            key(posting.counter).into_iter().chain(sums)
        });
        for row in tx.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
            let state = read_state(&row)?;
            after.insert(state.counter, state);
        }
    }
    Ok(after)
}

/// Leases `amount`, which is not more than `cap`, of a counter if that much is free of the cap at the moment of writing;
/// otherwise changes nothing and answers `None`. One statement: of two who race for the same money the second finds
/// what the first has left.
pub(super) async fn lease(
    tx: &Tx,
    counter: Counter,
    cap: NanoUsd,
    amount: NanoUsd,
) -> Result<Option<CounterState>, StoreError> {
    let backend = tx.get_database_backend();
    // Neither difference can leave 64 bits: what is subtracted from first is above zero.
    let sql = format!(
        r#"INSERT INTO "spend_counter"
            ("scope", "scope_id", "window", "window_index", "settled_nano_usd", "leased_nano_usd")
        VALUES ($1, $2, $3, $4, 0, $5)
        ON CONFLICT ("scope", "scope_id", "window", "window_index") DO UPDATE SET
            "leased_nano_usd" = "spend_counter"."leased_nano_usd" + "excluded"."leased_nano_usd"
        WHERE "excluded"."leased_nano_usd" <= CASE WHEN "spend_counter"."settled_nano_usd" >= $6 THEN 0
            ELSE $6 - "spend_counter"."settled_nano_usd" - "spend_counter"."leased_nano_usd" END
        RETURNING "scope", "scope_id", "window", "window_index", "settled_nano_usd", "leased_nano_usd", {wanted}"#,
        wanted = wanted(backend, "spend_counter"),
    );
    let values = key(counter).into_iter().chain([amount.nano().into(), cap.nano().into()]);
    let row = tx.query_one_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    row.as_ref().map(read_state).transpose()
}

/// Asks the other instances to give back what they do not use of a counter.
pub(super) async fn want(tx: &Tx, counter: Counter) -> Result<(), StoreError> {
    let backend = tx.get_database_backend();
    let sql = format!(
        r#"UPDATE "spend_counter" SET "wanted_at" = {now}
        WHERE "scope" = $1 AND "scope_id" = $2 AND "window" = $3 AND "window_index" = $4"#,
        now = now(backend),
    );
    tx.execute_raw(Statement::from_sql_and_values(backend, sql, key(counter))).await?;
    Ok(())
}

impl Store {
    /// Present states, in the order of `counters`, as `instance` sees them; locks nothing.
    pub async fn counters(
        &self,
        instance: InstanceId,
        counters: &[Counter],
    ) -> Result<Vec<CounterState>, StoreError> {
        let found = states(self.reader(), instance, counters).await?;
        Ok(in_order(&found, counters))
    }
}

/// The states of `counters`, in their order.
pub(super) fn in_order(states: &BTreeMap<Counter, CounterState>, counters: &[Counter]) -> Vec<CounterState> {
    let state = |counter: &Counter| states.get(counter).copied();
    counters.iter().map(|counter| state(counter).unwrap_or(CounterState::untouched(*counter))).collect()
}
