//! Attacks on tenancy and on sessions, over sockets. Those that every route must bear are made from the document of the
//! admin plane, so that a new route bears them too or fails.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use keystile::{
    admin::document,
    app::{App, StartOptions},
    config::{Config, SecretText},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    matrix::{self, Cast},
    support::{
        Gateway, Reply, Setup, Upstream, chat_ok,
        gateway::{ADMIN_EMAIL, ADMIN_PASSWORD, http_client},
        usage,
    },
};

/// The document of the admin plane.
struct Document(Value);

impl Document {
    fn new() -> Self {
        Self(serde_json::from_str(&document().to_json().expect("a document")).expect("JSON"))
    }

    /// Method, path and description of every route.
    fn operations(&self) -> Vec<(Method, &str, &Value)> {
        let mut all = Vec::new();
        for (path, operations) in self.0["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
                all.push((method, path.as_str(), operation));
            }
        }
        all
    }

    /// What a `$ref` means.
    fn schema<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|text| text.strip_prefix("#/components/schemas/")) {
            Some(name) => &self.0["components"]["schemas"][name],
            None => schema,
        }
    }

    /// The schema of what a route takes, if it takes anything.
    fn body<'a>(&'a self, operation: &'a Value) -> Option<&'a Value> {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        (!schema.is_null()).then(|| self.schema(schema))
    }

    /// The members of an object, also of one that is put together of several.
    fn members<'a>(&'a self, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
        let mut all = Vec::new();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            all.extend(self.members(self.schema(part)));
        }
        let own = schema["properties"].as_object().into_iter().flatten();
        all.extend(own.map(|(name, member)| (name.as_str(), member)));
        all
    }

    /// The smallest body that a route takes.
    fn sample(&self, schema: &Value) -> Value {
        let schema = self.schema(schema);
        let mut body = json!({});
        for part in schema["allOf"].as_array().into_iter().flatten() {
            merge(&mut body, self.sample(part));
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("a name");
            body[name] = self.value(name, &schema["properties"][name]);
        }
        body
    }

    fn value(&self, name: &str, schema: &Value) -> Value {
        let schema = self.schema(schema);
        match name {
            "email" => return "someone@example.com".into(),
            "password" | "new_password" => return "a phrase that is long".into(),
            "role" => return "finance".into(),
            "provider" => return "openai".into(),
            "api_key" => return "sk-another-key-0123456789".into(),
            "models" => return json!(["openai/gpt-4o-mini"]),
            "window" => return "total".into(),
            _ => {}
        }
        if let Some(first) = schema["enum"].get(0) {
            return first.clone();
        }
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object");
        match kind {
            "string" => "sample".into(),
            "integer" | "number" => 1.into(),
            "boolean" => true.into(),
            "array" => json!([]),
            _ => self.sample(schema),
        }
    }
}

fn merge(body: &mut Value, more: Value) {
    if let (Value::Object(body), Value::Object(more)) = (body, more) {
        body.extend(more);
    }
}

/// What `other` is answered, who administers another tenant.
async fn as_other(cast: &Cast, method: &Method, path: &str, body: Option<&Value>) -> Reply {
    cast.gateway.admin_as(&cast.sessions["other"], method.clone(), path, body).await
}

fn not_found(reply: &Reply, said: &str) {
    assert_eq!(reply.status, 404, "{said}: {}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "not_found", "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_072_on_every_route_that_takes_an_id_another_tenants_is_not_there() {
    let cast = Cast::assemble().await;
    let document = Document::new();
    let admin = matrix::admin();
    let is_theirs = |route: &str| {
        let (_, row) = admin.rows.iter().find(|(each, _)| *each == route).expect("a row");
        admin.status(row, "other") == 403 || admin.status(row, "other") == 401
    };
    let seen = async || {
        let mut all = Vec::new();
        for (method, path, _) in document.operations() {
            let sessions =
                path.contains("sessions") || path.starts_with("/api/v1") || path.contains("instances");
            if method == Method::GET && path.contains("/{") && !sessions {
                all.push(cast.gateway.get(&cast.path(path, true)).await);
            }
        }
        all
    };
    let before = seen().await;
    let mut tried = 0;
    for (method, path, operation) in document.operations() {
        if !path.contains("/{") || path.starts_with("/api/v1/keys/") {
            continue;
        }
        let theirs = cast.path(path, true);
        let body = document.body(operation).map(|schema| match method {
            Method::PATCH => json!({}),
            _ => document.sample(schema),
        });
        let reply = as_other(&cast, &method, &theirs, body.as_ref()).await;
        let said = format!("{method} {theirs} {body:?}");
        if is_theirs(&format!("{method} {path}")) {
            assert!(matches!(reply.status, 401 | 403), "{said}: {}", reply.text());
        } else {
            not_found(&reply, &said);
            // And not in other words than what never was.
            let nothing = as_other(&cast, &method, &cast.path(path, false), body.as_ref()).await;
            assert_eq!(reply.text(), nothing.text(), "{said}");
        }
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
    assert_eq!(seen().await, before, "nothing has changed");
    cast.gateway
        .admin_as(&cast.sessions["finance"], Method::GET, "/api/auth/session", None)
        .await
        .expect(200);
    cast.gateway.chat(&cast.key, json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_073_another_tenants_ids_inside_a_body_or_a_query_are_not_there() {
    let cast = Cast::assemble().await;
    let document = Document::new();
    let theirs = |name: &str| -> Option<Value> {
        let id = |list: &str| Value::from(cast.things[list].as_str());
        match name {
            "tenant_id" => Some(id("/api/tenants")),
            "virtual_key_id" => Some(id("/api/virtual-keys")),
            "budgets" => Some(json!([id("/api/budgets")])),
            other if other.ends_with("_id") || other.ends_with("_ids") => {
                panic!("say which of the other tenant's ids `{other}` takes")
            }
            _ => None,
        }
    };
    let mut tried = 0;
    for (method, path, operation) in document.operations() {
        let schema = document.body(operation);
        for (name, _) in schema.map(|schema| document.members(schema)).unwrap_or_default() {
            // A member of an answer by that name is another matter; this one is sent.
            let Some(value) = theirs(name) else { continue };
            if path.contains("/{") && method != Method::PATCH {
                continue;
            }
            let mut body =
                if method == Method::PATCH { json!({}) } else { document.sample(schema.expect("one")) };
            body[name] = value;
            let path = if path.contains("/{") { own(&cast, path).await } else { path.to_owned() };
            let reply = as_other(&cast, &method, &path, Some(&body)).await;
            assert!(matches!(reply.status, 400 | 403 | 404), "{method} {path} {body}: {}", reply.text());
            tried += 1;
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().expect("a name");
            if parameter["in"] != "query" {
                continue;
            }
            let Some(value) = theirs(name) else { continue };
            let path = format!("{path}?{name}={}", value.as_str().expect("an id"));
            not_found(&as_other(&cast, &method, &path, None).await, &path);
            tried += 1;
        }
    }
    assert!(tried > 12, "{tried}");
    // Everything that was made by the way would be its own; nothing was.
    for path in ["/api/virtual-keys", "/api/budgets", "/api/aliases"] {
        let listed = as_other(&cast, &Method::GET, path, None).await.expect(200).json();
        let foreign = listed["data"]
            .as_array()
            .expect("rows")
            .iter()
            .filter(|row| row["tenant_id"] == cast.tenant.as_str());
        assert_eq!(foreign.count(), 0, "{path}");
    }
}

/// A thing of the other tenant's own, of the kind that `path` changes.
async fn own(cast: &Cast, path: &str) -> String {
    let (list, _) = path.split_once("/{").expect("a place for an id");
    let body = match list {
        "/api/virtual-keys" => json!({ "name": format!("own {}", cast.upstream.count()) }),
        other => panic!("make an own `{other}` to change"),
    };
    let made = as_other(cast, &Method::POST, list, Some(&body)).await.expect(201).json();
    format!("{list}/{}", matrix::id(&made))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_072_a_cursor_of_anothers_list_opens_nothing_of_it() {
    let cast = Cast::assemble().await;
    let document = Document::new();
    let mut tried = 0;
    for (method, path, operation) in document.operations() {
        let pages =
            operation["parameters"].as_array().into_iter().flatten().any(|each| each["name"] == "cursor");
        if method != Method::GET || !pages || path.contains("/{") || path.contains("sessions") {
            continue;
        }
        let page = cast.gateway.get(&format!("{path}?limit=1")).await;
        let Some(cursor) = page["next_cursor"].as_str() else { continue };
        let reply = as_other(&cast, &method, &format!("{path}?cursor={cursor}"), None).await;
        assert!(matches!(reply.status, 200 | 400), "{path}: {}", reply.text());
        for id in cast.things.values().filter(|id| *id != "none" && *id != "openai") {
            assert!(!reply.text().contains(id.as_str()), "{path} shows {id}");
        }
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}

#[tokio::test]
async fn at_071_a_key_wider_than_its_tenant_is_held_by_both() {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let narrow = json!({ "name": "narrow", "models_allowed": ["openai/gpt-4.1"], "spend_cap_micro_usd": 0 });
    let tenant = matrix::id(&gateway.create("/api/tenants", narrow).await);
    gateway.provider_key_with("openai", &upstream, json!({ "tenant_id": tenant })).await;
    let wide = json!({ "tenant_id": tenant, "models_allowed": null, "spend_cap_micro_usd": 1_000_000_000 });
    let key = gateway.virtual_key(wide).await;
    gateway.chat(&key, json!({})).await.refused(403, "model_not_allowed");
    gateway.chat(&key, json!({ "model": "openai/gpt-4.1" })).await.refused(402, "spend_cap_reached");
    assert_eq!(upstream.count(), 0);
}

/// A gateway with nothing but an administrator.
async fn bare() -> Gateway {
    Setup::new().await.start().await
}

async fn login(gateway: &Gateway, email: &str, password: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = gateway.admin_request(Method::POST, "/api/auth/login");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    gateway.send(request.json(&json!({ "email": email, "password": password }))).await
}

#[tokio::test]
async fn at_080_081_082_forged_sessions_are_refused_by_the_running_plane() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let token = login(&gateway, ADMIN_EMAIL, ADMIN_PASSWORD, &[]).await.expect(200).json()["token"]
        .as_str()
        .expect("one")
        .to_owned();
    let mut parts = token.split('.');
    let (head, claims, signature) =
        (parts.next().expect("a head"), parts.next().expect("claims"), parts.next().expect("one"));
    let read = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    };
    let write = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let with = |part: &str, member: &str, value: Value| {
        let mut changed = read(part);
        changed[member] = value;
        write(&changed)
    };
    let mut forged = vec![
        format!("{head}.{claims}."),
        format!("{head}.{claims}"),
        format!("{head}.{claims}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
        format!("{}.{claims}.", with(head, "alg", "none".into())),
        format!("{}.{claims}.{signature}", with(head, "alg", "none".into())),
        format!("{}.{claims}.{signature}", with(head, "alg", "EdDSA".into())),
        format!("{}.{claims}.{signature}", with(head, "alg", "HS512".into())),
    ];
    for kid in [
        json!("../x"),
        json!("/dev/null"),
        json!("' OR 1=1 --"),
        json!("k".repeat(10_240)),
        json!(null),
        json!(["house"]),
        json!("retired"),
    ] {
        forged.push(format!("{}.{claims}.{signature}", with(head, "kid", kid)));
    }
    for (member, value) in [
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("jwk", json!({ "kty": "oct", "k": "AAAA" })),
        ("crit", json!(["exp"])),
    ] {
        forged.push(format!("{}.{claims}.{signature}", with(head, member, value)));
    }
    for (member, value) in [
        ("role", json!("tenant_admin")),
        ("exp", json!(9_999_999_999_i64)),
        ("sv", json!(99)),
        ("sid", json!("ses_00000000000000000000000000000000")),
        ("aud", json!("everybody")),
    ] {
        forged.push(format!("{head}.{}.{signature}", with(claims, member, value)));
    }
    let asked = |token: String| {
        let gateway = &gateway;
        async move { gateway.admin_as(&token, Method::GET, "/api/auth/session", None).await }
    };
    for forgery in forged {
        assert_ne!(forgery, token);
        let token = forgery;
        let reply = asked(token.clone()).await;
        assert!(matches!(reply.status, 401 | 431), "{}: {token}", reply.status);
    }
    asked(token.clone()).await.expect(200);

    // A session is no virtual key, and a virtual key no session.
    let session = crate::support::VirtualKey { id: String::new(), key: token };
    gateway.chat(&session, json!({})).await.refused(401, "invalid_api_key");
    asked(key.key).await.expect(401);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn at_083_a_session_that_is_ended_is_refused_on_the_next_request() {
    let gateway = bare().await;
    let enter = async || {
        let reply = login(&gateway, ADMIN_EMAIL, ADMIN_PASSWORD, &[]).await.expect(200);
        reply.json()["token"].as_str().expect("a token").to_owned()
    };
    let (first, second) = (enter().await, enter().await);
    let ask = async |token: &str, method: Method, path: &str| {
        gateway.admin_as(token, method, path, None).await.status
    };
    assert_eq!(ask(&first, Method::POST, "/api/auth/logout").await, 204);
    assert_eq!(ask(&first, Method::GET, "/api/auth/session").await, 401);
    assert_eq!(ask(&second, Method::GET, "/api/auth/session").await, 200);
    let sessions =
        gateway.admin_as(&second, Method::GET, "/api/auth/sessions", None).await.expect(200).json();
    let here = sessions["data"]
        .as_array()
        .expect("rows")
        .iter()
        .find(|row| row["current"] == true)
        .expect("this one");
    assert_eq!(here["address"], "127.0.0.1");
    assert_eq!(ask(&second, Method::POST, "/api/auth/logout-all").await, 204);
    assert_eq!(ask(&second, Method::GET, "/api/auth/session").await, 401);
    let third = enter().await;
    let change = json!({ "current_password": ADMIN_PASSWORD, "new_password": "another long passphrase" });
    let reply =
        gateway.admin_as(&third, Method::POST, "/api/auth/password", Some(&change)).await.expect(200).json();
    assert_eq!(ask(&third, Method::GET, "/api/auth/session").await, 401);
    assert_eq!(ask(reply["token"].as_str().expect("a token"), Method::GET, "/api/auth/session").await, 200);
    login(&gateway, ADMIN_EMAIL, ADMIN_PASSWORD, &[]).await.expect(401);
}

#[tokio::test]
async fn at_086_an_address_that_a_client_claims_is_not_believed() {
    let gateway = bare().await;
    let names = ["x-forwarded-for", "x-real-ip", "forwarded", "true-client-ip", "cf-connecting-ip"];
    let mut refused = 0;
    for number in 0..25 {
        let claimed = format!("203.0.113.{number}");
        let value = if number % 5 == 2 { format!("for={claimed}") } else { claimed };
        let email = format!("guess-{number}@example.com");
        let reply = login(&gateway, &email, "a wrong guess", &[(names[number % 5], &value)]).await;
        match reply.status {
            401 => assert!(number < 5, "try {number} came through"),
            429 => refused += 1,
            other => panic!("{other}: {}", reply.text()),
        }
    }
    assert_eq!(refused, 20);
    // Nor is what was claimed written down.
    login(&gateway, ADMIN_EMAIL, ADMIN_PASSWORD, &[("x-forwarded-for", "203.0.113.99")]).await.expect(429);
    let listed = gateway.get("/api/auth/sessions").await;
    assert!(listed["data"].as_array().expect("rows").iter().all(|row| row["address"] == "127.0.0.1"));
}

#[tokio::test]
async fn at_090_a_fresh_start_listens_on_loopback_and_lets_nobody_in() {
    let defaults = Config::default();
    for listener in [defaults.server.listen, defaults.server.admin_listen] {
        assert!(listener.ip().is_loopback(), "{listener}");
    }
    assert!(defaults.admin.email.is_none() && defaults.admin.password.is_none());
    let dir = tempfile::tempdir().expect("a directory");
    let at = |config: &mut Config| {
        config.server.data_dir = dir.path().join("data");
        config.server.listen.set_port(0);
        config.server.admin_listen.set_port(0);
    };
    let mut config = defaults.clone();
    at(&mut config);
    let app = App::start(config, StartOptions::default()).await.expect("a gateway");
    assert!(app.address.ip().is_loopback() && app.admin_address.ip().is_loopback());
    let http = http_client();
    for key in ["sk-1234", "changeme", "ks_demo", "master", ""] {
        let models = http.get(format!("http://{}/v1/models", app.address)).bearer_auth(key).send().await;
        assert_eq!(models.expect("an answer").status(), 401, "{key}");
    }
    assert_eq!(
        http.get(format!("http://{}/v1/models", app.address)).send().await.expect("an answer").status(),
        401
    );
    let names =
        ["admin", "admin@example.com", "admin@localhost", "root", "owner@example.com", "demo@keystile"];
    let mut refused = 0;
    for name in names {
        for password in ["admin", "changeme", "password", "keystile", ""] {
            let asked = json!({ "email": name, "password": password });
            let url = format!("http://{}/api/auth/login", app.admin_address);
            let status = http.post(url).json(&asked).send().await.expect("an answer").status().as_u16();
            assert!(matches!(status, 401 | 429), "{name} {password}: {status}");
            refused += 1;
        }
    }
    assert_eq!(refused, 30);
    assert!(!app.house.store.has_users().await.expect("an answer"), "no account exists");
    let signed =
        app.control.sign_owner_session(Duration::from_secs(60)).await.expect_err("nobody to sign for");
    assert!(signed.to_string().contains("owner"), "{signed}");
    app.stop(Duration::from_secs(5), std::future::pending()).await;

    // What stands in examples does not start.
    for password in ["changeme", "changeme1234", "password1234", "aaaaaaaaaaaaaa"] {
        let mut config = defaults.clone();
        at(&mut config);
        config.admin.email = Some("owner@example.com".into());
        config.admin.password = Some(SecretText::new(password));
        let refused = App::start(config, StartOptions::default()).await.err().expect("refused");
        assert!(!format!("{refused} {refused:?}").contains(password), "{refused}");
    }
}
