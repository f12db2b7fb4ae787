//! What stands inside a Fernet token: a canonical JSON record that names the row it belongs to, with the secret last.
//!
//! Every buffer that a secret passes through here is allocated once at its final size, so that no growth leaves an
//! unwiped copy behind, and is wiped when dropped.

use std::{borrow::Cow, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::{ProviderKeyId, TenantId};

pub(super) const SCHEMA: u32 = 1;
pub(super) const PROVIDER_KEY: &str = "provider_key";
pub(super) const PROVIDER_KEY_CLOUD: &str = "provider_key_cloud";
pub(super) const HOUSE: &str = "house";

/// Members come in this order and in no other; those that a purpose does not have are left out.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Record<'a> {
    pub schema: u32,
    #[serde(borrow)]
    pub purpose: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
    /// Base64. Borrowed and never owned: an owned copy would not be wiped.
    pub secret: &'a str,
}

/// A text of a record, copied only where JSON's escapes stand in it. Within an `Option` serde copies every `Cow`.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.into())
    }
}

/// The binding of a record: everything but the secret.
pub(super) struct Binding<'a> {
    pub purpose: &'static str,
    pub tenant: Option<TenantId>,
    pub key: Option<ProviderKeyId>,
    pub provider: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub name: Option<&'a str>,
}

impl Binding<'_> {
    /// The record's JSON with `secret` in it.
    pub fn render(&self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut encoded = Zeroizing::new(vec![0_u8; base64_length(secret.len())]);
        let length = STANDARD.encode_slice(secret, &mut encoded).expect("the buffer has base64's exact size");
        let text = std::str::from_utf8(&encoded[..length]).expect("base64 is ASCII");
        let tenant = self.tenant.map(|id| id.to_string());
        let key = self.key.map(|id| id.to_string());
        let record = Record {
            schema: SCHEMA,
            purpose: self.purpose.into(),
            tenant: tenant.as_deref().map(Text::from),
            key: key.as_deref().map(Text::from),
            provider: self.provider.map(Text::from),
            origin: self.origin.map(Text::from),
            name: self.name.map(Text::from),
            secret: text,
        };
        // Six times a text is the most that JSON's escapes make of it; base64 has nothing to escape.
        let names = [tenant.as_deref(), key.as_deref(), self.provider, self.origin, self.name];
        let room = 256 + 6 * names.iter().flatten().map(|text| text.len()).sum::<usize>() + length;
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, &record).expect("texts and a number always have a JSON form");
        json
    }

    /// The first member of `record` that differs.
    pub fn difference(&self, record: &Record<'_>) -> Option<&'static str> {
        let differs =
            |wanted: Option<&str>, found: &Option<Text<'_>>| wanted != found.as_ref().map(|text| &*text.0);
        // The purpose first: a house secret in a provider key's row has no tenant to compare.
        match () {
            () if record.schema != SCHEMA => Some("schema"),
            () if record.purpose != self.purpose => Some("purpose"),
            () if other_id(self.tenant, &record.tenant) => Some("tenant"),
            () if other_id(self.key, &record.key) => Some("key"),
            () if differs(self.provider, &record.provider) => Some("provider"),
            () if differs(self.origin, &record.origin) => Some("origin"),
            () if differs(self.name, &record.name) => Some("name"),
            () => None,
        }
    }
}

/// Whether an id is not the one that stands in a record. An id has one spelling, so the text need not be written to be
/// compared; this is done for every request.
fn other_id<T: FromStr + PartialEq>(wanted: Option<T>, found: &Option<Text<'_>>) -> bool {
    match (wanted, found) {
        (None, None) => false,
        (Some(wanted), Some(found)) => found.0.parse().ok() != Some(wanted),
        _ => true,
    }
}

impl<'a> Record<'a> {
    /// Reads a record; `None` when it is not one.
    pub fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The secret's bytes.
    pub fn secret(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(vec![0_u8; base64::decoded_len_estimate(self.secret.len())]);
        let length = STANDARD.decode_slice(self.secret, &mut bytes).ok()?;
        bytes.truncate(length);
        Some(bytes)
    }
}

const fn base64_length(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: Binding<'static> = Binding {
        purpose: PROVIDER_KEY,
        tenant: Some(TenantId::from_bytes([0x11; 16])),
        key: Some(ProviderKeyId::from_bytes([0x22; 16])),
        provider: Some("openai"),
        origin: Some("https://api.openai.com"),
        name: None,
    };

    #[test]
    fn the_record_is_canonical() {
        let json = BINDING.render(b"sk-secret");
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"schema":1,"purpose":"provider_key","tenant":"tnt_11111111111111111111111111111111","key":"pk_22222222222222222222222222222222","provider":"openai","origin":"https://api.openai.com","secret":"c2stc2VjcmV0"}"#
        );
    }

    #[test]
    fn an_id_in_a_record_has_one_spelling() {
        let tenant = "tnt_1111111111111111111111111111111a";
        let wanted =
            Binding { tenant: tenant.parse().ok(), key: None, provider: None, origin: None, ..BINDING };
        let record = |member: &str| format!(r#"{{"schema":1,"purpose":"provider_key",{member}"secret":""}}"#);
        for same in [tenant, r"\u0074nt_1111111111111111111111111111111a"] {
            let json = record(&format!(r#""tenant":"{same}","#));
            let found = Record::parse(json.as_bytes()).unwrap();
            assert_eq!(wanted.difference(&found), None, "{same}");
            let nobody = Binding { tenant: None, ..BINDING };
            assert_eq!(nobody.difference(&found), Some("tenant"), "one that nobody asked for");
        }
        for other in [
            "",
            "tnt_",
            "tnt_1111111111111111111111111111111b",
            "tnt_1111111111111111111111111111111A",
            "TNT_1111111111111111111111111111111a",
            "pk_1111111111111111111111111111111a",
            "1111111111111111111111111111111a",
            "tnt_1111111111111111111111111111111a ",
            " tnt_1111111111111111111111111111111a",
            "tnt_1111111111111111111111111111111aa",
            "tnt_11111111-1111-1111-1111-11111111111a",
            "tnt_{11111111-1111-1111-1111-11111111111a}",
        ] {
            let json = record(&format!(r#""tenant":"{other}","#));
            let found = Record::parse(json.as_bytes()).unwrap();
            assert_eq!(wanted.difference(&found), Some("tenant"), "{other}");
            let json = record(&format!(r#""key":"{other}","#));
            let found = Record::parse(json.as_bytes()).unwrap();
            let wanted =
                Binding { tenant: None, key: "pk_1111111111111111111111111111111b".parse().ok(), ..wanted };
            assert_eq!(wanted.difference(&found), Some("key"), "{other}");
        }
        let json = record("");
        let found = Record::parse(json.as_bytes()).unwrap();
        assert_eq!(wanted.difference(&found), Some("tenant"), "one that is missing");
    }

    #[test]
    fn a_text_is_copied_only_when_something_in_it_is_escaped() {
        let plain = BINDING.render(b"x");
        let record = Record::parse(&plain).unwrap();
        assert!(matches!(record.origin.unwrap().0, Cow::Borrowed("https://api.openai.com")));
        let wild = Binding { origin: Some("a\"b"), ..BINDING };
        let json = wild.render(b"x");
        let record = Record::parse(&json).unwrap();
        assert_eq!(wild.difference(&record), None);
        assert!(matches!(&record.origin.unwrap().0, Cow::Owned(text) if text == "a\"b"));
    }

    #[test]
    fn the_buffer_of_a_record_never_grows() {
        for length in [0, 1, 2, 3, 51, 164, 4096] {
            let wild = Binding { origin: Some("\u{1}\"\\\u{1}\u{1}\u{1}\u{1}"), ..BINDING };
            let json = wild.render(&vec![0xff; length]);
            let room = 256 + 6 * (36 + 35 + 6 + 7) + base64_length(length);
            assert_eq!(json.capacity(), room, "{length}");
        }
    }

    #[test]
    fn secrets_of_every_length_and_byte_read_back() {
        for length in 0..300 {
            let secret: Vec<u8> = (0..length).map(|i| u8::try_from(i % 256).unwrap()).collect();
            let json = BINDING.render(&secret);
            let record = Record::parse(&json).unwrap();
            assert_eq!(BINDING.difference(&record), None);
            assert_eq!(*record.secret().unwrap(), secret);
        }
    }

    #[test]
    fn a_record_with_strange_members_is_none() {
        for json in [
            "",
            "{}",
            "null",
            r#"{"schema":1,"purpose":"house","name":"x"}"#,
            r#"{"schema":1,"purpose":"house","name":"x","secret":"","more":1}"#,
            r#"{"schema":1,"schema":1,"purpose":"house","name":"x","secret":""}"#,
            r#"{"schema":1,"purpose":"house","name":"x","secret":"\u0041"}"#,
        ] {
            assert!(Record::parse(json.as_bytes()).is_none(), "{json}");
        }
    }
}
