//! Whose limits and whose money: what a cap, a counter or a rate belongs to.

use std::fmt;

use super::{BudgetId, SpendWindow, TenantId, VirtualKeyId, WindowIndex};

/// Something that has limits of its own. A request is in several scopes at once and must fit all of them. The order
/// of scopes is the order in which their locks are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub enum Scope {
    /// One virtual key.
    VirtualKey(VirtualKeyId),
    /// One tenant, all of its keys together.
    Tenant(TenantId),
    /// A budget that several keys share.
    Budget(BudgetId),
}

impl Scope {
    /// What kind of scope, as the database and the metrics call it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::VirtualKey(_) => "virtual_key",
            Self::Tenant(_) => "tenant",
            Self::Budget(_) => "budget",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VirtualKey(id) => id.fmt(f),
            Self::Tenant(id) => id.fmt(f),
            Self::Budget(id) => id.fmt(f),
        }
    }
}

impl From<VirtualKeyId> for Scope {
    fn from(id: VirtualKeyId) -> Self {
        Self::VirtualKey(id)
    }
}

impl From<TenantId> for Scope {
    fn from(id: TenantId) -> Self {
        Self::Tenant(id)
    }
}

impl From<BudgetId> for Scope {
    fn from(id: BudgetId) -> Self {
        Self::Budget(id)
    }
}

/// One sum of spend: whose, in which kind of window, and in which day, week or month of it. The order of counters is the
/// order in which their rows are locked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Counter {
    /// Whose.
    pub scope: Scope,
    /// In which kind of window.
    pub window: SpendWindow,
    /// In which day, week or month.
    pub index: WindowIndex,
}
