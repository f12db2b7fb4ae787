use entity::tenant;
use sea_orm::{EntityTrait, PaginatorTrait, QueryResult, Statement};

use super::*;
use crate::{
    domain::TenantId,
    store::{sqlite_url, testing},
};

async fn ask(connection: &impl ConnectionTrait, sql: &str) -> String {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row: QueryResult = connection.query_one_raw(statement).await.expect("an answer").expect("a row");
    row.try_get_by_index::<String>(0)
        .or_else(|_| row.try_get_by_index::<i64>(0).map(|number| number.to_string()))
        .expect("a value")
}

async fn add_tenant(store: &Store) -> Result<(), StoreError> {
    store
        .write(async |tx: &Tx| {
            tenant::Entity::insert(testing::tenant(TenantId::generate())).exec_without_returning(tx).await?;
            Ok(())
        })
        .await
}

async fn open_error(url: &str) -> String {
    match Store::open(url).await {
        Err(StoreError::Open(error)) => error.to_string(),
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn sqlite_is_set_up_as_promised() {
    let db = testing::sqlite().await;
    for connection in [&db.writer, &db.reader] {
        assert_eq!(ask(connection, "PRAGMA journal_mode").await, "wal");
        assert_eq!(ask(connection, "PRAGMA busy_timeout").await, "5000");
        assert_eq!(ask(connection, "PRAGMA foreign_keys").await, "1");
        assert_eq!(ask(connection, "PRAGMA synchronous").await, "1");
    }
    // Also after the steps of the schema, which go with another one of the last.
    for (pragma, value) in [("cache_size", "-8192"), ("wal_autocheckpoint", "4000"), ("temp_store", "2")] {
        assert_eq!(ask(&db.writer, &format!("PRAGMA {pragma}")).await, value, "{pragma}");
    }
    let row = tenant::Entity::insert(testing::tenant(TenantId::generate()));
    assert!(row.exec_without_returning(db.reader()).await.is_err(), "a reader must not write");
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_and_its_log_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let db = testing::sqlite().await;
    add_tenant(&db).await.expect("written");
    for name in ["keystile.db", "keystile.db-wal"] {
        let mode = std::fs::metadata(db.dir.path().join(name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_locked_database_is_unavailable_and_works_again_afterwards() {
    let db = testing::sqlite().await;
    let options = Options { busy_timeout: Duration::from_millis(50), ..Options::default() };
    let hasty = Store::open_with(db.url(), options).await.expect("a store");
    let lock = db.begin().await.expect("the lock");
    assert!(matches!(add_tenant(&hasty).await, Err(StoreError::Unavailable)));
    assert_eq!(tenant::Entity::find().count(hasty.reader()).await.expect("readers go on"), 0);
    drop(lock);
    add_tenant(&hasty).await.expect("written");
    assert_eq!(tenant::Entity::find().count(db.reader()).await.expect("read"), 1);
}

#[tokio::test]
async fn a_second_writer_of_one_process_waits_for_the_first() {
    let db = testing::sqlite().await;
    let first = db.begin().await.expect("a transaction");
    let (second, ()) = tokio::join!(add_tenant(&db), async {
        tokio::task::yield_now().await;
        first.commit().await.expect("committed");
    });
    second.expect("written after the first");
}

#[tokio::test]
async fn work_that_is_dropped_half_way_is_rolled_back() {
    let db = testing::store().await;
    {
        let work = db.write(async |tx: &Tx| {
            tenant::Entity::insert(testing::tenant(TenantId::generate())).exec_without_returning(tx).await?;
            std::future::pending::<Result<(), StoreError>>().await
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), work).await.is_err());
    }
    add_tenant(&db).await.expect("the writer is free again");
    assert_eq!(tenant::Entity::find().count(db.reader()).await.expect("read"), 1);
}

/// SQLite ends the transaction by itself when the disk is full, sqlx goes on counting it, and later ones are then parts of
/// one that nobody ever commits.
#[tokio::test]
async fn p24_what_is_written_after_the_disk_was_full_is_there_for_everybody() {
    let db = testing::sqlite().await;
    add_tenant(&db).await.expect("written");
    let pages = ask(&db.writer, "PRAGMA page_count").await;
    ask(&db.writer, &format!("PRAGMA max_page_count = {pages}")).await;
    let write = async |rows: usize, end: Result<(), StoreError>| {
        db.write(async |tx: &Tx| {
            for _ in 0..rows {
                let row = tenant::Entity::insert(testing::tenant(TenantId::generate()));
                row.exec_without_returning(tx).await?;
            }
            end
        })
        .await
    };
    assert!(matches!(write(500, Ok(())).await, Err(StoreError::Unavailable)), "the disk is full");
    assert!(matches!(write(1, Err(StoreError::Conflict)).await, Err(StoreError::Conflict)));
    ask(&db.writer, "PRAGMA max_page_count = 1000000").await;
    for _ in 0..3 {
        add_tenant(&db).await.expect("there is space again");
    }
    assert_eq!(tenant::Entity::find().count(db.reader()).await.expect("read"), 4);
    let other = db.again().await;
    add_tenant(&other).await.expect("nobody holds the write lock");
    assert_eq!(tenant::Entity::find().count(db.reader()).await.expect("read"), 5);
}

#[tokio::test]
async fn a_transaction_can_cross_threads() {
    fn crosses_threads<T: Send>(work: T) -> T {
        work
    }
    let db = testing::store().await;
    let tenant = TenantId::generate();
    crosses_threads(db.write(async |tx: &Tx| {
        tenant::Entity::insert(testing::tenant(tenant)).exec_without_returning(tx).await?;
        Ok::<_, StoreError>(())
    }))
    .await
    .expect("written");
}

#[tokio::test]
async fn reports_that_hang_hold_up_reports_only() {
    let db = testing::store().await;
    let (first, _second) = (db.snapshot().await.expect("one"), db.snapshot().await.expect("two"));
    let third = tokio::time::timeout(Duration::from_millis(100), db.snapshot()).await;
    assert!(third.is_err(), "a third one waits");
    assert_eq!(tenant::Entity::find().count(&first).await.expect("read"), 0);
    add_tenant(&db).await.expect("written");
    assert_eq!(tenant::Entity::find().count(db.reader()).await.expect("readers go on"), 1);
    assert_eq!(tenant::Entity::find().count(&first).await.expect("read"), 0, "one moment");
    drop(first);
    let third = db.snapshot().await.expect("its turn");
    assert!(tenant::Entity::insert(testing::tenant(TenantId::generate())).exec(&third).await.is_err());
}

#[tokio::test]
async fn statements_are_counted_and_health_checks_are_not() {
    let db = testing::store().await;
    assert_eq!(db.statements(), StatementCounts::default(), "opening does not count");
    assert!(db.is_healthy().await);
    assert_eq!(db.statements(), StatementCounts::default());
    add_tenant(&db).await.expect("written");
    tenant::Entity::find().count(db.reader()).await.expect("read");
    assert_eq!(db.clone().statements(), StatementCounts { reads: 1, writes: 1 });
}

#[tokio::test]
async fn a_deleted_file_is_not_healthy() {
    let db = testing::sqlite().await;
    assert!(db.is_healthy().await);
    std::fs::remove_file(db.dir.path().join("keystile.db")).expect("removed");
    assert!(!db.is_healthy().await);
}

#[tokio::test]
async fn a_schema_that_is_required_is_not_made() {
    let db = testing::store().await;
    let options = Options { schema: Schema::Require, ..Options::default() };
    Store::open_with(db.url(), options).await.expect("it is up to date");
    let newest = migration::known().pop().expect("steps");
    db.tamper(&format!("DELETE FROM seaql_migrations WHERE version = '{newest}'")).await;
    let refused = Store::open_with(db.url(), options).await.map(drop).expect_err("a step is pending");
    assert!(refused.to_string().contains("start the new `keystile serve` once"), "{refused}");
    let steps = ask(db.reader(), "SELECT COUNT(*) FROM seaql_migrations").await;
    assert_eq!(steps, (migration::known().len() - 1).to_string(), "nothing was written");
}

#[tokio::test]
async fn every_file_name_can_be_opened_and_again() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["plain.db", "with space.db", "100%.db", "a%20b.db", "what?.db", "x#y&z=1.db", "ключ.db"]
    {
        let path = dir.path().join(name);
        for _ in 0..2 {
            Store::open(&sqlite_url(&path)).await.expect(name).close().await.expect("closed");
        }
        assert!(path.is_file(), "{name}");
    }
    let slashes = format!("sqlite://{}?mode=rwc", dir.path().join("usual.db").display());
    Store::open(&slashes).await.expect("the usual spelling");
    assert!(dir.path().join("usual.db").is_file());
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("no").join("such");
    let said = open_error(&sqlite_url(&missing.join("keystile.db"))).await;
    assert!(said.contains(&format!("`{}`", missing.display())) && said.contains("create it"), "{said}");
    assert!(open_error(&sqlite_url(dir.path())).await.contains("is a directory"));
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "no database, but long enough to be taken for one\n".repeat(99)).expect("a file");
    assert!(open_error(&sqlite_url(&text)).await.contains("not a SQLite database"));
    for (url, word) in [
        ("sqlite::memory:", "memory"),
        ("sqlite:file?mode=memory", "memory"),
        ("sqlite:", "no file"),
        ("sqlite:a.db?cache=shared", "%3f"),
        ("mysql://u:canary@h/d", "sqlite:"),
        ("postgres://u:canary@h:notaport/d", "postgres://"),
    ] {
        let said = open_error(url).await;
        assert!(said.contains(word) && !said.contains("canary"), "{url}: {said}");
    }
}
