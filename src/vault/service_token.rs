//! Service tokens: `kst_<id: 12 base62>_<secret: 43 base62><crc32: 6 base62>`. Made and stored like virtual keys, and
//! refused wherever a virtual key is wanted: prefix and length differ.

use super::token_text::Shape;
use crate::domain::ServiceTokenPlaintext;

const SHAPE: Shape = Shape { prefix: "kst_" };

/// A new service token, and the id inside it.
pub fn generate() -> (ServiceTokenPlaintext, String) {
    let (mut text, id) = SHAPE.generate();
    (ServiceTokenPlaintext::new(std::mem::take(&mut *text)), id)
}

/// Whether `text` has the shape and the checksum of a service token.
pub fn well_formed(text: &str) -> bool {
    SHAPE.well_formed(text)
}

/// What a service token with this id begins with.
pub fn beginning(id: &str) -> String {
    format!("{}{id}", SHAPE.prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vault::{HouseSecret, Pepper, token};

    #[expect(clippy::disallowed_methods, reason = "the test looks at the token it made")]
    fn made() -> (String, String) {
        let (token, id) = generate();
        (token.expose_secret().to_owned(), id)
    }

    #[test]
    fn a_made_token_is_well_formed_and_names_its_id() {
        for _ in 0..100 {
            let (token, id) = made();
            assert_eq!(token.len(), 66);
            assert!(well_formed(&token), "{token}");
            assert!(token.starts_with(&format!("{}_", beginning(&id))));
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test looks at the key it made")]
    fn a_virtual_key_is_no_service_token_and_a_service_token_no_virtual_key() {
        let (token, _) = made();
        let (key, _) = token::generate();
        let key = key.expose_secret();
        assert!(!token::well_formed(&token) && !well_formed(key));
        // Nor with the other's prefix: the checksum covers it.
        assert!(!token::well_formed(&token.replacen("kst_", "ks_", 1)));
        assert!(!well_formed(&key.replacen("ks_", "kst_", 1)));
    }

    #[test]
    fn every_changed_character_is_refused() {
        let (token, _) = made();
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(!well_formed(&changed), "{token} {changed}");
        }
        for bad in
            ["", "kst_", &token[..65], &format!("{token}0"), &format!(" {token}"), &token.to_uppercase()]
        {
            assert!(!well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn a_digest_depends_on_the_pepper_and_on_the_whole_token() {
        let (pepper, other) = (Pepper::new(HouseSecret::generate()), Pepper::new(HouseSecret::generate()));
        let (token, _) = made();
        assert!(pepper.service_token_digest(&token) == pepper.service_token_digest(&token));
        assert!(pepper.service_token_digest(&token) != pepper.service_token_digest(&token[..65]));
        assert!(pepper.service_token_digest(&token) != other.service_token_digest(&token));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            prop_assert!(!well_formed(&text));
        }
    }
}
