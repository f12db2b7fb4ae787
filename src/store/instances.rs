//! Gateways that share the database: who they are, which epoch each is in, and since when each is silent.
//!
//! The row of an instance is the fence of all that it writes about money. Every such transaction begins by updating it
//! for its own epoch, which does three things: it beats the heart, it fails when the epoch is over, and it makes the
//! operations of one instance, and their end by an operator, wait for one another. So a lease is only ever changed
//! under the lock of its instance's row. All times are the database's.
//!
//! A row says which run of a gateway it is, and where that one's data directory stands. So a second process on a copy of
//! the directory is refused while the first is heard of; and whoever finds another run in its row does not take it back.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};

use super::{
    Store, StoreError, Tx,
    counters::{self, Posting, millis, now},
    leases, rows,
};
use crate::domain::{Counter, InstanceId, NanoUsd, PlaceId, RunId, Scope, Timestamp};

/// Most instances that are listed.
const MAX_LISTED: u32 = 1_000;
/// Instances without leases are listed when they were heard of in this span.
const LATELY: Duration = Duration::from_secs(7 * 86_400);

/// Who holds leases: an instance in one of its epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which gateway.
    pub instance: InstanceId,
    /// Which of its lives.
    pub epoch: i64,
}

/// A new epoch, and what earlier ones left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// To be shown with every operation.
    pub holder: Holder,
    /// Up to where this instance's journal is in the database.
    pub applied_seq: u64,
    /// The leases it still has, by counter.
    pub leases: Vec<(Counter, NanoUsd)>,
}

/// A run of a gateway, and where its data directory stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where.
    pub place: PlaceId,
    /// Which.
    pub id: RunId,
}

impl Run {
    /// A new run of what stands at `place`.
    pub fn at(place: PlaceId) -> Self {
        Self { place, id: RunId::generate() }
    }
}

/// When a run may become an instance that another run is, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Always: a lock keeps everybody else from the database.
    Sole,
    /// When the other one ran at the same place, which one process has at a time; when it has stopped; and when it was not
    /// heard of for so long.
    Silent(Duration),
    /// Never: only when this run is the instance, and an operator has ended its epoch.
    Own,
}

/// Why a run did not become an instance.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Another run is it. Nothing was written.
    #[error(
        "another process runs on a copy of this data directory and was heard of {} ms ago; give every gateway a data \
         directory of its own that begins empty, or stop the other one first",
        silent_for.as_millis()
    )]
    Taken {
        /// How long it has not been heard of.
        silent_for: Duration,
    },
    /// The database failed. Whether it was done is unknown, and it may be repeated.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an operation on leases did nothing.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The holder's epoch is over: an operator released its leases, or another process took its place. Nothing was
    /// written.
    #[error("this instance's epoch is over; another process took its place, or its leases were released")]
    Fenced,
    /// The database failed. Whether the operation was done is unknown, and it may be repeated.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One instance as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    /// Which.
    pub id: InstanceId,
    /// Its present epoch.
    pub epoch: i64,
    /// When that began.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub heartbeat_at: Timestamp,
    /// When it shut down or was ended.
    pub stopped_at: Option<Timestamp>,
    /// How long it has not been heard of.
    pub silent_for: Duration,
    /// What it has leased, all counters together.
    pub leased: NanoUsd,
    /// The ids of the master keys that it has loaded, the one that seals first; `None` until it has said so.
    pub kids: Option<Vec<String>>,
}

/// What came of an attempt to release an instance's leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The instance's epoch is over and its leases are given back.
    Done {
        /// On so many counters.
        counters: usize,
        /// The sum over them.
        nano: NanoUsd,
    },
    /// It was heard of too lately; nothing was changed.
    StillAlive {
        /// How long it has been silent.
        silent_for: Duration,
    },
    /// There is no such instance.
    Unknown,
}

/// What else is written of the instance when it shows its epoch.
pub(super) enum Mark {
    Beat,
    Applied(u64),
    Stopped,
}

/// Beats the heart of `holder` and locks its row, or fails because its epoch is over.
pub(super) async fn fence(tx: &Tx, holder: Holder, mark: Mark) -> Result<(), LeaseError> {
    let backend = tx.get_database_backend();
    let now = now(backend);
    let mut values: Vec<Value> = vec![holder.instance.to_string().into(), holder.epoch.into()];
    let also = match mark {
        Mark::Beat => String::new(),
        Mark::Stopped => format!(r#", "stopped_at" = {now}"#),
        Mark::Applied(seq) => {
            values.push(i64::try_from(seq).unwrap_or(i64::MAX).into());
            r#", "applied_seq" = CASE WHEN "applied_seq" < $3 THEN $3 ELSE "applied_seq" END"#.into()
        }
    };
    let sql = format!(
        r#"UPDATE "instance" SET "heartbeat_at" = {now}{also}
        WHERE "id" = $1 AND "epoch" = $2 AND "stopped_at" IS NULL"#
    );
    let done = tx.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await;
    match done.map_err(StoreError::from)?.rows_affected() {
        0 => Err(LeaseError::Fenced),
        _ => Ok(()),
    }
}

impl Store {
    /// Begins a new epoch of this instance, whose row is made when it is missing, and makes it `run`'s, if the `claim`
    /// allows that. Whoever still shows an earlier epoch is fenced from now on. The leases of earlier epochs stay until
    /// they are spent or given back.
    pub async fn instance_register(
        &self,
        id: InstanceId,
        run: Run,
        claim: Claim,
    ) -> Result<Registered, RegisterError> {
        self.write(async |tx: &Tx| {
            let backend = tx.get_database_backend();
            let now = now(backend);
            // One statement that looks and writes: of two that come at once the second sees the first.
            let allowed = match claim {
                Claim::Sole => "1 = 1".to_owned(),
                Claim::Silent(silent) => format!(
                    r#""instance"."place" IS NULL OR "instance"."place" = $2 OR "instance"."stopped_at" IS NOT NULL
                    OR "instance"."heartbeat_at" <= {now} - {silent}"#,
                    silent = millis(silent),
                ),
                Claim::Own => r#""instance"."run" = $3"#.to_owned(),
            };
            let sql = format!(
                r#"INSERT INTO "instance"
                    ("id", "epoch", "started_at", "heartbeat_at", "applied_seq", "place", "run")
                VALUES ($1, 1, {now}, {now}, 0, $2, $3)
                ON CONFLICT ("id") DO UPDATE SET "epoch" = "instance"."epoch" + 1,
                    "started_at" = "excluded"."started_at", "heartbeat_at" = "excluded"."heartbeat_at",
                    "stopped_at" = NULL, "place" = "excluded"."place", "run" = "excluded"."run",
                    "kids" = CASE WHEN "instance"."run" = "excluded"."run" THEN "instance"."kids" END
                WHERE {allowed}
                RETURNING "epoch", "applied_seq""#,
            );
            let values: [Value; 3] =
                [id.to_string().into(), run.place.to_string().into(), run.id.to_string().into()];
            let row = tx.query_one_raw(Statement::from_sql_and_values(backend, sql, values)).await;
            let Some(row) = row.map_err(StoreError::from)? else {
                return Err(RegisterError::Taken { silent_for: silent_for(tx, id).await? });
            };
            let read = |place| row.try_get_by_index::<i64>(place).map_err(StoreError::from);
            let applied = read(1)?;
            Ok(Registered {
                holder: Holder { instance: id, epoch: read(0)? },
                applied_seq: applied.max(0).unsigned_abs(),
                leases: leases::leases_of(tx, id).await?,
            })
        })
        .await
    }

    /// Says that `holder` lives, and answers how many instances do, it included: those that are not stopped and were
    /// heard of within `live_within`.
    pub async fn instance_beat(&self, holder: Holder, live_within: Duration) -> Result<u32, LeaseError> {
        self.write(async |tx: &Tx| {
            fence(tx, holder, Mark::Beat).await?;
            Ok(live(tx, live_within).await?)
        })
        .await
    }

    /// Notes which master keys the instance has loaded, the one that seals first. A new run of it has said nothing yet.
    pub async fn instance_kids(&self, id: InstanceId, kids: &[&str]) -> Result<(), StoreError> {
        self.write(async |tx: &Tx| {
            let sql = r#"UPDATE "instance" SET "kids" = $2 WHERE "id" = $1"#;
            let values: [Value; 2] = [id.to_string().into(), kids.join(",").into()];
            tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
            Ok(())
        })
        .await
    }

    /// Ends `holder`'s epoch in good order: all its leases are given back.
    pub async fn instance_stop(&self, holder: Holder) -> Result<(), LeaseError> {
        self.write(async |tx: &Tx| {
            fence(tx, holder, Mark::Stopped).await?;
            give_back_all(tx, holder.instance).await?;
            Ok(())
        })
        .await
    }

    /// The instances that have leases or were heard of in the last week, those heard of last first, at most 1 000.
    pub async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        let db = self.reader();
        let backend = db.get_database_backend();
        let sql = format!(
            r#"SELECT "i"."id", "i"."epoch", "i"."started_at", "i"."heartbeat_at", "i"."stopped_at",
                {now} - "i"."heartbeat_at", {sums}, "i"."kids"
            FROM "instance" AS "i" LEFT JOIN "lease" AS "l" ON "l"."instance_id" = "i"."id"
            GROUP BY "i"."id", "i"."epoch", "i"."started_at", "i"."heartbeat_at", "i"."stopped_at", "i"."kids"
            HAVING COUNT("l"."instance_id") > 0 OR "i"."heartbeat_at" > {now} - {lately}
            ORDER BY "i"."heartbeat_at" DESC, "i"."id" LIMIT {MAX_LISTED}"#,
            now = now(backend),
            sums = SUMS,
            lately = millis(LATELY),
        );
        let rows = db.query_all_raw(Statement::from_string(backend, sql)).await?;
        rows.iter().map(instance_row).collect()
    }

    /// What is leased to instances that have been silent for longer than `silent` and did not stop: it counts as spent
    /// until their journal is read or their leases are released. By counter, of one scope or of all.
    pub async fn unreconciled(
        &self,
        silent: Duration,
        scope: Option<Scope>,
    ) -> Result<Vec<(Counter, NanoUsd)>, StoreError> {
        let db = self.reader();
        let backend = db.get_database_backend();
        let (only, values) = match scope {
            Some(scope) => (
                r#"AND "l"."scope" = $1 AND "l"."scope_id" = $2"#,
                vec![Value::from(scope.kind()), scope.to_string().into()],
            ),
            None => ("", vec![]),
        };
        let sql = format!(
            r#"SELECT "l"."scope", "l"."scope_id", "l"."window", "l"."window_index", {SUMS}
            FROM "lease" AS "l" JOIN "instance" AS "i" ON "i"."id" = "l"."instance_id"
            WHERE "i"."stopped_at" IS NULL AND "i"."heartbeat_at" < {now} - {silent} {only}
            GROUP BY "l"."scope", "l"."scope_id", "l"."window", "l"."window_index""#,
            now = now(backend),
            silent = millis(silent),
        );
        let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        let mut found = rows
            .iter()
            .map(|row| Ok((counters::read_key("lease", row)?, read_sum(row, 4)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        found.sort();
        Ok(found)
    }
}

/// Inside an act: ends the epoch of an instance that has been silent for `silent`, and gives all its leases back to
/// their counters. What it spent of them and has not yet written comes late, and takes only what is free then.
pub async fn instance_release(tx: &Tx, id: InstanceId, silent: Duration) -> Result<Released, StoreError> {
    let backend = tx.get_database_backend();
    let now = now(backend);
    let sql = format!(
        r#"UPDATE "instance" SET "epoch" = "epoch" + 1, "stopped_at" = COALESCE("stopped_at", {now})
        WHERE "id" = $1 AND ("stopped_at" IS NOT NULL OR "heartbeat_at" <= {now} - {silent})"#,
        silent = millis(silent),
    );
    let ended = tx.execute_raw(Statement::from_sql_and_values(backend, sql, [id.to_string().into()])).await?;
    if ended.rows_affected() > 0 {
        let given = give_back_all(tx, id).await?;
        return Ok(Released::Done { counters: given.len(), nano: given.into_values().sum() });
    }
    Ok(match silent_for(tx, id).await {
        Ok(silent_for) => Released::StillAlive { silent_for },
        Err(StoreError::NotFound) => Released::Unknown,
        Err(error) => return Err(error),
    })
}

/// How long an instance has not been heard of.
async fn silent_for(tx: &Tx, id: InstanceId) -> Result<Duration, StoreError> {
    let backend = tx.get_database_backend();
    let sql = format!(r#"SELECT {} - "heartbeat_at" FROM "instance" WHERE "id" = $1"#, now(backend));
    let row = tx.query_one_raw(Statement::from_sql_and_values(backend, sql, [id.to_string().into()])).await?;
    silence(&row.ok_or(StoreError::NotFound)?, 0)
}

/// Gives all leases of an instance, whose row must be locked, back to their counters.
async fn give_back_all(tx: &Tx, id: InstanceId) -> Result<BTreeMap<Counter, NanoUsd>, StoreError> {
    let held: BTreeMap<_, _> = leases::leases_of(tx, id).await?.into_iter().collect();
    let returned: Vec<_> = held
        .iter()
        .map(|(&counter, &returned)| Posting { counter, settled: NanoUsd::ZERO, returned })
        .collect();
    counters::post(tx, &returned).await?;
    let sql = r#"DELETE FROM "lease" WHERE "instance_id" = $1"#;
    let values = [id.to_string().into()];
    tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    Ok(held)
}

async fn live(tx: &Tx, within: Duration) -> Result<u32, StoreError> {
    let backend = tx.get_database_backend();
    let sql = format!(
        r#"SELECT CAST(COUNT(*) AS BIGINT) FROM "instance"
        WHERE "stopped_at" IS NULL AND "heartbeat_at" >= {now} - {within}"#,
        now = now(backend),
        within = millis(within),
    );
    let row = tx.query_one_raw(Statement::from_string(backend, sql)).await?.ok_or(StoreError::NotFound)?;
    let count: i64 = row.try_get_by_index(0)?;
    // The one that asks lives, however short the span.
    Ok(u32::try_from(count).unwrap_or(u32::MAX).max(1))
}

/// The sum of leases in two halves, dollars and the nano-dollars below them, which cannot overflow.
pub(super) const SUMS: &str = r#"CAST(COALESCE(SUM("l"."granted_nano_usd" / 1000000000), 0) AS BIGINT),
    CAST(COALESCE(SUM("l"."granted_nano_usd" % 1000000000), 0) AS BIGINT)"#;

/// Reads what [`SUMS`] selects at `place`; a sum stops at the largest amount.
pub(super) fn read_sum(row: &QueryResult, place: usize) -> Result<NanoUsd, StoreError> {
    let (dollars, nano): (i64, i64) = (row.try_get_by_index(place)?, row.try_get_by_index(place + 1)?);
    let sum = i128::from(dollars) * 1_000_000_000 + i128::from(nano);
    Ok(NanoUsd::new(i64::try_from(sum).unwrap_or(i64::MAX)))
}

/// Reads a span; one that began in the future, before the database's clock was put back, is none.
fn silence(row: &QueryResult, place: usize) -> Result<Duration, StoreError> {
    let millis: i64 = row.try_get_by_index(place)?;
    Ok(Duration::from_millis(millis.max(0).unsigned_abs()))
}

fn instance_row(row: &QueryResult) -> Result<InstanceRow, StoreError> {
    let at = |place| row.try_get_by_index(place).map(Timestamp::from_millis);
    Ok(InstanceRow {
        id: rows::id("instance", &row.try_get_by_index::<String>(0)?)?,
        epoch: row.try_get_by_index(1)?,
        started_at: at(2)?,
        heartbeat_at: at(3)?,
        stopped_at: row.try_get_by_index::<Option<i64>>(4)?.map(Timestamp::from_millis),
        silent_for: silence(row, 5)?,
        leased: read_sum(row, 6)?,
        kids: row
            .try_get_by_index::<Option<String>>(8)?
            .map(|kids| kids.split(',').map(str::to_owned).collect()),
    })
}
