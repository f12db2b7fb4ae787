//! A house to test in: what is sent and what comes back.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use serde_json::{Value, json};
use tower::ServiceExt;
use zeroize::Zeroizing;

use crate::{
    admin::{AdminSettings, router},
    catalogue::Catalogue,
    config::SecretText,
    control::{
        AuditKey, Control, NewUser, Notify, Parts, Prober, SecretInput, Settings, Sight, StagedKey, Verdict,
    },
    domain::{
        Actor, AttemptOutcome, AttemptRecord, Clock, CostLine, EgressPolicy, ModelName, ModelRef, NanoUsd,
        Outcome, PricePerMillion, ProviderKeyId, RequestId, Role, SessionId, TenantId, Timestamp, TokenClass,
        TokenUsage, UsageRecord, UsageSource, VirtualKeyId, Windows, Zone,
    },
    limits::Ticks,
    store::{
        ProviderKey, StoredSession, TenantScope, Tx, session_insert,
        testing::{self, TestStore},
    },
    vault::{
        Fingerprinter, HouseSecret, KeyRing, Passwords, Pepper, SessionKey, SessionSubject, Sessions, Vault,
    },
};

pub(super) const PASSWORD: &str = "correct horse battery staple";
pub(super) const CANARY: &str = "sk-canary-0123456789abcdef";

/// What is done while a provider is asked.
type Meanwhile = Arc<Mutex<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>>;

pub(super) struct House {
    pub control: Control,
    pub clock: Clock,
    pub ticks: Ticks,
    pub told: Arc<Mutex<Vec<Option<TenantId>>>>,
    /// What providers say to staged secrets.
    pub verdict: Arc<Mutex<Verdict>>,
    /// What happens while they think, once each.
    pub meanwhile: Meanwhile,
    pub default_tenant: TenantId,
    pub owner: String,
    app: Router,
    /// Goes with its directory or database.
    _store: TestStore,
}

pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.code().as_str()), (status, code), "{}", self.text);
        assert!(self.json()["error"]["message"].is_string());
    }
}

impl House {
    pub async fn new() -> Self {
        Self::with(true).await
    }

    /// With or without the operator's leave to fetch keys.
    pub async fn with(allow_retrieval: bool) -> Self {
        let store = testing::store().await;
        let clock = Clock::manual(Timestamp::parse("2026-11-21T12:00:00Z").expect("a time"));
        let ticks = Ticks::manual();
        let ring = KeyRing::from_texts(&[KeyRing::generate()]).expect("a key ring");
        let pepper = HouseSecret::generate();
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        let verdict = Arc::new(Mutex::new(Verdict::Answered(200)));
        let answers = Arc::clone(&verdict);
        let meanwhile: Meanwhile = Arc::default();
        let happens = Arc::clone(&meanwhile);
        let fingerprints = Arc::new(Fingerprinter::new(&pepper));
        let session_key = SessionKey::from_house(&HouseSecret::generate());
        let control = Control::new(Parts {
            store: store.clone(),
            vault: Arc::new(Vault::new(ring, clock.clone())),
            fingerprints,
            pepper: Arc::new(Pepper::new(pepper)),
            audit_key: AuditKey::new(HouseSecret::generate()),
            passwords: Arc::new(Passwords::new().expect("a decoy")),
            sessions: Arc::new(Sessions::new(vec![session_key], Duration::from_secs(86_400)).expect("a key")),
            catalogue: Arc::new(Catalogue::bundled()),
            ledger: None,
            clock: clock.clone(),
            ticks: ticks.clone(),
            notify: Notify::new(move |tenant, _| hears.lock().expect("not poisoned").push(tenant)),
            prober: Prober::new(move |key: StagedKey| {
                let verdict = *answers.lock().expect("not poisoned");
                let happens = std::mem::take(&mut *happens.lock().expect("not poisoned"));
                async move {
                    assert!(key.sealed.starts_with("v1."), "nothing but what is sealed is handed on");
                    for thing in happens {
                        thing.await;
                    }
                    verdict
                }
            }),
            settings: Settings {
                egress: EgressPolicy::new([("127.0.0.1".to_owned(), 9_000)]),
                allow_retrieval,
                retrievable_by_default: false,
                sight: Sight { here: None, shared: true, release_after: Duration::from_secs(90) },
            },
        });
        let default_tenant = control.ensure_default_tenant().await.expect("a tenant");
        let password = SecretText(Zeroizing::new(PASSWORD.to_owned()));
        assert!(control.ensure_first_admin("Root@Example.com", &password).await.expect("an admin"));
        let app = router(
            control.clone(),
            &AdminSettings { hosts: vec!["admin.example".into()], ..AdminSettings::default() },
        );
        let owner = String::new();
        let mut house = Self {
            control,
            clock,
            ticks,
            told,
            verdict,
            meanwhile,
            default_tenant,
            owner,
            app,
            _store: store,
        };
        house.owner = house.session_of("root@example.com").await;
        house
    }

    /// A session of whoever has that address, which nobody logged in for.
    pub async fn session_of(&self, email: &str) -> String {
        let store = &self.control.store;
        let user = store.user_with_email(email).await.expect("read").expect("a user");
        let (at, ttl) = (self.clock.now(), self.control.sessions.ttl());
        let session = StoredSession {
            id: SessionId::generate(),
            user_id: user.id,
            created_at: at,
            seen_at: at,
            expires_at: at.plus(ttl),
            ended_at: None,
            address: None,
        };
        store.write(async |tx: &Tx| session_insert(tx, &session).await).await.expect("written");
        let subject = SessionSubject {
            session: session.id,
            user: user.id,
            role: user.role,
            tenant: user.tenant_id,
            session_version: user.session_version,
        };
        self.control.sessions.issue(&subject, at)
    }

    /// Sends a request as it is. No provider key may come back.
    pub async fn raw(&self, request: Request<Body>) -> Answer {
        let answer = self.fetch(request).await;
        assert!(!answer.text.contains(CANARY), "a provider key came out: {}", answer.text);
        answer
    }

    /// Sends a request whose answer may have a provider key in it.
    pub async fn fetch(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.expect("the router is infallible");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.expect("a body");
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        for name in ["cache-control", "x-content-type-options", "content-security-policy", "referrer-policy"]
        {
            assert!(parts.headers.contains_key(name), "{name}");
        }
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        self.send_with(method, path, token, body, &[]).await
    }

    pub async fn send_with(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:8081");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(value) => {
                request = request.header("content-type", "application/json");
                Body::from(value.to_string())
            }
            None => Body::empty(),
        };
        self.raw(request.body(body).expect("a request")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Some(&self.owner), None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(&self.owner), Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, Some(&self.owner), Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, Some(&self.owner), Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, Some(&self.owner), None).await
    }

    pub async fn tenant(&self, name: &str) -> TenantId {
        let made = self.post("/api/tenants", json!({"name": name})).await.expect(201);
        made["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
    }

    /// A user of that role, and their session.
    pub async fn user(&self, role: Role, tenant: TenantId) -> (String, String) {
        let email = format!("{}-{}@example.com", role.as_str(), RequestId::generate());
        let asked = NewUser {
            email: email.clone(),
            password: SecretInput::new(PASSWORD.to_owned()),
            role,
            tenant_id: Some(tenant.to_string()),
        };
        let user = self.control.user_create(&Actor::Cli, asked, None).await.expect("a user");
        (user.id.to_string(), self.session_of(&user.email).await)
    }

    /// A new service token of `tenant`.
    pub async fn service(&self, name: &str, tenant: TenantId) -> String {
        let asked = json!({"service_name": name, "tenant_id": tenant.to_string()});
        let made = self.post("/api/service-tokens", asked).await.expect(201);
        made["token"].as_str().expect("a token").to_owned()
    }

    /// What a service is answered that asks for its tenant's key at `provider`.
    pub async fn retrieve(&self, provider: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request =
            Request::builder().uri(format!("/api/v1/keys/{provider}")).header("host", "127.0.0.1:8081");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.fetch(request.body(Body::empty()).expect("a request")).await
    }

    /// The newest entries of the audit log: actor, action, outcome, object, details.
    pub async fn audited(&self, count: usize) -> Vec<Value> {
        let log = self.get(&format!("/api/v1/audit?limit={count}")).await.expect(200);
        log["data"].as_array().expect("entries").clone()
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.set(self.clock.now().plus(Duration::from_secs(seconds)));
    }

    /// The row of a provider key, given as it was answered.
    pub async fn sealed(&self, key: &Value) -> ProviderKey {
        let id = key["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        self.control.store.provider_key(TenantScope::house(), id).await.expect("a key")
    }

    pub async fn record(&self, records: &[UsageRecord]) {
        self.control
            .store
            .write(async |tx: &Tx| crate::store::usage::write_usage(tx, records).await)
            .await
            .expect("written");
    }
}

/// A finished request.
pub(super) fn usage(
    tenant: TenantId,
    key: VirtualKeyId,
    model: &str,
    at: &str,
    nano: Option<i64>,
) -> UsageRecord {
    let served_model = ModelRef::parse(model).expect("a model");
    let provider_key_id = ProviderKeyId::generate();
    let price = PricePerMillion::new(1_500_000).expect("a price");
    UsageRecord {
        request_id: RequestId::generate(),
        started_at: Timestamp::parse(at).expect("a time"),
        windows: Windows::of(Timestamp::parse(at).expect("a time"), Zone::UTC),
        scopes: [key.into(), tenant.into()].into(),
        tenant_id: tenant,
        virtual_key_id: key,
        provider_key_id,
        requested_model: ModelName::parse("fast").expect("a name"),
        status: 200,
        outcome: Outcome::Ok,
        attempts: vec![AttemptRecord {
            provider: served_model.provider.clone(),
            model: served_model.model.clone(),
            provider_key_id,
            status: Some(200),
            outcome: AttemptOutcome::Ok,
            latency_ms: 12,
        }],
        served_model,
        stream: true,
        usage: TokenUsage { input: 100, cache_read: 20, output: 7, reasoning: 3, ..TokenUsage::default() },
        cost: nano.map(NanoUsd::new),
        cost_lines: vec![
            CostLine { class: TokenClass::Input, tokens: 100, micro_usd_per_million: price },
            CostLine { class: TokenClass::Output, tokens: 7, micro_usd_per_million: price },
        ],
        clamped: NanoUsd::ZERO,
        price_version: nano.map(|_| "catalogue:2026-11-20".into()),
        usage_source: UsageSource::Provider,
        latency_ms: 34,
        time_to_first_token_ms: Some(5),
        tags: Arc::new([("team".to_owned(), "=cmd()".to_owned())].into()),
    }
}
