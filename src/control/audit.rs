//! The audit log: how entries are chained and read.
//!
//! Each entry keeps the exact bytes that were MACed, and `mac(n) = HMAC-SHA-256(key, n ‖ mac(n-1) ‖ bytes)`. Whoever
//! changes, removes, adds or moves an entry without the key breaks the chain at a place that [`Control::audit_verify`]
//! names. Cutting off the end is seen by the head, or by a head that was noted elsewhere: see `checkpoints`.

use std::{collections::BTreeMap, fmt};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    AuditQuery, Control, ControlError,
    act::{permit, scope_of},
    error::OrMissing,
};
use crate::{
    domain::{Actor, AuditEvent, AuditId, Permission, RequestId, TenantId, Timestamp},
    store::{AuditColumns, AuditFilter, ChainedEntry, MAX_PAGE, Page, Paged, RawEntry, TenantScope},
    vault::HouseSecret,
};

/// The key of the chain.
pub struct AuditKey(HouseSecret);

impl AuditKey {
    /// From the gateway's own secret of that name.
    pub fn new(secret: HouseSecret) -> Self {
        Self(secret)
    }

    pub(super) fn mac(&self, seq: i64, previous: &str, canonical: &str) -> String {
        keyed_hash(self.0.key_bytes(), &[&seq.to_be_bytes(), previous.as_bytes(), canonical.as_bytes()])
    }

    /// A hash of a create's route and body, which may carry a secret: without the key it tells nothing.
    pub(super) fn request_digest(&self, route: &str, body: &[u8]) -> String {
        keyed_hash(self.0.key_bytes(), &[b"keystile idempotency v1\0", route.as_bytes(), b"\0", body])
    }
}

/// What an [`AuditKey`] signs beside the chain itself, each with a key of its own that is derived for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The row that stands for pruned entries.
    Anchor,
    /// What is handed to the operator's sink.
    Checkpoint,
}

impl AuditKey {
    /// Signs `parts`, of which none but the last may have a line break in it.
    pub(super) fn sign(&self, purpose: Purpose, parts: &[&str]) -> String {
        let label: &[u8] = match purpose {
            Purpose::Anchor => b"keystile audit anchor v1",
            Purpose::Checkpoint => b"keystile audit checkpoint v1",
        };
        let derived = mac_of(self.0.key_bytes(), &[label]);
        keyed_hash(&derived, &[parts.join("\n").as_bytes()])
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(…)")
    }
}

fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> String {
    mac_of(key, parts).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac_of(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// What is MACed. Its fields repeat the row's columns, so that a changed column is noticed.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Canonical {
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

impl Canonical {
    /// Reads the bytes that were MACed.
    pub(super) fn parse(bytes: &str) -> Option<Self> {
        serde_json::from_str(bytes).ok()
    }

    /// When, as it was MACed: the row's column is anybody's who can write the database.
    pub(super) fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.at)
    }

    /// Whether the row's columns say the same.
    pub(super) fn is_told_by(&self, entry: &RawEntry) -> bool {
        let said = AuditColumns {
            id: &self.id,
            at: self.at,
            actor: &self.actor,
            tenant_id: self.tenant_id.as_deref(),
            category: &self.category,
            action: &self.action,
            object: self.object.as_deref(),
            outcome: &self.outcome,
            request_id: self.request_id.as_deref(),
        };
        said == entry.columns()
    }
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
    /// A user's or service token's id, `cli` or `system`.
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
        let details =
            Canonical::parse(&entry.canonical).map(|canonical| canonical.details).unwrap_or_default();
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

impl Control {
    /// Entries that the actor may see, newest first: an owner all, others those of their tenant.
    pub async fn audit_entries(
        &self,
        actor: &Actor,
        query: &AuditQuery,
        page: &Page,
    ) -> Result<Paged<AuditView>, ControlError> {
        permit(actor, Permission::ReadAudit)?;
        let filter = query.filter()?;
        let pruned = self.audit_pruned_through().await?;
        Ok(self
            .store
            .audit_entries(pruned, scope_of(actor), &filter, page)
            .await
            .or_bad_cursor()?
            .map(AuditView::from))
    }

    /// Begins to export what the actor may see and asks for, oldest first, up to the newest entry there is now.
    pub async fn audit_export(&self, actor: &Actor, query: &AuditQuery) -> Result<AuditExport, ControlError> {
        permit(actor, Permission::ReadAudit)?;
        let filter = query.filter()?;
        let through = self.store.audit_head().await?.seq;
        Ok(AuditExport { control: self.clone(), scope: scope_of(actor), filter, after: 0, through })
    }
}

/// An export under way; it reads a page at a time, so that however long the log is, little of it is in memory.
#[derive(Debug)]
pub struct AuditExport {
    control: Control,
    scope: TenantScope,
    filter: AuditFilter,
    after: i64,
    through: i64,
}

impl AuditExport {
    /// The next entries; none at the end.
    pub async fn next(&mut self) -> Result<Vec<AuditView>, ControlError> {
        // It may have been pruned further since the last page.
        let after = self.after.max(self.control.audit_pruned_through().await?);
        let between = (after, self.through);
        let store = &self.control.store;
        let entries = store.audit_entries_between(self.scope, &self.filter, between, MAX_PAGE).await?;
        self.after = entries.last().map_or(self.through, |entry| entry.seq);
        Ok(entries.into_iter().map(AuditView::from).collect())
    }
}
