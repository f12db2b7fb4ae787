//! Trying a secret that waits beside a provider key's present one: one call that costs nothing, to the key's own address,
//! by the same client and under the same policy as every other.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request};

use super::{
    attempt::{CheckedUrl, IDENTITY, JSON, OURSELVES, Upstream, at, credential},
    classify::Failure,
};
use crate::{
    catalogue::{DialectKind, Provider},
    domain::CheckGrant,
    vault::SealedRow,
};

/// How long the provider may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Anthropic answers nobody who names no version.
const ANTHROPIC_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

/// A staged secret and where it is to be tried.
#[derive(Clone, Copy)]
pub struct Staged<'a> {
    /// How the provider is spoken to.
    pub provider: &'a Provider,
    /// Base URL without a trailing slash.
    pub base_url: &'a str,
    /// The key's row with the staged secret in it.
    pub sealed: SealedRow<'a>,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The provider answered with this HTTP status.
    Answered(u16),
    /// It was not asked, or did not answer; why.
    NotAsked(&'static str),
    /// It was not asked, as the staged secret does not open as what its row says it is; the reason, in one word. An
    /// incident.
    Unsealable(&'static str),
}

impl Upstream {
    /// Tries a staged secret.
    pub async fn check(&self, grant: CheckGrant, staged: Staged<'_>) -> Checked {
        let request = match self.check_request(&grant, staged) {
            Ok(request) => request,
            Err(untried) => return untried,
        };
        match tokio::time::timeout(PATIENCE, self.client.execute(request)).await {
            // The body is of no interest, and goes with its connection.
            Ok(Ok(response)) => Checked::Answered(response.status().as_u16()),
            Ok(Err(error)) if error.is_connect() => {
                Checked::NotAsked("the provider could not be reached; see its `base_url`")
            }
            Ok(Err(_)) => Checked::NotAsked("the provider broke off; try again"),
            Err(_) => Checked::NotAsked("the provider did not answer in time; try again"),
        }
    }

    fn check_request(&self, grant: &CheckGrant, staged: Staged<'_>) -> Result<Request, Checked> {
        let Staged { provider, base_url, sealed } = staged;
        let path = provider.check_path.as_deref().ok_or(Checked::NotAsked(
            "the provider has no free call that needs a key; promote without it if you are sure",
        ))?;
        let checked = CheckedUrl::default();
        let base = checked.get(base_url, sealed.origin, &self.policy).map_err(|failure| match failure {
            Failure::Unsealable(reason) => Checked::Unsealable(reason),
            _ => Checked::NotAsked("the key's `base_url` may not be called; see `egress.allow`"),
        })?;
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(ACCEPT, JSON);
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        headers.insert(USER_AGENT, OURSELVES);
        if provider.dialect == DialectKind::Anthropic {
            let (name, version) = ANTHROPIC_VERSION;
            headers.insert(name, version);
        }
        let secret = self.vault.open_staged(grant, &sealed).map_err(|error| {
            tracing::error!(provider_key = %grant.provider_key(), reason = %error, "vault.open_failed");
            Checked::Unsealable(error.reason())
        })?;
        let (name, value) = credential(&provider.auth, &secret)
            .ok_or(Checked::NotAsked("the staged secret cannot be put in a header"))?;
        headers.insert(name, value);
        let mut request = Request::new(Method::GET, at(base, path));
        *request.headers_mut() = headers;
        Ok(request)
    }
}
