//! What it costs to bring finished requests into SQLite: usage rows, counters, leases and the sums by day of a batch, in
//! one transaction, as the ledger writes them beside its requests.
//!
//!     cargo bench --bench settle
//!
//! Every key has a hard cap and holds a lease that covers what it spends, as under the load bench. Time is for one request
//! of a batch, from the call until the transaction is done. That a key's tags, scopes and caps are shared among its
//! requests is as in the gateway, too. SQLite syncs nothing but at a checkpoint, every 4,000 pages, which is in the time.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use keystile::{
    domain::{
        AttemptOutcome, AttemptRecord, CostLine, Counter, InstanceId, ModelName, ModelRef, NanoUsd, Outcome,
        PlaceId, PricePerMillion, ProviderKeyId, RequestId, Scope, SpendWindow, TenantId, Timestamp,
        TokenClass, TokenUsage, UsageRecord, UsageSource, VirtualKeyId, Windows, Zone,
    },
    store::{Charge, Claim, Holder, LeaseAsk, Run, Store, sqlite_url},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The command's own: the allocator is a good part of the time.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests of a batch, and of how many keys: the most that a busy gateway writes at once, and what a quiet one writes.
const BATCHES: [(usize, usize); 4] = [(500, 1), (500, 500), (50, 1), (1, 1)];
/// More than a run can spend.
const CAP: NanoUsd = NanoUsd::new(i64::MAX / 2);

/// A virtual key, and what its requests have alike.
struct Key {
    tenant: TenantId,
    virtual_key: VirtualKeyId,
    provider_key: ProviderKeyId,
    requested: ModelName,
    served: ModelRef,
    scopes: Arc<[Scope]>,
    hard: Arc<[(Scope, SpendWindow, NanoUsd)]>,
    tags: Arc<BTreeMap<String, String>>,
    price_version: Arc<str>,
    started_at: Timestamp,
}

impl Key {
    fn of(tenant: TenantId) -> Self {
        let virtual_key = VirtualKeyId::generate();
        let scope = Scope::from(virtual_key);
        Self {
            tenant,
            virtual_key,
            provider_key: ProviderKeyId::generate(),
            requested: ModelName::parse("mock/gpt-4o-mini").expect("a name"),
            served: ModelRef::parse("mock/gpt-4o-mini").expect("a model"),
            scopes: [scope, tenant.into()].into(),
            hard: [(scope, SpendWindow::Total, CAP)].into(),
            tags: Arc::new([("team".to_owned(), "search".to_owned())].into()),
            price_version: "catalogue:2026-10-01".into(),
            started_at: Timestamp::from_millis(1_790_000_000_000),
        }
    }

    /// The counter of its cap.
    fn counter(&self) -> Counter {
        let index = Windows::of(self.started_at, Zone::UTC).index(SpendWindow::Total);
        Counter { scope: self.scopes[0], window: SpendWindow::Total, index }
    }

    fn charge(&self) -> Charge {
        let price = PricePerMillion::new(150_000).expect("a price");
        let line = |class, tokens| CostLine { class, tokens, micro_usd_per_million: price };
        let record = UsageRecord {
            request_id: RequestId::generate(),
            started_at: self.started_at,
            windows: Windows::of(self.started_at, Zone::UTC),
            scopes: Arc::clone(&self.scopes),
            tenant_id: self.tenant,
            virtual_key_id: self.virtual_key,
            provider_key_id: self.provider_key,
            requested_model: self.requested.clone(),
            served_model: self.served.clone(),
            status: 200,
            outcome: Outcome::Ok,
            attempts: vec![AttemptRecord {
                provider: self.served.provider.clone(),
                model: self.served.model.clone(),
                provider_key_id: self.provider_key,
                status: Some(200),
                outcome: AttemptOutcome::Ok,
                latency_ms: 7,
            }],
            stream: false,
            usage: TokenUsage { input: 100, output: 50, ..TokenUsage::default() },
            cost: Some(NanoUsd::new(22_500)),
            cost_lines: vec![line(TokenClass::Input, 100), line(TokenClass::Output, 50)],
            clamped: NanoUsd::ZERO,
            price_version: Some(Arc::clone(&self.price_version)),
            usage_source: UsageSource::Provider,
            latency_ms: 8,
            time_to_first_token_ms: None,
            tags: Arc::clone(&self.tags),
        };
        Charge { record, hard: Arc::clone(&self.hard) }
    }
}

/// An empty database, and an instance that holds leases for `keys`.
struct House {
    store: Store,
    holder: Holder,
    keys: Vec<Key>,
    applied: u64,
    _dir: TempDir,
}

impl House {
    async fn open(keys: usize) -> Self {
        // Beside the repository, not in a memory file system: what is measured is a write to a real one.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let store = Store::open(&sqlite_url(&dir.path().join("keystile.db"))).await.expect("a store");
        let run = Run::at(PlaceId::generate());
        let registered = store.instance_register(InstanceId::generate(), run, Claim::Sole).await;
        let holder = registered.expect("an instance").holder;
        let tenant = TenantId::generate();
        let keys: Vec<_> = (0..keys).map(|_| Key::of(tenant)).collect();
        for key in &keys {
            let wish = |_: &_| (NanoUsd::new(1), CAP);
            let ask = LeaseAsk { counter: key.counter(), cap: CAP, wish: &wish };
            store.leases_take(holder, &[ask]).await.expect("a lease");
        }
        Self { store, holder, keys, applied: 0, _dir: dir }
    }

    /// Writes one batch; answers how long that took.
    async fn write(&mut self, requests: usize) -> Duration {
        let batch: Vec<_> = self.keys.iter().cycle().take(requests).map(Key::charge).collect();
        self.applied += requests as u64;
        let began = Instant::now();
        let states = self.store.apply(self.holder, &batch, self.applied).await.expect("written");
        let took = began.elapsed();
        let held = states.iter().find(|state| state.counter == self.keys[0].counter());
        assert!(held.is_some_and(|state| state.granted > NanoUsd::ZERO), "the lease covers it");
        took
    }
}

fn settle(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("settle");
    for (requests, keys) in BATCHES {
        let mut house = runtime.block_on(House::open(keys));
        let name = BenchmarkId::new(format!("{requests} requests"), format!("{keys} keys"));
        group.bench_function(name, |bench| {
            bench.iter_custom(|rounds| {
                // Whole batches are written; the time is for as many requests as are asked for.
                let batches = rounds.div_ceil(requests as u64);
                let mut took = Duration::ZERO;
                for _ in 0..batches {
                    took += runtime.block_on(house.write(requests));
                }
                took.mul_f64(rounds as f64 / (batches * requests as u64) as f64)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, settle);
criterion_main!(benches);
