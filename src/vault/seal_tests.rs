use fernet::Fernet;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{super::LEAVES_AFTER, *};
use crate::{
    config::{MasterKeyText, SecretText},
    domain::{ModelRef, Timestamp},
};

const SPEC_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
const SPEC_TOKEN: &str =
    "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
const ORIGIN: &str = "https://api.openai.com";

struct House {
    keys: Vec<MasterKeyText>,
    vault: Vault,
    tenant: TenantId,
    key: ProviderKeyId,
}

impl House {
    fn new() -> Self {
        Self::at(Timestamp::parse("2026-11-21").unwrap())
    }

    fn at(moment: Timestamp) -> Self {
        let keys = vec![KeyRing::generate()];
        let vault = Vault::new(KeyRing::from_texts(&keys).unwrap(), Clock::manual(moment));
        Self { keys, vault, tenant: TenantId::generate(), key: ProviderKeyId::generate() }
    }

    fn seal(&self, text: &str) -> String {
        self.vault.seal_provider_key(self.tenant, self.key, "openai", ORIGIN, &secret(text))
    }

    fn row<'a>(&self, sealed: &'a str) -> SealedRow<'a> {
        SealedRow { tenant: self.tenant, key: self.key, provider: "openai", origin: ORIGIN, sealed }
    }

    fn grant(&self) -> DispatchGrant {
        grant(self.tenant, self.key, "openai/gpt-5.4-mini")
    }

    fn open(&self, sealed: &str) -> Result<ProviderSecret, OpenError> {
        self.vault.open_provider_key(&self.grant(), &self.row(sealed))
    }
}

fn secret(text: &str) -> ProviderSecret {
    ProviderSecret::new(Zeroizing::new(text.as_bytes().to_vec()))
}

#[expect(clippy::disallowed_methods, reason = "these tests stand in for the policy gate")]
fn grant(tenant: TenantId, key: ProviderKeyId, model: &str) -> DispatchGrant {
    DispatchGrant::issue(tenant, key, ModelRef::parse(model).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the test compares what came out")]
fn text(secret: &ProviderSecret) -> &str {
    std::str::from_utf8(secret.expose_secret()).unwrap()
}

fn mismatch(field: &'static str) -> OpenError {
    OpenError::Mismatch { field }
}

#[test]
fn a_sealed_key_opens_for_its_own_row() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    let mut parts = sealed.split('.');
    assert_eq!(parts.next(), Some("v1"));
    assert_eq!(parts.next(), Some(house.vault.ring().primary()));
    assert!(parts.next().unwrap().starts_with("gAAAAA"));
    assert!(!sealed.contains("canary"));
    assert_eq!(text(&house.open(&sealed).unwrap()), "sk-canary");
    assert_ne!(sealed, house.seal("sk-canary"), "no two seals are alike");
}

#[test]
fn an_empty_secret_seals_and_opens() {
    let house = House::new();
    assert!(house.open(&house.seal("")).unwrap().is_empty());
}

#[test]
fn at_050_and_at_051_a_ciphertext_in_another_row_or_origin_does_not_open() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    let row = house.row(&sealed);
    let (other_tenant, other_key) = (TenantId::generate(), ProviderKeyId::generate());
    let cases = [
        ("tenant", SealedRow { tenant: other_tenant, ..row }, grant(other_tenant, house.key, "openai/m")),
        ("key", SealedRow { key: other_key, ..row }, grant(house.tenant, other_key, "openai/m")),
        ("provider", SealedRow { provider: "evil", ..row }, grant(house.tenant, house.key, "evil/m")),
        ("origin", SealedRow { origin: "https://evil.example", ..row }, house.grant()),
        ("origin", SealedRow { origin: "http://api.openai.com", ..row }, house.grant()),
    ];
    for (field, row, grant) in cases {
        assert_eq!(house.vault.open_provider_key(&grant, &row).unwrap_err(), mismatch(field));
        assert_eq!(house.vault.reseal_provider_key(&row).unwrap_err(), mismatch(field));
        assert_eq!(house.vault.verify_row(&row).unwrap_err(), mismatch(field));
    }
    assert_eq!(house.vault.verify_row(&row), Ok(()));
}

#[test]
fn at_050_swapped_ciphertexts_open_for_nobody() {
    let house = House::new();
    let (mine, theirs) = (house.tenant, TenantId::generate());
    let rows = [
        (mine, ProviderKeyId::generate()),
        (mine, ProviderKeyId::generate()),
        (theirs, ProviderKeyId::generate()),
    ];
    let sealed = rows.map(|(tenant, key)| {
        house.vault.seal_provider_key(tenant, key, "openai", ORIGIN, &secret("sk-canary"))
    });
    for (at, (tenant, key)) in rows.into_iter().enumerate() {
        for (from, sealed) in sealed.iter().enumerate() {
            let row = SealedRow { tenant, key, provider: "openai", origin: ORIGIN, sealed };
            let opened = house.vault.open_provider_key(&grant(tenant, key, "openai/m"), &row);
            assert_eq!(opened.is_ok(), at == from, "{from} in the place of {at}");
            assert_eq!(house.vault.verify_row(&row).is_ok(), at == from);
        }
    }
}

#[test]
fn a_clouds_secrets_and_a_key_do_not_stand_in_for_one_another() {
    let house = House::new();
    let cloud =
        house.vault.seal_cloud(house.tenant, house.key, "openai", ORIGIN, &secret(r#"{"secret_key":"x"}"#));
    let key = house.seal("sk-canary");
    assert_eq!(house.open(&cloud).unwrap_err(), mismatch("purpose"));
    assert_eq!(house.vault.verify_row(&house.row(&cloud)).unwrap_err(), mismatch("purpose"));
    let opened = house.vault.open_cloud(&house.grant(), &house.row(&key));
    assert_eq!(opened.unwrap_err(), mismatch("purpose"));
    assert_eq!(house.vault.verify_cloud(&house.row(&key)).unwrap_err(), mismatch("purpose"));

    let opened = house.vault.open_cloud(&house.grant(), &house.row(&cloud)).unwrap();
    assert_eq!(text(&opened), r#"{"secret_key":"x"}"#);
    assert_eq!(house.vault.verify_cloud(&house.row(&cloud)), Ok(()));
    let moved = SealedRow { origin: "https://evil.example", ..house.row(&cloud) };
    assert_eq!(house.vault.reseal_cloud(&moved).unwrap_err(), mismatch("origin"));
    let again = house.vault.reseal_cloud(&house.row(&cloud)).unwrap();
    assert_ne!(again, cloud);
    assert_eq!(house.vault.verify_cloud(&house.row(&again)), Ok(()));
    let other = grant(house.tenant, ProviderKeyId::generate(), "openai/m");
    assert_eq!(house.vault.open_cloud(&other, &house.row(&cloud)).unwrap_err(), mismatch("key"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this test stands in for the policy gate")]
fn a_staged_secret_opens_against_a_check_of_its_own_row_only() {
    use crate::domain::{CheckGrant, ProviderSlug};
    let house = House::new();
    let sealed = house.seal("sk-staged");
    let check = |tenant, key, slug| CheckGrant::issue(tenant, key, ProviderSlug::parse(slug).unwrap());
    let open = |grant: &CheckGrant| house.vault.open_staged(grant, &house.row(&sealed));
    assert_eq!(text(&open(&check(house.tenant, house.key, "openai")).unwrap()), "sk-staged");
    for (field, grant) in [
        ("tenant", check(TenantId::generate(), house.key, "openai")),
        ("key", check(house.tenant, ProviderKeyId::generate(), "openai")),
        ("provider", check(house.tenant, house.key, "evil")),
    ] {
        assert_eq!(open(&grant).unwrap_err(), mismatch(field));
    }
}

#[test]
fn a_grant_for_something_else_does_not_open() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    let cases = [
        ("tenant", grant(TenantId::generate(), house.key, "openai/m")),
        ("key", grant(house.tenant, ProviderKeyId::generate(), "openai/m")),
        ("provider", grant(house.tenant, house.key, "openaiz/m")),
    ];
    for (field, grant) in cases {
        assert_eq!(house.vault.open_provider_key(&grant, &house.row(&sealed)).unwrap_err(), mismatch(field));
    }
}

#[test]
fn every_single_character_change_of_a_sealed_text_fails() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    for place in 0..sealed.len() {
        for replacement in *b"A0a_-=.+/ \n~" {
            let mut bytes = sealed.clone().into_bytes();
            if bytes[place] == replacement {
                continue;
            }
            bytes[place] = replacement;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(house.open(&changed).is_err(), "{place} {}", char::from(replacement));
            assert!(house.vault.check(&changed).is_err(), "{place} {}", char::from(replacement));
        }
    }
}

#[test]
fn at_054_plaintext_empty_cut_huge_and_otherwise_spelt_texts_do_not_open() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    let plain = sealed.trim_end_matches('=');
    for length in 0..plain.len() {
        assert!(house.open(&sealed[..length]).is_err(), "{length}");
    }
    for spelling in [format!("{plain}==="), format!("{sealed}="), format!(" {sealed}"), format!("{sealed}\n")]
    {
        assert_eq!(house.open(&spelling).unwrap_err(), OpenError::Malformed);
    }
    for stored in
        ["", "sk-plaintext", "v1", "v1..", "v1.0000000g.gAAAAA==", &sealed.replace("v1.", "v2."), SPEC_TOKEN]
    {
        assert_eq!(
            house.open(stored).unwrap_err(),
            OpenError::Malformed,
            "a malformed value is never a value"
        );
        assert_eq!(house.vault.verify_row(&house.row(stored)).unwrap_err(), OpenError::Malformed);
    }
    let ring = house.vault.ring();
    let kid = ring.primary();
    let huge = "A".repeat(1024 * 1024);
    for stored in
        [huge.clone(), format!("v1.{kid}.{huge}"), format!("v1.{huge}.gAAAAA=="), format!("{sealed}{huge}")]
    {
        assert!(house.open(&stored).is_err() && house.vault.verify_row(&house.row(&stored)).is_err());
    }
}

proptest! {
    /// The whole token is not decoded to find out whether it has its one spelling; the library says what is one.
    #[test]
    fn a_token_has_one_spelling(bytes in vec(any::<u8>(), 0..40), at: Index, put in "[A-Za-z0-9_=+/ é-]{0,2}", cut in 0..3_usize) {
        let token = URL_SAFE.encode(&bytes);
        prop_assert!(is_canonical(&token));
        let at = at.index(token.len() + 1);
        let rest = &token[(at + cut).min(token.len())..];
        let changed = format!("{}{put}{rest}", &token[..at]);
        prop_assert_eq!(is_canonical(&changed), URL_SAFE.decode(&changed).is_ok(), "{}", changed);
    }
}

#[test]
fn bits_that_stand_for_nothing_give_a_token_no_second_spelling() {
    let characters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=";
    let all = || characters.iter().map(|&character| char::from(character));
    for (one, other) in all().flat_map(|one| all().map(move |other| (one, other))) {
        for ending in [format!("{one}{other}=="), format!("A{one}{other}="), format!("AA{one}{other}")] {
            for token in [format!("AAAA{ending}"), ending] {
                assert_eq!(is_canonical(&token), URL_SAFE.decode(&token).is_ok(), "{token}");
            }
        }
    }
}

#[test]
fn at_052_a_clock_that_jumps_locks_no_key_out() {
    // Ten minutes ahead, ten years back, nodes five minutes apart: sealed at one moment, opened at another.
    let (true_time, ahead) = ("2026-11-21T12:00:00Z", "2026-11-21T12:10:00Z");
    for (sealed_at, opened_at) in [
        (ahead, true_time),
        (true_time, ahead),
        (true_time, "2016-11-21T12:00:00Z"),
        ("2016-11-21T12:00:00Z", true_time),
        ("2026-11-21T12:05:00Z", "2026-11-21T11:55:00Z"),
    ] {
        let moment = |text| Timestamp::parse(text).unwrap();
        let house = House::at(moment(sealed_at));
        let sealed = house.seal("sk-canary");
        let ring = KeyRing::from_texts(&house.keys).unwrap();
        let elsewhere = Vault::new(ring, Clock::manual(moment(opened_at)));
        let opened = elsewhere.open_provider_key(&house.grant(), &house.row(&sealed)).unwrap();
        assert_eq!(text(&opened), "sk-canary", "{sealed_at} {opened_at}");
    }
    for moment in ["1970-01-01", "1985-10-26", "2026-11-21", "2200-01-01", "9999-12-31"] {
        let house = House::at(Timestamp::parse(moment).unwrap());
        let sealed = house.seal("sk-canary");
        let elsewhen = Vault::new(
            KeyRing::from_texts(&house.keys).unwrap(),
            Clock::manual(Timestamp::parse("2001-01-01").unwrap()),
        );
        let opened = elsewhen.open_provider_key(&house.grant(), &house.row(&sealed)).unwrap();
        assert_eq!(text(&opened), "sk-canary", "{moment}");
    }
    for millis in [i64::MIN, -1, i64::MAX] {
        let house = House::at(Timestamp::from_millis(millis));
        assert!(house.open(&house.seal("sk-canary")).is_ok(), "{millis}");
    }
}

#[test]
fn a_ring_is_replaced_while_it_is_in_use_and_never_by_one_that_lacks_a_key() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    let old = house.vault.ring().primary().to_owned();
    let new = KeyRing::generate();
    let ring = |keys: &[MasterKeyText]| KeyRing::from_texts(keys).unwrap();
    let refused = house.vault.reload(ring(std::slice::from_ref(&new)), [&old]).unwrap_err();
    assert_eq!(refused, KeyRingError::StillNeeded { kid: old.clone() });
    assert_eq!(house.vault.ring().primary(), old);

    let both = [new.clone(), house.keys[0].clone()];
    assert!(house.vault.reload(ring(&both), [&old]).unwrap());
    assert!(!house.vault.reload(ring(&both), [&old]).unwrap(), "nothing has changed");
    assert_eq!(text(&house.open(&sealed).unwrap()), "sk-canary");
    let again = house.vault.reseal_provider_key(&house.row(&sealed)).unwrap();
    assert!(house.vault.is_current(&again) && !house.vault.is_current(&sealed));

    // Nothing needs the old one any more; a request under way may still hold what was sealed with it.
    let none: [&str; 0] = [];
    assert!(house.vault.reload(ring(std::slice::from_ref(&new)), none).unwrap());
    assert_eq!(text(&house.open(&sealed).unwrap()), "sk-canary");
    assert_eq!(text(&house.open(&again).unwrap()), "sk-canary");
    assert!(house.vault.is_current(&house.seal("sk-next")));
    house.vault.forget_expired(Instant::now());
    assert!(house.open(&sealed).is_ok(), "its time is not over");
    house.vault.forget_expired(Instant::now() + LEAVES_AFTER);
    assert_eq!(house.open(&sealed).unwrap_err(), OpenError::UnknownMasterKey { kid: old });
    assert_eq!(text(&house.open(&again).unwrap()), "sk-canary");
}

#[test]
fn a_row_is_looked_at_without_its_secret() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    house.vault.verify_row(&house.row(&sealed)).unwrap();
    let moved = SealedRow { origin: "https://evil.example", ..house.row(&sealed) };
    assert_eq!(house.vault.verify_row(&moved).unwrap_err(), mismatch("origin"));
    let pepper = house.vault.seal_house(HouseSecretName::Pepper, &HouseSecret::generate());
    let again = house.vault.reseal_house(HouseSecretName::Pepper, &pepper).unwrap();
    let key_of = |sealed| *house.vault.open_house(HouseSecretName::Pepper, sealed).unwrap().key_bytes();
    assert!(again != pepper && key_of(&again) == key_of(&pepper));
    assert_eq!(house.vault.reseal_house(HouseSecretName::AuditKey, &pepper).unwrap_err(), mismatch("name"));
}

#[test]
fn another_master_key_is_asked_for_by_its_id() {
    let (house, other) = (House::new(), House::new());
    let sealed = house.seal("sk-canary");
    let kid = house.vault.ring().primary().to_owned();
    let refused = other.vault.open_provider_key(&house.grant(), &house.row(&sealed)).unwrap_err();
    assert_eq!(refused, OpenError::UnknownMasterKey { kid: kid.clone() });
    assert_eq!(other.vault.check(&sealed).unwrap_err(), OpenError::UnknownMasterKey { kid });
    let own = other.vault.ring();
    let relabelled = sealed.replace(house.vault.ring().primary(), own.primary());
    assert_eq!(other.vault.check(&relabelled).unwrap_err(), OpenError::Broken, "no other key is tried");
}

#[test]
fn a_new_master_key_takes_over_row_by_row() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    let keys = [KeyRing::generate(), house.keys[0].clone()];
    let both = Vault::new(KeyRing::from_texts(&keys).unwrap(), Clock::manual(Timestamp::from_millis(0)));
    assert!(house.vault.is_current(&sealed));
    assert!(!both.is_current(&sealed));
    let again = both.reseal_provider_key(&house.row(&sealed)).unwrap();
    assert!(both.is_current(&again));
    let new = Vault::new(KeyRing::from_texts(&keys[..1]).unwrap(), Clock::manual(Timestamp::from_millis(0)));
    assert_eq!(text(&new.open_provider_key(&house.grant(), &house.row(&again)).unwrap()), "sk-canary");
    assert!(new.check(&sealed).is_err());
}

#[test]
fn a_house_secret_opens_under_its_own_name_only() {
    let house = House::new();
    let pepper = HouseSecret::generate();
    let sealed = house.vault.seal_house(HouseSecretName::Pepper, &pepper);
    let opened = house.vault.open_house(HouseSecretName::Pepper, &sealed).unwrap();
    assert_eq!(opened.key_bytes(), pepper.key_bytes());
    assert_eq!(house.vault.open_house(HouseSecretName::AuditKey, &sealed).unwrap_err(), mismatch("name"));
    assert_eq!(house.open(&sealed).unwrap_err(), mismatch("purpose"));
    let provider_key = house.seal("12345678901234567890123456789012");
    let refused = house.vault.open_house(HouseSecretName::Pepper, &provider_key).unwrap_err();
    assert_eq!(refused, mismatch("purpose"));
    assert!(house.vault.check(&sealed).is_ok());
    assert!(house.vault.check(&provider_key).is_ok());
}

#[test]
fn a_token_without_a_record_is_broken() {
    let key = SecretText(Zeroizing::new(SPEC_KEY.into()));
    let vault = Vault::new(KeyRing::from_texts(&[key]).unwrap(), Clock::system());
    let sealed = format!("v1.{}.{SPEC_TOKEN}", vault.ring().primary());
    assert_eq!(*vault.decrypt(&sealed).unwrap(), b"hello");
    assert_eq!(vault.check(&sealed).unwrap_err(), OpenError::Broken);
}

#[test]
fn nothing_of_a_vault_prints_a_secret() {
    let house = House::new();
    let sealed = house.seal("sk-canary");
    let printed = format!(
        "{:?} {:?} {:?} {:?}",
        house.vault,
        house.row(&sealed),
        house.open(&sealed).unwrap(),
        HouseSecret::generate()
    );
    assert!(
        !printed.contains("canary") && !printed.contains(&sealed) && !printed.contains(&**house.keys[0].0)
    );
}

/// Pins what the crate does, by the vectors of the Fernet specification: an upgrade that changes it is noticed here.
mod fernet_specification {
    use super::*;

    const NOW: u64 = 499_162_801; // 1985-10-26T01:20:01-07:00

    fn spec() -> Fernet {
        Fernet::new(SPEC_KEY).unwrap()
    }

    #[test]
    fn generate_and_verify() {
        assert_eq!(spec().decrypt_at_time(SPEC_TOKEN, Some(60), NOW).unwrap(), b"hello");
        assert_eq!(spec().decrypt_at_time(SPEC_TOKEN, None, AFTER_ALL_TOKENS).unwrap(), b"hello");
        // Version, time, IV, one block, MAC: the layout of a token made now is that of the specification.
        let made = URL_SAFE.decode(spec().encrypt_at_time(b"hello", NOW - 1)).unwrap();
        let given = URL_SAFE.decode(SPEC_TOKEN).unwrap();
        assert_eq!((made.len(), &made[..9]), (given.len(), &given[..9]));
    }

    #[test]
    fn invalid_tokens_stay_invalid_without_a_clock() {
        for (name, token) in [
            (
                "incorrect mac",
                "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
            ),
            ("too short", "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA=="),
            (
                "invalid base64",
                "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
            ),
            (
                "payload size",
                "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
            ),
            (
                "payload padding",
                "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
            ),
            (
                "incorrect iv",
                "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
            ),
        ] {
            assert!(spec().decrypt_at_time(token, None, AFTER_ALL_TOKENS).is_err(), "{name}");
        }
    }

    #[test]
    fn time_refuses_only_where_it_is_asked() {
        let future = "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==";
        let ancient = "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==";
        assert!(
            spec().decrypt_at_time(future, None, NOW).is_err(),
            "plain `decrypt` would lock this key out"
        );
        assert!(spec().decrypt_at_time(ancient, Some(60), NOW + 90).is_err());
        for token in [future, ancient] {
            assert_eq!(spec().decrypt_at_time(token, None, AFTER_ALL_TOKENS).unwrap(), b"");
        }
        let latest = spec().encrypt_at_time(b"hello", i64::MAX.unsigned_abs() / 1000);
        assert!(spec().decrypt_at_time(&latest, None, AFTER_ALL_TOKENS).is_ok());
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this test stands in for the retrieval gate")]
fn a_retrieval_grant_opens_its_own_row_and_no_other() {
    use crate::domain::{ProviderSlug, RetrievalGrant};
    let house = House::new();
    let sealed = house.seal("sk-canary");
    let (row, slug) = (house.row(&sealed), |text| ProviderSlug::parse(text).unwrap());
    let grant = || RetrievalGrant::issue(house.tenant, house.key, slug("openai"));
    assert_eq!(text(&house.vault.open_for_retrieval(&grant(), &row).unwrap()), "sk-canary");
    let (other_tenant, other_key) = (TenantId::generate(), ProviderKeyId::generate());
    for (field, grant) in [
        ("tenant", RetrievalGrant::issue(other_tenant, house.key, slug("openai"))),
        ("key", RetrievalGrant::issue(house.tenant, other_key, slug("openai"))),
        ("provider", RetrievalGrant::issue(house.tenant, house.key, slug("openaiz"))),
    ] {
        assert_eq!(house.vault.open_for_retrieval(&grant, &row).unwrap_err(), mismatch(field));
    }
    let moved = SealedRow { origin: "https://evil.example", ..row };
    assert_eq!(house.vault.open_for_retrieval(&grant(), &moved).unwrap_err(), mismatch("origin"));
    let moved = SealedRow { key: other_key, ..row };
    let grant = RetrievalGrant::issue(house.tenant, other_key, slug("openai"));
    assert_eq!(house.vault.open_for_retrieval(&grant, &moved).unwrap_err(), mismatch("key"));
}
