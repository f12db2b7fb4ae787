//! Where the gateway may connect to: which `base_url` may be stored, and which address a name may resolve to.
//!
//! Both questions are asked of the same policy, once when a key is saved and again at every new connection, because
//! what a name resolves to can change in between. Public addresses are reached over https on port 443. Everything
//! private needs an entry of the operator's own list, which is per host and port and matches the host as it is
//! written. Link-local and metadata addresses are refused even then.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use url::{Host, Url};

/// Longest `base_url`, in bytes.
pub const MAX_URL_BYTES: usize = 512;

/// DNS zones that answer with whatever address is spelled in the name, and names that mean this machine.
const NAMES_OF_ADDRESSES: [&str; 9] = [
    "nip.io",
    "sslip.io",
    "xip.io",
    "localtest.me",
    "lvh.me",
    "traefik.me",
    "lacolhost.com",
    "vcap.me",
    "ip6.name",
];
/// Zones that only private resolvers serve.
const PRIVATE_ZONES: [&str; 8] =
    ["localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain", "corp"];

/// Why a URL may not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Not a URL that a provider could have.
    #[error("`base_url` {0}")]
    Malformed(&'static str),
    /// It must be https.
    #[error("`base_url` must begin with `https://`; the operator can allow `{0}` in `egress.allow`")]
    NotHttps(String),
    /// Another port than 443.
    #[error("`base_url` may only use port 443; the operator can allow `{0}` in `egress.allow`")]
    Port(String),
    /// An address or name that is not on the public internet.
    #[error("`base_url` names a private or reserved host; the operator can allow `{0}` in `egress.allow`")]
    Private(String),
    /// Never reachable, whatever the operator's list says.
    #[error("`base_url` names an address that is never allowed")]
    Never,
}

/// A URL that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// The whole, without a trailing slash.
    pub base_url: String,
    /// Scheme, host and, where it is not the scheme's own, port.
    pub origin: String,
    /// Host as the connector sees it; IPv6 without brackets.
    pub host: String,
    /// Port, also where the URL leaves it out.
    pub port: u16,
    /// Whether it passed by the operator's list.
    pub listed: bool,
}

/// The operator's list and the rules around it.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// Clones share it: a reload of the configuration changes the list for everybody who asks.
    allowed: Arc<RwLock<Vec<(String, u16)>>>,
}

impl EgressPolicy {
    /// From the operator's `egress.allow` entries: host as it is written, and port.
    pub fn new(allowed: impl IntoIterator<Item = (String, u16)>) -> Self {
        let policy = Self::default();
        policy.allow_only(allowed);
        policy
    }

    /// Replaces the operator's list.
    pub fn allow_only(&self, allowed: impl IntoIterator<Item = (String, u16)>) {
        let plain = |host: String| unbracketed(&host).to_ascii_lowercase();
        let list = allowed.into_iter().map(|(host, port)| (plain(host), port)).collect();
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = list;
    }

    fn list(&self) -> RwLockReadGuard<'_, Vec<(String, u16)>> {
        self.allowed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the operator listed exactly this host and port.
    pub fn is_listed(&self, host: &str, port: u16) -> bool {
        let host = unbracketed(host);
        self.list().iter().any(|(allowed, at)| {
            *at == port && allowed.len() == host.len() && allowed.eq_ignore_ascii_case(host)
        })
    }

    /// Whether a connection to `ip` may be opened for `host` and `port`.
    pub fn permits(&self, host: &str, port: u16, ip: IpAddr) -> bool {
        is_allowed_ip(ip) || (self.is_listed(host, port) && !is_never_allowed_ip(ip))
    }

    /// Whether a connection to `ip` may be opened for `host` on some port: for a resolver, which is not told the port.
    /// Sound only because [`Self::check_url`] lets a listed host through on its listed ports alone.
    pub fn permits_on_some_port(&self, host: &str, ip: IpAddr) -> bool {
        is_allowed_ip(ip) || (self.is_listed_on_some_port(host) && !is_never_allowed_ip(ip))
    }

    fn is_listed_on_some_port(&self, host: &str) -> bool {
        let host = unbracketed(host);
        self.list().iter().any(|(allowed, _)| allowed.eq_ignore_ascii_case(host))
    }

    /// Reads a `base_url` and says whether it may be stored and called.
    pub fn check_url(&self, text: &str) -> Result<UpstreamUrl, EgressError> {
        let (url, written_host) = read(text)?;
        let port = url.port_or_known_default().ok_or(EgressError::Malformed("has no port"))?;
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(EgressError::Malformed("has no host")),
        };
        let literal = literal_ip(&url);
        if literal.is_some_and(is_never_allowed_ip) {
            return Err(EgressError::Never);
        }
        let listed = self.is_listed(written_host, port);
        if !listed {
            // As `egress.allow` takes it, where an IPv6 address keeps its brackets.
            let entry = match url.host() {
                Some(Host::Ipv6(_)) => format!("[{written_host}]:{port}"),
                _ => format!("{written_host}:{port}"),
            };
            if url.scheme() != "https" {
                return Err(EgressError::NotHttps(entry));
            }
            if port != 443 {
                return Err(EgressError::Port(entry));
            }
            // A host of the operator's list is a private one on every port: what it resolves to is let through by a
            // resolver that is not told the port, so its other ports need entries of their own.
            let private = match literal {
                Some(ip) => !is_allowed_ip(ip),
                None => is_private_name(&host) || self.is_listed_on_some_port(written_host),
            };
            if private {
                return Err(EgressError::Private(entry));
            }
        }
        Ok(UpstreamUrl {
            base_url: url.as_str().trim_end_matches('/').to_owned(),
            origin: url.origin().ascii_serialization(),
            host,
            port,
            listed,
        })
    }
}

/// The parsed URL and its host as it is written.
fn read(text: &str) -> Result<(Url, &str), EgressError> {
    if text.is_empty() || text.len() > MAX_URL_BYTES {
        return Err(EgressError::Malformed("must have 1 to 512 characters"));
    }
    // The parser drops tabs and newlines and reads `\` as `/`; what it sees must be what was written.
    if text.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'\\' | b'"' | b'<' | b'>' | b'`')) {
        return Err(EgressError::Malformed("must be visible ASCII without quotes and backslashes"));
    }
    if text.contains(['?', '#']) {
        return Err(EgressError::Malformed("must not have a query or a fragment"));
    }
    let url = Url::parse(text).map_err(|_| EgressError::Malformed("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(EgressError::Malformed("must begin with `https://`"));
    }
    let (_, rest) = text.split_once("://").ok_or(EgressError::Malformed("is not a URL"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
        return Err(EgressError::Malformed("must not carry a user name or password"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/' | b':');
    if path.contains("//")
        || path.split('/').any(|part| matches!(part, "." | ".."))
        || !path.bytes().all(plain)
    {
        return Err(EgressError::Malformed("has a path with escapes, empty or dot segments"));
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    match host {
        Some(host) if !host.is_empty() => Ok((url, host)),
        _ => Err(EgressError::Malformed("has no host")),
    }
}

fn literal_ip(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Names that cannot be public, or that are an address in disguise.
fn is_private_name(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let within = |zone: &str| name == zone || name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
    !name.contains('.')
        || PRIVATE_ZONES.iter().any(|zone| within(zone))
        || NAMES_OF_ADDRESSES.iter().any(|zone| within(zone))
}

/// Whether an address is on the public internet. Embedded IPv4 addresses (mapped, compatible, NAT64, 6to4, Teredo) are
/// unwrapped and judged themselves.
pub fn is_allowed_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(inner) => inner.into_iter().flatten().all(is_public_v4),
            None => is_public_v6(v6),
        },
    }
}

/// Addresses that no operator's list opens: link-local, metadata, multicast, unspecified, broadcast.
pub fn is_never_allowed_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_never_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(inner) => inner.into_iter().flatten().any(is_never_v4),
            None => is_never_v6(v6),
        },
    }
}

fn is_never_v4(ip: Ipv4Addr) -> bool {
    let metadata = [[100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];
    ip.octets()[0] == 0
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || metadata.contains(&ip.octets())
}

fn is_never_v6(ip: Ipv6Addr) -> bool {
    let metadata = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    ip.is_unspecified() || ip.is_multicast() || (ip.segments()[0] & 0xffc0) == 0xfe80 || ip == metadata
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(is_never_v4(ip)
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_documentation()
        || (a == 100 && (b & 0xc0) == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b & 0xfe) == 18)
        || a >= 240)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, ..] = ip.segments();
    // Only 2000::/3 is given out as global unicast.
    (a & 0xe000) == 0x2000
        && !is_never_v6(ip)
        && !(a == 0x2001 && (b == 0xdb8 || (b & 0xfff0) == 0x10 || (b == 2 && c == 0)))
        && !(a == 0x3fff && b < 0x1000)
}

/// The IPv4 addresses inside an IPv6 address, if it is of a kind that carries some.
fn embedded(ip: Ipv6Addr) -> Option<[Option<Ipv4Addr>; 2]> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(w, x, y, z))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some([v4(g, h), None]),
        // `::` and `::1` look like IPv4-compatible addresses and are not.
        [0, 0, 0, 0, 0, 0] if g != 0 => Some([v4(g, h), None]),
        [0x2002, high, low, ..] => Some([v4(high, low), None]),
        // Teredo: the server's address, and the client's with its bits turned.
        [0x2001, 0, high, low, ..] => Some([v4(high, low), v4(!g, !h)]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE_HOSTS: [&str; 34] = [
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
        "[fc00::1]",
        "[fd12::1]",
        "[2001:db8::1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "[fd00:ec2::254]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "vllm",
        "metadata.google.internal",
        "127.0.0.1.nip.io",
        "10-0-0-1.sslip.io",
    ];

    #[test]
    fn private_hosts_are_refused_in_every_spelling() {
        let policy = EgressPolicy::default();
        for host in PRIVATE_HOSTS {
            for scheme in ["http", "https"] {
                assert!(policy.check_url(&format!("{scheme}://{host}/v1")).is_err(), "{scheme}://{host}");
            }
        }
    }

    #[test]
    fn public_https_is_taken_and_loses_its_trailing_slash() {
        let url = EgressPolicy::default().check_url("https://API.example.com:443/v1/").expect("allowed");
        assert_eq!(url.base_url, "https://api.example.com/v1");
        assert_eq!(url.origin, "https://api.example.com");
        assert_eq!((url.host.as_str(), url.port, url.listed), ("api.example.com", 443, false));
    }

    #[test]
    fn urls_that_hide_something_are_refused() {
        let policy = EgressPolicy::new([("good.example".to_owned(), 443)]);
        for text in [
            "",
            "good.example",
            "ftp://good.example",
            "file:///etc/passwd",
            "https://user@good.example",
            "https://u:p@good.example",
            "https://@good.example",
            "https://good.example/?q=1",
            "https://good.example/#x",
            "https://good.example#@evil.example",
            "https://good.example/a/../b",
            "https://good.example//v1",
            "https://good.example/%2e%2e/",
            "https://good.example\\@evil.example",
            "https://good.ex\tample",
            "https://good.example/\r\nhost: evil",
            "https://[fe80::1%25eth0]/",
            "https://",
            "https:///v1",
            "https:good.example",
            "https://гугл.example/",
        ] {
            assert!(policy.check_url(text).is_err(), "{text:?}");
        }
        assert!(policy.check_url(&format!("https://good.example/{}", "a".repeat(600))).is_err());
    }

    #[test]
    fn the_operators_list_opens_exactly_what_it_names() {
        let policy = EgressPolicy::new([("127.0.0.1".to_owned(), 11434), ("[::1]".to_owned(), 80)]);
        assert!(policy.check_url("http://127.0.0.1:11434").is_ok_and(|url| url.listed));
        assert!(policy.check_url("http://[::1]/v1").is_ok());
        for text in [
            "http://127.0.0.1:11435",
            "http://localhost:11434",
            "http://127.1:11434",
            "http://0x7f.1:11434",
            "http://[::1]:81/v1",
        ] {
            assert!(policy.check_url(text).is_err(), "{text}");
        }
        let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
        assert!(policy.permits("127.0.0.1", 11434, loopback));
        assert!(!policy.permits("localhost", 11434, loopback));
        assert!(!policy.permits("127.0.0.1", 80, loopback));
    }

    #[test]
    fn a_refusal_names_the_entry_as_the_list_takes_it() {
        let policy = EgressPolicy::default();
        for (url, entry) in [
            ("http://[::1]:8000/v1", "[::1]:8000"),
            ("https://[fd00::5]/v1", "[fd00::5]:443"),
            ("http://10.0.0.5:8000/v1", "10.0.0.5:8000"),
            ("http://vllm:8000", "vllm:8000"),
        ] {
            let refused = policy.check_url(url).expect_err("private").to_string();
            assert!(refused.contains(&format!("`{entry}`")), "{url}: {refused}");
            let (host, port) = entry.rsplit_once(':').expect("a port");
            let allowed = EgressPolicy::new([(host.to_owned(), port.parse().expect("a port"))]);
            assert!(allowed.check_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn metadata_stays_closed_even_when_it_is_listed() {
        let policy = EgressPolicy::new([("169.254.169.254".to_owned(), 80), ("meta.example".to_owned(), 80)]);
        assert_eq!(policy.check_url("http://169.254.169.254/"), Err(EgressError::Never));
        assert!(!policy.permits("meta.example", 80, Ipv4Addr::new(169, 254, 169, 254).into()));
        assert!(policy.permits("meta.example", 80, Ipv4Addr::new(10, 0, 0, 1).into()));
    }

    #[test]
    fn public_addresses_are_allowed_also_inside_ipv6() {
        for ip in ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"] {
            assert!(is_allowed_ip(ip.parse().expect("an address")), "{ip}");
        }
    }

    #[test]
    fn a_listed_host_is_reached_on_its_listed_ports_only() {
        let policy = EgressPolicy::new([("vllm.example.com".to_owned(), 8000)]);
        assert!(policy.check_url("http://vllm.example.com:8000/v1").is_ok());
        for other in
            ["https://vllm.example.com/v1", "https://VLLM.example.com", "https://vllm.example.com:8001"]
        {
            assert!(policy.check_url(other).is_err(), "{other}");
        }
        let private = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert!(policy.permits_on_some_port("vllm.example.com", private));
        assert!(!policy.permits_on_some_port("other.example.com", private));
    }
}
