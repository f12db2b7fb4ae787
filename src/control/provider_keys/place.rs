//! Which provider a key is for, where it may be used, and which secret it may have.

use crate::{
    catalogue::{DialectKind, Provider, Providers},
    control::{
        Control, ControlError, KeySource, Patch, SecretInput,
        clouds::{CloudKind, Stored},
        references::store_reference,
    },
    domain::{Actor, ProviderSecret, ProviderSlug, TenantId, UpstreamUrl},
    store::Tx,
};

/// A provider as a key wants it, and where it is.
pub(in crate::control) struct Place {
    pub provider: Provider,
    pub url: UpstreamUrl,
    pub custom: bool,
}

/// A secret, and where it comes from if it was not typed in.
pub(super) struct Keyed {
    pub secret: ProviderSecret,
    pub reference: Option<String>,
}

impl Control {
    /// The provider that a slug, an address and a dialect mean together, if the gateway may speak to it there.
    pub(in crate::control) fn place(
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
                let needs = match CloudKind::of(&slug) {
                    Some(kind) => format!("`{slug}` needs its `{}`", kind.member()),
                    None => {
                        format!("`{slug}` is not in the catalogue; a provider of your own needs a `base_url`")
                    }
                };
                return Err(ControlError::invalid("unknown_provider", needs));
            }
        };
        let url = self.checked_url(&provider.base_url)?;
        Ok(Place { provider, url, custom })
    }

    /// The place of a cloud's key, which its configuration says.
    pub(super) fn cloud_place(&self, slug: ProviderSlug, cloud: &Stored) -> Result<Place, ControlError> {
        let provider = match (self.catalogue.providers.get(&slug), cloud.address()) {
            (Some(known), Some(address)) => {
                self.checked_url(&address)?;
                known.at(&address)
            }
            (Some(known), None) => known.as_ref().clone(),
            (None, Some(address)) => Providers::custom(slug, &address, DialectKind::OpenAi),
            (None, None) => {
                return Err(ControlError::invalid("invalid_base_url", "the configuration says no address"));
            }
        };
        let url = self.checked_url(&provider.base_url)?;
        Ok(Place { provider, url, custom: false })
    }

    /// The secret for a key at this place: what was typed in, or what its reference stands for.
    pub(super) async fn key_secret(
        &self,
        tx: &Tx,
        tenant: TenantId,
        given: Patch<KeySource>,
        place: &Place,
    ) -> Result<Keyed, ControlError> {
        let typed = match given {
            Patch::Set(KeySource::Store(name)) => {
                let secret = self.resolve_store(tx, tenant, &name).await?;
                if secret.is_empty() {
                    return Err(ControlError::invalid(
                        "secret_required",
                        format!("the config variable `{name}` is empty; give it a value first"),
                    ));
                }
                return Ok(Keyed { secret, reference: Some(store_reference(&name)) });
            }
            Patch::Set(KeySource::Secret(secret)) => Patch::Set(secret),
            Patch::Clear => Patch::Clear,
            Patch::Keep => Patch::Keep,
        };
        Ok(Keyed { secret: checked_secret(typed, place)?, reference: None })
    }

    /// Notes in the audit log that a key's reference could not be resolved, if that is what went wrong. The act in which it
    /// was tried must be gone.
    pub(super) async fn note_unresolved(
        &self,
        actor: &Actor,
        tenant: TenantId,
        referred: Option<String>,
        object: impl ToString,
        error: ControlError,
    ) -> ControlError {
        match referred {
            Some(name) if error.is_about_a_reference() => {
                self.unresolved(actor, tenant, &store_reference(&name), object, error).await
            }
            _ => error,
        }
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
    ProviderSlug::parse(text)
        .map_err(|error| ControlError::invalid("invalid_provider", format!("`provider`: {error}")))
}

/// Takes a secret that was typed in for a key at this place.
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

/// The config variable that a source names.
pub(super) fn store_name(source: &Patch<KeySource>) -> Option<String> {
    match source {
        Patch::Set(KeySource::Store(name)) => Some(name.clone()),
        _ => None,
    }
}
