//! The permission to open one provider key for one call.

use super::{ModelRef, ProviderKeyId, TenantId};

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
