//! The shapes of Anthropic's answers and events, their parts still text.
//!
//! Every member takes any JSON: a surprise in one must not hide the usage in another, and what this gateway has never
//! heard of is skipped, as Anthropic's versioning asks of clients.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A JSON text that may be missing.
pub(super) type Raw<'a> = Option<&'a RawValue>;

/// A whole answer, or the beginning of one in `message_start`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    #[serde(rename = "type", borrow, deserialize_with = "text")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) stop_sequence: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) stop_details: Raw<'a>,
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
    #[serde(borrow)]
    pub(super) error: Raw<'a>,
}

impl<'a> Message<'a> {
    /// Whether it is an error although its status said success.
    pub(super) fn is_error(&self) -> bool {
        self.error.is_some() || self.kind.as_deref() == Some("error")
    }

    /// Its blocks; `None` if it has no list of them.
    pub(super) fn blocks(&self) -> Option<Vec<Block<'a>>> {
        let blocks: Vec<&'a RawValue> = serde_json::from_str(self.content?.get()).ok()?;
        blocks.into_iter().map(|block| read(Some(block))).collect()
    }

    /// Its end, as an event would tell it.
    pub(super) fn delta(&self) -> Delta<'a> {
        Delta {
            stop_reason: self.stop_reason.clone(),
            stop_sequence: self.stop_sequence.clone(),
            stop_details: self.stop_details,
            ..Delta::default()
        }
    }
}

/// One event of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamEvent<'a> {
    #[serde(rename = "type", borrow, deserialize_with = "text")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) message: Raw<'a>,
    #[serde(deserialize_with = "count")]
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) content_block: Raw<'a>,
    #[serde(borrow)]
    pub(super) delta: Raw<'a>,
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
    #[serde(borrow)]
    pub(super) error: Raw<'a>,
}

/// One block of an answer. In a stream what is in it comes later, as [`Delta`]s.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Block<'a> {
    #[serde(rename = "type", borrow, deserialize_with = "text")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) citations: Raw<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) thinking: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) signature: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) data: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) input: Raw<'a>,
    /// Of a compaction: a summary, written by the model. Of a tool's result: no text.
    #[serde(borrow, deserialize_with = "text")]
    pub(super) content: Option<Cow<'a, str>>,
}

impl Block<'_> {
    /// UTF-8 bytes of what the model wrote in it.
    pub(super) fn text_bytes(&self) -> u64 {
        let input = self.arguments().map_or(0, str::len);
        let texts = [&self.text, &self.thinking, &self.name, &self.content].map(bytes);
        texts.into_iter().sum::<u64>().saturating_add(input as u64)
    }

    /// Its arguments, if it has any: the `{}` of a block whose arguments are still to come is none.
    pub(super) fn arguments(&self) -> Option<&str> {
        let input = self.input?.get();
        let empty = input.strip_prefix('{').is_none_or(|rest| rest.trim_start() == "}");
        (!empty).then_some(input)
    }

    /// Whether a client learns something from it.
    pub(super) fn is_meaningful(&self) -> bool {
        match self.kind.as_deref() {
            None | Some("text" | "thinking") => self.text_bytes() > 0,
            Some(_) => true,
        }
    }
}

/// What an event adds to a block, or to the message.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta<'a> {
    #[serde(rename = "type", borrow, deserialize_with = "text")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) thinking: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) signature: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) partial_json: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) citation: Raw<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) stop_sequence: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) stop_details: Raw<'a>,
}

impl Delta<'_> {
    /// UTF-8 bytes of what the model wrote in it.
    pub(super) fn text_bytes(&self) -> u64 {
        [&self.text, &self.thinking, &self.partial_json, &self.content].map(bytes).into_iter().sum()
    }

    /// Whether a client learns something from it.
    pub(super) fn is_meaningful(&self) -> bool {
        self.text_bytes() > 0 || bytes(&self.signature) > 0 || self.citation.is_some()
    }
}

/// Why a refusal was one.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct StopDetails<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub(super) explanation: Option<Cow<'a, str>>,
}

/// A source that is cited.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Citation<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub(super) url: Option<Cow<'a, str>>,
    /// Where a search result of the client's own comes from: often, not always, an address.
    #[serde(borrow, deserialize_with = "text")]
    pub(super) source: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) title: Option<Cow<'a, str>>,
}

/// Reads one of these shapes; `None` if the text is no object.
pub(super) fn read<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    object(raw?.get())
}

/// The same of a text. Serde would take an array for an object with its members in order.
pub(super) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok())?
}

fn bytes(text: &Option<Cow<'_, str>>) -> u64 {
    text.as_deref().map_or(0, |text| text.len() as u64)
}

/// A string with something in it, borrowed where it has no escapes; `None` for anything else.
fn text<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    let Some(raw) = Option::<&'de RawValue>::deserialize(json)?.map(RawValue::get) else { return Ok(None) };
    let inside = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    let text = match inside {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        Some(_) => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
        None => None,
    };
    Ok(text.filter(|text| !text.is_empty()))
}

/// A count; `None` for anything else.
fn count<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u64>, D::Error> {
    let raw = Option::<&'de RawValue>::deserialize(json)?;
    Ok(raw.and_then(|raw| raw.get().parse().ok()))
}
