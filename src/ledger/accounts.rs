//! The counters of spend in memory: per scope and window what is settled, what is reserved, and which durable part of
//! the cap, the *lease*, this process holds.
//!
//! Admission looks here and nowhere else. What it may admit under a hard cap is bounded by the lease, which the
//! database granted with one conditional update, so any number of processes can share a cap without speaking to one
//! another; [`super::Ledger`] takes leases, gives them back, and brings settled spend into the database.
//!
//! Invariants: all four windows are counted for every scope, capped or not, because a cap and its window may change at
//! any time; nothing is ever reset, as the index of a window is part of a counter's identity; the counters of a period
//! stay while a reservation made in it is open, a settlement is not yet in the database, or a lease is held on it,
//! however the wall clock moves. There is one account for every scope that was ever used, so the map is bounded by what
//! is in the database.

mod contact;
mod period;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;
use tokio::time::Instant;

use self::contact::Contact;
pub(super) use self::period::{Period, narrow};
use crate::{
    domain::{Counter, NanoUsd, Scope, SpendWindow, Spent, UsageRecord, WindowIndex, Windows},
    store::CounterState,
};

/// Scopes of one request that need no memory from the heap.
pub(super) const FEW: usize = 4;

/// How many periods of one window are remembered beside those in use. The present and the one before are enough for a
/// clock that is right; the others are for one that is put back and forth.
const PERIODS: usize = 4;

/// All counters of spend. Shared by everything that admits or shows spend.
#[derive(Debug, Default)]
pub struct Accounts {
    accounts: RwLock<HashMap<Scope, Arc<Account>>>,
    reserved_total: AtomicI64,
    contact: Contact,
    /// Counters under a hard cap or with a lease, for whoever tends the leases: a few among all that were ever used.
    capped: Mutex<HashSet<Counter>>,
}

/// Where a scope stands in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Spent for good.
    pub settled: NanoUsd,
    /// Held by requests under way that began in the same window, and by the leases of other instances.
    pub reserved: NanoUsd,
}

impl Accounts {
    /// Where `scope` stands in one window, as far as this process knows; nothing when it was never used here.
    pub fn standing(&self, scope: Scope, window: SpendWindow, index: WindowIndex) -> Standing {
        let account = self.known(scope);
        account.map(|account| account.lock().standing(window, index)).unwrap_or_default()
    }

    /// Everything that is reserved now: the sum of the amounts of all open reservations, each counted once.
    pub fn reserved_total(&self) -> NanoUsd {
        NanoUsd::new(self.reserved_total.load(Ordering::Relaxed).max(0))
    }

    /// Scopes with an account.
    pub fn len(&self) -> usize {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no scope has an account yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hard caps are admitted against leases for so long from `since` on, a reading of [`Accounts::moment`]; `None`:
    /// for ever, as nobody else can be given them.
    pub(super) fn trust_leases(&self, since: u64, grace: Option<Duration>) {
        self.contact.trust(since, grace);
    }

    /// Milliseconds on a clock that goes on while the machine sleeps.
    pub(super) fn moment() -> u64 {
        contact::moment()
    }

    /// Whether leases may be admitted against.
    pub(super) fn is_in_touch(&self) -> bool {
        self.contact.is_in_touch()
    }

    /// Takes over what the database says of some counters.
    pub fn learn(&self, states: &[CounterState]) {
        let now = Instant::now();
        for state in states {
            self.take_over(state, now, 0);
        }
    }

    /// What the database says, and so much of what was settled here is in it now. Both at once: between them the same
    /// spend would count twice or not at all.
    fn take_over(&self, state: &CounterState, now: Instant, applied: i128) {
        let capped = self.with_period(state.counter, |period| {
            period.learn(state, now);
            period.unapplied -= applied;
            period.granted > 0 || period.cap.is_some()
        });
        if capped {
            self.capped().insert(state.counter);
        }
    }

    fn capped(&self) -> MutexGuard<'_, HashSet<Counter>> {
        self.capped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The charges of `records` are in the database now, whose counters are `states`. Each record comes here once, however
    /// often it was written.
    pub(super) fn applied<'a>(
        &self,
        records: impl IntoIterator<Item = &'a UsageRecord>,
        states: &[CounterState],
    ) {
        let mut sums = HashMap::<Counter, i128>::new();
        for (counter, nano) in Spent::of(records).counters().filter(|(_, nano)| *nano > 0) {
            *sums.entry(counter).or_default() += nano;
        }
        let now = Instant::now();
        for state in states {
            self.take_over(state, now, sums.remove(&state.counter).unwrap_or_default());
        }
        for (counter, sum) in sums {
            self.with_period(counter, |period| period.unapplied -= sum);
        }
    }

    /// What a process before this one has settled, and the database does not have: it counts against the caps all the same.
    pub(super) fn owe(&self, record: &UsageRecord) {
        for (counter, nano) in Spent::of([record]).counters().filter(|(_, nano)| *nano > 0) {
            self.with_period(counter, |period| period.unapplied += nano);
        }
    }

    /// Calls `read` with the period of `counter`, which is made when it is not known.
    pub(super) fn with_period<T>(&self, counter: Counter, read: impl FnOnce(&mut Period) -> T) -> T {
        let account = self.account(counter.scope);
        let mut balances = account.lock();
        read(balances.period_mut(counter.window, counter.index))
    }

    /// The same, without making an account for a scope that was never used.
    pub(super) fn with_known_period<T>(
        &self,
        counter: Counter,
        read: impl FnOnce(&mut Period) -> T,
    ) -> Option<T> {
        let account = self.known(counter.scope)?;
        let mut balances = account.lock();
        Some(read(balances.period_mut(counter.window, counter.index)))
    }

    /// Every counter on which a lease is held, or that was used since `since` under a cap; the others are forgotten here
    /// until they are heard of again.
    pub(super) fn leased_or_used_since(&self, since: Instant) -> Vec<Counter> {
        let mut found: Vec<Counter> = self.capped().iter().copied().collect();
        found.retain(|counter| {
            let alive = self.with_known_period(*counter, |period| {
                period.granted > 0 || (period.cap.is_some() && period.used_at >= since)
            });
            alive == Some(true) || {
                self.capped().remove(counter);
                false
            }
        });
        found
    }

    /// The accounts of `scopes`, each once, in the order in which they must be locked.
    pub(super) fn accounts(&self, scopes: impl Iterator<Item = Scope>) -> SmallVec<[Arc<Account>; FEW]> {
        let mut sorted: SmallVec<[Scope; FEW]> = scopes.collect();
        sorted.sort_unstable();
        sorted.dedup();
        {
            let known = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
            let found: SmallVec<[Arc<Account>; FEW]> =
                sorted.iter().map_while(|scope| known.get(scope).cloned()).collect();
            if found.len() == sorted.len() {
                return found;
            }
        }
        sorted.into_iter().map(|scope| self.account(scope)).collect()
    }

    fn known(&self, scope: Scope) -> Option<Arc<Account>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(&scope).cloned()
    }

    fn account(&self, scope: Scope) -> Arc<Account> {
        if let Some(account) = self.known(scope) {
            return account;
        }
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(accounts.entry(scope).or_insert_with(|| Arc::new(Account::new(scope))))
    }

    pub(super) fn count_reserved(&self, amount: NanoUsd) {
        self.reserved_total.fetch_add(amount.nano(), Ordering::Relaxed);
    }

    pub(super) fn count_unreserved(&self, amount: NanoUsd) {
        self.reserved_total.fetch_sub(amount.nano(), Ordering::Relaxed);
    }
}

/// The counters of one scope.
#[derive(Debug)]
pub(super) struct Account {
    scope: Scope,
    balances: Mutex<Balances>,
}

impl Account {
    fn new(scope: Scope) -> Self {
        Self { scope, balances: Mutex::default() }
    }

    pub(super) fn scope(&self) -> Scope {
        self.scope
    }

    /// A thread that panicked with the lock held cannot have left it half-changed: every change is made after the last
    /// call into foreign code, and none of them panics.
    pub(super) fn lock(&self) -> MutexGuard<'_, Balances> {
        self.balances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn position(window: SpendWindow) -> usize {
    match window {
        SpendWindow::Total => 0,
        SpendWindow::Monthly => 1,
        SpendWindow::Weekly => 2,
        SpendWindow::Daily => 3,
    }
}

/// The counters of one scope, by window.
#[derive(Debug, Default)]
pub(super) struct Balances([Window; 4]);

impl Balances {
    pub(super) fn period_mut(&mut self, window: SpendWindow, index: WindowIndex) -> &mut Period {
        self.0[position(window)].period_mut(index)
    }

    pub(super) fn standing(&self, window: SpendWindow, index: WindowIndex) -> Standing {
        let period = self.0[position(window)].0.iter().find(|period| period.index == index);
        period.map_or_else(Standing::default, |period| Standing {
            settled: narrow(period.total()),
            reserved: narrow(period.reserved + period.elsewhere),
        })
    }

    /// Holds `amount` in every window of `windows`.
    pub(super) fn reserve(&mut self, windows: &Windows, amount: NanoUsd, now: Instant) {
        for (window, (_, index)) in self.0.iter_mut().zip(windows.iter()) {
            let period = window.period_mut(index);
            period.open += 1;
            period.reserved += i128::from(amount.nano());
            period.used_at = now;
        }
    }

    /// Ends a hold of `held` that was made in `windows`, and settles `charged` of it, in the same windows.
    pub(super) fn settle(&mut self, windows: &Windows, held: NanoUsd, charged: NanoUsd) {
        for (window, (_, index)) in self.0.iter_mut().zip(windows.iter()) {
            let period = window.period_mut(index);
            period.open = period.open.saturating_sub(1);
            period.reserved -= i128::from(held.nano());
            period.unapplied += i128::from(charged.nano());
        }
    }
}

/// The periods of one kind of window, the most recently used first.
#[derive(Debug, Default)]
struct Window(Vec<Period>);

impl Window {
    fn period_mut(&mut self, index: WindowIndex) -> &mut Period {
        let place = match self.0.iter().position(|period| period.index == index) {
            Some(place) => place,
            None => {
                // Only what the database has too may be forgotten.
                if self.0.len() >= PERIODS
                    && let Some(oldest) = self.0.iter().rposition(Period::is_idle)
                {
                    self.0.remove(oldest);
                }
                self.0.push(Period::new(index));
                self.0.len() - 1
            }
        };
        self.0[..=place].rotate_right(1);
        &mut self.0[0]
    }
}

#[cfg(test)]
mod tests;
