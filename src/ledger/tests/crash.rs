//! Killed at every effect, then started again, and killed while it recovers: what is true of the books afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    domain::InstanceId,
    store::{Claim, CounterState, LeaseAsk, RegisterError, Registered, Run, Store, StoreError},
};

/// A process that dies before its `dies_at`th effect: each write, sync and file operation of the journal, and each
/// transaction twice, before it begins and after its commit, when nobody has heard of it yet.
struct Life {
    effects: AtomicU32,
    dies_at: u32,
}

impl Life {
    fn new(dies_at: u32) -> Arc<Self> {
        Arc::new(Self { effects: AtomicU32::new(0), dies_at })
    }

    fn effect(&self) -> Result<(), StoreError> {
        match self.effects.fetch_add(1, Ordering::SeqCst) < self.dies_at {
            true => Ok(()),
            false => Err(StoreError::Unavailable),
        }
    }

    fn is_over(&self) -> bool {
        self.effects.load(Ordering::SeqCst) > self.dies_at
    }

    fn faults(self: &Arc<Self>) -> journal::Faults {
        let life = Arc::clone(self);
        journal::Faults::fated(Arc::new(move |_| match life.effect() {
            Ok(()) => journal::Fate::Happens,
            Err(_) => journal::Fate::Kills,
        }))
    }
}

/// The database as a mortal process sees it.
struct Mortal {
    store: Store,
    life: Arc<Life>,
}

impl Mortal {
    async fn call<T, E: From<StoreError>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.life.effect()?;
        let answer = call.await?;
        self.life.effect()?;
        Ok(answer)
    }
}

impl Bank for Mortal {
    async fn register(&self, id: InstanceId, run: Run, claim: Claim) -> Result<Registered, RegisterError> {
        self.call(self.store.instance_register(id, run, claim)).await
    }

    async fn beat(&self, holder: Holder, live_within: Duration) -> Result<u32, LeaseError> {
        self.call(self.store.instance_beat(holder, live_within)).await
    }

    async fn take(&self, holder: Holder, asks: &[LeaseAsk<'_>]) -> Result<Vec<CounterState>, LeaseError> {
        self.call(self.store.leases_take(holder, asks)).await
    }

    async fn keep(
        &self,
        holder: Holder,
        keep: &[(Counter, NanoUsd)],
    ) -> Result<Vec<CounterState>, LeaseError> {
        self.call(self.store.leases_keep(holder, keep)).await
    }

    async fn counters(&self, id: InstanceId, counters: &[Counter]) -> Result<Vec<CounterState>, StoreError> {
        self.call(self.store.counters(id, counters)).await
    }

    async fn apply(
        &self,
        holder: Holder,
        batch: &[Charge],
        applied_seq: u64,
    ) -> Result<Vec<CounterState>, LeaseError> {
        self.call(self.store.apply(holder, batch, applied_seq)).await
    }

    async fn stop(&self, holder: Holder) -> Result<(), LeaseError> {
        self.call(self.store.instance_stop(holder)).await
    }
}

/// What the world outside saw.
#[derive(Default)]
struct World {
    /// Requests of which a byte may have reached a provider.
    sent: BTreeSet<String>,
    /// Requests whose client saw the end, and what they cost.
    ended: BTreeMap<String, i64>,
    /// Requests that were begun.
    begun: BTreeSet<String>,
}

const NEED: i64 = 40;
/// More than a whole life has: the last ones die of nothing.
const EFFECTS: u32 = 48;

/// One life: some requests, some of which end, and a moment for the banker. Dropping the runtime ends everything.
fn live(dir: &Path, store: &Store, life: &Arc<Life>, client: &Client, world: &mut World) {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let bank = Mortal { store: store.clone(), life: Arc::clone(life) };
        let settings =
            LedgerSettings { segment_bytes: 1 << 20, faults: life.faults(), ..LedgerSettings::new(dir) };
        let Ok((ledger, _)) = Ledger::start(bank, settings, &TaskTracker::new(), |_| {}).await else {
            return;
        };
        let mut open = Vec::new();
        for number in 0..4 {
            let Ok(held) = client.reserve(&ledger, NEED).await else { break };
            let id = RequestId::generate();
            let mut place = ledger.try_place().expect("a place");
            let recovered = client.charge(id, 0, Outcome::Recovered);
            let Ok(note) = place.open(&recovered, &stake(NEED / 2)) else { break };
            world.begun.insert(id.to_string());
            if !note.sent() {
                break;
            }
            world.sent.insert(id.to_string());
            if number == 3 {
                place.progress(&stake(NEED - 3));
            }
            open.push((id, held, place));
            if number != 1 {
                continue;
            }
            let (id, held, place) = open.remove(0);
            end(client, life, world, id, held, place);
        }
        ledger.flushed_or(life).await;
        if let Some((id, held, place)) = open.pop() {
            end(client, life, world, id, held, place);
        }
        ledger.flushed_or(life).await;
        // The rest is under way when it dies.
        life.effects.store(u32::MAX / 2, Ordering::SeqCst);
        drop(open);
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
}

fn end(client: &Client, life: &Life, world: &mut World, id: RequestId, held: Reservation, place: Place) {
    held.settle(NanoUsd::new(NEED - 1));
    let closed = place.record(client.charge(id, NEED - 1, Outcome::Ok));
    assert!(closed.is_safe());
    if !life.is_over() {
        world.ended.insert(id.to_string(), NEED - 1);
    }
}

impl Ledger {
    /// Waits until everything is applied, or the process is dead.
    async fn flushed_or(&self, life: &Life) {
        while self.pending() > 0 && !life.is_over() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// P-01 conservation, P-03 the cap, P-05 once, P-06 nothing held at rest, P-07 nothing lost, P-08 no phantom, P-17 the
/// bounds of what is recovered.
async fn check(store: &Store, client: &Client, world: &World, told: &str) {
    let rows = rows(store).await;
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.request_id.as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "{told}: a record is there twice");
    let mut sum = 0;
    for row in &rows {
        let cost = row.cost.expect("priced").nano();
        sum += cost;
        assert!(world.begun.contains(&row.request_id), "{told}: a record of nothing");
        match world.ended.get(&row.request_id) {
            Some(ended) => assert_eq!((cost, row.outcome.as_str()), (*ended, "ok"), "{told}"),
            None if world.sent.contains(&row.request_id) => {
                assert!((NEED / 2..=NEED).contains(&cost), "{told}: {cost} of {NEED}");
            }
            // It died before anybody could know whether the note was written: charged at most its stake.
            None => assert!(cost <= NEED, "{told}: {cost}"),
        }
    }
    for id in &world.sent {
        assert!(ids.contains(id.as_str()), "{told}: {id} was sent and is not recorded");
    }
    let counter = client.counter();
    let settled =
        store.spend_settled(counter.scope, counter.window, counter.index).await.expect("settled").nano();
    assert_eq!(settled, sum, "{told}: the counter is the sum of its rows");
    assert!(settled <= client.cap.nano(), "{told}: {settled} of {}", client.cap.nano());
    let leased: i64 = store.instances().await.expect("instances").iter().map(|each| each.leased.nano()).sum();
    assert_eq!(leased, 0, "{told}: nothing is held at rest");
}

fn last_life(dir: &Path, store: &Store, told: &str) {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let settings = LedgerSettings { segment_bytes: 1 << 20, ..LedgerSettings::new(dir) };
        let (ledger, _) = Ledger::start(store.clone(), settings, &TaskTracker::new(), |_| {})
            .await
            .unwrap_or_else(|error| panic!("{told}: {error}"));
        assert_eq!(ledger.close(Instant::now() + Duration::from_secs(10)).await, 0, "{told}");
    });
}

/// Every effect of a life, and for each every effect of the recovery after it.
#[test]
fn p01_p03_p05_p06_p07_p08_p09_p17_a_kill_at_any_effect_and_again_in_recovery_loses_nothing_and_counts_nothing_twice()
 {
    let runtime = Runtime::new().expect("a runtime");
    for dies_at in 0..EFFECTS {
        let store = runtime.block_on(crate::store::testing::sqlite());
        let dir = tempfile::tempdir().expect("a directory");
        let (client, mut world) = (Client::new(1_000), World::default());
        let first = Life::new(dies_at);
        live(dir.path(), &store, &first, &client, &mut world);
        // Later lives die a little later each, so that every point of the recovery has its turn.
        for again in 0..3 {
            let life = Life::new((dies_at * 3 + again * 2) % 17);
            live(dir.path(), &store, &life, &client, &mut world);
        }
        let told = format!("killed at effect {dies_at}");
        last_life(dir.path(), &store, &told);
        runtime.block_on(check(&store, &client, &world, &told));
    }
}
