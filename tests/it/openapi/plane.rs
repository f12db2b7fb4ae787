//! A gateway whose every answer is held against the document, and who may call what.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use keystile::{
    admin::document,
    app::{App, DEMO_ADMIN, StartOptions},
    config::{Config, ConfigError},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::matrix;

pub(super) const PASSWORD: &str = "correct horse battery staple";
pub(super) const ROLES: [&str; 4] = ["owner", "tenant_admin", "finance", "auditor"];

/// `METHOD /path/{id}` of every route, with the status of whom it does not let in, and 0 for whom it does: nobody, then
/// the roles. The file is held against the gateway by `matrix`.
pub(super) fn matrix() -> Vec<(&'static str, BTreeMap<&'static str, u16>)> {
    let admin = matrix::admin();
    let line = |(route, row): &(&'static str, Vec<u16>)| {
        let columns = [
            ("nobody", "none"),
            ("owner", "owner"),
            ("tenant_admin", "admin"),
            ("finance", "finance"),
            ("auditor", "auditor"),
        ];
        let shut = |status| if matches!(status, 401 | 403) { status } else { 0 };
        (*route, columns.map(|(who, column)| (who, shut(admin.status(row, column)))).into())
    };
    admin.rows.iter().map(line).collect()
}

/// The document, such that an answer may have no member that is not described.
fn strict_document() -> Value {
    let text = document().to_json().expect("a document");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    close(&mut document, false);
    document
}

/// Closes every object where it is used, but for the parts of an `allOf`, which only together are one object.
fn close(value: &mut Value, is_part: bool) {
    match value {
        Value::Object(members) => {
            if members.contains_key("$ref") && !is_part {
                members.insert("unevaluatedProperties".into(), false.into());
            }
            for (name, member) in members {
                close(member, name == "allOf");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, is_part)),
        _ => {}
    }
}

/// A running gateway, the document it is held against, and what was called so far.
pub(super) struct Plane {
    pub(super) app: App,
    pub(super) client: Client,
    document: Value,
    pub(super) tokens: BTreeMap<String, String>,
    /// By route: whether it did what was asked, and whether it refused.
    pub(super) called: RefCell<BTreeMap<String, (bool, bool)>>,
    /// Whether the configuration can be read anew.
    pub(super) readable: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

impl Plane {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.server.data_dir = dir.path().to_owned();
        config.vault.allow_retrieval = true;
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.server.admin_listen = ([127, 0, 0, 1], 0).into();
        // As from a file, which a test may break.
        let (readable, read) = (Arc::new(AtomicBool::new(true)), config.clone());
        let source = {
            let readable = Arc::clone(&readable);
            move || match readable.load(Ordering::Relaxed) {
                true => Ok(read.clone()),
                false => Err(ConfigError::Contradiction { problem: "the file is broken".into() }),
            }
        };
        let options = StartOptions { demo: true, source: Some(Arc::new(source)), ..StartOptions::default() };
        let app = App::start(config, options).await.expect("a gateway");
        #[expect(clippy::disallowed_methods, reason = "a client of the gateway, not of a provider")]
        let client = Client::new();
        let (document, tokens) = (strict_document(), BTreeMap::new());
        let mut plane =
            Self { app, client, document, tokens, called: RefCell::default(), readable, _dir: dir };
        let demo = plane.app.demo.as_ref().expect("a demo");
        let owner = plane.log_in(DEMO_ADMIN, &demo.admin_password.clone()).await;
        plane.tokens.insert("owner".into(), owner);
        for role in &ROLES[1..] {
            let email = format!("{role}@example.com");
            let user = json!({"email": email, "password": PASSWORD, "role": role});
            plane.good("POST /api/users", &[], Some(user)).await;
            let token = plane.log_in(&email, PASSWORD).await;
            plane.tokens.insert((*role).into(), token);
        }
        let made = plane.good("POST /api/service-tokens", &[], Some(json!({"service_name": "walker"}))).await;
        plane.tokens.insert("service".into(), made["token"].as_str().expect("a token").to_owned());
        plane
    }

    pub(super) async fn log_in(&self, email: &str, password: &str) -> String {
        let asked = json!({"email": email, "password": password});
        let session = self.good("POST /api/auth/login", &[], Some(asked)).await;
        session["token"].as_str().expect("a token").to_owned()
    }

    /// Sends a request to `route` and holds the answer against the document.
    pub(super) async fn call(
        &self,
        who: &str,
        route: &str,
        path: &[&str],
        body: Option<Value>,
    ) -> (u16, Value) {
        self.call_with(who, route, path, body, &[]).await
    }

    pub(super) async fn call_with(
        &self,
        who: &str,
        route: &str,
        path: &[&str],
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let (method, template) = route.split_once(' ').expect("a method and a path");
        let mut url = format!("http://{}{template}", self.app.admin_address);
        for part in path {
            match (url.find('{'), url.find('}')) {
                (Some(from), Some(to)) => url.replace_range(from..=to, part),
                _ => url.push_str(part),
            }
        }
        let mut request = self.client.request(Method::from_bytes(method.as_bytes()).expect("a method"), url);
        match self.tokens.get(who) {
            Some(token) if who == "service" => request = request.header("x-service-token", token),
            Some(token) => request = request.bearer_auth(token),
            None => {}
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let content_type = answer.headers().get("content-type").map(|value| {
            let essence = value.to_str().expect("text").split(';').next().expect("a part");
            essence.to_owned()
        });
        let text = answer.text().await.expect("a body");
        let said = format!("{who}: {route} {path:?} {body:?} -> {status} {text}");

        let operation = &self.document["paths"][template][method.to_ascii_lowercase()];
        assert!(operation.is_object(), "not in the document: {said}");
        let response = match &operation["responses"][status.to_string()] {
            Value::Null if status >= 400 => &operation["responses"]["default"],
            described => described,
        };
        assert!(response.is_object(), "its status is not in the document: {said}");
        let mut value = Value::Null;
        match content_type {
            None => assert!(text.is_empty() && response["content"].is_null(), "{said}"),
            Some(kind) => {
                let content = &response["content"][&kind];
                assert!(content.is_object(), "`{kind}` is not in the document: {said}");
                value = if kind == "application/json" {
                    serde_json::from_str(&text).expect("JSON")
                } else {
                    text.into()
                };
                self.conforms(&content["schema"], &value).unwrap_or_else(|why| panic!("{why}: {said}"));
            }
        }
        if let Some(body) = body.filter(|_| status < 400) {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            self.conforms(schema, &body).unwrap_or_else(|why| panic!("the request: {why}: {said}"));
        }
        let mut called = self.called.borrow_mut();
        let (did, refused) = called.entry(route.to_owned()).or_default();
        *(if status < 400 { did } else { refused }) = true;
        (status, value)
    }

    /// Whether `value` is what `schema` of the document says.
    fn conforms(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema);
        let errors: Vec<_> = validator
            .expect("a schema")
            .iter_errors(value)
            .map(|error| format!("{error} at `{}`", error.instance_path()))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    /// What an owner is answered who asks for something that can be done.
    pub(super) async fn good(&self, route: &str, path: &[&str], body: Option<Value>) -> Value {
        let (status, value) = self.call("owner", route, path, body).await;
        assert!(status < 400, "{route} {path:?}: {status} {value}");
        value
    }

    /// What an owner is answered who asks for something that cannot be done.
    pub(super) async fn bad(&self, route: &str, path: &[&str], body: Option<Value>, status: u16, code: &str) {
        let (found, value) = self.call("owner", route, path, body).await;
        assert_eq!(
            (found, value["error"]["code"].as_str()),
            (status, Some(code)),
            "{route} {path:?}: {value}"
        );
    }

    /// One request through the data plane, and its usage row in the database.
    pub(super) async fn spend_something(&self) -> String {
        let key = &self.app.demo.as_ref().expect("a demo").key;
        let model = format!("demo/{}", keystile::demo::CHAT_MODEL);
        let asked = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
        let chat = format!("http://{}/v1/chat/completions", self.app.address);
        let answer = self.client.post(chat).bearer_auth(key).json(&asked).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        self.app.house.ledger.flushed().await;
        answer.headers()["x-request-id"].to_str().expect("text").to_owned()
    }

    /// Every route, to everybody: whom the matrix does not name is refused, and so is a stranger's host.
    pub(super) async fn everybody(&self) {
        for (route, shut) in matrix() {
            // They end the sessions that the other requests are sent with.
            if route.contains("/api/auth/log") && !route.ends_with("login") {
                continue;
            }
            let path = if route.contains('{') { &["none"][..] } else { &[] };
            let body = route.starts_with('P').then(|| json!({"?": 1}));
            for who in ["nobody"].into_iter().chain(ROLES) {
                let (status, _) = self.call(who, route, path, body.clone()).await;
                match shut[who] {
                    0 => assert!(!matches!(status, 401 | 403), "{who} {route}: {status}"),
                    wanted => assert_eq!(status, wanted, "{who} {route}"),
                }
            }
            let strange = [("host", "evil.example")];
            assert_eq!(self.call_with("owner", route, path, None, &strange).await.0, 421, "{route}");
        }
    }

    /// Each member of a change alone as `null`: taken exactly where the document says so.
    pub(super) async fn nulls(&self, route: &str, id: &str) {
        let (_, template) = route.split_once(' ').expect("a method and a path");
        let operation = &self.document["paths"][template]["patch"];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let name = schema["$ref"].as_str().and_then(|text| text.rsplit('/').next()).expect("a name");
        let members = &self.document["components"]["schemas"][name]["properties"];
        for member in members.as_object().expect("members").keys() {
            let body = json!({member: null});
            // An address never changes without the secret.
            let described = self.conforms(schema, &body).is_ok() && member != "base_url";
            let (status, value) = self.call("owner", route, &[id], Some(body)).await;
            assert_eq!(status, if described { 200 } else { 400 }, "{route} {member}: {value}");
        }
    }
}
