//! One try of one candidate: open the key, build the request, send it, wait for the head, wipe the key.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use reqwest::{Client, Method, Request, Url};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::{Failure, KeyUses, SentMark, sent::MarkedBody};
use crate::{
    catalogue::AuthStyle,
    dialects::UpstreamRequest,
    domain::{DispatchGrant, ProviderSecret, egress::EgressPolicy},
    vault::{SealedRow, Vault},
};

const OURSELVES: HeaderValue = HeaderValue::from_static(concat!("keystile/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// A provider key's `base_url`, read and checked at its first use. Kept with what was loaded of the key: a key that
/// changes is loaded anew, and so is every key when the policy changes.
#[derive(Debug, Default)]
pub struct CheckedUrl(OnceLock<Url>);

impl CheckedUrl {
    fn get(&self, base_url: &str, policy: &EgressPolicy) -> Result<&Url, Failure> {
        if let Some(url) = self.0.get() {
            return Ok(url);
        }
        // The connector asks no resolver about literal addresses, and knows no ports: both are checked here.
        policy
            .check_url(base_url)
            .map_err(|_| Failure::Unusable("the provider key's `base_url` may not be called"))?;
        let url = Url::parse(base_url)
            .map_err(|_| Failure::Unusable("the provider key's `base_url` is unreadable"))?;
        Ok(self.0.get_or_init(|| url))
    }
}

/// Where an attempt goes and with which sealed key.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Base URL without a trailing slash.
    pub base_url: &'a str,
    /// The same, once it was checked.
    pub checked_url: &'a CheckedUrl,
    /// How the provider wants its key.
    pub auth: &'a AuthStyle,
    /// The sealed key.
    pub sealed: SealedRow<'a>,
}

/// One request to a provider.
pub struct Call<'a> {
    /// The permission to open the key.
    pub grant: DispatchGrant,
    /// Where to.
    pub target: Target<'a>,
    /// What the dialect made.
    pub request: UpstreamRequest,
    /// How long the head may take.
    pub first_byte: Duration,
    /// When everything must be over.
    pub deadline: Instant,
    /// Set when sending begins.
    pub sent: SentMark,
}

/// Sends attempts.
#[derive(Clone)]
pub struct Upstream {
    client: Client,
    vault: Arc<Vault>,
    policy: Arc<EgressPolicy>,
    uses: Arc<KeyUses>,
}

impl Upstream {
    /// From the one client, the vault, and the policy on addresses.
    pub fn new(client: Client, vault: Arc<Vault>, policy: Arc<EgressPolicy>) -> Self {
        Self { client, vault, policy, uses: Arc::default() }
    }

    /// How often each key was opened.
    pub fn uses(&self) -> &Arc<KeyUses> {
        &self.uses
    }

    /// Sends one request and waits for the answer's head.
    ///
    /// # Errors
    /// A [`Failure`] that says whether anything was sent. Error statuses are answers here, not failures.
    pub async fn send(&self, call: Call<'_>) -> Result<Response<reqwest::Body>, Failure> {
        let Call { grant, target, request, first_byte, deadline, sent } = call;
        let url = at(target.checked_url.get(target.base_url, &self.policy)?, &request.path);
        let mut outgoing = Request::new(Method::POST, url);
        *outgoing.headers_mut() = self.headers(grant, &target, &request)?;
        *outgoing.body_mut() =
            Some(reqwest::Body::wrap(MarkedBody { bytes: Some(request.body), mark: sent.clone() }));

        let until = deadline.min(Instant::now() + first_byte);
        match timeout_at(until, self.client.execute(outgoing)).await {
            Ok(Ok(response)) => Ok(response.into()),
            Ok(Err(_)) if sent.is_refused() => Err(Failure::Unrecordable),
            Ok(Err(error)) if sent.withdraw() => Err(Failure::NotSent { timed_out: error.is_timeout() }),
            Ok(Err(_)) => Err(Failure::Ambiguous("the provider closed the connection before it answered")),
            Err(_) if sent.withdraw() => Err(Failure::NotSent { timed_out: true }),
            Err(_) => Err(Failure::TimedOut),
        }
    }

    fn headers(
        &self,
        grant: DispatchGrant,
        target: &Target<'_>,
        request: &UpstreamRequest,
    ) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, JSON);
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        headers.insert(USER_AGENT, OURSELVES);
        for (name, value) in &request.headers {
            let value =
                HeaderValue::from_str(value).map_err(|_| Failure::Unusable("a header is unreadable"))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let secret = self.vault.open_provider_key(&grant, &target.sealed).map_err(|error| {
            tracing::error!(provider_key = %grant.provider_key(), reason = %error, "vault.open_failed");
            Failure::Unusable("the stored provider key cannot be opened")
        })?;
        self.uses.note(grant.tenant(), grant.provider_key());
        if !secret.is_empty() {
            let (name, value) = credential(target.auth, &secret)
                .ok_or(Failure::Unusable("the stored provider key cannot be put in a header"))?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

/// `path`, which may have a query, below `base`.
fn at(base: &Url, path: &str) -> Url {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(query);
    url
}

/// The header that carries the key. Its bytes are wiped when the last holder, the HTTP client, lets go of them.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the line that writes the provider key into its header"
)]
fn credential(auth: &AuthStyle, secret: &ProviderSecret) -> Option<(HeaderName, HeaderValue)> {
    let (name, prefix) = match auth {
        AuthStyle::Bearer => (AUTHORIZATION, b"Bearer ".as_slice()),
        AuthStyle::Header(name) => (HeaderName::from_bytes(name.as_bytes()).ok()?, b"".as_slice()),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.expose_secret().len()));
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(secret.expose_secret());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_below_the_base_url() {
        for (base, path, whole) in [
            ("https://api.openai.com/v1", "/chat/completions", "https://api.openai.com/v1/chat/completions"),
            ("http://127.0.0.1:8000", "/embeddings", "http://127.0.0.1:8000/embeddings"),
            ("http://[::1]:8000/a/b/", "/x?y=1&z=%20", "http://[::1]:8000/a/b/x?y=1&z=%20"),
        ] {
            assert_eq!(at(&Url::parse(base).expect("a URL"), path).as_str(), whole);
        }
    }

    #[test]
    fn a_base_url_that_may_not_be_called_is_refused_every_time() {
        let (policy, checked) = (EgressPolicy::default(), CheckedUrl::default());
        for _ in 0..2 {
            assert!(checked.get("http://169.254.169.254/v1", &policy).is_err());
        }
        let checked = CheckedUrl::default();
        for _ in 0..2 {
            let url = checked.get("https://api.openai.com/v1", &policy).expect("a public address");
            assert_eq!(url.as_str(), "https://api.openai.com/v1");
        }
    }
}
