//! Virtual keys: `ks_<id: 12 base62>_<secret: 43 base62><crc32: 6 base62>`.
//!
//! The id is not secret and names the key in lists and logs. The secret has 256 bits. The checksum refuses typing
//! errors and noise before anything is looked up. A key is stored as its whole digest under the pepper, and a fast hash
//! is right for it: a random secret cannot be guessed, and a slow hash would be a lever against us.

use std::fmt;

use super::{
    entropy::{self, BASE62},
    fingerprint::mac,
    house::HouseSecret,
};
use crate::domain::{KeyDigest, VirtualKeyPlaintext};
use zeroize::Zeroizing;

const PREFIX: &[u8] = b"ks_";
const ID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;
const ID_START: usize = PREFIX.len();
const ID_END: usize = ID_START + ID_LENGTH;
const SECRET_START: usize = ID_END + 1;
const CHECKSUM_START: usize = SECRET_START + SECRET_LENGTH;

/// Length of every virtual key, in bytes.
pub const LENGTH: usize = CHECKSUM_START + CHECKSUM_LENGTH;

/// A new virtual key, and the id inside it.
pub fn generate() -> (VirtualKeyPlaintext, String) {
    let mut key = Zeroizing::new([b'_'; LENGTH]);
    key[..ID_START].copy_from_slice(PREFIX);
    entropy::fill_base62(&mut key[ID_START..ID_END]);
    entropy::fill_base62(&mut key[SECRET_START..CHECKSUM_START]);
    let sum = checksum(&key[..CHECKSUM_START]);
    key[CHECKSUM_START..].copy_from_slice(&sum);
    let text = std::str::from_utf8(&key[..]).expect("base62 and underscores are ASCII");
    (VirtualKeyPlaintext::new(text.to_owned()), text[ID_START..ID_END].to_owned())
}

/// Whether `key` has the shape and the checksum of a virtual key. Allocates nothing, and a text of another length is
/// not even read.
pub fn well_formed(key: &str) -> bool {
    let Ok(key) = <&[u8; LENGTH]>::try_from(key.as_bytes()) else { return false };
    let digits = |range: &[u8]| range.iter().all(u8::is_ascii_alphanumeric);
    key[..ID_START] == *PREFIX
        && digits(&key[ID_START..ID_END])
        && key[ID_END] == b'_'
        && digits(&key[SECRET_START..])
        && key[CHECKSUM_START..] == checksum(&key[..CHECKSUM_START])
}

/// The non-secret id inside a well-formed key; `None` for anything else.
pub fn token_id(key: &str) -> Option<&str> {
    if well_formed(key) { key.get(ID_START..ID_END) } else { None }
}

/// CRC-32 in base62, padded with zeros: 62⁶ is more than 2³².
fn checksum(text: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32fast::hash(text) as usize;
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % 62];
        rest /= 62;
    }
    digits
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
    fn the_checksum_is_crc_32_of_everything_before_it() {
        // The check value of CRC-32 is 0xCBF43926 = 3421780262.
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
        assert_eq!(&checksum(b""), b"000000");
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
            let (body, sum) = text.split_at(CHECKSUM_START);
            prop_assert_eq!(well_formed(&text), checksum(body.as_bytes()) == sum.as_bytes());
        }
    }
}
