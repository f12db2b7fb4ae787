//! The one HTTP client towards providers, and a plain one for the operator's own places. HTTP/1.1 only: on a shared h2 connection one stalled reader could stall another tenant.
//! No redirects (custom key headers would follow them), no retries (each try needs its own reservation), no system
//! proxy (it would resolve names itself, behind the address policy).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{
    Certificate, Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};

use crate::{config, domain::egress::EgressPolicy};

/// Connections to one host that wait for the next request.
const IDLE_PER_HOST: usize = 512;
/// How long they wait; below the common 60 s after which load balancers hang up silently.
const IDLE_FOR: Duration = Duration::from_secs(55);

/// Builds the client.
///
/// # Errors
/// When the TLS stack cannot be set up.
pub fn build_client(
    settings: &config::Upstream,
    policy: Arc<EgressPolicy>,
) -> Result<Client, reqwest::Error> {
    bare()
        .connect_timeout(settings.connect_timeout)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_FOR)
        .dns_resolver(GuardedResolver { policy })
        .build()
}

/// A client for what the operator's own settings name, and nobody else may: it asks no policy about addresses. Each call
/// takes at most `timeout`.
///
/// # Errors
/// When the TLS stack cannot be set up.
pub fn build_operator_client(timeout: Duration) -> Result<Client, reqwest::Error> {
    bare().timeout(timeout).build()
}

#[expect(clippy::disallowed_methods, reason = "this is where the clients are built")]
fn bare() -> reqwest::ClientBuilder {
    // A slim container has no system roots; the bundled ones join whatever there is.
    let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|certificate| Certificate::from_der(certificate.as_ref()).ok());
    Client::builder()
        .http1_only()
        .no_proxy()
        .referer(false)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .tcp_nodelay(true)
        .tls_certs_merge(bundled)
}

/// Resolves names and keeps only the addresses that policy permits, at every new connection: a name that was good
/// when it was saved may point elsewhere now.
struct GuardedResolver {
    policy: Arc<EgressPolicy>,
}

#[derive(Debug, thiserror::Error)]
#[error("no address of the host may be called; private addresses must be listed in `egress.allow`")]
struct NoPermittedAddress;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.policy);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let all = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let permitted: Vec<SocketAddr> =
                all.filter(|address| policy.permits_on_some_port(&host, address.ip())).collect();
            if permitted.is_empty() {
                return Err(NoPermittedAddress.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}
