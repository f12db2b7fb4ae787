//! The shapes inside chat completions. Each member takes any JSON: a provider's surprise in one must not hide the rest.

use std::borrow::Cow;

use serde::{
    Deserialize,
    de::{DeserializeOwned, Deserializer},
};
use serde_json::value::RawValue;

/// A value that is its default where it is not of the shape it should have.
#[derive(Default)]
pub(super) struct Any<T>(pub(super) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Any<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).unwrap_or_default()))
    }
}

/// A text, if it is one.
type Text = Any<Option<String>>;

/// One choice of an answer or of a chunk.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Choice<'a> {
    pub(super) index: Any<Option<u64>>,
    pub(super) finish_reason: Text,
    /// vLLM's: the stop sequence that was met, or a token's number.
    pub(super) stop_reason: Text,
    pub(super) delta: Any<Option<Message<'a>>>,
    pub(super) message: Any<Option<Message<'a>>>,
}

/// A message, or the next piece of one.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Message<'a> {
    pub(super) content: Any<Content>,
    pub(super) reasoning_content: Text,
    pub(super) reasoning: Text,
    pub(super) reasoning_details: List<Detail>,
    pub(super) thinking_blocks: List<ThinkingBlock>,
    pub(super) refusal: Text,
    pub(super) tool_calls: Any<Vec<Any<CallPiece<'a>>>>,
    pub(super) function_call: Any<Option<FunctionPiece<'a>>>,
    pub(super) annotations: List<Annotation>,
    pub(super) extra_content: Any<Extra>,
}

/// A list whose items are read one by one.
type List<T> = Any<Vec<Any<T>>>;

impl Message<'_> {
    /// The thoughts as text. Servers in transition send the same under two or three names.
    pub(super) fn thoughts(&mut self) -> Option<String> {
        let named = [&mut self.reasoning_content, &mut self.reasoning];
        let named = named.into_iter().filter_map(|text| text.0.take()).find(|text| !text.is_empty());
        named.or_else(|| {
            let details = self.reasoning_details.0.iter().filter_map(|Any(detail)| detail.text());
            Some(details.collect::<String>()).filter(|text| !text.is_empty())
        })
    }
}

/// A text, or parts.
#[derive(Default)]
pub(super) enum Content {
    #[default]
    Nothing,
    Text(String),
    Parts(Vec<Any<ContentPart>>),
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        let read = match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).map(Self::Text),
            Some(b'[') => serde_json::from_str(raw).map(Self::Parts),
            _ => Ok(Self::Nothing),
        };
        Ok(read.unwrap_or_default())
    }
}

/// A part of a content: text, or Mistral's thoughts, which are themselves a list of texts.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ContentPart {
    pub(super) text: Text,
    thinking: Any<Thoughts>,
}

impl ContentPart {
    pub(super) fn thoughts(&mut self) -> Option<String> {
        std::mem::take(&mut self.thinking.0.0).filter(|text| !text.is_empty())
    }
}

#[derive(Default)]
struct Thoughts(Option<String>);

impl<'de> Deserialize<'de> for Thoughts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Piece {
            text: Text,
        }
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        if raw.starts_with('"') {
            return Ok(Self(from(raw)));
        }
        let pieces: Vec<Any<Piece>> = from(raw).unwrap_or_default();
        Ok(Self(Some(pieces.into_iter().filter_map(|Any(piece)| piece.text.0).collect())))
    }
}

fn from<T: DeserializeOwned>(raw: &str) -> Option<T> {
    serde_json::from_str(raw).ok()
}

/// One of OpenRouter's `reasoning_details`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Detail {
    text: Text,
    summary: Text,
}

impl Detail {
    fn text(&self) -> Option<&str> {
        self.text.0.as_deref().or(self.summary.0.as_deref())
    }
}

/// One of `thinking_blocks`, as gateways in front of Anthropic have them.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ThinkingBlock {
    pub(super) thinking: Text,
    pub(super) signature: Text,
    pub(super) data: Text,
}

/// A tool call, or the next piece of one.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct CallPiece<'a> {
    pub(super) index: Any<Option<u64>>,
    pub(super) id: Text,
    pub(super) function: Any<FunctionPiece<'a>>,
    pub(super) extra_content: Any<Extra>,
}

/// Name and arguments.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct FunctionPiece<'a> {
    pub(super) name: Text,
    arguments: Any<Option<&'a RawValue>>,
}

impl FunctionPiece<'_> {
    /// The arguments' text. Some servers send them as JSON instead.
    pub(super) fn arguments(&self) -> Option<Cow<'_, str>> {
        let raw = self.arguments.0?.get();
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
            Some(b'{') => Some(Cow::Borrowed(raw)),
            _ => None,
        }
    }
}

/// `{"google":{"thought_signature":…}}`
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Extra {
    google: Any<Google>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Google {
    thought_signature: Text,
}

impl Extra {
    pub(super) fn signature(self) -> Option<String> {
        self.google.0.thought_signature.0.filter(|signature| !signature.is_empty())
    }
}

/// A source.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotation {
    pub(super) url_citation: Any<Source>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) url: Text,
    pub(super) title: Text,
}
