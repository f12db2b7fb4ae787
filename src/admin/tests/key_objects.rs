//! Provider keys as objects: both spellings, clouds, references, and that a shown object is never stored again as it is.

use serde_json::{Value, json};

use super::harness::{CANARY, House};
use crate::{
    control::REDACTED,
    domain::Actor,
    store::{
        MasterKeyState, ProviderKey, StoreError, Tx, house_secret_set, master_key_set, provider_key_update,
    },
    vault::{HouseSecret, HouseSecretName},
};

fn path(key: &Value) -> String {
    format!("/api/keys/{}", key["id"].as_str().expect("an id"))
}

fn azure(config: Value) -> Value {
    json!({"provider": "azure", "key_name": "a", "api_key": CANARY, "azure_key_config": config})
}

fn bedrock(config: Value) -> Value {
    json!({"provider": "bedrock", "key_name": "b", "bedrock_key_config": config})
}

#[tokio::test]
async fn a_key_is_an_object_in_both_spellings() {
    let house = House::new().await;
    let body = json!({"provider": "openai", "name": "main", "value": {"value": CANARY, "env_var": "", "from_env": false},
        "enabled": false, "use_for_batch_api": true, "weight": 3, "models": ["gpt-5.4"]});
    let made = house.post("/api/keys", body).await.expect(201);
    let secret = json!({"value": REDACTED, "env_var": "", "from_env": false});
    for (name, value) in [
        ("key_name", json!("main")),
        ("name", json!("main")),
        ("value", secret.clone()),
        ("reference", Value::Null),
        ("enabled", json!(false)),
        ("is_active", json!(false)),
        ("use_for_batch_api", json!(true)),
        ("azure_key_config", Value::Null),
        ("vertex_key_config", Value::Null),
        ("bedrock_key_config", Value::Null),
        ("huggingface_key_config", Value::Null),
        ("managed_by", Value::Null),
        ("staged", Value::Null),
        ("openable", json!(true)),
        ("last_used_at", Value::Null),
        ("last_refused_at", Value::Null),
        ("last_refusal", Value::Null),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    let changed = json!({"name": "other", "enabled": true, "value": "sk-another", "use_for_batch_api": null});
    let changed = house.patch(&path(&made), changed).await.expect(200);
    assert_eq!((&changed["key_name"], &changed["is_active"]), (&json!("other"), &json!(true)));
    assert_eq!((&changed["value"], &changed["use_for_batch_api"]), (&secret, &json!(false)));
    assert_ne!(changed["fingerprint"], made["fingerprint"]);

    let none =
        json!({"provider": "ollama", "key_name": "k", "api_key": "", "base_url": "http://127.0.0.1:9000"});
    let none = house.post("/api/keys", none).await.expect(201);
    assert_eq!(none["value"], json!({"value": null, "env_var": "", "from_env": false}));
    for twice in [
        json!({"name": "a", "key_name": "a"}),
        json!({"enabled": true, "is_active": true}),
        json!({"enabled": true, "is_active": false}),
        json!({"value": "sk-a", "api_key": "sk-a"}),
        json!({"value": null, "api_key": "sk-a"}),
    ] {
        house.patch(&path(&made), twice.clone()).await.refused(400, "invalid_request");
        let mut whole = json!({"provider": "openai", "key_name": "k", "api_key": "sk-a"});
        whole.as_object_mut().expect("an object").extend(twice.as_object().expect("an object").clone());
        if !whole["enabled"].is_boolean() || whole.get("is_active").is_some() {
            house.post("/api/keys", whole).await.refused(400, "invalid_request");
        }
    }
    house
        .post("/api/keys", json!({"provider": "openai", "api_key": "x"}))
        .await
        .refused(400, "invalid_request");
}

#[tokio::test]
async fn at_056_what_was_shown_is_not_stored_again() {
    let house = House::new().await;
    let made = house
        .post("/api/keys", json!({"provider": "openai", "key_name": "k", "api_key": CANARY}))
        .await
        .expect(201);
    let cloud = house
        .post(
            "/api/keys",
            azure(json!({"endpoint": "https://r.openai.azure.com", "tenant_id": "t",
            "client_id": "c", "client_secret": CANARY})),
        )
        .await
        .expect(201);
    let (before, cloud_before) = (house.sealed(&made).await, house.sealed(&cloud).await);
    for shown in [&made, &cloud] {
        let shown_again = house.get(&path(shown)).await.expect(200);
        assert_eq!(&shown_again, shown);
        house.patch(&path(shown), shown_again.clone()).await.refused(400, "invalid_request");
        assert_eq!(house.put(&path(shown), shown_again).await.status.as_u16(), 405);
    }
    for (key, body, code) in [
        (&made, json!({"value": made["value"]}), "masked_secret"),
        (&made, json!({"api_key": made["value"]}), "masked_secret"),
        (&made, json!({"api_key": REDACTED}), "masked_secret"),
        (&made, json!({"api_key": "****"}), "masked_secret"),
        (&made, json!({"api_key": "sk-\u{2026}abcd"}), "masked_secret"),
        (&made, json!({"api_key": ""}), "secret_required"),
        (&made, json!({"api_key": null}), "secret_required"),
        (&made, json!({"value": null}), "secret_required"),
        (&made, json!({"value": {"value": null}}), "invalid_request"),
        (&made, json!({"value": {"value": ""}}), "secret_required"),
        (&cloud, json!({"azure_key_config": cloud["azure_key_config"]}), "masked_secret"),
        (&cloud, json!({"azure_key_config": {"client_secret": {"value": REDACTED}}}), "masked_secret"),
        (&cloud, json!({"azure_key_config": {"client_id": "c", "client_secret": ""}}), "secret_required"),
        (&cloud, json!({"azure_key_config": {"client_secret": null, "client_id": "c"}}), "secret_required"),
    ] {
        house.patch(&path(key), body).await.refused(400, code);
    }
    let (after, cloud_after) = (house.sealed(&made).await, house.sealed(&cloud).await);
    assert!(before.sealed == after.sealed && cloud_before.cloud_sealed == cloud_after.cloud_sealed);
    // What may be changed of it comes back without harm.
    let plain = json!({"name": made["name"], "models": made["models"], "weight": made["weight"], "enabled": made["enabled"]});
    house.patch(&path(&made), plain).await.expect(200);
    assert!(house.sealed(&made).await.sealed == before.sealed);
}

#[tokio::test]
async fn at_059_references_to_the_environment_and_to_files_are_refused_or_stand_for_themselves() {
    let house = House::new().await;
    let key = |secret: Value| json!({"provider": "openai", "key_name": "k", "api_key": secret});
    for secret in [
        json!("env:PATH"),
        json!("${PATH}"),
        json!("os.environ/PATH"),
        json!("file:/etc/passwd"),
        json!({"value": "sk-a", "env_var": "PATH"}),
        json!({"value": "", "env_var": "PATH", "from_env": true}),
        json!({"from_env": true}),
        json!({"value": "env:PATH"}),
    ] {
        house.post("/api/keys", key(secret.clone())).await.refused(400, "reference_not_allowed");
        house
            .post(
                "/api/keys",
                azure(json!({"endpoint": "https://r.openai.azure.com", "client_secret": secret})),
            )
            .await
            .refused(400, "reference_not_allowed");
    }
    for secret in
        [json!({"env": "PATH"}), json!({"file": "/etc/passwd"}), json!({"secret_key_ref": {"env": "PATH"}})]
    {
        house.post("/api/keys", key(secret)).await.refused(400, "invalid_request");
    }
    // It means nothing here; that the upstream gets the five letters and no file is shown over sockets.
    house.post("/api/keys", key(json!("@/etc/passwd"))).await.expect(201);
    house.post("/api/keys", key(json!({"store": "NOBODYS"}))).await.refused(400, "unknown_variable");
}

#[tokio::test]
async fn clouds_are_stored_checked_and_sealed() {
    let house = House::new().await;
    let made = house
        .post("/api/keys", azure(json!({"endpoint": "https://my-res.openai.azure.com/", "api_version": "2024-10-21",
            "deployments": {"gpt-4o": "gpt-4.1_Prod"}, "client_id": {"value": "app"}, "client_secret": "s3cret",
            "tenant_id": "contoso.onmicrosoft.com", "scopes": ["https://cognitiveservices.azure.com/.default"]})))
        .await
        .expect(201);
    let secret = json!({"value": REDACTED, "env_var": "", "from_env": false});
    assert_eq!(made["base_url"], "https://my-res.openai.azure.com");
    assert_eq!(made["dialect"], "azure");
    assert_eq!(
        made["azure_key_config"],
        json!({"endpoint": "https://my-res.openai.azure.com/", "api_version": "2024-10-21",
            "deployments": {"gpt-4o": "gpt-4.1_Prod"}, "client_id": secret, "client_secret": secret,
            "tenant_id": "contoso.onmicrosoft.com", "scopes": ["https://cognitiveservices.azure.com/.default"]})
    );
    let row = house.sealed(&made).await;
    let sealed = row.cloud_sealed.expect("sealed");
    assert!(sealed.starts_with("v1.") && !row.cloud.expect("plain").contains("s3cret"));

    let vertex = json!({"provider": "vertex", "key_name": "v", "vertex_key_config": {"project_id": "my-project",
        "project_number": "123456789012", "region": "europe-west4",
        "auth_credentials": json!({"type": "service_account", "private_key": CANARY}).to_string()}});
    let vertex = house.post("/api/keys", vertex).await.expect(201);
    assert_eq!(vertex["base_url"], "https://europe-west4-aiplatform.googleapis.com");
    assert_eq!(vertex["value"]["value"], Value::Null, "it has no key beside its account");
    assert_eq!(vertex["vertex_key_config"]["auth_credentials"], secret);

    let config = json!({"access_key": "AKIAEXAMPLE", "secret_key": {"value": CANARY}, "session_token": "tok",
        "region": "us-east-1", "arn": "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x",
        "batch_s3_config": {"buckets": [{"bucket_name": "my-bucket", "prefix": "in/", "is_default": true}]}});
    let made = house.post("/api/keys", bedrock(config)).await.expect(201);
    assert_eq!(made["base_url"], "https://bedrock-runtime.us-east-1.amazonaws.com");
    assert_eq!(made["bedrock_key_config"]["batch_s3_config"]["buckets"][0]["bucket_name"], "my-bucket");
    assert_eq!(made["bedrock_key_config"]["session_token"], secret);

    let face = json!({"provider": "huggingface", "key_name": "h", "api_key": CANARY,
        "huggingface_key_config": {"endpoint": "https://x.endpoints.huggingface.cloud", "deployments": {"llama": "meta-llama/Llama-3.1-8B"}}});
    let face = house.post("/api/keys", face).await.expect(201);
    assert_eq!(face["base_url"], "https://x.endpoints.huggingface.cloud/v1");
    let list = house.get("/api/keys").await.expect(200);
    assert!(list.as_array().expect("keys").iter().all(|key| key["openable"] == true), "{list}");
}

#[tokio::test]
async fn at_043_hostile_cloud_parts_are_refused() {
    let house = House::new().await;
    let long = "a".repeat(64);
    for hostile in
        ["evil.com#", "a/../b", "x@evil", "x?", "x%23", long.as_str(), "x\r\nhost: evil", "", "..", "-", "a."]
    {
        for body in [
            azure(json!({"endpoint": "https://r.openai.azure.com", "api_version": hostile})),
            azure(json!({"endpoint": "https://r.openai.azure.com", "deployments": {"gpt-4o": hostile}})),
            azure(json!({"endpoint": "https://r.openai.azure.com", "tenant_id": hostile})),
            bedrock(json!({"region": hostile, "access_key": "a", "secret_key": "b"})),
            bedrock(json!({"region": "us-east-1", "arn": hostile, "access_key": "a", "secret_key": "b"})),
            bedrock(json!({"region": "us-east-1", "access_key": "a", "secret_key": "b",
                "batch_s3_config": {"buckets": [{"bucket_name": hostile}]}})),
            json!({"provider": "vertex", "key_name": "v", "api_key": "x", "vertex_key_config": {"project_id": "p", "region": hostile}}),
            json!({"provider": "vertex", "key_name": "v", "api_key": "x", "vertex_key_config": {"project_id": hostile, "region": "r"}}),
        ] {
            let answer = house.post("/api/keys", body.clone()).await;
            // Sixty-four letters are no hostile ARN's end, but no ARN either.
            answer.refused(400, "invalid_request");
        }
    }
    for endpoint in [
        "http://r.openai.azure.com",
        "https://10.0.0.1",
        "https://169.254.169.254",
        "https://a@b.example.com",
        "https://r.openai.azure.com?x=1",
        "https://r.openai.azure.com#",
        "not a url",
    ] {
        house.post("/api/keys", azure(json!({"endpoint": endpoint}))).await.refused(400, "invalid_base_url");
    }
    assert_eq!(house.get("/api/keys").await.expect(200), json!([]));
}

#[tokio::test]
async fn a_cloud_configuration_belongs_to_its_provider_and_signs_in() {
    let house = House::new().await;
    let endpoint = json!({"endpoint": "https://r.openai.azure.com"});
    for (body, code) in [
        (
            json!({"provider": "openai", "key_name": "k", "api_key": "x", "azure_key_config": endpoint}),
            "invalid_request",
        ),
        (
            json!({"provider": "azure", "key_name": "k", "api_key": "x", "vertex_key_config": {"project_id": "p", "region": "r"}}),
            "invalid_request",
        ),
        (json!({"provider": "azure", "key_name": "k", "api_key": "x"}), "unknown_provider"),
        (
            json!({"provider": "azure", "key_name": "k", "api_key": "x", "azure_key_config": {}}),
            "invalid_request",
        ),
        (json!({"provider": "azure", "key_name": "k", "azure_key_config": endpoint}), "secret_required"),
        (
            json!({"provider": "azure", "key_name": "k", "api_key": "x", "base_url": "https://r.openai.azure.com", "azure_key_config": endpoint}),
            "invalid_request",
        ),
        (azure(json!({"endpoint": "https://r.openai.azure.com", "client_id": "c"})), "secret_required"),
        (
            azure(json!({"endpoint": "https://r.openai.azure.com", "client_id": "c", "client_secret": "s"})),
            "secret_required",
        ),
        (azure(json!({"endpoint": "https://r.openai.azure.com", "what": 1})), "invalid_request"),
        (bedrock(json!({"region": "us-east-1"})), "secret_required"),
        (bedrock(json!({"region": "us-east-1", "access_key": "a"})), "secret_required"),
        (
            json!({"provider": "vertex", "key_name": "v", "vertex_key_config": {"project_id": "p", "region": "r"}}),
            "secret_required",
        ),
        (
            json!({"provider": "vertex", "key_name": "v", "vertex_key_config": {"project_id": "p", "region": "r", "auth_credentials": "not json"}}),
            "invalid_request",
        ),
        (
            azure(json!({"endpoint": "https://r.openai.azure.com", "client_secret": {"store": "X"}})),
            "invalid_request",
        ),
    ] {
        house.post("/api/keys", body).await.refused(400, code);
    }
    // Azure's own API of OpenAI's shape, as before.
    let own = json!({"provider": "azure", "key_name": "k", "api_key": "x", "base_url": "https://r.openai.azure.com/openai/v1"});
    let own = house.post("/api/keys", own).await.expect(201);
    assert_eq!((&own["dialect"], &own["azure_key_config"]), (&json!("openai"), &Value::Null));
    house.patch(&path(&own), json!({"azure_key_config": endpoint})).await.refused(400, "invalid_request");
    house.patch(&path(&own), json!({"azure_key_config": null})).await.expect(200);
}

#[tokio::test]
async fn a_cloud_that_moves_needs_its_secrets_anew() {
    let house = House::new().await;
    let made = house
        .post("/api/keys", bedrock(json!({"region": "us-east-1", "access_key": "AKIA", "secret_key": "s"})))
        .await
        .expect(201);
    let path = path(&made);
    let before = house.sealed(&made).await;
    let arn = "arn:aws:bedrock:us-east-1:1:x";
    let changed = house.patch(&path, json!({"bedrock_key_config": {"arn": arn}})).await.expect(200);
    assert_eq!(changed["bedrock_key_config"]["arn"], arn);
    assert_eq!(changed["bedrock_key_config"]["access_key"]["value"], REDACTED, "what is left out stays");
    assert!(house.sealed(&made).await.cloud_sealed == before.cloud_sealed);

    for body in [
        json!({"bedrock_key_config": {"region": "eu-west-1"}}),
        json!({"bedrock_key_config": {"secret_key": "new"}}),
        json!({"bedrock_key_config": {"secret_key": null}}),
    ] {
        house.patch(&path, body).await.refused(400, "secret_required");
    }
    house.patch(&path, json!({"bedrock_key_config": null})).await.refused(400, "invalid_request");
    house
        .patch(&path, json!({"base_url": "https://x.example.com", "api_key": "x"}))
        .await
        .refused(400, "invalid_request");
    let moved =
        json!({"bedrock_key_config": {"region": "eu-west-1", "access_key": "AKIA", "secret_key": "s"}});
    let moved = house.patch(&path, moved).await.expect(200);
    assert_eq!(moved["base_url"], "https://bedrock-runtime.eu-west-1.amazonaws.com");
    assert_eq!((&moved["openable"], &moved["bedrock_key_config"]["arn"]), (&json!(true), &json!(arn)));
    let keyed = json!({"api_key": "sk", "bedrock_key_config": {"access_key": null}});
    let keyed = house.patch(&path, keyed).await.expect(200);
    assert_eq!(keyed["bedrock_key_config"]["access_key"], Value::Null);
    assert_eq!(keyed["openable"], true);
    house
        .patch(&path, json!({"bedrock_key_config": {"region": "us-east-1"}}))
        .await
        .refused(400, "secret_required");
}

#[tokio::test]
async fn keys_of_the_operators_configuration_are_shown_and_not_changed() {
    let house = House::new().await;
    let made = house
        .post("/api/keys", json!({"provider": "openai", "key_name": "k", "api_key": CANARY}))
        .await
        .expect(201);
    let mut row = house.sealed(&made).await;
    row.managed_by = Some("house-policy".to_owned());
    row.reference = Some("env:OPENAI_KEY".to_owned());
    let write = async |row: ProviderKey| {
        let row = &row;
        let wrote = house.control.store.write(async |tx: &Tx| provider_key_update(tx, row).await).await;
        wrote.map_err(|error: StoreError| error).expect("written");
    };
    write(row.clone()).await;
    let path = path(&made);
    let shown = house.get(&path).await.expect(200);
    assert_eq!(shown["managed_by"], "house-policy");
    assert_eq!(shown["value"], json!({"value": REDACTED, "env_var": "OPENAI_KEY", "from_env": true}));
    for body in [json!({"weight": 2}), json!({"enabled": false}), json!({"api_key": "sk-x"}), json!({})] {
        house.patch(&path, body).await.refused(409, "managed_by_configuration");
    }
    house.delete(&path).await.refused(409, "managed_by_configuration");
    for verb in ["verify", "promote"] {
        let token = Some(house.owner.as_str());
        house
            .send("POST", &format!("{path}/{verb}"), token, None)
            .await
            .refused(409, "managed_by_configuration");
    }
    house
        .post(&format!("{path}/stage"), json!({"api_key": "sk-x"}))
        .await
        .refused(409, "managed_by_configuration");
    house.delete(&format!("{path}/stage")).await.refused(409, "managed_by_configuration");

    row.managed_by = None;
    row.reference = Some("store:OPENAI".to_owned());
    write(row.clone()).await;
    let shown = house.get(&path).await.expect(200);
    assert_eq!(
        (&shown["reference"], &shown["value"]["from_env"]),
        (&json!({"store": "OPENAI"}), &json!(false))
    );
    let typed = house.patch(&path, json!({"api_key": "sk-typed"})).await.expect(200);
    assert_eq!(typed["reference"], Value::Null, "a key that is typed in follows no variable");
}

#[tokio::test]
async fn a_process_whose_master_key_was_retired_stores_no_key_with_a_cloud_and_signs_with_no_new_one() {
    let house = House::new().await;
    let (store, vault, at) = (&house.control.store, &house.control.vault, house.clock.now());
    let name = HouseSecretName::JwtKey;
    let sealed = vault.seal_house(name, &HouseSecret::generate());
    let signing = async |tx: &Tx| house_secret_set(tx, name.as_str(), &sealed, at).await;
    store.write(signing).await.map_err(|error: StoreError| error).expect("written");
    let rotate = || house.control.signing_key_rotate(&Actor::Cli, false);
    rotate().await.expect("both texts are sealed under a living key");
    let config = json!({"endpoint": "https://r.openai.azure.com", "tenant_id": "t", "client_id": "c",
        "client_secret": "s3cret"});
    house.post("/api/keys", azure(config.clone())).await.expect(201);

    let kid = vault.ring().primary().to_owned();
    let retire = async |tx: &Tx| master_key_set(tx, &kid, MasterKeyState::Retired, at).await;
    store.write(retire).await.map_err(|error: StoreError| error).expect("written");
    let before = store.sealed_rows().await.expect("rows").len();
    house.post("/api/keys", azure(config)).await.refused(409, "conflict");
    assert!(rotate().await.is_err_and(|error| error.to_string().contains("was retired")));
    assert_eq!(store.sealed_rows().await.expect("rows").len(), before);
}
