//! The one task that speaks to the database: it brings charges into it, takes leases and gives them back.
//!
//! One task, so that what memory knows of a counter and what the database has follow each other step by step. When the
//! database is down, charges wait here and in their queue, nothing is lost, and it is tried again until it is back;
//! leases that are held go on being used, new ones are not to be had. Each step may be cut at any moment: whatever
//! reached the database is found there again, because every call may be repeated.

mod apply;
mod leases;
mod refused;
mod slices;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{accounts::Accounts, aside::Aside, bank::Bank, journal::Journal, reserve::Wants};
use crate::{
    domain::{Counter, InstanceId},
    store::{Charge, Holder, LeaseError, Run, StoreError},
};

/// Most charges in one transaction.
const BATCH: usize = 500;
/// Longest time that a charge waits for others to be written with.
const GATHER: Duration = Duration::from_millis(50);
/// Longest time that one transaction may take; after it the outcome counts as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait after a first failure; doubled after each further one.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Longest wait between two tries.
const LAST_RETRY: Duration = Duration::from_secs(2);

pub(super) use self::refused::FIRST_AGAIN;

/// A charge on its way into the database.
pub(super) struct Posted {
    pub(super) charge: Charge,
    /// Its CLOSE in the journal; `None` when the journal could not take it.
    pub(super) seq: Option<u64>,
}

/// Requests wait for leases.
pub(super) struct LeaseRequest {
    pub(super) wants: Wants,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

/// How instances that share a database keep in touch.
#[derive(Clone, Copy, Debug)]
pub struct Sharing {
    /// How often this instance says that it lives.
    pub beat: Duration,
    /// How long after its last word an instance counts as alive.
    pub live_within: Duration,
    /// How long leases are used without a word from the database. Whoever wants to give the leases of a silent instance
    /// back must wait longer.
    pub grace: Duration,
}

/// What the banker has reached.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// So many charges, in the order of the queue, are in the database without a gap.
    pub(super) through: u64,
    /// Set when the banker has ended: how many charges are not in the database.
    pub(super) ended: Option<usize>,
}

/// What others may read of the banker.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) posted: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) leases_taken: AtomicU64,
    pub(super) fenced: AtomicU64,
    /// Charges that the database refuses, now.
    pub(super) refused: AtomicU64,
    /// Of those, the ones that were posted here.
    pub(super) posted_refused: AtomicU64,
    pub(super) live: AtomicU32,
    pub(super) blocked: AtomicBool,
    pub(super) usurped: AtomicBool,
    pub(super) closing: AtomicBool,
    pub(super) ended: AtomicBool,
}

pub(super) struct Banker<B> {
    pub(super) bank: Arc<B>,
    pub(super) id: InstanceId,
    pub(super) run: Run,
    pub(super) holder: Holder,
    pub(super) accounts: Arc<Accounts>,
    pub(super) journal: Journal,
    pub(super) shared: Arc<Shared>,
    pub(super) charges: mpsc::Receiver<Posted>,
    pub(super) asks: mpsc::Receiver<LeaseRequest>,
    pub(super) closing: watch::Receiver<Option<Instant>>,
    pub(super) progress: watch::Sender<Progress>,
    /// `None`: nobody else can have this database.
    pub(super) sharing: Option<Sharing>,
    /// Where the number of live instances is told.
    pub(super) on_live: Box<dyn Fn(u32) + Send + Sync>,
    /// Taken from the queue and not yet in the database.
    pub(super) batch: Vec<Charge>,
    /// The CLOSE of each in the journal.
    pub(super) seqs: Vec<Option<u64>>,
    /// Where the queue is emptied into.
    pub(super) incoming: Vec<Posted>,
    /// Counters whose leases are still to be looked at in this round.
    pub(super) to_tend: Vec<Counter>,
    /// What the database refused.
    pub(super) aside: Aside,
    /// When that is tried again, and how much later after that.
    pub(super) aside_at: Instant,
    pub(super) aside_wait: Duration,
    /// How many were ever taken from the queue.
    pub(super) received: u64,
    pub(super) retry: Duration,
}

/// Why a call did not succeed.
enum Failure {
    /// The database does not answer: nothing can be written for now.
    Down,
    /// This instance's epoch is over.
    Fenced,
    /// Something in what was written was refused.
    Refused(StoreError),
}

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Fenced => Self::Fenced,
            LeaseError::Store(error) if error.is_an_answer() => Self::Refused(error),
            LeaseError::Store(_) => Self::Down,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        LeaseError::Store(error).into()
    }
}

/// Waits for one call to the bank, at most so long that it can be taken for lost.
async fn call<T, E>(asked: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    match timeout(CALL_TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::Down),
    }
}

impl<B: Bank> Banker<B> {
    /// Until the queue is closed and empty, or the deadline of shutdown ends.
    pub(super) async fn run(mut self) {
        let mut closing = self.closing.clone();
        let mut work = Box::pin(self.work());
        let finished = tokio::select! {
            () = &mut work => true,
            () = deadline(&mut closing) => false,
        };
        // What a call was doing when it was cut is rolled back by its transaction.
        drop(work);
        if !finished {
            self.charges.close();
        }
        self.shared.ended.store(true, Ordering::Release);
        let left = self.batch.len() + self.charges.len();
        if left > 0 {
            tracing::warn!(charges = left, "ledger.left_in_journal");
        }
        self.progress.send_modify(|progress| progress.ended = Some(left));
    }

    async fn work(&mut self) {
        let mut apply_at = Instant::now();
        let mut beat_at = Instant::now();
        let mut tend_at = Instant::now();
        let mut closing = self.closing.clone();
        let mut open = true;
        // Whether whoever waited for a lease was served since the last turn of tending.
        let mut served = false;
        loop {
            let space = BATCH - self.batch.len();
            let aside_at = self.aside_at;
            // Who waits comes between two turns of tending, and a turn between two of those who wait.
            let tends = served || self.asks.is_empty();
            // Not biased: no branch may starve the others, however many ask for leases.
            tokio::select! {
                Some(request) = self.asks.recv() => {
                    self.take_leases(request).await;
                    served = true;
                }
                () = sleep_until(beat_at), if self.sharing.is_some() => {
                    self.beat().await;
                    beat_at = Instant::now() + self.sharing.map_or(LAST_RETRY, |sharing| sharing.beat);
                }
                () = sleep_until(apply_at), if !self.batch.is_empty() => apply_at = self.apply().await,
                () = sleep_until(aside_at), if !self.aside.charges().is_empty() => self.retry_refused().await,
                () = sleep_until(tend_at), if tends => {
                    tend_at = Instant::now() + self.tend_leases().await;
                    served = false;
                }
                count = self.charges.recv_many(&mut self.incoming, space), if space > 0 => {
                    for Posted { charge, seq } in self.incoming.drain(..) {
                        self.batch.push(charge);
                        self.seqs.push(seq);
                    }
                    if count == 0 {
                        // Closed, and every place that was held has been used or given back.
                        if !self.batch.is_empty() {
                            sleep_until(apply_at).await;
                            apply_at = self.apply().await;
                        }
                        if self.batch.is_empty() {
                            return self.sign_off().await;
                        }
                        continue;
                    }
                    self.received += count as u64;
                    let first = self.batch.len() == count;
                    if self.batch.len() == BATCH && self.retry == FIRST_RETRY {
                        apply_at = Instant::now();
                    } else if first {
                        apply_at = Instant::now() + GATHER;
                    }
                }
                () = closes(&mut closing), if open => {
                    open = false;
                    self.charges.close();
                }
            }
        }
    }

    /// Gives every lease back and says that this instance is gone on purpose.
    async fn sign_off(&mut self) {
        if let Err(Failure::Down | Failure::Refused(_)) = call(self.bank.stop(self.holder)).await {
            // Its leases count as spent until it starts again.
            tracing::warn!("ledger.leases_not_returned");
        }
    }

    fn set_blocked(&self, blocked: bool) {
        if self.shared.blocked.swap(blocked, Ordering::Relaxed) != blocked {
            if blocked {
                tracing::warn!(pending = self.batch.len(), "ledger.blocked");
            } else {
                tracing::info!("ledger.unblocked");
            }
        }
    }
}

/// Ends when shutdown has begun, or nobody is left who could begin it.
async fn closes(closing: &mut watch::Receiver<Option<Instant>>) {
    drop(closing.wait_for(Option::is_some).await);
}

/// Ends when the deadline of shutdown has passed; never while there is none.
async fn deadline(closing: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let until = *closing.borrow_and_update();
        let changed = match until {
            // A later call may bring it forward.
            Some(until) => tokio::select! {
                () = sleep_until(until) => return,
                changed = closing.changed() => changed,
            },
            None => closing.changed().await,
        };
        if changed.is_err() {
            // Nobody is left who could set one.
            return std::future::pending().await;
        }
    }
}
