//! The audit log: how entries are chained, read and verified.
//!
//! Each entry keeps the exact bytes that were MACed, and `mac(n) = HMAC-SHA-256(key, n ‖ mac(n-1) ‖ bytes)`. Whoever
//! changes, removes, adds or moves an entry without the key breaks the chain at a place that [`Control::audit_verify`]
//! names. Cutting off the end is seen by the head, or by a head that was noted elsewhere.

use std::{collections::BTreeMap, fmt};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use utoipa::ToSchema;

use super::{
    Control, ControlError,
    act::{permit, scope_of},
    error::OrMissing,
};
use crate::{
    domain::{Actor, AuditEvent, AuditId, Permission, RequestId, TenantId, Timestamp},
    store::{AuditFilter, ChainHead, ChainedEntry, Page, Paged, RawEntry},
    vault::HouseSecret,
};

const BATCH: u64 = 1_000;

/// The key of the chain.
pub struct AuditKey(HouseSecret);

impl AuditKey {
    /// From the gateway's own secret of that name.
    pub fn new(secret: HouseSecret) -> Self {
        Self(secret)
    }

    fn mac(&self, seq: i64, previous: &str, canonical: &str) -> String {
        keyed_hash(&self.0, &[&seq.to_be_bytes(), previous.as_bytes(), canonical.as_bytes()])
    }

    /// A hash of a create's route and body, which may carry a secret: without the key it tells nothing.
    pub(super) fn request_digest(&self, route: &str, body: &[u8]) -> String {
        keyed_hash(&self.0, &[b"keystile idempotency v1\0", route.as_bytes(), b"\0", body])
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(…)")
    }
}

fn keyed_hash(key: &HouseSecret, parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.key_bytes()).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is MACed. Its fields repeat the row's columns, so that a changed column is noticed.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Canonical {
    id: String,
    at: i64,
    actor: String,
    tenant_id: Option<String>,
    category: String,
    action: String,
    object: Option<String>,
    outcome: String,
    request_id: Option<String>,
    details: BTreeMap<String, String>,
}

/// Makes the next link.
pub(super) fn chain(
    key: &AuditKey,
    seq: i64,
    previous: &str,
    id: AuditId,
    at: Timestamp,
    event: AuditEvent,
) -> ChainedEntry {
    let category = event.action.category().as_str().to_owned();
    let action = event.action.as_str().to_owned();
    let canonical = Canonical {
        id: id.to_string(),
        at: at.millis(),
        actor: event.actor.clone(),
        tenant_id: event.tenant.map(|tenant| tenant.to_string()),
        category: category.clone(),
        action: action.clone(),
        object: event.object.clone(),
        outcome: event.outcome.as_str().to_owned(),
        request_id: event.request.map(|request| request.to_string()),
        details: event.details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let canonical =
        serde_json::to_string(&canonical).expect("texts, numbers and string-keyed maps serialise");
    let mac = key.mac(seq, previous, &canonical);
    ChainedEntry {
        seq,
        id,
        at,
        actor: event.actor,
        tenant_id: event.tenant,
        category,
        action,
        object: event.object,
        outcome: event.outcome.as_str().to_owned(),
        request_id: event.request,
        canonical,
        mac,
    }
}

/// An entry of the audit log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// 1, 2, 3 … without a gap.
    pub seq: i64,
    /// Its id.
    #[schema(value_type = String)]
    pub id: AuditId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// A user's id, `cli` or `system`.
    pub actor: String,
    /// In which tenant.
    #[schema(value_type = Option<String>)]
    pub tenant_id: Option<TenantId>,
    /// Family of the act.
    pub category: String,
    /// The act.
    pub action: String,
    /// Id of what it was done to.
    pub object: Option<String>,
    /// `success`, `refused` or `failure`.
    pub outcome: String,
    /// In which request on the admin plane.
    #[schema(value_type = Option<String>)]
    pub request_id: Option<RequestId>,
    /// Named facts; never a secret.
    pub details: BTreeMap<String, String>,
}

impl From<ChainedEntry> for AuditView {
    fn from(entry: ChainedEntry) -> Self {
        let details = serde_json::from_str::<Canonical>(&entry.canonical)
            .map(|canonical| canonical.details)
            .unwrap_or_default();
        Self {
            seq: entry.seq,
            id: entry.id,
            at: entry.at,
            actor: entry.actor,
            tenant_id: entry.tenant_id,
            category: entry.category,
            action: entry.action,
            object: entry.object,
            outcome: entry.outcome,
            request_id: entry.request_id,
            details,
        }
    }
}

/// What verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditVerdict {
    /// Entries that were found good, from the first on.
    pub good: i64,
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
    /// Entries that the actor may see, newest first: an owner all, others those of their tenant.
    pub async fn audit_entries(
        &self,
        actor: &Actor,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Paged<AuditView>, ControlError> {
        permit(actor, Permission::ReadAudit)?;
        Ok(self
            .store
            .audit_entries(scope_of(actor), filter, page)
            .await
            .or_bad_cursor()?
            .map(AuditView::from))
    }

    /// Walks the chain from its first entry. `expected` is a head that was noted elsewhere.
    pub async fn audit_verify(&self, expected: Option<(i64, &str)>) -> Result<AuditVerdict, ControlError> {
        self.verify_after(ChainHead { seq: 0, mac: String::new() }, expected).await
    }

    /// Walks the last `count` entries of the chain. The one before them is taken as it stands.
    pub async fn audit_verify_last(&self, count: u32) -> Result<AuditVerdict, ControlError> {
        let head = self.store.audit_head().await?;
        let before = head.seq - i64::from(count);
        if before < 1 {
            return self.audit_verify(None).await;
        }
        let entry = self.store.audit_entries_after(before - 1, 1).await?.pop();
        match entry.filter(|entry| entry.seq() == before) {
            Some(entry) => {
                self.verify_after(ChainHead { seq: before, mac: entry.mac().to_owned() }, None).await
            }
            None => Ok(AuditVerdict {
                good: before - 1,
                head_seq: head.seq,
                head_mac: head.mac,
                first_bad: Some(BadEntry { seq: before, why: "it is missing" }),
            }),
        }
    }

    async fn verify_after(
        &self,
        mut good: ChainHead,
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
            let first_bad = if bad.is_some() {
                bad
            } else if head.seq > good.seq {
                after("it is missing: the chain's head is beyond it")
            } else if head.seq < good.seq {
                Some(BadEntry { seq: head.seq + 1, why: "the chain's head ends before it" })
            } else if head.mac != good.mac {
                Some(BadEntry { seq: good.seq, why: "its MAC is not the one that the chain's head has" })
            } else if expected.is_some_and(|(seq, _)| seq > good.seq) {
                after("it is missing: the expected head is beyond it")
            } else {
                None
            };
            let good = first_bad.as_ref().map_or(good.seq, |bad| good.seq.min(bad.seq - 1).max(0));
            return Ok(AuditVerdict { good, head_seq: head.seq, head_mac: head.mac, first_bad });
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
                if let Some(bad) = self.judge(&entry, good, expected) {
                    return Ok(Some(bad));
                }
                *good = ChainHead { seq: entry.seq(), mac: entry.mac().to_owned() };
            }
        }
    }

    fn judge(&self, entry: &RawEntry, before: &ChainHead, expected: Option<(i64, &str)>) -> Option<BadEntry> {
        let seq = before.seq + 1;
        let bad = |why| Some(BadEntry { seq, why });
        if entry.seq() != seq {
            return bad("it is missing");
        }
        if self.audit_key.mac(seq, &before.mac, entry.canonical()) != entry.mac() {
            return bad("its MAC does not fit its bytes and the entry before it");
        }
        let Ok(canonical) = serde_json::from_str::<Canonical>(entry.canonical()) else {
            return bad("its bytes are not readable");
        };
        let said = (
            canonical.id.as_str(),
            canonical.at,
            canonical.actor.as_str(),
            canonical.tenant_id.as_deref(),
            canonical.category.as_str(),
            canonical.action.as_str(),
            canonical.object.as_deref(),
            canonical.outcome.as_str(),
            canonical.request_id.as_deref(),
        );
        if said != entry.columns() {
            return bad("its columns differ from its MACed bytes");
        }
        match expected {
            Some((at, mac)) if at == seq && mac != entry.mac() => bad("it is not the expected head"),
            _ => None,
        }
    }
}
