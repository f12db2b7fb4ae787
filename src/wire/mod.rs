//! Shapes and framing: bytes to values and back. No provider, no policy, no I/O.
//!
//! A request is an [`Envelope`]: its members stay the client's own bytes, [`read_request`] reads the few that policy
//! needs, [`Edit`]s change the few that must change. An answer's stream is cut into frames on raw bytes by [`Framer`]
//! and decoded on the side by [`EventReader`]. Nothing here builds a tree of a body, goes deeper into one than its
//! bound on nesting, or shows one in `Debug`.

pub mod conversation;
pub mod envelope;
pub mod error;
mod frame;
mod inline;
mod items;
mod messages_request;
mod names;
pub mod part;
pub mod request;
#[cfg(test)]
mod request_tests;
mod responses_request;
#[cfg(test)]
mod responses_request_tests;
mod scan;
pub mod sse;
pub mod usage;
mod walks;

pub use conversation::Conversation;
pub use envelope::{Edit, Envelope, EnvelopeError};
pub use error::{ErrorObject, scrub};
pub use frame::write_frame;
pub use part::{Finish, Part, What};
pub use request::{RequestView, read_request};
pub use sse::{Event, EventReader, FrameTooLarge, Framer};
pub use usage::{AnthropicUsage, Figure, Figures, Normalised, UsageBounds, UsageRules};

/// Which endpoint a request is for: in whose words it asks, and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/chat/completions`
    ChatCompletions,
    /// `/completions`
    Completions,
    /// `/embeddings`
    Embeddings,
    /// `/messages`, Anthropic's
    Messages,
    /// `/messages/count_tokens`: says how large a request is, and costs nothing
    CountTokens,
    /// `/responses`, OpenAI's newer one
    Responses,
}

impl Endpoint {
    /// The path below a provider's base URL, with its leading slash.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
            Self::Responses => "/responses",
        }
    }

    /// Whether what is asked for is a conversation's next turn, which the context window bounds.
    pub const fn is_conversation(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Messages | Self::CountTokens | Self::Responses)
    }
}
