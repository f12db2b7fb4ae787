//! The shapes inside OpenAI-like answers and chunks, measured rather than built.
//!
//! Every measure takes any JSON: a provider's surprise in one member must not hide the usage in another.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    dialects::{ProviderError, Unreadable, failure},
    wire::Figures,
};

/// An answer or a chunk, its parts still text.
#[derive(Default)]
pub(in crate::dialects) struct Payload<'a> {
    pub(in crate::dialects) id: Option<&'a str>,
    pub(in crate::dialects) object: Option<&'a str>,
    pub(in crate::dialects) model: Option<&'a str>,
    pub(in crate::dialects) service_tier: Option<&'a str>,
    pub(in crate::dialects) choices: Option<&'a str>,
    pub(in crate::dialects) data: Option<&'a str>,
    pub(in crate::dialects) usage: Option<&'a str>,
    pub(in crate::dialects) error: Option<&'a str>,
    pub(in crate::dialects) x_groq: Option<&'a str>,
    /// Perplexity's sources: addresses, and the same with titles.
    pub(in crate::dialects) citations: Option<&'a str>,
    pub(in crate::dialects) search_results: Option<&'a str>,
    /// `message` or `detail` at the top: an error without its wrapper.
    pub(in crate::dialects) flat_error: bool,
    /// Something for the client besides choices.
    pub(in crate::dialects) extras: bool,
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
                        Name::Id => &mut payload.id,
                        Name::Object => &mut payload.object,
                        Name::Model => &mut payload.model,
                        Name::ServiceTier => &mut payload.service_tier,
                        Name::Choices => &mut payload.choices,
                        Name::Data => &mut payload.data,
                        Name::Usage => &mut payload.usage,
                        Name::Error => &mut payload.error,
                        Name::XGroq => &mut payload.x_groq,
                        Name::Citations | Name::SearchResults => {
                            let raw = map.next_value::<&'de RawValue>()?.get();
                            payload.extras |= says_something(raw);
                            match name {
                                Name::Citations => payload.citations = Some(raw),
                                _ => payload.search_results = Some(raw),
                            }
                            continue;
                        }
                        Name::FlatError => {
                            payload.flat_error |= map.next_value::<Option<IgnoredAny>>()?.is_some();
                            continue;
                        }
                        Name::Extra => {
                            let raw = map.next_value::<&'de RawValue>()?.get();
                            payload.extras |= says_something(raw);
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

fn says_something(raw: &str) -> bool {
    !matches!(raw, "null" | "[]" | "{}")
}

impl<'a> Payload<'a> {
    /// What Groq says beside the dialect.
    pub(in crate::dialects) fn groq(&self) -> Option<Self> {
        self.x_groq.and_then(|raw| serde_json::from_str(raw).ok())
    }

    /// Usage, wherever it stands.
    pub(in crate::dialects) fn figures(&self, groq: Option<&Self>) -> Option<Figures> {
        let mut figures: Option<Figures> = None;
        for usage in [self.usage, groq.and_then(|groq| groq.usage)].into_iter().flatten() {
            if usage.starts_with('{') {
                figures.get_or_insert_default().merge_max(&Figures::from_openai_usage(usage));
            }
        }
        figures
    }

    /// The error in an event of which this is the `text`, if it is one: by its name, or by what is in it.
    pub(in crate::dialects) fn failure(
        &self,
        groq: Option<&Self>,
        by_name: bool,
        text: &str,
    ) -> Option<ProviderError> {
        if by_name || is_error(self.error) {
            return Some(failure::from_text(text));
        }
        let raw = groq.and_then(|groq| groq.error).filter(|raw| is_error(Some(raw)))?;
        Some(failure::from_text(&format!("{{\"error\":{raw}}}")))
    }

    /// The error in a whole answer of which this is the `text`; `answer` is the member that an answer would have.
    ///
    /// # Errors
    /// It is neither.
    pub(in crate::dialects) fn whole_failure(
        &self,
        answer: Option<&str>,
        text: &str,
    ) -> Result<Option<ProviderError>, Unreadable> {
        let is_answer = answer.is_some_and(|answer| answer.starts_with('['));
        if is_error(self.error) || (!is_answer && self.flat_error) {
            return Ok(Some(failure::from_text(text)));
        }
        if is_answer { Ok(None) } else { Err(Unreadable("not of the shape this endpoint answers with")) }
    }

    /// Perplexity's last chunk, which no `[DONE]` follows.
    pub(in crate::dialects) fn is_last(&self) -> bool {
        self.object.is_some_and(|object| object == "\"chat.completion.done\"")
    }
}

/// As the SDKs see it: anything true of a member named `error`.
fn is_error(raw: Option<&str>) -> bool {
    !matches!(raw.map(str::trim), None | Some("null" | "false" | "\"\"" | "0" | "{}" | "[]"))
}

/// A JSON text as a string, if it is one with something in it.
pub(in crate::dialects) fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok().filter(|text: &String| !text.is_empty())
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Id,
    Object,
    Model,
    ServiceTier,
    Choices,
    Data,
    Usage,
    Error,
    XGroq,
    Citations,
    SearchResults,
    #[serde(alias = "message", alias = "detail")]
    FlatError,
    #[serde(
        alias = "prompt_filter_results",
        alias = "content_filter_results",
        alias = "moderation",
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
