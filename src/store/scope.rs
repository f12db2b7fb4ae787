//! Whose rows a call may touch. Every function over tenants' data takes a [`TenantScope`], so a query that forgets its
//! tenant does not compile.

use crate::domain::TenantId;

/// Whose rows a call may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantScope(Option<TenantId>);

impl TenantScope {
    /// One tenant's rows.
    pub const fn only(tenant: TenantId) -> Self {
        Self(Some(tenant))
    }

    /// Every tenant's rows: for owners and for the gateway itself.
    pub const fn house() -> Self {
        Self(None)
    }

    /// The one tenant, if it is one.
    pub const fn tenant(self) -> Option<TenantId> {
        self.0
    }

    /// Whether `tenant`'s rows are within it.
    pub fn covers(self, tenant: TenantId) -> bool {
        self.0.is_none_or(|only| only == tenant)
    }

    pub(super) fn column(self) -> Option<String> {
        self.0.map(|tenant| tenant.to_string())
    }
}
