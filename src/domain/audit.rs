//! What is written to the audit log: who did what to which object, and how it went. Never a secret.

use std::collections::BTreeMap;

use super::{RequestId, TenantId};

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
    /// Every family.
    pub const ALL: [Self; 4] =
        [Self::SecretManagement, Self::KeyManagement, Self::Identity, Self::Configuration];

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

/// How an act went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditOutcome {
    /// It was done.
    Success,
    /// It was not allowed.
    Refused,
    /// It was tried and could not be done.
    Failure,
}

impl AuditOutcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Success, Self::Refused, Self::Failure];

    /// The name used by the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failure => "failure",
        }
    }
}

macro_rules! audit_actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal in $category:ident;)+) => {
        /// An act that is audited.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AuditAction { $($(#[$doc])* $name,)+ }

        impl AuditAction {
            /// Every act.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

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
    /// A new secret was laid beside a provider key's present one.
    ProviderKeyStaged = "provider_key.staged" in SecretManagement;
    /// A staged secret was tried with a real call.
    ProviderKeyVerified = "provider_key.verified" in SecretManagement;
    /// A staged secret took the place of the one before it.
    ProviderKeyPromoted = "provider_key.promoted" in SecretManagement;
    /// A staged secret was thrown away.
    ProviderKeyUnstaged = "provider_key.unstaged" in SecretManagement;
    /// A provider key left the vault for a service, or was refused to one.
    ProviderKeyRetrieved = "provider_key.retrieved" in SecretManagement;
    /// A provider key was opened for forwards; one entry sums a key's use of a while.
    ProviderKeyUsed = "provider_key.used" in SecretManagement;
    /// A service token was made.
    ServiceTokenCreated = "service_token.created" in SecretManagement;
    /// A service token was changed.
    ServiceTokenUpdated = "service_token.updated" in SecretManagement;
    /// A service token got a new secret.
    ServiceTokenRotated = "service_token.rotated" in SecretManagement;
    /// A service token was deleted.
    ServiceTokenDeleted = "service_token.deleted" in SecretManagement;
    /// A config variable was made.
    ConfigVariableCreated = "config_variable.created" in SecretManagement;
    /// A config variable was changed.
    ConfigVariableUpdated = "config_variable.updated" in SecretManagement;
    /// A config variable was deleted.
    ConfigVariableDeleted = "config_variable.deleted" in SecretManagement;
    /// A reference to a secret was resolved, or could not be.
    ReferenceResolved = "reference.resolved" in SecretManagement;
    /// Everything sealed is being sealed anew under another master key.
    MasterKeyRotationStarted = "master_key.rotation_started" in SecretManagement;
    /// Nothing is left under another master key than the one that seals.
    MasterKeyRotated = "master_key.rotated" in SecretManagement;
    /// Nothing may be sealed under a master key any more.
    MasterKeyRetired = "master_key.retired" in SecretManagement;
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
    /// A session was ended.
    SessionEnded = "session.ended" in Identity;
    /// All sessions of a user were ended.
    SessionsEnded = "session.all_ended" in Identity;
    /// Someone changed their own password.
    PasswordChanged = "user.password_changed" in Identity;
    /// The key that signs sessions was replaced.
    SigningKeyRotated = "signing_key.rotated" in Identity;
    /// A route was refused to a session whose role does not carry it.
    AccessRefused = "access.refused" in Identity;
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
    /// The gateway's configuration was read anew, or was refused.
    ConfigurationReloaded = "configuration.reloaded" in Configuration;
    /// The oldest entries of the audit log were removed; what is left still proves where it begins.
    AuditPruned = "audit.pruned" in Configuration;
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
    /// How it went.
    pub outcome: AuditOutcome,
    /// In which request on the admin plane; `None` outside of one.
    pub request: Option<RequestId>,
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
            outcome: AuditOutcome::Success,
            request: None,
            details: BTreeMap::new(),
        }
    }

    /// It was done to nothing that has an id.
    #[must_use]
    pub fn on_nothing(self) -> Self {
        Self { object: None, ..self }
    }

    /// It was done in this request on the admin plane.
    #[must_use]
    pub fn in_request(self, request: Option<RequestId>) -> Self {
        Self { request, ..self }
    }

    /// It was asked for, and not allowed.
    #[must_use]
    pub fn refused(self) -> Self {
        Self { outcome: AuditOutcome::Refused, ..self }
    }

    /// It was tried, and failed.
    #[must_use]
    pub fn failed(self) -> Self {
        Self { outcome: AuditOutcome::Failure, ..self }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.insert(name, value.to_string());
        self
    }
}
