//! Provider keys: what may be stored, and that nothing comes out again.

use serde_json::{Value, json};

use super::harness::{CANARY, House};

#[tokio::test]
async fn a_stored_key_shows_metadata_only_and_opens_as_what_it_is() {
    let house = House::new().await;
    let made = house
        .post("/api/keys", json!({"provider": "openai", "key_name": "main", "api_key": CANARY, "models": ["openai/gpt-5.4-mini", "gpt-5.4"]}))
        .await
        .expect(201);
    for (name, value) in [
        ("provider", json!("openai")),
        ("key_name", json!("main")),
        ("base_url", json!("https://api.openai.com/v1")),
        ("dialect", json!("openai")),
        ("models", json!(["gpt-5.4-mini", "gpt-5.4"])),
        ("weight", json!(1)),
        ("is_active", json!(true)),
        ("retrievable", json!(false)),
        ("tenant_id", json!(house.default_tenant.to_string())),
        ("master_key_id", json!(house.control.vault.ring().primary())),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    assert_eq!(made["fingerprint"].as_str().map(str::len), Some(8));
    assert!(made.get("api_key").is_none() && made.get("sealed").is_none());
    let list = house.get("/api/keys").await.expect(200);
    assert_eq!(list, json!([made]));
    let path = format!("/api/keys/{}", made["id"].as_str().expect("an id"));
    assert_eq!(house.get(&path).await.expect(200), made);

    let before = made["fingerprint"].clone();
    let changed = house
        .patch(&path, json!({"api_key": "sk-another", "weight": 0, "is_active": false, "key_name": "b", "models": null}))
        .await
        .expect(200);
    assert_ne!(changed["fingerprint"], before);
    assert_eq!((&changed["weight"], &changed["models"]), (&json!(0), &Value::Null));
    assert_eq!(house.delete(&path).await.status.as_u16(), 204);
    house.get(&path).await.refused(404, "not_found");
    assert_eq!(house.get("/api/keys").await.expect(200), json!([]));
}

#[tokio::test]
async fn secrets_that_are_none_are_refused() {
    let house = House::new().await;
    let key = |api_key: Value| json!({"provider": "openai", "key_name": "k", "api_key": api_key});
    for (api_key, code) in [
        (json!(null), "secret_required"),
        (json!(""), "secret_required"),
        (json!("****"), "masked_secret"),
        (json!("sk-…abcd"), "masked_secret"),
        (json!("••••"), "masked_secret"),
        (json!("sk-a\r\nb"), "invalid_request"),
        (json!("k".repeat(4097)), "invalid_request"),
        (json!("env:PATH"), "reference_not_allowed"),
        (json!([CANARY]), "invalid_request"),
        (json!({"env": CANARY}), "invalid_request"),
    ] {
        house.post("/api/keys", key(api_key.clone())).await.refused(400, code);
    }
    house
        .post("/api/keys", json!({"provider": "openai", "key_name": "k"}))
        .await
        .refused(400, "secret_required");
    // A secret in the wrong member does not come back either; the harness looks at every answer.
    for body in [
        json!({"provider": "openai", "key_name": "k", "api_key": "sk-x", "weight": CANARY}),
        json!({"provider": "openai", "key_name": "k", "api_key": "sk-x", "is_active": CANARY}),
        json!({"provider": "openai", "key_name": "k", "api_key": "sk-x", "environment": CANARY}),
    ] {
        house.post("/api/keys", body).await.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn providers_of_ones_own_need_an_allowed_address() {
    let house = House::new().await;
    let own =
        |base_url: &str| json!({"provider": "my-vllm", "key_name": "k", "api_key": "", "base_url": base_url});
    let made = house.post("/api/keys", own("http://127.0.0.1:9000/v1/")).await.expect(201);
    assert_eq!((&made["base_url"], &made["dialect"]), (&json!("http://127.0.0.1:9000/v1"), &json!("openai")));
    let made = house.post("/api/keys", own("https://llm.example.com/openai")).await.expect(201);
    assert_eq!(made["base_url"], "https://llm.example.com/openai");
    for url in [
        "http://127.0.0.1:9001",
        "http://localhost:9000",
        "https://127.0.0.1",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/v1",
        "http://llm.example.com",
        "https://llm.example.com:8443",
        "https://user@llm.example.com",
        "https://llm.example.com?x=1",
        "https://llm.example.com#x",
        "not a url",
        "",
    ] {
        house.post("/api/keys", own(url)).await.refused(400, "invalid_base_url");
    }
    for slug in ["revoke", "rotate", "provision", "Big", "a b", "", "../x"] {
        let body =
            json!({"provider": slug, "key_name": "k", "api_key": "x", "base_url": "https://llm.example.com"});
        house.post("/api/keys", body).await.refused(400, "invalid_provider");
    }
    let body = json!({"provider": "nobody", "key_name": "k", "api_key": "x"});
    house.post("/api/keys", body).await.refused(400, "unknown_provider");
    let body = json!({"provider": "mine", "key_name": "k", "base_url": "https://llm.example.com", "dialect": "klingon"});
    house.post("/api/keys", body).await.refused(400, "unknown_dialect");
    let body = json!({"provider": "openai", "key_name": "k", "api_key": "x", "weight": -1});
    house.post("/api/keys", body).await.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_known_providers_address_may_come_without_its_version() {
    let house = House::new().await;
    for url in ["http://127.0.0.1:9000", "http://127.0.0.1:9000/", "http://127.0.0.1:9000/v1"] {
        let body = json!({"provider": "openai", "key_name": "k", "api_key": "x", "base_url": url});
        assert_eq!(house.post("/api/keys", body).await.expect(201)["base_url"], "http://127.0.0.1:9000/v1");
    }
}

#[tokio::test]
async fn at_041_another_address_needs_the_secret_anew() {
    let house = House::new().await;
    let made = house
        .post("/api/keys", json!({"provider": "openai", "key_name": "k", "api_key": CANARY}))
        .await
        .expect(201);
    let path = format!("/api/keys/{}", made["id"].as_str().expect("an id"));
    // Another host, port or scheme, the same one once more, and the provider's own.
    for url in [
        json!("https://evil.example.com"),
        json!("https://evil.example.com/v1"),
        json!("http://127.0.0.1:9000"),
        json!("http://api.openai.com"),
        json!("https://api.openai.com:8443"),
        json!("https://api.openai.com/v1"),
        Value::Null,
    ] {
        house.patch(&path, json!({"base_url": url})).await.refused(400, "secret_required");
    }
    // What a config variable holds was given for the old address too.
    let variable = json!({"name": "KEY", "value": CANARY, "sensitive": true});
    house.post("/v1/config-variables", variable).await.expect(201);
    for url in [json!("https://evil.example.com"), json!("http://127.0.0.1:9000")] {
        for name in ["KEY", "NOBODYS"] {
            let body = json!({"base_url": url, "api_key": {"store": name}});
            house.patch(&path, body).await.refused(400, "secret_required");
        }
    }
    let masked = json!({"base_url": "https://proxy.example.com", "api_key": "********"});
    house.patch(&path, masked).await.refused(400, "masked_secret");
    let before = house.sealed(&made).await;
    house.patch(&path, json!({"api_key": null})).await.refused(400, "secret_required");
    house.patch(&path, json!({"api_key": ""})).await.refused(400, "secret_required");
    house.patch(&path, json!({"retrievable": true})).await.refused(400, "invalid_request");
    assert_eq!(house.get(&path).await.expect(200), made);
    let body = json!({"base_url": "https://proxy.example.com", "api_key": "sk-new"});
    assert_eq!(house.patch(&path, body).await.expect(200)["base_url"], "https://proxy.example.com/v1");
    let after = house.sealed(&made).await;
    assert!(before.sealed != after.sealed && before.origin != after.origin, "nothing is left of the old one");
    let body = json!({"base_url": null, "api_key": "sk-new"});
    assert_eq!(house.patch(&path, body).await.expect(200)["base_url"], "https://api.openai.com/v1");
    let body = json!({"base_url": "https://api.openai.com/v1", "api_key": {"store": "KEY"}});
    let follows = house.patch(&path, body).await.expect(200);
    assert_eq!(follows["reference"], json!({"store": "KEY"}), "it stays where it is");
    let body = json!({"base_url": "https://evil.example.com", "api_key": {"store": "KEY"}});
    house.patch(&path, body).await.refused(400, "secret_required");
}

#[tokio::test]
async fn null_goes_back_to_what_a_create_without_it_says() {
    let house = House::new().await;
    let body =
        json!({"provider": "openai", "key_name": "k", "api_key": CANARY, "weight": 7, "is_active": false});
    let made = house.post("/api/keys", body).await.expect(201);
    let path = format!("/api/keys/{}", made["id"].as_str().expect("an id"));
    let cleared = house.patch(&path, json!({"weight": null, "is_active": null})).await.expect(200);
    assert_eq!((&cleared["weight"], &cleared["is_active"]), (&json!(1), &json!(true)));
    house.patch(&path, json!({"key_name": null})).await.refused(400, "invalid_request");
}
