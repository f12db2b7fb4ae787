//! The providers the house knows, from `config/providers.toml`, compiled in and checked by a test; and the custom ones
//! a tenant brings with a base URL.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;

use super::{
    DialectKind, OutputLimitField, Quirks,
    rates::{DEFAULT_MAX_IMAGE_TOKENS, DEFAULT_OVERHEAD_TOKENS},
};
use crate::domain::ProviderSlug;

/// Where most providers list their models to whoever has a key.
const CHECK_PATH: &str = "/models";

const BUNDLED: &str = include_str!("../../config/providers.toml");

/// Why a provider file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// It is not TOML of the right shape.
    #[error("the provider catalogue cannot be read")]
    Unreadable(#[from] toml::de::Error),
    /// A slug stands in it twice.
    #[error("provider `{0}` stands in the provider catalogue twice; keep one")]
    Twice(ProviderSlug),
    /// A base URL cannot be called.
    #[error(
        "provider `{slug}` has base_url `{base_url}`; write http:// or https:// and a host, without a trailing `/`"
    )]
    BaseUrl {
        /// Whose.
        slug: ProviderSlug,
        /// What is written there.
        base_url: String,
    },
    /// The name of the header for the key is empty or not a header name.
    #[error("provider `{slug}` has auth header `{header}`; write a lower-case header name")]
    Header {
        /// Whose.
        slug: ProviderSlug,
        /// What is written there.
        header: String,
    },
}

/// How a key is presented.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthStyle {
    /// `Authorization: Bearer <key>`.
    #[default]
    Bearer,
    /// The bare key in the header of this name.
    Header(String),
}

/// A provider: where it is, how it is greeted, how it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its short name.
    pub slug: ProviderSlug,
    /// Its name for people.
    pub name: String,
    /// No trailing slash; with `/v1` where the provider has it.
    pub base_url: String,
    /// The language it speaks.
    pub dialect: DialectKind,
    /// How a key is presented.
    pub auth: AuthStyle,
    /// Whether it may be used without a key.
    pub key_optional: bool,
    /// Path of a call that costs nothing and needs the key, for trying one; `None` when the provider has none.
    pub check_path: Option<String>,
    /// What its keys begin with: a hint for people, never a check.
    pub key_prefix: Option<String>,
    /// In what it differs from its dialect's book.
    pub quirks: Quirks,
    /// Bounds on input that no byte count gives.
    pub bounds: InputBounds,
}

/// Bounds on input tokens that the bytes of a request do not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputBounds {
    /// Hidden input tokens added when tools are present.
    pub overhead_tokens: u64,
    /// The most input tokens one image can become.
    pub max_image_tokens: u64,
    /// The most input tokens one file can become; `None`: it may fill the context window.
    pub max_file_tokens: Option<u64>,
}

impl Default for InputBounds {
    fn default() -> Self {
        Self {
            overhead_tokens: DEFAULT_OVERHEAD_TOKENS,
            max_image_tokens: DEFAULT_MAX_IMAGE_TOKENS,
            max_file_tokens: None,
        }
    }
}

impl Provider {
    /// The same provider at another address: a regional endpoint or a proxy. The address may come with or without the
    /// path version (`/v1`), whether the provider's own has one or not, and with or without a trailing slash.
    #[must_use]
    pub fn at(&self, base_url: &str) -> Self {
        let given = base_url.trim_end_matches('/');
        // Google's has another version than most.
        let own =
            ["/v1", "/v1beta"].into_iter().find(|version| self.base_url.ends_with(version)).unwrap_or("");
        let given = given.strip_suffix(own).unwrap_or(given);
        let bare = given.strip_suffix("/v1").unwrap_or(given).trim_end_matches('/');
        Self { base_url: format!("{bare}{own}"), ..self.clone() }
    }
}

/// All known providers, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    ordered: Vec<Arc<Provider>>,
    by_slug: HashMap<ProviderSlug, Arc<Provider>>,
}

impl Providers {
    /// The providers compiled in.
    pub fn bundled() -> Self {
        Self::parse(BUNDLED).expect("a test reads the same compiled-in file")
    }

    /// Reads and checks a provider file.
    pub fn parse(text: &str) -> Result<Self, ProvidersError> {
        let file: File = toml::from_str(text)?;
        let mut providers = Self::default();
        for row in file.provider {
            let provider = Arc::new(row.check()?);
            if providers.by_slug.insert(provider.slug.clone(), Arc::clone(&provider)).is_some() {
                return Err(ProvidersError::Twice(provider.slug.clone()));
            }
            providers.ordered.push(provider);
        }
        Ok(providers)
    }

    /// The provider of this name.
    pub fn get(&self, slug: &ProviderSlug) -> Option<&Arc<Provider>> {
        self.by_slug.get(slug)
    }

    /// Every provider, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.ordered.iter()
    }

    /// A provider of the tenant's own: the address is used as given, a key is optional, and nothing is assumed about
    /// it beyond its dialect. A limit on output is called `max_tokens`, which every server of this kind understands.
    pub fn custom(slug: ProviderSlug, base_url: &str, dialect: DialectKind) -> Provider {
        Provider {
            name: slug.to_string(),
            slug,
            base_url: base_url.trim_end_matches('/').to_owned(),
            dialect,
            auth: match dialect {
                DialectKind::OpenAi => AuthStyle::Bearer,
                DialectKind::Anthropic => AuthStyle::Header("x-api-key".into()),
                DialectKind::Gemini => AuthStyle::Header("x-goog-api-key".into()),
            },
            key_optional: true,
            check_path: Some(CHECK_PATH.to_owned()),
            key_prefix: None,
            quirks: Quirks { output_limit: OutputLimitField::Either, ..Quirks::default() },
            bounds: InputBounds::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    slug: ProviderSlug,
    name: String,
    base_url: String,
    #[serde(default)]
    dialect: DialectKind,
    #[serde(default)]
    auth: AuthStyle,
    key_prefix: Option<String>,
    check_path: Option<String>,
    #[serde(default)]
    key_optional: bool,
    overhead_tokens: Option<u64>,
    max_image_tokens: Option<u64>,
    max_file_tokens: Option<u64>,
    #[serde(default)]
    quirks: Quirks,
}

impl Row {
    fn check(self) -> Result<Provider, ProvidersError> {
        let callable = url::Url::parse(&self.base_url).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if !callable || self.base_url.ends_with('/') {
            return Err(ProvidersError::BaseUrl { slug: self.slug, base_url: self.base_url });
        }
        if let AuthStyle::Header(header) = &self.auth
            && (header.is_empty() || !header.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        {
            return Err(ProvidersError::Header { slug: self.slug, header: header.clone() });
        }
        let usual = InputBounds::default();
        Ok(Provider {
            slug: self.slug,
            name: self.name,
            base_url: self.base_url,
            dialect: self.dialect,
            auth: self.auth,
            key_optional: self.key_optional,
            check_path: match self.check_path {
                None => Some(CHECK_PATH.to_owned()),
                Some(none) if none.is_empty() => None,
                Some(path) => Some(path),
            },
            key_prefix: self.key_prefix,
            quirks: self.quirks,
            bounds: InputBounds {
                overhead_tokens: self.overhead_tokens.unwrap_or(usual.overhead_tokens),
                max_image_tokens: self.max_image_tokens.unwrap_or(usual.max_image_tokens),
                max_file_tokens: self.max_file_tokens,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::StreamUsage, *};

    fn slug(text: &str) -> ProviderSlug {
        ProviderSlug::parse(text).expect("a slug")
    }

    #[test]
    fn the_compiled_in_file_is_sound_and_keeps_its_order() {
        let providers = Providers::parse(BUNDLED).expect("the compiled-in file");
        let slugs: Vec<_> = providers.iter().map(|provider| provider.slug.as_str()).collect();
        assert_eq!(
            slugs,
            [
                "openai",
                "anthropic",
                "gemini",
                "groq",
                "mistral",
                "together",
                "fireworks",
                "xai",
                "deepseek",
                "openrouter",
                "cerebras",
                "perplexity",
                "huggingface",
                "ollama",
                "vllm"
            ]
        );
    }

    #[test]
    fn known_oddities_are_in_the_data() {
        let providers = Providers::bundled();
        let quirks = |name: &str| providers.get(&slug(name)).expect("known").quirks;
        assert_eq!(quirks("openai").output_limit, OutputLimitField::MaxCompletionTokens);
        assert_eq!(quirks("mistral").output_limit, OutputLimitField::MaxTokens);
        assert!(quirks("mistral").refuses_stream_options);
        assert_eq!(quirks("groq").stream_usage, StreamUsage::Always);
        assert!(quirks("xai").reasoning_apart);
        assert!(quirks("perplexity").done_missing);
        assert!(providers.get(&slug("ollama")).expect("known").key_optional);
        assert!(!providers.get(&slug("openai")).expect("known").key_optional);
    }

    #[test]
    fn the_page_about_providers_names_each_with_its_address() {
        let page = include_str!("../../docs/providers.md");
        for provider in Providers::bundled().iter() {
            let row = format!("| `{}` | {} | `{}` |", provider.slug, provider.name, provider.base_url);
            assert!(page.contains(&row), "docs/providers.md lacks {row}");
        }
    }

    #[test]
    fn another_address_of_a_known_provider_may_leave_the_version_out() {
        let providers = Providers::bundled();
        let openai = providers.get(&slug("openai")).expect("known");
        for given in
            ["https://eu.example", "https://eu.example/", "https://eu.example/v1", "https://eu.example/v1/"]
        {
            assert_eq!(openai.at(given).base_url, "https://eu.example/v1", "{given}");
        }
        let perplexity = providers.get(&slug("perplexity")).expect("known");
        for given in ["https://eu.example/", "https://eu.example/v1", "https://eu.example/v1/"] {
            assert_eq!(perplexity.at(given).base_url, "https://eu.example", "{given}");
        }
        assert_eq!(perplexity.at("https://eu.example/pplx/v1").base_url, "https://eu.example/pplx");
    }

    #[test]
    fn a_custom_provider_is_used_as_given() {
        let custom = Providers::custom(slug("my-vllm"), "http://10.0.0.1:8000/api/", DialectKind::OpenAi);
        assert_eq!(custom.base_url, "http://10.0.0.1:8000/api");
        assert!(custom.key_optional);
    }

    #[test]
    fn a_header_style_is_read() {
        let text =
            "[[provider]]\nslug = 'a'\nname = 'A'\nbase_url = 'https://a'\nauth = { header = 'api-key' }";
        let providers = Providers::parse(text).expect("a provider");
        assert_eq!(providers.get(&slug("a")).expect("known").auth, AuthStyle::Header("api-key".into()));
    }

    #[test]
    fn mistakes_are_refused_by_name() {
        let row = |more: &str| format!("[[provider]]\nslug = 'a'\nname = 'A'\n{more}\n");
        for (text, says) in [
            (row("base_url = 'https://a/'"), "`https://a/`"),
            (row("base_url = 'ftp://a'"), "`ftp://a`"),
            (row("base_url = 'https://u:p@a'"), "without a trailing"),
            (row("base_url = 'https://a'\nauth = { header = 'X Y' }"), "`X Y`"),
            (row("base_url = 'https://a'").repeat(2), "`a` stands in the provider catalogue twice"),
        ] {
            let refused = Providers::parse(&text).expect_err("a mistake");
            assert!(refused.to_string().contains(says), "{refused}");
        }
        let unknown =
            Providers::parse(&row("base_url = 'https://a'\ncolour = 'red'")).expect_err("a mistake");
        assert!(format!("{:?}", std::error::Error::source(&unknown)).contains("colour"));
        let quirk =
            Providers::parse(&row("base_url = 'https://a'\nquirks = { odd = true }")).expect_err("a mistake");
        assert!(format!("{:?}", std::error::Error::source(&quirk)).contains("odd"));
    }
}
