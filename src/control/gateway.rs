//! The running gateway as an administrator sees it: what is in force, and reading the configuration anew. What does that
//! lives above this room; here is the handle to it, and what is audited.

use std::{fmt, pin::Pin, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;

use super::{Control, ControlError, DEFAULT_TENANT, Reconciled, act::permit};
use crate::{
    config::{Config, PolicyPack},
    domain::{Actor, AuditAction, AuditEvent, Permission, ProviderKeyId, TenantId, Timestamp},
    store::TenantScope,
};

/// An answer that takes a while.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What can be asked of a running gateway.
pub trait Operated: Send + Sync {
    /// What is in force.
    fn status<'a>(&'a self, actor: &'a Actor) -> Later<'a, Result<GatewayStatus, ControlError>>;

    /// Reads the configuration anew and puts it in force, or leaves everything as it is and says why.
    fn reload<'a>(&'a self, actor: &'a Actor) -> Later<'a, Result<ReloadView, ControlError>>;
}

/// The running gateway, for the admin plane. Without one, both questions are answered with a conflict.
#[derive(Clone, Default)]
pub struct GatewayHandle(Option<Arc<dyn Operated>>);

impl GatewayHandle {
    /// Of this gateway.
    pub fn new(gateway: Arc<dyn Operated>) -> Self {
        Self(Some(gateway))
    }

    /// What is in force; for owners.
    pub async fn status(&self, actor: &Actor) -> Result<GatewayStatus, ControlError> {
        permit(actor, Permission::ManageHouse)?;
        self.gateway()?.status(actor).await
    }

    /// Reads the configuration anew; for owners.
    pub async fn reload(&self, actor: &Actor) -> Result<ReloadView, ControlError> {
        permit(actor, Permission::ManageHouse)?;
        self.gateway()?.reload(actor).await
    }

    fn gateway(&self) -> Result<&dyn Operated, ControlError> {
        let missing = || ControlError::Conflict("no gateway runs in this process".into());
        self.0.as_deref().ok_or_else(missing)
    }
}

impl fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayHandle(…)")
    }
}

/// A running gateway and what is in force in it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GatewayStatus {
    /// Of the program.
    pub version: String,
    /// `ins_…`.
    pub instance_id: String,
    /// Since when it runs.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// For how long.
    pub uptime_seconds: u64,
    /// The policy pack in force.
    #[schema(required)]
    pub pack: Option<PackView>,
    /// The provider keys that it brings.
    pub targets: Vec<TargetView>,
    /// Every setting, with where its value came from.
    pub settings: Vec<SettingView>,
    /// Settings that were changed since the start and are not in force before a restart.
    pub needs_restart: Vec<String>,
    /// The last time the configuration was read anew.
    #[schema(required)]
    pub last_reload: Option<LastReload>,
}

/// A policy pack.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PackView {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether its keys may be used.
    pub enabled: bool,
    /// Where it was read.
    pub file: String,
    /// How many days audit entries are kept, if it says so.
    #[schema(required)]
    pub audit_retention_days: Option<u64>,
    /// Whether the use of provider keys is audited.
    pub log_all_access: bool,
}

impl From<&PolicyPack> for PackView {
    fn from(pack: &PolicyPack) -> Self {
        Self {
            name: pack.name.clone(),
            version: pack.version.clone(),
            enabled: pack.enabled,
            file: pack.file.display().to_string(),
            audit_retention_days: pack.audit.retention.map(|kept| kept.as_secs() / 86_400),
            log_all_access: pack.audit.log_all_access,
        }
    }
}

/// A provider key that a policy pack brings.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TargetView {
    /// Its name.
    pub id: String,
    /// Provider slug.
    pub provider: String,
    /// The one model it serves; `null` serves all.
    #[schema(required)]
    pub model: Option<String>,
    /// Where it is used, if not at the provider's own address.
    #[schema(required)]
    pub base_url: Option<String>,
    /// Where its secret comes from: `env:NAME` or `store:NAME`.
    pub reference: String,
    /// Whether the secret is there and opens.
    pub resolved: bool,
    /// `pk_…`.
    #[schema(value_type = Option<String>, required)]
    pub provider_key_id: Option<ProviderKeyId>,
}

/// A setting in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SettingView {
    /// Its key in the file, or its variable where it has no place in a file.
    pub name: String,
    /// Its value; `(set)` for a secret.
    pub value: String,
    /// `default`, a file and line, a variable, or a flag.
    pub origin: String,
}

/// How the configuration was read anew.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LastReload {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `success` or `failure`.
    pub outcome: String,
    /// Why it failed.
    #[schema(required)]
    pub reason: Option<String>,
}

/// What reading the configuration anew has changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReloadView {
    /// The policy pack in force.
    #[schema(required)]
    pub pack: Option<PackView>,
    /// Provider keys of the pack that are new.
    pub keys_added: usize,
    /// Provider keys, of the pack or with a reference, whose secret or settings changed.
    pub keys_changed: usize,
    /// Provider keys that are no more in the pack.
    pub keys_removed: usize,
    /// Settings that were changed since the start and are not in force before a restart.
    pub needs_restart: Vec<String>,
}

impl ReloadView {
    /// What was done, with the configuration that is in force now.
    pub fn new(config: &Config, keys: Reconciled, needs_restart: &[&'static str]) -> Self {
        Self {
            pack: config.policy.pack.as_deref().map(PackView::from),
            keys_added: keys.added,
            keys_changed: keys.changed,
            keys_removed: keys.removed,
            needs_restart: needs_restart.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Control {
    /// The targets of the pack, and whether each has a secret that opens.
    pub async fn targets(&self, pack: Option<&PolicyPack>) -> Result<Vec<TargetView>, ControlError> {
        let Some(pack) = pack else { return Ok(Vec::new()) };
        let default = self.store.tenant_named(DEFAULT_TENANT).await?;
        let keys = self.store.provider_keys(TenantScope::only(default.id)).await?;
        let views = pack.targets.iter().map(|target| {
            let reference = target.secret.to_string();
            let key = keys.iter().find(|key| {
                key.managed_by.as_ref() == Some(&pack.name)
                    && key.key_name == target.id
                    && key.reference.as_ref() == Some(&reference)
            });
            TargetView {
                id: target.id.clone(),
                provider: target.provider.to_string(),
                model: target.model.as_ref().map(ToString::to_string),
                base_url: target.base_url.clone(),
                reference,
                resolved: key.is_some_and(|key| self.vault.check(&key.sealed).is_ok()),
                provider_key_id: key.map(|key| key.id),
            }
        });
        Ok(views.collect())
    }

    /// Notes in the audit log that the configuration could not be read anew.
    pub async fn reload_refused(&self, actor: &Actor, reason: &str) -> Result<(), ControlError> {
        let act = self.begin_unasked(actor).await?;
        let event = AuditEvent::new(AuditAction::ConfigurationReloaded, actor.label(), None, "gateway");
        act.commit(event.with("reason", reason).failed()).await
    }

    /// Notes in the audit log how often provider keys were opened since `since`.
    pub async fn key_uses_record(
        &self,
        uses: &[(TenantId, ProviderKeyId, u64)],
        since: Timestamp,
    ) -> Result<(), ControlError> {
        let [first, rest @ ..] = uses else { return Ok(()) };
        let mut act = self.begin_unasked(&Actor::System).await?;
        let used = |(tenant, key, openings): &(TenantId, ProviderKeyId, u64)| {
            AuditEvent::new(AuditAction::ProviderKeyUsed, Actor::System.label(), Some(*tenant), key)
                .with("openings", openings)
                .with("since", since)
        };
        for each in rest {
            act.record(used(each)).await?;
        }
        act.commit(used(first)).await
    }
}
