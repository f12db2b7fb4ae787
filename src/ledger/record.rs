//! Usage records on their way into the database: a bounded queue, one writer, batches.
//!
//! Invariants: a place in the queue is taken before a request is sent, so recording at its end never blocks and never
//! fails; what is in the queue leaves it only into the database, or is counted and reported when the deadline of
//! shutdown ends. When the database is down the writer keeps its batch and tries again until it is back; meanwhile
//! the queue fills, and when it is full no place is given: the gateway refuses instead of losing a record. The queue
//! is memory: a process that is killed takes with it what it had not written, which is the last moments' records while
//! the database is up.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{domain::UsageRecord, store::StoreError};

mod writer;

/// Where records go in the end.
pub trait Sink: Send + Sync + 'static {
    /// Writes all of `records` or none. It must be idempotent by request id: when the outcome of a write is not known
    /// (the connection broke during the commit, it took too long), the same records are given again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database does not answer; anything else is taken as a refusal of some
    /// record among them, and they are tried one by one.
    fn write(&self, records: &[UsageRecord]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// There is no place for another record: the database has not taken any for too long, or the recorder is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue of usage records is full; look at the database")]
pub struct QueueFull;

/// The queue of records and its writer. Clones are the same recorder.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<UsageRecord>,
    shared: Arc<Shared>,
    /// Set to when the writer must give up.
    closing: watch::Sender<Option<Instant>>,
    progress: watch::Receiver<Progress>,
}

/// What the writer has reached.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// So many records, in the order of the queue, are in the database without a gap.
    through: u64,
    /// Set when the writer has ended: how many records it could not write.
    ended: Option<usize>,
}

#[derive(Debug, Default)]
struct Shared {
    recorded: AtomicU64,
    written: AtomicU64,
    failures: AtomicU64,
    blocked: AtomicBool,
    closing: AtomicBool,
    ended: AtomicBool,
}

impl Recorder {
    /// Starts the writer on `tracker`, with places for `capacity` records in flight or waiting.
    pub fn start<S: Sink>(sink: S, capacity: usize, tracker: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(capacity.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
        let (closing, closes) = watch::channel(None);
        let (reached, progress) = watch::channel(Progress::default());
        let shared = Arc::new(Shared::default());
        let writer = writer::Writer::new(receiver, sink, Arc::clone(&shared), closes, reached);
        tracker.spawn(writer.run());
        Self { sender, shared, closing, progress }
    }

    /// Takes a place for one record; to be held from before a request is sent until it has ended.
    ///
    /// # Errors
    /// [`QueueFull`] when every place is taken, and when the recorder is closing.
    pub fn try_place(&self) -> Result<Place, QueueFull> {
        if self.shared.closing.load(Ordering::Relaxed) {
            return Err(QueueFull);
        }
        let permit = self.sender.clone().try_reserve_owned().map_err(|_| QueueFull)?;
        Ok(Place { permit, shared: Arc::clone(&self.shared) })
    }

    /// Records that are not in the database yet.
    pub fn pending(&self) -> u64 {
        let written = self.shared.written.load(Ordering::Acquire);
        self.shared.recorded.load(Ordering::Acquire).saturating_sub(written)
    }

    /// Places that are still to be had.
    pub fn free_places(&self) -> usize {
        self.sender.capacity()
    }

    /// Whether the database takes no records now: the last write failed.
    pub fn is_blocked(&self) -> bool {
        self.shared.blocked.load(Ordering::Relaxed)
    }

    /// Records written so far; for metrics.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Writes that failed so far, each of which is tried again; for metrics.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Waits until everything recorded before this call is in the database; also ends when the writer has.
    pub async fn flushed(&self) {
        let target = self.shared.recorded.load(Ordering::Acquire);
        let mut progress = self.progress.clone();
        // An error means that the writer is gone: there is nothing to wait for any more.
        progress.wait_for(|now| now.through >= target || now.ended.is_some()).await.ok();
    }

    /// Gives no more places, writes everything that is recorded, waits for places still held, and ends the writer, at
    /// `deadline` at the latest. Answers how many records could not be written: 0, unless the deadline cut it short.
    pub async fn close(&self, deadline: Instant) -> usize {
        self.shared.closing.store(true, Ordering::Relaxed);
        // The first deadline is what everybody waits for, unless a later call is in more of a hurry.
        self.closing.send_modify(|until| *until = Some(until.map_or(deadline, |old| old.min(deadline))));
        let mut progress = self.progress.clone();
        match progress.wait_for(|now| now.ended.is_some()).await.map(|now| now.ended) {
            Ok(Some(lost)) => lost,
            _ => usize::try_from(self.pending()).unwrap_or(usize::MAX),
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// A place in the queue, for exactly one record. Dropped unused it is free again.
#[must_use = "dropping a place gives it back"]
pub struct Place {
    permit: mpsc::OwnedPermit<UsageRecord>,
    shared: Arc<Shared>,
}

impl Place {
    /// Puts `record` into the queue; never blocks.
    pub fn record(self, record: UsageRecord) {
        if self.shared.ended.load(Ordering::Acquire) {
            // Only after the deadline of shutdown: everything else waits for places that are held.
            tracing::error!(request_id = %record.request_id, "ledger.record_lost");
        }
        // Before it is sent, so that nobody counts it as written first.
        self.shared.recorded.fetch_add(1, Ordering::AcqRel);
        self.permit.send(record);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

/// Most records in one write.
const BATCH: usize = 500;
/// Longest time that a record waits for others to be written with.
const GATHER: Duration = Duration::from_millis(50);
/// Longest time that one write may take; after it the outcome counts as unknown.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait after a first failure; doubled after each further one.
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Longest wait between two tries.
const LAST_RETRY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
