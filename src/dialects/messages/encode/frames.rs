//! What Anthropic's messages and events look like.

use serde::Serialize;
use serde_json::value::RawValue;

use super::usage::Usage;
use crate::wire::write_frame;

/// An event.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Frame<'a> {
    MessageStart { message: Message<'a> },
    ContentBlockStart { index: u32, content_block: Block<'a> },
    ContentBlockDelta { index: u32, delta: Delta<'a> },
    ContentBlockStop { index: u32 },
    MessageDelta { delta: Ending<'a>, usage: Usage },
    MessageStop,
}

impl Frame<'_> {
    /// Appends it, with its name: the SDKs ignore an event that has none.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let name = match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        };
        write_frame(Some(name), self, out);
    }
}

/// The answer to how large a request is.
#[derive(Serialize)]
pub(super) struct Count {
    pub(super) input_tokens: u64,
}

/// A message, whole or as it begins.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: &'a [Block<'a>],
    #[serde(flatten)]
    ending: Ending<'a>,
    usage: Usage,
}

impl<'a> Message<'a> {
    pub(super) const fn new(
        id: &'a str,
        model: &'a str,
        content: &'a [Block<'a>],
        ending: Ending<'a>,
        usage: Usage,
    ) -> Self {
        Self { id, kind: "message", role: "assistant", model, content, ending, usage }
    }
}

/// Why an answer ended.
#[derive(Default, Serialize)]
pub(super) struct Ending<'a> {
    pub(super) stop_reason: Option<&'static str>,
    pub(super) stop_sequence: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop_details: Option<StopDetails>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StopDetails {
    /// Other providers name no category; both are `null`.
    Refusal { category: (), explanation: () },
}

/// A piece of content.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        citations: &'a [Citation],
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Input<'a>,
    },
}

/// The arguments of a call, which are always an object.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Input<'a> {
    Whole(&'a RawValue),
    /// What the model wrote is none: its text as the only member.
    Broken {
        #[serde(rename = "_raw")]
        raw: &'a str,
    },
    None {},
}

/// More of a piece of content.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "these are Anthropic's names")]
pub(super) enum Delta<'a> {
    TextDelta { text: &'a str },
    CitationsDelta { citation: &'a Citation },
    ThinkingDelta { thinking: &'a str },
    SignatureDelta { signature: &'a str },
    InputJsonDelta { partial_json: &'a str },
}

/// A source that is cited. Of Anthropic's kinds of citation this is the one for addresses; what it knows besides, other
/// providers do not say.
#[derive(Serialize)]
pub(super) struct Citation {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
    title: Option<String>,
    cited_text: &'static str,
    encrypted_index: &'static str,
}

impl Citation {
    pub(super) const fn new(url: String, title: Option<String>) -> Self {
        Self { kind: "web_search_result_location", url, title, cited_text: "", encrypted_index: "" }
    }
}
