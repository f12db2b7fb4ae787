//! A place for one usage record, from before a request is sent until it has ended.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use tokio::sync::mpsc;

use super::{
    banker::{Posted, Shared},
    entry::{self, Stake},
    journal::{Durability, Journal, JournalError, Ticket},
};
use crate::store::Charge;

/// Usage cannot be recorded now: the queue is full because the database has not taken anything for too long, the
/// journal cannot be written, or the ledger is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage cannot be recorded now; look at the database and at the disk of the data directory")]
pub struct Unrecordable;

impl From<JournalError> for Unrecordable {
    fn from(error: JournalError) -> Self {
        tracing::error!(reason = %error, "journal.failed");
        Self
    }
}

/// A place in the queue, for exactly one charge. Dropped unused it is free again, and its request never was.
#[must_use = "dropping a place gives it back"]
pub struct Place {
    pub(super) permit: mpsc::OwnedPermit<Posted>,
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    pub(super) durability: Durability,
    /// This request in the journal, once it was opened.
    pub(super) ticket: Option<Arc<Mutex<Option<Ticket>>>>,
}

impl Place {
    /// An attempt begins. `charge` is what is recorded if nothing of it was sent, `stake` what it is charged beyond that
    /// if it was and nothing more is heard. Queued only: [`SentNote::sent`] writes it before the first byte goes out.
    ///
    /// # Errors
    /// [`Unrecordable`]: nothing may be sent.
    pub fn open(&mut self, charge: &Charge, stake: &Stake) -> Result<SentNote, Unrecordable> {
        let body = entry::encode_open(charge, stake);
        let ticket = match &self.ticket {
            Some(ticket) => {
                if let Some(open) = &*lock(ticket) {
                    self.journal.open_again(open, &body)?;
                }
                Arc::clone(ticket)
            }
            None => {
                let ticket = Arc::new(Mutex::new(Some(self.journal.open_attempt(&body)?)));
                self.ticket = Some(Arc::clone(&ticket));
                ticket
            }
        };
        Ok(SentNote { journal: self.journal.clone(), durability: self.durability, ticket })
    }

    /// What the attempt under way has used so far; what a crash would be charged.
    pub fn progress(&self, stake: &Stake) {
        if let Some(ticket) = &self.ticket
            && let Some(open) = &*lock(ticket)
        {
            self.journal.progress(open, &entry::encode_stake(stake));
        }
    }

    /// Writes `charge` into the journal and puts it into the queue; never waits. Answers what a client must wait for
    /// before it sees the end.
    pub fn record(self, charge: Charge) -> Closed {
        if self.shared.ended.load(Ordering::Acquire) {
            // Only after the deadline of shutdown: everything else waits for places that are held.
            tracing::warn!(request_id = %charge.record.request_id, "ledger.recorded_in_journal_only");
        }
        let ticket = self.ticket.as_ref().and_then(|ticket| lock(ticket).take());
        let seq = ticket.and_then(|ticket| {
            self.journal
                .close(ticket, &entry::encode_charge(&charge))
                .inspect_err(|error| {
                    tracing::error!(reason = %error, "journal.close_failed");
                })
                .ok()
        });
        // Before it is sent, so that nobody counts it as applied first.
        self.shared.posted.fetch_add(1, Ordering::AcqRel);
        self.permit.send(Posted { charge, seq });
        Closed { journal: self.journal, seq: seq.filter(|_| self.durability == Durability::Power) }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

/// Notes that an attempt's first byte goes out now.
#[derive(Clone)]
pub struct SentNote {
    journal: Journal,
    durability: Durability,
    ticket: Arc<Mutex<Option<Ticket>>>,
}

impl SentNote {
    /// Writes it, and everything queued before it, into the journal. False: nothing may be sent.
    #[must_use]
    pub fn sent(&self) -> bool {
        self.write().is_some()
    }

    fn write(&self) -> Option<u64> {
        let ticket = lock(&self.ticket);
        // Without a ticket the request has ended meanwhile.
        self.journal
            .sent(ticket.as_ref()?)
            .inspect_err(|error| {
                tracing::error!(reason = %error, "journal.failed");
            })
            .ok()
    }

    /// With `durability: power`: notes it now and waits until it is on the disk, so that sending need not wait.
    ///
    /// # Errors
    /// [`Unrecordable`]: nothing may be sent.
    pub async fn ahead(&self) -> Result<(), Unrecordable> {
        if self.durability == Durability::Process {
            return Ok(());
        }
        let seq = self.write().ok_or(Unrecordable)?;
        Ok(self.journal.synced(seq).await?)
    }
}

/// A record that was written; with `durability: power` it is safe only after [`Closed::safe`].
#[must_use = "the client may see the end only after it"]
pub struct Closed {
    journal: Journal,
    seq: Option<u64>,
}

impl Closed {
    /// Whether there is anything to wait for.
    pub fn is_safe(&self) -> bool {
        self.seq.is_none()
    }

    /// Waits until the record survives a loss of power. A disk that fails meanwhile is logged; the record is in the queue
    /// all the same.
    pub fn safe(self) -> impl Future<Output = ()> + Send + 'static {
        let synced = self.seq.map(|seq| self.journal.synced(seq));
        async move {
            if let Some(synced) = synced
                && let Err(error) = synced.await
            {
                tracing::error!(reason = %error, "journal.sync_failed");
            }
        }
    }
}

fn lock(ticket: &Mutex<Option<Ticket>>) -> std::sync::MutexGuard<'_, Option<Ticket>> {
    ticket.lock().unwrap_or_else(PoisonError::into_inner)
}
