//! Who acts on the admin plane, and what each role may do.

use serde::{Deserialize, Serialize};

use super::{RequestId, ServiceTokenId, TenantId, UserId};

/// What a person is trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, in every tenant.
    Owner,
    /// Everything in their own tenant.
    TenantAdmin,
    /// Reads spend and usage.
    Finance,
    /// Reads the audit log.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Owner, Self::TenantAdmin, Self::Finance, Self::Auditor];

    /// The name used by the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::TenantAdmin => "tenant_admin",
            Self::Finance => "finance",
            Self::Auditor => "auditor",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether the role carries `permission`; whose things it may touch is a second question.
    pub const fn may(self, permission: Permission) -> bool {
        match (self, permission) {
            (Self::Owner, _) => true,
            (Self::TenantAdmin, Permission::ManageHouse) => false,
            (Self::TenantAdmin, _) => true,
            (Self::Finance, permission) => matches!(permission, Permission::ReadSpend),
            (Self::Auditor, permission) => matches!(permission, Permission::ReadAudit),
        }
    }
}

/// A right that an act needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Tenants and prices: what belongs to the house and not to one tenant.
    ManageHouse,
    /// Users of a tenant.
    ManageUsers,
    /// Provider keys, virtual keys, budgets and aliases of a tenant.
    ManageKeys,
    /// Spend, usage and prices, to read.
    ReadSpend,
    /// The audit log, to read.
    ReadAudit,
}

/// Who performs an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A person with a session.
    User {
        /// Who.
        id: UserId,
        /// With which rights.
        role: Role,
        /// In which tenant; an owner's is the one they act on by default.
        tenant: TenantId,
        /// In which request on the admin plane; the audit log names it.
        request: Option<RequestId>,
    },
    /// A service with a token. It fetches keys and has no permission at all.
    Service {
        /// Its token.
        id: ServiceTokenId,
        /// Whose keys.
        tenant: TenantId,
        /// In which request on the admin plane; the audit log names it.
        request: Option<RequestId>,
    },
    /// Whoever runs the commands on the gateway's own machine.
    Cli,
    /// The gateway itself.
    System,
}

impl Actor {
    /// How the audit log names the actor.
    pub fn label(&self) -> String {
        match self {
            Self::User { id, .. } => id.to_string(),
            Self::Service { id, .. } => id.to_string(),
            Self::Cli => "cli".into(),
            Self::System => "system".into(),
        }
    }

    /// The same actor, acting in this request on the admin plane.
    #[must_use]
    pub fn in_request(self, request: Option<RequestId>) -> Self {
        match self {
            Self::User { id, role, tenant, .. } => Self::User { id, role, tenant, request },
            Self::Service { id, tenant, .. } => Self::Service { id, tenant, request },
            Self::Cli | Self::System => self,
        }
    }

    /// The request on the admin plane in which they act.
    pub const fn request(&self) -> Option<RequestId> {
        match self {
            Self::User { request, .. } | Self::Service { request, .. } => *request,
            Self::Cli | Self::System => None,
        }
    }

    /// Whether the actor has `permission` at all.
    pub const fn may(&self, permission: Permission) -> bool {
        match self {
            Self::User { role, .. } => role.may(permission),
            Self::Service { .. } => false,
            Self::Cli | Self::System => true,
        }
    }

    /// The only tenant the actor may touch; `None` for those who may touch all.
    pub const fn bound_to(&self) -> Option<TenantId> {
        match self {
            Self::User { role: Role::Owner, .. } | Self::Cli | Self::System => None,
            Self::User { tenant, .. } | Self::Service { tenant, .. } => Some(*tenant),
        }
    }
}
