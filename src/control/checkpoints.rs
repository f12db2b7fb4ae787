//! Signed checkpoints of the audit chain: where it ended at a moment, to be kept where whoever can write the database
//! cannot write.
//!
//! The chain alone does not show that its end was cut off or that an older database was restored: both are chains. A
//! checkpoint from before does. Its signature is an HMAC under a key that is derived from the audit key for this purpose
//! alone. It proves to whoever can open the house's secrets, so to the gateway and its operator, that a gateway of this
//! house made it; it proves nothing to others, and nothing against somebody who has the master key.

use serde::{Deserialize, Serialize};

use super::{Control, ControlError, audit::Purpose};
use crate::domain::Timestamp;

/// Where the chain ended at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Of the last entry; 0 before the first.
    pub seq: i64,
    /// Of the last entry; empty before the first.
    pub mac: String,
    /// When it was made.
    pub time: Timestamp,
    /// 64 hex digits over the other members.
    pub signature: String,
}

/// Whether a checkpoint fits the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The chain has that entry with that MAC.
    Good,
    /// The entry was pruned; nothing can be said.
    Pruned,
    /// It does not fit, and why.
    Bad(&'static str),
}

impl Control {
    /// Where the chain ends now, signed.
    pub async fn audit_checkpoint(&self) -> Result<Checkpoint, ControlError> {
        let head = self.store.audit_head().await?;
        let time = self.clock.now();
        let signature = self.sign_checkpoint(head.seq, &head.mac, time);
        Ok(Checkpoint { seq: head.seq, mac: head.mac, time, signature })
    }

    /// The number of the last entry.
    pub async fn audit_head_seq(&self) -> Result<i64, ControlError> {
        Ok(self.store.audit_head().await?.seq)
    }

    /// Whether `checkpoint` was signed here and the chain has what it says. That the chain itself holds is for
    /// [`Control::audit_verify`] to say.
    pub async fn audit_fits(&self, checkpoint: &Checkpoint) -> Result<Fit, ControlError> {
        let Checkpoint { seq, mac, time, signature } = checkpoint;
        if self.sign_checkpoint(*seq, mac, *time) != *signature {
            return Ok(Fit::Bad("its signature is not this gateway's"));
        }
        if *seq == 0 {
            return Ok(Fit::Good);
        }
        let anchor = self.store.audit_anchor().await?.filter(|anchor| self.seals(anchor));
        if let Some(anchor) = anchor.filter(|anchor| *seq <= anchor.seq) {
            return Ok(match *seq == anchor.seq {
                true if *mac == anchor.mac => Fit::Good,
                true => Fit::Bad("the MAC of that entry is another one"),
                false => Fit::Pruned,
            });
        }
        let found = self.store.audit_entries_after(seq - 1, 1).await?.pop();
        Ok(match found.filter(|entry| entry.seq() == *seq) {
            None => {
                Fit::Bad("the chain has no such entry: its end was cut off, or an older database restored")
            }
            Some(entry) if entry.mac() != mac => Fit::Bad("the MAC of that entry is another one"),
            Some(_) => Fit::Good,
        })
    }

    fn sign_checkpoint(&self, seq: i64, mac: &str, time: Timestamp) -> String {
        self.audit_key.sign(Purpose::Checkpoint, &[&seq.to_string(), &time.to_string(), mac])
    }
}
