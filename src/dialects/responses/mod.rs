//! OpenAI's Responses: what a client asks of `/v1/responses`, passed to providers that speak it and translated for all
//! others.
//!
//! The gateway keeps nothing of an answer. To providers that speak this API everything that refers to what they keep
//! passes; in translation it is refused, and what a later turn needs travels with the client instead: as the
//! `encrypted_content` of reasoning items, [sealed](seal) by this gateway.

#[cfg(test)]
mod corpus_tests;
mod encode;
mod fields;
mod pass;
#[cfg(test)]
mod pass_tests;
mod payload;
mod read;
mod read_request;
mod seal;

pub use encode::Encoder;
#[cfg(test)]
pub(super) use encode::follow;
pub use pass::pass;
pub use read::{read_answer, read_event};
pub use read_request::read_request;
