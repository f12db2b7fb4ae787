//! Settlement: usage rows, counters, leases and the journal's watermark in one transaction. Applying a batch again, or
//! cut differently, changes nothing.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use entity::usage_record;
use sea_orm::{ActiveModelTrait, Set};

use super::{
    Holder, LeaseError, Store, StoreError, Tx,
    counters::{self, CounterState, Posting},
    instances::{Mark, fence},
    leases, usage,
};
use crate::domain::{Counter, InstanceId, NanoUsd, Outcome, Scope, SpendWindow, Spent, UsageRecord};

/// A finished request, and what it was admitted under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What is kept of it.
    pub record: UsageRecord,
    /// The hard caps at its admission. What comes too late for its lease never takes a counter above them.
    pub hard: Arc<[(Scope, SpendWindow, NanoUsd)]>,
}

impl Charge {
    /// The counters that must not go above a cap, and the caps.
    fn capped(&self) -> impl Iterator<Item = (Counter, NanoUsd)> {
        let record = &self.record;
        self.hard.iter().filter(|(scope, ..)| record.scopes.contains(scope)).map(|&(scope, window, cap)| {
            (Counter { scope, window, index: record.windows.index(window) }, cap)
        })
    }
}

impl Store {
    /// Writes finished requests of `holder` that are not there yet, adds their cost to the counters, takes it from the
    /// holder's leases, and moves its watermark up to `applied_seq`. Answers the states of all their counters, by
    /// counter.
    ///
    /// Where a lease that was released meanwhile no longer covers a hard cap, the cost may only use what is free of the
    /// cap; the rest goes to the record's `clamped`, and its outcome becomes [`Outcome::Recovered`].
    pub async fn apply(
        &self,
        holder: Holder,
        batch: &[Charge],
        applied_seq: u64,
    ) -> Result<Vec<CounterState>, LeaseError> {
        self.write(async |tx: &Tx| {
            fence(tx, holder, Mark::Applied(applied_seq)).await?;
            Ok(settle(tx, holder.instance, batch).await?)
        })
        .await
    }
}

async fn settle(tx: &Tx, instance: InstanceId, batch: &[Charge]) -> Result<Vec<CounterState>, StoreError> {
    let spent = Spent::of(batch.iter().map(|charge| &charge.record));
    let touched: BTreeSet<_> = spent.counters().map(|(counter, _)| counter).collect();
    let touched: Vec<_> = touched.into_iter().collect();
    let inserted = usage::insert_new(tx, batch.iter().map(|charge| &charge.record)).await?;
    let mut states = counters::states(tx, instance, &touched).await?;
    let mut by_id = HashMap::new();
    for charge in batch {
        by_id.entry(charge.record.request_id).or_insert(charge);
    }
    let fresh: Vec<&Charge> =
        inserted.iter().filter_map(|record| by_id.get(&record.request_id).copied()).collect();
    let mut sums = usage::sums(inserted.iter().copied());
    let mut records: Vec<Cow<'_, UsageRecord>> = inserted.into_iter().map(Cow::Borrowed).collect();
    if !covered(&fresh, &sums, &states) {
        clamp(tx, &fresh, &mut records, &sums, &mut states).await?;
        sums = usage::sums(records.iter().map(Cow::as_ref));
    }
    let mut postings = Vec::with_capacity(sums.len());
    let mut left = BTreeMap::new();
    for (&counter, &settled) in &sums {
        let granted = states.get(&counter).map_or(NanoUsd::ZERO, |state| state.granted);
        let returned = granted.min(settled);
        if returned > NanoUsd::ZERO {
            left.insert(counter, granted.minus(returned));
        }
        postings.push(Posting { counter, settled, returned });
    }
    for (counter, state) in counters::post(tx, &postings).await? {
        let granted = left.get(&counter).copied().unwrap_or_default();
        states.insert(counter, CounterState { granted, ..state });
    }
    leases::set_leases(tx, instance, &left).await?;
    usage::add_to_days(tx, records.iter().map(Cow::as_ref)).await?;
    Ok(counters::in_order(&states, &touched))
}

/// Whether the instance's leases cover all that is new on counters with a hard cap.
fn covered(
    fresh: &[&Charge],
    sums: &BTreeMap<Counter, NanoUsd>,
    states: &BTreeMap<Counter, CounterState>,
) -> bool {
    fresh.iter().flat_map(|charge| charge.capped()).all(|(counter, _)| {
        let granted = states.get(&counter).map_or(NanoUsd::ZERO, |state| state.granted);
        sums.get(&counter).is_none_or(|sum| *sum <= granted)
    })
}

/// Goes through records that their leases may not cover, one by one, and takes off what does not fit.
async fn clamp(
    tx: &Tx,
    fresh: &[&Charge],
    records: &mut [Cow<'_, UsageRecord>],
    sums: &BTreeMap<Counter, NanoUsd>,
    states: &mut BTreeMap<Counter, CounterState>,
) -> Result<(), StoreError> {
    // What is free must stay so until it is used.
    let locks: Vec<_> = sums.keys().copied().map(Posting::lock).collect();
    for (counter, state) in counters::post(tx, &locks).await? {
        let granted = states.get(&counter).map_or(NanoUsd::ZERO, |state| state.granted);
        states.insert(counter, CounterState { granted, ..state });
    }
    let mut present = states.clone();
    for (charge, record) in fresh.iter().zip(records) {
        let Some(cost) = record.cost.filter(|cost| *cost > NanoUsd::ZERO) else { continue };
        let room = charge.capped().filter_map(|(counter, cap)| {
            let state = present.get(&counter)?;
            Some(state.granted.plus(state.free(cap)))
        });
        let fits = room.fold(cost, NanoUsd::min);
        for counter in charge.record.counters() {
            let Some(state) = present.get_mut(&counter) else { continue };
            let from_lease = state.granted.min(fits);
            state.granted = state.granted.minus(from_lease);
            state.leased = state.leased.minus(from_lease);
            state.settled = state.settled.plus(fits);
        }
        if fits < cost {
            let record = record.to_mut();
            record.cost = Some(fits);
            record.clamped = record.clamped.plus(cost.minus(fits));
            record.outcome = Outcome::Recovered;
            tracing::warn!(
                request_id = %record.request_id,
                clamped_nano_usd = cost.minus(fits).nano(),
                "ledger.late_charge_clamped"
            );
            rewrite(tx, record).await?;
        }
    }
    Ok(())
}

/// Writes into the row of this transaction what the clamp has changed.
async fn rewrite(tx: &Tx, record: &UsageRecord) -> Result<(), StoreError> {
    let row = usage_record::ActiveModel {
        request_id: Set(record.request_id.to_string()),
        cost_nano_usd: Set(record.cost.map(NanoUsd::nano)),
        clamped_nano_usd: Set(record.clamped.nano()),
        outcome: Set(record.outcome.as_str().into()),
        ..Default::default()
    };
    row.update(tx).await?;
    Ok(())
}
