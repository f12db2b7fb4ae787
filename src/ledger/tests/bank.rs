//! The banker before a database that fails: nothing is lost, nothing is counted twice, and it recovers by itself.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::{
    domain::InstanceId,
    store::{
        Claim, CounterState, LeaseAsk, RegisterError, Registered, Run, Store, StoreError,
        testing::{TestStore, a_run},
    },
};

/// A database that answers badly where it is told to.
pub(super) struct Flaky {
    store: Store,
    faults: Arc<Trouble>,
}

/// What goes wrong.
#[derive(Default)]
pub(super) struct Trouble {
    /// The database does not answer.
    down: AtomicBool,
    /// So many commits happen and are answered by an error.
    ambiguous: AtomicU32,
    /// A record with this cost is refused for good.
    refused: Mutex<Option<i64>>,
    /// Sizes of the batches that were written.
    batches: Mutex<Vec<usize>>,
}

impl Trouble {
    fn check(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) { Err(StoreError::Unavailable) } else { Ok(()) }
    }
}

impl Bank for Flaky {
    async fn register(&self, id: InstanceId, run: Run, claim: Claim) -> Result<Registered, RegisterError> {
        self.faults.check()?;
        self.store.instance_register(id, run, claim).await
    }

    async fn beat(&self, holder: Holder, live_within: Duration) -> Result<u32, LeaseError> {
        self.faults.check()?;
        self.store.instance_beat(holder, live_within).await
    }

    async fn take(&self, holder: Holder, asks: &[LeaseAsk<'_>]) -> Result<Vec<CounterState>, LeaseError> {
        self.faults.check()?;
        self.store.leases_take(holder, asks).await
    }

    async fn keep(
        &self,
        holder: Holder,
        keep: &[(Counter, NanoUsd)],
    ) -> Result<Vec<CounterState>, LeaseError> {
        self.faults.check()?;
        self.store.leases_keep(holder, keep).await
    }

    async fn counters(&self, id: InstanceId, counters: &[Counter]) -> Result<Vec<CounterState>, StoreError> {
        self.faults.check()?;
        self.store.counters(id, counters).await
    }

    async fn apply(
        &self,
        holder: Holder,
        batch: &[Charge],
        applied_seq: u64,
    ) -> Result<Vec<CounterState>, LeaseError> {
        self.faults.check()?;
        let refused = *self.faults.refused.lock().expect("not poisoned");
        if batch.iter().any(|charge| charge.record.cost.map(NanoUsd::nano) == refused && refused.is_some()) {
            return Err(StoreError::Corrupt { table: "usage_record", what: "refused by a test" }.into());
        }
        let states = self.store.apply(holder, batch, applied_seq).await?;
        self.faults.batches.lock().expect("not poisoned").push(batch.len());
        let ambiguous = &self.faults.ambiguous;
        if ambiguous.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(StoreError::Unavailable.into());
        }
        Ok(states)
    }

    async fn stop(&self, holder: Holder) -> Result<(), LeaseError> {
        self.faults.check()?;
        self.store.instance_stop(holder).await
    }
}

struct House {
    store: TestStore,
    ledger: Ledger,
    faults: Arc<Trouble>,
    _dir: tempfile::TempDir,
}

async fn house(capacity: usize) -> House {
    let store = crate::store::testing::store().await;
    let dir = tempfile::tempdir().expect("a directory");
    let faults = Arc::new(Trouble::default());
    let bank = Flaky { store: Store::clone(&store), faults: Arc::clone(&faults) };
    let settings = LedgerSettings {
        capacity,
        segment_bytes: 1 << 20,
        ..LedgerSettings::new(dir.path().join("journal"))
    };
    let (ledger, _) = Ledger::start(bank, settings, &TaskTracker::new(), |_| {}).await.expect("a ledger");
    House { store, ledger, faults, _dir: dir }
}

impl House {
    /// One request that costs `cost` of `need`.
    async fn request(&self, client: &Client, need: i64, cost: i64) -> Result<RequestId, Stop> {
        let held = client.reserve(&self.ledger, need).await?;
        let id = RequestId::generate();
        let mut place = self.ledger.try_place().expect("a place");
        let note = place.open(client.charge(id, 0, Outcome::Recovered), stake(need)).expect("room");
        assert!(note.sent());
        held.settle(NanoUsd::new(cost));
        assert!(place.record(client.charge(id, cost, Outcome::Ok)).is_safe());
        Ok(id)
    }

    async fn settled(&self, client: &Client) -> i64 {
        let counter = client.counter();
        let settled = self.store.spend_settled(counter.scope, counter.window, counter.index).await;
        settled.expect("a counter").nano()
    }

    async fn close(self) -> TestStore {
        assert_eq!(self.ledger.close(Instant::now() + Duration::from_secs(10)).await, 0);
        self.store
    }
}

#[tokio::test]
async fn charges_are_written_together_and_exactly_once() {
    let house = house(1_000).await;
    let client = Client::new(1_000_000);
    for _ in 0..300 {
        house.request(&client, 10, 7).await.expect("admitted");
    }
    house.ledger.flushed().await;
    assert_eq!((rows(&house.store).await.len(), house.settled(&client).await), (300, 2_100));
    assert!(house.faults.batches.lock().expect("not poisoned").len() < 100, "not one by one");
    let standing = house.ledger.standing(client.key.into(), SpendWindow::Total, WindowIndex(0)).await;
    assert_eq!((standing.settled.nano(), standing.reserved.nano()), (2_100, 0));
    let store = house.close().await;
    assert_eq!(store.instances().await.expect("instances")[0].leased, NanoUsd::ZERO, "given back");
}

#[tokio::test]
async fn p05_a_commit_of_unknown_outcome_is_repeated_without_counting_twice_fm_o08() {
    let house = house(1_000).await;
    let client = Client::new(1_000_000);
    house.faults.ambiguous.store(2, Ordering::SeqCst);
    for _ in 0..20 {
        house.request(&client, 10, 7).await.expect("admitted");
    }
    house.ledger.flushed().await;
    assert_eq!((rows(&house.store).await.len(), house.settled(&client).await), (20, 140));
    let period = house.ledger.accounts().with_period(client.counter(), |period| {
        (period.settled, period.unapplied, period.reserved, period.granted)
    });
    assert_eq!(period, (140, 0, 0, 1_000_000 - 140), "memory says what the database says");
    house.close().await;
}

#[tokio::test]
async fn p24_while_the_database_is_gone_leases_go_on_and_places_run_out_and_nothing_is_lost() {
    let house = house(40).await;
    let (known, stranger) = (Client::new(1_000), Client::new(1_000));
    house.request(&known, 10, 10).await.expect("admitted");
    house.ledger.flushed().await;
    house.faults.down.store(true, Ordering::SeqCst);
    for _ in 0..39 {
        house.request(&known, 10, 10).await.expect("within the lease");
    }
    let refused = house.request(&stranger, 10, 10).await.expect_err("there is no lease");
    assert!(matches!(refused, Stop::Lease(_)), "{refused:?}");
    // Places that the banker has taken charges out of are free again, so fill what is left.
    let mut places = Vec::new();
    while let Ok(place) = house.ledger.try_place() {
        places.push(place);
        assert!(places.len() <= 40, "places are bounded");
    }
    drop(places);
    house.faults.down.store(false, Ordering::SeqCst);
    house.ledger.flushed().await;
    assert_eq!((rows(&house.store).await.len(), house.settled(&known).await), (40, 400));
    house.request(&stranger, 10, 10).await.expect("the database is back");
    house.close().await;
}

#[tokio::test]
async fn a_charge_that_is_refused_holds_up_nobody() {
    let house = house(1_000).await;
    let client = Client::new(1_000_000);
    *house.faults.refused.lock().expect("not poisoned") = Some(13);
    for cost in [1, 13, 2, 3] {
        house.request(&client, 20, cost).await.expect("admitted");
    }
    while house.ledger.pending() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((house.ledger.pending(), house.settled(&client).await), (1, 6), "it waits, and is not lost");
    *house.faults.refused.lock().expect("not poisoned") = None;
    house.ledger.flushed().await;
    assert_eq!(house.settled(&client).await, 19);
    house.close().await;
}

#[tokio::test]
async fn p07_p22_whoever_finds_another_run_in_its_place_gives_way_and_loses_nothing() {
    let house = house(1_000).await;
    let client = Client::new(100);
    let held = client.reserve(&house.ledger, 60).await.expect("admitted");
    let id = RequestId::generate();
    let mut place = house.ledger.try_place().expect("a place");
    let note = place.open(client.charge(id, 0, Outcome::Recovered), stake(60)).expect("room");
    assert!(note.sent());
    // A copy of its data directory takes its leases back and spends some of the cap.
    let copy =
        house.store.instance_register(house.ledger.id(), a_run(), Claim::Sole).await.expect("taken over");
    house.store.leases_keep(copy.holder, &[(client.counter(), NanoUsd::ZERO)]).await.expect("given back");
    let other = client.charge(RequestId::generate(), 70, Outcome::Ok);
    house.store.apply(copy.holder, &[other], 1).await.expect("spent elsewhere");
    assert!(!house.ledger.is_usurped(), "it has not asked yet");

    held.settle(NanoUsd::new(55));
    place.record(client.charge(id, 55, Outcome::Ok)).safe().await;
    house.ledger.flushed().await;
    assert!(house.ledger.is_usurped());
    house.ledger.try_place().expect_err("nothing new is begun");
    assert!(matches!(client.reserve(&house.ledger, 1).await, Err(Stop::Lease(_) | Stop::Refused(_))));
    assert_eq!(house.settled(&client).await, 100, "what it had begun is recorded, within what is free");
    let late = rows(&house.store).await.into_iter().find(|row| row.request_id == id.to_string());
    assert_eq!(late.expect("recorded").clamped.nano(), 25);
    let fenced = house.ledger.counts().fenced;
    house.store.instance_beat(copy.holder, Duration::from_secs(5)).await.expect("the other is left alone");
    house.ledger.flushed().await;
    assert_eq!(house.ledger.counts().fenced, fenced);
    house.close().await;
}

#[tokio::test]
async fn p22_whoever_lost_its_leases_holds_none_and_records_within_what_is_free_fm_o20() {
    let house = house(1_000).await;
    let client = Client::new(100);
    let held = client.reserve(&house.ledger, 60).await.expect("admitted");
    let id = RequestId::generate();
    let mut place = house.ledger.try_place().expect("a place");
    let note = place.open(client.charge(id, 0, Outcome::Recovered), stake(60)).expect("room");
    assert!(note.sent());
    // An operator gives its leases away, and somebody else spends most of the cap.
    let thief = Registered {
        ..house.store.instance_register(InstanceId::generate(), a_run(), Claim::Sole).await.expect("another")
    };
    house
        .store
        .write(async |tx: &crate::store::Tx| {
            crate::store::instance_release(tx, house.ledger.id(), Duration::ZERO).await
        })
        .await
        .expect("released");
    let other = client.charge(RequestId::generate(), 70, Outcome::Ok);
    house.store.apply(thief.holder, &[other], 1).await.expect("spent elsewhere");

    held.settle(NanoUsd::new(55));
    place.record(client.charge(id, 55, Outcome::Ok)).safe().await;
    house.ledger.flushed().await;
    assert_eq!(house.settled(&client).await, 100, "the cap holds");
    let late = rows(&house.store).await.into_iter().find(|row| row.request_id == id.to_string());
    let late = late.expect("recorded all the same");
    assert_eq!((late.cost.map(NanoUsd::nano), late.clamped.nano()), (Some(30), 25));
    assert_eq!(late.outcome, "recovered");
    assert_eq!(house.ledger.counts().fenced, 1);
    let refused = client.reserve(&house.ledger, 1).await.expect_err("spent");
    assert!(matches!(refused, Stop::Refused(_)), "{refused:?}");
    house.close().await;
}
