//! Every route, asked by everybody: what comes back is what the reviewed `routes.matrix` says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use keystile::{admin::document, gateway};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Reply, Setup, Upstream, VirtualKey, chat_ok, eventually,
    gateway::{ADMIN_EMAIL, ADMIN_PASSWORD},
    usage,
};

const FILE: &str = include_str!("routes.matrix");

/// A part of the file: whom its columns are about, and a row a route.
pub struct Part {
    pub who: Vec<&'static str>,
    pub rows: Vec<(&'static str, Vec<u16>)>,
}

impl Part {
    /// The status that `who` is answered by the route of a row.
    pub fn status(&self, row: &[u16], who: &str) -> u16 {
        row[self.who.iter().position(|each| *each == who).expect("a column")]
    }
}

/// The part of the file below `[name]`.
pub fn part(name: &str) -> Part {
    let start = format!("[{name}]");
    let mut lines = FILE.lines().skip_while(|line| *line != start).skip(1);
    let who: Vec<_> = lines.next().expect("a head").split_whitespace().skip(2).collect();
    let rows = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut row = Vec::new();
            let mut rest = line;
            for _ in &who {
                let (before, status) = rest.trim_end().rsplit_once(' ').expect("a column");
                row.insert(0, status.parse().expect("a status"));
                rest = before;
            }
            (rest.trim_end(), row)
        })
        .collect();
    Part { who, rows }
}

/// `METHOD /path` of every route in the document of the admin plane.
pub fn documented() -> BTreeSet<String> {
    let text = document().to_json().expect("a document");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            routes.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    routes
}

/// The rows of all routes of the admin plane that are there.
pub fn admin() -> Part {
    part("admin")
}

/// One tenant with something of everything, people of every role, and a stranger.
pub struct Cast {
    pub gateway: Gateway,
    pub upstream: Upstream,
    pub tenant: String,
    pub key: VirtualKey,
    /// By name of the column: the addresses of those who can log in, and their sessions.
    people: BTreeMap<&'static str, String>,
    pub sessions: BTreeMap<&'static str, String>,
    /// A session that was good a day ago.
    expired: String,
    service_token: String,
    /// What is there, by the path of its list.
    pub things: BTreeMap<&'static str, String>,
}

pub fn id(made: &Value) -> String {
    made["id"].as_str().expect("an id").to_owned()
}

impl Cast {
    pub async fn assemble() -> Self {
        let upstream = Upstream::scripted(|seen, _| answer(&seen.path)).await;
        let gateway = Setup::new()
            .await
            .allow(&upstream)
            .at("2026-11-20T12:00:00Z")
            .with(|config| {
                config.admin.session_ttl = Duration::from_secs(3 * 86_400);
                config.vault.allow_retrieval = true;
            })
            .start()
            .await;
        let expired = gateway.app.control.sign_owner_session(Duration::from_secs(60)).await.expect("signed");
        let tenant = id(&gateway.create("/api/tenants", json!({ "name": "acme" })).await);
        let other = id(&gateway.create("/api/tenants", json!({ "name": "other" })).await);
        let of_tenant = json!({ "tenant_id": tenant });
        let with = |mut body: Value| {
            body["tenant_id"] = tenant.as_str().into();
            body
        };

        let mut things = BTreeMap::from([("/api/tenants", tenant.clone())]);
        let retrievable = with(json!({ "retrievable": true }));
        things.insert("/api/keys", gateway.provider_key_with("openai", &upstream, retrievable).await);
        let key = gateway.virtual_key(of_tenant).await;
        things.insert("/api/virtual-keys", key.id.clone());
        let budget = with(json!({ "name": "all", "cap_micro_usd": null, "window": "total" }));
        things.insert("/api/budgets", id(&gateway.create("/api/budgets", budget).await));
        let alias = with(json!({ "name": "fast", "models": ["openai/gpt-4o-mini"] }));
        things.insert("/api/aliases", id(&gateway.create("/api/aliases", alias).await));
        gateway.chat(&key, json!({})).await.expect(200);
        // Written by and by: whoever compares what there is before and after must not see it come.
        eventually("the use of the key", || async {
            gateway.get("/api/keys").await[0]["last_used_at"].is_string().then_some(())
        })
        .await;
        let request = gateway.only_usage().await["request_id"].as_str().expect("an id").to_owned();
        things.insert("/api/usage", request);
        things.insert("/api/instances", "none".into());

        let mut people = BTreeMap::from([("owner", ADMIN_EMAIL.to_owned())]);
        for (who, role, tenant) in [
            ("admin", "tenant_admin", &tenant),
            ("finance", "finance", &tenant),
            ("auditor", "auditor", &tenant),
            ("other", "tenant_admin", &other),
        ] {
            let email = format!("{who}@example.com");
            let user =
                json!({ "email": email, "password": ADMIN_PASSWORD, "role": role, "tenant_id": tenant });
            let made = gateway.create("/api/users", user).await;
            if who == "finance" {
                things.insert("/api/users", id(&made));
            }
            people.insert(who, email);
        }

        let made = gateway.create("/api/service-tokens", with(json!({ "service_name": "batch" }))).await;
        let service_token = made["token"].as_str().expect("a token").to_owned();
        things.insert("/api/service-tokens", id(&made));
        things.insert("/api/v1/keys", "openai".into());
        let variable = with(json!({ "name": "region", "value": "eu", "sensitive": false }));
        things.insert("/v1/config-variables", id(&gateway.create("/v1/config-variables", variable).await));

        let sessions = BTreeMap::new();
        let mut cast =
            Self { gateway, upstream, tenant, key, people, sessions, expired, service_token, things };
        for who in ["owner", "admin", "finance", "auditor", "other"] {
            cast.log_in(who).await;
        }
        let own =
            cast.gateway.admin_as(&cast.sessions["finance"], Method::GET, "/api/auth/session", None).await;
        let own = own.expect(200).json()["session_id"].as_str().expect("an id").to_owned();
        cast.things.insert("/api/auth/sessions", own);
        cast
    }

    async fn log_in(&mut self, who: &'static str) {
        let login = json!({ "email": self.people[who], "password": ADMIN_PASSWORD });
        let reply = self.gateway.admin_as("", Method::POST, "/api/auth/login", Some(&login)).await;
        let token = reply.expect(200).json()["token"].as_str().expect("a token").to_owned();
        self.sessions.insert(who, token);
    }

    /// The path of a route with the id of what is there, or with one that names nothing.
    pub fn path(&self, template: &str, there: bool) -> String {
        let Some((before, rest)) = template.split_once("/{") else { return template.to_owned() };
        let (_, after) = rest.split_once('}').expect("a closed brace");
        let thing = if there {
            self.things.get(before).unwrap_or_else(|| panic!("make something for `{before}` in `Cast`"))
        } else {
            "none"
        };
        format!("{before}/{thing}{after}")
    }

    /// A request to the admin plane as somebody.
    async fn ask(&self, who: &str, method: &str, path: &str) -> Reply {
        let token = match who {
            "none" | "service" => "",
            "garbage" => "garbage.x.y",
            "expired" => &self.expired,
            "vkey" => &self.key.key,
            person => &self.sessions[person],
        };
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.gateway.admin_request(method.clone(), path);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if who == "service" {
            request = request.header("x-service-token", &self.service_token);
        }
        if method != Method::GET && method != Method::DELETE {
            request = request.json(&json!({ "?": 1 }));
        }
        self.gateway.send(request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_007_every_route_of_the_admin_plane_answers_everybody_as_the_reviewed_file_says() {
    let mut cast = Cast::assemble().await;
    // What was good for a day is not any more.
    cast.gateway.turn_clock("2026-11-21T12:00:10Z");
    let (admin, machines) = (admin(), part("machines"));
    let routes: BTreeMap<_, _> = admin.rows.iter().map(|(route, row)| (route.to_string(), row)).collect();
    let machines = machines.rows.iter().map(|(route, row)| (route.to_string(), row));
    let mut wrong = Vec::new();
    let all = documented().into_iter().map(|route| (routes.get(&route).copied(), route));
    for (row, route) in all.chain(machines.map(|(route, row)| (Some(row), route))) {
        let (method, template) = route.split_once(' ').expect("a method and a path");
        let path = cast.path(template, method == "GET");
        let mut seen = Vec::new();
        for who in admin.who.clone() {
            if template.starts_with("/api/v1/keys/") {
                // An address that shows no service token five times in a minute is told to wait.
                let clock = &cast.gateway.clock;
                clock.set(clock.now().plus(Duration::from_secs(61)));
            }
            let status = cast.ask(who, method, &path).await.status;
            if status == 204 && path.starts_with("/api/auth/log") {
                cast.log_in(who).await;
            }
            seen.push(status);
        }
        if row != Some(&seen) {
            let cells =
                admin.who.iter().zip(&seen).map(|(who, status)| format!("{status:>0$}", who.len().max(3)));
            wrong.push(format!("{route:<46}{}", cells.collect::<Vec<_>>().join(" ")));
        }
    }
    assert!(
        wrong.is_empty(),
        "not as `tests/it/routes.matrix` says; review these rows:\n{}",
        wrong.join("\n")
    );
    let gone: Vec<_> = routes.keys().filter(|route| !documented().contains(*route)).collect();
    assert!(gone.is_empty(), "rows without a route: {gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_007_every_route_of_the_data_plane_answers_every_key_as_the_reviewed_file_says() {
    let cast = Cast::assemble().await;
    let gateway = &cast.gateway;
    let key = async |mut limits: Value| {
        limits["tenant_id"] = cast.tenant.as_str().into();
        gateway.virtual_key(limits).await
    };
    let (revoked, expired) = (key(json!({})).await, key(json!({ "expires_in_days": 1 })).await);
    let restricted = key(json!({ "models_allowed": ["openai/gpt-4.1"] })).await;
    for good in [&revoked, &expired] {
        gateway.chat(good, json!({})).await.expect(200);
    }
    let revoke = format!("/api/virtual-keys/{}/revoke", revoked.id);
    gateway.admin(Method::POST, &revoke, None).await.expect(200);
    gateway.turn_clock("2026-11-21T12:00:10Z");

    let data = part("data");
    let rows: BTreeMap<_, _> = data.rows.iter().map(|(route, row)| (route.to_string(), row)).collect();
    let mut wrong = Vec::new();
    let mut routes = BTreeSet::new();
    for (method, template) in gateway::routes() {
        let route = format!("{method} {template}");
        let path = template.replace("{id}", "openai%2Fgpt-4o-mini");
        let mut seen = Vec::new();
        for who in &data.who {
            let token = match *who {
                "none" => "",
                "garbage" => "garbage",
                "revoked" => &revoked.key,
                "expired" => &expired.key,
                "session" => &cast.sessions["owner"],
                "service" => &cast.service_token,
                "restricted" => &restricted.key,
                "full" => &cast.key.key,
                other => panic!("who is `{other}`?"),
            };
            let mut request = gateway.data_request(method.clone(), &path);
            if !token.is_empty() {
                request = request.bearer_auth(token);
            }
            if method == Method::POST {
                request = request.json(&good_body(&template));
            }
            seen.push(gateway.send(request).await.status);
        }
        if rows.get(&route) != Some(&&seen) {
            let cells =
                data.who.iter().zip(&seen).map(|(who, status)| format!("{status:>0$}", who.len().max(3)));
            wrong.push(format!("{route:<46}{}", cells.collect::<Vec<_>>().join(" ")));
        }
        routes.insert(route);
    }
    assert!(
        wrong.is_empty(),
        "not as `tests/it/routes.matrix` says; review these rows:\n{}",
        wrong.join("\n")
    );
    let gone: Vec<_> = rows.keys().filter(|route| !routes.contains(*route)).collect();
    assert!(gone.is_empty(), "rows without a route: {gone:?}");
}

/// What a provider says at this path.
fn answer(path: &str) -> Answer {
    let counted = json!({ "input_tokens": 10, "output_tokens": 5, "total_tokens": 15 });
    match path.rsplit('/').next() {
        Some("embeddings") => Answer::json(
            200,
            &json!({ "object": "list", "model": "gpt-4o-mini", "data": [{ "object": "embedding", "index": 0,
                "embedding": [0.5] }], "usage": { "prompt_tokens": 10, "total_tokens": 10 } }),
        ),
        Some("responses") => Answer::json(
            200,
            &json!({ "id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
                "model": "gpt-4o-mini", "output": [{ "type": "message", "id": "msg_1", "role": "assistant",
                "status": "completed", "content": [{ "type": "output_text", "text": "hi", "annotations": [] }] }],
                "usage": counted }),
        ),
        _ => chat_ok("hi", &usage(10, 5)),
    }
}

/// What this path of the data plane takes.
fn good_body(path: &str) -> Value {
    let mut body = json!({ "model": "openai/gpt-4o-mini" });
    let said = json!([{ "role": "user", "content": "hello" }]);
    match path {
        "/v1/chat/completions" | "/v1/messages/count_tokens" => body["messages"] = said,
        "/v1/messages" => {
            body["messages"] = said;
            body["max_tokens"] = 16.into();
        }
        "/v1/completions" => body["prompt"] = "hello".into(),
        "/v1/embeddings" | "/v1/responses" => body["input"] = "hello".into(),
        other => panic!("say what `{other}` takes"),
    }
    body
}
