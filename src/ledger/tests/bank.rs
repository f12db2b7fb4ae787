//! The banker before a database that fails: nothing is lost, nothing is counted twice, and it recovers by itself.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbBackend};
use tokio::sync::Semaphore;

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

/// What was asked for, and for how many counters.
type Call = (&'static str, usize);

/// What goes wrong.
pub(super) struct Trouble {
    /// The database does not answer.
    down: AtomicBool,
    /// So many commits happen and are answered by an error.
    ambiguous: AtomicU32,
    /// A record with this cost is refused for good.
    refused: Mutex<Option<i64>>,
    /// The leases that were looked at and taken, and how many at a time.
    calls: Mutex<Vec<Call>>,
    /// While it is set, each look at leases needs a permit.
    held: AtomicBool,
    permits: Semaphore,
    /// Sizes of the batches that were written.
    batches: Mutex<Vec<usize>>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self {
            down: AtomicBool::default(),
            ambiguous: AtomicU32::default(),
            refused: Mutex::default(),
            calls: Mutex::default(),
            held: AtomicBool::default(),
            permits: Semaphore::new(0),
            batches: Mutex::default(),
        }
    }
}

impl Trouble {
    fn called(&self, what: &'static str, size: usize) {
        self.calls.lock().expect("not poisoned").push((what, size));
    }

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
        self.faults.called("take", asks.len());
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
        if self.faults.held.load(Ordering::SeqCst) {
            self.faults.called("held", counters.len());
            self.faults.permits.acquire().await.expect("open").forget();
        }
        self.faults.called("look", counters.len());
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
    recovered: Recovered,
    faults: Arc<Trouble>,
    dir: tempfile::TempDir,
}

async fn house(capacity: usize) -> House {
    let dir = tempfile::tempdir().expect("a directory");
    house_in(crate::store::testing::store().await, dir, capacity).await
}

async fn house_in(store: TestStore, dir: tempfile::TempDir, capacity: usize) -> House {
    house_sharing(store, dir, capacity, None).await
}

async fn house_sharing(
    store: TestStore,
    dir: tempfile::TempDir,
    capacity: usize,
    sharing: Option<Sharing>,
) -> House {
    let faults = Arc::new(Trouble::default());
    let bank = Flaky { store: Store::clone(&store), faults: Arc::clone(&faults) };
    let settings = LedgerSettings {
        capacity,
        sharing,
        segment_bytes: 1 << 20,
        ..LedgerSettings::new(dir.path().join("journal"))
    };
    let started = Ledger::start(bank, settings, &TaskTracker::new(), |_| {}).await;
    let (ledger, recovered) = started.expect("a ledger");
    House { store, ledger, recovered, faults, dir }
}

impl House {
    /// One request that costs `cost` of `need`.
    async fn request(&self, client: &Client, need: i64, cost: i64) -> Result<RequestId, Stop> {
        let held = client.reserve(&self.ledger, need).await?;
        let id = RequestId::generate();
        let mut place = self.ledger.try_place().expect("a place");
        let note = place.open(&client.charge(id, 0, Outcome::Recovered), &stake(need)).expect("room");
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

    /// Stops in good order and starts on the same.
    async fn again(self) -> Self {
        assert_eq!(self.ledger.close(Instant::now() + Duration::from_secs(10)).await, 0);
        house_in(self.store, self.dir, 1_000).await
    }

    /// Its time to stop is over before it begins; what it has not written is in its journal.
    async fn dies_and_starts_again(self) -> Self {
        assert!(self.ledger.close(Instant::now()).await > 0);
        house_in(self.store, self.dir, 1_000).await
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
async fn p24_whoever_wants_a_lease_waits_for_one_turn_of_tending_and_not_for_a_round() {
    const LEASED: usize = 1_200;
    let store = crate::store::testing::store().await;
    let minute = Duration::from_secs(60);
    let other = store.instance_register(InstanceId::generate(), a_run(), Claim::Sole).await.expect("another");
    store.instance_beat(other.holder, minute).await.expect("it lives");
    let sharing = Sharing { beat: minute, live_within: minute, grace: 2 * minute };
    let dir = tempfile::tempdir().expect("a directory");
    let house = house_sharing(store, dir, LEASED, Some(sharing)).await;
    let clients: Vec<Client> = (0..LEASED).map(|_| Client::new(1_000)).collect();
    // Held, so that a lease stays on each.
    let reserved = clients.iter().map(|client| client.reserve(&house.ledger, 10));
    let reserved = futures_util::future::join_all(reserved).await;
    assert!(reserved.iter().all(Result::is_ok));
    let calls = || house.faults.calls.lock().expect("not poisoned").clone();
    let until = async |holds: &dyn Fn(&[Call]) -> bool| {
        while !holds(&calls()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let held = async || {
        until(&|calls| calls.last().is_some_and(|(what, _)| *what == "held")).await;
        calls().last().expect("a call").1
    };
    let let_one = || {
        house.faults.calls.lock().expect("not poisoned").clear();
        house.faults.permits.add_permits(1);
    };
    house.faults.held.store(true, Ordering::SeqCst);
    // To the first turn of a round, with two more to come.
    while held().await == 500 {
        let_one();
    }
    let_one();
    assert_eq!(held().await, 500);
    let stranger = Client::new(1_000);
    let asked = TaskTracker::new().spawn({
        let ledger = house.ledger.clone();
        async move { stranger.reserve(&ledger, 10).await.map(drop).is_ok() }
    });
    while house.ledger.waiting_asks() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let_one();
    // Most often at once; a machine that is busy elsewhere may let one more turn go first.
    let next = async || {
        until(&|calls| calls.iter().any(|(what, _)| *what != "look")).await;
        calls().into_iter().find(|(what, _)| *what != "look").expect("a call").0
    };
    if next().await == "held" {
        let_one();
    }
    assert_eq!(next().await, "take", "who waits comes between two turns of a round");
    house.faults.held.store(false, Ordering::SeqCst);
    house.faults.permits.add_permits(1_000);
    assert!(asked.await.expect("no panic"), "admitted");
    until(&|calls| {
        calls.iter().filter(|(what, _)| *what == "look").map(|(_, size)| size).sum::<usize>() >= LEASED
    })
    .await;
    assert!(calls().iter().all(|(_, size)| *size <= 500), "a turn is bounded");
    drop(reserved);
    house.close().await;
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

/// Has the database itself refuse rows that cost 13, or take them again.
async fn refuse_unlucky_rows(store: &Store, refuse: bool) {
    let sql = match (store.reader().get_database_backend(), refuse) {
        (DbBackend::Postgres, true) => {
            "ALTER TABLE usage_record ADD CONSTRAINT unlucky CHECK (cost_nano_usd <> 13) NOT VALID"
        }
        (DbBackend::Postgres, false) => "ALTER TABLE usage_record DROP CONSTRAINT unlucky",
        (_, true) => {
            "CREATE TRIGGER unlucky BEFORE INSERT ON usage_record WHEN NEW.cost_nano_usd = 13
            BEGIN SELECT RAISE(ABORT, 'unlucky'); END"
        }
        (_, false) => "DROP TRIGGER unlucky",
    };
    let changed = store.write(async |tx: &crate::store::Tx| {
        tx.execute_unprepared(sql).await?;
        Ok::<_, StoreError>(())
    });
    changed.await.expect("changed");
}

#[tokio::test]
async fn p07_p24_a_charge_that_the_database_refuses_is_set_aside_and_nothing_waits_for_it() {
    let house = house(1_000).await;
    let client = Client::new(100);
    refuse_unlucky_rows(&house.store, true).await;
    for cost in [1, 13, 2, 3] {
        house.request(&client, 20, cost).await.expect("admitted");
    }
    house.ledger.flushed().await;
    let counts = house.ledger.counts();
    assert_eq!(
        (counts.refused, counts.applied, counts.journal.unapplied),
        (1, 3, 0),
        "the journal may go on"
    );
    assert_eq!((house.ledger.pending(), house.settled(&client).await), (0, 6));
    assert!(!house.ledger.is_blocked());
    let standing = house.ledger.standing(client.key.into(), SpendWindow::Total, WindowIndex(0)).await;
    assert_eq!(standing.settled.nano(), 19, "it counts against its cap");
    for _ in 0..20 {
        house.request(&client, 4, 4).await.expect("admitted");
    }
    client.reserve(&house.ledger, 2).await.expect_err("1 is left");
    house.ledger.flushed().await;
    assert_eq!(rows(&house.store).await.len(), 23);

    // A start finds it, refused as before, and counts it.
    let house = house.again().await;
    assert_eq!((house.recovered.refused, house.ledger.counts().refused), (1, 1));
    client.reserve(&house.ledger, 2).await.expect_err("1 is left");
    refuse_unlucky_rows(&house.store, false).await;
    while house.ledger.counts().refused > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((rows(&house.store).await.len(), house.settled(&client).await), (24, 99));
    let period =
        house.ledger.accounts().with_period(client.counter(), |period| (period.settled, period.unapplied));
    assert_eq!(period, (99, 0));
    let house = house.again().await;
    assert_eq!((house.recovered.refused, house.settled(&client).await), (0, 99));
    house.close().await;
}

#[tokio::test]
async fn p07_p24_a_charge_that_is_refused_does_not_keep_a_start_from_the_others() {
    let house = house(1_000).await;
    let client = Client::new(1_000_000);
    house.request(&client, 20, 1).await.expect("admitted");
    house.ledger.flushed().await;
    house.faults.down.store(true, Ordering::SeqCst);
    for cost in [13, 2, 13, 3] {
        house.request(&client, 20, cost).await.expect("admitted");
    }
    refuse_unlucky_rows(&house.store, true).await;
    let house = house.dies_and_starts_again().await;
    assert_eq!((house.recovered.applied, house.recovered.refused), (4, 2));
    assert_eq!((rows(&house.store).await.len(), house.settled(&client).await), (3, 6));
    house.request(&client, 20, 4).await.expect("admitted");
    house.ledger.flushed().await;
    assert_eq!(house.settled(&client).await, 10);
    refuse_unlucky_rows(&house.store, false).await;
    while house.ledger.counts().refused > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((rows(&house.store).await.len(), house.settled(&client).await), (6, 36));
    house.close().await;
}

#[tokio::test]
async fn a_database_that_is_down_is_not_one_that_refuses() {
    let house = house(1_000).await;
    let client = Client::new(1_000_000);
    house.faults.down.store(true, Ordering::SeqCst);
    let held = house.ledger.try_place().expect("a place");
    held.record(client.charge(RequestId::generate(), 5, Outcome::Ok)).safe().await;
    while !house.ledger.is_blocked() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((house.ledger.counts().refused, house.ledger.pending()), (0, 1));
    house.faults.down.store(false, Ordering::SeqCst);
    house.ledger.flushed().await;
    assert_eq!(rows(&house.store).await.len(), 1);
    house.close().await;
}

#[tokio::test]
async fn p07_p22_whoever_finds_another_run_in_its_place_gives_way_and_loses_nothing() {
    let house = house(1_000).await;
    let client = Client::new(100);
    let held = client.reserve(&house.ledger, 60).await.expect("admitted");
    let id = RequestId::generate();
    let mut place = house.ledger.try_place().expect("a place");
    let note = place.open(&client.charge(id, 0, Outcome::Recovered), &stake(60)).expect("room");
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
    let note = place.open(&client.charge(id, 0, Outcome::Recovered), &stake(60)).expect("room");
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
