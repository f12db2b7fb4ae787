//! A secret as somebody typed it: checked, wiped on drop, never shown.

use std::fmt;

use serde::{Deserialize, Deserializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};
use zeroize::Zeroizing;

use super::ControlError;
use crate::domain::ProviderSecret;

const MAX_BYTES: usize = 4 * 1024;
/// What other gateways resolve from the environment or a file. Here such a reference comes only from the operator's own
/// file, and stored as it is it would only ever be a key that does not work.
const REFERENCES: [&str; 6] = ["env:", "file:", "os.environ/", "${", "vault:", "secret://"];

/// A secret as somebody typed it.
#[derive(Clone)]
pub struct SecretInput(Zeroizing<String>);

impl SecretInput {
    /// Takes it over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Whether nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, to hash it as a password.
    pub(super) fn into_text(self) -> Zeroizing<String> {
        self.0
    }

    /// Checks that it can be a provider's key: it will stand in a header.
    pub(super) fn into_provider_secret(self) -> Result<ProviderSecret, ControlError> {
        let text = self.0.as_str();
        if text.len() > MAX_BYTES {
            return Err(ControlError::bad("`api_key` must not be longer than 4096 bytes"));
        }
        if is_mask(text) {
            return Err(ControlError::invalid(
                "masked_secret",
                "`api_key` is a masked preview and not a key; send the whole key, or leave it out to keep the stored one",
            ));
        }
        if text.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(ControlError::bad(
                "`api_key` must be visible ASCII without spaces and line breaks; copy it again",
            ));
        }
        if REFERENCES.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(ControlError::invalid(
                "reference_not_allowed",
                "`api_key` must be the key itself; references to the environment or to files are not resolved here",
            ));
        }
        Ok(ProviderSecret::new(Zeroizing::new(text.as_bytes().to_vec())))
    }
}

/// Whether somebody sent back what a screen showed instead of a key.
pub(super) fn is_mask(text: &str) -> bool {
    let filler = |c: char| matches!(c, '*' | '·');
    ["***", "…", "...", "•", "●", "█"].iter().any(|mask| text.contains(mask))
        || (!text.is_empty() && text.chars().all(filler))
}

impl fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretInput(…)")
    }
}

impl<'de> Deserialize<'de> for SecretInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl PartialSchema for SecretInput {
    fn schema() -> RefOr<Schema> {
        String::schema()
    }
}

impl ToSchema for SecretInput {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_unprintable_texts_are_no_keys() {
        for text in [
            "****",
            "sk-…abcd",
            "sk-...abcd",
            "••••••••",
            "**",
            "sk-***",
            "sk-a\nb",
            "sk-a\r\nx: y",
            "sk a",
            "ключ",
            "env:PATH",
            "${PATH}",
            "os.environ/PATH",
            "file:/etc/passwd",
        ] {
            assert!(SecretInput::new(text.to_owned()).into_provider_secret().is_err(), "{text:?}");
        }
        assert!(SecretInput::new("k".repeat(5000)).into_provider_secret().is_err());
        for text in ["", "x", "EMPTY", "sk-proj-Abc_123", "@/etc/passwd", "gsk_x.y-z", "token-abc123"] {
            assert!(SecretInput::new(text.to_owned()).into_provider_secret().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn it_does_not_print_itself() {
        assert_eq!(format!("{:?}", SecretInput::new("sk-canary".into())), "SecretInput(…)");
    }
}
