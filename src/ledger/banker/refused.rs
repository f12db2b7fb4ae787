//! Charges that the database refuses: out of the way, and tried again now and then.

use std::{collections::HashSet, slice, sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{Banker, Failure, call};
use crate::ledger::bank::Bank;

/// Wait before what was refused is tried again; doubled after each further time.
pub(in crate::ledger) const FIRST_AGAIN: Duration = Duration::from_secs(1);
/// Longest such wait.
const LAST_AGAIN: Duration = Duration::from_secs(60);
/// How many have their turn at one time.
const TOGETHER: usize = 32;

impl<B: Bank> Banker<B> {
    /// Takes a charge out of the batch that the database has refused; the journal may forget it. Answers whether it was
    /// written down: if not, it stays where it is.
    pub(super) fn set_aside(&mut self, place: usize) -> bool {
        let charge = &self.batch[place];
        if let Err(error) = self.aside.add(charge, true) {
            tracing::error!(reason = %error, "ledger.not_set_aside");
            return false;
        }
        tracing::error!(request_id = %charge.record.request_id, "ledger.charge_refused");
        self.batch.remove(place);
        if let Some(seq) = self.seqs.remove(place) {
            self.journal.applied(&[seq]);
        }
        self.shared.posted_refused.fetch_add(1, Ordering::AcqRel);
        self.count_refused();
        self.aside_at = Instant::now() + self.aside_wait;
        true
    }

    fn count_refused(&self) {
        self.shared.refused.store(self.aside.len() as u64, Ordering::Relaxed);
    }

    /// Tries some of them again, one by one.
    pub(super) async fn retry_refused(&mut self) {
        let mut done = HashSet::new();
        let some: Vec<_> =
            self.aside.charges().iter().take(TOGETHER).map(|each| (each.charge.clone(), each.here)).collect();
        for (charge, here) in &some {
            let watermark = self.journal.watermark(&[]);
            match call(self.bank.apply(self.holder, slice::from_ref(charge), watermark)).await {
                Ok(states) => {
                    self.accounts.applied([&charge.record], &states);
                    if *here {
                        self.shared.posted_refused.fetch_sub(1, Ordering::AcqRel);
                        self.shared.applied.fetch_add(1, Ordering::AcqRel);
                    }
                    done.insert(charge.record.request_id);
                }
                Err(Failure::Refused(_)) => {}
                Err(Failure::Fenced) => {
                    self.start_over().await;
                    break;
                }
                Err(Failure::Down) => break,
            }
        }
        if let Err(error) = self.aside.remove(&done) {
            tracing::error!(reason = %error, "ledger.not_taken_back");
        }
        self.count_refused();
        self.aside.turn(TOGETHER);
        self.aside_wait = if done.is_empty() { (self.aside_wait * 2).min(LAST_AGAIN) } else { FIRST_AGAIN };
        self.aside_at = Instant::now() + self.aside_wait;
    }
}
