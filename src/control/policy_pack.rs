//! The policy pack's provider keys: rows of the tenant `default` that follow the operator's file. At the start and at
//! each reload they are brought in line with it in one act, together with every other reference to a secret: all of it, or
//! nothing.

use super::{Control, ControlError, DEFAULT_TENANT, SecretInput, act::Act, references::Unresolved};
use crate::{
    config::{PackTarget, PolicyPack, SecretRef},
    domain::{Actor, AuditAction, AuditEvent, ProviderKeyId, ProviderSecret, TenantId},
    store::{
        ProviderKey, provider_key_delete, provider_key_insert, provider_key_update, provider_keys_resolved,
        tenant_find_named,
    },
};

/// How many keys were brought in line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// New ones.
    pub added: usize,
    /// Those whose secret or settings changed.
    pub changed: usize,
    /// Those that are no more in the pack.
    pub removed: usize,
}

/// When keys are brought in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Before anything listens; noted only where something changes.
    Start,
    /// In a running gateway; noted in any case.
    Reload,
}

/// What stopped it.
struct Stopped {
    tenant: TenantId,
    reference: String,
    object: String,
    error: ControlError,
}

impl Control {
    /// Brings the provider keys in line with `pack`, and gives every key with a reference what that stands for now.
    ///
    /// # Errors
    /// When a target cannot be used or a reference cannot be resolved; then nothing has changed, and the audit log says
    /// which.
    pub async fn reconcile(
        &self,
        actor: &Actor,
        pack: Option<&PolicyPack>,
        occasion: Occasion,
    ) -> Result<Reconciled, ControlError> {
        let mut act = self.begin_unasked(actor).await?;
        let tenant = tenant_find_named(act.tx(), DEFAULT_TENANT).await?;
        let tenant = tenant.ok_or(ControlError::NotFound("tenant"))?.id;
        let mut events = Vec::new();
        let done = match self.bring_in_line(&mut act, tenant, pack, &mut events).await {
            Ok(done) => done,
            Err(Stopped { tenant, reference, object, error }) => {
                drop(act);
                return Err(self.unresolved(actor, tenant, &reference, object, error).await);
            }
        };
        if occasion == Occasion::Reload {
            let event = AuditEvent::new(AuditAction::ConfigurationReloaded, actor.label(), None, "gateway")
                .with("keys_added", done.added)
                .with("keys_changed", done.changed)
                .with("keys_removed", done.removed);
            events.push(match pack {
                Some(pack) => event.with("pack", &pack.name).with("pack_version", &pack.version),
                None => event,
            });
            // Also what a gateway keeps of a tenant beside its keys: whether an address may be called.
            act.changed(None, "configuration");
        }
        let Some(last) = events.pop() else { return Ok(done) };
        for event in events {
            act.record(event).await?;
        }
        act.commit(last).await?;
        Ok(done)
    }

    async fn bring_in_line(
        &self,
        act: &mut Act<'_>,
        default: TenantId,
        pack: Option<&PolicyPack>,
        events: &mut Vec<AuditEvent>,
    ) -> Result<Reconciled, Stopped> {
        let of_store = |error| Stopped {
            tenant: default,
            reference: String::new(),
            object: String::new(),
            error: ControlError::Store(error),
        };
        let mut done = Reconciled::default();
        let rows = provider_keys_resolved(act.tx()).await.map_err(of_store)?;
        let (mut managed, referring): (Vec<ProviderKey>, Vec<ProviderKey>) =
            rows.into_iter().partition(|key| key.managed_by.is_some());

        let mut targets = Vec::new();
        for (pack, target) in
            pack.iter().flat_map(|pack| pack.targets.iter().map(move |target| (pack, target)))
        {
            let stands = managed.iter().position(|key| key.tenant_id == default && key.key_name == target.id);
            targets.push((pack, target, stands.map(|at| managed.swap_remove(at))));
        }
        // Rows are locked in the order of their ids by everybody, so that two who change several wait for each other and
        // do not deadlock.
        targets.sort_by_key(|(_, _, before)| before.as_ref().map(|key| key.id));
        managed.sort_by_key(|key| key.id);
        for (pack, target, before) in targets {
            let stopped = |error| Stopped {
                tenant: default,
                reference: target.secret.to_string(),
                object: target.id.clone(),
                error: of_target(target, error),
            };
            let secret = self.secret_of(act, default, target).await.map_err(stopped)?;
            let key = self.key_of(act, default, pack, target, before.as_ref(), &secret).map_err(stopped)?;
            act.may_store(&key.sealed).await.map_err(stopped)?;
            let (written, action) = match &before {
                Some(before) if same(before, &key) => continue,
                Some(_) => {
                    done.changed += 1;
                    (provider_key_update(act.tx(), &key).await, AuditAction::ProviderKeyUpdated)
                }
                None => {
                    done.added += 1;
                    (provider_key_insert(act.tx(), &key).await, AuditAction::ProviderKeyCreated)
                }
            };
            written.map_err(of_store)?;
            act.changed(Some(default), "provider_key");
            events.push(described(act.event(action, Some(default), key.id), &key));
        }
        for gone in managed {
            provider_key_delete(act.tx(), gone.id).await.map_err(of_store)?;
            done.removed += 1;
            act.changed(Some(gone.tenant_id), "provider_key");
            let event = act.event(AuditAction::ProviderKeyDeleted, Some(gone.tenant_id), gone.id);
            events.push(described(event, &gone));
        }
        for key in referring {
            if self.follow(act, key, events).await? {
                done.changed += 1;
            }
        }
        Ok(done)
    }

    /// Gives a key of the API what its reference stands for now; answers whether that is something else than before.
    async fn follow(
        &self,
        act: &mut Act<'_>,
        mut key: ProviderKey,
        events: &mut Vec<AuditEvent>,
    ) -> Result<bool, Stopped> {
        let reference = key.reference.clone().unwrap_or_default();
        let (tenant, object) = (key.tenant_id, key.id.to_string());
        let stopped = |Unresolved { error, .. }| Stopped {
            tenant,
            reference: reference.clone(),
            object: object.clone(),
            error,
        };
        let unresolved = |error: ControlError| stopped(Unresolved { key: None, error });
        let Some(name) = reference.strip_prefix("store:") else {
            let problem = format!("provider key `{}` refers to something outside of the vault", key.id);
            return Err(unresolved(ControlError::Unresolvable(problem)));
        };
        let secret = self.resolve_store(act.tx(), tenant, name).await.map_err(unresolved)?;
        if self.fingerprints.of(&secret) == key.fingerprint {
            return Ok(false);
        }
        self.take_secret(&mut key, &secret);
        key.updated_at = act.at();
        act.may_store(&key.sealed).await.map_err(unresolved)?;
        provider_key_update(act.tx(), &key).await.map_err(|error| unresolved(error.into()))?;
        act.changed(Some(tenant), "provider_key");
        let event = act.event(AuditAction::ReferenceResolved, Some(tenant), key.id);
        events.push(event.with("reference", &reference).with("fingerprint", &key.fingerprint));
        Ok(true)
    }

    async fn secret_of(
        &self,
        act: &Act<'_>,
        default: TenantId,
        target: &PackTarget,
    ) -> Result<ProviderSecret, ControlError> {
        match &target.secret {
            SecretRef::Store(name) => self.resolve_store(act.tx(), default, name).await,
            SecretRef::Env { value, .. } => SecretInput::new(value.0.to_string()).into_provider_secret(),
        }
    }

    /// The row that a target wants; `before` is the one that stands.
    fn key_of(
        &self,
        act: &Act<'_>,
        default: TenantId,
        pack: &PolicyPack,
        target: &PackTarget,
        before: Option<&ProviderKey>,
        secret: &ProviderSecret,
    ) -> Result<ProviderKey, ControlError> {
        let place = self.place(target.provider.clone(), target.base_url.as_deref(), None)?;
        let mut key = ProviderKey {
            id: before.map_or_else(ProviderKeyId::generate, |before| before.id),
            tenant_id: default,
            provider: place.provider.slug.clone(),
            key_name: target.id.clone(),
            dialect: place.custom.then(|| place.provider.dialect.as_str().to_owned()),
            base_url: place.url.base_url,
            origin: place.url.origin,
            sealed: before.map_or_else(String::new, |before| before.sealed.clone()),
            fingerprint: before.map_or_else(String::new, |before| before.fingerprint.clone()),
            models: target.model.clone().map(|model| vec![model]),
            weight: 1,
            is_active: pack.enabled,
            retrievable: false,
            use_for_batch_api: false,
            cloud: None,
            cloud_sealed: None,
            reference: Some(target.secret.to_string()),
            managed_by: Some(pack.name.clone()),
            staged: None,
            created_at: before.map_or_else(|| act.at(), |before| before.created_at),
            updated_at: act.at(),
        };
        // What is sealed for another provider or origin does not open for this row.
        let kept = before.is_some_and(|before| {
            before.provider == key.provider
                && before.origin == key.origin
                && before.fingerprint == self.fingerprints.of(secret)
        });
        if !kept {
            self.take_secret(&mut key, secret);
        }
        Ok(key)
    }
}

/// Whether nothing is to be written.
fn same(before: &ProviderKey, after: &ProviderKey) -> bool {
    before.sealed == after.sealed
        && before.provider == after.provider
        && before.dialect == after.dialect
        && before.base_url == after.base_url
        && before.models == after.models
        && before.is_active == after.is_active
        && before.reference == after.reference
        && before.managed_by == after.managed_by
        && before.weight == after.weight
}

fn described(event: AuditEvent, key: &ProviderKey) -> AuditEvent {
    let event = event
        .with("provider", &key.provider)
        .with("key_name", &key.key_name)
        .with("origin", &key.origin)
        .with("fingerprint", &key.fingerprint)
        .with("active", key.is_active);
    let event = match &key.reference {
        Some(reference) => event.with("reference", reference),
        None => event,
    };
    match &key.managed_by {
        Some(pack) => event.with("pack", pack),
        None => event,
    }
}

/// Says which target it is about; the words are those of the API, which calls the secret `api_key`.
fn of_target(target: &PackTarget, error: ControlError) -> ControlError {
    match error {
        ControlError::Invalid { code, message } => {
            ControlError::Invalid { code, message: format!("target `{}`: {message}", target.id) }
        }
        other => other,
    }
}
