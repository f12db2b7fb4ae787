//! What stands inside a Fernet token: a canonical JSON record that names the row it belongs to, with the secret last.
//!
//! Every buffer that a secret passes through here is allocated once at its final size, so that no growth leaves an
//! unwiped copy behind, and is wiped when dropped.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

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
    pub tenant: Option<&'a str>,
    pub key: Option<&'a str>,
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
        let record = Record {
            schema: SCHEMA,
            purpose: self.purpose.into(),
            tenant: self.tenant.map(Text::from),
            key: self.key.map(Text::from),
            provider: self.provider.map(Text::from),
            origin: self.origin.map(Text::from),
            name: self.name.map(Text::from),
            secret: text,
        };
        // Six times a text is the most that JSON's escapes make of it; base64 has nothing to escape.
        let names = [self.tenant, self.key, self.provider, self.origin, self.name];
        let room = 256 + 6 * names.iter().flatten().map(|text| text.len()).sum::<usize>() + length;
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, &record).expect("texts and a number always have a JSON form");
        json
    }

    /// The first member of `record` that differs.
    pub fn difference(&self, record: &Record<'_>) -> Option<&'static str> {
        // The purpose first: a house secret in a provider key's row has no tenant to compare.
        let members = [
            ("tenant", self.tenant, &record.tenant),
            ("key", self.key, &record.key),
            ("provider", self.provider, &record.provider),
            ("origin", self.origin, &record.origin),
            ("name", self.name, &record.name),
        ];
        if record.schema != SCHEMA {
            return Some("schema");
        }
        if record.purpose != self.purpose {
            return Some("purpose");
        }
        members
            .into_iter()
            .find(|(_, wanted, found)| *wanted != found.as_ref().map(|text| &*text.0))
            .map(|(member, ..)| member)
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
        tenant: Some("tnt_1"),
        key: Some("pk_1"),
        provider: Some("openai"),
        origin: Some("https://api.openai.com"),
        name: None,
    };

    #[test]
    fn the_record_is_canonical() {
        let json = BINDING.render(b"sk-secret");
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"schema":1,"purpose":"provider_key","tenant":"tnt_1","key":"pk_1","provider":"openai","origin":"https://api.openai.com","secret":"c2stc2VjcmV0"}"#
        );
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
            let room = 256 + 6 * (5 + 4 + 6 + 7) + base64_length(length);
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
