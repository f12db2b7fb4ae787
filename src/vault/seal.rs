//! Sealing and opening: `v1.<kid>.<fernet token>`, each token bound to its row.
//!
//! Fernet has no associated data, so the row stands inside the token and is compared when it is opened: a ciphertext
//! that somebody moved to another tenant, key, provider or origin does not open there. Keys are tried by `kid`, one,
//! never "whichever fits". What the crates below copy on their way (AES blocks, base64) is outside what we can wipe.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE};
use zeroize::Zeroizing;

use super::{
    house::{HouseSecret, HouseSecretName},
    keyring::KeyRing,
    record::{Binding, HOUSE, PROVIDER_KEY, Record},
    siv,
};
use crate::domain::{Clock, DispatchGrant, ProviderKeyId, ProviderSecret, TenantId};

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

/// A provider key's row as it stands in the database.
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

/// Seals and opens under the master keys.
#[derive(Debug)]
pub struct Vault {
    ring: KeyRing,
    clock: Clock,
}

impl Vault {
    /// A vault over `ring`; `clock` dates what is sealed, and opening asks no clock at all.
    pub fn new(ring: KeyRing, clock: Clock) -> Self {
        Self { ring, clock }
    }

    /// The master keys, to name them.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
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
        let (tenant, key) = (tenant.to_string(), key.to_string());
        self.seal(&provider_key_binding(&tenant, &key, provider, origin), secret.expose_secret())
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
        let mismatch = |field| Err(OpenError::Mismatch { field });
        if grant.tenant() != row.tenant {
            return mismatch("tenant");
        }
        if grant.provider_key() != row.key {
            return mismatch("key");
        }
        if grant.model().provider.as_str() != row.provider {
            return mismatch("provider");
        }
        self.open_row(row).map(ProviderSecret::new)
    }

    /// Seals the secret of `row` anew under the present master key, for the rotation of master keys. The secret stays
    /// inside.
    ///
    /// # Errors
    /// When the row does not open.
    pub fn reseal_provider_key(&self, row: &SealedRow<'_>) -> Result<String, OpenError> {
        let secret = self.open_row(row)?;
        let (tenant, key) = (row.tenant.to_string(), row.key.to_string());
        Ok(self.seal(&provider_key_binding(&tenant, &key, row.provider, row.origin), &secret))
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
        parts(sealed).is_some_and(|(kid, _)| kid == self.ring.primary())
    }

    fn open_row(&self, row: &SealedRow<'_>) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (tenant, key) = (row.tenant.to_string(), row.key.to_string());
        self.open(&provider_key_binding(&tenant, &key, row.provider, row.origin), row.sealed)
    }

    fn seal(&self, binding: &Binding<'_>, secret: &[u8]) -> String {
        let record = binding.render(secret);
        let (kid, fernet) = self.ring.sealing();
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
        let fernet =
            self.ring.opening(kid).ok_or_else(|| OpenError::UnknownMasterKey { kid: kid.to_owned() })?;
        fernet
            .decrypt_at_time(token, None, AFTER_ALL_TOKENS)
            .map(Zeroizing::new)
            .map_err(|_| OpenError::Broken)
    }
}

/// Takes `v1.<kid>.<token>` apart. The crate would also read a token with its padding changed or missing; here a
/// sealed text has one spelling.
fn parts(sealed: &str) -> Option<(&str, &str)> {
    let (kid, token) = sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')?;
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let canonical = kid.len() == 8 && kid.bytes().all(hex) && URL_SAFE.decode(token).is_ok();
    canonical.then_some((kid, token))
}

fn provider_key_binding<'a>(
    tenant: &'a str,
    key: &'a str,
    provider: &'a str,
    origin: &'a str,
) -> Binding<'a> {
    Binding {
        purpose: PROVIDER_KEY,
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
