//! Virtual keys: `ks_<id: 12 base62>_<secret: 43 base62><crc32: 6 base62>`.
//!
//! A key is stored as its whole digest under the pepper, and a fast hash is right for it: a random secret cannot be
//! guessed, and a slow hash would be a lever against us.

use std::fmt;

use super::{fingerprint::mac, house::HouseSecret, token_text::Shape};
use crate::domain::{KeyDigest, ServiceTokenDigest, VirtualKeyPlaintext};

const SHAPE: Shape = Shape { prefix: "ks_" };

/// Length of every virtual key, in bytes.
pub const LENGTH: usize = SHAPE.length();

/// A new virtual key, and the id inside it.
pub fn generate() -> (VirtualKeyPlaintext, String) {
    let (mut text, id) = SHAPE.generate();
    (VirtualKeyPlaintext::new(std::mem::take(&mut *text)), id)
}

/// Whether `key` has the shape and the checksum of a virtual key. Allocates nothing, and a text of another length is
/// not even read.
pub fn well_formed(key: &str) -> bool {
    SHAPE.well_formed(key)
}

/// The non-secret id inside a well-formed key; `None` for anything else.
pub fn token_id(key: &str) -> Option<&str> {
    SHAPE.id(key)
}

/// The key of the digests. Without it, the digests in a stolen database match no key that anyone could try.
pub struct Pepper(HouseSecret);

impl Pepper {
    /// From the gateway's own secret of that name.
    pub fn new(secret: HouseSecret) -> Self {
        Self(secret)
    }

    /// `HMAC-SHA-256(pepper, key)` over the whole key, checksum included.
    pub fn digest(&self, key: &str) -> KeyDigest {
        KeyDigest::new(mac(self.0.key_bytes(), key.as_bytes()))
    }

    /// `HMAC-SHA-256(pepper, token)` over a whole service token. Its prefix keeps it apart from a virtual key's.
    pub fn service_token_digest(&self, token: &str) -> ServiceTokenDigest {
        ServiceTokenDigest::new(mac(self.0.key_bytes(), token.as_bytes()))
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vault::{entropy, token_text::checksum};

    #[expect(clippy::disallowed_methods, reason = "the test looks at the key it made")]
    fn made() -> (String, String) {
        let (key, id) = generate();
        (key.expose_secret().to_owned(), id)
    }

    #[test]
    fn a_made_key_is_well_formed_and_names_its_id() {
        for _ in 0..1000 {
            let (key, id) = made();
            assert_eq!(key.len(), 65);
            assert!(well_formed(&key), "{key}");
            assert_eq!(token_id(&key), Some(&*id));
            assert!(key.starts_with(&format!("ks_{id}_")));
        }
    }

    #[test]
    fn ten_thousand_single_character_changes_are_refused() {
        let mut tried = 0;
        while tried < 10_000 {
            let (key, _) = made();
            for place in 0..key.len() {
                let mut random = [0_u8; 1];
                entropy::fill_base62(&mut random);
                let mut changed = key.clone().into_bytes();
                if changed[place] == random[0] {
                    continue;
                }
                changed[place] = random[0];
                let changed = String::from_utf8(changed).unwrap();
                assert!(!well_formed(&changed), "{key} {changed}");
                tried += 1;
            }
        }
    }

    #[test]
    fn swapped_neighbours_other_cases_and_strange_lengths_are_refused() {
        let (key, _) = made();
        for place in 0..key.len() - 1 {
            let mut swapped = key.clone().into_bytes();
            swapped.swap(place, place + 1);
            let swapped = String::from_utf8(swapped).unwrap();
            assert!(swapped == key || !well_formed(&swapped));
        }
        for bad in [
            String::new(),
            key.to_uppercase(),
            key[..64].to_owned(),
            format!("{key}0"),
            format!(" {key}"),
            format!("{key}\n"),
            key.repeat(1000),
            "é".repeat(32) + "x",
            format!("sk{}", &key[2..]),
        ] {
            assert!(!well_formed(&bad));
            assert_eq!(token_id(&bad), None);
        }
    }

    #[test]
    fn a_digest_depends_on_the_pepper_and_on_the_whole_key() {
        let pepper = Pepper::new(HouseSecret::generate());
        let (key, _) = made();
        assert!(pepper.digest(&key) == pepper.digest(&key));
        assert!(pepper.digest(&key) != pepper.digest(&key[..64]));
        assert!(pepper.digest(&key) != Pepper::new(HouseSecret::generate()).digest(&key));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            prop_assert!(!well_formed(&text));
        }

        #[test]
        fn texts_of_the_right_shape_need_the_right_checksum(text in "ks_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}") {
            let (body, sum) = text.split_at(SHAPE.checksum_start());
            prop_assert_eq!(well_formed(&text), checksum(body.as_bytes()) == sum.as_bytes());
        }
    }
}
