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
}
