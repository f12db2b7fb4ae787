//! The permission to open one provider key: for one call, or for one service that fetches it.

use super::{ModelRef, ProviderKeyId, ProviderSlug, TenantId};

/// Says that policy let one tenant's key be used for one model. The vault opens a key only against a grant that names
/// it, and only the data plane's policy gate issues grants, after the allow-list was checked on what will be called.
/// It cannot be cloned: one grant, one attempt.
#[derive(Debug)]
pub struct DispatchGrant {
    tenant: TenantId,
    provider_key: ProviderKeyId,
    model: ModelRef,
}

impl DispatchGrant {
    /// Issues a grant. `clippy.toml` forbids the call outside `gateway::policy`.
    pub fn issue(tenant: TenantId, provider_key: ProviderKeyId, model: ModelRef) -> Self {
        Self { tenant, provider_key, model }
    }

    /// Whose key.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which key.
    pub fn provider_key(&self) -> ProviderKeyId {
        self.provider_key
    }

    /// For which model.
    pub fn model(&self) -> &ModelRef {
        &self.model
    }
}

/// Says that one service may have one key of its tenant in the clear. Only `control`'s retrieval issues it, once the
/// operator's switch, the token, and what the key was uploaded for have been looked at. It cannot be cloned: one grant, one
/// answer.
#[derive(Debug)]
pub struct RetrievalGrant {
    tenant: TenantId,
    provider_key: ProviderKeyId,
    provider: ProviderSlug,
}

impl RetrievalGrant {
    /// Issues a grant. `clippy.toml` forbids the call outside `control::retrieval`.
    pub fn issue(tenant: TenantId, provider_key: ProviderKeyId, provider: ProviderSlug) -> Self {
        Self { tenant, provider_key, provider }
    }

    /// Whose key.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which key.
    pub fn provider_key(&self) -> ProviderKeyId {
        self.provider_key
    }

    /// At which provider.
    pub fn provider(&self) -> &ProviderSlug {
        &self.provider
    }
}

/// Says that the secret which waits beside a provider key's present one may be opened once, to be tried at its own
/// provider. Like a [`DispatchGrant`] it comes from the data plane's policy gate only and cannot be cloned; it does not
/// open the present secret for a client's request.
#[derive(Debug)]
pub struct CheckGrant {
    tenant: TenantId,
    provider_key: ProviderKeyId,
    provider: ProviderSlug,
}

impl CheckGrant {
    /// Issues a grant. `clippy.toml` forbids the call outside `gateway::policy`.
    pub fn issue(tenant: TenantId, provider_key: ProviderKeyId, provider: ProviderSlug) -> Self {
        Self { tenant, provider_key, provider }
    }

    /// Whose key.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which key.
    pub fn provider_key(&self) -> ProviderKeyId {
        self.provider_key
    }

    /// At which provider.
    pub fn provider(&self) -> &ProviderSlug {
        &self.provider
    }
}
