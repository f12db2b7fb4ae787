//! Storing a provider key.

use super::{
    DEFAULT_WEIGHT, NewProviderKey, ProviderKeyView,
    asked::{ACTIVE, NAME, SECRET, either, one_of},
    checked_weight,
    place::{Keyed, checked_slug, store_name},
};
use crate::{
    control::{Control, ControlError, Idempotency, Patch, act::permit, checks, clouds::Configs},
    domain::{Actor, AuditAction, Permission, ProviderKeyId},
    store::{ProviderKey, provider_key_insert},
};

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
        let key_name = either(NAME, asked.key_name, asked.name)?
            .ok_or_else(|| ControlError::bad("`key_name` is missing"))?;
        let key_name = checks::name("key_name", &key_name)?;
        let is_active = either(ACTIVE, asked.is_active, asked.enabled)?.unwrap_or(true);
        let source = one_of(SECRET, asked.api_key, asked.value)?;
        let configs = Configs {
            azure: asked.azure_key_config.map_or(Patch::Keep, Patch::Set),
            vertex: asked.vertex_key_config.map_or(Patch::Keep, Patch::Set),
            bedrock: asked.bedrock_key_config.map_or(Patch::Keep, Patch::Set),
            huggingface: asked.huggingface_key_config.map_or(Patch::Keep, Patch::Set),
        };
        let cloud = configs.onto(&slug, None)?;
        let place = match &cloud {
            None => self.place(slug, asked.base_url.as_deref(), asked.dialect.as_deref())?,
            Some(_) if asked.base_url.is_some() || asked.dialect.is_some() => {
                return Err(ControlError::bad(
                    "leave `base_url` and `dialect` out: the provider's configuration says where and how",
                ));
            }
            Some((stored, _)) => self.cloud_place(slug, stored)?,
        };
        let models =
            asked.models.map(|texts| self.upstream_models(&place.provider.slug, &texts)).transpose()?;
        let weight = asked.weight.map_or(Ok(DEFAULT_WEIGHT), checked_weight)?;
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return self.provider_key(actor, &made).await;
        }
        let tenant_id = act.tenant(asked.tenant_id.as_deref()).await?;
        let referred = store_name(&source);
        let Keyed { secret, reference } = match self.key_secret(act.tx(), tenant_id, source, &place).await {
            Ok(keyed) => keyed,
            Err(error) => {
                drop(act);
                return Err(self.note_unresolved(actor, tenant_id, referred, tenant_id, error).await);
            }
        };
        let id = ProviderKeyId::generate();
        let slug = place.provider.slug.clone();
        let (cloud, cloud_secrets) = match cloud {
            None => (None, None),
            Some((stored, secrets)) => {
                stored.can_sign_in(!secret.is_empty())?;
                (Some(stored), secrets.render())
            }
        };
        let origin = &place.url.origin;
        let key = ProviderKey {
            id,
            tenant_id,
            sealed: self.vault.seal_provider_key(tenant_id, id, slug.as_str(), origin, &secret),
            fingerprint: self.fingerprints.of(&secret),
            cloud: cloud.map(|stored| stored.json()),
            cloud_sealed: cloud_secrets
                .map(|secrets| self.vault.seal_cloud(tenant_id, id, slug.as_str(), origin, &secrets)),
            provider: slug,
            key_name,
            dialect: place.custom.then(|| place.provider.dialect.as_str().to_owned()),
            base_url: place.url.base_url,
            origin: place.url.origin,
            models,
            weight,
            is_active,
            retrievable: asked.retrievable.unwrap_or(self.settings.retrievable_by_default),
            use_for_batch_api: asked.use_for_batch_api.unwrap_or(false),
            reference,
            managed_by: None,
            staged: None,
            created_at: act.at(),
            updated_at: act.at(),
        };
        act.may_store(&key.sealed).await?;
        if let Some(sealed) = &key.cloud_sealed {
            act.may_store(sealed).await?;
        }
        provider_key_insert(act.tx(), &key).await?;
        act.remember(actor, idempotency, id).await?;
        act.changed(Some(tenant_id), "provider_key");
        let mut event = act
            .event(AuditAction::ProviderKeyCreated, Some(tenant_id), id)
            .with("provider", &key.provider)
            .with("key_name", &key.key_name)
            .with("origin", &key.origin)
            .with("fingerprint", &key.fingerprint)
            .with("retrievable", key.retrievable);
        if let Some(reference) = &key.reference {
            event = event.with("reference", reference);
        }
        act.commit(event).await?;
        Ok(self.view_provider_key(key, None))
    }
}
