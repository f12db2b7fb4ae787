//! Secrets keep to themselves: AT-068.
//!
//! None of these types can be shown to a person, serialised, compared by `==` or (but for what the operator's settings
//! are made of) cloned. That is checked twice: an assertion about traits, which stops the build of the tests when
//! somebody derives one, and examples that must not compile, each beside one that must and differs in that one thing.

/// Examples for one type: it passes through a function and prints its name under `{:?}`; nothing else compiles.
#[cfg(doctest)]
macro_rules! keeps_to_itself {
    ($name:ident, $path:literal) => {
        #[doc = concat!("```\nfn f(secret: &", $path, ") -> String { format!(\"{secret:?}\") }\n```")]
        #[doc = concat!("```compile_fail,E0277\nfn f(secret: &", $path, ") -> String { format!(\"{secret}\") }\n```")]
        #[doc = concat!(
            "```compile_fail,E0277\nfn f(secret: &", $path, ") -> String { serde_json::to_string(secret).unwrap() }\n```"
        )]
        #[doc = concat!(
            "```compile_fail,E0369\nfn f(one: ", $path, ", two: ", $path, ") -> bool { one == two }\n```"
        )]
        pub struct $name;
    };
}

/// The same for one that cannot be cloned either.
#[cfg(doctest)]
macro_rules! is_one_of_its_kind {
    ($name:ident, $path:literal) => {
        #[doc = concat!("```\nfn f(secret: ", $path, ") -> ", $path, " { secret }\n```")]
        #[doc = concat!("```compile_fail,E0599\nfn f(secret: ", $path, ") -> ", $path, " { secret.clone() }\n```")]
        pub struct $name;
    };
}

/// What the examples stand on.
#[cfg(doctest)]
pub mod examples {
    /// A text that is no secret can do all of it, so the examples below fail for what their types lack.
    ///
    /// ```
    /// fn shown(text: &String) -> String { format!("{text}") }
    /// fn serialised(text: &String) -> String { serde_json::to_string(text).unwrap() }
    /// fn compared(one: String, two: String) -> bool { one == two }
    /// fn cloned(text: String) -> String { text.clone() }
    /// ```
    pub struct NoSecret;

    keeps_to_itself!(ProviderSecret, "keystile::domain::ProviderSecret");
    keeps_to_itself!(VirtualKeyPlaintext, "keystile::domain::VirtualKeyPlaintext");
    keeps_to_itself!(HouseSecret, "keystile::vault::HouseSecret");
    keeps_to_itself!(KeyRing, "keystile::vault::KeyRing");
    keeps_to_itself!(SessionKey, "keystile::vault::SessionKey");
    keeps_to_itself!(MasterKeyText, "keystile::config::MasterKeyText");
    is_one_of_its_kind!(OneProviderSecret, "keystile::domain::ProviderSecret");
    is_one_of_its_kind!(OneVirtualKeyPlaintext, "keystile::domain::VirtualKeyPlaintext");
    is_one_of_its_kind!(OneHouseSecret, "keystile::vault::HouseSecret");
    is_one_of_its_kind!(OneKeyRing, "keystile::vault::KeyRing");
    is_one_of_its_kind!(OneSessionKey, "keystile::vault::SessionKey");
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use serde::{Serialize, de::DeserializeOwned};

    use crate::{
        config::{JwtKey, SecretText},
        control::{AuditKey, SecretInput},
        domain::{ProviderSecret, VirtualKeyPlaintext},
        vault::{Fingerprinter, HouseSecret, KeyRing, Pepper, SessionKey, Sessions, Vault},
    };

    /// Does not compile when a type has a trait: then there are two ways to read the `_`, and none is chosen.
    macro_rules! lack {
        ($trait:path: $($type:ty),+ $(,)?) => {$(
            const _: fn() = || {
                trait Ambiguous<Marker> {
                    fn chosen() {}
                }
                impl<T: ?Sized> Ambiguous<()> for T {}
                #[allow(dead_code, reason = "it only makes the second way")]
                struct HasIt;
                impl<T: ?Sized + $trait> Ambiguous<HasIt> for T {}
                let _ = <$type as Ambiguous<_>>::chosen;
            };
        )+};
    }

    lack!(Display: ProviderSecret, VirtualKeyPlaintext, HouseSecret, KeyRing, SessionKey, Pepper, Fingerprinter,
        AuditKey, SecretText, SecretInput, JwtKey, Vault, Sessions);
    lack!(Serialize: ProviderSecret, VirtualKeyPlaintext, HouseSecret, KeyRing, SessionKey, Pepper, Fingerprinter,
        AuditKey, SecretText, SecretInput, JwtKey, Vault, Sessions);
    lack!(PartialEq: ProviderSecret, VirtualKeyPlaintext, HouseSecret, KeyRing, SessionKey, Pepper, Fingerprinter,
        AuditKey, SecretText, JwtKey, Vault, Sessions);
    lack!(Clone: ProviderSecret, VirtualKeyPlaintext, HouseSecret, KeyRing, SessionKey, Pepper, Fingerprinter, AuditKey,
        Vault, Sessions);
    lack!(DeserializeOwned: ProviderSecret, VirtualKeyPlaintext, HouseSecret, KeyRing, SessionKey, Pepper, SecretText);

    /// That the assertion can tell: with a type that has the trait it is the one way that is left.
    #[test]
    fn at_068_what_prints_itself_is_named_and_secrets_print_their_names_alone() {
        fn shown<T: Display>() {}
        shown::<String>();
        let secret = ProviderSecret::new(zeroize::Zeroizing::new(b"sk-canary".to_vec()));
        let text = SecretText::new("canary");
        let printed = format!("{secret:?} {text:?} {:?}", HouseSecret::generate());
        assert_eq!(printed, "ProviderSecret(…) SecretText(…) HouseSecret(…)");
    }
}
