//! One change in the control plane: permission, work, audit entry and change notice in one transaction, then the news.
//!
//! Every act locks the end of the audit chain first. So acts happen one after another, on several instances too, and
//! what an act has looked at cannot change under it. An act that is dropped before [`Act::commit`] leaves nothing; one
//! whose audit entry cannot be written fails as a whole.

use crate::{
    domain::{Actor, AuditAction, AuditEvent, AuditId, Permission, TenantId, Timestamp},
    store::{
        ChainHead, MasterKeyState, TenantScope, Tx, audit_append, audit_lock, change_log, master_key_state,
        tenant_find, tenant_find_named,
    },
};

use super::{Control, ControlError, DEFAULT_TENANT, audit, error::OrMissing};

/// An act under way.
pub(super) struct Act<'a> {
    control: &'a Control,
    actor: &'a Actor,
    tx: Tx,
    head: ChainHead,
    at: Timestamp,
    changes: Vec<(Option<TenantId>, &'static str)>,
}

impl Control {
    /// Begins an act that needs `permission`.
    pub(super) async fn begin<'a>(
        &'a self,
        actor: &'a Actor,
        permission: Permission,
    ) -> Result<Act<'a>, ControlError> {
        permit(actor, permission)?;
        self.begin_unasked(actor).await
    }

    /// Begins an act that nobody needs a permission for, such as logging in.
    pub(super) async fn begin_unasked<'a>(&'a self, actor: &'a Actor) -> Result<Act<'a>, ControlError> {
        let tx = self.store.begin().await?;
        let head = audit_lock(&tx).await?;
        Ok(Act { control: self, actor, tx, head, at: self.clock.now(), changes: Vec::new() })
    }
}

impl Act<'_> {
    /// Where the work is done.
    pub(super) fn tx(&self) -> &Tx {
        &self.tx
    }

    /// The moment of the act.
    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    /// Whose rows the actor may touch.
    pub(super) fn scope(&self) -> TenantScope {
        scope_of(self.actor)
    }

    /// The tenant an act is for: the one that is named, or the actor's own.
    pub(super) async fn tenant(&self, named: Option<&str>) -> Result<TenantId, ControlError> {
        match named {
            Some(text) => {
                let tenant = text.parse().map_err(|_| ControlError::NotFound("tenant"))?;
                Ok(tenant_find(&self.tx, self.scope(), tenant).await.or_missing("tenant")?.id)
            }
            None => match self.actor.bound_to() {
                // It may have been deleted since the session was looked at.
                Some(own) => Ok(tenant_find(&self.tx, self.scope(), own).await.or_missing("tenant")?.id),
                None => {
                    let default = tenant_find_named(&self.tx, DEFAULT_TENANT).await?;
                    Ok(default.ok_or(ControlError::NotFound("tenant"))?.id)
                }
            },
        }
    }

    /// What the audit log will say of it.
    pub(super) fn event(
        &self,
        action: AuditAction,
        tenant: Option<TenantId>,
        object: impl ToString,
    ) -> AuditEvent {
        AuditEvent::new(action, self.actor.label(), tenant, object).in_request(self.actor.request())
    }

    /// Refuses a text that was sealed under a retired master key, as by a process that has not heard of its end. Asked
    /// under the lock of the audit chain, as a key is retired: no such text is stored afterwards.
    pub(super) async fn may_store(&self, sealed: &str) -> Result<(), ControlError> {
        let kid = sealed.split('.').nth(1).unwrap_or_default();
        match master_key_state(&self.tx, kid).await? {
            Some(MasterKeyState::Retired) => Err(ControlError::Conflict(format!(
                "this process seals with master key `{kid}`, which was retired; give it the new one first in its list and \
                 reload or restart it"
            ))),
            _ => Ok(()),
        }
    }

    /// Notes that gateways must forget what they know of `tenant`, or of everybody.
    pub(super) fn changed(&mut self, tenant: Option<TenantId>, subject: &'static str) {
        self.changes.push((tenant, subject));
    }

    /// Writes the audit entry and the notices, commits, and tells this process.
    pub(super) async fn commit(mut self, event: AuditEvent) -> Result<(), ControlError> {
        self.record(event).await?;
        self.commit_unaudited().await
    }

    /// The same without an entry, for what repeats an act that has one and changes nothing.
    pub(super) async fn commit_unaudited(self) -> Result<(), ControlError> {
        let mut told = Vec::with_capacity(self.changes.len());
        for (tenant, subject) in &self.changes {
            told.push((*tenant, change_log::append(&self.tx, *tenant, subject, self.at).await?));
        }
        self.tx.commit().await.map_err(crate::store::StoreError::from)?;
        for (tenant, seq) in told {
            self.control.notify.tell(tenant, seq);
        }
        Ok(())
    }

    /// Writes an audit entry of its own, for an act that does several things.
    pub(super) async fn record(&mut self, event: AuditEvent) -> Result<(), ControlError> {
        let seq = self.head.seq + 1;
        let link =
            audit::chain(&self.control.audit_key, seq, &self.head.mac, AuditId::generate(), self.at, event);
        audit_append(&self.tx, &link).await?;
        self.head = ChainHead { seq, mac: link.mac };
        Ok(())
    }
}

/// Whether the actor may do such a thing at all.
pub(super) fn permit(actor: &Actor, permission: Permission) -> Result<(), ControlError> {
    if actor.may(permission) {
        Ok(())
    } else {
        Err(ControlError::Forbidden("your role does not allow this; ask an owner"))
    }
}

/// Whose rows an actor may touch.
pub(super) fn scope_of(actor: &Actor) -> TenantScope {
    actor.bound_to().map_or(TenantScope::house(), TenantScope::only)
}
