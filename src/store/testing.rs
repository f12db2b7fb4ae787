//! A store in a temporary directory, and rows to put in it.

use std::{ops::Deref, sync::Arc};

use entity::{provider_key, tenant};
use sea_orm::{ActiveValue::Set, ConnectionTrait, Database};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{Run, Store, sqlite_url};
use crate::domain::{
    ModelName, ModelRef, NanoUsd, Outcome, PlaceId, ProviderKeyId, RequestId, TenantId, Timestamp,
    TokenUsage, UsageRecord, UsageSource, VirtualKeyId, Windows, Zone,
};

/// Where the storage suite runs instead of on SQLite: `postgres://user@host:port`, a server to make databases on.
const SERVER: &str = "TEST_POSTGRES_URL";
/// A database with the schema in it, to be copied: much cheaper than to migrate every one.
static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// A store that goes with its directory.
pub(crate) struct TestStore {
    store: Store,
    url: String,
    pub(super) dir: TempDir,
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl TestStore {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The same database, opened by somebody else.
    pub(super) async fn again(&self) -> Store {
        Store::open(&self.url).await.expect("a store")
    }
}

/// A new store: SQLite, or Postgres where a server is named.
#[expect(clippy::disallowed_methods, reason = "a test has no settings")]
pub(crate) async fn store() -> TestStore {
    let Ok(server) = std::env::var(SERVER) else { return sqlite().await };
    let server = server.trim_end_matches('/');
    let template = TEMPLATE.get_or_init(|| async {
        let name = create(server, "").await;
        let store = Store::open(&format!("{server}/{name}")).await.expect("a store");
        store.close().await.expect("closed");
        name
    });
    let name = create(server, &format!(" TEMPLATE {}", template.await)).await;
    let url = format!("{server}/{name}");
    TestStore {
        store: Store::open(&url).await.expect("a store"),
        url,
        dir: tempfile::tempdir().expect("a directory"),
    }
}

/// Makes a database on a Postgres server; answers its name.
async fn create(server: &str, how: &str) -> String {
    let name = format!("keystile_{}", uuid::Uuid::now_v7().simple());
    let house = Database::connect(format!("{server}/postgres")).await.expect("a server");
    house.execute_unprepared(&format!("CREATE DATABASE {name}{how}")).await.expect("a database");
    house.close().await.expect("closed");
    name
}

/// A run that was never seen before, from a place of its own.
pub(crate) fn a_run() -> Run {
    Run::at(PlaceId::generate())
}

/// A new store on SQLite, for what is about SQLite.
pub(crate) async fn sqlite() -> TestStore {
    let dir = tempfile::tempdir().expect("a directory");
    let url = sqlite_url(&dir.path().join("keystile.db"));
    TestStore { store: Store::open(&url).await.expect("a store"), url, dir }
}

pub(super) fn tenant(id: TenantId) -> tenant::ActiveModel {
    tenant::ActiveModel {
        id: Set(id.to_string()),
        name: Set(format!("tenant {id}")),
        models_allowed: Set(None),
        spend_cap_nano_usd: Set(None),
        spend_window: Set("total".into()),
        cap_mode: Set("hard".into()),
        rate_limit_rpm: Set(None),
        rate_limit_tpm: Set(None),
        max_parallel: Set(None),
        time_zone: Set("UTC".into()),
        created_at: Set(1),
        updated_at: Set(1),
        deleted_at: Set(None),
    }
}

pub(super) fn provider_key(tenant: TenantId) -> provider_key::ActiveModel {
    provider_key::ActiveModel {
        id: Set(ProviderKeyId::generate().to_string()),
        tenant_id: Set(tenant.to_string()),
        provider: Set("openai".into()),
        key_name: Set("main".into()),
        dialect: Set(None),
        base_url: Set("https://api.openai.com/v1".into()),
        origin: Set("https://api.openai.com:443".into()),
        sealed: Set("v1.a.token".into()),
        fingerprint: Set("0123abcd".into()),
        models: Set(None),
        weight: Set(1),
        is_active: Set(true),
        retrievable: Set(false),
        use_for_batch_api: Set(false),
        cloud: Set(None),
        cloud_sealed: Set(None),
        reference: Set(None),
        managed_by: Set(None),
        staged_sealed: Set(None),
        staged_fingerprint: Set(None),
        staged_at: Set(None),
        staged_verified_at: Set(None),
        created_at: Set(1),
        updated_at: Set(1),
    }
}

/// One finished request; every call makes another.
pub(super) fn record(
    tenant: TenantId,
    key: VirtualKeyId,
    started_at: Timestamp,
    cost: Option<NanoUsd>,
) -> UsageRecord {
    UsageRecord {
        request_id: RequestId::generate(),
        started_at,
        windows: Windows::of(started_at, Zone::UTC),
        scopes: [key.into(), tenant.into()].into(),
        tenant_id: tenant,
        virtual_key_id: key,
        provider_key_id: ProviderKeyId::generate(),
        requested_model: ModelName::parse("smart").expect("a name"),
        served_model: ModelRef::parse("my-vllm/org/llama").expect("a model"),
        status: 200,
        outcome: Outcome::Ok,
        attempts: vec![],
        stream: false,
        usage: TokenUsage { input: 3, cache_read: 4, output: 5, reasoning: 2, ..TokenUsage::default() },
        cost,
        cost_lines: vec![],
        clamped: NanoUsd::ZERO,
        price_version: None,
        usage_source: UsageSource::Provider,
        latency_ms: 7,
        time_to_first_token_ms: Some(u64::MAX),
        tags: Arc::new([("team".to_owned(), "a".to_owned())].into()),
    }
}
