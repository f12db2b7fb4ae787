//! The key that signs sessions is replaced while people are logged in: AT-083.

use std::process::{Command, Output};

use keystile::config::{Config, JwtKey, SecretText};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Gateway, Setup, eventually,
    gateway::{ADMIN_EMAIL, ADMIN_PASSWORD},
};

async fn log_in(gateway: &Gateway) -> String {
    let asked = json!({ "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD });
    let session =
        gateway.admin_as("", Method::POST, "/api/auth/login", Some(&asked)).await.expect(200).json();
    session["token"].as_str().expect("a token").to_owned()
}

async fn status(gateway: &Gateway, session: &str) -> u16 {
    gateway.admin_as(session, Method::GET, "/api/users", None).await.status
}

/// The id of the key that signed a token.
fn kid(token: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header")).expect("base64");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("an id").to_owned()
}

async fn rotate(gateway: &Gateway, more: &[&str]) -> Output {
    let config = &gateway.config;
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystile"));
    command
        .args(["signing-key", "rotate"])
        .args(more)
        .arg("--data-dir")
        .arg(&config.server.data_dir)
        .env_clear();
    if let Some(url) = &config.database_url {
        command.env("KEYSTILE_DATABASE_URL", url.0.as_str());
    }
    if let [key, ..] = config.vault.master_keys.as_slice() {
        command.env("PROVIDER_KEY_ENCRYPTION_KEY", key.0.as_str());
    }
    if let [key, ..] = config.admin.jwt_keys.as_slice() {
        command.env("KEYSTILE_JWT_KEYS", format!("{}:{}", key.kid, key.secret.0.as_str()));
    }
    tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_083_the_houses_signing_key_is_rotated_and_nobody_logs_in_again_unless_told_to() {
    let gateway = Setup::new().await.start().await;
    let before = log_in(&gateway).await;
    let new = said(&rotate(&gateway, &[]).await);
    assert_ne!(kid(&before), new);
    let after = eventually("the new key to sign", || async {
        assert_eq!(status(&gateway, &before).await, 200, "old sessions go on");
        let token = log_in(&gateway).await;
        (kid(&token) == new).then_some(token)
    })
    .await;
    assert_eq!((status(&gateway, &before).await, status(&gateway, &after).await), (200, 200));

    let newest = said(&rotate(&gateway, &["--now"]).await);
    for old in [&before, &after] {
        eventually("the old sessions to end", || async {
            (status(&gateway, old).await == 401).then_some(())
        })
        .await;
    }
    let fresh = log_in(&gateway).await;
    assert_eq!((kid(&fresh), status(&gateway, &fresh).await), (newest.clone(), 200));
    let entries =
        gateway.admin_as(&fresh, Method::GET, "/api/v1/audit?action=signing_key.rotated", None).await;
    assert!(entries.text().contains(&new) && entries.text().contains(&newest), "{}", entries.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_083_the_operators_signing_keys_are_reloaded_and_a_dropped_one_ends_its_sessions_at_once() {
    let key = |kid: &str| JwtKey { kid: kid.into(), secret: SecretText::new(kid.repeat(20)) };
    let with = |config: &Config, keys: Vec<JwtKey>| {
        let mut config = config.clone();
        config.admin.jwt_keys = keys;
        config
    };
    let gateway = Setup::new().await.with(|config| config.admin.jwt_keys = vec![key("k1")]).start().await;
    let config = gateway.config.clone();
    let old = log_in(&gateway).await;
    gateway.app.reload(with(&config, vec![key("k2"), key("k1")])).await.expect("reloaded");
    let new = log_in(&gateway).await;
    assert_eq!((kid(&old).as_str(), kid(&new).as_str()), ("k1", "k2"));
    assert_eq!((status(&gateway, &old).await, status(&gateway, &new).await), (200, 200));
    gateway.app.reload(with(&config, vec![key("k2")])).await.expect("reloaded");
    assert_eq!((status(&gateway, &old).await, status(&gateway, &new).await), (401, 200));
    let short = JwtKey { kid: "k3".into(), secret: SecretText::new("short") };
    gateway.app.reload(with(&config, vec![short])).await.expect_err("refused");
    assert_eq!(status(&gateway, &new).await, 200, "what was refused changed nothing");
    let refused = rotate(&gateway, &[]).await;
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("KEYSTILE_JWT_KEYS"));
}
