//! The shapes inside OpenAI-like answers and chunks, measured rather than built.
//!
//! Every measure takes any JSON: a provider's surprise in one member must not hide the usage in another.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// An answer or a chunk, its parts still text.
#[derive(Default)]
pub(super) struct Payload<'a> {
    pub(super) object: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    pub(super) service_tier: Option<&'a str>,
    pub(super) choices: Option<&'a str>,
    pub(super) data: Option<&'a str>,
    pub(super) usage: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    pub(super) x_groq: Option<&'a str>,
    /// `message` or `detail` at the top: an error without its wrapper.
    pub(super) flat_error: bool,
    /// Something for the client besides choices.
    pub(super) extras: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Payload<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Payload<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload<'de>, A::Error> {
                let mut payload = Payload::default();
                while let Some(name) = map.next_key::<Name>()? {
                    let slot = match name {
                        Name::Object => &mut payload.object,
                        Name::Model => &mut payload.model,
                        Name::ServiceTier => &mut payload.service_tier,
                        Name::Choices => &mut payload.choices,
                        Name::Data => &mut payload.data,
                        Name::Usage => &mut payload.usage,
                        Name::Error => &mut payload.error,
                        Name::XGroq => &mut payload.x_groq,
                        Name::FlatError => {
                            payload.flat_error |= map.next_value::<Option<IgnoredAny>>()?.is_some();
                            continue;
                        }
                        Name::Extra => {
                            let raw = map.next_value::<&'de RawValue>()?.get();
                            payload.extras |= !matches!(raw, "null" | "[]" | "{}");
                            continue;
                        }
                        Name::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *slot = Some(map.next_value::<&'de RawValue>()?.get());
                }
                Ok(payload)
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Object,
    Model,
    ServiceTier,
    Choices,
    Data,
    Usage,
    Error,
    XGroq,
    #[serde(alias = "message", alias = "detail")]
    FlatError,
    #[serde(
        alias = "prompt_filter_results",
        alias = "content_filter_results",
        alias = "moderation",
        alias = "citations",
        alias = "search_results",
        alias = "images",
        alias = "related_questions"
    )]
    Extra,
    #[serde(other)]
    Other,
}

/// One choice of an answer or a chunk.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    index: Measure,
    finish_reason: Measure,
    delta: Option<Message>,
    message: Option<Message>,
    /// Legacy completions.
    text: Measure,
}

impl Choice {
    pub(super) fn index(&self) -> u64 {
        self.index.number
    }

    pub(super) fn finished(&self) -> bool {
        self.finish_reason.bytes > 0
    }

    /// UTF-8 bytes of its text, and whether it carries anything at all. A chunk that repeats the whole message beside
    /// its delta says nothing new with it.
    pub(super) fn content(&self) -> (u64, bool) {
        let message = self.delta.as_ref().or(self.message.as_ref());
        let (bytes, any) = message.map_or((0, false), Message::content);
        (bytes + self.text.bytes, any || self.text.bytes > 0)
    }
}

/// A delta or a message.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Message {
    content: Measure,
    reasoning: Measure,
    reasoning_content: Measure,
    reasoning_details: Measure,
    refusal: Measure,
    tool_calls: Measure,
    function_call: Measure,
    audio: Measure,
}

impl Message {
    fn content(&self) -> (u64, bool) {
        // Servers in transition send the same reasoning under two or three names.
        let reasoning =
            self.reasoning.bytes.max(self.reasoning_content.bytes).max(self.reasoning_details.bytes);
        let bytes = self.content.bytes
            + reasoning
            + self.refusal.bytes
            + self.tool_calls.bytes
            + self.function_call.bytes
            + self.audio.bytes;
        (bytes, bytes > 0 || self.tool_calls.items > 0 || self.function_call.items > 0 || self.audio.payload)
    }
}

/// How much is in a value of any shape.
#[derive(Default, Clone, Copy)]
struct Measure {
    /// UTF-8 bytes of text in it.
    bytes: u64,
    /// Its value, if it is a whole number.
    number: u64,
    /// Entries, if it is an array or an object.
    items: u64,
    /// It holds base64 data.
    payload: bool,
}

impl<'de> Deserialize<'de> for Measure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Measuring)
    }
}

struct Measuring;

impl<'de> Visitor<'de> for Measuring {
    type Value = Measure;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_str<E>(self, text: &str) -> Result<Measure, E> {
        Ok(Measure { bytes: text.len() as u64, ..Measure::default() })
    }
    fn visit_unit<E>(self) -> Result<Measure, E> {
        Ok(Measure::default())
    }
    fn visit_bool<E>(self, _: bool) -> Result<Measure, E> {
        Ok(Measure::default())
    }
    fn visit_u64<E>(self, number: u64) -> Result<Measure, E> {
        Ok(Measure { number, ..Measure::default() })
    }
    fn visit_i64<E>(self, _: i64) -> Result<Measure, E> {
        Ok(Measure::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<Measure, E> {
        Ok(Measure::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Measure, A::Error> {
        let mut sum = Measure::default();
        while let Some(Measure { bytes, payload, .. }) = seq.next_element()? {
            sum.bytes += bytes;
            sum.payload |= payload;
            sum.items += 1;
        }
        Ok(sum)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Measure, A::Error> {
        let mut sum = Measure::default();
        while let Some(part) = map.next_key::<Part>()? {
            sum.items += 1;
            match part {
                Part::Text => {
                    let Measure { bytes, payload, .. } = map.next_value()?;
                    sum.bytes += bytes;
                    sum.payload |= payload;
                }
                Part::Data => sum.payload |= map.next_value::<Measure>()?.bytes > 0,
                Part::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(sum)
    }
}

/// Which members of an object are text that a model wrote: parts of a content, a tool call and its function, reasoning
/// and its summary, a transcript. Ids, types and signatures are not.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Part {
    #[serde(
        alias = "thinking",
        alias = "content",
        alias = "refusal",
        alias = "transcript",
        alias = "summary",
        alias = "function",
        alias = "custom",
        alias = "name",
        alias = "arguments",
        alias = "input"
    )]
    Text,
    Data,
    #[serde(other)]
    Other,
}
