//! The gateway's own secrets: random, sealed under the master key, kept in the database, so that all instances share
//! them and a new master key does not change them.

use std::fmt;

use zeroize::Zeroizing;

use super::entropy;

/// Which of the gateway's own secrets. The name is bound into the sealed record: one cannot stand in for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HouseSecretName {
    /// Digests virtual keys and, under a derived key, fingerprints provider keys.
    Pepper,
    /// Chains the audit log.
    AuditKey,
    /// Signs admin sessions when the operator gave no key.
    JwtKey,
    /// The one before it, which verifies sessions until the last of them has ended.
    JwtKeyPrevious,
}

impl HouseSecretName {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Pepper, Self::AuditKey, Self::JwtKey, Self::JwtKeyPrevious];

    /// The secret of this name in the database; `None` for a name that is none.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.as_str() == name)
    }

    /// The name in the database and in the sealed record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pepper => "pepper",
            Self::AuditKey => "audit_key",
            Self::JwtKey => "jwt_key",
            Self::JwtKeyPrevious => "jwt_key_previous",
        }
    }
}

/// 32 random bytes of the gateway's own, wiped on drop.
pub struct HouseSecret(Zeroizing<[u8; 32]>);

impl HouseSecret {
    /// A new random secret.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy::fill(&mut bytes[..]);
        Self(bytes)
    }

    /// From the bytes of an opened record; `None` unless they are 32.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut copy = Zeroizing::new([0; 32]);
        if bytes.len() != copy.len() {
            return None;
        }
        copy.copy_from_slice(bytes);
        Some(Self(copy))
    }

    /// The bytes, to key a MAC with. They go into no text.
    pub fn key_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for HouseSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HouseSecret(…)")
    }
}
