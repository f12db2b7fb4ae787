//! Leases: taken when requests ask, given back when they are not used, lost when an operator gave them away.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{Banker, CALL_TIMEOUT, Failure, LeaseRequest, call, slices::Room};
use crate::{
    domain::{Counter, InstanceId, NanoUsd},
    ledger::{
        accounts::{Accounts, narrow},
        bank::Bank,
    },
    store::{Claim, CounterState, LeaseAsk, RegisterError, StoreError},
};

/// How often leases are looked at while others share the caps: so long waits whoever wants what is idle here.
const TEND_SHARED: Duration = Duration::from_millis(100);
/// How often leases are looked at by who is alone.
const TEND_ALONE: Duration = Duration::from_secs(10);
/// A counter that nobody asked for so long is idle, among several instances.
const IDLE_SHARED: Duration = Duration::from_secs(2);
/// The same for who is alone: only so that leases of windows that are over do not pile up.
const IDLE_ALONE: Duration = Duration::from_secs(60);
/// Between two turns of one round: whoever waits goes first.
const BETWEEN_TURNS: Duration = Duration::from_millis(5);
/// Most lease requests that are answered together.
const TOGETHER: usize = 1_000;
/// Most counters that are looked at in one statement.
const MOST_COUNTERS: usize = 500;

/// What several requests want of one counter.
struct Wanted {
    cap: Option<NanoUsd>,
    least: i128,
    all: i128,
    used: i128,
    appetite: i128,
}

impl<B: Bank> Banker<B> {
    /// Answers this request and all that wait with it.
    pub(super) async fn take_leases(&mut self, first: LeaseRequest) {
        let mut requests = vec![first];
        while requests.len() < TOGETHER
            && let Ok(request) = self.asks.try_recv()
        {
            requests.push(request);
        }
        // Whoever gave up needs nothing.
        requests.retain(|request| !request.done.is_closed());
        let mut wanted = self.gather(&requests);
        // Whoever only looks writes nothing.
        let looked_at: Vec<Counter> =
            wanted.iter().filter(|(_, wanted)| wanted.cap.is_none()).map(|(counter, _)| *counter).collect();
        wanted.retain(|_, wanted| wanted.cap.is_some());
        let mut answer = match looked_at.is_empty() {
            true => Ok(()),
            false => self.look(&looked_at).await,
        };
        if !wanted.is_empty() && answer.is_ok() {
            answer = self.take(wanted).await;
        }
        for request in requests {
            let mine = match &answer {
                Ok(()) => Ok(()),
                Err(_) => Err(StoreError::Unavailable),
            };
            // Whoever no longer waits does not need it.
            request.done.send(mine).ok();
        }
    }

    async fn look(&mut self, counters: &[Counter]) -> Result<(), StoreError> {
        match call(self.bank.counters(self.id, counters)).await {
            Ok(states) => {
                self.accounts.learn(&states);
                Ok(())
            }
            Err(_) => Err(StoreError::Unavailable),
        }
    }

    async fn take(&mut self, wanted: BTreeMap<Counter, Wanted>) -> Result<(), StoreError> {
        if self.shared.usurped.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable);
        }
        let live = i128::from(self.shared.live.load(Ordering::Relaxed).max(1));
        type Wish = Box<dyn Fn(&CounterState) -> (NanoUsd, NanoUsd) + Send + Sync>;
        let wishes: Vec<(Counter, NanoUsd, Wish)> = wanted
            .into_iter()
            .map(|(counter, wanted)| {
                let cap = wanted.cap.unwrap_or_default();
                let wish: Wish = Box::new(move |state| wish(&wanted, state, live));
                (counter, cap, wish)
            })
            .collect();
        let asks: Vec<LeaseAsk<'_>> = wishes
            .iter()
            .map(|(counter, cap, wish)| LeaseAsk { counter: *counter, cap: *cap, wish })
            .collect();
        match call(self.bank.take(self.holder, &asks)).await {
            Ok(states) => {
                self.accounts.learn(&states);
                self.shared.leases_taken.fetch_add(states.len() as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(Failure::Fenced) if self.start_over().await => Ok(()),
            Err(Failure::Fenced | Failure::Down) => Err(StoreError::Unavailable),
            Err(Failure::Refused(error)) => {
                tracing::error!(%error, "ledger.lease_refused");
                Err(StoreError::Unavailable)
            }
        }
    }

    fn gather(&self, requests: &[LeaseRequest]) -> BTreeMap<Counter, Wanted> {
        let mut wanted = BTreeMap::<Counter, Wanted>::new();
        for want in requests.iter().flat_map(|request| &request.wants) {
            let need = i128::from(want.need.nano());
            let entry = wanted.entry(want.counter).or_insert_with(|| {
                let (used, appetite) =
                    self.accounts.with_period(want.counter, |period| (period.used(), period.appetite));
                Wanted { cap: want.cap, least: need, all: 0, used, appetite }
            });
            // Of two caps the newer one is right, but nobody can say which that is: the smaller harms nobody.
            entry.cap = match (entry.cap, want.cap) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            // Whoever only looks has no part in what must fit at least.
            entry.least = match (entry.least, need) {
                (0, need) => need,
                (least, 0) => least,
                (least, need) => least.min(need),
            };
            entry.all = entry.all.saturating_add(need);
        }
        wanted
    }

    /// Gives back what is not used, of so many counters as one statement takes. Answers when to go on: at once with the
    /// rest of a round, but after whoever waits meanwhile; later with the next round.
    pub(super) async fn tend_leases(&mut self) -> Duration {
        let live = self.shared.live.load(Ordering::Relaxed).max(1);
        let (pause, idle_after) =
            if live > 1 { (TEND_SHARED, IDLE_SHARED) } else { (TEND_ALONE, IDLE_ALONE) };
        if self.to_tend.is_empty() {
            let now = Instant::now();
            let since = now.checked_sub(idle_after * 2).unwrap_or(now);
            self.to_tend = self.accounts.leased_or_used_since(since);
        }
        let left = self.to_tend.len().saturating_sub(MOST_COUNTERS);
        let some = self.to_tend.split_off(left);
        if self.tend(&some, live, idle_after).await.is_err() {
            // The database does not answer. What is left of the round is looked up again.
            self.to_tend.clear();
        }
        if self.to_tend.is_empty() { pause } else { BETWEEN_TURNS }
    }

    async fn tend(&mut self, counters: &[Counter], live: u32, idle_after: Duration) -> Result<(), Failure> {
        if counters.is_empty() {
            return Ok(());
        }
        let mut wanted = HashSet::new();
        if live > 1 {
            let states = call(self.bank.counters(self.id, counters)).await?;
            self.accounts.learn(&states);
            wanted.extend(states.iter().filter(|state| state.wanted).map(|state| state.counter));
        }
        let keep: Vec<(Counter, NanoUsd)> = counters
            .iter()
            .filter_map(|&counter| {
                let wanted = wanted.contains(&counter);
                give_up(&self.accounts, counter, i128::from(live), wanted, idle_after)
            })
            .collect();
        if keep.is_empty() {
            return Ok(());
        }
        match call(self.bank.keep(self.holder, &keep)).await {
            Ok(states) => self.accounts.learn(&states),
            Err(Failure::Fenced) => {
                self.start_over().await;
            }
            // It is still this instance's; what the database says next time counts again.
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Says that this instance lives.
    pub(super) async fn beat(&mut self) {
        let Some(sharing) = self.sharing else { return };
        if self.shared.usurped.load(Ordering::Relaxed) {
            return;
        }
        // From before the call: later would claim more than is known.
        let since = Accounts::moment();
        match call(self.bank.beat(self.holder, sharing.live_within)).await {
            Ok(live) => {
                self.accounts.trust_leases(since, Some(sharing.grace));
                if self.shared.live.swap(live, Ordering::Relaxed) != live {
                    (self.on_live)(live);
                }
            }
            Err(Failure::Fenced) => {
                self.start_over().await;
            }
            Err(Failure::Down | Failure::Refused(_)) => {}
        }
    }

    /// This instance's epoch is over: it holds no lease. When an operator gave its leases away, it goes on under a new
    /// epoch, and what it has charged meanwhile is recorded within what is free. When another process has become it, that
    /// one is left alone. Answers whether leases can be had.
    pub(super) async fn start_over(&mut self) -> bool {
        tracing::warn!(instance = %self.id, "ledger.fenced");
        self.shared.fenced.fetch_add(1, Ordering::Relaxed);
        for counter in self.accounts.leased_or_used_since(Instant::now()) {
            self.accounts.with_period(counter, |period| period.granted = 0);
        }
        let since = Accounts::moment();
        let registered = match timeout(CALL_TIMEOUT, self.bank.register(self.id, self.run, Claim::Own)).await
        {
            Ok(Ok(registered)) => registered,
            Ok(Err(RegisterError::Taken { .. })) => {
                self.give_way().await;
                return false;
            }
            Ok(Err(RegisterError::Store(_))) | Err(_) => return false,
        };
        self.holder = registered.holder;
        let grace = self.sharing.map(|sharing| sharing.grace);
        self.accounts.trust_leases(since, grace);
        true
    }

    /// Another process is this instance now. Nothing new is begun here, and what was is recorded under a name that nobody
    /// else has.
    async fn give_way(&mut self) {
        if !self.shared.usurped.swap(true, Ordering::Relaxed) {
            tracing::error!(
                instance = %self.id,
                "ledger.usurped: another process runs on a copy of this data directory; stop this gateway, and give it a \
                 data directory of its own that begins empty"
            );
        }
        let other = self.bank.register(InstanceId::generate(), self.run, Claim::Sole);
        // Without it the next call is fenced, too, and it is tried again.
        if let Ok(Ok(registered)) = timeout(CALL_TIMEOUT, other).await {
            self.holder = registered.holder;
        }
    }
}

fn wish(wanted: &Wanted, state: &CounterState, live: i128) -> (NanoUsd, NanoUsd) {
    let cap = wanted.cap.unwrap_or_default();
    let room = Room {
        free: i128::from(cap.nano()) - i128::from(state.settled.nano()) - i128::from(state.leased.nano()),
        granted: i128::from(state.granted.nano()),
        used: wanted.used,
        appetite: wanted.appetite,
        live,
    };
    let (at_least, wish) = room.wish(wanted.least, wanted.all);
    (narrow(at_least), narrow(wish))
}

/// Takes what is not needed out of the lease, at once here, so that nobody is admitted against it while it goes back.
/// Answers what is kept, when that is less than there was.
fn give_up(
    accounts: &Accounts,
    counter: Counter,
    live: i128,
    wanted: bool,
    idle_after: Duration,
) -> Option<(Counter, NanoUsd)> {
    accounts.with_period(counter, |period| {
        let used = period.used();
        if period.granted <= 0 || used > period.granted {
            return None;
        }
        let cap = period.cap.unwrap_or_default();
        let room = Room {
            free: cap - period.settled - period.granted - period.elsewhere,
            granted: period.granted,
            used,
            appetite: period.appetite,
            live,
        };
        let idle = period.used_at.elapsed() >= idle_after;
        // A cap that was lowered leaves less than what is leased.
        let within_cap = (period.granted + room.free.min(0)).max(used);
        // Large requests of long ago do not keep leases small for ever.
        period.appetite -= period.appetite / 64;
        let keep = room.keep(wanted, idle).min(within_cap);
        (keep < period.granted).then(|| {
            period.granted = keep;
            (counter, narrow(keep))
        })
    })
}
