//! In what a provider's dialect differs from the book. Data from `config/providers.toml`, read by `dialects`; a new
//! difference is a field here, not a branch on a provider's name there.

use serde::Deserialize;

/// The language a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DialectKind {
    /// OpenAI's chat completions, completions and embeddings.
    #[default]
    OpenAi,
}

impl DialectKind {
    /// The name used by the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "openai" => Some(Self::OpenAi),
            _ => None,
        }
    }
}

/// How usage comes to be in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// `stream_options.include_usage` asks for it.
    #[default]
    Ask,
    /// It comes by itself; asking is refused or useless.
    Always,
}

/// The field that limits output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimitField {
    /// `max_tokens` only.
    MaxTokens,
    /// `max_completion_tokens`; the other is refused by some models.
    MaxCompletionTokens,
    /// Both are understood.
    #[default]
    Either,
}

/// In what a provider differs from the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// How usage comes to be in a stream.
    pub stream_usage: StreamUsage,
    /// The field that limits output.
    pub output_limit: OutputLimitField,
    /// `completion_tokens` leaves reasoning out.
    pub reasoning_apart: bool,
    /// A request with `stream_options` is refused.
    pub refuses_stream_options: bool,
    /// Embeddings come as floats only; `encoding_format: base64` is refused.
    pub float_embeddings_only: bool,
    /// Streams end without `[DONE]`.
    pub done_missing: bool,
}
