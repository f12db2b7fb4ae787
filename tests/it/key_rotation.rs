//! A provider key's secret is changed under load without a request lost; what a key cannot be asked is said; and what was
//! typed in is sent as it is and resolved nowhere.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Setup, Upstream, chat_ok, error, eventually, raw, usage};

const OLD: &str = "sk-scripted-provider-key";
const NEW: &str = "sk-the-next-provider-key";

/// Takes these secrets and refuses all others; lists its models and answers chats.
async fn provider(taken: &'static [&'static str]) -> Upstream {
    Upstream::scripted(move |seen, _| {
        let presented = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match presented.filter(|secret| taken.contains(secret)) {
            None => error(401, "incorrect API key"),
            Some(_) if seen.method == "GET" => {
                let json = [("content-type", "application/json")];
                Answer::whole(200, &json, json!({"object": "list", "data": []}).to_string())
            }
            Some(_) => chat_ok("hi", &usage(1, 1)),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_under_load_without_a_request_lost() {
    let upstream = provider(&[OLD, NEW]).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let id = gateway.get("/api/keys").await[0]["id"].as_str().expect("an id").to_owned();
    let path = |verb: &str| format!("/api/keys/{id}/{verb}");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = async {
        let one = async || {
            while !stop.load(Ordering::Relaxed) {
                gateway.chat(&key, json!({})).await.expect(200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        };
        futures_util::future::join_all((0..8).map(|_| one())).await;
    };
    let some_more = async |what: &str| {
        let before = answered.load(Ordering::Relaxed);
        eventually(what, || async { (answered.load(Ordering::Relaxed) >= before + 20).then_some(()) }).await;
    };
    let rotate = async {
        some_more("requests on the old secret").await;
        let staged = json!({ "api_key": NEW });
        gateway.admin(Method::POST, &path("stage"), Some(&staged)).await.expect(200);
        some_more("requests while the new one waits").await;
        let said = gateway.admin(Method::POST, &path("verify"), None).await.expect(200).json();
        assert_eq!(said, json!({"ok": true, "status": 200, "reason": null}));
        some_more("requests after it was tried").await;
        gateway.admin(Method::POST, &path("promote"), None).await.expect(200);
        some_more("requests on the new secret").await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, rotate);
    let seen = upstream.seen();
    let with = |secret: &str| {
        let header = format!("Bearer {secret}");
        seen.iter().filter(|seen| seen.header("authorization") == Some(header.as_str())).count()
    };
    assert!(with(OLD) >= 60 && with(NEW) >= 20 && with(OLD) + with(NEW) == seen.len());
    let checks: Vec<_> = seen.iter().filter(|seen| seen.method == "GET").collect();
    assert_eq!(checks.len(), 1);
    assert_eq!((checks[0].path.as_str(), checks[0].body.len()), ("/v1/models", 0));
    assert_eq!(checks[0].header("authorization"), Some(format!("Bearer {NEW}").as_str()));

    // Whoever begins after it was promoted uses the new one, and nobody the old.
    let before = upstream.count();
    for _ in 0..20 {
        gateway.chat(&key, json!({})).await.expect(200);
    }
    let header = format!("Bearer {NEW}");
    assert!(
        upstream.seen()[before..].iter().all(|seen| seen.header("authorization") == Some(header.as_str()))
    );
    let shown = gateway.get(&format!("/api/keys/{id}")).await;
    assert_eq!((&shown["staged"], &shown["openable"]), (&Value::Null, &json!(true)));
}

#[tokio::test]
async fn a_secret_that_the_provider_refuses_is_not_promoted_by_itself() {
    let upstream = provider(&[OLD]).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let id = gateway.get("/api/keys").await[0]["id"].as_str().expect("an id").to_owned();
    let post = async |verb: &str, body: Option<&Value>| {
        gateway.admin(Method::POST, &format!("/api/keys/{id}/{verb}"), body).await
    };
    post("stage", Some(&json!({ "api_key": NEW }))).await.expect(200);
    let said = post("verify", None).await.expect(200).json();
    assert_eq!((&said["ok"], &said["status"]), (&json!(false), &json!(401)));
    let refused = post("promote", None).await.expect(409).json();
    assert_eq!(refused["error"]["code"], "not_verified");
    // No address can be named: it is the key's own that is called.
    let elsewhere = json!({ "base_url": "https://evil.example" });
    post("promote", Some(&elsewhere)).await.expect(400);
    gateway.chat(&key, json!({})).await.expect(200);

    upstream.answer(error(500, "broken"));
    let said = post("verify", None).await.expect(200).json();
    assert_eq!((&said["ok"], &said["status"]), (&json!(false), &json!(500)));
    upstream.answer(raw("").close());
    let said = post("verify", None).await.expect(200).json();
    assert_eq!((&said["ok"], &said["status"]), (&json!(false), &Value::Null));
    assert!(!said.to_string().contains(NEW));
}

#[tokio::test]
async fn a_model_that_only_a_cloud_could_serve_is_refused_with_the_reason() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let config = json!({ "region": "us-east-1", "access_key": "AKIA", "secret_key": "s" });
    let cloud = json!({ "provider": "bedrock", "key_name": "my cloud", "models": ["claude"],
        "bedrock_key_config": config });
    gateway.create("/api/keys", cloud).await;
    gateway.create("/api/aliases", json!({ "name": "smart", "models": ["bedrock/claude"] })).await;
    let key = gateway.virtual_key(json!({})).await;
    for model in ["bedrock/claude", "smart", "claude"] {
        let reply = gateway.chat(&key, json!({ "model": model })).await.refused(503, "no_provider_available");
        assert!(reply.text().contains("my cloud") && reply.text().contains("bedrock"), "{}", reply.text());
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    gateway.chat(&key, json!({ "model": "bedrock/other" })).await.refused(404, "model_not_found");
    let listed = gateway.read("/v1/models", &key).await.expect(200).json();
    assert_eq!(listed["data"], json!([]), "nothing of it can be called");
    gateway.read("/v1/models/bedrock%2Fclaude", &key).await.refused(404, "model_not_found");
    let narrow = gateway.virtual_key(json!({ "models_allowed": ["openai/*"] })).await;
    gateway.chat(&narrow, json!({ "model": "bedrock/claude" })).await.refused(403, "model_not_allowed");

    // Where somebody else can answer, it is passed over.
    gateway.provider_key("openai", &upstream).await;
    let models = json!({ "model": "bedrock/claude", "models": ["bedrock/claude", "openai/gpt-4o-mini"] });
    let reply = gateway.chat(&key, models).await.expect(200);
    assert_eq!(reply.header("x-keystile-provider"), Some("openai"));
    assert_eq!(reply.header("x-keystile-attempts"), Some("1"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn at_059_what_looks_like_a_reference_is_refused_or_sent_as_it_stands() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let key = gateway.virtual_key(json!({})).await;
    let mut stored = 0;
    for text in ["env:PATH", "${PATH}", "os.environ/PATH", "file:/etc/passwd", "@/etc/passwd", "$PATH"] {
        let body = json!({ "provider": "openai", "key_name": "k", "api_key": text, "base_url": upstream.base_url() });
        let reply = gateway.admin(Method::POST, "/api/keys", Some(&body)).await;
        if reply.status == 400 {
            assert_eq!(reply.json()["error"]["code"], "reference_not_allowed", "{text}");
            continue;
        }
        let made = reply.expect(201).json();
        gateway.chat(&key, json!({})).await.expect(200);
        assert_eq!(upstream.last().header("authorization"), Some(format!("Bearer {text}").as_str()));
        let path = format!("/api/keys/{}", made["id"].as_str().expect("an id"));
        gateway.admin(Method::DELETE, &path, None).await.expect(204);
        stored += 1;
    }
    assert_eq!((stored, upstream.count()), (2, 2));
}
