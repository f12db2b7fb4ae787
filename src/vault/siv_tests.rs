use super::*;
use crate::{
    domain::{Clock, Timestamp},
    vault::{KeyRing, keyring::KeyRingError},
};

/// The official vectors.
const VECTORS: &str = include_str!("siv_vectors.txt");

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix('-').unwrap_or(hex);
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn secret(text: &str) -> ProviderSecret {
    ProviderSecret::new(Zeroizing::new(text.as_bytes().to_vec()))
}

#[expect(clippy::disallowed_methods, reason = "the test compares what came out")]
fn text(secret: &ProviderSecret) -> &str {
    std::str::from_utf8(secret.expose_secret()).unwrap()
}

fn own_key(byte: u8) -> SecretText {
    let mut key = [byte; KEY_BYTES];
    key[0] = !byte;
    SecretText::new(STANDARD.encode(key))
}

fn vault(masters: &[SecretText], own: &[SecretText]) -> Vault {
    let ring = KeyRing::from_texts(masters).unwrap().with_secret_keys(own).unwrap();
    Vault::new(ring, Clock::manual(Timestamp::from_millis(1)))
}

fn row(name: &str) -> VariableRow<'_> {
    VariableRow { tenant: TenantId::generate(), id: ConfigVariableId::generate(), name }
}

#[test]
fn the_cipher_is_the_one_of_rfc_8452() {
    let mut vectors = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<Vec<u8>> = line.split(' ').map(bytes).collect();
        let [key, nonce, associated, plain, wanted] = parts.as_slice() else { panic!("{line}") };
        let cipher = Aes256GcmSiv::new_from_slice(key).unwrap();
        let nonce = Nonce::try_from(nonce.as_slice()).unwrap();
        let mut buffer = plain.clone();
        let tag = cipher
            .encrypt_inout_detached(&nonce, associated, InOutBuf::from(&mut buffer[..]))
            .expect("sealed");
        assert_eq!([&buffer[..], &tag[..]].concat(), *wanted, "{line}");
        cipher
            .decrypt_inout_detached(&nonce, associated, InOutBuf::from(&mut buffer[..]), &tag)
            .expect("opened");
        assert_eq!(buffer, *plain);
        vectors += 1;
    }
    assert!(vectors == 26, "{vectors}");
}

#[test]
fn a_value_opens_as_it_was_sealed_and_never_looks_the_same_twice() {
    let vault = vault(&[KeyRing::generate()], &[]);
    let row = row("OPENAI_KEY");
    for value in ["", "x", "sk-canary-0123456789", &"long ".repeat(10_000), "-----BEGIN\nä\n"] {
        let (one, two) =
            (vault.seal_variable(&row, &secret(value)), vault.seal_variable(&row, &secret(value)));
        assert_ne!(one, two);
        assert!(one.starts_with(&format!("v2.{}.", vault.ring().primary())));
        assert_eq!(text(&vault.open_variable(&row, &one).unwrap()), value);
        assert!(vault.check(&two).is_ok() && vault.variable_is_current(&two) && vault.is_current(&two));
    }
}

#[test]
fn at_050_a_variable_moved_to_another_row_or_relabelled_does_not_open() {
    let vault = vault(&[KeyRing::generate(), KeyRing::generate()], &[own_key(3)]);
    let home = row("OPENAI_KEY");
    let sealed = vault.seal_variable(&home, &secret("sk-canary"));
    let elsewhere = [
        VariableRow { tenant: TenantId::generate(), ..home },
        VariableRow { id: ConfigVariableId::generate(), ..home },
        VariableRow { name: "OPENAI_KEY2", ..home },
        VariableRow { name: "openai_key", ..home },
    ];
    for place in &elsewhere {
        assert_eq!(vault.open_variable(place, &sealed).unwrap_err(), OpenError::NotItsRow);
    }
    // Another label: another key that is loaded, or another version.
    let ring = vault.ring();
    let kids: Vec<&str> = ring.kids().collect();
    let own = parts(&sealed).unwrap().kid.to_owned();
    for kid in kids {
        let relabelled = sealed.replace(&own, kid);
        assert_eq!(vault.open_variable(&home, &relabelled).unwrap_err(), OpenError::NotItsRow);
    }
    let downgraded = sealed.replacen("v2.", "v1.", 1);
    assert_eq!(vault.open_variable(&home, &downgraded).unwrap_err(), OpenError::Malformed);
    assert!(vault.check(&downgraded).is_err());
    assert_eq!(text(&vault.open_variable(&home, &sealed).unwrap()), "sk-canary");
}

#[test]
fn at_051_no_changed_byte_of_a_variable_opens() {
    let vault = vault(&[KeyRing::generate()], &[]);
    let home = row("K");
    let sealed = vault.seal_variable(&home, &secret("sk-canary"));
    for place in 0..sealed.len() {
        let mut changed = sealed.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let error = vault.open_variable(&home, &changed).unwrap_err();
        assert!(!error.to_string().contains("canary"));
    }
    for length in 0..sealed.len() {
        assert!(vault.open_variable(&home, &sealed[..length]).is_err(), "{length}");
    }
    for longer in [format!("{sealed}="), format!("{sealed}A"), format!(" {sealed}"), format!("{sealed}.")] {
        assert!(vault.open_variable(&home, &longer).is_err());
    }
}

#[test]
fn at_054_a_plain_text_in_place_of_a_sealed_variable_is_an_error() {
    let vault = vault(&[KeyRing::generate()], &[]);
    for plain in ["", "sk-canary", "v2", "v2.", "v2.00000000.", "v2.00000000.AAAA", "v2.XYZ.AAAA"] {
        assert!(vault.open_variable(&row("K"), plain).is_err(), "{plain:?}");
        assert!(vault.check(plain).is_err(), "{plain:?}");
    }
}

#[test]
fn own_and_derived_keys_take_each_others_place_while_both_are_loaded() {
    let (old, new) = (KeyRing::generate(), KeyRing::generate());
    let home = row("K");
    let derived = vault(std::slice::from_ref(&old), &[]);
    let sealed = derived.seal_variable(&home, &secret("value"));

    let with_own = vault(std::slice::from_ref(&old), &[own_key(1)]);
    assert!(!with_own.variable_is_current(&sealed));
    let under_own = with_own.reseal_variable(&home, &sealed).unwrap();
    assert!(with_own.variable_is_current(&under_own));
    assert_eq!(text(&with_own.open_variable(&home, &under_own).unwrap()), "value");
    assert!(matches!(derived.open_variable(&home, &under_own), Err(OpenError::UnknownSecretKey { .. })));
    assert!(matches!(derived.check(&under_own), Err(OpenError::UnknownSecretKey { .. })));

    let next_own = vault(std::slice::from_ref(&old), &[own_key(2), own_key(1)]);
    let next = next_own.reseal_variable(&home, &under_own).unwrap();
    assert_ne!(parts(&next).unwrap().kid, parts(&under_own).unwrap().kid);

    // A rotation of the master ring seals what hangs on it anew.
    let rotated = vault(&[new, old], &[]);
    assert!(!rotated.variable_is_current(&sealed));
    let again = rotated.reseal_variable(&home, &sealed).unwrap();
    assert_eq!(parts(&again).unwrap().kid, rotated.ring().primary());
    assert_eq!(text(&rotated.open_variable(&home, &again).unwrap()), "value");
}

#[test]
fn the_derived_key_is_hkdf_and_no_master_key_itself() {
    let key = VariableKey::derive("0a0b0c0d".into(), &[7; 32]);
    // HKDF with an empty salt, by hand: PRK = HMAC(0…0, key), first block = HMAC(PRK, label ‖ 1).
    let prk = crate::vault::fingerprint::mac(&[0; 32], &[7; 32]);
    let first = crate::vault::fingerprint::mac(&prk, &[DERIVATION_LABEL, &[1]].concat());
    assert_eq!(*key.key, first);
    assert_ne!(*key.key, [7; 32]);
}

#[test]
fn keys_that_are_no_keys_are_refused_by_their_place() {
    let ring = || KeyRing::from_texts(&[KeyRing::generate()]).unwrap();
    let refused = |texts: &[SecretText]| ring().with_secret_keys(texts).unwrap_err();
    let of = |bytes: &[u8]| SecretText::new(STANDARD.encode(bytes));
    assert_eq!(refused(&[own_key(1), of(&[1; 31])]), SecretKeyError::NotAKey { place: 2 });
    assert_eq!(refused(&[SecretText::new("changeme")]), SecretKeyError::NotAKey { place: 1 });
    for byte in [0, 0xff, b'a'] {
        assert_eq!(refused(&[of(&[byte; 32])]), SecretKeyError::Weak { place: 1 });
    }
    let error = refused(&[own_key(1), own_key(1)]);
    assert!(matches!(error, SecretKeyError::Duplicate { place: 2, .. }));
    assert!(!format!("{error} {error:?}").contains(own_key(1).0.as_str()));
    // Both alphabets of base64 are one key.
    let wild = [0xfb; 31].iter().chain(&[1]).copied().collect::<Vec<u8>>();
    let both = [SecretText::new(STANDARD.encode(&wild)), SecretText::new(URL_SAFE.encode(&wild))];
    assert_ne!(both[0].0, both[1].0);
    assert!(matches!(refused(&both), SecretKeyError::Duplicate { place: 2, .. }));
    assert_eq!(KeyRing::from_texts(&[]).unwrap_err(), KeyRingError::Empty);
}
