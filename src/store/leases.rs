//! Leases: what one instance may spend of a cap without asking again. Taken by one conditional statement, given back by
//! naming what is kept; both answer the counters as they stand then.
//!
//! Safe with any number of instances: what is leased and what is settled never exceed the cap they were taken under,
//! because the statement that leases looks again at the moment it writes. When the database is down nothing is taken,
//! and what is held goes on.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, Statement, Value};

use super::{
    Holder, LeaseError, Store, StoreError, Tx,
    counters::{self, CounterState, Posting, in_order, key, read_key},
    instances::{Mark, fence},
    many::{ROWS_AT_ONCE, filled, parameter, parameters, room},
};
use crate::domain::{Counter, InstanceId, NanoUsd};

/// What somebody would like to lease of one counter.
#[derive(Clone, Copy)]
pub struct LeaseAsk<'a> {
    /// Of which counter.
    pub counter: Counter,
    /// The cap, of which what is settled and leased leaves something or not.
    pub cap: NanoUsd,
    /// From the present state: the least that is of use, and what is wished, both in addition to what is granted
    /// already. With a least of 0 the counter is only read. Is asked again when the numbers have changed.
    pub wish: &'a (dyn Fn(&CounterState) -> (NanoUsd, NanoUsd) + Send + Sync),
}

impl LeaseAsk<'_> {
    /// What can be leased: the wish, or what is left if that is still of use.
    fn amount(&self, state: &CounterState) -> Option<NanoUsd> {
        let (least, wish) = (self.wish)(state);
        let left = state.free(self.cap);
        (least > NanoUsd::ZERO && least <= left).then(|| wish.max(least).min(left))
    }

    /// Whether it would fit if the other instances gave everything back.
    fn others_are_in_the_way(&self, state: &CounterState) -> bool {
        let (least, _) = (self.wish)(state);
        let without = CounterState { leased: state.granted, ..*state };
        least > NanoUsd::ZERO && state.others() > NanoUsd::ZERO && least <= without.free(self.cap)
    }
}

impl Store {
    /// Takes leases for `holder`: for each ask what is wished if that is free of the cap, else what is left if it is at
    /// least what is of use, else nothing; in the last case, if leases of others stand in the way, they are asked to
    /// give back. Answers every counter's state after it, in the order of the asks. All asks are one transaction, but
    /// each is granted or not by itself.
    pub async fn leases_take(
        &self,
        holder: Holder,
        asks: &[LeaseAsk<'_>],
    ) -> Result<Vec<CounterState>, LeaseError> {
        let asked: Vec<_> = asks.iter().map(|ask| ask.counter).collect();
        let mut sorted: Vec<_> = asks.iter().collect();
        sorted.sort_by_key(|ask| ask.counter);
        self.write(async |tx: &Tx| {
            fence(tx, holder, Mark::Beat).await?;
            let mut states = counters::states(tx, holder.instance, &asked).await?;
            let mut granted = BTreeMap::new();
            for ask in &sorted {
                let present = states.get(&ask.counter).copied();
                let present = present.unwrap_or(CounterState::untouched(ask.counter));
                let after = take(tx, holder.instance, ask, present).await?;
                if after.granted > present.granted {
                    granted.insert(ask.counter, after.granted);
                }
                states.insert(ask.counter, after);
            }
            set_leases(tx, holder.instance, &granted).await?;
            Ok(in_order(&states, &asked))
        })
        .await
    }

    /// Sets `holder`'s leases on these counters to exactly what is to be kept and gives the rest back. To keep more than
    /// it has changes nothing. Answers the states after it, in the order of `keep`. May be repeated.
    pub async fn leases_keep(
        &self,
        holder: Holder,
        keep: &[(Counter, NanoUsd)],
    ) -> Result<Vec<CounterState>, LeaseError> {
        let named: Vec<_> = keep.iter().map(|(counter, _)| *counter).collect();
        self.write(async |tx: &Tx| {
            fence(tx, holder, Mark::Beat).await?;
            let mut states = counters::states(tx, holder.instance, &named).await?;
            let wanted: BTreeMap<_, _> = keep.iter().copied().collect();
            let mut kept = BTreeMap::new();
            let mut postings = Vec::new();
            for (&counter, &amount) in &wanted {
                let granted = states.get(&counter).map_or(NanoUsd::ZERO, |state| state.granted);
                let amount = amount.max(NanoUsd::ZERO);
                if amount < granted {
                    let returned = granted.minus(amount);
                    postings.push(Posting { counter, settled: NanoUsd::ZERO, returned });
                    kept.insert(counter, amount);
                }
            }
            for (counter, state) in counters::post(tx, &postings).await? {
                let granted = kept.get(&counter).copied().unwrap_or_default();
                states.insert(counter, CounterState { granted, ..state });
            }
            set_leases(tx, holder.instance, &kept).await?;
            Ok(in_order(&states, &named))
        })
        .await
    }
}

/// Takes one lease from its counter, and answers the counter after it; the row of the lease is not yet written.
async fn take(
    tx: &Tx,
    instance: InstanceId,
    ask: &LeaseAsk<'_>,
    mut present: CounterState,
) -> Result<CounterState, StoreError> {
    // The first loss leaves the counter's row locked on Postgres, and SQLite has one writer: the second try sees numbers
    // that stand still.
    for _ in 0..2 {
        let Some(amount) = ask.amount(&present) else { break };
        if let Some(after) = counters::lease(tx, ask.counter, ask.cap, amount).await? {
            return Ok(CounterState { granted: present.granted.plus(amount), ..after });
        }
        // An earlier ask of this batch may have raised what is granted, which its row does not say yet.
        let granted = present.granted;
        let fresh = counters::states(tx, instance, &[ask.counter]).await?;
        present = fresh.into_values().next().unwrap_or(CounterState::untouched(ask.counter));
        present.granted = granted;
    }
    if ask.others_are_in_the_way(&present) {
        counters::want(tx, ask.counter).await?;
        present.wanted = true;
    }
    Ok(present)
}

/// The leases of an instance, by counter.
pub(super) async fn leases_of(tx: &Tx, instance: InstanceId) -> Result<Vec<(Counter, NanoUsd)>, StoreError> {
    let sql = r#"SELECT "scope", "scope_id", "window", "window_index", "granted_nano_usd" FROM "lease"
        WHERE "instance_id" = $1"#;
    let values = [instance.to_string().into()];
    let rows =
        tx.query_all_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    let mut leases = rows
        .iter()
        .map(|row| Ok((read_key("lease", row)?, NanoUsd::new(row.try_get_by_index(4)?))))
        .collect::<Result<Vec<_>, StoreError>>()?;
    leases.sort();
    Ok(leases)
}

/// Sets the leases of an instance, whose row must be locked, to these amounts; those of nothing are deleted.
pub(super) async fn set_leases(
    tx: &Tx,
    instance: InstanceId,
    leases: &BTreeMap<Counter, NanoUsd>,
) -> Result<(), StoreError> {
    let backend = tx.get_database_backend();
    let (some, none): (Vec<_>, Vec<_>) = leases.iter().partition(|(_, amount)| **amount > NanoUsd::ZERO);
    for chunk in some.chunks(ROWS_AT_ONCE) {
        let room = room(backend, chunk.len());
        let sql = format!(
            r#"INSERT INTO "lease"
                ("instance_id", "scope", "scope_id", "window", "window_index", "granted_nano_usd")
            VALUES {rows}
            ON CONFLICT ("instance_id", "scope", "scope_id", "window", "window_index")
            DO UPDATE SET "granted_nano_usd" = "excluded"."granted_nano_usd""#,
            rows = parameters(backend, 0, room, 6),
        );
        let values = filled(chunk, room, |last| *last).flat_map(|(counter, amount)| {
            let head = [Value::from(instance.to_string())];
            head.into_iter().chain(key(*counter)).chain([amount.nano().into()])
        });
        tx.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    for chunk in none.chunks(ROWS_AT_ONCE) {
        let room = room(backend, chunk.len());
        let sql = format!(
            r#"DELETE FROM "lease" WHERE "instance_id" = {instance_id}
            AND ("scope", "scope_id", "window", "window_index") IN (VALUES {rows})"#,
            instance_id = parameter(backend, 1),
            rows = parameters(backend, 1, room, 4),
        );
        let mut values = vec![Value::from(instance.to_string())];
        values.extend(filled(chunk, room, |last| *last).flat_map(|(counter, _)| key(*counter)));
        tx.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
