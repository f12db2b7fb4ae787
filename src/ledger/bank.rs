//! What the ledger asks of the database. One real body, [`Store`]; tests put one in that fails where they say.

use std::{future::Future, time::Duration};

use crate::{
    domain::{Counter, InstanceId, NanoUsd},
    store::{
        Charge, Claim, CounterState, Holder, LeaseAsk, LeaseError, RegisterError, Registered, Run, Store,
        StoreError,
    },
};

/// The durable side: counters, leases, usage rows. Each call is one transaction. When its outcome is not known (the
/// connection broke during the commit, it took too long), calling it again with the same is harmless.
pub trait Bank: Send + Sync + 'static {
    /// See [`Store::instance_register`].
    fn register(
        &self,
        id: InstanceId,
        run: Run,
        claim: Claim,
    ) -> impl Future<Output = Result<Registered, RegisterError>> + Send;
    /// See [`Store::instance_beat`].
    fn beat(
        &self,
        holder: Holder,
        live_within: Duration,
    ) -> impl Future<Output = Result<u32, LeaseError>> + Send;
    /// See [`Store::leases_take`].
    fn take(
        &self,
        holder: Holder,
        asks: &[LeaseAsk<'_>],
    ) -> impl Future<Output = Result<Vec<CounterState>, LeaseError>> + Send;
    /// See [`Store::leases_keep`].
    fn keep(
        &self,
        holder: Holder,
        keep: &[(Counter, NanoUsd)],
    ) -> impl Future<Output = Result<Vec<CounterState>, LeaseError>> + Send;
    /// See [`Store::counters`].
    fn counters(
        &self,
        id: InstanceId,
        counters: &[Counter],
    ) -> impl Future<Output = Result<Vec<CounterState>, StoreError>> + Send;
    /// See [`Store::apply`].
    fn apply(
        &self,
        holder: Holder,
        batch: &[Charge],
        applied_seq: u64,
    ) -> impl Future<Output = Result<Vec<CounterState>, LeaseError>> + Send;
    /// See [`Store::instance_stop`].
    fn stop(&self, holder: Holder) -> impl Future<Output = Result<(), LeaseError>> + Send;
}

impl Bank for Store {
    async fn register(&self, id: InstanceId, run: Run, claim: Claim) -> Result<Registered, RegisterError> {
        self.instance_register(id, run, claim).await
    }

    async fn beat(&self, holder: Holder, live_within: Duration) -> Result<u32, LeaseError> {
        self.instance_beat(holder, live_within).await
    }

    async fn take(&self, holder: Holder, asks: &[LeaseAsk<'_>]) -> Result<Vec<CounterState>, LeaseError> {
        self.leases_take(holder, asks).await
    }

    async fn keep(
        &self,
        holder: Holder,
        keep: &[(Counter, NanoUsd)],
    ) -> Result<Vec<CounterState>, LeaseError> {
        self.leases_keep(holder, keep).await
    }

    async fn counters(&self, id: InstanceId, counters: &[Counter]) -> Result<Vec<CounterState>, StoreError> {
        Store::counters(self, id, counters).await
    }

    async fn apply(
        &self,
        holder: Holder,
        batch: &[Charge],
        applied_seq: u64,
    ) -> Result<Vec<CounterState>, LeaseError> {
        Store::apply(self, holder, batch, applied_seq).await
    }

    async fn stop(&self, holder: Holder) -> Result<(), LeaseError> {
        self.instance_stop(holder).await
    }
}
