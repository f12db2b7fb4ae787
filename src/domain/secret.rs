//! Secrets as types: a plaintext, a digest and an id cannot be confused, none of them prints itself, and a plaintext
//! is wiped when it is dropped. They cannot be cloned, compared by `==` or serialised.

use std::fmt;

use zeroize::Zeroizing;

macro_rules! hides_itself {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

/// A provider key in the clear. It lives from the start of one attempt until that attempt's request is sent.
pub struct ProviderSecret(Zeroizing<Vec<u8>>);

impl ProviderSecret {
    /// Takes ownership of the bytes and wipes them when dropped.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Whether there is no secret at all, as for a local server that wants none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret itself. Every use needs a reason that a reviewer can list.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }
}

hides_itself!(ProviderSecret);

/// A virtual key in the clear, as an application presents it or as it is shown once on creation.
pub struct VirtualKeyPlaintext(Zeroizing<String>);

impl VirtualKeyPlaintext {
    /// Takes ownership of the text and wipes it when dropped.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The key itself. Every use needs a reason that a reviewer can list.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

hides_itself!(VirtualKeyPlaintext);

/// A service token in the clear, as a service presents it or as it is shown once. It has no `Debug` at all: whatever holds
/// one cannot be printed either.
pub struct ServiceTokenPlaintext(Zeroizing<String>);

impl ServiceTokenPlaintext {
    /// Takes ownership of the text and wipes it when dropped.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The token itself. Every use needs a reason that a reviewer can list.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

/// `HMAC-SHA-256(pepper, key)`: what is stored and looked up in place of a virtual key. Whole, never shortened.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// From the MAC's bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The MAC's bytes, for the database.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

hides_itself!(KeyDigest);

/// `HMAC-SHA-256(pepper, token)`: what is stored and looked up in place of a service token. Whole, never shortened.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceTokenDigest([u8; 32]);

impl ServiceTokenDigest {
    /// From the MAC's bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The MAC's bytes, for the database.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

hides_itself!(ServiceTokenDigest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print_themselves() {
        let secret = ProviderSecret::new(Zeroizing::new(b"sk-canary".to_vec()));
        let key = VirtualKeyPlaintext::new("ks_canary".into());
        assert_eq!(format!("{secret:?} {key:?}"), "ProviderSecret(…) VirtualKeyPlaintext(…)");
    }
}
