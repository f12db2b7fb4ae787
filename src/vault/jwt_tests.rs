use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::config::SecretText;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn key(kid: &str, secret: &str) -> SessionKey {
    SessionKey::from_config(&JwtKey { kid: kid.into(), secret: SecretText(Zeroizing::new(secret.into())) })
}

fn sessions() -> Sessions {
    Sessions::new(vec![key("k1", SECRET)], Duration::from_secs(3600)).unwrap()
}

fn now() -> Timestamp {
    Timestamp::parse("2026-11-21").unwrap()
}

fn subject() -> SessionSubject {
    SessionSubject {
        session: SessionId::generate(),
        user: UserId::generate(),
        role: Role::TenantAdmin,
        tenant: TenantId::generate(),
        session_version: 3,
    }
}

fn header() -> Value {
    json!({"alg": "HS256", "typ": "JWT", "kid": "k1"})
}

fn claims() -> Value {
    let at = now().seconds();
    json!({
        "iss": "keystile", "aud": "keystile-admin", "sub": UserId::generate(), "sid": SessionId::generate(), "role": "owner",
        "tenant": TenantId::generate(), "sv": 0, "iat": at, "nbf": at, "exp": at + 60, "jti": "x",
    })
}

/// A token with whatever header and claims, properly signed with HMAC-SHA-256 under `secret`.
fn forged(header: &Value, claims: &Value, secret: &str) -> String {
    forged_text(&header.to_string(), &claims.to_string(), secret)
}

fn forged_text(header: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn with(mut object: Value, member: &str, value: Value) -> Value {
    object[member] = value;
    object
}

fn verify(token: &str) -> Result<Claims, JwtError> {
    sessions().verify(token, now())
}

#[test]
fn a_token_says_what_it_was_issued_with() {
    let (sessions, subject) = (sessions(), subject());
    let token = sessions.issue(&subject, now());
    let claims = sessions.verify(&token, now()).unwrap();
    assert_eq!(claims.subject, subject);
    assert_eq!(claims.issued_at, now().seconds());
    assert_eq!(claims.expires_at, now().seconds() + 3600);
    assert_eq!(claims.id.len(), 22);
    assert!(token.len() < 1024, "{}", token.len());
    let short = sessions.issue_for(&subject, now(), Duration::from_secs(60));
    assert_eq!(sessions.verify(&short, now()).unwrap().expires_at, now().seconds() + 60);
}

#[test]
fn the_forger_of_these_tests_can_make_a_good_token() {
    assert!(verify(&forged(&header(), &claims(), SECRET)).is_ok());
}

#[test]
fn at_082_time_is_ours_with_five_seconds_of_leeway() {
    let at = now().seconds();
    for (member, offset, expected) in [
        ("exp", 0, Ok(())),
        ("exp", -4, Ok(())),
        ("exp", -5, Err(JwtError::Expired)),
        ("exp", -6, Err(JwtError::Expired)),
        ("nbf", 5, Ok(())),
        ("nbf", 6, Err(JwtError::NotYetValid)),
        ("iat", 6, Err(JwtError::NotYetValid)),
    ] {
        let mut claims = with(with(claims(), "iat", json!(at - 60)), "nbf", json!(at - 60));
        claims[member] = json!(at + offset);
        let found = verify(&forged(&header(), &claims, SECRET)).map(drop);
        assert_eq!(found, expected, "{member} {offset}");
    }
    let sessions = sessions();
    let token = sessions.issue(&subject(), now());
    for (seconds, expected) in [(3604, Ok(())), (3605, Err(JwtError::Expired))] {
        let found = sessions.verify(&token, now().plus(Duration::from_secs(seconds))).map(drop);
        assert_eq!(found, expected, "{seconds}");
    }
    let backwards = with(claims(), "exp", json!(at - 1));
    assert_eq!(
        verify(&forged(&header(), &backwards, SECRET)),
        Err(JwtError::Expired),
        "ends before it was issued"
    );
    for millis in [i64::MIN, i64::MAX] {
        assert!(sessions.verify(&token, Timestamp::from_millis(millis)).is_err());
    }
}

#[test]
fn at_082_every_claim_is_required_and_of_its_type() {
    for member in ["iss", "aud", "sub", "sid", "role", "tenant", "sv", "iat", "nbf", "exp", "jti"] {
        let mut missing = claims();
        missing.as_object_mut().unwrap().remove(member);
        assert_eq!(verify(&forged(&header(), &missing, SECRET)), Err(JwtError::Claims), "{member}");
        for odd in [
            json!(null),
            json!([]),
            json!({}),
            json!(["keystile", "keystile-admin"]),
            json!(1.5),
            json!(true),
        ] {
            let odd = with(claims(), member, odd);
            assert_eq!(verify(&forged(&header(), &odd, SECRET)), Err(JwtError::Claims), "{member}");
        }
    }
    for (member, value) in [
        ("iss", json!("keystile2")),
        ("aud", json!("keystile")),
        ("sub", json!("vk_0190a0a0a0a07000800000000000aaaa")),
        ("sid", json!("usr_0190a0a0a0a07000800000000000aaaa")),
        ("role", json!("god")),
        ("tenant", json!("default")),
        ("exp", json!("9999999999")),
    ] {
        let other = with(claims(), member, value);
        assert_eq!(verify(&forged(&header(), &other, SECRET)), Err(JwtError::Claims), "{member}");
    }
}

#[test]
fn at_081_foreign_headers_are_refused_although_their_signature_is_right() {
    for (member, value) in [
        ("alg", json!("none")),
        ("alg", json!("None")),
        ("alg", json!("HS384")),
        ("alg", json!("HS512")),
        ("alg", json!("EdDSA")),
        ("alg", json!("RS256")),
        ("typ", json!("JOSE")),
        ("typ", json!("jwt")),
        ("typ", json!(null)),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("jku", json!("https://evil.example/keys")),
        ("jwk", json!({"kty": "oct", "k": "AAAA"})),
        ("x5u", json!("https://evil.example/x")),
        ("x5c", json!([])),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("kid", json!(null)),
        ("kid", json!(["k1"])),
        ("kid", json!("../x")),
        ("kid", json!("k1' OR 1=1")),
        ("kid", json!("")),
        ("kid", json!("k".repeat(33))),
    ] {
        let token = forged(&with(header(), member, value.clone()), &claims(), SECRET);
        assert_eq!(verify(&token), Err(JwtError::Header), "{member} {value}");
    }
    for member in ["alg", "typ", "kid"] {
        let mut missing = header();
        missing.as_object_mut().unwrap().remove(member);
        assert_eq!(verify(&forged(&missing, &claims(), SECRET)), Err(JwtError::Header), "{member}");
    }
    let twice = r#"{"alg":"HS256","typ":"JWT","kid":"k1","kid":"k2"}"#;
    assert_eq!(verify(&forged_text(twice, &claims().to_string(), SECRET)), Err(JwtError::Header));
    let unknown = forged(&with(header(), "kid", json!("k2")), &claims(), SECRET);
    assert_eq!(verify(&unknown), Err(JwtError::UnknownKey));
    let long = forged(&with(header(), "kid", json!("k".repeat(10_240))), &claims(), SECRET);
    assert_eq!(verify(&long), Err(JwtError::Malformed));
}

#[test]
fn at_080_stripped_and_foreign_signatures_are_refused() {
    let token = forged(&header(), &claims(), SECRET);
    let (message, _) = token.rsplit_once('.').unwrap();
    assert_eq!(verify(&format!("{message}.")), Err(JwtError::Signature));
    assert_eq!(verify(message), Err(JwtError::Malformed));
    assert_eq!(verify(&format!("{token}.")), Err(JwtError::Malformed));
    assert_eq!(
        verify(&forged(&header(), &claims(), "another secret of thirty-two byte")),
        Err(JwtError::Signature)
    );
    for text in ["", ".", "..", "...", "a.b.c", "ks_000000000000_x", "eyJ9.e30.", "💥.💥.💥"] {
        assert!(verify(text).is_err(), "{text}");
    }
}

/// Ten thousand and more: every bit of the token, and every pair of one bit of its head with one of its signature.
#[test]
fn at_080_flipped_bits_are_refused() {
    let sessions = sessions();
    let token = sessions.issue(&subject(), now()).into_bytes();
    let flipped = |bits: &[usize]| {
        let mut bytes = token.clone();
        for bit in bits {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        String::from_utf8(bytes).ok()
    };
    let bits = token.len() * 8;
    let pairs = (0..80).flat_map(|first| (0..100).map(move |last| vec![first * 3, bits - 1 - last * 3]));
    let mut tried = 0;
    for bits in (0..bits).map(|bit| vec![bit]).chain(pairs) {
        if let Some(changed) = flipped(&bits) {
            assert!(sessions.verify(&changed, now()).is_err(), "{bits:?}");
        }
        tried += 1;
    }
    assert!(tried >= 10_000, "{tried}");
}

#[test]
fn at_080_every_single_character_change_is_refused() {
    let sessions = sessions();
    let token = sessions.issue(&subject(), now());
    for place in 0..token.len() {
        for replacement in *b"Aa0_-.=/+ " {
            let mut bytes = token.clone().into_bytes();
            if bytes[place] == replacement {
                continue;
            }
            bytes[place] = replacement;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(sessions.verify(&changed, now()).is_err(), "{place} {}", char::from(replacement));
        }
    }
}

#[test]
fn at_083_a_new_signer_comes_in_while_the_old_key_still_verifies() {
    let token = sessions().issue(&subject(), now());
    let next = "fedcba9876543210fedcba9876543210";
    let both = Sessions::new(vec![key("k2", next), key("k1", SECRET)], Duration::from_secs(60)).unwrap();
    assert!(both.verify(&token, now()).is_ok());
    let newer = both.issue(&subject(), now());
    let only = Sessions::new(vec![key("k2", next)], Duration::from_secs(60)).unwrap();
    assert!(only.verify(&newer, now()).is_ok());
    assert_eq!(only.verify(&token, now()), Err(JwtError::UnknownKey));
}

#[test]
fn at_083_a_new_signer_comes_in_and_an_old_one_goes_while_sessions_are_in_use() {
    let ttl = Duration::from_secs(60);
    let running = sessions();
    let token = running.issue(&subject(), now());
    let next = "fedcba9876543210fedcba9876543210";
    running.reload(vec![key("k2", next), key("k1", SECRET)], ttl).unwrap();
    assert_eq!((running.kids(), running.ttl()), (vec!["k2".into(), "k1".into()], ttl));
    assert!(running.verify(&token, now()).is_ok());
    let newer = running.issue(&subject(), now());
    running.reload(vec![key("k2", next)], ttl).unwrap();
    assert_eq!(running.verify(&token, now()), Err(JwtError::UnknownKey));
    assert!(running.verify(&newer, now()).is_ok());
    assert_eq!(running.reload(vec![], ttl), Err(SessionKeyError::Empty));
    assert!(running.verify(&newer, now()).is_ok(), "what was refused changed nothing");
}

#[test]
fn a_key_signs_when_all_know_it_and_its_forerunner_goes_when_its_sessions_have_ended() {
    let (old, new) = (HouseSecret::generate(), HouseSecret::generate());
    let (from, until) = (now().plus(Duration::from_secs(5)), now().plus(Duration::from_secs(3600)));
    let keys =
        vec![SessionKey::from_house(&new).signing_from(from), SessionKey::from_house(&old).until(until)];
    let kids: Vec<String> = keys.iter().map(|key| key.kid().to_owned()).collect();
    assert!(kids[0] != kids[1] && kids.iter().all(|kid| kid.starts_with("house_")), "{kids:?}");
    let sessions = Sessions::new(keys, Duration::from_secs(7200)).unwrap();
    let signer = |moment| kid_of(&sessions.issue(&subject(), moment)).unwrap();
    assert_eq!(signer(now()), kids[1]);
    assert_eq!(signer(from), kids[0]);
    let token = sessions.issue(&subject(), now());
    assert!(sessions.verify(&token, until.minus(Duration::from_millis(1))).is_ok());
    assert_eq!(sessions.verify(&token, until), Err(JwtError::UnknownKey));
    // One that has no forerunner signs at once.
    let alone = Sessions::new(vec![SessionKey::from_house(&new).signing_from(from)], Duration::from_secs(60));
    assert_eq!(kid_of(&alone.unwrap().issue(&subject(), now())).unwrap(), kids[0]);
}

#[test]
fn bad_keys_are_refused_at_the_start() {
    let ttl = Duration::from_secs(60);
    let refused = |keys| Sessions::new(keys, ttl).map(drop).unwrap_err();
    assert_eq!(refused(vec![]), SessionKeyError::Empty);
    for kid in ["", "a b", "ä", "k.1", &"k".repeat(33)] {
        assert_eq!(refused(vec![key("k1", SECRET), key(kid, SECRET)]), SessionKeyError::BadKid { place: 2 });
    }
    let short = refused(vec![key("k1", &SECRET[1..])]);
    assert_eq!(short, SessionKeyError::Short { kid: "k1".into() });
    assert!(!format!("{short} {:?}", key("k1", SECRET)).contains(&SECRET[1..]));
    assert_eq!(
        refused(vec![key("k1", SECRET), key("k1", SECRET)]),
        SessionKeyError::Duplicate { kid: "k1".into() }
    );
    let house = Sessions::new(vec![SessionKey::from_house(&HouseSecret::generate())], ttl).unwrap();
    assert!(house.verify(&house.issue(&subject(), now()), now()).is_ok());
    assert!(!format!("{:?}", sessions()).contains(SECRET));
}

/// Pins what the library does when nobody tells it otherwise, so that an upgrade that changes it is noticed.
#[test]
fn the_librarys_defaults_are_those_we_read() {
    let defaults = Validation::default();
    assert_eq!(defaults.algorithms, [Algorithm::HS256]);
    assert_eq!(defaults.leeway, 60);
    assert_eq!(defaults.reject_tokens_expiring_in_less_than, 0);
    assert!(defaults.validate_exp && defaults.validate_aud);
    assert!(!defaults.validate_nbf);
    assert_eq!(defaults.required_spec_claims, HashSet::from(["exp".to_owned()]));
    assert_eq!((defaults.aud, defaults.iss, defaults.sub), (None, None, None));
    let ours = validation();
    assert_eq!(ours.algorithms, [Algorithm::HS256]);
    assert!(!ours.validate_exp && !ours.validate_nbf && ours.validate_aud);
    // A header that points elsewhere does not trouble the library, and so it must trouble us.
    let pointing = forged(&with(header(), "jku", json!("https://evil.example")), &claims(), SECRET);
    let key = DecodingKey::from_secret(SECRET.as_bytes());
    assert!(jsonwebtoken::decode::<Value>(&pointing, &key, &ours).is_ok());
}
