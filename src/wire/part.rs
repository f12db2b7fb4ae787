//! What a model answers, in no provider's words: a whole answer is the same parts as its stream, only larger.
//!
//! The order of parts is the order of the stream: [`What::Start`] first, each tool call's arguments after its beginning,
//! [`What::Finish`] once for every choice, usage wherever the provider says it, [`What::End`] last. Consumers must bear
//! what providers do: no `Start`, no `End`, usage many times.

use std::fmt;

use super::{Figures, conversation::Thinking};

/// A part of one choice.
#[derive(Clone, PartialEq)]
pub struct Part {
    /// Which of several answers; 0 where there is one.
    pub choice: u32,
    /// What it is.
    pub what: What,
}

impl Part {
    /// A part of the first answer.
    pub const fn first(what: What) -> Self {
        Self { choice: 0, what }
    }
}

/// What a part is.
#[derive(Clone, PartialEq)]
pub enum What {
    /// The answer begins. Comes once a stream, not once a choice.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that answers, by the provider's name.
        model: Option<String>,
    },
    /// More text.
    Text(String),
    /// More thoughts to read.
    Thought(String),
    /// A block of thoughts is complete: what [`What::Thought`] said since the last one, as one, with its signature; or one
    /// that only the provider can read. To be given back with the next turn.
    Thinking(Thinking),
    /// More of a refusal.
    Refusal(String),
    /// A tool call begins.
    ToolCall {
        /// Counts the calls of a choice from 0 without gaps.
        index: u32,
        /// Ties the result to it; never empty.
        id: String,
        /// Which tool.
        name: String,
        /// Gemini's `thoughtSignature` of it.
        signature: Option<String>,
    },
    /// More of a tool call's arguments: pieces of JSON text. A call without arguments says `{}`.
    Arguments {
        /// Which call.
        index: u32,
        /// The piece.
        json: String,
    },
    /// Gemini's `thoughtSignature` on text, to be given back with it.
    TextSignature(String),
    /// A source that the answer cites.
    Citation {
        /// Its address.
        url: String,
        /// Its title.
        title: Option<String>,
    },
    /// The choice is complete.
    Finish {
        /// Why.
        reason: Finish,
        /// The stop sequence that was met, where the provider names it.
        stop_sequence: Option<String>,
    },
    /// Usage so far, cumulative.
    Usage(Figures),
    /// The service tier used, by the provider's name.
    ServiceTier(String),
    /// The stream is complete: the provider said so.
    End,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model was done.
    Stop,
    /// It met a stop sequence.
    StopSequence,
    /// The output limit, or the context window.
    Length,
    /// It waits for tools.
    ToolCalls,
    /// It, or a filter, refused.
    Filtered,
}

impl What {
    /// Whether a client learns something from it: what commits the gateway to this answer.
    pub fn is_meaningful(&self) -> bool {
        match self {
            Self::Text(text) | Self::Thought(text) | Self::Refusal(text) => !text.is_empty(),
            Self::Arguments { json, .. } => !json.is_empty(),
            Self::Thinking(_) | Self::ToolCall { .. } | Self::Finish { .. } | Self::Citation { .. } => true,
            Self::Start { .. }
            | Self::TextSignature(_)
            | Self::Usage(_)
            | Self::ServiceTier(_)
            | Self::End => false,
        }
    }

    /// UTF-8 bytes of what the model wrote in it, from which tokens are estimated.
    pub fn text_bytes(&self) -> u64 {
        let text = match self {
            Self::Text(text) | Self::Thought(text) | Self::Refusal(text) => text,
            Self::Arguments { json, .. } => json,
            Self::ToolCall { name, .. } => name,
            _ => return 0,
        };
        text.len() as u64
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("choice", &self.choice).field("what", &self.what).finish()
    }
}

impl fmt::Debug for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name of the part and nothing that was said.
        f.write_str(match self {
            Self::Start { .. } => "Start",
            Self::Text(_) => "Text",
            Self::Thought(_) => "Thought",
            Self::Thinking(_) => "Thinking",
            Self::Refusal(_) => "Refusal",
            Self::ToolCall { .. } => "ToolCall",
            Self::Arguments { .. } => "Arguments",
            Self::TextSignature(_) => "TextSignature",
            Self::Citation { .. } => "Citation",
            Self::Finish { .. } => "Finish",
            Self::Usage(_) => "Usage",
            Self::ServiceTier(_) => "ServiceTier",
            Self::End => "End",
        })
    }
}
