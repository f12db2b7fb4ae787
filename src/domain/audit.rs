//! What is written to the audit log: who did what to which object, and how it went. Never a secret.

use std::collections::BTreeMap;

use super::TenantId;

/// A family of acts, for filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditCategory {
    /// Provider keys and their use.
    SecretManagement,
    /// Virtual keys, budgets, aliases and limits.
    KeyManagement,
    /// People, sessions and roles.
    Identity,
    /// Tenants, prices, instances and settings.
    Configuration,
}

impl AuditCategory {
    /// The name used by the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecretManagement => "secret_management",
            Self::KeyManagement => "key_management",
            Self::Identity => "identity",
            Self::Configuration => "configuration",
        }
    }
}

macro_rules! audit_actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal in $category:ident;)+) => {
        /// An act that is audited.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AuditAction { $($(#[$doc])* $name,)+ }

        impl AuditAction {
            /// The name used by the API and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Its family.
            pub const fn category(self) -> AuditCategory {
                match self { $(Self::$name => AuditCategory::$category,)+ }
            }
        }
    };
}

audit_actions! {
    /// A provider key was stored.
    ProviderKeyCreated = "provider_key.created" in SecretManagement;
    /// A provider key's settings or secret were changed.
    ProviderKeyUpdated = "provider_key.updated" in SecretManagement;
    /// A provider key was deleted.
    ProviderKeyDeleted = "provider_key.deleted" in SecretManagement;
    /// A sealed key did not open as what its row says it is.
    ProviderKeyUnsealable = "provider_key.unsealable" in SecretManagement;
    /// A virtual key was made.
    VirtualKeyCreated = "virtual_key.created" in KeyManagement;
    /// A virtual key's limits were changed.
    VirtualKeyUpdated = "virtual_key.updated" in KeyManagement;
    /// A virtual key got a new secret.
    VirtualKeyRotated = "virtual_key.rotated" in KeyManagement;
    /// A virtual key was revoked.
    VirtualKeyRevoked = "virtual_key.revoked" in KeyManagement;
    /// A virtual key was deleted.
    VirtualKeyDeleted = "virtual_key.deleted" in KeyManagement;
    /// A budget was made.
    BudgetCreated = "budget.created" in KeyManagement;
    /// A budget was changed.
    BudgetUpdated = "budget.updated" in KeyManagement;
    /// A budget was deleted.
    BudgetDeleted = "budget.deleted" in KeyManagement;
    /// An alias was made or replaced.
    AliasSet = "alias.set" in KeyManagement;
    /// An alias was deleted.
    AliasDeleted = "alias.deleted" in KeyManagement;
    /// Someone logged in.
    LoggedIn = "session.created" in Identity;
    /// Someone failed to log in.
    LoginRefused = "session.refused" in Identity;
    /// A user was made.
    UserCreated = "user.created" in Identity;
    /// A user was changed.
    UserUpdated = "user.updated" in Identity;
    /// A user was deleted.
    UserDeleted = "user.deleted" in Identity;
    /// A tenant was made.
    TenantCreated = "tenant.created" in Configuration;
    /// A tenant was changed.
    TenantUpdated = "tenant.updated" in Configuration;
    /// A tenant was deleted.
    TenantDeleted = "tenant.deleted" in Configuration;
    /// Prices were set.
    PricesSet = "prices.set" in Configuration;
    /// The leases of a silent instance were given back to their caps.
    LeasesReleased = "lease.released" in Configuration;
}

/// One act, before it is chained into the log.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// What was done.
    pub action: AuditAction,
    /// The actor's label.
    pub actor: String,
    /// In which tenant, if in one.
    pub tenant: Option<TenantId>,
    /// The id of what it was done to.
    pub object: Option<String>,
    /// `success` or `failure`.
    pub success: bool,
    /// Named facts that are allowed to be known: field names, limits, names. Never a secret.
    pub details: BTreeMap<&'static str, String>,
}

impl AuditEvent {
    /// A successful act without details.
    pub fn new(action: AuditAction, actor: String, tenant: Option<TenantId>, object: impl ToString) -> Self {
        Self {
            action,
            actor,
            tenant,
            object: Some(object.to_string()),
            success: true,
            details: BTreeMap::new(),
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.insert(name, value.to_string());
        self
    }
}
