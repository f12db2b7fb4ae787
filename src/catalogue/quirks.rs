//! How a provider differs from the dialect it speaks. Differences are data, never a branch on a provider's name;
//! the defaults describe OpenAI itself.

use serde::{Deserialize, Serialize};

/// Which dialect a provider speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DialectKind {
    /// OpenAI's own.
    #[default]
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
}

impl DialectKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Gemini];

    /// The name used by the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How a provider's streams come to carry usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// Only when `stream_options.include_usage` asks for it.
    #[default]
    Ask,
    /// By itself; the gateway does not ask.
    Always,
}

/// Under which name a provider takes the limit on output tokens of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimitField {
    /// `max_tokens` only: a client's `max_completion_tokens` is renamed.
    MaxTokens,
    /// A client's own field passes unchanged; a limit the gateway adds is `max_completion_tokens`.
    #[default]
    MaxCompletionTokens,
    /// A client's own field passes unchanged; a limit the gateway adds is `max_tokens`.
    Either,
}

/// A provider's differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct Quirks {
    /// How streams come to carry usage.
    pub stream_usage: StreamUsage,
    /// `stream_options` is refused, so a client's own is taken out.
    pub refuses_stream_options: bool,
    /// Name of the output limit.
    pub output_limit: OutputLimitField,
    /// `completion_tokens` leaves reasoning out (xAI).
    pub reasoning_apart: bool,
    /// Embeddings come as float arrays only, never as base64.
    pub float_embeddings_only: bool,
    /// Streams end without `[DONE]`.
    pub done_missing: bool,
    /// `/responses` is spoken as well; without it, it is translated into a chat.
    pub responses: bool,
    /// Assistant turns carry `reasoning_content` back, an empty one where there were no thoughts (DeepSeek).
    pub reasoning_content: bool,
    /// `cache_control` on parts and tools is understood, as Anthropic has it (OpenRouter).
    pub cache_control: bool,
    /// Members it does not know are refused, and `user`, `seed` and a message's `name` are such (Mistral): a translated
    /// request leaves them out.
    pub refuses_unknown: bool,
    /// Ids of tool calls are nine letters and digits (Mistral): others are replaced.
    pub nine_letter_call_ids: bool,
}
