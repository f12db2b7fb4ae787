//! Pruning the audit log. The oldest entries go; an anchor with a seal of its own stands for them, so that what is left
//! still proves where it begins, and an entry says that it was done.
//!
//! The anchor is set, and the entry written, in one act before anything is deleted. Whoever deletes without it meets the
//! database's triggers; whoever drops those leaves a chain that does not begin where an anchor says.

use std::time::Duration;

use super::{Control, ControlError, audit::Purpose};
use crate::{
    domain::{Actor, AuditAction, Timestamp},
    store::{ChainAnchor, audit_anchor_set, audit_prunable},
};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

impl Control {
    /// Lets an anchor stand for the entries that are older than `kept`, whole UTC days: so there is one act a day. They
    /// are then deleted by [`Store::audit_delete_pruned`](crate::store::Store::audit_delete_pruned). Answers the last of them, if there are any.
    pub async fn audit_prune(&self, kept: Duration) -> Result<Option<i64>, ControlError> {
        let moment = self.clock.now().minus(kept).millis();
        let before = Timestamp::from_millis(moment.div_euclid(DAY_MILLIS) * DAY_MILLIS);
        if !self.store.audit_has_prunable(before).await? {
            return Ok(None);
        }
        let act = self.begin_unasked(&Actor::System).await?;
        // Another instance may have done it meanwhile.
        let Some((seq, mac)) = audit_prunable(act.tx(), before).await? else { return Ok(None) };
        let seal = self.audit_key.sign(Purpose::Anchor, &[&seq.to_string(), &mac]);
        audit_anchor_set(act.tx(), &ChainAnchor { seq, mac, at: act.at(), seal }).await?;
        let event = act.event(AuditAction::AuditPruned, None, "").on_nothing();
        let event = event.with("through_seq", seq).with("before", before);
        act.commit(event).await?;
        Ok(Some(seq))
    }
}
