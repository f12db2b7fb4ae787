//! Somebody who can write the database moves sealed provider keys about: nothing is sent, nothing else is used in their
//! place, and it is counted and written down.

use reqwest::Method;
use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::support::{
    Gateway, Setup, Upstream, VirtualKey, chat_ok, database, eventually, gateway::ADMIN_PASSWORD, usage,
};

struct House {
    upstream: Upstream,
    gateway: Gateway,
    key: VirtualKey,
    /// Serves first.
    first: String,
    /// Serves when `first` is down.
    second: String,
    /// Another tenant's.
    foreign: String,
    foreign_tenant: String,
}

/// Two keys of one tenant for one model, a fallback model at another provider, and a key of another tenant.
async fn house() -> House {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let key = |name: &str, weight: u32| json!({ "key_name": name, "weight": weight, "api_key": format!("sk-of-{name}-0123") });
    let first = gateway.provider_key_with("openai", &upstream, key("first", 1)).await;
    let second = gateway.provider_key_with("openai", &upstream, key("second", 0)).await;
    gateway.provider_key_with("groq", &upstream, key("fallback", 1)).await;
    let made = gateway.create("/api/tenants", json!({ "name": "other" })).await;
    let foreign_tenant = made["id"].as_str().expect("an id").to_owned();
    let mut foreign = key("foreign", 1);
    foreign["tenant_id"] = foreign_tenant.clone().into();
    let foreign = gateway.provider_key_with("openai", &upstream, foreign).await;
    let key = gateway.virtual_key(json!({ "fallback_models": ["groq/llama-3.3-70b-versatile"] })).await;
    House { upstream, gateway, key, first, second, foreign, foreign_tenant }
}

impl House {
    /// Changes the database behind the gateway's back, and makes it forget what it had read.
    async fn tamper(&self, sql: &str) {
        let other = database::intruder(&self.gateway.database_url()).await;
        other.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        other.close().await.expect("closed");
        self.gateway.patch(&format!("/api/virtual-keys/{}", self.key.id), json!({ "name": "renamed" })).await;
    }

    async fn counted(&self, reason: &str) -> u64 {
        let page = self.gateway.admin(Method::GET, "/metrics", None).await.expect(200);
        let line = format!("keystile_vault_open_failures_total{{reason=\"{reason}\"}} ");
        let count = page.text().lines().find_map(|found| found.strip_prefix(&line));
        count.map_or(0, |count| count.parse().expect("a number"))
    }

    /// One request fails closed, is counted, and tells of `row` once however often it is made again.
    async fn fails_closed(&self, row: &str, reason: &str) {
        let seen = self.upstream.connections();
        for times in 1..=3 {
            let refused = self.gateway.chat(&self.key, json!({})).await.refused(503, "no_provider_available");
            assert_eq!(refused.header("x-should-retry"), Some("false"));
            assert_eq!(self.counted(reason).await, times, "counted each time");
        }
        assert_eq!(self.upstream.connections(), seen, "0 bytes, not even a connection");
        let path = "/api/v1/audit?action=provider_key.unsealable&outcome=failure";
        let entry = eventually("the alarm in the audit log", || async {
            let log = self.gateway.get(path).await;
            let entries = log["data"].as_array().expect("entries").clone();
            assert!(entries.len() <= 1, "told of once: {entries:#?}");
            entries.into_iter().next()
        })
        .await;
        assert_eq!((&entry["object"], &entry["actor"]), (&json!(row), &json!("system")), "{entry}");
        assert_eq!(entry["details"]["reason"], reason);
        assert!(entry["details"]["provider"].is_string(), "{entry}");
        assert!(!entry.to_string().contains("sk-of"), "{entry}");
    }
}

/// `sealed` of one row in the place of another's.
fn moved(from: &str, to: &str) -> String {
    format!(
        "UPDATE provider_key SET sealed = (SELECT sealed FROM provider_key WHERE id = '{from}') WHERE id = '{to}'"
    )
}

fn swapped(one: &str, other: &str) -> String {
    format!(
        "UPDATE provider_key SET staged_sealed = (SELECT sealed FROM provider_key WHERE id = '{one}') WHERE id = '{other}'; \
         {}; UPDATE provider_key SET sealed = staged_sealed, staged_sealed = NULL WHERE id = '{other}'",
        moved(other, one)
    )
}

#[tokio::test]
async fn at_050_ciphertexts_swapped_within_a_tenant_are_refused_and_no_other_key_is_tried() {
    let house = house().await;
    house.gateway.chat(&house.key, json!({})).await.expect(200);
    house.tamper(&swapped(&house.first, &house.second)).await;
    house.fails_closed(&house.first, "mismatch").await;
}

#[tokio::test]
async fn at_050_a_ciphertext_moved_to_another_row_is_refused_although_the_key_it_came_from_is_good() {
    let house = house().await;
    house.tamper(&moved(&house.second, &house.first)).await;
    house.fails_closed(&house.first, "mismatch").await;
}

#[tokio::test]
async fn at_050_ciphertexts_swapped_between_tenants_are_refused() {
    let house = house().await;
    house.tamper(&swapped(&house.first, &house.foreign)).await;
    house.fails_closed(&house.first, "mismatch").await;
}

#[tokio::test]
async fn at_051_a_row_whose_origin_was_changed_is_refused() {
    let house = house().await;
    let thief = Upstream::always(chat_ok("thanks", &usage(1, 1))).await;
    let (base, origin) = (thief.base_url(), format!("http://{}", thief.address));
    house
        .tamper(&format!(
            "UPDATE provider_key SET base_url = '{base}', origin = '{origin}' WHERE id = '{}'",
            house.first
        ))
        .await;
    house.fails_closed(&house.first, "mismatch").await;
    assert_eq!(thief.connections(), 0);
}

#[tokio::test]
async fn at_051_a_base_url_that_was_changed_alone_is_refused_also_where_it_may_be_called() {
    let thief = Upstream::always(chat_ok("thanks", &usage(1, 1))).await;
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let gateway = Setup::new().await.allow(&upstream).allow(&thief).start().await;
    let first = gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    let (second, foreign, foreign_tenant) = Default::default();
    let house = House { upstream, gateway, key, first, second, foreign, foreign_tenant };
    house.gateway.chat(&house.key, json!({})).await.expect(200);
    let sql =
        format!("UPDATE provider_key SET base_url = '{}' WHERE id = '{}'", thief.base_url(), house.first);
    house.tamper(&sql).await;
    house.fails_closed(&house.first, "mismatch").await;
    assert_eq!(thief.connections(), 0, "the key went nowhere else");
}

#[tokio::test]
async fn at_051_a_row_whose_provider_was_changed_is_refused() {
    let house = house().await;
    house
        .tamper(&format!(
            "UPDATE provider_key SET provider = 'mistral' WHERE id = '{}'; UPDATE provider_key SET is_active = false WHERE id = '{}'",
            house.first, house.second
        ))
        .await;
    let seen = house.upstream.connections();
    let refused = house.gateway.chat(&house.key, json!({ "model": "mistral/mistral-small-latest" })).await;
    refused.refused(503, "no_provider_available");
    assert_eq!((house.upstream.connections(), house.counted("mismatch").await), (seen, 1));
}

#[tokio::test]
async fn at_051_a_row_whose_tenant_was_changed_is_refused_to_the_tenant_that_has_it_now() {
    let house = house().await;
    house
        .tamper(&format!(
            "UPDATE provider_key SET is_active = false WHERE id = '{}'; \
             UPDATE provider_key SET tenant_id = '{}' WHERE id = '{}'",
            house.foreign, house.foreign_tenant, house.first
        ))
        .await;
    let theirs = house.gateway.virtual_key(json!({ "tenant_id": house.foreign_tenant })).await;
    let seen = house.upstream.connections();
    house.gateway.chat(&theirs, json!({})).await.refused(503, "no_provider_available");
    assert_eq!((house.upstream.connections(), house.counted("mismatch").await), (seen, 1));

    // The tenant that has it now reads of it in its own log.
    let user = json!({ "email": "other@example.com", "password": ADMIN_PASSWORD, "role": "auditor", "tenant_id": house.foreign_tenant });
    house.gateway.create("/api/users", user).await;
    let login = json!({ "email": "other@example.com", "password": ADMIN_PASSWORD });
    let session =
        house.gateway.admin_as("", Method::POST, "/api/auth/login", Some(&login)).await.expect(200).json();
    let session = session["token"].as_str().expect("a token").to_owned();
    eventually("the alarm in their log", || async {
        let path = "/api/v1/audit?action=provider_key.unsealable";
        let log = house.gateway.admin_as(&session, Method::GET, path, None).await.expect(200).json();
        (log["data"][0]["object"] == house.first.as_str()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn at_054_what_is_no_sealed_text_is_an_error_and_never_a_key() {
    for (sealed, reason) in [
        ("sk-plaintext-in-the-column".to_owned(), "malformed"),
        (String::new(), "malformed"),
        ("x".repeat(1 << 20), "malformed"),
        (format!("v1.00000000.{}", "A".repeat(120)), "unknown_master_key"),
    ] {
        let house = house().await;
        house
            .tamper(&format!("UPDATE provider_key SET sealed = '{sealed}' WHERE id = '{}'", house.first))
            .await;
        house.fails_closed(&house.first, reason).await;
    }
    let house = house().await;
    house
        .tamper(&format!(
            "UPDATE provider_key SET sealed = substr(sealed, 1, 100) WHERE id = '{}'",
            house.first
        ))
        .await;
    house.fails_closed(&house.first, "broken").await;
}
