//! Walking the audit chain: is every entry what was written?
//!
//! The walk begins at the first entry or, when the oldest were pruned, at the anchor that stands for them, and each entry
//! is held against the one before it, its own bytes and its columns. The first that does not hold is named.

use serde::Serialize;

use super::{
    Control, ControlError,
    audit::{Canonical, Purpose},
};
use crate::{
    domain::Timestamp,
    store::{ChainAnchor, ChainHead, RawEntry},
};

const BATCH: u64 = 1_000;
pub(super) const NOT_SEALED: &str =
    "the anchor that stands for it and all before it is not one that this gateway sealed";

/// What verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditVerdict {
    /// The last entry that was found good, as all before it were; 0 when not even the first is.
    pub good: i64,
    /// The last entry that was pruned; 0 when none were. Verification begins after it, at the anchor that stands for it.
    pub pruned: i64,
    /// Where the chain ends; note it elsewhere to see later whether its end was cut off.
    pub head_seq: i64,
    /// MAC of the last entry.
    pub head_mac: String,
    /// The first entry that is not what was written; `None` when all are.
    pub first_bad: Option<BadEntry>,
}

/// An entry that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadEntry {
    /// Its place.
    pub seq: i64,
    /// What is wrong.
    pub why: &'static str,
}

impl Control {
    /// Walks the chain from its beginning. `expected` is a head that was noted elsewhere.
    pub async fn audit_verify(&self, expected: Option<(i64, &str)>) -> Result<AuditVerdict, ControlError> {
        loop {
            let anchor = self.store.audit_anchor().await?;
            let verdict = self.verify_from(anchor.as_ref(), expected).await?;
            // Entries that were pruned during the walk are not missing.
            if verdict.first_bad.is_none() || self.store.audit_anchor().await? == anchor {
                return Ok(verdict);
            }
        }
    }

    async fn verify_from(
        &self,
        anchor: Option<&ChainAnchor>,
        expected: Option<(i64, &str)>,
    ) -> Result<AuditVerdict, ControlError> {
        let Some(anchor) = anchor else {
            return self.verify_after(ChainHead::before_the_first(), 0, expected).await;
        };
        let bad = |why| async move {
            let head = self.store.audit_head().await?;
            let first_bad = Some(BadEntry { seq: anchor.seq, why });
            let pruned = anchor.seq;
            Ok(AuditVerdict { good: 0, pruned, head_seq: head.seq, head_mac: head.mac, first_bad })
        };
        if !self.seals(anchor) {
            return bad(NOT_SEALED).await;
        }
        match expected {
            Some((seq, _)) if seq < anchor.seq => Err(ControlError::bad(format!(
                "entry {seq} of the expected head was pruned; the oldest that can be expected is {}",
                anchor.seq
            ))),
            Some((seq, mac)) if seq == anchor.seq && mac != anchor.mac => {
                bad("it is not the expected head").await
            }
            _ => {
                let start = ChainHead { seq: anchor.seq, mac: anchor.mac.clone() };
                self.verify_after(start, anchor.seq, expected).await
            }
        }
    }

    /// Whether the gateway made that anchor.
    pub(super) fn seals(&self, anchor: &ChainAnchor) -> bool {
        self.audit_key.sign(Purpose::Anchor, &[&anchor.seq.to_string(), &anchor.mac]) == anchor.seal
    }

    /// Looks at the anchor and walks the last `count` entries of the chain. The one before them is taken as it stands.
    pub async fn audit_verify_last(&self, count: u32) -> Result<AuditVerdict, ControlError> {
        let head = self.store.audit_head().await?;
        let before = head.seq - i64::from(count);
        let anchor = self.store.audit_anchor().await?;
        let pruned = anchor.as_ref().map_or(0, |anchor| anchor.seq);
        // An anchor that the gateway did not seal is bad wherever it points.
        if before <= pruned || anchor.is_some_and(|anchor| !self.seals(&anchor)) {
            return self.audit_verify(None).await;
        }
        let entry = self.store.audit_entries_after(before - 1, 1).await?.pop();
        match entry.filter(|entry| entry.seq() == before) {
            Some(entry) => {
                self.verify_after(ChainHead { seq: before, mac: entry.mac().to_owned() }, pruned, None).await
            }
            None => Ok(AuditVerdict {
                good: before - 1,
                pruned,
                head_seq: head.seq,
                head_mac: head.mac,
                first_bad: Some(BadEntry { seq: before, why: "it is missing" }),
            }),
        }
    }

    async fn verify_after(
        &self,
        mut good: ChainHead,
        pruned: i64,
        expected: Option<(i64, &str)>,
    ) -> Result<AuditVerdict, ControlError> {
        let mut known = 0;
        loop {
            let bad = self.walk(&mut good, expected).await?;
            // The head is read after the entries: entry and head are written together, so it is never behind them. It is
            // beyond them while acts go on; then the walk goes on too.
            let head = self.store.audit_head().await?;
            if bad.is_none() && head.seq > good.seq && good.seq >= known {
                known = head.seq;
                continue;
            }
            let after = |why| Some(BadEntry { seq: good.seq + 1, why });
            let first_bad = if let Some(bad) = bad.or_else(|| unlike(&head, &good)) {
                Some(bad)
            } else if expected.is_some_and(|(seq, _)| seq > good.seq) {
                after("it is missing: the expected head is beyond it")
            } else {
                None
            };
            let good = first_bad.as_ref().map_or(good.seq, |bad| good.seq.min(bad.seq - 1).max(0));
            return Ok(AuditVerdict { good, pruned, head_seq: head.seq, head_mac: head.mac, first_bad });
        }
    }

    /// Goes on from the last good entry to the end, or to the first bad one.
    async fn walk(
        &self,
        good: &mut ChainHead,
        expected: Option<(i64, &str)>,
    ) -> Result<Option<BadEntry>, ControlError> {
        loop {
            let batch = self.store.audit_entries_after(good.seq, BATCH).await?;
            if batch.is_empty() {
                return Ok(None);
            }
            for entry in batch {
                if let Err(bad) = self.judge(&entry, good, expected) {
                    return Ok(Some(bad));
                }
                *good = ChainHead { seq: entry.seq(), mac: entry.mac().to_owned() };
            }
        }
    }

    /// Goes on from `good` over the entries that their MACed bytes date before `before`, to the last of them or to the
    /// first bad entry. The one at which it stops is judged too: it says that its time has not come.
    pub(super) async fn last_good_before(
        &self,
        mut good: ChainHead,
        before: Timestamp,
    ) -> Result<Result<ChainHead, BadEntry>, ControlError> {
        let mut known = 0;
        loop {
            let batch = self.store.audit_entries_after(good.seq, BATCH).await?;
            if batch.is_empty() {
                // As in `verify_after`: entries that were written since the batch was read are not missing.
                let head = self.store.audit_head().await?;
                if head.seq > good.seq && good.seq >= known {
                    known = head.seq;
                    continue;
                }
                return Ok(unlike(&head, &good).map_or(Ok(good), Err));
            }
            for entry in batch {
                match self.judge(&entry, &good, None) {
                    Ok(canonical) if canonical.at() >= before => return Ok(Ok(good)),
                    Ok(_) => good = ChainHead { seq: entry.seq(), mac: entry.mac().to_owned() },
                    Err(bad) => return Ok(Err(bad)),
                }
            }
        }
    }

    /// Whether `entry` is what was written after `before`; answers what its MACed bytes say.
    fn judge(
        &self,
        entry: &RawEntry,
        before: &ChainHead,
        expected: Option<(i64, &str)>,
    ) -> Result<Canonical, BadEntry> {
        let seq = before.seq + 1;
        let bad = |why| Err(BadEntry { seq, why });
        if entry.seq() != seq {
            return bad("it is missing");
        }
        if self.audit_key.mac(seq, &before.mac, entry.canonical()) != entry.mac() {
            return bad("its MAC does not fit its bytes and the entry before it");
        }
        let Some(canonical) = Canonical::parse(entry.canonical()) else {
            return bad("its bytes are not readable");
        };
        if !canonical.is_told_by(entry) {
            return bad("its columns differ from its MACed bytes");
        }
        match expected {
            Some((at, mac)) if at == seq && mac != entry.mac() => bad("it is not the expected head"),
            _ => Ok(canonical),
        }
    }
}

/// What is wrong when the chain's head is not the last entry that was found, which is good.
fn unlike(head: &ChainHead, good: &ChainHead) -> Option<BadEntry> {
    let (seq, why) = if head.seq > good.seq {
        (good.seq + 1, "it is missing: the chain's head is beyond it")
    } else if head.seq < good.seq {
        (head.seq + 1, "the chain's head ends before it")
    } else if head.mac != good.mac {
        (good.seq, "its MAC is not the one that the chain's head has")
    } else {
        return None;
    };
    Some(BadEntry { seq, why })
}
