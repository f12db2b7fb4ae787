//! Provider keys: uploaded, changed, deleted; their secrets go into the vault and do not come back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Control, ControlError, Idempotency, Patch, SecretInput,
    act::{permit, scope_of},
    checks,
    error::OrMissing,
    provider_place::{checked_secret, checked_slug},
};
use crate::{
    catalogue::DialectKind,
    domain::{
        Actor, AuditAction, ModelName, ModelRef, Permission, ProviderKeyId, ProviderSlug, TenantId, Timestamp,
    },
    store::{ProviderKey, provider_key_delete, provider_key_find, provider_key_insert, provider_key_update},
};

const MAX_WEIGHT: i64 = 1_000_000;
const DEFAULT_WEIGHT: u32 = 1;

/// A provider key to be stored.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProviderKey {
    /// Provider slug; one of the catalogue, or any other together with `base_url`.
    pub provider: String,
    /// Name for people.
    pub key_name: String,
    /// The secret; may be empty where the provider wants none.
    #[schema(value_type = String)]
    #[serde(default)]
    pub api_key: Patch<SecretInput>,
    /// Where it is used, if not at the provider's own address.
    pub base_url: Option<String>,
    /// Dialect of a custom provider; `openai` when left out.
    pub dialect: Option<String>,
    /// Upstream models it serves; all when left out.
    pub models: Option<Vec<String>>,
    /// Share of the traffic, 1 when left out; 0 serves only when all others are down.
    pub weight: Option<i64>,
    /// May be used; true when left out.
    pub is_active: Option<bool>,
    /// May be fetched by a service token, where the operator allows that; fixed at upload.
    pub retrievable: Option<bool>,
    /// For which tenant; one's own, or `default`, when left out.
    pub tenant_id: Option<String>,
}

/// What is to change in a provider key: what is left out stays, `null` goes back to what a create without it says.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderKeyChange {
    /// New name.
    #[schema(value_type = String)]
    #[serde(default)]
    pub key_name: Patch<String>,
    /// New secret, in place of the old one.
    #[schema(value_type = String)]
    #[serde(default)]
    pub api_key: Patch<SecretInput>,
    /// New address; only together with `api_key`. `null` is the provider's own.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub base_url: Patch<String>,
    /// Upstream models it serves; `null` serves all.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    pub models: Patch<Vec<String>>,
    /// Share of the traffic; `null` is 1.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000)]
    #[serde(default)]
    pub weight: Patch<i64>,
    /// May be used; `null` is true.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    pub is_active: Patch<bool>,
}

/// What may be known of a provider key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProviderKeyView {
    /// `pk_…`.
    #[schema(value_type = String)]
    pub id: ProviderKeyId,
    /// Whose.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// Provider slug.
    #[schema(value_type = String)]
    pub provider: ProviderSlug,
    /// Name for people.
    pub key_name: String,
    /// Where it is used.
    pub base_url: String,
    /// How it is spoken to.
    pub dialect: String,
    /// Upstream models it serves; `null` serves all.
    #[schema(value_type = Option<Vec<String>>)]
    pub models: Option<Vec<ModelName>>,
    /// Share of the traffic.
    pub weight: u32,
    /// May be used.
    pub is_active: bool,
    /// May be fetched by a service token.
    pub retrievable: bool,
    /// Tells keys apart and says nothing of them: a keyed hash, 8 hex digits.
    pub fingerprint: String,
    /// Under which master key it is sealed.
    pub master_key_id: String,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl Control {
    /// Stores a provider key.
    pub async fn provider_key_create(
        &self,
        actor: &Actor,
        asked: NewProviderKey,
        idempotency: Option<&Idempotency>,
    ) -> Result<ProviderKeyView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let slug = checked_slug(&asked.provider)?;
        let key_name = checks::name("key_name", &asked.key_name)?;
        let place = self.place(slug, asked.base_url.as_deref(), asked.dialect.as_deref())?;
        let secret = checked_secret(asked.api_key, &place)?;
        let models =
            asked.models.map(|texts| self.upstream_models(&place.provider.slug, &texts)).transpose()?;
        let weight = asked.weight.map_or(Ok(DEFAULT_WEIGHT), checked_weight)?;
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return self.provider_key(actor, &made).await;
        }
        let tenant_id = act.tenant(asked.tenant_id.as_deref()).await?;
        let id = ProviderKeyId::generate();
        let slug = place.provider.slug.clone();
        let key = ProviderKey {
            id,
            tenant_id,
            sealed: self.vault.seal_provider_key(tenant_id, id, slug.as_str(), &place.url.origin, &secret),
            fingerprint: self.fingerprints.of(&secret),
            provider: slug,
            key_name,
            dialect: place.custom.then(|| place.provider.dialect.as_str().to_owned()),
            base_url: place.url.base_url,
            origin: place.url.origin,
            models,
            weight,
            is_active: asked.is_active.unwrap_or(true),
            retrievable: asked.retrievable.unwrap_or(self.settings.retrievable_by_default),
            use_for_batch_api: false,
            cloud: None,
            cloud_sealed: None,
            reference: None,
            managed_by: None,
            staged: None,
            created_at: act.at(),
            updated_at: act.at(),
        };
        provider_key_insert(act.tx(), &key).await?;
        act.remember(actor, idempotency, id).await?;
        act.changed(Some(tenant_id), "provider_key");
        let event = act
            .event(AuditAction::ProviderKeyCreated, Some(tenant_id), id)
            .with("provider", &key.provider)
            .with("key_name", &key.key_name)
            .with("origin", &key.origin)
            .with("fingerprint", &key.fingerprint)
            .with("retrievable", key.retrievable);
        act.commit(event).await?;
        Ok(self.view_provider_key(key))
    }

    /// Provider keys that the actor may see, oldest first.
    pub async fn provider_keys(
        &self,
        actor: &Actor,
        tenant: Option<&str>,
    ) -> Result<Vec<ProviderKeyView>, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let scope = self.scope(actor, tenant).await?;
        let keys = self.store.provider_keys(scope).await?;
        Ok(keys.into_iter().map(|key| self.view_provider_key(key)).collect())
    }

    /// One provider key.
    pub async fn provider_key(&self, actor: &Actor, id: &str) -> Result<ProviderKeyView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let key = self.store.provider_key(scope_of(actor), key_id(id)?).await.or_missing("provider key")?;
        Ok(self.view_provider_key(key))
    }

    /// Changes a provider key. A new address needs the secret anew: the old one was given for the old address.
    pub async fn provider_key_change(
        &self,
        actor: &Actor,
        id: &str,
        asked: ProviderKeyChange,
    ) -> Result<ProviderKeyView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut key =
            provider_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("provider key")?;
        let mut names = Vec::new();
        if let Some(name) = asked.key_name.not_null("key_name")? {
            key.key_name = checks::name("key_name", &name)?;
            names.push("key_name");
        }
        if !asked.weight.is_keep() {
            asked.weight.apply(&mut key.weight, DEFAULT_WEIGHT, checked_weight)?;
            names.push("weight");
        }
        if !asked.is_active.is_keep() {
            asked.is_active.apply(&mut key.is_active, true, Ok)?;
            names.push("is_active");
        }
        if !asked.models.is_keep() {
            let slug = key.provider.clone();
            asked
                .models
                .apply(&mut key.models, None, |texts| self.upstream_models(&slug, &texts).map(Some))?;
            names.push("models");
        }
        if !asked.base_url.is_keep() && asked.api_key.is_keep() {
            return Err(ControlError::invalid(
                "secret_required",
                "`base_url` can only change together with `api_key`: the stored secret was given for the old address",
            ));
        }
        if !asked.api_key.is_keep() {
            let given = match &asked.base_url {
                Patch::Keep => Some(key.base_url.clone()),
                Patch::Clear => None,
                Patch::Set(url) => Some(url.clone()),
            };
            let place = self.place(key.provider.clone(), given.as_deref(), key.dialect.as_deref())?;
            let secret = checked_secret(asked.api_key, &place)?;
            key.sealed = self.vault.seal_provider_key(
                key.tenant_id,
                key.id,
                key.provider.as_str(),
                &place.url.origin,
                &secret,
            );
            key.fingerprint = self.fingerprints.of(&secret);
            key.base_url = place.url.base_url;
            key.origin = place.url.origin;
            names.push("api_key");
            if !asked.base_url.is_keep() {
                names.push("base_url");
            }
        }
        key.updated_at = act.at();
        provider_key_update(act.tx(), &key).await?;
        act.changed(Some(key.tenant_id), "provider_key");
        let event = act
            .event(AuditAction::ProviderKeyUpdated, Some(key.tenant_id), key.id)
            .with("changed", names.join(","))
            .with("origin", &key.origin)
            .with("fingerprint", &key.fingerprint);
        act.commit(event).await?;
        Ok(self.view_provider_key(key))
    }

    /// Deletes a provider key and its sealed secret.
    pub async fn provider_key_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let key = provider_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("provider key")?;
        provider_key_delete(act.tx(), key.id).await?;
        act.changed(Some(key.tenant_id), "provider_key");
        let event = act
            .event(AuditAction::ProviderKeyDeleted, Some(key.tenant_id), key.id)
            .with("provider", &key.provider)
            .with("key_name", &key.key_name);
        act.commit(event).await
    }

    /// Upstream model names. One that was written with its provider in front loses it, unless the provider itself
    /// calls the model that.
    fn upstream_models(&self, slug: &ProviderSlug, texts: &[String]) -> Result<Vec<ModelName>, ControlError> {
        let prices = self.catalogue.prices.load();
        let now = self.clock.now();
        let names = checks::models("models", texts)?;
        Ok(names
            .into_iter()
            .map(|name| {
                let whole = ModelRef { provider: slug.clone(), model: name.clone() };
                match name.as_model() {
                    Some(model) if model.provider == *slug && prices.price(&whole, now).is_none() => {
                        model.model
                    }
                    _ => name,
                }
            })
            .collect())
    }

    fn view_provider_key(&self, key: ProviderKey) -> ProviderKeyView {
        let known = self.catalogue.providers.get(&key.provider);
        let dialect = match (key.dialect, known) {
            (Some(dialect), _) => dialect,
            (None, Some(provider)) => provider.dialect.as_str().to_owned(),
            (None, None) => DialectKind::OpenAi.as_str().to_owned(),
        };
        ProviderKeyView {
            id: key.id,
            tenant_id: key.tenant_id,
            provider: key.provider,
            key_name: key.key_name,
            base_url: key.base_url,
            dialect,
            models: key.models,
            weight: key.weight,
            is_active: key.is_active,
            retrievable: key.retrievable,
            fingerprint: key.fingerprint,
            master_key_id: key.sealed.split('.').nth(1).unwrap_or_default().to_owned(),
            created_at: key.created_at,
            updated_at: key.updated_at,
        }
    }
}

fn key_id(text: &str) -> Result<ProviderKeyId, ControlError> {
    text.parse().map_err(|_| ControlError::NotFound("provider key"))
}

fn checked_weight(weight: i64) -> Result<u32, ControlError> {
    u32::try_from(weight)
        .ok()
        .filter(|_| weight <= MAX_WEIGHT)
        .ok_or_else(|| ControlError::bad(format!("`weight` must be 0 to {MAX_WEIGHT}")))
}
