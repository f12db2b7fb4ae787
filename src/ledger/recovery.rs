//! What a process before this one left behind: its journal is read, what it did not close is closed as `recovered`, all
//! of it is brought into the database, and then its leases go back. Nothing listens before that.
//!
//! It may be killed at any point and begun again: a request that was closed here is closed for good, a charge that is
//! in the database already is not added again, and leases go back last.

use std::slice;

use super::{
    aside::Aside,
    bank::Bank,
    entry,
    journal::{Journal, JournalError, Replay},
};
use crate::{
    domain::NanoUsd,
    store::{Charge, LeaseError, RegisterError, Registered, StoreError},
};

/// Charges in one transaction; fewer transactions than while requests run, as nobody else waits.
const BATCH: usize = 1_000;

/// What was found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Charges that were closed and not yet in the database.
    pub applied: u64,
    /// Requests that were under way, closed as `recovered`.
    pub closed: u64,
    /// Bytes of a torn write at the journal's end.
    pub cut_bytes: u64,
    /// Charges that the database refuses for what they are, set aside now or before.
    pub refused: u64,
}

/// Why the past could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record of another version.
    #[error(transparent)]
    Unreadable(#[from] entry::Unreadable),
    /// The database does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process runs on a copy of the data directory.
    #[error(transparent)]
    Taken(RegisterError),
    /// Another process took this instance's place while it started.
    #[error(
        "another process runs with a copy of this data directory's journal; give every gateway a data directory of its own"
    )]
    Fenced,
}

impl From<RegisterError> for RecoveryError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Store(error) => Self::Store(error),
            taken @ RegisterError::Taken { .. } => Self::Taken(taken),
        }
    }
}

impl From<LeaseError> for RecoveryError {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Fenced => Self::Fenced,
            LeaseError::Store(error) => Self::Store(error),
        }
    }
}

/// Settles the past.
pub(super) async fn recover<B: Bank>(
    bank: &B,
    journal: &Journal,
    replay: Replay,
    registered: &Registered,
    aside: &mut Aside,
) -> Result<Recovered, RecoveryError> {
    let mut found = Recovered { cut_bytes: replay.cut_bytes, ..Recovered::default() };
    let mut batch = Batch { bank, journal, registered, aside, charges: Vec::new(), seqs: Vec::new() };
    for close in replay.closes {
        let (seq, body) = close?;
        if seq <= registered.applied_seq || body.is_empty() {
            continue;
        }
        found.applied += 1;
        batch.push(entry::decode_charge(&body)?, seq).await?;
    }
    for unfinished in replay.open {
        let progress = unfinished.progress.as_deref();
        let charge = entry::recover(&unfinished.open, progress, unfinished.sent)?;
        let seq = journal.close(unfinished.ticket, &entry::encode_charge(&charge))?;
        found.closed += 1;
        batch.push(charge, seq).await?;
    }
    batch.write().await?;
    found.refused = batch.aside.len() as u64;
    // Nobody holds anything of it any more.
    let none: Vec<_> = registered.leases.iter().map(|(counter, _)| (*counter, NanoUsd::ZERO)).collect();
    if !none.is_empty() {
        bank.keep(registered.holder, &none).await?;
    }
    Ok(found)
}

struct Batch<'a, B> {
    bank: &'a B,
    journal: &'a Journal,
    registered: &'a Registered,
    aside: &'a mut Aside,
    charges: Vec<Charge>,
    seqs: Vec<u64>,
}

impl<B: Bank> Batch<'_, B> {
    async fn push(&mut self, charge: Charge, seq: u64) -> Result<(), RecoveryError> {
        self.charges.push(charge);
        self.seqs.push(seq);
        if self.charges.len() < BATCH { Ok(()) } else { self.write().await }
    }

    async fn write(&mut self) -> Result<(), RecoveryError> {
        if self.charges.is_empty() {
            return Ok(());
        }
        let watermark = self.journal.watermark(&self.seqs);
        match self.bank.apply(self.registered.holder, &self.charges, watermark).await {
            Ok(_) => {}
            // One that cannot be written must not keep the others, or the start, from going on.
            Err(LeaseError::Store(error)) if error.is_an_answer() => self.write_one_by_one().await?,
            Err(error) => return Err(error.into()),
        }
        self.journal.applied(&self.seqs);
        self.charges.clear();
        self.seqs.clear();
        Ok(())
    }

    async fn write_one_by_one(&mut self) -> Result<(), RecoveryError> {
        for charge in &self.charges {
            let watermark = self.journal.watermark(&[]);
            match self.bank.apply(self.registered.holder, slice::from_ref(charge), watermark).await {
                Ok(_) => {}
                Err(LeaseError::Store(error)) if error.is_an_answer() => {
                    tracing::error!(request_id = %charge.record.request_id, reason = %error, "ledger.charge_refused");
                    self.aside.add(charge, false)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
