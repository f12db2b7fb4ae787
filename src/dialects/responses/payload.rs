//! The shapes inside responses and their events, measured rather than built.
//!
//! Every measure takes any JSON: a provider's surprise in one member must not hide the usage in another.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Declares an object of which some members are wanted, each as its JSON text. Of a repeated member the last counts.
macro_rules! members {
    ($(#[$doc:meta])* $name:ident { $($member:ident = $key:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $member: Option<&'a str>,)+
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(field_identifier, rename_all = "snake_case")]
                #[allow(non_camel_case_types, reason = "named as the members are")]
                enum Key {
                    $(#[serde(rename = $key)] $member,)+
                    #[serde(other)]
                    Other_,
                }
                struct Read;
                impl<'de> Visitor<'de> for Read {
                    type Value = $name<'de>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name<'de>, A::Error> {
                        let mut found = $name::default();
                        while let Some(key) = map.next_key::<Key>()? {
                            let slot = match key {
                                $(Key::$member => &mut found.$member,)+
                                Key::Other_ => {
                                    map.next_value::<IgnoredAny>()?;
                                    continue;
                                }
                            };
                            *slot = Some(map.next_value::<&'de RawValue>()?.get());
                        }
                        Ok(found)
                    }
                }
                deserializer.deserialize_map(Read)
            }
        }
    };
}

members! {
    /// An event of a stream.
    Happening {
        kind = "type",
        response = "response",
        item = "item",
        output_index = "output_index",
        delta = "delta",
        text = "text",
        refusal = "refusal",
        arguments = "arguments",
        input = "input",
        annotation = "annotation",
        partial_image = "partial_image_b64",
        error = "error",
    }
}

members! {
    /// A response, whole or as far as it has come.
    Response {
        model = "model",
        output = "output",
        usage = "usage",
        service_tier = "service_tier",
        error = "error",
        message = "message",
        detail = "detail",
    }
}

members! {
    /// An item of the output.
    Item {
        kind = "type",
        sealed = "encrypted_content",
    }
}

/// A JSON text as a string, if it is one with something in it.
pub(super) fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok().filter(|text: &String| !text.is_empty())
}

/// UTF-8 bytes of a string; 0 of anything else.
pub(super) fn string_bytes(raw: Option<&str>) -> u64 {
    raw.filter(|raw| raw.starts_with('"')).map_or(0, written)
}

/// UTF-8 bytes of what a model wrote in an item, or in a list of them. What is no JSON has none.
pub(super) fn written(raw: &str) -> u64 {
    serde_json::from_str::<Written>(raw).map_or(0, |Written(bytes)| bytes)
}

/// Anything true of a member named `error`, as the SDKs see it.
pub(super) fn is_error(raw: Option<&str>) -> bool {
    !matches!(raw, None | Some("null" | "false" | "\"\"" | "0" | "{}" | "[]"))
}

struct Written(u64);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counting)
    }
}

struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written(text.len() as u64))
    }
    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written(0))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Written, E> {
        Ok(Written(0))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Written, E> {
        Ok(Written(0))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Written, E> {
        Ok(Written(0))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Written, E> {
        Ok(Written(0))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Written, A::Error> {
        let mut sum = 0_u64;
        while let Some(Written(bytes)) = seq.next_element()? {
            sum = sum.saturating_add(bytes);
        }
        Ok(Written(sum))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
        let mut sum = 0_u64;
        while let Some(part) = map.next_key::<Part>()? {
            match part {
                Part::Text => {
                    let Written(bytes) = map.next_value()?;
                    sum = sum.saturating_add(bytes);
                }
                Part::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Written(sum))
    }
}

/// Which members of an item are text that a model wrote: a message's content, a thought and its summary, a call of
/// whatever tool. Ids, types, results of tools and what is sealed are not.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Part {
    #[serde(
        alias = "content",
        alias = "refusal",
        alias = "transcript",
        alias = "summary",
        alias = "name",
        alias = "arguments",
        alias = "input",
        alias = "code",
        alias = "action",
        alias = "command",
        alias = "commands",
        alias = "query",
        alias = "queries",
        alias = "operation",
        alias = "diff",
        alias = "path"
    )]
    Text,
    #[serde(other)]
    Other,
}
