//! Who may answer, in which order: the request's models (or model), then the key's fallbacks; for each model every
//! provider key that serves it, the healthy ones shuffled by weight.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    authenticate::{Principal, ProviderKey, Tenant},
    error::GatewayError,
};
use crate::{
    catalogue::PriceBook,
    domain::{ModelName, ModelRef},
    store::ProviderKeyRow,
    upstream::{Health, Standing},
};

/// One that may answer.
#[derive(Clone)]
pub struct Candidate {
    /// What is called.
    pub model: ModelRef,
    /// With which key.
    pub key: Arc<ProviderKey>,
}

/// What the plan is made from.
pub(super) struct Planner<'a> {
    pub(super) principal: &'a Principal,
    pub(super) prices: &'a PriceBook,
    pub(super) health: &'a Health,
    pub(super) now: Instant,
}

impl Planner<'_> {
    /// The candidates, never none. Those that rest come last: they are better than nothing.
    ///
    /// # Errors
    /// 404 when neither the request's names nor the key's fallbacks stand for anything this tenant has.
    pub(super) fn plan(&self, requested: &[ModelName]) -> Result<Vec<Candidate>, GatewayError> {
        let (mut healthy, mut resting) = (Vec::new(), Vec::new());
        for name in requested {
            for model in resolve(&self.principal.tenant, self.prices, name) {
                self.add_keys(&model, &mut healthy, &mut resting);
            }
        }
        for name in &self.principal.key.fallback_models {
            for model in resolve(&self.principal.tenant, self.prices, name) {
                self.add_keys(&model, &mut healthy, &mut resting);
            }
        }
        healthy.append(&mut resting);
        if healthy.is_empty() {
            let name = requested.first().map(ToString::to_string).unwrap_or_default();
            return Err(self.unspoken(requested).unwrap_or(GatewayError::ModelNotFound(name)));
        }
        Ok(healthy)
    }

    /// Why nobody answers, when all that could are keys for clouds of which no dialect is spoken.
    fn unspoken(&self, requested: &[ModelName]) -> Option<GatewayError> {
        let Principal { tenant, key, .. } = self.principal;
        if tenant.unspoken.is_empty() {
            return None;
        }
        let mut refused = None;
        for name in requested.iter().chain(&key.fallback_models) {
            for model in meant(tenant, self.prices, name) {
                let Some(row) = tenant.unspoken(&model) else { continue };
                if self.principal.allows(&model) {
                    let (key, provider) = (row.key_name.clone(), row.provider.to_string());
                    return Some(GatewayError::NoDialect { key, provider });
                }
                refused.get_or_insert_with(|| GatewayError::ModelNotAllowed(model.to_string()));
            }
        }
        refused
    }

    fn add_keys(&self, model: &ModelRef, healthy: &mut Vec<Candidate>, resting: &mut Vec<Candidate>) {
        let known = |list: &[Candidate], key: &ProviderKey| {
            list.iter().any(|candidate| candidate.model == *model && candidate.key.id() == key.id())
        };
        let Some(keys) = self.principal.tenant.keys.get(&model.provider) else { return };
        let mut good: Vec<&Arc<ProviderKey>> = Vec::with_capacity(keys.len());
        for key in keys.iter().filter(|key| key.serves(&model.model)) {
            // A model named twice is tried once.
            if known(healthy, key) || known(resting, key) {
                continue;
            }
            match self.health.standing(key.id(), &model.model, self.now) {
                Standing::Healthy => good.push(key),
                Standing::Resting => resting.push(Candidate { model: model.clone(), key: Arc::clone(key) }),
            }
        }
        shuffle_by_weight(&mut good);
        healthy.extend(good.into_iter().map(|key| Candidate { model: model.clone(), key: Arc::clone(key) }));
    }
}

/// What a name stands for: a model of a provider the tenant has, an alias, or a bare name that one of the tenant's
/// keys lists or the catalogue knows.
pub(super) fn resolve(tenant: &Tenant, prices: &PriceBook, name: &ModelName) -> Vec<ModelRef> {
    // An alias may contain a slash; a model of a provider may not be shadowed by one.
    if let Some(model) = name.as_model().filter(|model| tenant.keys.contains_key(&model.provider)) {
        return vec![model];
    }
    if let Some(models) = tenant.alias(name) {
        return models.to_vec();
    }
    let listed = tenant.keys.iter().flat_map(|(provider, keys)| {
        let lists =
            |key: &Arc<ProviderKey>| key.row.models.as_ref().is_some_and(|models| models.contains(name));
        keys.iter().any(lists).then(|| ModelRef { provider: provider.clone(), model: name.clone() })
    });
    let mut models: Vec<ModelRef> = listed.collect();
    models.sort();
    for model in prices.providers_of(name.as_str()) {
        if tenant.keys.contains_key(&model.provider) && !models.contains(model) {
            models.push(model.clone());
        }
    }
    models
}

/// What a name would stand for if the dialects of all the tenant's keys were spoken.
fn meant(tenant: &Tenant, prices: &PriceBook, name: &ModelName) -> Vec<ModelRef> {
    if let Some(models) = tenant.alias(name) {
        return models.to_vec();
    }
    let lists = |row: &&ProviderKeyRow| row.models.as_ref().is_some_and(|models| models.contains(name));
    let listed = tenant.unspoken.iter().filter(lists);
    let listed = listed.map(|row| ModelRef { provider: row.provider.clone(), model: name.clone() });
    name.as_model().into_iter().chain(listed).chain(prices.providers_of(name.as_str()).cloned()).collect()
}

/// Orders keys at random so that each comes first as often as its weight says. Weight 0 comes after all others.
fn shuffle_by_weight(keys: &mut [&Arc<ProviderKey>]) {
    if keys.len() < 2 {
        return;
    }
    for place in 0..keys.len() {
        let total: u64 = keys[place..].iter().map(|key| u64::from(key.row.weight)).sum();
        if total == 0 {
            return;
        }
        let mut ticket = random() % total;
        let chosen = keys[place..].iter().position(|key| {
            let weight = u64::from(key.row.weight);
            let mine = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            mine
        });
        keys[place..].swap(0, chosen.unwrap_or(0));
    }
}

/// A random number for spreading load; not for secrets.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // Each `RandomState` of a thread has another key, and hashing mixes it well.
    RandomState::new().build_hasher().finish()
}
