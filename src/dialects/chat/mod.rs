//! OpenAI's chat completions, where it is translated: what a client asks becomes a [`Conversation`], a conversation is
//! written as a chat for providers of this dialect, and answers are read and said.
//!
//! Thoughts go to a client as `reasoning_content`, and, with their signatures, as `thinking_blocks` on the message: a
//! client that sends its message back as it came gives the provider what it needs to go on. Gemini's signatures of tool
//! calls go as `extra_content.google.thought_signature`, as Google's own chat endpoint has it.

mod decode;
mod encode;
mod field;
mod read_request;
#[cfg(test)]
mod tests;
mod write_request;

pub use decode::Decoder;
pub use encode::Encoder;
pub use read_request::read_request;
pub use write_request::write_request;
