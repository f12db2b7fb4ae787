//! Config variables, sealed: `v2.<kid>.<nonce ‖ ciphertext ‖ tag in base64url>` with AES-256-GCM-SIV (RFC 8452).
//!
//! Unlike Fernet this scheme has associated data: the row a value belongs to, its name, and the version and key id that
//! stand before it. A text that somebody moved to another row, or put another label on, does not open. Nonces are
//! random; were one ever to repeat, the scheme would show no more than that two equal values are equal. The crate states
//! that nobody has audited it.
//!
//! The key is the operator's (`KEYSTILE_SECRET_ENCRYPTION_KEY`), or derived from a master key and called by its id. Each
//! opens what it sealed as long as it is loaded, so that one can take the other's place.

use std::fmt;

use aes_gcm_siv::{
    Aes256GcmSiv, KeyInit, Nonce, Tag,
    aead::{AeadInOut, inout::InOutBuf},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use hkdf::Hkdf;
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    entropy,
    keyring::hex,
    seal::{OpenError, Vault},
};
use crate::{
    config::SecretText,
    domain::{ConfigVariableId, ProviderSecret, TenantId},
};

const VERSION: &str = "v2";
const PURPOSE: &str = "config_variable";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const KID_LABEL: &[u8] = b"keystile secret key";
/// Keeps this use of a master key apart from every other one.
const DERIVATION_LABEL: &[u8] = b"keystile config variables v2";

/// Why a list of keys for config variables cannot be used. Keys are named by their place in the list, never by their
/// text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// Not 32 bytes in base64.
    #[error(
        "key number {place} of `KEYSTILE_SECRET_ENCRYPTION_KEY` is not 32 bytes in base64 (44 characters); make one with `openssl rand -base64 32`"
    )]
    NotAKey {
        /// Its place in the list, from 1.
        place: usize,
    },
    /// One byte repeated, as in an example.
    #[error(
        "key number {place} of `KEYSTILE_SECRET_ENCRYPTION_KEY` is one byte repeated, which anybody can guess; make one with `openssl rand -base64 32`"
    )]
    Weak {
        /// Its place in the list, from 1.
        place: usize,
    },
    /// The same key stands in the list twice.
    #[error(
        "key number {place} (`{kid}`) of `KEYSTILE_SECRET_ENCRYPTION_KEY` is given twice; remove one of them"
    )]
    Duplicate {
        /// Its place in the list, from 1.
        place: usize,
        /// Its id.
        kid: String,
    },
}

/// A key that seals config variables; wiped when it is dropped.
pub(super) struct VariableKey {
    kid: String,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl VariableKey {
    /// From a master key, whose id it shares.
    pub(super) fn derive(kid: String, master: &[u8]) -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        Hkdf::<Sha256>::new(None, master)
            .expand(DERIVATION_LABEL, &mut key[..])
            .expect("HKDF gives up to 255 hashes");
        Self { kid, key }
    }

    /// The operator's own keys.
    pub(super) fn parse_all(texts: &[SecretText]) -> Result<Vec<Self>, SecretKeyError> {
        let mut keys: Vec<Self> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let place = index + 1;
            let key = Self::parse(text.0.trim(), place)?;
            if keys.iter().any(|known| known.kid == key.kid) {
                return Err(SecretKeyError::Duplicate { place, kid: key.kid });
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn parse(text: &str, place: usize) -> Result<Self, SecretKeyError> {
        // One byte more than a key has: a longer text must not fit by accident.
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES + 1]);
        let length = URL_SAFE
            .decode_slice(text, &mut bytes[..])
            .or_else(|_| STANDARD.decode_slice(text, &mut bytes[..]))
            .map_err(|_| SecretKeyError::NotAKey { place })?;
        if length != KEY_BYTES {
            return Err(SecretKeyError::NotAKey { place });
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(&bytes[..KEY_BYTES]);
        if key.iter().all(|byte| *byte == key[0]) {
            return Err(SecretKeyError::Weak { place });
        }
        let digest = Sha256::new().chain_update(KID_LABEL).chain_update(&key[..]).finalize();
        Ok(Self { kid: hex(&digest[..4]), key })
    }

    /// Its id.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    fn cipher(&self) -> Aes256GcmSiv {
        Aes256GcmSiv::new_from_slice(&self.key[..]).expect("the key has 32 bytes")
    }
}

/// The row of a config variable.
#[derive(Clone, Copy, Debug)]
pub struct VariableRow<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: ConfigVariableId,
    /// Its name.
    pub name: &'a str,
}

impl VariableRow<'_> {
    /// What is authenticated beside the value: members in this order and in no other.
    fn associated(&self, kid: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct Associated<'a> {
            version: &'static str,
            kid: &'a str,
            purpose: &'static str,
            tenant: TenantId,
            id: ConfigVariableId,
            name: &'a str,
        }
        let Self { tenant, id, name } = *self;
        let associated = Associated { version: VERSION, kid, purpose: PURPOSE, tenant, id, name };
        serde_json::to_vec(&associated).expect("texts always have a JSON form")
    }
}

/// A text taken apart.
struct Parts<'a> {
    kid: &'a str,
    /// Nonce, ciphertext and tag.
    body: &'a str,
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Whether `sealed` says that it is of this scheme.
pub(super) fn is_variable(sealed: &str) -> bool {
    sealed.strip_prefix(VERSION).is_some_and(|rest| rest.starts_with('.'))
}

fn parts(sealed: &str) -> Option<Parts<'_>> {
    let (kid, body) = sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')?;
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (kid.len() == 8 && kid.bytes().all(hex)).then_some(Parts { kid, body })
}

impl Vault {
    /// Seals the value of a config variable for its row.
    #[expect(clippy::disallowed_methods, reason = "the one place that seals a config variable")]
    pub fn seal_variable(&self, row: &VariableRow<'_>, value: &ProviderSecret) -> String {
        let ring = self.ring();
        let key = ring.variable_sealing();
        let secret = value.expose_secret();
        let mut nonce = [0; NONCE_BYTES];
        entropy::fill(&mut nonce);
        let mut sealed = Vec::with_capacity(NONCE_BYTES + secret.len() + TAG_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(secret);
        let tag = key
            .cipher()
            .encrypt_inout_detached(
                &Nonce::from(nonce),
                &row.associated(&key.kid),
                InOutBuf::from(&mut sealed[NONCE_BYTES..]),
            )
            .expect("a value is far shorter than the 64 GiB that the scheme takes");
        sealed.extend_from_slice(&tag);
        format!("{VERSION}.{}.{}", key.kid, URL_SAFE_NO_PAD.encode(&sealed))
    }

    /// Opens the value of a config variable, for whoever refers to it.
    ///
    /// # Errors
    /// When the key is not loaded, or the text is not what was sealed for this row.
    pub fn open_variable(&self, row: &VariableRow<'_>, sealed: &str) -> Result<ProviderSecret, OpenError> {
        let Parts { kid, body } = parts(sealed).ok_or(OpenError::Malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| OpenError::Malformed)?;
        let ring = self.ring();
        let key =
            ring.variable_opening(kid).ok_or_else(|| OpenError::UnknownSecretKey { kid: kid.to_owned() })?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Malformed)?;
        let (text, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Malformed)?;
        // The buffer becomes the value: nothing that was opened stands anywhere else.
        let mut value = Zeroizing::new(text.to_vec());
        key.cipher()
            .decrypt_inout_detached(
                &Nonce::from(*nonce),
                &row.associated(kid),
                InOutBuf::from(&mut value[..]),
                &Tag::from(*tag),
            )
            .map_err(|_| OpenError::NotItsRow)?;
        Ok(ProviderSecret::new(value))
    }

    /// Seals the value of a config variable anew under the present key. The value stays inside.
    ///
    /// # Errors
    /// When it does not open.
    pub fn reseal_variable(&self, row: &VariableRow<'_>, sealed: &str) -> Result<String, OpenError> {
        Ok(self.seal_variable(row, &self.open_variable(row, sealed)?))
    }

    /// Whether a config variable stands under the key that seals now; if not, a rotation has it yet to do.
    pub fn variable_is_current(&self, sealed: &str) -> bool {
        let ring = self.ring();
        parts(sealed).is_some_and(|parts| parts.kid == ring.variable_sealing().kid())
    }

    /// What can be said without the row: the form is right and the key is loaded.
    pub(super) fn check_variable(&self, sealed: &str) -> Result<(), OpenError> {
        let Parts { kid, body } = parts(sealed).ok_or(OpenError::Malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| OpenError::Malformed)?;
        if bytes.len() < NONCE_BYTES + TAG_BYTES {
            return Err(OpenError::Malformed);
        }
        let ring = self.ring();
        match ring.variable_opening(kid) {
            Some(_) => Ok(()),
            None => Err(OpenError::UnknownSecretKey { kid: kid.to_owned() }),
        }
    }
}

#[cfg(test)]
#[path = "siv_tests.rs"]
mod tests;
