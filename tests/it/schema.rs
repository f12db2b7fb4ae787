//! The migrated schema is the one that the entities describe, each step goes down and up again, and a database that a
//! later version has changed is refused.

use std::collections::BTreeSet;

use entity::{
    audit_anchor, audit_entry, audit_head, budget, change_log, config_variable, house_secret,
    idempotency_key, instance, lease, master_key, model_alias, price, provider_key, provider_key_use,
    service_token, service_token_secret, session, spend_counter, spend_rollup, tenant, usage_pruned,
    usage_record, user, virtual_key, virtual_key_secret,
};
use keystile::store::{OpenError, Store, StoreError, Tx, sqlite_url};
use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, Database, DatabaseConnection, DbBackend, EntityTrait, IdenStatic,
    IntoActiveModel, Iterable, Statement,
};

use crate::support::database;

/// The names in the first column of what `sql` answers.
async fn names(db: &DatabaseConnection, sql: &str) -> BTreeSet<String> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.expect("an answer");
    rows.iter().map(|row| row.try_get_by_index(0).expect("a name")).collect()
}

async fn tables(db: &DatabaseConnection) -> BTreeSet<String> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()"
        }
        _ => "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    };
    names(db, sql).await
}

async fn columns(db: &DatabaseConnection, table: &str) -> BTreeSet<String> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => format!(
            "SELECT column_name::text FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name = '{table}'"
        ),
        _ => format!("SELECT name FROM pragma_table_info('{table}')"),
    };
    names(db, &sql).await
}

/// A new database: SQLite, or Postgres where there is a server.
async fn new_database(dir: &tempfile::TempDir) -> String {
    database::empty_postgres().await.unwrap_or_else(|| sqlite_url(&dir.path().join("keystile.db")))
}

/// Puts a row with every column set into its table, reads it back, and compares the names of the columns.
async fn keeps<E>(store: &Store, row: E::Model) -> String
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel> + PartialEq + Clone + Sync,
    E::ActiveModel: ActiveModelTrait<Entity = E> + Send,
{
    let table = E::default().table_name().to_owned();
    let described: BTreeSet<String> = E::Column::iter().map(|column| column.as_str().to_owned()).collect();
    assert_eq!(described, columns(store.reader(), &table).await, "columns of `{table}`");
    let active = row.clone().into_active_model();
    store
        .write(async |tx: &Tx| {
            E::insert(active).exec_without_returning(tx).await?;
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap_or_else(|error| panic!("`{table}`: {error}"));
    let found = E::find().all(store.reader()).await.unwrap_or_else(|error| panic!("`{table}`: {error}"));
    assert!(found == [row], "what `{table}` keeps: {found:?}");
    table
}

#[tokio::test]
async fn every_table_keeps_what_its_entity_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&new_database(&dir).await).await.expect("a store");
    let kept = BTreeSet::from([
        keeps::<tenant::Entity>(&store, a_tenant()).await,
        keeps::<user::Entity>(&store, a_user()).await,
        keeps::<session::Entity>(&store, a_session()).await,
        keeps::<virtual_key::Entity>(&store, a_virtual_key()).await,
        keeps::<virtual_key_secret::Entity>(&store, a_virtual_key_secret()).await,
        keeps::<provider_key::Entity>(&store, a_provider_key()).await,
        keeps::<provider_key_use::Entity>(&store, a_provider_key_use()).await,
        keeps::<budget::Entity>(&store, a_budget()).await,
        keeps::<service_token::Entity>(&store, a_service_token()).await,
        keeps::<service_token_secret::Entity>(&store, a_service_token_secret()).await,
        keeps::<model_alias::Entity>(&store, a_model_alias()).await,
        keeps::<config_variable::Entity>(&store, a_config_variable()).await,
        keeps::<house_secret::Entity>(&store, a_house_secret()).await,
        keeps::<price::Entity>(&store, a_price()).await,
        keeps::<usage_record::Entity>(&store, a_usage_record()).await,
        keeps::<spend_counter::Entity>(&store, a_spend_counter()).await,
        keeps::<instance::Entity>(&store, an_instance()).await,
        keeps::<lease::Entity>(&store, a_lease()).await,
        keeps::<master_key::Entity>(&store, a_master_key()).await,
        keeps::<spend_rollup::Entity>(&store, a_spend_rollup()).await,
        keeps::<usage_pruned::Entity>(&store, a_usage_pruned()).await,
        keeps::<audit_entry::Entity>(&store, an_audit_entry()).await,
        keeps::<audit_head::Entity>(&store, an_audit_head()).await,
        keeps::<audit_anchor::Entity>(&store, an_audit_anchor()).await,
        keeps::<change_log::Entity>(&store, a_change()).await,
        keeps::<idempotency_key::Entity>(&store, an_idempotency_key()).await,
    ]);
    let mut migrated = tables(store.reader()).await;
    migrated.remove("seaql_migrations");
    assert_eq!(migrated, kept, "a table without an entity, or the other way round");
}

#[tokio::test]
async fn the_audit_log_has_an_index_for_what_it_is_filtered_by() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&new_database(&dir).await).await.expect("a store");
    let sql = match store.reader().get_database_backend() {
        DbBackend::Postgres => {
            "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = 'audit_entry' \
             AND indexname LIKE 'idx_%'"
        }
        _ => {
            "SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'audit_entry' AND name LIKE 'idx_%'"
        }
    };
    let indexes = names(store.reader(), sql).await;
    let over = indexes.iter().filter_map(|index| index.rsplit_once('(')).map(|(_, rest)| rest);
    let over: BTreeSet<String> = over.map(|rest| rest.replace(['"', ')'], "")).collect();
    let wanted = ["tenant_id, seq", "category, seq", "action, seq", "actor, seq", "object, seq", "at"];
    assert_eq!(over, wanted.map(str::to_owned).into(), "{indexes:?}");
}

#[tokio::test]
async fn every_step_goes_down_and_up_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = new_database(&dir).await;
    let creating = if url.starts_with("sqlite:") { "?mode=rwc" } else { "" };
    let db = Database::connect(format!("{url}{creating}")).await.expect("a connection");
    let everything = match db.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) \
             FROM information_schema.columns WHERE table_schema = current_schema() \
             UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() \
             UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
             WHERE connamespace = current_schema()::regnamespace"
        }
        _ => "SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'",
    };
    let steps = u32::try_from(migration::known().len()).expect("few");
    for step in 1..=steps {
        let before = names(&db, everything).await;
        Migrator::up(&db, Some(1)).await.expect("up");
        let after = names(&db, everything).await;
        assert_ne!(before, after, "step {step} changes something");
        if step > 1 {
            // The first step also makes the list of steps, which stays.
            Migrator::down(&db, Some(1)).await.expect("down");
            assert_eq!(names(&db, everything).await, before, "step {step} goes down");
            Migrator::up(&db, Some(1)).await.expect("up again");
        }
        assert_eq!(names(&db, everything).await, after, "step {step} goes up again");
    }
    Migrator::down(&db, None).await.expect("all down");
    assert_eq!(tables(&db).await, BTreeSet::from(["seaql_migrations".to_owned()]));
}

#[tokio::test]
async fn a_database_with_a_step_that_is_not_known_is_refused_and_left_alone() {
    let later = "m29991231_000001_later".to_owned();
    let foreign = "m20261121_000003_other".to_owned();
    for (step, wanted, says) in [
        (later.clone(), OpenError::SchemaTooNew { found: later }, "newer"),
        (foreign.clone(), OpenError::SchemaForeign { found: foreign }, "unreleased"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let url = new_database(&dir).await;
        let store = Store::open(&url).await.expect("a store");
        store.close().await.expect("closed");
        let db = Database::connect(&url).await.expect("a connection");
        let insert = format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('{step}', 0)");
        db.execute_unprepared(&insert).await.expect("written");
        let before = tables(&db).await;
        let refused = Store::open(&url).await.expect_err("an unknown step");
        assert!(matches!(&refused, StoreError::Open(error) if *error == wanted), "{refused:?}");
        assert!(refused.to_string().contains(says), "{refused}");
        assert_eq!(tables(&db).await, before);
    }
}

#[tokio::test]
async fn instances_that_start_at_once_on_a_new_database_all_find_it_ready() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = new_database(&dir).await;
    for opened in futures_util::future::join_all((0..4).map(|_| Store::open(&url))).await {
        assert!(opened.expect("a store").is_healthy().await);
    }
}

#[tokio::test]
async fn a_half_migrated_database_is_brought_up_to_date() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = new_database(&dir).await;
    let creating = if url.starts_with("sqlite:") { "?mode=rwc" } else { "" };
    let db = Database::connect(format!("{url}{creating}")).await.expect("a connection");
    Migrator::up(&db, Some(1)).await.expect("up");
    let store = Store::open(&url).await.expect("a store");
    keeps::<usage_record::Entity>(&store, a_usage_record()).await;
}

fn a_tenant() -> tenant::Model {
    tenant::Model {
        id: "tnt_1".into(),
        name: "acme".into(),
        models_allowed: Some("[]".into()),
        spend_cap_nano_usd: Some(i64::MAX),
        spend_window: "monthly".into(),
        cap_mode: "soft".into(),
        rate_limit_rpm: Some(i32::MAX),
        rate_limit_tpm: Some(2),
        max_parallel: Some(3),
        time_zone: "Europe/Berlin".into(),
        created_at: 1_795_219_200_000,
        updated_at: 5,
        deleted_at: Some(6),
    }
}

fn a_user() -> user::Model {
    user::Model {
        id: "usr_1".into(),
        email: "finance@example.com".into(),
        password_hash: "$argon2id$…".into(),
        role: "finance".into(),
        tenant_id: "tnt_1".into(),
        session_version: 2,
        is_active: true,
        created_at: 1,
        updated_at: 2,
    }
}

fn a_session() -> session::Model {
    session::Model {
        id: "ses_1".into(),
        user_id: "usr_1".into(),
        created_at: 1,
        seen_at: 2,
        expires_at: 3,
        ended_at: Some(4),
        address: Some("2001:db8::1".into()),
    }
}

fn a_virtual_key() -> virtual_key::Model {
    virtual_key::Model {
        id: "vk_1".into(),
        tenant_id: "tnt_1".into(),
        name: "app".into(),
        models_allowed: Some("[\"openai/*\"]".into()),
        spend_cap_nano_usd: Some(0),
        spend_window: "daily".into(),
        cap_mode: "hard".into(),
        rate_limit_rpm: Some(1),
        rate_limit_tpm: Some(2),
        max_parallel: Some(3),
        fallback_models: "[]".into(),
        tags: "{}".into(),
        budgets: "[\"bud_1\"]".into(),
        expires_at: Some(4),
        created_at: 5,
        updated_at: 6,
        revoked_at: Some(7),
        deleted_at: Some(8),
    }
}

fn a_budget() -> budget::Model {
    budget::Model {
        id: "bud_1".into(),
        tenant_id: "tnt_1".into(),
        name: "marketing".into(),
        cap_nano_usd: Some(i64::MAX),
        window: "monthly".into(),
        cap_mode: "soft".into(),
        created_at: 1,
        updated_at: 2,
        deleted_at: Some(3),
    }
}

fn a_virtual_key_secret() -> virtual_key_secret::Model {
    virtual_key_secret::Model {
        digest: "ab".repeat(32),
        virtual_key_id: "vk_1".into(),
        token_id: "abcdefghijkl".into(),
        created_at: 1,
        expires_at: Some(2),
    }
}

fn a_service_token() -> service_token::Model {
    service_token::Model {
        id: "st_1".into(),
        tenant_id: "tnt_1".into(),
        service_name: "indexer".into(),
        is_active: false,
        last_used_at: Some(3),
        created_at: 1,
        updated_at: 2,
    }
}

fn a_service_token_secret() -> service_token_secret::Model {
    service_token_secret::Model {
        digest: "cd".repeat(32),
        service_token_id: "st_1".into(),
        token_id: "abcdefghijkl".into(),
        created_at: 1,
        expires_at: Some(2),
    }
}

fn a_provider_key() -> provider_key::Model {
    provider_key::Model {
        id: "pk_1".into(),
        tenant_id: "tnt_1".into(),
        provider: "my-vllm".into(),
        key_name: "ключ".into(),
        dialect: Some("openai".into()),
        base_url: "https://vllm.example.com/v1".into(),
        origin: "https://vllm.example.com:443".into(),
        sealed: format!("v1.kid.{}", "x".repeat(4_000)),
        fingerprint: "0123abcd".into(),
        models: Some("[\"llama\"]".into()),
        weight: 0,
        is_active: false,
        retrievable: true,
        use_for_batch_api: true,
        cloud: Some(r#"{"kind":"azure"}"#.into()),
        cloud_sealed: Some("v1.a.c".into()),
        reference: Some("store:OPENAI".into()),
        managed_by: Some("house".into()),
        staged_sealed: Some("v1.a.s".into()),
        staged_fingerprint: Some("00000001".into()),
        staged_at: Some(5),
        staged_verified_at: Some(6),
        created_at: 1,
        updated_at: 2,
    }
}

fn a_provider_key_use() -> provider_key_use::Model {
    provider_key_use::Model {
        provider_key_id: "pk_1".into(),
        last_used_at: 1_795_219_200_000,
        last_refused_at: 1_795_219_200_001,
        last_refusal_status: 429,
    }
}

fn a_model_alias() -> model_alias::Model {
    model_alias::Model {
        id: "als_1".into(),
        tenant_id: "tnt_1".into(),
        name: "smart".into(),
        models: "[\"openai/gpt\"]".into(),
        created_at: 1,
        updated_at: 2,
    }
}

fn a_config_variable() -> config_variable::Model {
    config_variable::Model {
        id: "cfg_1".into(),
        tenant_id: "tnt_1".into(),
        name: "OPENAI_KEY".into(),
        value: Some("open".into()),
        sealed: Some("v2.0a0b0c0d.x".into()),
        description: Some("for people".into()),
        created_at: 1,
        updated_at: 2,
    }
}

fn a_house_secret() -> house_secret::Model {
    house_secret::Model { name: "pepper".into(), sealed: "v1.kid.x".into(), created_at: 1 }
}

fn a_price() -> price::Model {
    price::Model {
        id: "prc_1".into(),
        model: "openai/gpt".into(),
        input: 750_000,
        output: i64::MAX,
        cache_read: Some(1),
        cache_write: Some(2),
        cache_write_1h: Some(3),
        context_window: Some(4),
        max_output_tokens: Some(5),
        effective_from: 6,
        created_at: 7,
    }
}

fn a_usage_record() -> usage_record::Model {
    usage_record::Model {
        request_id: "req_1".into(),
        started_at: 1_795_219_200_000,
        tenant_id: "tnt_1".into(),
        virtual_key_id: "vk_1".into(),
        provider_key_id: "pk_1".into(),
        provider: "openai".into(),
        requested_model: "smart".into(),
        served_model: "openai/gpt".into(),
        status: 200,
        outcome: "ok".into(),
        attempts: "[]".into(),
        stream: true,
        input_tokens: i64::MAX,
        cache_read_tokens: 1,
        cache_write_tokens: 2,
        output_tokens: 3,
        reasoning_tokens: 4,
        cost_nano_usd: Some(i64::MAX),
        cost_lines: "[]".into(),
        clamped_nano_usd: 5,
        price_version: Some("catalogue:2026-11-20".into()),
        usage_source: "provider".into(),
        latency_ms: 6,
        time_to_first_token_ms: Some(7),
        tags: "{\"team\":\"a\"}".into(),
    }
}

fn a_spend_counter() -> spend_counter::Model {
    spend_counter::Model {
        scope: "tenant".into(),
        scope_id: "tnt_1".into(),
        window: "weekly".into(),
        window_index: 105_000,
        settled_nano_usd: i64::MAX,
        leased_nano_usd: i64::MAX,
        wanted_at: Some(1),
    }
}

fn an_instance() -> instance::Model {
    instance::Model {
        id: "ins_1".into(),
        epoch: 1,
        started_at: 2,
        heartbeat_at: 3,
        stopped_at: Some(4),
        applied_seq: i64::MAX,
        place: Some("plc_1".into()),
        run: Some("run_1".into()),
        kids: Some("0123abcd,4567cdef".into()),
    }
}

fn a_master_key() -> master_key::Model {
    master_key::Model { kid: "0123abcd".into(), state: "rotating".into(), since: 1 }
}

fn a_lease() -> lease::Model {
    lease::Model {
        instance_id: "ins_1".into(),
        scope: "budget".into(),
        scope_id: "bud_1".into(),
        window: "monthly".into(),
        window_index: 24_322,
        granted_nano_usd: i64::MAX,
    }
}

fn a_spend_rollup() -> spend_rollup::Model {
    spend_rollup::Model {
        grain: "all".into(),
        month: 20_758,
        series: "0123456789abcdef0123456789abcdef".into(),
        tenant_id: "tnt_1".into(),
        virtual_key_id: "vk_1".into(),
        provider: "openai".into(),
        requested_model: "smart".into(),
        served_model: "openai/gpt".into(),
        tags: format!("{{\"note\":\"\\\"{}\"}}", "é".repeat(4_000)),
        days: "[[30,1,9223372036854775807,2,3,4]]".into(),
    }
}

fn a_usage_pruned() -> usage_pruned::Model {
    usage_pruned::Model { id: 1, before: 1_795_219_200_000 }
}

fn an_audit_entry() -> audit_entry::Model {
    audit_entry::Model {
        seq: 1,
        id: "aud_1".into(),
        at: 2,
        actor: "cli".into(),
        tenant_id: Some("tnt_1".into()),
        category: "identity".into(),
        action: "session.created".into(),
        object: Some("usr_1".into()),
        outcome: "success".into(),
        request_id: None,
        canonical: "{}".into(),
        mac: "cd".repeat(32),
    }
}

fn an_audit_head() -> audit_head::Model {
    audit_head::Model { id: 1, seq: 1, mac: "cd".repeat(32) }
}

fn an_audit_anchor() -> audit_anchor::Model {
    audit_anchor::Model { id: 1, seq: 1, mac: "cd".repeat(32), at: 2, seal: "ef".repeat(32) }
}

fn a_change() -> change_log::Model {
    change_log::Model { seq: 41, tenant_id: Some("tnt_1".into()), subject: "price".into(), at: 1 }
}

fn an_idempotency_key() -> idempotency_key::Model {
    idempotency_key::Model {
        actor: "usr_1".into(),
        key: "a key".into(),
        request_digest: "ef".repeat(32),
        object_id: "vk_1".into(),
        created_at: 1,
    }
}
