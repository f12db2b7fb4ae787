//! Which provider a key is for, where it may be used, and which secret it may have.

use super::{Control, ControlError, Patch, SecretInput};
use crate::{
    catalogue::{DialectKind, Provider, Providers},
    domain::{ProviderSecret, ProviderSlug, UpstreamUrl},
};

/// Words that are actions of this API and could not be told from a provider.
const RESERVED: [&str; 3] = ["revoke", "rotate", "provision"];

/// A provider as a key wants it, and where it is.
pub(super) struct Place {
    pub provider: Provider,
    pub url: UpstreamUrl,
    pub custom: bool,
}

impl Control {
    /// The provider that a slug, an address and a dialect mean together, if the gateway may speak to it there.
    pub(super) fn place(
        &self,
        slug: ProviderSlug,
        base_url: Option<&str>,
        dialect: Option<&str>,
    ) -> Result<Place, ControlError> {
        let dialect = match dialect {
            Some(text) => Some(DialectKind::parse(text).ok_or_else(|| {
                ControlError::invalid(
                    "unknown_dialect",
                    "`dialect` is not one that this gateway speaks; write `openai`, `anthropic` or `gemini`",
                )
            })?),
            None => None,
        };
        // Judged as it was written, before anything is appended to it.
        if let Some(given) = base_url {
            self.checked_url(given)?;
        }
        let known = self.catalogue.providers.get(&slug);
        let (provider, custom) = match (known, base_url) {
            (Some(known), _) if dialect.is_some_and(|dialect| dialect != known.dialect) => {
                return Err(ControlError::invalid(
                    "unknown_dialect",
                    format!("`{slug}` speaks `{}`; leave `dialect` out", known.dialect.as_str()),
                ));
            }
            (Some(known), Some(given)) => (known.at(given), false),
            (Some(known), None) => (known.as_ref().clone(), false),
            (None, Some(given)) => {
                (Providers::custom(slug, given, dialect.unwrap_or(DialectKind::OpenAi)), true)
            }
            (None, None) => {
                return Err(ControlError::invalid(
                    "unknown_provider",
                    format!("`{slug}` is not in the catalogue; a provider of your own needs a `base_url`"),
                ));
            }
        };
        let url = self.checked_url(&provider.base_url)?;
        Ok(Place { provider, url, custom })
    }

    fn checked_url(&self, text: &str) -> Result<UpstreamUrl, ControlError> {
        self.settings
            .egress
            .check_url(text)
            .map_err(|error| ControlError::invalid("invalid_base_url", error.to_string()))
    }
}

/// Reads a provider's slug.
pub(super) fn checked_slug(text: &str) -> Result<ProviderSlug, ControlError> {
    let slug = ProviderSlug::parse(text)
        .map_err(|error| ControlError::invalid("invalid_provider", format!("`provider`: {error}")))?;
    if RESERVED.contains(&slug.as_str()) {
        return Err(ControlError::invalid(
            "invalid_provider",
            format!("`{slug}` is a word of this API; choose another name for the provider"),
        ));
    }
    Ok(slug)
}

/// Takes the secret for a key at this place.
pub(super) fn checked_secret(
    given: Patch<SecretInput>,
    place: &Place,
) -> Result<ProviderSecret, ControlError> {
    let optional = place.custom || place.provider.key_optional;
    let secret = match given {
        Patch::Set(secret) => secret,
        Patch::Clear => {
            return Err(ControlError::invalid(
                "secret_required",
                "`api_key` cannot be null; leave it out to keep the stored one, or send a new one",
            ));
        }
        Patch::Keep if optional => SecretInput::new(String::new()),
        Patch::Keep => {
            return Err(ControlError::invalid("secret_required", "`api_key` is missing"));
        }
    };
    if secret.is_empty() && !optional {
        return Err(ControlError::invalid(
            "secret_required",
            format!("`api_key` is empty, and `{}` wants one", place.provider.slug),
        ));
    }
    secret.into_provider_secret()
}
