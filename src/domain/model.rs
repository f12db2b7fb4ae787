//! Model names. A real model is `provider/model`; what stands without a provider is a name yet to be resolved.
//! Matching is exact: no case folding, no trimming, no Unicode normalisation.

use std::{fmt, sync::Arc};

/// Longest model name that is accepted, in bytes.
pub const MAX_MODEL_BYTES: usize = 256;
const MAX_SLUG_BYTES: usize = 64;
/// Words that are actions of the admin API and could not be told from a provider.
const RESERVED_SLUGS: [&str; 3] = ["revoke", "rotate", "provision"];

/// A name that cannot be a model, provider or pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {wanted}")]
pub struct InvalidModel {
    given: String,
    wanted: &'static str,
}

impl InvalidModel {
    fn new(given: &str, wanted: &'static str) -> Self {
        Self { given: given.chars().take(MAX_MODEL_BYTES).filter(|c| !c.is_control()).collect(), wanted }
    }
}

macro_rules! shared_text {
    ($name:ident) => {
        impl $name {
            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A provider's short name: `openai`, `my-vllm`. Lower-case letters, digits, `-`, `_`, `.`; begins with a letter or digit;
/// none of the words that the admin API has for itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProviderSlug(Arc<str>);

shared_text!(ProviderSlug);

impl ProviderSlug {
    /// Checks and takes a slug.
    pub fn parse(text: &str) -> Result<Self, InvalidModel> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = text.len() <= MAX_SLUG_BYTES
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_' | b'.'));
        if RESERVED_SLUGS.contains(&text) {
            Err(InvalidModel::new(
                text,
                "a provider slug: `revoke`, `rotate` and `provision` are words of the admin API; choose another name",
            ))
        } else if good {
            Ok(Self(text.into()))
        } else {
            Err(InvalidModel::new(
                text,
                "a provider slug: 1 to 64 lower-case letters, digits, `-`, `_` or `.`, beginning with a letter or digit",
            ))
        }
    }
}

/// A name in a request, an alias or a provider's list: 1 to 256 bytes of visible ASCII, without a wildcard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModelName(Arc<str>);

shared_text!(ModelName);

impl ModelName {
    /// Checks and takes a name.
    pub fn parse(text: &str) -> Result<Self, InvalidModel> {
        let good = !text.is_empty()
            && text.len() <= MAX_MODEL_BYTES
            && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'"' | b'\\' | b'<' | b'>'));
        if good {
            Ok(Self(text.into()))
        } else {
            Err(InvalidModel::new(
                text,
                "a model name: 1 to 256 visible ASCII characters without `*`, `\"`, `\\`, `<`, `>`",
            ))
        }
    }

    /// As a real model, if it names a provider: up to the first `/` the provider, the rest the upstream's own name.
    pub fn as_model(&self) -> Option<ModelRef> {
        let (provider, model) = self.0.split_once('/')?;
        Some(ModelRef { provider: ProviderSlug::parse(provider).ok()?, model: Self::parse(model).ok()? })
    }
}

/// A real model: what is checked against the allow-list, priced, and called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModelRef {
    /// Whose it is.
    pub provider: ProviderSlug,
    /// The upstream's own name for it.
    pub model: ModelName,
}

impl ModelRef {
    /// Reads `provider/model`.
    pub fn parse(text: &str) -> Result<Self, InvalidModel> {
        ModelName::parse(text)?
            .as_model()
            .ok_or_else(|| InvalidModel::new(text, "a model of the form `provider/model`"))
    }
}

impl serde::Serialize for ModelRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ModelRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.provider.as_str())?;
        f.write_str("/")?;
        f.write_str(self.model.as_str())
    }
}

/// An entry of an allow-list: `provider/model`, `provider/*`, or `*`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ModelPattern {
    /// Every model.
    Any,
    /// Every model of one provider.
    Provider(ProviderSlug),
    /// One model.
    Model(ModelRef),
}

impl ModelPattern {
    /// Reads an entry; wildcards anywhere else are refused.
    pub fn parse(text: &str) -> Result<Self, InvalidModel> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wanted = "an allow-list entry: `provider/model`, `provider/*` or `*`";
        if let Some(provider) = text.strip_suffix("/*") {
            return ProviderSlug::parse(provider)
                .map(Self::Provider)
                .map_err(|_| InvalidModel::new(text, wanted));
        }
        ModelRef::parse(text).map(Self::Model).map_err(|_| InvalidModel::new(text, wanted))
    }

    /// Whether it allows `model`.
    pub fn allows(&self, model: &ModelRef) -> bool {
        match self {
            Self::Any => true,
            Self::Provider(provider) => *provider == model.provider,
            Self::Model(allowed) => allowed == model,
        }
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Provider(provider) => write!(f, "{provider}/*"),
            Self::Model(model) => model.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_split_at_the_first_slash_only() {
        let model = ModelRef::parse("my-vllm/org/llama").expect("a model");
        assert_eq!((model.provider.as_str(), model.model.as_str()), ("my-vllm", "org/llama"));
    }

    #[test]
    fn near_misses_of_a_pattern_are_not_allowed() {
        let pattern = ModelPattern::parse("openai/*").expect("a pattern");
        for (name, allowed) in
            [("openai/x", true), ("openaiz/x", false), ("xopenai/y", false), ("anthropic/openai", false)]
        {
            assert_eq!(pattern.allows(&ModelRef::parse(name).expect("a model")), allowed, "{name}");
        }
        for hostile in [
            "openai",
            "openai/",
            "/x",
            "openai/gpt-*",
            "**",
            "",
            "OpenAI/x",
            "openai /x",
            "openai/x y",
            "открытый/x",
        ] {
            assert!(ModelPattern::parse(hostile).is_err(), "{hostile}");
        }
    }

    #[test]
    fn names_that_could_break_a_header_or_a_log_line_are_refused() {
        for hostile in ["a\r\nb", "a\0", "a\u{200b}", "ａ", "a b", "<img>", "*", &"x".repeat(257)] {
            assert!(ModelName::parse(hostile).is_err(), "{hostile:?}");
        }
    }
}
