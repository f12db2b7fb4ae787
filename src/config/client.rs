//! Settings of the commands that talk to a running gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    env::Environment,
    error::{ConfigError, Origin},
    settings::{ClientSettings, Config},
    value::{self, Value},
};

impl ClientSettings {
    /// Reads `KEYSTILE_URL` and `KEYSTILE_ADMIN_TOKEN`. `url` is what the flag `--url` says, which comes first; without
    /// either, the URL is that of the admin plane which `config` describes.
    pub fn load(url: Option<&str>, environment: &Environment, config: &Config) -> Result<Self, ConfigError> {
        let given = match url {
            Some(url) => Some((Origin::Flag("--url"), url.to_owned())),
            None => environment.value("KEYSTILE_URL")?.map(|(origin, url)| (origin, url.to_string())),
        };
        let url = match given {
            Some((origin, url)) => {
                base_url(&url).map_err(|problem| invalid(origin, "KEYSTILE_URL", problem))?
            }
            None => format!("http://{}", reachable(config.server.admin_listen)),
        };
        let admin_token = match environment.value("KEYSTILE_ADMIN_TOKEN")? {
            Some((origin, token)) => Some(
                value::secret(Value::Text(token))
                    .map_err(|problem| invalid(origin, "KEYSTILE_ADMIN_TOKEN", problem))?,
            ),
            None => None,
        };
        Ok(Self { url, admin_token })
    }
}

fn invalid(origin: Origin, name: &'static str, problem: String) -> ConfigError {
    ConfigError::Invalid { origin, name, problem }
}

fn base_url(text: &str) -> Result<String, String> {
    let url =
        url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let plain =
        url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none());
    match plain {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err("is no base URL; write the admin plane's, such as `http://127.0.0.1:8081`".to_owned()),
    }
}

/// `0.0.0.0` is an address to listen on, not one to call.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_comes_from_the_flag_then_the_variable_then_the_listener() {
        let mut config = Config::default();
        config.server.admin_listen = "0.0.0.0:9000".parse().unwrap();
        let none = Environment::default();
        let set: Environment = [("KEYSTILE_URL", "https://keystile.internal/")].into_iter().collect();
        let url = |flag, environment| ClientSettings::load(flag, environment, &config).unwrap().url;
        assert_eq!(url(None, &none), "http://127.0.0.1:9000");
        assert_eq!(url(None, &set), "https://keystile.internal");
        assert_eq!(url(Some("http://[::1]:1"), &set), "http://[::1]:1");
        for wrong in ["keystile.internal", "ftp://x", "http://user:canary@x"] {
            let error = ClientSettings::load(Some(wrong), &none, &config).unwrap_err().to_string();
            assert!(error.contains("flag `--url`") && !error.contains("canary"), "{error}");
        }
    }
}
