//! Virtual keys: made, limited, rotated, revoked. The key itself is shown once; what is kept is its digest.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Control, ControlError, Idempotency, LimitChanges, LimitsView, Patch,
    act::{Act, permit, scope_of},
    checks,
    error::OrMissing,
    limits::request_with_limits,
};
use crate::{
    domain::{
        Actor, AuditAction, BudgetId, KeyDigest, ModelName, NanoUsd, Permission, TenantId, Timestamp,
        VirtualKeyId, VirtualKeyPlaintext, Zone,
    },
    store::{
        Page, Paged, StoredLimits, VirtualKey, alias_exists, virtual_key_find, virtual_key_insert,
        virtual_key_secret_insert, virtual_key_secrets_retire, virtual_key_update,
    },
    vault::token,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MAX_DAYS: i64 = 36_500;
const MAX_GRACE: i64 = 30 * 24 * 3600;

request_with_limits! {
    /// A virtual key to be made.
    pub struct NewVirtualKey {
        /// Name for people.
        pub name: String,
        /// For which tenant; one's own, or `default`, when left out.
        pub tenant_id: Option<String>,
        /// Models tried in order after the requested one.
        pub fallback_models: Option<Vec<String>>,
        /// Days until it stops working; never when left out.
        pub expires_in_days: Option<i64>,
        /// Joined to every usage row.
        #[serde(default, deserialize_with = "checks::sent_tags")]
        pub tags: Option<BTreeMap<String, String>>,
        /// Budgets of the same tenant that it joins, `bud_…`: a request must fit all of them, too.
        pub budgets: Option<Vec<String>>,
    }
}

request_with_limits! {
    /// What is to change in a virtual key: what is left out stays, `null` clears.
    pub struct VirtualKeyChange {
        /// New name.
        #[schema(value_type = String)]
        #[serde(default)]
        pub name: Patch<String>,
        /// Models tried in order after the requested one.
        #[schema(value_type = Option<Vec<String>>)]
        #[serde(default)]
        pub fallback_models: Patch<Vec<String>>,
        /// Days from now until it stops working; `null` is never.
        #[schema(value_type = Option<i64>, minimum = 1)]
        #[serde(default)]
        pub expires_in_days: Patch<i64>,
        /// All tags anew.
        #[schema(value_type = Option<BTreeMap<String, String>>)]
        #[serde(default, deserialize_with = "checks::changed_tags")]
        pub tags: Patch<BTreeMap<String, String>>,
        /// All budgets that it joins anew; `null` and `[]` leave all of them.
        #[schema(value_type = Option<Vec<String>>)]
        #[serde(default)]
        pub budgets: Patch<Vec<String>>,
    }
}

/// How a virtual key or a service token is rotated.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the old secret still works; it ends at once when left out.
    pub grace_seconds: Option<i64>,
}

impl RotateKey {
    /// How long the old secret still works.
    pub(super) fn grace(&self) -> Result<Duration, ControlError> {
        let grace = self.grace_seconds.unwrap_or(0);
        match u64::try_from(grace) {
            Ok(seconds) if grace <= MAX_GRACE => Ok(Duration::from_secs(seconds)),
            _ => Err(ControlError::bad(format!("`grace_seconds` must be 0 to {MAX_GRACE}"))),
        }
    }
}

/// Whether a key still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyLife {
    /// May be used.
    Active,
    /// Its time is over.
    Expired,
    /// Was revoked for good.
    Revoked,
}

/// A virtual key, its limits and where they stand; never its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VirtualKeyView {
    /// `vk_…`.
    #[schema(value_type = String)]
    pub id: VirtualKeyId,
    /// Whose.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// Name for people.
    pub name: String,
    /// What the key begins with; not secret.
    pub key_prefix: Option<String>,
    /// Whether it still lives.
    pub state: KeyLife,
    /// Limits and spend.
    #[serde(flatten)]
    pub limits: LimitsView,
    /// Models tried in order after the requested one.
    #[schema(value_type = Vec<String>)]
    pub fallback_models: Vec<ModelName>,
    /// Joined to every usage row.
    pub tags: BTreeMap<String, String>,
    /// Budgets that it has joined.
    #[schema(value_type = Vec<String>)]
    pub budgets: Vec<BudgetId>,
    /// When it stops working.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A key that was just made or rotated.
#[derive(Debug)]
pub struct MadeKey {
    /// What may be known of it.
    pub view: VirtualKeyView,
    /// The key, to be shown once; `None` when the same create came before.
    pub plaintext: Option<VirtualKeyPlaintext>,
}

impl Control {
    /// Makes a virtual key.
    pub async fn virtual_key_create(
        &self,
        actor: &Actor,
        mut asked: NewVirtualKey,
        idempotency: Option<&Idempotency>,
    ) -> Result<MadeKey, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let name = checks::name("name", &asked.name)?;
        let changes = asked.take_limits();
        let fallback_models = checks::models("fallback_models", &asked.fallback_models.unwrap_or_default())?;
        let tags = checks::tags(asked.tags.unwrap_or_default())?;
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return Ok(MadeKey { view: self.virtual_key(actor, &made).await?, plaintext: None });
        }
        let tenant_id = act.tenant(asked.tenant_id.as_deref()).await?;
        refuse_aliases(&act, tenant_id, &changes).await?;
        let mut limits = StoredLimits::default();
        changes.apply(&mut limits)?;
        let budgets = act.budgets(tenant_id, &asked.budgets.unwrap_or_default()).await?;
        let (plaintext, token_id) = token::generate();
        let key = VirtualKey {
            id: VirtualKeyId::generate(),
            tenant_id,
            name,
            limits,
            fallback_models,
            tags,
            budgets,
            expires_at: asked.expires_in_days.map(|days| expiry(act.at(), days)).transpose()?,
            created_at: act.at(),
            updated_at: act.at(),
            revoked_at: None,
            deleted_at: None,
            token_id: Some(token_id.clone()),
        };
        virtual_key_insert(act.tx(), &key).await?;
        let digest = self.digest(&plaintext);
        virtual_key_secret_insert(act.tx(), key.id, &digest, &token_id, act.at()).await?;
        act.remember(actor, idempotency, key.id).await?;
        act.changed(Some(tenant_id), "virtual_key");
        let event = act
            .event(AuditAction::VirtualKeyCreated, Some(tenant_id), key.id)
            .with("name", &key.name)
            .with("token_id", &token_id);
        act.commit(event).await?;
        Ok(MadeKey { view: self.view_virtual_key(key).await?, plaintext: Some(plaintext) })
    }

    /// Virtual keys that the actor may see, oldest first.
    pub async fn virtual_keys(
        &self,
        actor: &Actor,
        tenant: Option<&str>,
        page: &Page,
    ) -> Result<Paged<VirtualKeyView>, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let scope = self.scope(actor, tenant).await?;
        let found = self.store.virtual_keys(scope, page).await.or_bad_cursor()?;
        let mut items = Vec::with_capacity(found.items.len());
        let zones = self.store.tenant_zones(found.items.iter().map(|key| key.tenant_id)).await?;
        let unreconciled = self.unreconciled(found.items.iter().map(|key| key.id.into())).await?;
        for key in found.items {
            let zone = zones.get(&key.tenant_id).copied().unwrap_or_default();
            let unreconciled = unreconciled.get(&key.id.into()).copied().unwrap_or_default();
            items.push(self.show_virtual_key(key, zone, unreconciled).await?);
        }
        Ok(Paged { items, next_cursor: found.next_cursor })
    }

    /// One virtual key.
    pub async fn virtual_key(&self, actor: &Actor, id: &str) -> Result<VirtualKeyView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let key = self.store.virtual_key(scope_of(actor), key_id(id)?).await.or_missing("virtual key")?;
        self.view_virtual_key(key).await
    }

    /// Changes a virtual key.
    pub async fn virtual_key_change(
        &self,
        actor: &Actor,
        id: &str,
        mut asked: VirtualKeyChange,
    ) -> Result<VirtualKeyView, ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut key = virtual_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("virtual key")?;
        let changes = asked.take_limits();
        let mut names = changes.names();
        refuse_aliases(&act, key.tenant_id, &changes).await?;
        changes.apply(&mut key.limits)?;
        let others = [
            ("fallback_models", asked.fallback_models.is_keep()),
            ("expires_in_days", asked.expires_in_days.is_keep()),
            ("tags", asked.tags.is_keep()),
            ("budgets", asked.budgets.is_keep()),
        ];
        names.extend(others.into_iter().filter(|(_, keep)| !keep).map(|(name, _)| name));
        if let Some(name) = asked.name.not_null("name")? {
            key.name = checks::name("name", &name)?;
            names.push("name");
        }
        asked
            .fallback_models
            .apply(&mut key.fallback_models, Vec::new(), |texts| checks::models("fallback_models", &texts))?;
        let at = act.at();
        asked.expires_in_days.apply(&mut key.expires_at, None, |days| expiry(at, days).map(Some))?;
        asked.tags.apply(&mut key.tags, BTreeMap::new(), checks::tags)?;
        match asked.budgets {
            Patch::Keep => {}
            Patch::Clear => key.budgets.clear(),
            Patch::Set(texts) => key.budgets = act.budgets(key.tenant_id, &texts).await?,
        }
        key.updated_at = at;
        virtual_key_update(act.tx(), &key).await?;
        act.changed(Some(key.tenant_id), "virtual_key");
        let event = act.event(AuditAction::VirtualKeyUpdated, Some(key.tenant_id), key.id);
        act.commit(event.with("changed", names.join(","))).await?;
        self.view_virtual_key(key).await
    }

    /// Gives a key a new secret; id, limits and spend stay. The old secret ends at once or after a grace period.
    pub async fn virtual_key_rotate(
        &self,
        actor: &Actor,
        id: &str,
        asked: RotateKey,
    ) -> Result<MadeKey, ControlError> {
        let grace = asked.grace()?;
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut key = virtual_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("virtual key")?;
        if key.revoked_at.is_some() {
            return Err(ControlError::Conflict("this key was revoked; make a new one".into()));
        }
        virtual_key_secrets_retire(act.tx(), key.id, act.at(), act.at().plus(grace)).await?;
        let (plaintext, token_id) = token::generate();
        let digest = self.digest(&plaintext);
        virtual_key_secret_insert(act.tx(), key.id, &digest, &token_id, act.at()).await?;
        key.updated_at = act.at();
        virtual_key_update(act.tx(), &key).await?;
        act.changed(Some(key.tenant_id), "virtual_key");
        let event = act
            .event(AuditAction::VirtualKeyRotated, Some(key.tenant_id), key.id)
            .with("token_id", &token_id)
            .with("grace_seconds", grace.as_secs());
        key.token_id = Some(token_id);
        act.commit(event).await?;
        Ok(MadeKey { view: self.view_virtual_key(key).await?, plaintext: Some(plaintext) })
    }

    /// Revokes a key for good. Revoking it again changes nothing.
    pub async fn virtual_key_revoke(&self, actor: &Actor, id: &str) -> Result<VirtualKeyView, ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut key = virtual_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("virtual key")?;
        if key.revoked_at.is_none() {
            key.revoked_at = Some(act.at());
            key.updated_at = act.at();
            virtual_key_update(act.tx(), &key).await?;
        }
        act.changed(Some(key.tenant_id), "virtual_key");
        let event = act.event(AuditAction::VirtualKeyRevoked, Some(key.tenant_id), key.id);
        act.commit(event).await?;
        self.view_virtual_key(key).await
    }

    /// Revokes a key and puts it out of sight; its rows stay.
    pub async fn virtual_key_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut key = virtual_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("virtual key")?;
        key.revoked_at = key.revoked_at.or(Some(act.at()));
        key.deleted_at = Some(act.at());
        key.updated_at = act.at();
        virtual_key_update(act.tx(), &key).await?;
        act.changed(Some(key.tenant_id), "virtual_key");
        let event = act.event(AuditAction::VirtualKeyDeleted, Some(key.tenant_id), key.id);
        act.commit(event.with("name", &key.name)).await
    }

    #[expect(clippy::disallowed_methods, reason = "the new key is hashed; the hash is what is stored")]
    fn digest(&self, key: &VirtualKeyPlaintext) -> KeyDigest {
        self.pepper.digest(key.expose_secret())
    }

    async fn view_virtual_key(&self, key: VirtualKey) -> Result<VirtualKeyView, ControlError> {
        let zones = self.store.tenant_zones(std::iter::once(key.tenant_id)).await?;
        let zone = zones.get(&key.tenant_id).copied().unwrap_or_default();
        let unreconciled = self.unreconciled([key.id.into()]).await?.into_values().sum();
        self.show_virtual_key(key, zone, unreconciled).await
    }

    async fn show_virtual_key(
        &self,
        key: VirtualKey,
        zone: Zone,
        unreconciled: NanoUsd,
    ) -> Result<VirtualKeyView, ControlError> {
        let now = self.clock.now();
        Ok(VirtualKeyView {
            id: key.id,
            tenant_id: key.tenant_id,
            name: key.name,
            key_prefix: key.token_id.map(|token| format!("ks_{token}")),
            state: if key.revoked_at.is_some() {
                KeyLife::Revoked
            } else if key.expires_at.is_some_and(|end| end <= now) {
                KeyLife::Expired
            } else {
                KeyLife::Active
            },
            limits: self.limits_view(key.id.into(), &key.limits, zone, unreconciled).await?,
            fallback_models: key.fallback_models,
            tags: key.tags,
            budgets: key.budgets,
            expires_at: key.expires_at,
            created_at: key.created_at,
            updated_at: key.updated_at,
        })
    }
}

fn key_id(text: &str) -> Result<VirtualKeyId, ControlError> {
    text.parse().map_err(|_| ControlError::NotFound("virtual key"))
}

fn expiry(at: Timestamp, days: i64) -> Result<Timestamp, ControlError> {
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(ControlError::bad(format!("`expires_in_days` must be 1 to {MAX_DAYS}")));
    }
    let days = u32::try_from(days).unwrap_or(u32::MAX);
    Ok(at.plus(DAY.saturating_mul(days)))
}

/// An allow-list names real models: an alias can be pointed elsewhere by whoever may not widen the list.
async fn refuse_aliases(act: &Act<'_>, tenant: TenantId, changes: &LimitChanges) -> Result<(), ControlError> {
    let Patch::Set(texts) = &changes.models_allowed else { return Ok(()) };
    // Real models and patterns have a slash, aliases have none. Lists beyond the limit are refused for that anyway.
    for text in texts.iter().filter(|text| !text.contains('/')).take(100) {
        if alias_exists(act.tx(), tenant, text).await? {
            return Err(ControlError::invalid(
                "alias_in_allow_list",
                format!("`{text}` is an alias; `models_allowed` names the real models, as `provider/model`"),
            ));
        }
    }
    Ok(())
}
