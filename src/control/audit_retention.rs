//! Pruning the audit log. The oldest entries go; an anchor with a seal of its own stands for them, so that what is left
//! still proves where it begins, and an entry says that it was done.
//!
//! The anchor is set, and the entry written, in one act before anything is deleted. Whoever deletes without it meets the
//! database's triggers; whoever drops those leaves a chain that does not begin where an anchor says.
//!
//! Pruning destroys evidence, so it looks first: it goes only over entries that verification finds good, from an anchor
//! whose seal is the gateway's, and takes their times from the bytes that were MACed. Otherwise whoever spoils an entry
//! or dates it back would have the gateway itself remove the traces and seal what is left. The first bad entry stops
//! pruning until somebody has looked at it; and entries behind an anchor that the gateway did not seal are neither deleted
//! nor left out of the log.

use std::time::Duration;

use super::{
    Control, ControlError,
    audit::Purpose,
    audit_verify::{BadEntry, NOT_SEALED},
};
use crate::{
    domain::{Actor, AuditAction, Timestamp},
    store::{ChainAnchor, ChainHead, audit_anchor_find, audit_anchor_set, audit_entries_after},
};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

impl Control {
    /// Lets an anchor stand for the entries that are older than `kept`, whole UTC days: so there is one act a day. They
    /// are then deleted by [`Control::audit_delete_pruned`]. Answers the last of them, if there are any.
    ///
    /// # Errors
    /// [`ControlError::AuditBroken`] when the anchor, one of those entries or the one after them is not what was written:
    /// then nothing is pruned.
    pub async fn audit_prune(&self, kept: Duration) -> Result<Option<i64>, ControlError> {
        let moment = self.clock.now().minus(kept).millis();
        let before = Timestamp::from_millis(moment.div_euclid(DAY_MILLIS) * DAY_MILLIS);
        // The walk may be long, and the head's lock holds up every act, on SQLite every write: so the walk comes before
        // it. The cut's MAC is over all that was walked; under the lock it is seen that both ends of it are still there.
        let anchor = self.sealed_anchor().await?;
        let start = anchor.as_ref().map_or_else(ChainHead::before_the_first, |anchor| ChainHead {
            seq: anchor.seq,
            mac: anchor.mac.clone(),
        });
        let cut = match self.last_good_before(start.clone(), before).await? {
            Ok(cut) if cut.seq == start.seq => return Ok(None),
            Ok(cut) => cut,
            // Another instance may have pruned during the walk; what it deleted is not missing.
            Err(_) if self.store.audit_anchor().await? != anchor => return Ok(None),
            Err(bad) => return Err(bad.into()),
        };
        let act = self.begin_unasked(&Actor::System).await?;
        let now = audit_anchor_find(act.tx()).await?;
        if now != anchor {
            // Another instance has done it meanwhile, or somebody who may not.
            return self.sealed(now).map(|_| None);
        }
        let last = audit_entries_after(act.tx(), cut.seq - 1, 1).await?.pop();
        if !last.is_some_and(|last| last.seq() == cut.seq && last.mac() == cut.mac) {
            return Err(BadEntry {
                seq: cut.seq,
                why: "it was changed or removed while pruning looked at it",
            }
            .into());
        }
        let seal = self.audit_key.sign(Purpose::Anchor, &[&cut.seq.to_string(), &cut.mac]);
        audit_anchor_set(act.tx(), &ChainAnchor { seq: cut.seq, mac: cut.mac, at: act.at(), seal }).await?;
        let event = act.event(AuditAction::AuditPruned, None, "").on_nothing();
        let event = event.with("through_seq", cut.seq).with("before", before);
        act.commit(event).await?;
        Ok(Some(cut.seq))
    }

    /// Deletes some of the entries that the anchor stands for, oldest first. Answers how many; 0 when none are left.
    ///
    /// # Errors
    /// [`ControlError::AuditBroken`] when the gateway did not seal the anchor: then nothing is deleted.
    pub async fn audit_delete_pruned(&self) -> Result<u64, ControlError> {
        match self.sealed_anchor().await? {
            Some(anchor) => Ok(self.store.audit_delete_through(anchor.seq).await?),
            None => Ok(0),
        }
    }

    /// The last entry that does not count any more, also while it is still being deleted; 0 when all count, as they do
    /// behind an anchor that the gateway did not seal.
    pub(super) async fn audit_pruned_through(&self) -> Result<i64, ControlError> {
        let anchor = self.store.audit_anchor().await?.filter(|anchor| self.seals(anchor));
        Ok(anchor.map_or(0, |anchor| anchor.seq))
    }

    async fn sealed_anchor(&self) -> Result<Option<ChainAnchor>, ControlError> {
        self.sealed(self.store.audit_anchor().await?)
    }

    fn sealed(&self, anchor: Option<ChainAnchor>) -> Result<Option<ChainAnchor>, ControlError> {
        match anchor {
            Some(anchor) if !self.seals(&anchor) => Err(BadEntry { seq: anchor.seq, why: NOT_SEALED }.into()),
            anchor => Ok(anchor),
        }
    }
}

impl From<BadEntry> for ControlError {
    fn from(BadEntry { seq, why }: BadEntry) -> Self {
        Self::AuditBroken { seq, why }
    }
}
