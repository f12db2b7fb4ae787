//! What the data plane tells whoever keeps the house, without knowing who that is.

use std::{fmt, sync::Arc};

use super::{ProviderKeyId, ProviderSlug, TenantId};

/// A stored provider key that did not open for the row it stands in: somebody moved or changed it, or its master key is
/// not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsealableKey {
    /// Whose request met it.
    pub tenant: TenantId,
    /// The row.
    pub key: ProviderKeyId,
    /// As the row says.
    pub provider: ProviderSlug,
    /// Out of a small set of names.
    pub reason: &'static str,
}

/// Who is told of a key that did not open.
#[derive(Clone)]
pub struct Alarms(Arc<dyn Fn(UnsealableKey) + Send + Sync>);

impl Alarms {
    /// Calls `hear` on a request's way; it must neither block nor ask the database.
    pub fn new(hear: impl Fn(UnsealableKey) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// Tells of one.
    pub fn ring(&self, alarm: UnsealableKey) {
        (self.0)(alarm);
    }
}

impl fmt::Debug for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarms(…)")
    }
}
