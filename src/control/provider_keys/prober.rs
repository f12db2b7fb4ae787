//! Who tries a staged secret at its provider. This room calls nobody: the gateway hands one in, other processes have none.

use std::{fmt, pin::Pin, sync::Arc};

use crate::{
    domain::{ProviderKeyId, ProviderSlug, TenantId},
    store::ProviderKey,
};

/// A provider key whose staged secret is to be tried; the secret is sealed.
pub struct StagedKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub key: ProviderKeyId,
    /// At which provider.
    pub provider: ProviderSlug,
    /// Dialect of a custom provider; `None` for one of the catalogue.
    pub dialect: Option<String>,
    /// Where it is used, without a trailing slash.
    pub base_url: String,
    /// Scheme, host and port of `base_url`.
    pub origin: String,
    /// The staged secret.
    pub sealed: String,
}

impl StagedKey {
    /// Of a row; `None` when nothing is staged.
    pub(super) fn of(key: &ProviderKey) -> Option<Self> {
        Some(Self {
            tenant: key.tenant_id,
            key: key.id,
            provider: key.provider.clone(),
            dialect: key.dialect.clone(),
            base_url: key.base_url.clone(),
            origin: key.origin.clone(),
            sealed: key.staged.as_ref()?.sealed.clone(),
        })
    }
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The provider answered with this HTTP status.
    Answered(u16),
    /// It was not asked, or did not answer; why.
    NotAsked(&'static str),
    /// It was not asked, as the staged secret does not open as what its row says it is; the reason, in one word.
    Unsealable(&'static str),
}

type Trying = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// Tries staged secrets.
#[derive(Clone)]
pub struct Prober(Option<Arc<dyn Fn(StagedKey) -> Trying + Send + Sync>>);

impl Prober {
    /// One that tries by `probe`.
    pub fn new<F: Future<Output = Verdict> + Send + 'static>(
        probe: impl Fn(StagedKey) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(move |key| Box::pin(probe(key)))))
    }

    /// For processes that call no provider.
    pub fn nobody() -> Self {
        Self(None)
    }

    pub(super) async fn probe(&self, key: StagedKey) -> Verdict {
        match &self.0 {
            Some(probe) => probe(key).await,
            None => Verdict::NotAsked("only a running gateway calls providers; ask its admin plane"),
        }
    }
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prober(…)")
    }
}
