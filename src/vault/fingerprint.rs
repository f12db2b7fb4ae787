//! What tells two provider keys apart without saying anything about them: a short keyed hash.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{house::HouseSecret, keyring::hex};
use crate::domain::ProviderSecret;

/// Keeps this use of the house's secret apart from every other one.
const LABEL: &[u8] = b"keystile provider key fingerprint v1";

/// Makes fingerprints. Keyed, because a bare hash of a key could be searched for among known keys.
pub struct Fingerprinter(Zeroizing<[u8; 32]>);

impl Fingerprinter {
    /// With a key derived from `secret` for this purpose alone.
    pub fn new(secret: &HouseSecret) -> Self {
        Self(Zeroizing::new(mac(secret.key_bytes(), LABEL)))
    }

    /// 8 hex digits: equal for equal secrets of one house.
    #[expect(
        clippy::disallowed_methods,
        reason = "the secret goes into a keyed hash, of which 32 bits leave"
    )]
    pub fn of(&self, secret: &ProviderSecret) -> String {
        hex(&mac(&self.0, secret.expose_secret())[..4])
    }
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter(…)")
    }
}

/// HMAC-SHA-256.
pub(super) fn mac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> ProviderSecret {
        ProviderSecret::new(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_fingerprint_tells_keys_and_houses_apart() {
        let (house, other) = (HouseSecret::generate(), HouseSecret::generate());
        let ours = Fingerprinter::new(&house);
        let print = ours.of(&secret("sk-one"));
        assert_eq!(print.len(), 8);
        assert_eq!(print, Fingerprinter::new(&house).of(&secret("sk-one")));
        assert_ne!(print, ours.of(&secret("sk-two")));
        assert_ne!(print, Fingerprinter::new(&other).of(&secret("sk-one")));
    }

    #[test]
    fn the_mac_is_hmac_sha_256() {
        // RFC 4231, test case 1, its 20-byte key padded with zeros as HMAC itself does.
        let mut key = [0_u8; 32];
        key[..20].fill(0x0b);
        assert_eq!(
            hex(&mac(&key, b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }
}
