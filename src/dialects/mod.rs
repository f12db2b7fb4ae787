//! How providers speak: values to values, no I/O, never async.
//!
//! A dialect turns a checked request into what goes upstream and reads answers, events and errors just far enough to
//! meter, to fall back and to end a stream honestly. Where client and provider speak the same words, what is not read
//! passes on untouched: a provider may know words this gateway does not.
//!
//! Where they do not, a request becomes a [`Conversation`](crate::wire::Conversation) and is said in the provider's
//! words, and the answer's [`Part`](crate::wire::Part)s are said in the client's. Each of the four tongues has a room:
//! [`chat`] (OpenAI's chat completions), [`messages`] (Anthropic), [`gemini`] (Google), [`responses`] (OpenAI's newer
//! one); those a client may speak read requests and encode answers, those a provider may speak write requests and
//! decode answers.

#[cfg(test)]
mod across_tests;
mod asked;
pub mod chat;
#[cfg(test)]
mod corpus_tests;
pub mod dialect;
mod failure;
pub mod gemini;
pub mod messages;
pub mod openai;
mod reshape;
pub mod responses;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod totality_tests;
mod translation;

pub use asked::{Asked, ClientHeaders};
pub use dialect::{
    AnswerFacts, Call, Dialect, DialectError, EventFacts, ProviderError, StreamProgress, Unreadable,
    UpstreamRequest, dialect,
};
pub use reshape::{embeddings_to_base64, whole_to_stream};
pub use translation::{Decoded, Decoder, Encoder, Talk, Translation};
