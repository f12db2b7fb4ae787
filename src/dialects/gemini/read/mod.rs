//! What Gemini answers.

mod decode;
mod finish;
mod partial_args;
mod shape;

pub use decode::Decoder;

pub(super) use shape::{text, usage_of};
