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
    let heard = |text: &str| text.starts_with("data:audio") || text.starts_with("data:video");
    member(raw, "file_data").and_then(quoted).filter(|text| !heard(text)).map_or(0, length)
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
