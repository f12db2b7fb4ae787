//! The top-level names that route, price or authenticate a request, in one table, and what is taken for a name.
//!
//! Decoders differ in what a name is: Go's `encoding/json` takes `Model` for `model` and lets the last one win, so a
//! body could name one model to the gateway and another to its provider. Such names are therefore known here, and
//! [`misspelt`] finds what only some decoders would take for one of them. [`read_request`](super::read_request)
//! matches on [`Known`], not on text: it cannot read a name that is not in the table.

/// Members that would choose a credential or a destination; those are the gateway's to choose.
pub(super) const FORBIDDEN: [&str; 11] = [
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "organization",
    "project",
    "extra_headers",
    "extra_query",
    "extra_body",
    "proxy",
    "custom_llm_provider",
];

/// Declares [`Known`] and both ways between it and its name.
macro_rules! known {
    ($($member:ident = $name:literal),+ $(,)?) => {
        /// A member that policy reads or a dialect sets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Known {
            $($member),+
        }

        impl Known {
            /// Every one of them.
            const ALL: &[Self] = &[$(Self::$member),+];

            /// The member of exactly this name.
            pub(super) fn of(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$member),)+
                    _ => None,
                }
            }

            /// Its name; lower-case ASCII.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$member => $name),+
                }
            }
        }
    };
}

known! {
    Model = "model",
    Models = "models",
    Stream = "stream",
    StreamOptions = "stream_options",
    MaxTokens = "max_tokens",
    MaxCompletionTokens = "max_completion_tokens",
    N = "n",
    BestOf = "best_of",
    ServiceTier = "service_tier",
    Messages = "messages",
    Prompt = "prompt",
    Input = "input",
    EncodingFormat = "encoding_format",
    Modalities = "modalities",
    Audio = "audio",
    Tools = "tools",
    Functions = "functions",
    ResponseFormat = "response_format",
    Suffix = "suffix",
    WebSearchOptions = "web_search_options",
    SearchParameters = "search_parameters",
    McpServers = "mcp_servers",
    Plugins = "plugins",
    EnableSearch = "enable_search",
    // Of Anthropic's Messages.
    System = "system",
    CacheControl = "cache_control",
    OutputConfig = "output_config",
    OutputFormat = "output_format",
    Speed = "speed",
    InferenceGeo = "inference_geo",
    Container = "container",
    Fallbacks = "fallbacks",
    ContextManagement = "context_management",
    Compaction = "compaction",
    Thread = "thread",
    // Of OpenAI's Responses.
    MaxOutputTokens = "max_output_tokens",
    Instructions = "instructions",
    Text = "text",
    Reasoning = "reasoning",
    PreviousResponseId = "previous_response_id",
    Conversation = "conversation",
    Background = "background",
    Moderation = "moderation",
    PromptCacheOptions = "prompt_cache_options",
}

/// The name in the tables that `name` is not, but that a decoder which ignores case takes it for.
pub(super) fn misspelt(name: &str) -> Option<&'static str> {
    let known = Known::ALL.iter().map(|member| member.name());
    folds_to_one(name, known.chain(FORBIDDEN))
}

/// The same for names further in: the one of `known`, lower-case ASCII all of them, that `name` is not, but that a
/// decoder which ignores case takes it for.
pub(super) fn folds_to(name: &str, known: &[&'static str]) -> Option<&'static str> {
    folds_to_one(name, known.iter().copied())
}

fn folds_to_one(name: &str, mut known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // All names in the tables are lower-case ASCII: whatever else is, is one of them or none.
    if name.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        return None;
    }
    known.find(|plain| is_folded(name, plain))
}

/// Whether a decoder that ignores case takes `name` for `plain`.
pub(super) fn is_folded(name: &str, plain: &str) -> bool {
    name.chars().map(fold).eq(plain.chars())
}

/// Simple case folding, as far as it leads to ASCII: two letters beyond ASCII do.
const fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Envelope, EnvelopeError};

    fn parse(body: String) -> Option<EnvelopeError> {
        Envelope::parse(Bytes::from(body), 64).err()
    }

    #[test]
    fn the_tables_hold_plain_names_once() {
        let names: Vec<&str> = Known::ALL.iter().map(|member| member.name()).chain(FORBIDDEN).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(!names[..at].contains(name), "{name}");
        }
        assert!(Known::ALL.iter().all(|member| Known::of(member.name()) == Some(*member)));
    }

    #[test]
    fn every_known_name_in_other_letters_is_refused() {
        for member in Known::ALL {
            let plain = member.name();
            let mut first_upper = plain.to_owned();
            first_upper[..1].make_ascii_uppercase();
            for name in [plain.to_ascii_uppercase(), first_upper] {
                let error = EnvelopeError::Misspelt { name: name.clone(), plain };
                assert_eq!(parse(format!("{{\"{name}\":1}}")), Some(error));
            }
            assert_eq!(parse(format!("{{\"{plain}\":1}}")), None);
        }
        for name in FORBIDDEN {
            let error = Some(EnvelopeError::Forbidden { name });
            assert_eq!(parse(format!("{{\"{}\":1}}", name.to_ascii_uppercase())), error);
        }
    }

    #[test]
    fn a_second_name_that_some_take_for_the_first_is_refused() {
        for second in ["Model", "MODEL", "modeL"] {
            let error = EnvelopeError::Misspelt { name: second.into(), plain: "model" };
            for body in [
                format!("{{\"model\":\"cheap\",\"{second}\":\"dear\"}}"),
                format!("{{\"{second}\":\"dear\",\"model\":\"cheap\"}}"),
            ] {
                assert_eq!(parse(body), Some(error.clone()));
            }
        }
        assert_eq!(
            EnvelopeError::Misspelt { name: "Model".into(), plain: "model" }.to_string(),
            "`Model` is read as `model` by some providers; write it `model`"
        );
    }

    #[test]
    fn letters_beyond_ascii_that_fold_into_it_are_seen() {
        for (name, plain) in [
            ("max_to\u{212a}ens", "max_tokens"),
            ("\u{17f}tream", "stream"),
            ("me\u{17f}\u{17f}ages", "messages"),
            ("MAX_TO\u{212a}EN\u{17f}", "max_tokens"),
        ] {
            assert_eq!(misspelt(name), Some(plain), "{name}");
            let error = EnvelopeError::Misspelt { name: "…".into(), plain };
            assert_eq!(parse(format!("{{\"{name}\":1}}")), Some(error));
        }
        assert_eq!(
            parse("{\"api_\u{212a}ey\":1}".into()),
            Some(EnvelopeError::Forbidden { name: "api_key" })
        );
    }

    #[test]
    fn other_names_keep_their_letters() {
        for name in ["Metadata", "modél", "model ", "Mode", "Modelss", "K", "logitBias", "\u{fb06}ream", ""]
        {
            assert_eq!(parse(format!("{{\"{name}\":1,\"model\":2}}")), None, "{name}");
        }
        let inside = Envelope::split(Bytes::from_static(b"{\"Model\":1,\"model\":2}"), 8);
        assert!(inside.is_ok(), "an object inside a request has its own names");
    }

    proptest! {
        #[test]
        fn any_mix_of_letters_is_seen(at in 0..Known::ALL.len(), letters in any::<u32>()) {
            let plain = Known::ALL[at].name();
            let mixed: String = plain
                .chars()
                .enumerate()
                .map(|(at, c)| if letters >> (at % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .collect();
            prop_assert_eq!(misspelt(&mixed), (mixed != plain).then_some(plain));
        }

        #[test]
        fn what_is_left_is_read_alike_with_and_without_case(names in proptest::collection::vec("[mM][oO][dD][eE][lL]|[nNsSkK\u{17f}\u{212a}]", 0..4)) {
            let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":1")).collect();
            if parse(format!("{{{}}}", members.join(","))).is_none() {
                for name in names {
                    let folded: String = name.chars().map(fold).collect();
                    prop_assert!(name == folded || Known::of(&folded).is_none());
                }
            }
        }
    }
}
