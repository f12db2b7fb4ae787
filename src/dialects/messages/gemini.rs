//! Gemini's proofs of its thoughts in the words of Anthropic's clients.
//!
//! Gemini signs a tool call, or text; Anthropic signs thoughts, and its clients send thoughts back unchanged. So such a
//! signature goes to them as a `thinking` block without thoughts, directly before the call or behind the text that it
//! belongs to, and is known again by how it begins.

use std::fmt;

const OF_CALL: &str = "gemini:";
const OF_TEXT: &str = "gemini:text:";

/// A signature of Gemini's, base64 as it came. It displays as the signature of a `thinking` block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signature<'a> {
    /// Of the tool call behind it.
    OfCall(&'a str),
    /// Of the text before it.
    OfText(&'a str),
}

impl<'a> Signature<'a> {
    /// Reads the signature of a `thinking` block; one of Anthropic's own is none of these.
    pub(super) fn read(signature: &'a str) -> Option<Self> {
        match signature.strip_prefix(OF_TEXT) {
            Some(of_text) => Some(Self::OfText(of_text)),
            None => signature.strip_prefix(OF_CALL).map(Self::OfCall),
        }
    }
}

impl fmt::Display for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfCall(signature) => write!(f, "{OF_CALL}{signature}"),
            Self::OfText(signature) => write!(f, "{OF_TEXT}{signature}"),
        }
    }
}
