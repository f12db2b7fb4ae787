//! Shapes and framing: bytes to values and back. No provider, no policy, no I/O.
//!
//! A request is an [`Envelope`]: its members stay the client's own bytes, [`read_request`] reads the few that policy
//! needs, [`Edit`]s change the few that must change. An answer's stream is cut into frames on raw bytes by [`Framer`]
//! and decoded on the side by [`EventReader`]. Nothing here builds a tree of a body, goes deeper into one than its
//! bound on nesting, or shows one in `Debug`.

pub mod envelope;
pub mod error;
mod inline;
mod names;
pub mod request;
#[cfg(test)]
mod request_tests;
mod scan;
pub mod sse;
pub mod usage;
mod walks;

pub use envelope::{Edit, Envelope, EnvelopeError};
pub use error::{ErrorObject, scrub};
pub use request::{RequestView, read_request};
pub use sse::{Event, EventReader, FrameTooLarge, Framer};
pub use usage::{Figure, Figures, Normalised, UsageBounds, UsageRules};

/// Which of OpenAI's endpoints a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/chat/completions`
    ChatCompletions,
    /// `/completions`
    Completions,
    /// `/embeddings`
    Embeddings,
}

impl Endpoint {
    /// The path below a provider's base URL, with its leading slash.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }
}
