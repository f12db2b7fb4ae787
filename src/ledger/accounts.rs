//! The counters of spend: per scope and window what is settled and what is reserved, in memory.
//!
//! One process keeps them: they are loaded from the database when it starts ([`Accounts::load`]) and are the authority
//! while it runs; the database follows through the recorder. Nothing here waits for anything, so an outage of the
//! database does not touch admission.
//!
//! Invariants: all four windows are counted for every scope, capped or not, because a cap and its window may change at
//! any time; nothing is ever reset, as the index of a window is part of a counter's identity; the counters of a period
//! stay while a reservation made in it is open, however the wall clock moves. There is one account for every key and
//! tenant that was ever used, so the map is bounded by what is in the database.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use smallvec::SmallVec;

use crate::domain::{NanoUsd, Scope, SpendWindow, WindowIndex, Windows};

/// Scopes of one request that need no memory from the heap.
pub(super) const FEW: usize = 2;

/// How many periods of one window are remembered beside those with open reservations. The present and the one before
/// are enough for a clock that is right; the others are for one that is put back and forth.
const PERIODS: usize = 4;

/// All counters of spend. Shared by everything that admits or shows spend.
#[derive(Debug, Default)]
pub struct Accounts {
    accounts: RwLock<HashMap<Scope, Arc<Account>>>,
    reserved_total: AtomicI64,
}

/// Settled spend of one scope in one window: a row of the database, loaded at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledSpend {
    /// Whose.
    pub scope: Scope,
    /// In which kind of window.
    pub window: SpendWindow,
    /// Which day, week or month.
    pub index: WindowIndex,
    /// How much.
    pub settled: NanoUsd,
}

/// Where a scope stands in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Spent for good.
    pub settled: NanoUsd,
    /// Held by requests under way that began in the same window.
    pub reserved: NanoUsd,
}

impl Accounts {
    /// Takes over what the database has. A counter only ever grows, so where both know one the larger is right, and
    /// loading twice is harmless.
    pub fn load(&self, rows: impl IntoIterator<Item = SettledSpend>) {
        let mut rows: Vec<SettledSpend> = rows.into_iter().collect();
        // The newest last, so that they are remembered longest.
        rows.sort_by_key(|row| row.index);
        for row in rows {
            let account = self.account(row.scope);
            let mut balances = account.lock();
            let period = balances.window_mut(row.window).period_mut(row.index);
            period.settled = period.settled.max(i128::from(row.settled.nano()).max(0));
        }
    }

    /// Where `scope` stands in one window; nothing when it was never used.
    pub fn standing(&self, scope: Scope, window: SpendWindow, index: WindowIndex) -> Standing {
        let account = self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(&scope).cloned();
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

    fn account(&self, scope: Scope) -> Arc<Account> {
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

/// What a scope has settled and reserved, by window. Kept in 128 bits: no number of 64-bit amounts overflows it, so
/// what was added can always be taken away again exactly.
#[derive(Debug, Default)]
pub(super) struct Balances([Window; 4]);

impl Balances {
    fn window_mut(&mut self, window: SpendWindow) -> &mut Window {
        &mut self.0[position(window)]
    }

    /// Settled and reserved in a period; nothing when it is not known.
    pub(super) fn exact(&self, window: SpendWindow, index: WindowIndex) -> (i128, i128) {
        let periods = &self.0[position(window)].0;
        periods
            .iter()
            .find(|period| period.index == index)
            .map_or((0, 0), |period| (period.settled, period.reserved))
    }

    pub(super) fn standing(&self, window: SpendWindow, index: WindowIndex) -> Standing {
        let (settled, reserved) = self.exact(window, index);
        Standing { settled: narrow(settled), reserved: narrow(reserved) }
    }

    /// Holds `amount` in every window of `windows`.
    pub(super) fn reserve(&mut self, windows: &Windows, amount: NanoUsd) {
        for (window, (_, index)) in self.0.iter_mut().zip(windows.iter()) {
            let period = window.period_mut(index);
            period.open += 1;
            period.reserved += i128::from(amount.nano());
        }
    }

    /// Ends a hold of `held` that was made in `windows`, and settles `charged` of it, in the same windows.
    pub(super) fn settle(&mut self, windows: &Windows, held: NanoUsd, charged: NanoUsd) {
        for (window, (_, index)) in self.0.iter_mut().zip(windows.iter()) {
            let period = window.period_mut(index);
            period.open = period.open.saturating_sub(1);
            period.reserved -= i128::from(held.nano());
            period.settled += i128::from(charged.nano());
        }
    }
}

pub(super) fn narrow(nano: i128) -> NanoUsd {
    NanoUsd::new(i64::try_from(nano).unwrap_or(if nano < 0 { i64::MIN } else { i64::MAX }))
}

/// The periods of one kind of window, the most recently used first.
#[derive(Debug, Default)]
struct Window(Vec<Period>);

/// One day, week or month.
#[derive(Debug)]
struct Period {
    index: WindowIndex,
    /// Reservations made in it that are not yet settled.
    open: u64,
    settled: i128,
    reserved: i128,
}

impl Window {
    fn period_mut(&mut self, index: WindowIndex) -> &mut Period {
        let place = match self.0.iter().position(|period| period.index == index) {
            Some(place) => place,
            None => {
                // Only periods that nobody will settle into may be forgotten.
                if self.0.len() >= PERIODS
                    && let Some(oldest) = self.0.iter().rposition(|period| period.open == 0)
                {
                    self.0.remove(oldest);
                }
                self.0.push(Period { index, open: 0, settled: 0, reserved: 0 });
                self.0.len() - 1
            }
        };
        self.0[..=place].rotate_right(1);
        &mut self.0[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Timestamp, VirtualKeyId, Zone};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    #[test]
    fn a_scope_that_was_never_used_stands_at_nothing() {
        let accounts = Accounts::default();
        let scope = Scope::from(VirtualKeyId::generate());
        assert_eq!(
            accounts.standing(
                scope,
                SpendWindow::Daily,
                SpendWindow::Daily.index(at("2026-11-21"), Zone::UTC)
            ),
            Standing { settled: NanoUsd::ZERO, reserved: NanoUsd::ZERO }
        );
        assert!(accounts.is_empty(), "looking must not make an account");
    }

    #[test]
    fn loading_takes_each_window_apart_and_twice_is_as_good_as_once() {
        let accounts = Accounts::default();
        let scope = Scope::from(VirtualKeyId::generate());
        let now = at("2026-11-21");
        let rows = [(SpendWindow::Total, 9), (SpendWindow::Monthly, 7), (SpendWindow::Daily, 3)].map(
            |(window, nano)| SettledSpend {
                scope,
                window,
                index: window.index(now, Zone::UTC),
                settled: NanoUsd::new(nano),
            },
        );
        accounts.load(rows);
        accounts.load(rows);
        let settled = |window| accounts.standing(scope, window, window.index(now, Zone::UTC)).settled.nano();
        assert_eq!(SpendWindow::ALL.map(settled), [9, 7, 0, 3]);
        assert_eq!(
            accounts.standing(
                scope,
                SpendWindow::Daily,
                SpendWindow::Daily.index(at("2026-11-22"), Zone::UTC)
            ),
            Standing::default()
        );
    }

    #[test]
    fn only_periods_without_open_reservations_are_forgotten_the_least_used_first() {
        let mut window = Window::default();
        window.period_mut(WindowIndex(0)).open = 1;
        window.period_mut(WindowIndex(0)).settled = 5;
        for index in 1..=100 {
            window.period_mut(WindowIndex(index)).settled = index.into();
        }
        assert_eq!(window.0.len(), PERIODS);
        assert_eq!(window.period_mut(WindowIndex(0)).settled, 5);
        assert_eq!(window.period_mut(WindowIndex(99)).settled, 99);
        assert_eq!(window.period_mut(WindowIndex(1)).settled, 0);
    }
}
