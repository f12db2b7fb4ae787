//! The real gateway on port 0, with a database of its own, furnished through its own admin API.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use keystile::{
    app::{App, StartError, StartOptions},
    config::{Config, EgressAllow, SecretText},
    domain::{Clock, NanoUsd, Timestamp},
    server::Drained,
    store::sqlite_url,
    telemetry::Metrics,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{RawClient, Reply, Stream, Upstream, database, eventually, soon};

pub const ADMIN_EMAIL: &str = "owner@example.com";
pub const ADMIN_PASSWORD: &str = "correct-horse-battery-71";

/// What a gateway is started with.
pub struct Setup {
    pub config: Config,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    dir: Arc<TempDir>,
}

impl Setup {
    /// A new database, no upstream allowed yet.
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.server.admin_listen = ([127, 0, 0, 1], 0).into();
        config.server.data_dir = dir.path().join("data");
        config.admin.email = Some(ADMIN_EMAIL.into());
        config.admin.password = Some(SecretText::new(ADMIN_PASSWORD));
        if let Some(url) = database::migrated_postgres().await {
            config.database_url = Some(SecretText::new(url));
            config.vault.master_keys = vec![keystile::vault::KeyRing::generate()];
        }
        let metrics = keystile::app::metrics();
        Self { config, clock: Clock::system(), metrics, dir: Arc::new(dir) }
    }

    /// Lets the gateway call `upstream`.
    pub fn allow(mut self, upstream: &Upstream) -> Self {
        let (host, port) = (upstream.address.ip().to_string(), upstream.address.port());
        self.config.egress_allow.push(EgressAllow { host, port });
        self
    }

    /// Other settings.
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// A clock that stands at `moment` until it is turned.
    pub fn at(mut self, moment: &str) -> Self {
        self.clock = Clock::manual(Timestamp::parse(moment).expect("a moment"));
        self
    }

    /// The same once more.
    pub fn another_try(&self) -> Self {
        let (config, clock, dir) = (self.config.clone(), self.clock.clone(), Arc::clone(&self.dir));
        Self { config, clock, metrics: keystile::app::metrics(), dir }
    }

    /// Starts it and signs in.
    pub async fn start(self) -> Gateway {
        self.try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts it, or says why not.
    pub async fn try_start(self) -> Result<Gateway, StartError> {
        let Self { config, clock, metrics, dir } = self;
        let options =
            StartOptions { clock: clock.clone(), metrics: Arc::clone(&metrics), ..StartOptions::default() };
        // Its future is large, and every test would hold it.
        let app = Box::pin(App::start(config.clone(), options)).await?;
        let mut gateway =
            Gateway { app, config, clock, metrics, dir, http: http_client(), session: String::new() };
        let asked = json!({ "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD });
        let session = gateway.admin(Method::POST, "/api/auth/login", Some(&asked)).await.expect(200).json();
        gateway.session = session["token"].as_str().expect("a token").to_owned();
        Ok(gateway)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's client is not the gateway's")]
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(2_000).build().expect("a client")
}

/// A virtual key.
#[derive(Clone)]
pub struct VirtualKey {
    pub id: String,
    pub key: String,
}

/// A running gateway and everything a test needs of it.
pub struct Gateway {
    pub app: App,
    pub config: Config,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    http: reqwest::Client,
    session: String,
    dir: Arc<TempDir>,
}

impl Gateway {
    /// A gateway in front of one `openai` key at `upstream`, and a virtual key without limits.
    pub async fn simple(upstream: &Upstream) -> (Self, VirtualKey) {
        Self::simple_with(upstream, |_| {}).await
    }

    /// The same with other settings.
    pub async fn simple_with(upstream: &Upstream, change: impl FnOnce(&mut Config)) -> (Self, VirtualKey) {
        let gateway = Setup::new().await.allow(upstream).with(change).start().await;
        gateway.provider_key("openai", upstream).await;
        let key = gateway.virtual_key(json!({})).await;
        (gateway, key)
    }

    // The admin plane.

    /// One request to the admin API.
    pub async fn admin(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        self.admin_as(&self.session, method, path, body).await
    }

    /// The same with another session.
    pub async fn admin_as(&self, session: &str, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let url = format!("http://{}{path}", self.app.admin_address);
        let mut request = self.http.request(method, url);
        if !session.is_empty() {
            request = request.bearer_auth(session);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Reply::read(soon("the admin plane", request.send()).await.expect("an answer")).await
    }

    /// A request to the admin plane without a session, to be changed and sent.
    pub fn admin_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.app.admin_address))
    }

    /// A request to the data plane without a key, to be changed and sent.
    pub fn data_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.app.address))
    }

    pub async fn get(&self, path: &str) -> Value {
        self.admin(Method::GET, path, None).await.expect(200).json()
    }

    pub async fn create(&self, path: &str, body: Value) -> Value {
        self.admin(Method::POST, path, Some(&body)).await.expect(201).json()
    }

    pub async fn patch(&self, path: &str, body: Value) -> Value {
        self.admin(Method::PATCH, path, Some(&body)).await.expect(200).json()
    }

    /// Stores a provider key that is used at `upstream`; answers its id.
    pub async fn provider_key(&self, provider: &str, upstream: &Upstream) -> String {
        self.provider_key_with(provider, upstream, json!({})).await
    }

    /// The same with more members.
    pub async fn provider_key_with(&self, provider: &str, upstream: &Upstream, more: Value) -> String {
        let mut body = json!({
            "provider": provider,
            "key_name": format!("{provider} key"),
            "api_key": "sk-scripted-provider-key",
            "base_url": upstream.base_url(),
        });
        merge(&mut body, more);
        self.create("/api/keys", body).await["id"].as_str().expect("an id").to_owned()
    }

    /// Makes a virtual key with these limits.
    pub async fn virtual_key(&self, limits: Value) -> VirtualKey {
        let mut body = json!({ "name": "test key" });
        merge(&mut body, limits);
        let made = self.create("/api/virtual-keys", body).await;
        let text = |member: &str| made[member].as_str().expect(member).to_owned();
        VirtualKey { id: text("id"), key: text("key") }
    }

    /// Sets a price in micro-USD per million tokens.
    pub async fn price(&self, price: Value) {
        let body = json!({ "prices": [price] });
        self.admin(Method::PUT, "/api/prices", Some(&body)).await.expect(200);
    }

    /// Usage rows once everything recorded so far is written, the oldest first.
    pub async fn usage(&self) -> Vec<Value> {
        soon("usage to be written", self.app.house.ledger.flushed()).await;
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/api/usage?limit=100{cursor}")).await;
            rows.extend(page["data"].as_array().expect("rows").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        rows.sort_by_key(|row| row["request_id"].as_str().map(str::to_owned));
        rows
    }

    /// Waits for exactly `count` usage rows.
    pub async fn usage_of(&self, count: usize) -> Vec<Value> {
        let rows = eventually("usage rows", || async {
            let rows = self.usage().await;
            (rows.len() >= count).then_some(rows)
        })
        .await;
        assert_eq!(rows.len(), count, "{rows:#?}");
        rows
    }

    /// The only usage row.
    pub async fn only_usage(&self) -> Value {
        self.usage_of(1).await.remove(0)
    }

    /// Waits until the follower of changes has seen what was changed so far. Nothing else may read meanwhile.
    pub async fn changes_followed(&self) {
        let reads = || self.app.house.store.statements().reads;
        let before = reads();
        eventually("two turns of the follower", || async { (reads() >= before + 2).then_some(()) }).await;
    }

    /// What is reserved now, over all keys.
    pub fn reserved(&self) -> NanoUsd {
        self.app.house.ledger.accounts().reserved_total()
    }

    /// Waits until nothing is reserved.
    pub async fn nothing_reserved(&self) {
        eventually("reservations to end", || async { (self.reserved() == NanoUsd::ZERO).then_some(()) })
            .await;
    }

    /// Wall time stands at `moment` from now on; only for gateways with a clock of their own.
    pub fn turn_clock(&self, moment: &str) {
        self.clock.set(Timestamp::parse(moment).expect("a moment"));
    }

    // The data plane.

    /// A request to the data plane, to be changed and sent.
    pub fn request(&self, method: Method, path: &str, key: &VirtualKey) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.app.address)).bearer_auth(&key.key)
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        Reply::read(soon("an answer", request.send()).await.expect("an answer")).await
    }

    pub async fn read(&self, path: &str, key: &VirtualKey) -> Reply {
        self.send(self.request(Method::GET, path, key)).await
    }

    /// Posts these bytes as JSON.
    pub async fn post(&self, path: &str, key: &VirtualKey, body: impl Into<Bytes>) -> Reply {
        self.send(self.json_request(path, key, body)).await
    }

    fn json_request(&self, path: &str, key: &VirtualKey, body: impl Into<Bytes>) -> reqwest::RequestBuilder {
        let request = self.request(Method::POST, path, key).header("content-type", "application/json");
        request.body(body.into())
    }

    /// A chat with these members beside `model` and `messages`.
    pub async fn chat(&self, key: &VirtualKey, more: Value) -> Reply {
        self.post("/v1/chat/completions", key, chat_request(more)).await
    }

    /// A chat whose answer is read as it comes.
    pub async fn stream(&self, key: &VirtualKey, more: Value) -> Stream {
        let mut body = json!({ "stream": true });
        merge(&mut body, more);
        let request = self.json_request("/v1/chat/completions", key, chat_request(body));
        self.open(request).await
    }

    /// Sends a request and reads its answer as it comes.
    pub async fn open(&self, request: reqwest::RequestBuilder) -> Stream {
        Stream::new(soon("the head of an answer", request.send()).await.expect("an answer"))
    }

    /// A connection to the data plane.
    pub async fn raw(&self) -> RawClient {
        RawClient::connect(self.app.address).await
    }

    // The end.

    /// Stops it; live requests may take `timeout`.
    pub async fn stop(self, timeout: Duration) -> Stopped {
        let Self { app, config, clock, dir, .. } = self;
        let (drained, lost) = app.stop(timeout, std::future::pending()).await;
        Stopped { drained, lost, again: Setup { config, clock, metrics: keystile::app::metrics(), dir } }
    }

    /// Another gateway with the same settings on the same data.
    pub fn another(&self) -> Setup {
        let (config, clock, dir) = (self.config.clone(), self.clock.clone(), Arc::clone(&self.dir));
        Setup { config, clock, metrics: keystile::app::metrics(), dir }
    }

    /// Another gateway on the same database, with a data directory of its own.
    pub fn beside(&self) -> Setup {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = self.config.clone();
        config.server.data_dir = dir.path().join("data");
        Setup { config, clock: self.clock.clone(), metrics: keystile::app::metrics(), dir: Arc::new(dir) }
    }

    /// Where its database is.
    pub fn database_url(&self) -> String {
        match &self.config.database_url {
            Some(url) => url.0.to_string(),
            None => sqlite_url(&self.config.database_file().expect("a file")),
        }
    }
}

/// How a gateway stopped, and how to start it again on the same data.
pub struct Stopped {
    pub drained: Drained,
    pub lost: usize,
    pub again: Setup,
}

/// A chat's body. Other models and messages may stand in `more`.
pub fn chat_request(more: Value) -> String {
    let mut body =
        json!({ "model": "openai/gpt-4o-mini", "messages": [{ "role": "user", "content": "hello" }] });
    merge(&mut body, more);
    body.to_string()
}

fn merge(body: &mut Value, more: Value) {
    let (Value::Object(body), Value::Object(more)) = (body, more) else { panic!("objects") };
    body.extend(more);
}
