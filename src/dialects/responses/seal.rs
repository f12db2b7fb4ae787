//! What a later turn needs of an answer and no item of this API has a place for: thoughts with the signature of whoever
//! thought them, and Gemini's signatures of calls and texts. A client sends it back as the `encrypted_content` of a
//! reasoning item, which it has no cause to look into.
//!
//! It is encoded and not encrypted: there is nothing in it that the client may not know, and nothing that it could not
//! have written itself.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::wire::conversation::Thinking;

/// How what this gateway seals begins; another form would have another number.
const PREFIX: &str = "ks1.";

/// One thing that is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kept {
    /// Thoughts, and their signature.
    Thinking {
        /// What was thought.
        text: String,
        /// The proof of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// Thoughts that only their provider can read.
    Redacted {
        /// Opaque.
        data: String,
    },
    /// The signature of a tool call.
    Call {
        /// The call's `call_id`.
        id: String,
        /// The proof of it.
        signature: String,
    },
    /// The signature of the text before it.
    Text {
        /// The proof of it.
        signature: String,
    },
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept { .. }")
    }
}

impl From<Thinking> for Kept {
    fn from(thinking: Thinking) -> Self {
        match thinking {
            Thinking::Open { text, signature } => Self::Thinking { text, signature },
            Thinking::Sealed { data } => Self::Redacted { data },
        }
    }
}

/// Seals it. Nothing sealed is sealed too: it tells this gateway's reasoning items from those of others.
pub(super) fn seal(kept: &[Kept]) -> String {
    let json = serde_json::to_vec(kept).expect("strings always serialise");
    let mut sealed = PREFIX.to_owned();
    URL_SAFE_NO_PAD.encode_string(json, &mut sealed);
    sealed
}

/// Opens it. `None` when it is not of this gateway, or broken.
pub(super) fn open(sealed: &str) -> Option<Vec<Kept>> {
    let json = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(PREFIX)?).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Whether the JSON text of an `encrypted_content` is of this gateway.
pub(super) fn is_ours(raw: &str) -> bool {
    raw.strip_prefix('"').is_some_and(|text| text.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept() -> impl Strategy<Value = Kept> {
        prop_oneof![
            ("\\PC{0,20}", proptest::option::of("\\PC{0,20}"))
                .prop_map(|(text, signature)| Kept::Thinking { text, signature }),
            "\\PC{0,20}".prop_map(|data| Kept::Redacted { data }),
            ("[a-z_0-9]{1,12}", "\\PC{0,20}").prop_map(|(id, signature)| Kept::Call { id, signature }),
            "\\PC{0,20}".prop_map(|signature| Kept::Text { signature }),
        ]
    }

    #[test]
    fn what_others_sealed_stays_shut() {
        for foreign in ["", "gAAAAABqPBGp", "ks1.", "ks1.!!", "ks1.e30", "ks2.W10", "ks1.W10="] {
            assert!(open(foreign).is_none(), "{foreign}");
        }
        assert_eq!(seal(&[]), "ks1.W10");
        assert!(is_ours("\"ks1.W10\"") && !is_ours("\"gAAA\"") && !is_ours("null"));
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(list in proptest::collection::vec(kept(), 0..4)) {
            let sealed = seal(&list);
            prop_assert!(open(&sealed).is_some_and(|opened| opened == list));
            prop_assert!(is_ours(&serde_json::Value::from(sealed.as_str()).to_string()));
        }

        #[test]
        fn any_text_is_answered(text in "(ks1\\.)?[A-Za-z0-9_=\\PC-]{0,40}") {
            let _ = open(&text);
        }
    }
}
