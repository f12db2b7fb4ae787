//! A running gateway, as the commands reach it: `KEYSTILE_URL` or the admin plane of the settings, and a session that is
//! either given (`KEYSTILE_ADMIN_TOKEN`) or signed for one minute with the keys of the data directory.

use std::{error::Error, time::Duration};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use reqwest::{Client, Method, StatusCode, redirect};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Shared, open};
use crate::config::{ClientSettings, Config, SecretText, environment};

/// How long a session that a command signs for itself lasts.
const SESSION: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any request to the admin plane takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the gateway is.
#[derive(Args, Clone, Debug)]
pub(super) struct Target {
    /// The admin plane's base URL; KEYSTILE_URL, or the listener of the settings, when left out.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl Target {
    /// The gateway at `url`, or where the settings say when there is none.
    pub(super) fn at(url: Option<String>) -> Self {
        Self { url }
    }
}

/// A gateway that is not asked as anybody.
pub(super) struct Plane {
    url: String,
    http: Client,
}

/// A gateway and a session on it.
pub(super) struct Remote {
    plane: Plane,
    token: SecretText,
    /// Whether the token was given, and not signed here.
    given: bool,
}

/// An error as the admin plane says it.
#[derive(Deserialize)]
struct Said {
    error: What,
}

#[derive(Deserialize)]
struct What {
    code: String,
    message: String,
}

impl Plane {
    /// The gateway that `settings` name; nothing is sent yet.
    pub(super) fn new(settings: &ClientSettings) -> anyhow::Result<Self> {
        // A slim container has no system roots.
        let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .filter_map(|certificate| reqwest::Certificate::from_der(certificate.as_ref()).ok());
        // Neither a proxy nor another host may see the session.
        #[expect(clippy::disallowed_methods, reason = "a client of the gateway, not of a provider")]
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .tls_certs_merge(bundled)
            .build()
            .context("the client for the admin plane cannot be built")?;
        Ok(Self { url: settings.url.clone(), http })
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Status and body of a request without a session.
    pub(super) async fn look(&self, path: &str) -> anyhow::Result<(StatusCode, String)> {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<(StatusCode, String)> {
        let unreachable = |error: reqwest::Error| {
            let url = &self.url;
            // The library's own text repeats the URL and leaves the cause to its source.
            let cause = root(&error);
            if error.is_connect() {
                anyhow!(
                    "no gateway answers at {url} ({cause}); is it running? start it with `keystile serve`, or say where it is with `--url` or KEYSTILE_URL (the admin plane's address)"
                )
            } else if error.is_timeout() {
                anyhow!("the gateway at {url} did not answer in time; look at its log")
            } else {
                anyhow!("the gateway at {url} could not be asked: {cause}")
            }
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        Ok((status, answer.text().await.map_err(unreachable)?))
    }
}

impl Remote {
    /// The gateway that flags, environment and settings name, and a session on it.
    pub(super) async fn open(shared: &Shared, target: &Target) -> anyhow::Result<Self> {
        let settings = settings(shared, target)?;
        let plane = Plane::new(&settings)?;
        if let Some(token) = settings.admin_token {
            return Ok(Self { plane, token, given: true });
        }
        let signed = async {
            let control = open::control(shared).await?;
            Ok::<_, anyhow::Error>(control.sign_owner_session(SESSION).await?)
        };
        let token = signed.await.context(
            "KEYSTILE_ADMIN_TOKEN is not set, and no session can be signed on the gateway's own data directory",
        )?;
        Ok(Self { plane, token: SecretText::new(token), given: false })
    }

    /// What `GET path` answers.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path).await
    }

    /// What `POST path` answers, without a body.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::POST, path).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        let Plane { url, http } = &self.plane;
        let request = http.request(method, format!("{url}{path}")).bearer_auth(self.token.0.as_str());
        let (status, text) = self.plane.send(request).await?;
        if status.is_success() {
            return serde_json::from_str(&text)
                .with_context(|| format!("{url} does not answer as this version's admin plane does"));
        }
        let said = serde_json::from_str::<Said>(&text).ok().map(|said| said.error);
        match (status, said) {
            (StatusCode::UNAUTHORIZED, Some(_)) if self.given => {
                bail!(
                    "the gateway at {url} does not take KEYSTILE_ADMIN_TOKEN: it is wrong or expired; log in again"
                )
            }
            (StatusCode::UNAUTHORIZED, Some(_)) => bail!(
                "the gateway at {url} does not take a session signed on this data directory; give its own `--data-dir` (and KEYSTILE_JWT_KEYS, where it has them), or set KEYSTILE_ADMIN_TOKEN"
            ),
            (StatusCode::MISDIRECTED_REQUEST, Some(_)) => bail!(
                "the gateway does not answer to the host name in {url}; add it to KEYSTILE_ADMIN_HOSTS of the gateway, or ask it on loopback"
            ),
            (_, Some(What { code, message })) => bail!("{message} ({code})"),
            (_, None) => bail!("{url} answered {status}, and not as an admin plane does; check the URL"),
        }
    }
}

/// Where the gateway is, and the token if one is given.
pub(super) fn settings(shared: &Shared, target: &Target) -> anyhow::Result<ClientSettings> {
    let environment = environment()?;
    let config = Config::load(&shared.overrides(), &environment)?;
    Ok(ClientSettings::load(target.url.as_deref(), &environment, &config)?)
}

fn root(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
