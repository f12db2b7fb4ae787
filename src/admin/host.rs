//! Before any route: is the request meant for us, and is its path plain? After any route: headers that keep an answer
//! out of caches, frames and guesses.
//!
//! Listening on loopback does not keep a browser out: a page whose name resolves to 127.0.0.1 can reach it. Such a
//! request carries that page's host name, which is not on the list.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::AdminError;

/// The names the admin plane answers to.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    pub(super) fn new(names: &[String]) -> Self {
        let plain = |name: &String| name.trim().trim_end_matches('.').to_ascii_lowercase();
        Self(names.iter().map(plain).filter(|name| !name.is_empty()).collect())
    }

    fn answers_to(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        // A user name in front of the host is never sent by a client that means well.
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host().to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        bare == "localhost"
            || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || self.0.iter().any(|name| *name == host || *name == bare || *name == authority.as_str())
    }
}

/// Refuses what is not meant for us.
pub(super) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match check(&hosts, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(hosts: &Hosts, request: &Request) -> Result<(), AdminError> {
    let mut given = request.headers().get_all(header::HOST).iter();
    let header = match (given.next(), given.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| AdminError::Misdirected)?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(AdminError::Misdirected),
    };
    let line = request.uri().authority().map(Authority::as_str);
    if (header.is_none() && line.is_none())
        || ![header, line].into_iter().flatten().all(|host| hosts.answers_to(host))
    {
        return Err(AdminError::Misdirected);
    }
    let path = request.uri().path();
    let strange = |segment: &str| matches!(segment, "." | "..");
    if path.contains("//")
        || path.split('/').any(strange)
        || path.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'%' | b';' | b'\\'))
    {
        return Err(AdminError::StrangePath);
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !reads && is_cross_site(hosts, request) {
        return Err(AdminError::CrossSite);
    }
    Ok(())
}

/// Browsers say where a request comes from; other clients say nothing.
fn is_cross_site(hosts: &Hosts, request: &Request) -> bool {
    let headers = request.headers();
    let foreign_origin = headers.get_all(header::ORIGIN).iter().any(|origin| {
        let host = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, host)| host);
        !host.is_some_and(|host| hosts.answers_to(host))
    });
    let site = headers.get(HeaderName::from_static("sec-fetch-site"));
    foreign_origin || site.is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// Headers of every answer, unless the answer has its own.
pub(super) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_listed_names_are_answered_and_no_others() {
        let hosts = Hosts::new(&["Admin.example.".into(), "10.0.0.5".into()]);
        for good in [
            "localhost",
            "localhost:8081",
            "LOCALHOST",
            "127.0.0.1:8081",
            "127.8.8.8",
            "[::1]:8081",
            "admin.example",
            "admin.example:443",
            "10.0.0.5:8081",
        ] {
            assert!(hosts.answers_to(good), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "admin.example.evil",
            "10.0.0.6",
            "",
            "admin.example@evil.example",
            "evil.example@admin.example",
            "localhost/x",
            "localhost#x",
        ] {
            assert!(!hosts.answers_to(bad), "{bad}");
        }
    }
}
