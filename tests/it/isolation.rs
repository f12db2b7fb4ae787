//! Tenants cannot see or affect one another.

use std::collections::BTreeSet;

use reqwest::Method;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use serde_json::{Value, json};

use crate::support::{Gateway, Setup, Upstream, VirtualKey, chat_ok, gateway::ADMIN_PASSWORD, usage};

struct Tenant {
    id: String,
    key: VirtualKey,
    provider_key: String,
    alias: String,
    budget: String,
    session: String,
}

/// A tenant with a provider key at `upstream`, a virtual key, an alias and an administrator.
async fn settle(gateway: &Gateway, name: &str, upstream: &Upstream) -> Tenant {
    let id =
        gateway.create("/api/tenants", json!({ "name": name })).await["id"].as_str().expect("id").to_owned();
    let secret = json!({ "tenant_id": id, "api_key": format!("sk-secret-of-{name}") });
    let provider_key = gateway.provider_key_with("openai", upstream, secret).await;
    let budget =
        json!({ "name": format!("{name}-all"), "cap_micro_usd": null, "window": "total", "tenant_id": id });
    let budget = gateway.create("/api/budgets", budget).await["id"].as_str().expect("id").to_owned();
    let key = gateway.virtual_key(json!({ "tenant_id": id, "budgets": [budget] })).await;
    let alias = json!({ "name": format!("{name}-fast"), "models": ["openai/gpt-4o-mini"], "tenant_id": id });
    let alias = gateway.create("/api/aliases", alias).await["id"].as_str().expect("id").to_owned();
    let email = format!("{name}@example.com");
    let user = json!({ "email": email, "password": ADMIN_PASSWORD, "role": "tenant_admin", "tenant_id": id });
    gateway.create("/api/users", user).await;
    let login = json!({ "email": email, "password": ADMIN_PASSWORD });
    let session =
        gateway.admin_as("", Method::POST, "/api/auth/login", Some(&login)).await.expect(200).json();
    Tenant {
        id,
        key,
        provider_key,
        alias,
        budget,
        session: session["token"].as_str().expect("token").to_owned(),
    }
}

async fn two_tenants() -> (Upstream, Gateway, Tenant, Tenant) {
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let a = settle(&gateway, "acme", &upstream).await;
    let b = settle(&gateway, "bolt", &upstream).await;
    (upstream, gateway, a, b)
}

#[tokio::test]
async fn p16_each_tenants_requests_use_its_own_keys_aliases_and_money() {
    let (upstream, gateway, a, b) = two_tenants().await;
    for (tenant, name) in [(&a, "acme"), (&b, "bolt")] {
        for model in ["openai/gpt-4o-mini", "gpt-4o-mini", &format!("{name}-fast")] {
            gateway.chat(&tenant.key, json!({ "model": model })).await.expect(200);
            let secret = format!("Bearer sk-secret-of-{name}");
            assert_eq!(upstream.last().header("authorization"), Some(secret.as_str()));
        }
    }
    gateway.chat(&a.key, json!({ "model": "bolt-fast" })).await.refused(404, "model_not_found");
    gateway.provider_key_with("bolts-own", &upstream, json!({ "tenant_id": b.id })).await;
    gateway.chat(&a.key, json!({ "model": "bolts-own/x" })).await.refused(404, "model_not_found");
    gateway.chat(&b.key, json!({ "model": "bolts-own/x" })).await.expect(200);
    let models = gateway.read("/v1/models", &a.key).await.expect(200);
    assert!(!models.text().contains("bolt"));
    for (tenant, spent) in [(&a, 14), (&b, 14)] {
        let view = gateway.read("/v1/key", &tenant.key).await.expect(200).json();
        assert_eq!(view["spent_micro_usd"], spent, "3 × 4.5, rounded up");
    }
}

#[tokio::test]
async fn p16_another_tenants_ids_do_not_exist() {
    let (_upstream, gateway, a, b) = two_tenants().await;
    gateway.chat(&b.key, json!({})).await.expect(200);
    let row = gateway.only_usage().await;
    let request = row["request_id"].as_str().expect("an id");
    let paths = [
        (Method::GET, format!("/api/keys/{}", b.provider_key)),
        (Method::PATCH, format!("/api/keys/{}", b.provider_key)),
        (Method::DELETE, format!("/api/keys/{}", b.provider_key)),
        (Method::GET, format!("/api/virtual-keys/{}", b.key.id)),
        (Method::PATCH, format!("/api/virtual-keys/{}", b.key.id)),
        (Method::POST, format!("/api/virtual-keys/{}/revoke", b.key.id)),
        (Method::POST, format!("/api/virtual-keys/{}/rotate", b.key.id)),
        (Method::DELETE, format!("/api/virtual-keys/{}", b.key.id)),
        (Method::GET, format!("/api/aliases/{}", b.alias)),
        (Method::DELETE, format!("/api/aliases/{}", b.alias)),
        (Method::GET, format!("/api/budgets/{}", b.budget)),
        (Method::PATCH, format!("/api/budgets/{}", b.budget)),
        (Method::DELETE, format!("/api/budgets/{}", b.budget)),
        (Method::GET, format!("/api/tenants/{}", b.id)),
        (Method::GET, format!("/api/usage/{request}/explain")),
    ];
    let body = json!({});
    for (method, path) in paths {
        let body = (method == Method::PATCH).then_some(&body);
        let reply = gateway.admin_as(&a.session, method.clone(), &path, body).await;
        assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "not_found");
    }
    gateway.chat(&b.key, json!({})).await.expect(200);
}

#[tokio::test]
async fn p16_lists_show_ones_own_and_writes_go_nowhere_else() {
    let (upstream, gateway, a, b) = two_tenants().await;
    gateway.chat(&a.key, json!({})).await.expect(200);
    gateway.chat(&b.key, json!({})).await.expect(200);
    gateway.usage_of(2).await;
    let look = |path: &str| {
        let path = path.to_owned();
        let (gateway, session) = (&gateway, &a.session);
        async move { gateway.admin_as(session, Method::GET, &path, None).await }
    };
    for path in [
        "/api/keys",
        "/api/virtual-keys",
        "/api/aliases",
        "/api/budgets",
        "/api/usage",
        "/api/spend?group_by=tenant,key",
        "/api/users",
    ] {
        let reply = look(path).await;
        if reply.status == 403 {
            continue;
        }
        let text = reply.expect(200).text().to_owned();
        assert!(!text.contains(&b.id) && !text.contains("bolt"), "{path}: {text}");
        for filter in [format!("tenant_id={}", b.id), format!("virtual_key_id={}", b.key.id)] {
            let glue = if path.contains('?') { '&' } else { '?' };
            let reply = look(&format!("{path}{glue}{filter}")).await;
            assert!(
                reply.status >= 400 || !reply.text().contains("bolt"),
                "{path} {filter}: {}",
                reply.text()
            );
            assert!(
                reply.status >= 400 || !reply.text().contains(&b.key.id),
                "{path} {filter}: {}",
                reply.text()
            );
        }
    }
    for (path, body) in [
        ("/api/virtual-keys", json!({ "name": "k", "tenant_id": b.id })),
        ("/api/aliases", json!({ "name": "x", "models": ["openai/gpt-4o"], "tenant_id": b.id })),
        ("/api/keys", json!({ "provider": "openai", "key_name": "k", "api_key": "sk-x", "tenant_id": b.id })),
    ] {
        let reply = gateway.admin_as(&a.session, Method::POST, path, Some(&body)).await;
        assert!(matches!(reply.status, 403 | 404), "{path}: {}", reply.status);
    }
    // Neither tenants nor prices are a tenant's to make.
    let price = json!({ "prices": [{ "model": "openai/gpt-4o-mini", "input": 0, "output": 0 }] });
    gateway.admin_as(&a.session, Method::PUT, "/api/prices", Some(&price)).await.expect(403);
    gateway
        .admin_as(&a.session, Method::POST, "/api/tenants", Some(&json!({ "name": "x" })))
        .await
        .expect(403);
    assert_eq!(upstream.count(), 2);
}

/// Every row of every table that names one of `ids`, as JSON behind its table's name.
async fn rows_naming(db: &DatabaseConnection, ids: &[&str]) -> BTreeSet<String> {
    let backend = db.get_database_backend();
    let texts = async |sql: &str| -> Vec<String> {
        let rows = db.query_all_raw(Statement::from_string(backend, sql)).await.expect("an answer");
        rows.iter().map(|row| row.try_get_by_index(0).expect("a text")).collect()
    };
    let tables = match backend {
        DbBackend::Postgres => "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()",
        _ => "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    };
    let mut found = BTreeSet::new();
    for table in texts(tables).await {
        let all = match backend {
            DbBackend::Postgres => format!(r#"SELECT row_to_json(t)::text FROM "{table}" AS t"#),
            _ => {
                let columns = texts(&format!("SELECT name FROM pragma_table_info('{table}')")).await;
                let members = columns.iter().map(|column| format!(r#"'{column}', "{column}""#));
                format!(r#"SELECT json_object({}) FROM "{table}""#, members.collect::<Vec<_>>().join(", "))
            }
        };
        let rows = texts(&all).await;
        let naming = rows.into_iter().filter(|row| ids.iter().any(|id| row.contains(id)));
        found.extend(naming.map(|row| format!("{table} {row}")));
    }
    found
}

#[tokio::test]
async fn p16_nothing_that_one_tenant_does_changes_a_row_of_another() {
    let (_upstream, gateway, a, b) = two_tenants().await;
    for tenant in [&a, &b] {
        gateway.chat(&tenant.key, json!({})).await.expect(200);
    }
    gateway.usage_of(2).await;
    let db = Database::connect(gateway.database_url()).await.expect("a connection");
    let ids = [b.id.as_str(), &b.key.id, &b.provider_key, &b.alias, &b.budget, "bolt@example.com"];
    let before = rows_naming(&db, &ids).await;
    let tables: BTreeSet<&str> = before.iter().filter_map(|row| row.split(' ').next()).collect();
    for table in ["tenant", "user", "virtual_key", "provider_key", "budget", "usage_record", "spend_counter"]
    {
        assert!(tables.contains(table), "`{table}` has rows of the tenant: {tables:?}");
    }

    let act = async |method: Method, path: String, body: Value| -> Value {
        let body = (!body.is_null()).then_some(&body);
        let reply = gateway.admin_as(&a.session, method.clone(), &path, body).await;
        assert!(reply.status < 300, "{method} {path}: {} {}", reply.status, reply.text());
        if reply.text().is_empty() { Value::Null } else { reply.json() }
    };
    let named = |name: &str, path: &str| format!("{path}/{name}");
    act(Method::PATCH, named(&a.key.id, "/api/virtual-keys"), json!({ "spend_cap_micro_usd": 50_000 })).await;
    act(Method::PATCH, named(&a.budget, "/api/budgets"), json!({ "cap_micro_usd": 40_000 })).await;
    act(Method::PATCH, named(&a.provider_key, "/api/keys"), json!({ "weight": 3 })).await;
    for body in [json!({}), json!({ "stream": true }), json!({ "model": "acme-fast" })] {
        gateway.chat(&a.key, body).await.expect(200);
    }
    gateway.chat(&a.key, json!({ "model": "no/such" })).await.refused(404, "model_not_found");
    let rotated = act(Method::POST, format!("/api/virtual-keys/{}/rotate", a.key.id), json!({})).await;
    assert!(rotated["key"].is_string(), "{rotated}");
    act(Method::POST, format!("/api/virtual-keys/{}/revoke", a.key.id), Value::Null).await;
    act(Method::DELETE, named(&a.key.id, "/api/virtual-keys"), Value::Null).await;
    act(Method::DELETE, named(&a.alias, "/api/aliases"), Value::Null).await;
    act(Method::DELETE, named(&a.budget, "/api/budgets"), Value::Null).await;
    act(Method::DELETE, named(&a.provider_key, "/api/keys"), Value::Null).await;
    gateway.admin(Method::DELETE, &named(&a.id, "/api/tenants"), None).await;
    gateway.usage_of(5).await;

    let after = rows_naming(&db, &ids).await;
    let (gone, new): (Vec<_>, Vec<_>) =
        (before.difference(&after).collect(), after.difference(&before).collect());
    assert!(gone.is_empty() && new.is_empty(), "gone or changed: {gone:#?}\nnew: {new:#?}");
    gateway.chat(&b.key, json!({})).await.expect(200);
}

#[tokio::test]
async fn the_two_planes_do_not_take_one_anothers_credentials() {
    let (_upstream, gateway, a, _) = two_tenants().await;
    let session = VirtualKey { id: String::new(), key: a.session.clone() };
    gateway.chat(&session, json!({})).await.refused(401, "invalid_api_key");
    gateway.admin_as(&a.key.key, Method::GET, "/api/virtual-keys", None).await.expect(401);
    gateway.admin_as("", Method::GET, "/api/virtual-keys", None).await.expect(401);
    gateway.read("/api/virtual-keys", &a.key).await.refused(404, "unknown_path");
    let data_plane_path_on_admin = gateway.admin(Method::GET, "/v1/models", None).await;
    assert_eq!(data_plane_path_on_admin.status, 404);
}

#[tokio::test]
async fn a_sealed_key_that_was_moved_to_another_row_does_not_open() {
    let (upstream, gateway, a, b) = two_tenants().await;
    let db = Database::connect(gateway.database_url()).await.expect("a connection");
    let sealed = format!(
        "UPDATE provider_key SET sealed = (SELECT sealed FROM provider_key WHERE id = '{}') WHERE id = '{}'",
        b.provider_key, a.provider_key
    );
    db.execute_unprepared(&sealed).await.expect("moved");
    gateway.chat(&a.key, json!({})).await.refused(503, "no_provider_available");
    assert_eq!(upstream.count(), 0, "nothing was sent");
    gateway.chat(&b.key, json!({})).await.expect(200);
    // Nor does one whose address was changed behind the gateway's back.
    let thief = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let moved = format!(
        "UPDATE provider_key SET base_url = '{}', origin = 'http://{}' WHERE id = '{}'",
        thief.base_url(),
        thief.address,
        b.provider_key
    );
    db.execute_unprepared(&moved).await.expect("moved");
    db.close().await.expect("closed");
    let stopped = gateway.stop(std::time::Duration::from_secs(5)).await;
    // It either refuses to start on such a database, or the key does not open.
    if let Ok(gateway) = stopped.again.allow(&thief).try_start().await {
        let reply = gateway.chat(&b.key, json!({})).await;
        assert!(reply.status >= 500, "{}", reply.status);
    }
    assert_eq!(thief.count(), 0);
}

#[tokio::test]
async fn one_tenants_storm_does_not_starve_another() {
    let (upstream, gateway, a, b) = two_tenants().await;
    gateway.patch(&format!("/api/tenants/{}", a.id), json!({ "rate_limit_rpm": 10 })).await;
    let storm = futures_util::future::join_all((0..200).map(|_| gateway.chat(&a.key, json!({}))));
    let calm = async {
        for _ in 0..10 {
            gateway.chat(&b.key, json!({})).await.expect(200);
        }
    };
    let (replies, ()) = tokio::join!(storm, calm);
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 10);
    assert_eq!(upstream.count(), 20);
    let rows = gateway.usage_of(20).await;
    let of = |tenant: &Tenant| rows.iter().filter(|row| row["tenant_id"] == tenant.id.as_str()).count();
    assert_eq!((of(&a), of(&b)), (10, 10));
}
