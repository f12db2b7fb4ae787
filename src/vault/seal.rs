//! Sealing and opening: `v1.<kid>.<fernet token>`, each token bound to its row.
//!
//! Fernet has no associated data, so the row stands inside the token and is compared when it is opened: a ciphertext
//! that somebody moved to another tenant, key, provider or origin does not open there. Keys are tried by `kid`, one,
//! never "whichever fits". What the crates below copy on their way (AES blocks, base64) is outside what we can wipe.

use std::{fmt, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE};
use zeroize::Zeroizing;

use super::{
    house::{HouseSecret, HouseSecretName},
    keyring::{KeyRing, KeyRingError},
    record::{Binding, HOUSE, PROVIDER_KEY, PROVIDER_KEY_CLOUD, Record},
    siv,
};
use crate::domain::{
    CheckGrant, Clock, DispatchGrant, ProviderKeyId, ProviderSecret, RetrievalGrant, TenantId,
};

const VERSION: &str = "v1";

/// The time we tell Fernet when we open: later than any token can be dated, so that it never finds one "from the
/// future". A stored key has no expiry, and a clock that was set back or runs behind must lock nobody out. The crate
/// (0.2.2) refuses when `time + 60 < timestamp`; half of its range keeps that sum from overflowing, whatever slack a
/// later version adds.
const AFTER_ALL_TOKENS: u64 = u64::MAX / 2;

/// Why a sealed text does not open. It says nothing of what is inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not `v1.<kid>.<fernet token>` in its one spelling.
    #[error("the sealed text is malformed; restore it from a backup, or enter the secret anew")]
    Malformed,
    /// Sealed with a master key that is not loaded.
    #[error("sealed with master key `{kid}`, which is not loaded; add it to `PROVIDER_KEY_ENCRYPTION_KEY`")]
    UnknownMasterKey {
        /// Which key it wants.
        kid: String,
    },
    /// A config variable's key that is not loaded.
    #[error(
        "sealed with key `{kid}`, which is not loaded; add it to `KEYSTILE_SECRET_ENCRYPTION_KEY`, or, if it is a master key, to `PROVIDER_KEY_ENCRYPTION_KEY`"
    )]
    UnknownSecretKey {
        /// Which key it wants.
        kid: String,
    },
    /// The key is there, and the text is not what was sealed for this row under this name.
    #[error(
        "the sealed text does not open for its row: it is broken, or was moved or relabelled; restore it from a backup, or enter the value anew, and look for who changed it"
    )]
    NotItsRow,
    /// The master key is there, and the token does not open with it or does not hold a record.
    #[error("the sealed text is broken; restore it from a backup, or enter the secret anew")]
    Broken,
    /// It opens, and belongs to another row or another call.
    #[error("the sealed text belongs elsewhere: its `{field}` differs; look for who moved it")]
    Mismatch {
        /// The first member that differs.
        field: &'static str,
    },
}

impl OpenError {
    /// Which of the four it is: for metrics and the audit log.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownMasterKey { .. } => "unknown_master_key",
            Self::Broken => "broken",
            Self::UnknownSecretKey { .. } => "unknown_secret_key",
            Self::Mismatch { .. } | Self::NotItsRow => "mismatch",
        }
    }
}

/// A provider key's row as it stands in the database, with one of its sealed texts: the key itself, the one that is
/// staged, or the secrets of its cloud.
#[derive(Clone, Copy)]
pub struct SealedRow<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub key: ProviderKeyId,
    /// Provider slug.
    pub provider: &'a str,
    /// Scheme, host and port it is used at.
    pub origin: &'a str,
    /// `v1.<kid>.<fernet token>`.
    pub sealed: &'a str,
}

impl fmt::Debug for SealedRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedRow")
            .field("tenant", &self.tenant)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Seals and opens under the master keys, which may be replaced while it is in use.
#[derive(Debug)]
pub struct Vault {
    ring: ArcSwap<KeyRing>,
    clock: Clock,
}

impl Vault {
    /// A vault over `ring`; `clock` dates what is sealed, and opening asks no clock at all.
    pub fn new(ring: KeyRing, clock: Clock) -> Self {
        Self { ring: ArcSwap::from_pointee(ring), clock }
    }

    /// The present master keys, to name them.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// Puts `ring` in the place of the present one, unless it lacks a key of `in_use`, the ids under which something is
    /// still sealed. Answers whether it is another one. What is under way goes on with the ring that it has.
    ///
    /// # Errors
    /// [`KeyRingError::StillNeeded`]; then the present ring stays.
    pub fn reload<K: AsRef<str>>(
        &self,
        ring: KeyRing,
        in_use: impl IntoIterator<Item = K>,
    ) -> Result<bool, KeyRingError> {
        needed(&ring, in_use)?;
        let before = self.ring.load_full();
        if before.kids().eq(ring.kids()) && before.secret_kids().eq(ring.secret_kids()) {
            return Ok(false);
        }
        self.ring.store(Arc::new(ring.after(&before, Instant::now())));
        Ok(true)
    }

    /// Lets go of dropped master keys whose time is over; they are wiped when nobody holds the ring that had them.
    pub fn forget_expired(&self, now: Instant) {
        if self.ring.load().without_expired(now).is_some() {
            self.ring.rcu(|ring| ring.without_expired(now).map_or_else(|| Arc::clone(ring), Arc::new));
        }
    }

    /// Seals a provider key for its row.
    #[expect(clippy::disallowed_methods, reason = "the one place that seals a provider key")]
    pub fn seal_provider_key(
        &self,
        tenant: TenantId,
        key: ProviderKeyId,
        provider: &str,
        origin: &str,
        secret: &ProviderSecret,
    ) -> String {
        self.seal(&key_binding(PROVIDER_KEY, tenant, key, provider, origin), secret.expose_secret())
    }

    /// Seals the secrets of a provider key's cloud configuration, rendered as one text, for its row.
    #[expect(clippy::disallowed_methods, reason = "the one place that seals a cloud's secrets")]
    pub fn seal_cloud(
        &self,
        tenant: TenantId,
        key: ProviderKeyId,
        provider: &str,
        origin: &str,
        secrets: &ProviderSecret,
    ) -> String {
        self.seal(&key_binding(PROVIDER_KEY_CLOUD, tenant, key, provider, origin), secrets.expose_secret())
    }

    /// Opens the provider key of `row` for the one call that `grant` allows.
    ///
    /// # Errors
    /// [`OpenError::Mismatch`] when grant, row and sealed record are not about the same key; this is an integrity
    /// incident, and no other key may be tried in its place.
    pub fn open_provider_key(
        &self,
        grant: &DispatchGrant,
        row: &SealedRow<'_>,
    ) -> Result<ProviderSecret, OpenError> {
        granted(grant, row)?;
        self.open_row(PROVIDER_KEY, row).map(ProviderSecret::new)
    }

    /// Opens the secrets of a cloud, whose sealed text stands in `row`, for the one call that `grant` allows.
    ///
    /// # Errors
    /// As [`Vault::open_provider_key`].
    pub fn open_cloud(
        &self,
        grant: &DispatchGrant,
        row: &SealedRow<'_>,
    ) -> Result<ProviderSecret, OpenError> {
        granted(grant, row)?;
        self.open_row(PROVIDER_KEY_CLOUD, row).map(ProviderSecret::new)
    }

    /// Opens the secret that is staged beside a provider key, whose sealed text stands in `row`, for the one check that
    /// `grant` allows.
    ///
    /// # Errors
    /// As [`Vault::open_provider_key`].
    pub fn open_staged(&self, grant: &CheckGrant, row: &SealedRow<'_>) -> Result<ProviderSecret, OpenError> {
        same_row((grant.tenant(), grant.provider_key(), grant.provider().as_str()), row)?;
        self.open_row(PROVIDER_KEY, row).map(ProviderSecret::new)
    }

    /// Whether the secret of `row` opens as what its row says it is. The secret stays inside.
    ///
    /// # Errors
    /// Says why not.
    pub fn verify_row(&self, row: &SealedRow<'_>) -> Result<(), OpenError> {
        self.open_row(PROVIDER_KEY, row).map(drop)
    }

    /// Whether the cloud's secrets of `row` open as what their row says they are. They stay inside.
    ///
    /// # Errors
    /// Says why not.
    pub fn verify_cloud(&self, row: &SealedRow<'_>) -> Result<(), OpenError> {
        self.open_row(PROVIDER_KEY_CLOUD, row).map(drop)
    }

    /// Opens the provider key of `row` for the one service that `grant` lets have it.
    ///
    /// # Errors
    /// As [`Vault::open_provider_key`].
    pub fn open_for_retrieval(
        &self,
        grant: &RetrievalGrant,
        row: &SealedRow<'_>,
    ) -> Result<ProviderSecret, OpenError> {
        let mismatch = |field| Err(OpenError::Mismatch { field });
        if grant.tenant() != row.tenant {
            return mismatch("tenant");
        }
        if grant.provider_key() != row.key {
            return mismatch("key");
        }
        if grant.provider().as_str() != row.provider {
            return mismatch("provider");
        }
        self.open_row(PROVIDER_KEY, row).map(ProviderSecret::new)
    }

    /// Seals the secret of `row` anew under the present master key, for the rotation of master keys. The secret stays
    /// inside. A staged secret is sealed in the same way.
    ///
    /// # Errors
    /// When the row does not open.
    pub fn reseal_provider_key(&self, row: &SealedRow<'_>) -> Result<String, OpenError> {
        self.reseal(PROVIDER_KEY, row)
    }

    /// Seals the cloud's secrets of `row` anew under the present master key. They stay inside.
    ///
    /// # Errors
    /// When the row does not open.
    pub fn reseal_cloud(&self, row: &SealedRow<'_>) -> Result<String, OpenError> {
        self.reseal(PROVIDER_KEY_CLOUD, row)
    }

    /// Seals one of the gateway's own secrets anew under the present master key. The secret stays inside.
    ///
    /// # Errors
    /// When it does not open, or is another secret than `name`.
    pub fn reseal_house(&self, name: HouseSecretName, sealed: &str) -> Result<String, OpenError> {
        Ok(self.seal_house(name, &self.open_house(name, sealed)?))
    }

    /// Seals one of the gateway's own secrets.
    pub fn seal_house(&self, name: HouseSecretName, secret: &HouseSecret) -> String {
        self.seal(&house_binding(name), secret.key_bytes())
    }

    /// Opens one of the gateway's own secrets.
    ///
    /// # Errors
    /// When it does not open, or is another secret than `name`.
    pub fn open_house(&self, name: HouseSecretName, sealed: &str) -> Result<HouseSecret, OpenError> {
        let secret = self.open(&house_binding(name), sealed)?;
        HouseSecret::from_bytes(&secret).ok_or(OpenError::Broken)
    }

    /// Whether `sealed` would open: its master key is loaded, and the token is whole and holds a record. Of a config
    /// variable only the form and the key are looked at; without its row nothing more can be said
    /// ([`Vault::open_variable`] says it).
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, sealed: &str) -> Result<(), OpenError> {
        if siv::is_variable(sealed) {
            return self.check_variable(sealed);
        }
        let json = self.decrypt(sealed)?;
        let record = Record::parse(&json).ok_or(OpenError::Broken)?;
        record.secret().map(drop).ok_or(OpenError::Broken)
    }

    /// Whether `sealed` stands under the master key that seals now; if not, a rotation has it yet to do.
    pub fn is_current(&self, sealed: &str) -> bool {
        if siv::is_variable(sealed) {
            return self.variable_is_current(sealed);
        }
        parts(sealed).is_some_and(|(kid, _)| kid == self.ring.load().primary())
    }

    fn reseal(&self, purpose: &'static str, row: &SealedRow<'_>) -> Result<String, OpenError> {
        let secret = self.open_row(purpose, row)?;
        Ok(self.seal(&row_binding(purpose, row), &secret))
    }

    fn open_row(&self, purpose: &'static str, row: &SealedRow<'_>) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open(&row_binding(purpose, row), row.sealed)
    }

    fn seal(&self, binding: &Binding<'_>, secret: &[u8]) -> String {
        let record = binding.render(secret);
        let ring = self.ring.load();
        let (kid, fernet) = ring.sealing();
        let now = u64::try_from(self.clock.now().seconds()).unwrap_or(0);
        format!("{VERSION}.{kid}.{}", fernet.encrypt_at_time(&record, now))
    }

    fn open(&self, binding: &Binding<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let json = self.decrypt(sealed)?;
        let record = Record::parse(&json).ok_or(OpenError::Broken)?;
        if let Some(field) = binding.difference(&record) {
            return Err(OpenError::Mismatch { field });
        }
        record.secret().ok_or(OpenError::Broken)
    }

    fn decrypt(&self, sealed: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (kid, token) = parts(sealed).ok_or(OpenError::Malformed)?;
        let ring = self.ring.load();
        let fernet = ring.opening(kid).ok_or_else(|| OpenError::UnknownMasterKey { kid: kid.to_owned() })?;
        fernet
            .decrypt_at_time(token, None, AFTER_ALL_TOKENS)
            .map(Zeroizing::new)
            .map_err(|_| OpenError::Broken)
    }
}

/// Whether a ring has every key under which something is sealed.
///
/// # Errors
/// Names one that it lacks.
pub fn needed<K: AsRef<str>>(
    ring: &KeyRing,
    in_use: impl IntoIterator<Item = K>,
) -> Result<(), KeyRingError> {
    for kid in in_use {
        if !ring.kids().chain(ring.secret_kids()).any(|loaded| loaded == kid.as_ref()) {
            return Err(KeyRingError::StillNeeded { kid: kid.as_ref().to_owned() });
        }
    }
    Ok(())
}

/// Takes `v1.<kid>.<token>` apart. The crate would also read a token with its padding changed or missing; here a
/// sealed text has one spelling.
fn parts(sealed: &str) -> Option<(&str, &str)> {
    let (kid, token) = sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')?;
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let canonical = kid.len() == 8 && kid.bytes().all(hex) && is_canonical(token);
    canonical.then_some((kid, token))
}

/// Whether a token is base64 in its one spelling. Two texts that stand for the same bytes differ in their last four
/// characters, so those alone are decoded.
fn is_canonical(token: &str) -> bool {
    let (head, last) = token.as_bytes().split_at(token.len().saturating_sub(4));
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'_');
    // Without a way out of the middle, which lets the compiler look at many bytes at once.
    head.len() % 4 == 0
        && head.iter().fold(true, |all, byte| all & plain(byte))
        && URL_SAFE.decode_slice(last, &mut [0; 3]).is_ok()
}

/// Whether a grant is about this row.
fn granted(grant: &DispatchGrant, row: &SealedRow<'_>) -> Result<(), OpenError> {
    same_row((grant.tenant(), grant.provider_key(), grant.model().provider.as_str()), row)
}

fn same_row(granted: (TenantId, ProviderKeyId, &str), row: &SealedRow<'_>) -> Result<(), OpenError> {
    let mismatch = |field| Err(OpenError::Mismatch { field });
    match granted {
        (tenant, ..) if tenant != row.tenant => mismatch("tenant"),
        (_, key, _) if key != row.key => mismatch("key"),
        (.., provider) if provider != row.provider => mismatch("provider"),
        _ => Ok(()),
    }
}

fn row_binding<'a>(purpose: &'static str, row: &SealedRow<'a>) -> Binding<'a> {
    key_binding(purpose, row.tenant, row.key, row.provider, row.origin)
}

fn key_binding<'a>(
    purpose: &'static str,
    tenant: TenantId,
    key: ProviderKeyId,
    provider: &'a str,
    origin: &'a str,
) -> Binding<'a> {
    Binding {
        purpose,
        tenant: Some(tenant),
        key: Some(key),
        provider: Some(provider),
        origin: Some(origin),
        name: None,
    }
}

fn house_binding(name: HouseSecretName) -> Binding<'static> {
    Binding {
        purpose: HOUSE,
        tenant: None,
        key: None,
        provider: None,
        origin: None,
        name: Some(name.as_str()),
    }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
