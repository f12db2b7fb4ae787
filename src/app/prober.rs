//! Lets an administrator's wish to try a staged secret reach the data plane's one client: `control` calls nobody itself.

use std::sync::Arc;

use crate::{
    catalogue::{Catalogue, DialectKind, Providers},
    control::{Prober, StagedKey, Verdict},
    gateway::check_grant,
    upstream::{Checked, Staged, Upstream},
    vault::SealedRow,
};

/// Tries staged secrets by `upstream`.
pub(super) fn at(upstream: Upstream, catalogue: Arc<Catalogue>) -> Prober {
    Prober::new(move |key| {
        let (upstream, catalogue) = (upstream.clone(), Arc::clone(&catalogue));
        async move { probe(&upstream, &catalogue, key).await }
    })
}

async fn probe(upstream: &Upstream, catalogue: &Catalogue, key: StagedKey) -> Verdict {
    let provider = match catalogue.providers.get(&key.provider) {
        Some(known) => Arc::clone(known),
        None => {
            let dialect = key.dialect.as_deref().and_then(DialectKind::parse).unwrap_or_default();
            Arc::new(Providers::custom(key.provider.clone(), &key.base_url, dialect))
        }
    };
    let grant = check_grant(key.tenant, key.key, key.provider.clone());
    let sealed = SealedRow {
        tenant: key.tenant,
        key: key.key,
        provider: key.provider.as_str(),
        origin: &key.origin,
        sealed: &key.sealed,
    };
    match upstream.check(grant, Staged { provider: &provider, base_url: &key.base_url, sealed }).await {
        Checked::Answered(status) => Verdict::Answered(status),
        Checked::NotAsked(why) => Verdict::NotAsked(why),
        Checked::Unsealable(reason) => Verdict::Unsealable(reason),
    }
}
