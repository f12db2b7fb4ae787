//! One counter in memory: a scope's spend in one day, week, month or for ever.

use tokio::time::Instant;

use crate::{
    domain::{NanoUsd, WindowIndex},
    store::CounterState,
};

/// What is known of one counter. Kept in 128 bits: no number of 64-bit amounts overflows it, so what was added can always
/// be taken away again exactly.
///
/// `settled`, `granted` and `elsewhere` are the database's figures as of this process' last word with it; `unapplied` and
/// `reserved` are this process' own. While `reserved + unapplied ≤ granted`, a hard cap holds whatever others do.
#[derive(Debug)]
pub(in crate::ledger) struct Period {
    pub(in crate::ledger) index: WindowIndex,
    /// Whether the database was ever asked.
    pub(in crate::ledger) known: bool,
    /// In the database, of all instances.
    pub(in crate::ledger) settled: i128,
    /// Settled here and not yet in the database.
    pub(in crate::ledger) unapplied: i128,
    /// Held by requests under way here.
    pub(in crate::ledger) reserved: i128,
    /// Reservations made in it that are not yet settled.
    pub(in crate::ledger) open: u64,
    /// This instance's lease: its durable part of the cap.
    pub(in crate::ledger) granted: i128,
    /// The leases of all others.
    pub(in crate::ledger) elsewhere: i128,
    /// The hard cap it was last admitted under.
    pub(in crate::ledger) cap: Option<i128>,
    /// The largest amount that was lately asked for at once.
    pub(in crate::ledger) appetite: i128,
    /// When it was last admitted or refused in.
    pub(in crate::ledger) used_at: Instant,
    /// When the database was last asked.
    pub(in crate::ledger) told_at: Option<Instant>,
    /// Until when asking others to give back is of no use: they did not, a moment ago.
    pub(in crate::ledger) in_vain_until: Option<Instant>,
}

impl Period {
    pub(super) fn new(index: WindowIndex) -> Self {
        Self {
            index,
            known: false,
            settled: 0,
            unapplied: 0,
            reserved: 0,
            open: 0,
            granted: 0,
            elsewhere: 0,
            cap: None,
            appetite: 0,
            used_at: Instant::now(),
            told_at: None,
            in_vain_until: None,
        }
    }

    /// Whether forgetting it would lose anything that the database does not have.
    pub(super) fn is_idle(&self) -> bool {
        self.open == 0 && self.unapplied == 0 && self.granted == 0
    }

    /// Everything settled, as far as this process knows.
    pub(in crate::ledger) fn total(&self) -> i128 {
        self.settled + self.unapplied
    }

    /// What the lease must cover now.
    pub(in crate::ledger) fn used(&self) -> i128 {
        self.reserved + self.unapplied
    }

    /// Takes over what the database says. A counter only ever grows, so an answer that was overtaken by a newer one is
    /// recognised.
    pub(in crate::ledger) fn learn(&mut self, state: &CounterState, now: Instant) {
        let settled = i128::from(state.settled.nano());
        if self.known && settled < self.settled {
            return;
        }
        self.known = true;
        self.settled = settled;
        self.granted = i128::from(state.granted.nano());
        self.elsewhere = i128::from(state.leased.nano()) - self.granted;
        self.told_at = Some(now);
    }
}

pub(in crate::ledger) fn narrow(nano: i128) -> NanoUsd {
    NanoUsd::new(i64::try_from(nano).unwrap_or(if nano < 0 { i64::MIN } else { i64::MAX }))
}
