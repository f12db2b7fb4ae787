//! What may be known of a provider key.

use serde::Serialize;
use utoipa::ToSchema;

use super::key_id;
use crate::{
    catalogue::DialectKind,
    control::{
        AzureKeyConfigView, BedrockKeyConfigView, Control, ControlError, HuggingFaceKeyConfigView, REDACTED,
        SecretView, VertexKeyConfigView,
        act::{permit, scope_of},
        clouds::{CloudViews, Stored},
        error::OrMissing,
    },
    domain::{
        Actor, ModelName, Permission, ProviderKeyId, ProviderSecret, ProviderSlug, TenantId, Timestamp,
    },
    store::{KeyUse, ProviderKey},
    vault::SealedRow,
};

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
    /// The same as `key_name`.
    pub name: String,
    /// That there is a secret, and where it comes from.
    pub value: SecretView,
    /// The config variable that the secret comes from; `null` when it was typed in.
    pub reference: Option<ReferenceView>,
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
    /// The same as `is_active`.
    pub enabled: bool,
    /// May be fetched by a service token.
    pub retrievable: bool,
    /// May be used by batch jobs.
    pub use_for_batch_api: bool,
    /// Of a key at Azure.
    pub azure_key_config: Option<AzureKeyConfigView>,
    /// Of a key at Vertex AI.
    pub vertex_key_config: Option<VertexKeyConfigView>,
    /// Of a key at Bedrock.
    pub bedrock_key_config: Option<BedrockKeyConfigView>,
    /// Of a key at a Hugging Face endpoint.
    pub huggingface_key_config: Option<HuggingFaceKeyConfigView>,
    /// The operator's configuration that it belongs to; such a key is changed there. `null` for others.
    pub managed_by: Option<String>,
    /// Tells keys apart and says nothing of them: a keyed hash, 8 hex digits.
    pub fingerprint: String,
    /// A new secret that waits beside the present one.
    pub staged: Option<StagedView>,
    /// Whether everything that is sealed of it opens as what its row says it is.
    pub openable: bool,
    /// Under which master key it is sealed.
    pub master_key_id: String,
    /// When a request was last sent with it, to within a few seconds.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// When its provider last refused it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_refused_at: Option<Timestamp>,
    /// How it was refused then.
    pub last_refusal: Option<RefusalView>,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Where a secret comes from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReferenceView {
    /// Name of the config variable.
    pub store: String,
}

/// How a provider refused a key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RefusalView {
    /// HTTP status: 401 and 403 for the key itself, others for the account behind it.
    pub status: u16,
}

/// A secret that waits.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StagedView {
    /// Its keyed hash.
    pub fingerprint: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub staged_at: Timestamp,
    /// When the provider took it; `null` while it was not tried or was refused.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub verified_at: Option<Timestamp>,
}

impl ProviderKeyView {
    /// What somebody should look after, in words; `None` when the key is well as far as is known.
    pub fn trouble(&self) -> Option<String> {
        if !self.openable {
            return Some("does not open: its row was changed, or its master key is missing".to_owned());
        }
        let status = self.last_refusal.as_ref()?.status;
        let since = self.last_refused_at?;
        // What was refused may be in use again: the last word counts.
        let again = self.last_used_at.is_some_and(|used| used > since);
        (self.is_active && !again).then(|| format!("its provider refused it with {status} at {since}"))
    }
}

impl Control {
    /// Provider keys that the actor may see, oldest first.
    pub async fn provider_keys(
        &self,
        actor: &Actor,
        tenant: Option<&str>,
    ) -> Result<Vec<ProviderKeyView>, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let scope = self.scope(actor, tenant).await?;
        let keys = self.store.provider_keys(scope).await?;
        let ids: Vec<ProviderKeyId> = keys.iter().map(|key| key.id).collect();
        let uses = self.store.key_uses(&ids).await?;
        Ok(keys
            .into_iter()
            .map(|key| {
                let used = uses.get(&key.id).copied();
                self.view_provider_key(key, used)
            })
            .collect())
    }

    /// One provider key.
    pub async fn provider_key(&self, actor: &Actor, id: &str) -> Result<ProviderKeyView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let key = self.store.provider_key(scope_of(actor), key_id(id)?).await.or_missing("provider key")?;
        self.viewed(key).await
    }

    /// A key with what is known of its use.
    pub(super) async fn viewed(&self, key: ProviderKey) -> Result<ProviderKeyView, ControlError> {
        let used = self.store.key_uses(&[key.id]).await?.remove(&key.id);
        Ok(self.view_provider_key(key, used))
    }

    /// Whether a key's secret is not the empty one.
    pub(super) fn has_secret(&self, key: &ProviderKey) -> bool {
        key.fingerprint != self.fingerprints.of(&ProviderSecret::new(Default::default()))
    }

    pub(super) fn view_provider_key(&self, key: ProviderKey, used: Option<KeyUse>) -> ProviderKeyView {
        let known = self.catalogue.providers.get(&key.provider);
        let dialect = match (&key.dialect, known) {
            (Some(dialect), _) => dialect.clone(),
            (None, Some(provider)) => provider.dialect.as_str().to_owned(),
            // A cloud of which no dialect is spoken yet.
            (None, None) if key.cloud.is_some() => key.provider.to_string(),
            (None, None) => DialectKind::OpenAi.as_str().to_owned(),
        };
        let stored = key.cloud.as_deref().map(Stored::read);
        let openable = self.opens(&key) && !matches!(stored, Some(None));
        let clouds = stored.flatten().map(CloudViews::from).unwrap_or_default();
        let variable = |prefix: &str| key.reference.as_deref().and_then(|text| text.strip_prefix(prefix));
        let (env, store) = (variable("env:"), variable("store:"));
        let used = used.unwrap_or_default();
        ProviderKeyView {
            value: SecretView {
                value: self.has_secret(&key).then_some(REDACTED),
                env_var: env.unwrap_or_default().to_owned(),
                from_env: env.is_some(),
            },
            reference: store.map(|name| ReferenceView { store: name.to_owned() }),
            master_key_id: key.sealed.split('.').nth(1).unwrap_or_default().to_owned(),
            staged: key.staged.map(|staged| StagedView {
                fingerprint: staged.fingerprint,
                staged_at: staged.at,
                verified_at: staged.verified_at,
            }),
            id: key.id,
            tenant_id: key.tenant_id,
            provider: key.provider,
            name: key.key_name.clone(),
            key_name: key.key_name,
            base_url: key.base_url,
            dialect,
            models: key.models,
            weight: key.weight,
            is_active: key.is_active,
            enabled: key.is_active,
            retrievable: key.retrievable,
            use_for_batch_api: key.use_for_batch_api,
            azure_key_config: clouds.azure,
            vertex_key_config: clouds.vertex,
            bedrock_key_config: clouds.bedrock,
            huggingface_key_config: clouds.huggingface,
            managed_by: key.managed_by,
            fingerprint: key.fingerprint,
            openable,
            last_used_at: used.used_at,
            last_refused_at: used.refused.map(|(at, _)| at),
            last_refusal: used.refused.map(|(_, status)| RefusalView { status }),
            created_at: key.created_at,
            updated_at: key.updated_at,
        }
    }

    /// Whether all that is sealed of a key opens as what its row says it is.
    fn opens(&self, key: &ProviderKey) -> bool {
        let row = |sealed| SealedRow {
            tenant: key.tenant_id,
            key: key.id,
            provider: key.provider.as_str(),
            origin: &key.origin,
            sealed,
        };
        self.vault.verify_row(&row(&key.sealed)).is_ok()
            && key.cloud_sealed.as_deref().is_none_or(|sealed| self.vault.verify_cloud(&row(sealed)).is_ok())
            && key.staged.as_ref().is_none_or(|staged| self.vault.verify_row(&row(&staged.sealed)).is_ok())
    }
}
