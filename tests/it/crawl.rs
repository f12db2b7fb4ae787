//! Everybody asks for everything the admin plane describes, in every way that might make it say more than it should. What
//! is crawled is read from the document, so that a new route is crawled too.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use keystile::admin::document;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{
    Gateway, Setup, Upstream, chat_ok,
    gateway::{ADMIN_EMAIL, ADMIN_PASSWORD, http_client},
    soon, usage,
};

/// Uploaded as retrievable: it may be in the one answer.
const SHARED: &str = "sk-proj-canarySHAREDkey7Hw2qk0abcdefghijklmnop";
/// Not retrievable: it may be in none.
const KEPT: &str = "sk-proj-canaryKEPTkey4Zt9vb0abcdefghijklmnopqr";
const PASSWORD: &str = "stile-latch-hinge-post-92";
const WHO: [&str; 6] = ["nobody", "service", "auditor", "finance", "tenant_admin", "owner"];
const FETCH: &str = "/api/v1/keys/{provider}";

const QUERIES: [&str; 10] = [
    "",
    "?include=secret,sealed,api_key,value",
    "?fields=*",
    "?fields=api_key,sealed&expand=all",
    "?reveal=true&decrypt=1&show=secrets&raw=1&plaintext=true",
    "?format=csv",
    "?limit=500&cursor=!",
    "?limit=500",
    "?group_by=provider,key,tag:api_key",
    "?tenant_id=*",
];

/// A gateway with something in every list, and everybody who may ask.
struct Crawl {
    gateway: Gateway,
    http: reqwest::Client,
    tokens: BTreeMap<&'static str, String>,
    /// Whether each was answered with something, ever.
    answered: BTreeSet<&'static str>,
}

impl Crawl {
    async fn start(upstream: &Upstream) -> Self {
        let setup = Setup::new().await.allow(upstream).with(|config| config.vault.allow_retrieval = true);
        let gateway = setup.start().await;
        let shared = json!({"api_key": SHARED, "retrievable": true});
        gateway.provider_key_with("openai", upstream, shared).await;
        gateway.provider_key_with("groq", upstream, json!({"api_key": KEPT})).await;
        let budget = gateway
            .create("/api/budgets", json!({"name": "b", "cap_micro_usd": null, "window": "total"}))
            .await;
        let key = gateway.virtual_key(json!({"budgets": [budget["id"]]})).await;
        gateway.create("/api/aliases", json!({"name": "fast", "models": ["openai/gpt-4o-mini"]})).await;
        gateway.create("/api/tenants", json!({"name": "other"})).await;
        // The first of the list is the one that is rotated and deleted.
        gateway.create("/api/service-tokens", json!({"service_name": "decoy"})).await;
        let made = gateway.create("/api/service-tokens", json!({"service_name": "crawler"})).await;
        for role in &WHO[2..5] {
            let email = format!("{role}@example.com");
            gateway.create("/api/users", json!({"email": email, "password": PASSWORD, "role": role})).await;
        }
        gateway.chat(&key, json!({})).await.expect(200);
        gateway.usage_of(1).await;
        let tokens = BTreeMap::from([("service", made["token"].as_str().expect("a token").to_owned())]);
        let mut crawl = Self { gateway, http: http_client(), tokens, answered: BTreeSet::new() };
        for who in &WHO[2..] {
            crawl.log_in(who).await;
        }
        crawl
    }

    async fn log_in(&mut self, who: &'static str) {
        let email = if who == "owner" { ADMIN_EMAIL.to_owned() } else { format!("{who}@example.com") };
        let password = if who == "owner" { ADMIN_PASSWORD } else { PASSWORD };
        let asked = json!({"email": email, "password": password});
        let session = self.gateway.admin_as("", Method::POST, "/api/auth/login", Some(&asked)).await;
        let token = session.expect(200).json()["token"].as_str().expect("a token").to_owned();
        self.tokens.insert(who, token);
    }

    /// Asks as `who`, and looks at everything that comes back.
    async fn ask(
        &mut self,
        who: &'static str,
        method: &Method,
        template: &str,
        url: &str,
        body: Option<&str>,
    ) {
        let request =
            self.http.request(method.clone(), format!("http://{}{url}", self.gateway.app.admin_address));
        let request = match (who, self.tokens.get(who)) {
            ("service", Some(token)) => request.header("x-service-token", token),
            (_, Some(token)) => request.bearer_auth(token),
            (_, None) => request,
        };
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_owned()),
            None => request,
        };
        let (status, head, text) = read(request).await;
        let said = format!("{who}: {method} {url} {body:?} -> {status}");
        let the_one = who == "service" && *method == Method::GET && template == FETCH && status == 200;
        for (canary, allowed) in [(SHARED, the_one), (KEPT, false)] {
            assert_eq!(text.contains(canary), allowed, "{said}");
            assert!(!head.contains(canary), "{said}");
            let encoded = STANDARD.encode(canary);
            assert!(!text.contains(&encoded[..encoded.len() - 4]), "{said}");
        }
        if status < 300 {
            self.answered.insert(who);
        }
        // What was just asked for may have ended the session.
        if status == 401 && !matches!(who, "nobody" | "service") && template != FETCH {
            self.log_in(who).await;
        }
    }

    /// The path with ids of things that are there, as the lists say them.
    async fn filled(&self, template: &str) -> String {
        let Some((list, rest)) = template.split_once("/{") else { return template.to_owned() };
        let name = rest.split('}').next().unwrap_or_default();
        let found = match name {
            "provider" => Some("openai".to_owned()),
            name => {
                let reply = self.gateway.admin(Method::GET, list, None).await;
                let listed = if reply.status == 200 { reply.json() } else { Value::Null };
                let first = if listed.is_array() { &listed[0] } else { &listed["data"][0] };
                first[name].as_str().map(str::to_owned)
            }
        };
        let found = found.unwrap_or_else(|| "none".to_owned());
        template.replacen(&format!("{{{name}}}"), &found, 1).replace(['{', '}'], "")
    }
}

async fn read(request: RequestBuilder) -> (u16, String, String) {
    let answer = soon("an answer", request.send()).await.expect("an answer");
    let (status, head) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
    let bytes = soon("a body", answer.bytes()).await.expect("a body");
    (status, head, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_058_no_answer_but_the_one_to_a_service_has_a_provider_key_in_it() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let mut crawl = Crawl::start(&upstream).await;
    let document: Value = serde_json::from_str(&document().to_json().expect("a document")).expect("JSON");
    let mut templates: Vec<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    assert!(templates.len() > 20 && templates.iter().any(|template| template == FETCH), "{templates:?}");
    templates.extend(["/", "/health", "/ready", "/metrics", "/api", "/api/v1/keys"].map(str::to_owned));

    for template in &templates {
        let path = crawl.filled(template).await;
        for who in WHO {
            for query in QUERIES {
                crawl.ask(who, &Method::GET, template, &format!("{path}{query}"), None).await;
            }
            for method in [Method::HEAD, Method::OPTIONS, Method::TRACE] {
                crawl.ask(who, &method, template, &path, None).await;
            }
        }
    }
    assert_eq!(crawl.answered, BTreeSet::from(WHO), "everybody was answered something");

    let misplaced =
        format!(r#"{{"provider":"openai","key_name":"k","api_key":"{SHARED}","weight":"{KEPT}"}}"#);
    let nested = format!(r#"{{"api_key":["{SHARED}"],"name":{{"value":"{KEPT}"}},"value":"{SHARED}"}}"#);
    let unknown = format!(r#"{{"api_key":"{SHARED}","base_url":"http://10.0.0.1","secret":"{KEPT}"}}"#);
    let broken = format!(r#"{{"api_key":"{SHARED}"#);
    let bodies = ["{}", misplaced.as_str(), nested.as_str(), unknown.as_str(), broken.as_str()];
    for template in &templates {
        for who in WHO {
            let path = crawl.filled(template).await;
            for method in [Method::POST, Method::PUT, Method::PATCH] {
                crawl.ask(who, &method, template, &path, None).await;
                for body in bodies {
                    crawl.ask(who, &method, template, &path, Some(body)).await;
                }
            }
        }
    }
    for template in templates.iter().rev() {
        for who in WHO {
            let path = crawl.filled(template).await;
            crawl.ask(who, &Method::DELETE, template, &path, None).await;
        }
    }
    // What was said of all this.
    for path in ["/api/v1/audit?limit=500", "/metrics"] {
        crawl.ask("owner", &Method::GET, path, path, None).await;
    }
    // A backup is a copy of these files.
    let Crawl { gateway, http, .. } = crawl;
    drop(http);
    let dir = gateway.config.server.data_dir.clone();
    let stopped = gateway.stop(std::time::Duration::from_secs(5)).await;
    let mut looked_at = 0;
    let mut open = vec![dir];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                open.push(entry);
                continue;
            }
            let bytes = std::fs::read(&entry).expect("a file");
            for canary in [SHARED, KEPT] {
                let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!found, "{}", entry.display());
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 0);
    drop(stopped);
}
