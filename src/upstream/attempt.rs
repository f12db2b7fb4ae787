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

use super::{Failure, Openings, SentMark, sent::MarkedBody};
use crate::{
    catalogue::AuthStyle,
    dialects::UpstreamRequest,
    domain::{DispatchGrant, ProviderSecret, egress::EgressPolicy},
    vault::{SealedRow, Vault},
};

pub(super) const OURSELVES: HeaderValue =
    HeaderValue::from_static(concat!("keystile/", env!("CARGO_PKG_VERSION")));
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// A provider key's `base_url`, read and checked at its first use. Kept with what was loaded of the key: a key that
/// changes is loaded anew, and so is every key when the policy changes.
#[derive(Debug, Default)]
pub struct CheckedUrl(OnceLock<Url>);

impl CheckedUrl {
    /// `base_url` as it may be called; `origin` is the one that the key is sealed for.
    pub(super) fn get(&self, base_url: &str, origin: &str, policy: &EgressPolicy) -> Result<&Url, Failure> {
        if let Some(url) = self.0.get() {
            return Ok(url);
        }
        // An address that was stored here is readable and of the origin that its key is sealed for; any other was put
        // there by somebody else, who may not make another key be used by it.
        let elsewhere = || Failure::Unsealable("mismatch");
        let url = Url::parse(base_url).map_err(|_| elsewhere())?;
        if url.origin().ascii_serialization() != origin {
            return Err(elsewhere());
        }
        // The connector asks no resolver about literal addresses, and knows no ports: both are checked here.
        policy
            .check_url(base_url)
            .map_err(|_| Failure::Unusable("the provider key's `base_url` may not be called"))?;
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
    pub(super) client: Client,
    pub(super) vault: Arc<Vault>,
    pub(super) policy: Arc<EgressPolicy>,
    openings: Arc<Openings>,
}

impl Upstream {
    /// From the one client, the vault, and the policy on addresses.
    pub fn new(client: Client, vault: Arc<Vault>, policy: Arc<EgressPolicy>) -> Self {
        Self { client, vault, policy, openings: Arc::default() }
    }

    /// How often each key was opened.
    pub fn openings(&self) -> &Arc<Openings> {
        &self.openings
    }

    /// Sends one request and waits for the answer's head.
    ///
    /// # Errors
    /// A [`Failure`] that says whether anything was sent. Error statuses are answers here, not failures.
    pub async fn send(&self, call: Call<'_>) -> Result<Response<reqwest::Body>, Failure> {
        let Call { grant, target, request, first_byte, deadline, sent } = call;
        // The key first: a row that was tampered with is found out before its address is judged.
        let headers = self.headers(grant, &target, &request)?;
        let checked = target.checked_url.get(target.base_url, target.sealed.origin, &self.policy);
        let base = checked.inspect_err(|failure| {
            if let Failure::Unsealable(_) = failure {
                tracing::error!(provider_key = %target.sealed.key, "vault.base_url_elsewhere");
            }
        })?;
        let mut outgoing = Request::new(Method::POST, at(base, &request.path));
        *outgoing.headers_mut() = headers;
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
            Failure::Unsealable(error.reason())
        })?;
        self.openings.note(grant.tenant(), grant.provider_key());
        if !secret.is_empty() {
            let (name, value) = credential(target.auth, &secret)
                .ok_or(Failure::Unusable("the stored provider key cannot be put in a header"))?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

/// `path`, which may have a query, below `base`.
pub(super) fn at(base: &Url, path: &str) -> Url {
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
pub(super) fn credential(auth: &AuthStyle, secret: &ProviderSecret) -> Option<(HeaderName, HeaderValue)> {
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
            let refused = checked.get("http://169.254.169.254/v1", "http://169.254.169.254", &policy);
            assert!(matches!(refused, Err(Failure::Unusable(_))));
        }
        let checked = CheckedUrl::default();
        for _ in 0..2 {
            let url = checked.get("https://api.openai.com/v1", "https://api.openai.com", &policy);
            assert_eq!(url.expect("a public address").as_str(), "https://api.openai.com/v1");
        }
    }

    #[test]
    fn at_051_a_base_url_of_another_origin_than_the_key_is_sealed_for_is_an_incident() {
        let policy = EgressPolicy::default();
        for base_url in
            ["https://thief.example/v1", "https://api.openai.com:8443/v1", "http://api.openai.com/v1", "x"]
        {
            let refused = CheckedUrl::default();
            let refused = refused.get(base_url, "https://api.openai.com", &policy);
            assert!(matches!(refused, Err(Failure::Unsealable("mismatch"))), "{base_url}");
        }
    }
}
