//! How providers speak: values to values, no I/O, never async.
//!
//! A dialect turns a checked request into what goes upstream and reads answers, events and errors just far enough to
//! meter, to fall back and to end a stream honestly. What it cannot read passes on untouched: a provider may know words
//! this gateway does not.

pub mod dialect;
mod failure;
pub mod openai;
mod payload;
mod reshape;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod openai_tests;

pub use dialect::{
    AnswerFacts, Call, Dialect, DialectError, EventFacts, ProviderError, StreamProgress, Unreadable,
    UpstreamRequest, dialect,
};
pub use reshape::{embeddings_to_base64, whole_to_stream};
