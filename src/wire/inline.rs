//! Inline data of images and files, measured where it stands. What is measured here is left out of the bytes that
//! bound a request's tokens, since images and files count with a maximum of their own: in doubt it measures nothing.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{names::is_folded, walks::Word};

/// Bytes of the picture inside an `image_url`, the text of a data URL or an object with one, as they stand in the body.
///
/// A data URL of another type may be a document to whoever reads it, which no image's maximum covers: it keeps its
/// bytes. So does one whose beginning is written with escapes, save for the slash that PHP escapes.
pub(super) fn image_bytes(raw: &str) -> u64 {
    let url = if raw.starts_with('{') { member(raw, "url") } else { Some(raw) };
    let picture = |text: &&str| text.starts_with("data:image/") || text.starts_with("data:image\\/");
    url.and_then(quoted).filter(picture).map_or(0, length)
}

/// Bytes of the data inside a `file`, as they stand in the body. Sound and film keep theirs, as they do elsewhere.
pub(super) fn file_bytes(raw: &str) -> u64 {
    member(raw, "file_data").map_or(0, data_bytes)
}

/// The same of the data itself.
pub(super) fn data_bytes(raw: &str) -> u64 {
    let heard = |text: &str| text.starts_with("data:audio") || text.starts_with("data:video");
    quoted(raw).filter(|text| !heard(text)).map_or(0, length)
}

/// Whether the options of a cache, or a mark in it, ask for more than the usual half hour.
pub(super) fn keeps_cache_long(raw: &str) -> bool {
    says_only(raw, "ttl", "30m") == Some(false)
}

/// Whether a `cache_control` asks for more than the usual five minutes.
pub(super) fn marks_an_hour(raw: &str) -> bool {
    says_only(raw, "ttl", "5m") == Some(false)
}

/// Whether an object's member of this name says nothing but `wanted`; None if it has no such member, or it is `null`.
/// A name that is repeated, in whatever letters, has to say it every time.
pub(super) fn says_only(raw: &str, name: &str, wanted: &str) -> Option<bool> {
    struct Every<'n>(&'n str, &'n str);
    impl<'de> Visitor<'de> for Every<'_> {
        type Value = Option<bool>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut said = None;
            while let Some(Word(name)) = map.next_key()? {
                let raw = map.next_value::<&'de RawValue>()?.get();
                if (name == self.0 || is_folded(&name, self.0)) && raw != "null" {
                    let says = serde_json::from_str(raw).is_ok_and(|Word(word)| word == self.1);
                    said = Some(said.unwrap_or(true) && says);
                }
            }
            Ok(said)
        }
    }
    serde_json::Deserializer::from_str(raw).deserialize_map(Every(name, wanted)).ok().flatten()
}

/// What stands between the quotes of a string's JSON text.
fn quoted(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

const fn length(text: &str) -> u64 {
    text.len() as u64
}

/// The JSON text of an object's member. None if the name is repeated, in whatever letters: which of them a provider
/// reads is not known.
fn member<'a>(raw: &'a str, name: &str) -> Option<&'a str> {
    struct Only<'n>(&'n str);
    impl<'de> Visitor<'de> for Only<'_> {
        type Value = Option<&'de str>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut found, mut times) = (None, 0_u32);
            while let Some(Word(name)) = map.next_key()? {
                if name == self.0 {
                    found = Some(map.next_value::<&'de RawValue>()?.get());
                    times += 1;
                } else {
                    times += u32::from(is_folded(&name, self.0));
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found.filter(|_| times == 1))
        }
    }
    serde_json::Deserializer::from_str(raw).deserialize_map(Only(name)).ok().flatten()
}
