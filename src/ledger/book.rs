//! The ledger as the rest of the house sees it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    accounts::{Accounts, Standing},
    aside::Aside,
    bank::Bank,
    banker::{Banker, FIRST_AGAIN, FIRST_RETRY, LeaseRequest, Posted, Progress, Shared, Sharing},
    journal::{self, Durability, Faults, Journal, JournalError},
    place::{Place, Unrecordable},
    recovery::{Recovered, RecoveryError, recover},
    reserve::{Want, Wants},
    station::place,
};
use crate::{
    domain::{Counter, InstanceId, NanoUsd, Scope, SpendWindow, WindowIndex},
    store::{Claim, Run},
};

/// Lease requests that may wait; more are answered as if the database were gone.
const MOST_ASKS: usize = 4_096;
/// How long a request waits for the database when no lease covers it.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for other instances to give back what they do not use.
const PATIENCE: Duration = Duration::from_millis(600);
/// How often it asks meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long nobody is asked again after that was of no use.
const IN_VAIN: Duration = Duration::from_secs(1);
/// How old what is known of a counter may be when it is shown.
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// A database that does not answer must not keep people waiting who only look.
const SHOW_TIMEOUT: Duration = Duration::from_secs(1);

/// How the ledger is kept.
pub struct LedgerSettings {
    /// Where the journal is.
    pub journal_dir: PathBuf,
    /// What a record survives.
    pub durability: Durability,
    /// Bytes of one journal segment.
    pub segment_bytes: u64,
    /// Places for records in flight or waiting.
    pub capacity: usize,
    /// How instances keep in touch; `None` when nobody else can have this database.
    pub sharing: Option<Sharing>,
    /// Effects that fail; for tests.
    pub faults: Faults,
}

impl LedgerSettings {
    /// The usual, with the journal in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            journal_dir: dir.into(),
            durability: Durability::Process,
            segment_bytes: journal::Settings::SEGMENT_BYTES,
            capacity: 100_000,
            sharing: None,
            faults: Faults::none(),
        }
    }
}

/// Counters, leases, journal, and the task that keeps them and the database together. Clones are the same ledger.
#[derive(Clone)]
pub struct Ledger {
    id: InstanceId,
    accounts: Arc<Accounts>,
    journal: Journal,
    durability: Durability,
    shared: Arc<Shared>,
    charges: mpsc::Sender<Posted>,
    asks: mpsc::Sender<LeaseRequest>,
    /// Set to when the banker must give up.
    closing: watch::Sender<Option<Instant>>,
    progress: watch::Receiver<Progress>,
}

/// How long a request has waited for a lease so far.
#[derive(Debug, Default)]
pub struct Patience {
    asked: u32,
    until: Option<Instant>,
}

impl Ledger {
    /// Opens the journal, settles what a process before this one left behind, and starts the banker on `tracker`.
    /// `on_live` is told how many instances are alive whenever that changes.
    ///
    /// # Errors
    /// When the journal is damaged, its disk or the database cannot be used, or another process took this one's place.
    pub async fn start<B: Bank>(
        bank: B,
        settings: LedgerSettings,
        tracker: &TaskTracker,
        on_live: impl Fn(u32) + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), RecoveryError> {
        let LedgerSettings { journal_dir, durability, segment_bytes, capacity, sharing, faults } = settings;
        let settings = |dir| journal::Settings { dir, durability, segment_bytes, faults: faults.clone() };
        let since = Accounts::moment();
        // Whoever is silent for longer than its leases are trusted holds none any more.
        let claim = sharing.map_or(Claim::Sole, |sharing| Claim::Silent(sharing.grace));
        let (journal, replay, registered, run) = match instance_in(&journal_dir)? {
            Some(id) => {
                let run = Run::at(place(&journal_dir)?);
                let registered = bank.register(id, run, claim).await?;
                let (journal, replay) = Journal::open(settings(journal_dir.clone()), registered.applied_seq)?;
                (journal, replay, registered, run)
            }
            None => {
                let (journal, replay) = Journal::open(settings(journal_dir.clone()), 0)?;
                let run = Run::at(place(&journal_dir)?);
                let registered = bank.register(instance(journal.id()), run, claim).await?;
                (journal, replay, registered, run)
            }
        };
        let id = registered.holder.instance;
        let mut aside = Aside::open(&journal_dir)?;
        let recovered = recover(&bank, &journal, replay, &registered, &mut aside).await?;
        let live = match sharing {
            Some(sharing) => bank.beat(registered.holder, sharing.live_within).await?,
            None => 1,
        };
        on_live(live);

        let accounts = Arc::new(Accounts::default());
        for refused in aside.charges() {
            accounts.owe(&refused.charge.record);
        }
        accounts.trust_leases(since, sharing.map(|sharing| sharing.grace));
        let capacity = capacity.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        let (charges, charges_out) = mpsc::channel(capacity);
        let (asks, asks_out) = mpsc::channel(MOST_ASKS);
        let (closing, closes) = watch::channel(None);
        let (reached, progress) = watch::channel(Progress::default());
        let refused = AtomicU64::new(aside.len() as u64);
        let shared = Arc::new(Shared { live: AtomicU32::new(live), refused, ..Shared::default() });
        let banker = Banker {
            bank: Arc::new(bank),
            id,
            run,
            holder: registered.holder,
            accounts: Arc::clone(&accounts),
            journal: journal.clone(),
            shared: Arc::clone(&shared),
            charges: charges_out,
            asks: asks_out,
            closing: closes,
            progress: reached,
            sharing,
            on_live: Box::new(on_live),
            batch: Vec::new(),
            seqs: Vec::new(),
            incoming: Vec::new(),
            to_tend: Vec::new(),
            aside,
            aside_at: Instant::now(),
            aside_wait: FIRST_AGAIN,
            received: 0,
            retry: FIRST_RETRY,
        };
        tracker.spawn(banker.run());
        Ok((Self { id, accounts, journal, durability, shared, charges, asks, closing, progress }, recovered))
    }

    /// This instance, as the database and the operator know it.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// The counters in memory.
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// Takes a place for one record; to be held from before a request is sent until it has ended.
    ///
    /// # Errors
    /// [`Unrecordable`] when every place is taken, when the ledger is closing, and when another process runs as this
    /// instance.
    pub fn try_place(&self) -> Result<Place, Unrecordable> {
        if self.shared.closing.load(Ordering::Relaxed) || self.is_usurped() {
            return Err(Unrecordable);
        }
        let permit = self.charges.clone().try_reserve_owned().map_err(|_| Unrecordable)?;
        Ok(Place {
            permit,
            shared: Arc::clone(&self.shared),
            journal: self.journal.clone(),
            durability: self.durability,
            ticket: None,
        })
    }

    /// Sees to it that this instance's leases cover `wants`, if the caps have room; the caller then tries again. When
    /// others hold what is missing they are asked to give it back, and the caller waits a moment, at most so long as
    /// `patience` lasts.
    ///
    /// # Errors
    /// [`Unrecordable`] when the database does not answer.
    pub async fn lease(&self, wants: &Wants, patience: &mut Patience) -> Result<(), Unrecordable> {
        // The first time says what there is, the second time takes it. Only then others must be waited for.
        if patience.asked >= 2 {
            let now = Instant::now();
            let until = *patience.until.get_or_insert(now + PATIENCE);
            if now >= until {
                for want in wants {
                    self.accounts
                        .with_period(want.counter, |period| period.in_vain_until = Some(now + IN_VAIN));
                }
            } else {
                sleep_until(until.min(now + ASK_AGAIN)).await;
            }
        }
        patience.asked = patience.asked.saturating_add(1);
        timeout(LEASE_TIMEOUT, self.ask(wants.clone())).await.map_err(|_| Unrecordable)?
    }

    async fn ask(&self, wants: Wants) -> Result<(), Unrecordable> {
        let (done, answer) = oneshot::channel();
        self.asks.try_send(LeaseRequest { wants, done }).map_err(|_| Unrecordable)?;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Unrecordable),
        }
    }

    /// Where a scope stands in one window, all instances together. When the database does not answer: as far as this
    /// process knows.
    pub async fn standing(&self, scope: Scope, window: SpendWindow, index: WindowIndex) -> Standing {
        let counter = Counter { scope, window, index };
        let alone = self.shared.live.load(Ordering::Relaxed) <= 1;
        let fresh = self.accounts.with_known_period(counter, |period| {
            period.known && (alone || period.told_at.is_some_and(|told| told.elapsed() < SHOWN_FOR))
        });
        if fresh != Some(true) {
            let look: Wants = [Want { counter, cap: None, need: NanoUsd::ZERO }].into_iter().collect();
            timeout(SHOW_TIMEOUT, self.ask(look)).await.ok();
        }
        self.accounts.standing(scope, window, index)
    }

    /// Charges that are not in the database yet, but for those that it refuses.
    pub fn pending(&self) -> u64 {
        let refused = self.shared.posted_refused.load(Ordering::Acquire);
        let applied = self.shared.applied.load(Ordering::Acquire);
        self.shared.posted.load(Ordering::Acquire).saturating_sub(applied).saturating_sub(refused)
    }

    /// Whether the database takes no charges now: the last write failed.
    pub fn is_blocked(&self) -> bool {
        self.shared.blocked.load(Ordering::Relaxed)
    }

    /// Whether another process runs as this instance, on a copy of its data directory. From then on nothing new is taken,
    /// until a restart; what had begun is still recorded.
    pub fn is_usurped(&self) -> bool {
        self.shared.usurped.load(Ordering::Relaxed)
    }

    /// Requests that wait for the banker to take leases.
    #[cfg(test)]
    pub(super) fn waiting_asks(&self) -> usize {
        self.asks.max_capacity() - self.asks.capacity()
    }

    /// Counts for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            applied: self.shared.applied.load(Ordering::Relaxed),
            failures: self.shared.failures.load(Ordering::Relaxed),
            leases_taken: self.shared.leases_taken.load(Ordering::Relaxed),
            fenced: self.shared.fenced.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            live_instances: self.shared.live.load(Ordering::Relaxed),
            journal: self.journal.stats(),
        }
    }

    /// Waits until everything recorded before this call is in the database, or refused by it; also ends when the banker
    /// has.
    pub async fn flushed(&self) {
        let target = self.shared.posted.load(Ordering::Acquire);
        let mut progress = self.progress.clone();
        // An error means that the banker is gone: there is nothing to wait for any more.
        progress.wait_for(|now| now.through >= target || now.ended.is_some()).await.ok();
    }

    /// Gives no more places, brings everything into the database, waits for places still held, gives the leases back, and
    /// ends the banker, at `deadline` at the latest. Answers how many charges are in the journal only, for the next start
    /// to apply: 0, unless the deadline cut it short.
    pub async fn close(&self, deadline: Instant) -> usize {
        self.shared.closing.store(true, Ordering::Relaxed);
        // The first deadline is what everybody waits for, unless a later call is in more of a hurry.
        self.closing.send_modify(|until| *until = Some(until.map_or(deadline, |old| old.min(deadline))));
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|now| now.ended.is_some());
        let left = match timeout_at(deadline + LEASE_TIMEOUT, ended).await {
            Ok(Ok(now)) => now.ended,
            _ => None,
        };
        if let Err(error) = self.journal.shut_down() {
            tracing::warn!(reason = %error, "journal.shut_down_failed");
        }
        left.unwrap_or_else(|| usize::try_from(self.pending()).unwrap_or(usize::MAX))
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the ledger has done so far; for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Charges in the database.
    pub applied: u64,
    /// Writes that failed, each of which is tried again.
    pub failures: u64,
    /// Leases taken or looked at.
    pub leases_taken: u64,
    /// Times that this instance found its leases given away.
    pub fenced: u64,
    /// Charges that the database refuses for what they are, set aside.
    pub refused: u64,
    /// Instances that share the database, this one included.
    pub live_instances: u32,
    /// The journal's own.
    pub journal: journal::Stats,
}

/// The instance whose journal is in `dir`, if there is a journal.
///
/// # Errors
/// When the directory is there and cannot be read.
pub fn instance_in(dir: &Path) -> Result<Option<InstanceId>, JournalError> {
    Ok(Journal::id_in(dir)?.map(instance))
}

/// The journal is what makes an instance: whoever has it can say what was spent.
fn instance(id: journal::JournalId) -> InstanceId {
    InstanceId::from_bytes(id.bytes())
}
