//! Changing and deleting a provider key.

use super::{
    DEFAULT_WEIGHT, ProviderKeyChange, ProviderKeyView,
    asked::{ACTIVE, NAME, SECRET, one_of},
    checked_weight, key_id,
    place::{Keyed, Place, store_name},
    unmanaged,
};
use crate::{
    control::{
        Control, ControlError, KeySource, Patch,
        act::{Act, permit},
        checks,
        clouds::{Configs, Secrets, Stored},
        error::OrMissing,
    },
    domain::{Actor, AuditAction, Permission, ProviderSecret},
    store::{ProviderKey, provider_key_delete, provider_key_find, provider_key_update},
};

/// What is to become of where a key is used, and of its secrets.
struct Moved {
    source: Patch<KeySource>,
    base_url: Patch<String>,
    cloud: Option<(Stored, Secrets)>,
}

impl Control {
    /// Changes a provider key. A new address needs the secrets anew: the old ones were given for the old address.
    pub async fn provider_key_change(
        &self,
        actor: &Actor,
        id: &str,
        asked: ProviderKeyChange,
    ) -> Result<ProviderKeyView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        if !asked.retrievable.is_keep() {
            return Err(ControlError::bad(
                "`retrievable` is fixed at upload: whoever uploaded the key decided it; upload the key anew",
            ));
        }
        let name = one_of(NAME, asked.key_name, asked.name)?;
        let is_active = one_of(ACTIVE, asked.is_active, asked.enabled)?;
        let source = one_of(SECRET, asked.api_key, asked.value)?;
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut key =
            provider_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("provider key")?;
        unmanaged(&key)?;
        let mut names = Vec::new();
        if let Some(name) = name.not_null("key_name")? {
            key.key_name = checks::name("key_name", &name)?;
            names.push("key_name");
        }
        if !asked.weight.is_keep() {
            asked.weight.apply(&mut key.weight, DEFAULT_WEIGHT, checked_weight)?;
            names.push("weight");
        }
        if !is_active.is_keep() {
            is_active.apply(&mut key.is_active, true, Ok)?;
            names.push("is_active");
        }
        if !asked.use_for_batch_api.is_keep() {
            asked.use_for_batch_api.apply(&mut key.use_for_batch_api, false, Ok)?;
            names.push("use_for_batch_api");
        }
        if !asked.models.is_keep() {
            let slug = key.provider.clone();
            asked
                .models
                .apply(&mut key.models, None, |texts| self.upstream_models(&slug, &texts).map(Some))?;
            names.push("models");
        }
        let configs = Configs {
            azure: asked.azure_key_config,
            vertex: asked.vertex_key_config,
            bedrock: asked.bedrock_key_config,
            huggingface: asked.huggingface_key_config,
        };
        let old = key.cloud.as_deref().map(|json| Stored::read(json).ok_or_else(unreadable)).transpose()?;
        let had_one = old.is_some();
        let cloud = configs.onto(&key.provider, old)?;
        if cloud.is_some() && !had_one {
            return Err(ControlError::bad(
                "this key was stored without a cloud's configuration; store a new key with one",
            ));
        }
        let referred = store_name(&source);
        let moved = Moved { source, base_url: asked.base_url, cloud };
        if let Err(error) = self.apply_move(&act, &mut key, moved, &mut names).await {
            drop(act);
            return Err(self.note_unresolved(actor, key.tenant_id, referred, key.id, error).await);
        }
        key.updated_at = act.at();
        provider_key_update(act.tx(), &key).await?;
        act.changed(Some(key.tenant_id), "provider_key");
        let mut event = act
            .event(AuditAction::ProviderKeyUpdated, Some(key.tenant_id), key.id)
            .with("changed", names.join(","))
            .with("origin", &key.origin)
            .with("fingerprint", &key.fingerprint);
        if let Some(reference) = &key.reference {
            event = event.with("reference", reference);
        }
        act.commit(event).await?;
        self.viewed(key).await
    }

    /// Deletes a provider key and its sealed secrets.
    pub async fn provider_key_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let key = provider_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("provider key")?;
        unmanaged(&key)?;
        provider_key_delete(act.tx(), key.id).await?;
        act.changed(Some(key.tenant_id), "provider_key");
        let event = act
            .event(AuditAction::ProviderKeyDeleted, Some(key.tenant_id), key.id)
            .with("provider", &key.provider)
            .with("key_name", &key.key_name);
        act.commit(event).await
    }

    /// Moves a key, or gives it other secrets, or both.
    async fn apply_move(
        &self,
        act: &Act<'_>,
        key: &mut ProviderKey,
        moved: Moved,
        names: &mut Vec<&'static str>,
    ) -> Result<(), ControlError> {
        let Moved { source, base_url, cloud } = moved;
        if !base_url.is_keep() && key.cloud.is_some() {
            return Err(ControlError::bad(
                "`base_url` of this key follows from its configuration; change that",
            ));
        }
        if !base_url.is_keep() && source.is_keep() {
            return Err(ControlError::invalid(
                "secret_required",
                "`base_url` can only change together with `api_key`: the stored secret was given for the old address",
            ));
        }
        if source.is_keep() && cloud.is_none() {
            return Ok(());
        }
        let place = self.new_place(key, &base_url, cloud.as_ref().map(|(stored, _)| stored))?;
        let same_origin = place.url.origin == key.origin;
        if !same_origin && store_name(&source).is_some() {
            // Its value was given for the old address, like a secret that was typed in.
            return Err(moved_without("the secret itself, and not the name of a config variable,"));
        }
        let keyed = match source.is_keep() {
            true if same_origin => None,
            true if self.has_secret(key) => return Err(moved_without("`api_key`")),
            // An empty one is sealed anew: it too stands for its origin.
            true => Some(Keyed { secret: ProviderSecret::new(Default::default()), reference: None }),
            false => Some(self.key_secret(act.tx(), key.tenant_id, source, &place).await?),
        };
        if let Some(Keyed { secret, reference }) = keyed {
            key.sealed = self.vault.seal_provider_key(
                key.tenant_id,
                key.id,
                key.provider.as_str(),
                &place.url.origin,
                &secret,
            );
            act.may_store(&key.sealed).await?;
            key.fingerprint = self.fingerprints.of(&secret);
            key.reference = reference;
            // What waits was to replace the secret that has just gone.
            key.staged = None;
            names.push("api_key");
        }
        if let Some((stored, secrets)) = cloud {
            if !same_origin && !secrets.mentioned() && key.cloud_sealed.is_some() {
                return Err(moved_without("the configuration's secrets"));
            }
            if secrets.mentioned() {
                let slug = key.provider.as_str();
                key.cloud_sealed = secrets.render().map(|secrets| {
                    self.vault.seal_cloud(key.tenant_id, key.id, slug, &place.url.origin, &secrets)
                });
                if let Some(sealed) = &key.cloud_sealed {
                    act.may_store(sealed).await?;
                }
                names.push("cloud_secrets");
            }
            key.cloud = Some(stored.json());
            names.push("cloud");
        }
        if let Some(json) = &key.cloud {
            Stored::read(json).ok_or_else(unreadable)?.can_sign_in(self.has_secret(key))?;
        }
        if !same_origin {
            // What waits beside it was given for the old address as well.
            key.staged = None;
        }
        if let Some(staged) = key.staged.as_mut().filter(|_| place.url.base_url != key.base_url) {
            staged.verified_at = None;
        }
        if !base_url.is_keep() {
            names.push("base_url");
        }
        key.base_url = place.url.base_url;
        key.origin = place.url.origin;
        Ok(())
    }

    fn new_place(
        &self,
        key: &ProviderKey,
        base_url: &Patch<String>,
        cloud: Option<&Stored>,
    ) -> Result<Place, ControlError> {
        match (cloud, &key.cloud) {
            (Some(stored), _) => self.cloud_place(key.provider.clone(), stored),
            (None, Some(json)) => {
                self.cloud_place(key.provider.clone(), &Stored::read(json).ok_or_else(unreadable)?)
            }
            (None, None) => {
                let given = match base_url {
                    Patch::Keep => Some(key.base_url.clone()),
                    Patch::Clear => None,
                    Patch::Set(url) => Some(url.clone()),
                };
                self.place(key.provider.clone(), given.as_deref(), key.dialect.as_deref())
            }
        }
    }
}

fn moved_without(what: &str) -> ControlError {
    ControlError::invalid(
        "secret_required",
        format!("this change moves the key to another address; send {what} anew with it"),
    )
}

fn unreadable() -> ControlError {
    ControlError::Store(crate::store::StoreError::Corrupt {
        table: "provider_key",
        what: "`cloud` is not readable",
    })
}
