//! Who asks: one credential, its shape, its digest, and then what the key may do, from memory.
//!
//! A key is loaded through `store` once and kept with the generation its tenant had *before* the load; it is used
//! only while that generation stands. Unknown, revoked and expired keys answer alike. When the database is gone,
//! cached keys go on working and others get 503, never 401.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use moka::future::Cache;
use smallvec::SmallVec;

use super::error::GatewayError;
use crate::{
    catalogue::{Catalogue, DialectKind, Provider, Providers},
    changes::{Changes, Generation},
    domain::{
        CapMode, Clock, KeyDigest, ModelName, ModelRef, NanoUsd, ProviderKeyId, ProviderSlug, SpendCap,
        SpendWindow, TenantId, Timestamp, VirtualKeyPlaintext, Windows, Zone,
    },
    ledger::{Scope, ScopeCap},
    limits::{Limiter, Limiters},
    store::{Budget, KeyRow, ProviderKeyRow, Store, StoreError, TenantRow},
    upstream::{CheckedUrl, KeyUses, Touched},
    vault::{Pepper, token},
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Live keys that are kept in memory.
const MOST_KEYS: u64 = 100_000;
/// Tenants that are kept in memory.
const MOST_TENANTS: u64 = 10_000;
/// Well-formed but unknown keys that are remembered, so that they do not ask the database again and again.
const MOST_STRANGERS: u64 = 10_000;
/// How long they are remembered.
const STRANGERS_FOR: Duration = Duration::from_secs(5);
/// Scopes of one key that need no memory from the heap: itself, its tenant, and two budgets.
const FEW: usize = 4;
/// How long an unused entry is kept.
const IDLE_FOR: Duration = Duration::from_secs(3_600);

/// A provider key of a tenant and what is known of its provider.
pub struct ProviderKey {
    /// Its row; the secret in it is sealed.
    pub row: ProviderKeyRow,
    /// Dialect, quirks and how it wants its key.
    pub provider: Arc<Provider>,
    /// Where it is used, once that was checked.
    pub url: CheckedUrl,
    /// Where its use is noted.
    pub touched: Arc<Touched>,
}

impl ProviderKey {
    /// Whether it serves `model`.
    pub fn serves(&self, model: &ModelName) -> bool {
        self.row.models.as_ref().is_none_or(|models| models.contains(model))
    }

    /// Its id.
    pub fn id(&self) -> ProviderKeyId {
        self.row.id
    }
}

/// A tenant as the data plane sees it.
pub struct Tenant {
    generation: u64,
    /// Limits and name.
    pub row: TenantRow,
    /// Active provider keys by provider.
    pub keys: HashMap<ProviderSlug, Vec<Arc<ProviderKey>>>,
    /// Active keys that cannot be used: they are for clouds of which no dialect is spoken.
    pub unspoken: Vec<ProviderKeyRow>,
    limiter: Arc<Limiter>,
}

impl Tenant {
    /// What an alias stands for.
    pub fn alias(&self, name: &ModelName) -> Option<&[ModelRef]> {
        self.row.aliases.get(name).map(Vec::as_slice)
    }

    /// The key that would serve `model`, if its dialect were spoken.
    pub fn unspoken(&self, model: &ModelRef) -> Option<&ProviderKeyRow> {
        let serves =
            |key: &ProviderKeyRow| key.models.as_ref().is_none_or(|models| models.contains(&model.model));
        self.unspoken.iter().find(|key| key.provider == model.provider && serves(key))
    }
}

/// A live virtual key and its tenant.
pub struct Principal {
    generation: u64,
    watch: Arc<Generation>,
    /// The key.
    pub key: KeyRow,
    /// Its tenant.
    pub tenant: Arc<Tenant>,
    /// The caps a request must fit, all of them, the narrowest first: the key's, its budgets', its tenant's.
    pub scopes: SmallVec<[ScopeCap; FEW]>,
    /// The same without their caps: whose spend a request is.
    pub charged: Arc<[Scope]>,
    /// The hard caps that are set, for whoever settles under them later.
    pub hard_caps: Arc<[(Scope, SpendWindow, NanoUsd)]>,
    /// The limits a request must fit, all of them.
    pub limiters: [Arc<Limiter>; 2],
}

impl Principal {
    /// Whether any cap is set.
    pub fn is_capped(&self) -> bool {
        self.scopes.iter().any(|scope| scope.cap.is_some())
    }

    /// The caps that are set.
    pub fn caps(&self) -> impl Iterator<Item = &SpendCap> {
        self.scopes.iter().filter_map(|scope| scope.cap.as_ref())
    }

    /// Where its tenant's days begin.
    pub fn zone(&self) -> Zone {
        self.tenant.row.zone
    }

    /// The windows that a request of `moment` counts in.
    pub fn windows(&self, moment: Timestamp) -> Windows {
        Windows::of(moment, self.zone())
    }

    /// The budgets among the scopes.
    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.scopes.iter().filter_map(|scope| self.budget(scope.scope))
    }

    /// The budget that a scope of this key is, if it is one.
    pub fn budget(&self, scope: Scope) -> Option<&Budget> {
        match scope {
            Scope::Budget(id) => self.tenant.row.budgets.get(&id),
            Scope::VirtualKey(_) | Scope::Tenant(_) => None,
        }
    }

    /// Whether both allow-lists let `model` be called.
    pub fn allows(&self, model: &ModelRef) -> bool {
        self.key.limits.allows(model) && self.tenant.row.limits.allows(model)
    }

    fn is_fresh(&self) -> bool {
        self.generation == self.watch.current()
    }

    fn is_live(&self, now: Timestamp) -> bool {
        let ended = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        !self.key.revoked
            && !self.key.deleted
            && !ended(self.key.expires_at)
            && !ended(self.key.secret_expires_at)
    }
}

/// Looks keys up.
pub struct Authenticator {
    store: Store,
    pepper: Arc<Pepper>,
    changes: Arc<Changes>,
    catalogue: Arc<Catalogue>,
    limiters: Arc<Limiters>,
    clock: Clock,
    uses: Arc<KeyUses>,
    keys: Cache<KeyDigest, Arc<Principal>>,
    tenants: Cache<TenantId, Arc<Tenant>>,
    strangers: Cache<KeyDigest, u64>,
}

/// Why a look-up gave no key.
#[derive(Debug)]
enum Missing {
    Unknown,
    Store,
}

impl From<StoreError> for Missing {
    fn from(error: StoreError) -> Self {
        tracing::warn!(reason = %error, "authenticate.store_failed");
        Self::Store
    }
}

impl Authenticator {
    /// With empty caches.
    pub fn new(
        store: Store,
        pepper: Arc<Pepper>,
        changes: Arc<Changes>,
        catalogue: Arc<Catalogue>,
        limiters: Arc<Limiters>,
        clock: Clock,
        uses: Arc<KeyUses>,
    ) -> Self {
        Self {
            store,
            pepper,
            changes,
            catalogue,
            limiters,
            clock,
            uses,
            keys: Cache::builder().max_capacity(MOST_KEYS).time_to_idle(IDLE_FOR).build(),
            tenants: Cache::builder().max_capacity(MOST_TENANTS).time_to_idle(IDLE_FOR).build(),
            strangers: Cache::builder().max_capacity(MOST_STRANGERS).time_to_live(STRANGERS_FOR).build(),
        }
    }

    /// The live key that a request's head presents.
    ///
    /// # Errors
    /// 400 for two credentials, 401 for none that lives, 503 when it is not in memory and the database is gone.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Arc<Principal>, GatewayError> {
        let presented = credential(headers)?;
        let digest = self.digest(&presented).ok_or(GatewayError::InvalidKey)?;
        let principal = self.principal(digest).await?;
        if principal.is_live(self.clock.now()) { Ok(principal) } else { Err(GatewayError::InvalidKey) }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the presented key is checked for its shape and turned into its digest"
    )]
    fn digest(&self, presented: &VirtualKeyPlaintext) -> Option<KeyDigest> {
        let text = presented.expose_secret();
        token::well_formed(text).then(|| self.pepper.digest(text))
    }

    async fn principal(&self, digest: KeyDigest) -> Result<Arc<Principal>, GatewayError> {
        if let Some(principal) = self.keys.get(&digest).await {
            if principal.is_fresh() {
                return Ok(principal);
            }
            self.keys.invalidate(&digest).await;
        }
        let any = self.changes.any();
        if self.strangers.get(&digest).await == Some(any) {
            return Err(GatewayError::InvalidKey);
        }
        // One load for all who wait for the same key. Whoever got one that went stale meanwhile loads again.
        loop {
            match self.keys.try_get_with(digest, self.load(digest)).await {
                Ok(principal) if principal.is_fresh() => return Ok(principal),
                Ok(_) => self.keys.invalidate(&digest).await,
                Err(missing) => match *missing {
                    Missing::Unknown => {
                        self.strangers.insert(digest, any).await;
                        return Err(GatewayError::InvalidKey);
                    }
                    Missing::Store => return Err(GatewayError::LedgerUnavailable),
                },
            }
        }
    }

    async fn load(&self, digest: KeyDigest) -> Result<Arc<Principal>, Missing> {
        let (key, watch, generation) = loop {
            // Which tenant's generation counts is known only after the read: without a change meanwhile it is the one
            // from before it.
            let any = self.changes.any();
            let key = self.store.key_by_digest(&digest).await?.ok_or(Missing::Unknown)?;
            let watch = self.changes.of(key.tenant);
            let generation = watch.current();
            if self.changes.any() == any {
                break (key, watch, generation);
            }
        };
        let tenant = self.tenant(key.tenant, generation).await?;
        let key_scope = Scope::VirtualKey(key.id);
        let scopes = scopes(&key, &tenant.row);
        let limiters = [self.limiters.get(key_scope, &key.limits), Arc::clone(&tenant.limiter)];
        let charged = scopes.iter().map(|each| each.scope).collect();
        let hard_caps = scopes.iter().filter_map(hard_cap).collect();
        Ok(Arc::new(Principal { generation, watch, key, tenant, scopes, charged, hard_caps, limiters }))
    }

    async fn tenant(&self, id: TenantId, generation: u64) -> Result<Arc<Tenant>, Missing> {
        if let Some(tenant) = self.tenants.get(&id).await
            && tenant.generation == generation
        {
            return Ok(tenant);
        }
        let row = self.store.tenant_snapshot(id).await?.ok_or(Missing::Unknown)?;
        let tenant = Arc::new(self.assemble(row, generation));
        self.tenants.insert(id, Arc::clone(&tenant)).await;
        Ok(tenant)
    }

    fn assemble(&self, row: TenantRow, generation: u64) -> Tenant {
        let mut keys: HashMap<ProviderSlug, Vec<Arc<ProviderKey>>> = HashMap::new();
        let mut unspoken = Vec::new();
        for row in row.provider_keys.iter().filter(|row| row.is_active) {
            if row.is_cloud {
                unspoken.push(row.clone());
                continue;
            }
            let provider = match self.catalogue.providers.get(&row.provider) {
                Some(known) => Arc::clone(known),
                None => {
                    let dialect = row.dialect.as_deref().and_then(DialectKind::parse).unwrap_or_default();
                    Arc::new(Providers::custom(row.provider.clone(), &row.base_url, dialect))
                }
            };
            keys.entry(row.provider.clone()).or_default().push(Arc::new(ProviderKey {
                row: row.clone(),
                provider,
                url: CheckedUrl::default(),
                touched: self.uses.of(row.id),
            }));
        }
        let limiter = self.limiters.get(Scope::Tenant(row.id), &row.limits);
        Tenant { generation, row, keys, unspoken, limiter }
    }
}

/// Every cap that holds for a key, the narrowest first. A budget that was deleted holds for nobody.
fn scopes(key: &KeyRow, tenant: &TenantRow) -> SmallVec<[ScopeCap; FEW]> {
    let mut scopes = SmallVec::new();
    scopes.push(ScopeCap { scope: Scope::VirtualKey(key.id), cap: key.limits.cap });
    let budgets = key.budgets.iter().filter_map(|id| tenant.budgets.get(id));
    scopes.extend(budgets.map(|budget| ScopeCap { scope: Scope::Budget(budget.id), cap: budget.cap() }));
    scopes.push(ScopeCap { scope: Scope::Tenant(key.tenant), cap: tenant.limits.cap });
    scopes
}

fn hard_cap(scope: &ScopeCap) -> Option<(Scope, SpendWindow, NanoUsd)> {
    let cap = scope.cap.filter(|cap| cap.mode == CapMode::Hard)?;
    Some((scope.scope, cap.window, cap.amount))
}

/// The one credential of a request's head. The three headers are one path; the same key twice is no contradiction.
fn credential(headers: &HeaderMap) -> Result<VirtualKeyPlaintext, GatewayError> {
    let mut found: Option<&str> = None;
    for name in [AUTHORIZATION, X_API_KEY, API_KEY] {
        let mut values = headers.get_all(&name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(GatewayError::TwoCredentials);
        }
        let value = value.to_str().map_err(|_| GatewayError::InvalidKey)?;
        let key = if name == AUTHORIZATION {
            match value.split_once(' ') {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
                _ => return Err(GatewayError::InvalidKey),
            }
        } else {
            value.trim()
        };
        match found {
            Some(other) if other != key => return Err(GatewayError::TwoCredentials),
            _ => found = Some(key),
        }
    }
    found.map(|key| VirtualKeyPlaintext::new(key.to_owned())).ok_or(GatewayError::InvalidKey)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn one_credential_in_any_of_three_headers_is_found() {
        for pair in [
            ("authorization", "Bearer k"),
            ("authorization", "bearer k"),
            ("x-api-key", "k"),
            ("api-key", "k"),
        ] {
            assert!(credential(&headers(&[pair])).is_ok(), "{pair:?}");
        }
        assert!(credential(&headers(&[("authorization", "Bearer k"), ("x-api-key", "k")])).is_ok());
    }

    #[test]
    fn two_credentials_are_refused_and_none_is_a_stranger() {
        let twice = [("authorization", "Bearer k"), ("authorization", "Bearer k")];
        assert!(matches!(credential(&headers(&twice)), Err(GatewayError::TwoCredentials)));
        let differ = [("authorization", "Bearer k"), ("x-api-key", "j")];
        assert!(matches!(credential(&headers(&differ)), Err(GatewayError::TwoCredentials)));
        for none in [&[][..], &[("authorization", "Basic k")], &[("authorization", "k")]] {
            assert!(matches!(credential(&headers(none)), Err(GatewayError::InvalidKey)));
        }
    }
}
