//! The one task that takes records from the queue and writes them.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{BATCH, FIRST_RETRY, GATHER, LAST_RETRY, Progress, Shared, Sink, WRITE_TIMEOUT};
use crate::{domain::UsageRecord, store::StoreError};

pub(super) struct Writer<S> {
    receiver: mpsc::Receiver<UsageRecord>,
    sink: S,
    shared: Arc<Shared>,
    closing: watch::Receiver<Option<Instant>>,
    progress: watch::Sender<Progress>,
    /// Taken from the queue and not yet written.
    batch: Vec<UsageRecord>,
    /// How many were ever taken from the queue.
    received: u64,
}

/// Why a write did not succeed.
enum Failure {
    /// The database does not answer: nothing will be written for now.
    Down,
    /// Something among the records was refused, or made the sink panic.
    Refused,
}

impl<S: Sink> Writer<S> {
    pub(super) fn new(
        receiver: mpsc::Receiver<UsageRecord>,
        sink: S,
        shared: Arc<Shared>,
        closing: watch::Receiver<Option<Instant>>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self { receiver, sink, shared, closing, progress, batch: Vec::with_capacity(BATCH), received: 0 }
    }

    /// Until the queue is closed and empty, or the deadline of shutdown ends.
    pub(super) async fn run(mut self) {
        let mut closing = self.closing.clone();
        let mut work = Box::pin(self.work());
        let finished = tokio::select! {
            () = &mut work => true,
            () = deadline(&mut closing) => false,
        };
        // What a write was doing when it was cut is rolled back by its transaction.
        drop(work);
        if !finished {
            self.receiver.close();
        }
        self.shared.ended.store(true, Ordering::Release);
        let lost = self.batch.len() + self.receiver.len();
        if lost > 0 {
            tracing::error!(records = lost, "ledger.records_not_written");
        }
        self.progress.send_modify(|progress| progress.ended = Some(lost));
    }

    async fn work(&mut self) {
        let mut retry = FIRST_RETRY;
        while self.gather().await {
            let before = self.batch.len();
            self.write_batch().await;
            if self.batch.is_empty() {
                self.progress.send_modify(|progress| progress.through = self.received);
                retry = FIRST_RETRY;
                continue;
            }
            if self.batch.len() < before {
                retry = FIRST_RETRY;
            }
            // Closing does not make it shorter: a database that is down gains nothing from haste.
            let until = Instant::now() + retry;
            self.fill(until).await;
            sleep_until(until).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Sees to it that there is something to write: the first record waits a moment for others, a batch left from a
    /// failure has waited enough. False when the queue is closed and everything is written.
    async fn gather(&mut self) -> bool {
        if !self.batch.is_empty() {
            return true;
        }
        if !self.receive_first().await {
            return false;
        }
        self.fill(Instant::now() + GATHER).await;
        true
    }

    /// Takes records until the batch is full, the queue is closed and empty, or `until`.
    async fn fill(&mut self, until: Instant) {
        while self.batch.len() < BATCH {
            let space = BATCH - self.batch.len();
            match timeout_at(until, self.receiver.recv_many(&mut self.batch, space)).await {
                Ok(count) if count > 0 => self.received += count as u64,
                _ => return,
            }
        }
    }

    async fn receive_first(&mut self) -> bool {
        let mut closing = self.closing.clone();
        let arrived = tokio::select! {
            first = self.receiver.recv() => Some(first),
            // An error means that no recorder is left, which ends it just as well.
            () = async { drop(closing.wait_for(Option::is_some).await) } => None,
        };
        let first = match arrived {
            Some(first) => first,
            None => {
                self.receiver.close();
                // What is queued, and what comes from places that are still held.
                self.receiver.recv().await
            }
        };
        self.received += u64::from(first.is_some());
        self.batch.extend(first);
        !self.batch.is_empty()
    }

    /// Leaves in the batch what could not be written.
    async fn write_batch(&mut self) {
        match self.write(&self.batch).await {
            Ok(()) => {
                let count = self.batch.len();
                self.batch.clear();
                self.count_written(count);
            }
            // A record that cannot be written must not hold up those around it.
            Err(Failure::Refused) if self.batch.len() > 1 => self.write_one_by_one().await,
            Err(Failure::Refused) => self.set_blocked(false),
            Err(Failure::Down) => self.set_blocked(true),
        }
    }

    async fn write_one_by_one(&mut self) {
        let mut place = 0;
        while place < self.batch.len() {
            match self.write(&self.batch[place..=place]).await {
                Ok(()) => {
                    self.batch.remove(place);
                    self.count_written(1);
                }
                Err(Failure::Refused) => place += 1,
                Err(Failure::Down) => return self.set_blocked(true),
            }
        }
        // With a batch full of refused records nothing moves any more.
        self.set_blocked(self.batch.len() >= BATCH);
    }

    async fn write(&self, records: &[UsageRecord]) -> Result<(), Failure> {
        let write = AssertUnwindSafe(async { self.sink.write(records).await }).catch_unwind();
        let failure = match timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(StoreError::Unavailable))) | Err(_) => Failure::Down,
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, records = records.len(), "ledger.write_refused");
                Failure::Refused
            }
            Ok(Err(_)) => {
                tracing::error!(records = records.len(), "ledger.write_panicked");
                Failure::Refused
            }
        };
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        Err(failure)
    }

    fn count_written(&self, count: usize) {
        self.shared.written.fetch_add(count as u64, Ordering::AcqRel);
        self.set_blocked(false);
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

/// Ends when the deadline of shutdown has passed; never while there is none.
async fn deadline(closing: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let until = *closing.borrow_and_update();
        let changed = match until {
            // A later call may bring it forward.
            Some(until) => match timeout_at(until, closing.changed()).await {
                Err(_) => return,
                Ok(changed) => changed,
            },
            None => closing.changed().await,
        };
        if changed.is_err() {
            // Every recorder is gone; the queue ends when the last place is.
            match until {
                Some(until) => return sleep_until(until).await,
                None => return std::future::pending().await,
            }
        }
    }
}
