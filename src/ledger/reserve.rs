//! Admission and settlement: an attempt's worst case is held against every cap in scope before it is sent, and what it
//! cost is settled afterwards.
//!
//! Invariants: all scopes are reserved together or none; a [`Reservation`] ends exactly once, by
//! [`Reservation::settle`], [`Reservation::release`] or being dropped, in the windows in which it was made, and by no
//! clock; while a hard cap is in scope it never settles more than it holds. Locks are taken in the order of the
//! scopes, so requests that share some of them cannot wait for one another in a circle.

use std::{fmt, sync::Arc};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::accounts::{Account, Accounts, FEW, Period, narrow};
use crate::domain::{CapMode, Counter, NanoUsd, Scope, SpendCap, Timestamp, Windows, Zone};

/// A scope and the cap that it has now. The cap comes with each request, so a change of it holds from the next on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeCap {
    /// Whose.
    pub scope: Scope,
    /// Its cap; `None` is unlimited, and counted all the same.
    pub cap: Option<SpendCap>,
}

/// What is asked for before an attempt.
pub struct Ask<'a> {
    /// Every scope of the request, the narrowest first: the first that refuses is named. A scope may stand there more
    /// than once, with several caps.
    pub scopes: &'a [ScopeCap],
    /// When the request arrived.
    pub at: Timestamp,
    /// Where the tenant's days begin.
    pub zone: Zone,
    /// Called at most once each time, with locks held, so it must only calculate: given what is left under all hard caps
    /// (`None`: unlimited) it says how much to reserve, or the smallest amount that would have done.
    pub fit: &'a dyn Fn(Option<NanoUsd>) -> Result<NanoUsd, NanoUsd>,
}

/// Whether waiting for requests under way could help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What is spent leaves no room.
    Reached,
    /// Only reservations of requests under way stand in the way.
    Reserved,
}

/// Why nothing was reserved: the first scope that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether waiting could help.
    pub kind: RefusalKind,
    /// Whose cap it is.
    pub scope: Scope,
    /// The cap.
    pub cap: SpendCap,
    /// Spent under it.
    pub settled: NanoUsd,
    /// Held under it by requests under way.
    pub reserved: NanoUsd,
    /// The least that this request needed; nothing when the cap was spent already.
    pub needed: NanoUsd,
    /// When its window ends; `None` when it never does.
    pub resets_at: Option<Timestamp>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, cap, settled, reserved, needed, .. } = self;
        write!(
            f,
            "the {} spend cap of `{scope}` has no room for this request: cap {}, spent {}, reserved {}, needed {} \
             micro-USD; ",
            cap.window.as_str(),
            cap.amount.as_micro(),
            settled.as_micro(),
            reserved.as_micro(),
            needed.as_micro()
        )?;
        match (self.kind, self.resets_at) {
            (RefusalKind::Reserved, resets) => {
                f.write_str("try again when requests under way have ended")?;
                resets.map_or(Ok(()), |moment| write!(f, "; the cap resets at {moment}"))
            }
            (RefusalKind::Reached, Some(moment)) => write!(f, "raise the cap or wait until {moment}"),
            (RefusalKind::Reached, None) => f.write_str("raise the cap"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why nothing was reserved.
#[derive(Clone, Debug)]
pub enum Stop {
    /// A cap has no room.
    Refused(Box<Refusal>),
    /// The caps may have room, but this instance's leases do not cover it: [`super::Ledger::lease`] asks the database,
    /// then it is tried again.
    Lease(Wants),
    /// The database has not been heard of for so long that another may have been given this instance's leases.
    OutOfTouch,
}

/// What the leases of this instance must cover besides what they cover now.
pub type Wants = Vec<Want>;

/// What one lease must cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Of which counter.
    pub counter: Counter,
    /// The hard cap on it; `None` when it is only to be known.
    pub cap: Option<NanoUsd>,
    /// How much more must fit.
    pub need: NanoUsd,
}

/// What a settlement came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was settled.
    pub charged: NanoUsd,
    /// What a hard cap kept from being settled: the part of the cost above the reservation.
    pub clamped: NanoUsd,
}

impl Accounts {
    /// Reserves what `ask` needs in all of its scopes, or changes nothing.
    ///
    /// # Errors
    /// A [`Refusal`] names the first scope without room; a cap whose settled spend has reached it refuses everything, also
    /// what costs nothing. The other stops say what must happen before it can be decided.
    pub fn reserve(self: &Arc<Self>, ask: Ask<'_>) -> Result<Reservation, Stop> {
        let windows = Windows::of(ask.at, ask.zone);
        let now = Instant::now();
        let accounts = self.accounts(ask.scopes.iter().map(|each| each.scope));
        let mut locked: SmallVec<[_; FEW]> = accounts.iter().map(|account| account.lock()).collect();
        let place_of = |scope: Scope| {
            let place = accounts.iter().position(|account| account.scope() == scope);
            place.expect("the accounts were looked up from these scopes")
        };
        let caps = || ask.scopes.iter().filter_map(|each| each.cap.map(|cap| (each.scope, cap)));
        let counter =
            |scope, cap: SpendCap| Counter { scope, window: cap.window, index: windows.index(cap.window) };

        let mut wants = Wants::new();
        let mut left: Option<i128> = None;
        for (scope, cap) in caps() {
            let counter = counter(scope, cap);
            let period = locked[place_of(scope)].period_mut(counter.window, counter.index);
            let amount = i128::from(cap.amount.nano());
            period.used_at = now;
            let hard = cap.mode == CapMode::Hard;
            if hard {
                period.cap = Some(amount);
            }
            if !period.known {
                wants.push(Want { counter, cap: hard.then_some(cap.amount), need: NanoUsd::ZERO });
            } else if period.total() >= amount && wants.is_empty() {
                // A narrower scope that is not known yet might refuse first.
                return Err(refused(RefusalKind::Reached, scope, cap, period, NanoUsd::ZERO, &ask));
            } else if hard {
                let here = (amount - period.total() - period.reserved - period.elsewhere).max(0);
                left = Some(left.map_or(here, |least| least.min(here)));
            }
        }
        if !wants.is_empty() {
            return Err(Stop::Lease(wants));
        }
        if left.is_some() && !self.is_in_touch() {
            return Err(Stop::OutOfTouch);
        }

        // Whichever it says is checked: a wrong answer can be refused here, never overdraw.
        let (Ok(need) | Err(need)) = (ask.fit)(left.map(narrow));
        let need = need.max(NanoUsd::ZERO);
        let wanted = i128::from(need.nano());
        for (scope, cap) in caps().filter(|(_, cap)| cap.mode == CapMode::Hard) {
            let counter = counter(scope, cap);
            let period = locked[place_of(scope)].period_mut(counter.window, counter.index);
            let amount = i128::from(cap.amount.nano());
            period.appetite = period.appetite.max(wanted);
            if period.total() + period.reserved + wanted > amount {
                let kind = match period.total() + wanted > amount {
                    true => RefusalKind::Reached,
                    false => RefusalKind::Reserved,
                };
                return Err(refused(kind, scope, cap, period, need, &ask));
            }
            // What others hold counts too: a cap that was lowered leaves less than all leases together.
            let everywhere = period.total() + period.reserved + period.elsewhere + wanted;
            if period.used() + wanted > period.granted || everywhere > amount {
                if period.in_vain_until.is_some_and(|until| until > now) {
                    return Err(refused(RefusalKind::Reserved, scope, cap, period, need, &ask));
                }
                wants.push(Want { counter, cap: Some(cap.amount), need });
            }
        }
        if !wants.is_empty() {
            return Err(Stop::Lease(wants));
        }

        for balances in &mut locked {
            balances.reserve(&windows, need, now);
        }
        drop(locked);
        self.count_reserved(need);
        Ok(Reservation {
            ledger: Arc::clone(self),
            accounts,
            windows,
            amount: need,
            clamp: left.is_some(),
            open: true,
        })
    }
}

fn refused(
    kind: RefusalKind,
    scope: Scope,
    cap: SpendCap,
    period: &Period,
    needed: NanoUsd,
    ask: &Ask<'_>,
) -> Stop {
    Stop::Refused(Box::new(Refusal {
        kind,
        scope,
        cap,
        settled: narrow(period.total()),
        reserved: narrow(period.reserved + period.elsewhere),
        needed,
        resets_at: cap.window.resets_at(ask.at, ask.zone),
    }))
}

/// An amount held in every scope of a request, from before it is sent until it is settled or released.
#[must_use = "dropping a reservation releases it"]
pub struct Reservation {
    ledger: Arc<Accounts>,
    accounts: SmallVec<[Arc<Account>; FEW]>,
    windows: Windows,
    amount: NanoUsd,
    clamp: bool,
    open: bool,
}

impl Reservation {
    /// How much is held.
    pub const fn amount(&self) -> NanoUsd {
        self.amount
    }

    /// Whether a hard cap is in scope, so that no more than [`Reservation::amount`] will be settled.
    pub const fn is_clamped(&self) -> bool {
        self.clamp
    }

    /// Settles the cost of the attempt in all scopes and releases the rest. Under a hard cap at most what is held is
    /// charged; otherwise all of it.
    pub fn settle(mut self, actual: NanoUsd) -> Settled {
        let actual = actual.max(NanoUsd::ZERO);
        let charged = if self.clamp { actual.min(self.amount) } else { actual };
        self.end(charged);
        Settled { charged, clamped: actual.minus(charged) }
    }

    /// Gives everything back: nothing was sent, or it was refused.
    pub fn release(self) {
        drop(self);
    }

    fn end(&mut self, charged: NanoUsd) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        // One account after the other: each becomes freer, so nothing can be admitted in between that could not be
        // admitted after all of them.
        for account in &self.accounts {
            account.lock().settle(&self.windows, self.amount, charged);
        }
        self.ledger.count_unreserved(self.amount);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end(NanoUsd::ZERO);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("amount", &self.amount)
            .field("clamp", &self.clamp)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
