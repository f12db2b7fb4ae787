//! Charges into the database: usage rows, counters, roll-ups, leases and the watermark, in one transaction a batch.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{BATCH, Banker, FIRST_RETRY, Failure, LAST_RETRY, call};
use crate::{ledger::bank::Bank, store::CounterState};

impl<B: Bank> Banker<B> {
    /// Writes the batch, leaving in it what could not be written. Answers when to try again.
    pub(super) async fn apply(&mut self) -> Instant {
        let before = self.batch.len();
        match self.write(0..before).await {
            Ok(states) => self.done(0..before, &states),
            Err(Failure::Fenced) => {
                self.start_over().await;
            }
            // A charge that cannot be written must not hold up those around it.
            Err(Failure::Refused(_)) if before > 1 => self.write_one_by_one().await,
            Err(Failure::Refused(_)) => {
                self.set_aside(0);
                self.set_blocked(false);
            }
            Err(Failure::Down) => self.set_blocked(true),
        }
        if self.batch.is_empty() {
            let through = self.received;
            self.progress.send_modify(|progress| progress.through = through);
        }
        if self.batch.len() < before {
            self.retry = FIRST_RETRY;
            return Instant::now();
        }
        let next = Instant::now() + self.retry;
        self.retry = (self.retry * 2).min(LAST_RETRY);
        next
    }

    async fn write_one_by_one(&mut self) {
        let mut place = 0;
        while place < self.batch.len() {
            match self.write(place..place + 1).await {
                Ok(states) => self.done(place..place + 1, &states),
                Err(Failure::Refused(_)) if self.set_aside(place) => {}
                Err(Failure::Refused(_)) => place += 1,
                Err(Failure::Fenced) => {
                    self.start_over().await;
                    return;
                }
                Err(Failure::Down) => return self.set_blocked(true),
            }
        }
        // Where no more can be set aside, nothing moves with a batch full of refused charges.
        self.set_blocked(self.batch.len() >= BATCH);
    }

    async fn write(&self, range: std::ops::Range<usize>) -> Result<Vec<CounterState>, Failure> {
        let charges = &self.batch[range.clone()];
        let seqs: Vec<u64> = self.seqs[range].iter().copied().flatten().collect();
        let watermark = self.journal.watermark(&seqs);
        let written = call(self.bank.apply(self.holder, charges, watermark)).await;
        if let Err(failure) = &written {
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            if let Failure::Refused(error) = failure {
                tracing::error!(%error, charges = charges.len(), "ledger.write_refused");
            }
        }
        written
    }

    fn done(&mut self, range: std::ops::Range<usize>, states: &[CounterState]) {
        self.accounts.applied(self.batch[range.clone()].iter().map(|charge| &charge.record), states);
        let done = self.batch.drain(range.clone()).len();
        let seqs: Vec<u64> = self.seqs.drain(range).flatten().collect();
        self.journal.applied(&seqs);
        self.shared.applied.fetch_add(done as u64, Ordering::AcqRel);
        self.set_blocked(false);
    }
}
