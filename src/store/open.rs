//! From a URL to connections that are set up, and a schema that is up to date.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, IntoDatabaseExecutor, SqlxPostgresConnector,
    SqlxSqliteConnector, TransactionTrait,
};
use sqlx::{
    ConnectOptions, Connection, Executor,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    OpenError, StoreError,
    connection::{Options, immediate},
};
use crate::domain::sqlite_file;

/// Before it, two connections at the wrong moment could corrupt the write-ahead log.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];
/// What the write-ahead log may keep on the disk after a checkpoint.
const WAL_KEPT_BYTES: &str = "67108864";
/// KiB that the writer may keep of the database: the pages that a batch of usage of many keys changes, each about once.
const WRITER_CACHE: &str = "-8192";
/// Pages of 4 KiB in the write-ahead log before they are brought into the database: those that batch after batch changes
/// are then brought over once.
const CHECKPOINT_PAGES: &str = "4000";
/// Where the writer keeps what a statement of many rows must be able to take back; it would else go through a file.
const WRITER_TEMP: &str = "MEMORY";
/// Any number that nobody else in the database locks ("KSmigrat").
const MIGRATION_LOCK: i64 = 0x4b53_6d69_6772_6174;
/// Nothing that a gateway asks takes longer; a statement that does must not hold a connection for ever.
const POSTGRES_STATEMENT_SECONDS: u64 = 60;
/// Whoever asked for a report waits no longer.
const POSTGRES_REPORT_SECONDS: u64 = 20;

/// Reports at the same time; others wait. They have connections of their own, because SQLite goes on with a statement that
/// nobody waits for any more: those that serve the data plane must not be among them.
const REPORTS: u32 = 2;
/// How long a report waits for a connection: longer than whoever asked for it.
const REPORT_WAIT: Duration = Duration::from_secs(60);
/// How long a connection for reports is kept when there are none.
const REPORT_IDLE: Duration = Duration::from_secs(300);

/// Connections, not yet counted.
pub(super) struct Opened {
    pub(super) writer: DatabaseConnection,
    pub(super) reader: DatabaseConnection,
    pub(super) reports: DatabaseConnection,
    pub(super) file: Option<PathBuf>,
}

/// Connects without touching the schema. The pools are made here and not by SeaORM, which would put a URL with its
/// password into a trace span.
pub(super) async fn connect(url: &str, options: Options) -> Result<Opened, StoreError> {
    if url.starts_with("sqlite:") {
        return sqlite(url, options).await;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return postgres(url, options).await;
    }
    Err(OpenError::Url("it begins neither with `sqlite:` nor with `postgres://`").into())
}

async fn sqlite(url: &str, options: Options) -> Result<Opened, StoreError> {
    let file = sqlite_file(url).map_err(OpenError::SqliteUrl)?;
    make_private(&file).await?;
    let base = SqliteConnectOptions::new()
        .filename(&file)
        .busy_timeout(options.busy_timeout)
        .foreign_keys(true)
        .synchronous(match options.durable_commits {
            true => SqliteSynchronous::Full,
            false => SqliteSynchronous::Normal,
        })
        .disable_statement_logging();
    let pool = || outside_transactions().min_connections(1).acquire_timeout(options.busy_timeout);
    let refused = |error| sqlite_refusal(&file, &error);
    // The writer first: it makes the log that the readers read from. sqlx sets the busy timeout before any pragma.
    let writing = base
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("journal_size_limit", WAL_KEPT_BYTES)
        .pragma("cache_size", WRITER_CACHE)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("temp_store", WRITER_TEMP);
    let writer = pool().max_connections(1).connect_with(writing).await.map_err(refused)?;
    let readers = options.sqlite_readers.max(1);
    let reading = base.pragma("query_only", "ON");
    let reader = pool().max_connections(readers).connect_with(reading.clone()).await.map_err(refused)?;
    let reports = outside_transactions()
        .max_connections(REPORTS)
        .acquire_timeout(REPORT_WAIT)
        .idle_timeout(REPORT_IDLE)
        .connect_lazy_with(reading);
    let (journal, version): (String, String) =
        sqlx::query_as("SELECT (SELECT journal_mode FROM pragma_journal_mode), sqlite_version()")
            .fetch_one(&writer)
            .await
            .map_err(refused)?;
    if journal != "wal" {
        let why = "its file system cannot hold a write-ahead log; put it on a local disk";
        return Err(OpenError::File { path: file, why }.into());
    }
    if !new_enough(&version) {
        return Err(OpenError::OldSqlite { found: version }.into());
    }
    Ok(Opened {
        writer: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
        reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
        reports: SqlxSqliteConnector::from_sqlx_sqlite_pool(reports),
        file: Some(file),
    })
}

/// A pool that hands out no connection which sqlx takes to be inside a transaction.
///
/// When the disk is full SQLite rolls back by itself. sqlx does not notice: its own rollback fails, it goes on counting
/// that transaction, and makes each later one a savepoint in it. One more failure, and the outer one stays open: every
/// commit after that succeeds, holds the write lock, and is never written.
fn outside_transactions() -> SqlitePoolOptions {
    SqlitePoolOptions::new().before_acquire(|connection, _| {
        // What is rolled back when it is dropped has been by now: the pool asks the connection for an answer first.
        let inside = connection.is_in_transaction();
        if inside {
            tracing::warn!("store.connection_replaced");
        }
        Box::pin(async move { Ok(!inside) })
    })
}

/// Makes a missing file that only its owner may read; SQLite gives its log the same mode.
async fn make_private(file: &Path) -> Result<(), OpenError> {
    let refused = |path: &Path, why| Err(OpenError::File { path: path.to_owned(), why });
    if file.is_dir() {
        return refused(file, "it is a directory; name a file in it");
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent
        && !parent.is_dir()
    {
        return refused(parent, "there is no such directory; create it or name another");
    }
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    match options.open(file).await {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::AlreadyExists => Ok(()),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                refused(file, "its directory may not be written; change its owner or mode")
            }
            _ => refused(file, "it cannot be made; look at the disk and the path"),
        },
    }
}

fn sqlite_refusal(file: &Path, error: &sqlx::Error) -> StoreError {
    // The primary code is the low byte of SQLite's extended one.
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    let why = match code {
        Some(8) => "it is read-only; change its owner or mode",
        Some(11) => "it is damaged; restore it from a backup",
        Some(14) => "it or its directory may not be read and written; change the owner or mode",
        Some(26) => "it is not a SQLite database; name another file",
        _ => {
            tracing::warn!(code, "store.failed");
            return StoreError::Unavailable;
        }
    };
    OpenError::File { path: file.to_owned(), why }.into()
}

fn new_enough(version: &str) -> bool {
    let parts: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    parts.as_slice() >= OLDEST_SQLITE.as_slice()
}

async fn postgres(url: &str, options: Options) -> Result<Opened, StoreError> {
    let parsed = PgConnectOptions::from_str(url)
        .map_err(|_| OpenError::Url("it is not of the form `postgres://user:password@host:port/database`"))?
        .application_name("keystile")
        .disable_statement_logging();
    let lock = options.busy_timeout.as_millis();
    let pool = |connections: u32, statement_seconds: u64| {
        let settings = format!("SET lock_timeout = {lock}; SET statement_timeout = '{statement_seconds}s'");
        PgPoolOptions::new().max_connections(connections).after_connect(move |connection, _| {
            let settings = sqlx::AssertSqlSafe(settings.clone());
            Box::pin(async move { connection.execute(settings).await.map(drop) })
        })
    };
    let reports = pool(REPORTS, POSTGRES_REPORT_SECONDS)
        .acquire_timeout(REPORT_WAIT)
        .idle_timeout(REPORT_IDLE)
        .connect_lazy_with(parsed.clone());
    let pool = pool(options.postgres_pool.max(2), POSTGRES_STATEMENT_SECONDS)
        .acquire_timeout(options.busy_timeout)
        .connect_with(parsed)
        .await
        .map_err(|error| postgres_refusal(&error))?;
    let pool = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
    let reports = SqlxPostgresConnector::from_sqlx_postgres_pool(reports);
    Ok(Opened { writer: pool.clone(), reader: pool, reports, file: None })
}

fn postgres_refusal(error: &sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code());
    OpenError::Refused(match code.as_deref() {
        Some("28P01" | "28000") => "check user, password and `pg_hba.conf`",
        Some("3D000") => "there is no such database; create it",
        Some("42501") => "the user lacks the right to connect",
        Some("53300") => "it has no free connection; raise `max_connections`",
        _ => return StoreError::Unavailable,
    })
    .into()
}

/// Brings the schema up to date, or refuses one that a later version made. Processes that do so at once wait for one
/// another; where nothing is to be done nothing is locked, so that a command never waits for a busy gateway.
pub(super) async fn migrate(writer: &DatabaseConnection) -> Result<(), StoreError> {
    if pending(writer).await? == 0 {
        return Ok(());
    }
    let backend = writer.get_database_backend();
    if backend == DbBackend::Sqlite {
        // A step that sorts a whole table must not do so in memory. This cannot be changed within a transaction.
        writer.execute_unprepared("PRAGMA temp_store = DEFAULT").await?;
    }
    let tx = writer.begin_with_options(immediate()).await?;
    if backend == DbBackend::Postgres {
        tx.execute_unprepared(&format!(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
        ))
        .await?;
    }
    // Another process may have done it meanwhile.
    if pending(&tx).await? > 0 {
        Migrator::up(&tx, None).await?;
    }
    tx.commit().await?;
    if backend == DbBackend::Sqlite {
        writer.execute_unprepared(&format!("PRAGMA temp_store = {WRITER_TEMP}")).await?;
    }
    Ok(())
}

/// Refuses a schema that is not up to date.
pub(super) async fn require_current(reader: &DatabaseConnection) -> Result<(), StoreError> {
    match pending(reader).await? {
        0 => Ok(()),
        pending => Err(OpenError::SchemaTooOld { pending }.into()),
    }
}

/// How many steps are not applied yet.
async fn pending<'c>(db: impl IntoDatabaseExecutor<'c>) -> Result<usize, StoreError> {
    let known = migration::known();
    let applied = migration::applied(db).await?;
    if let Some(found) = applied.iter().find(|step| !known.contains(step)) {
        let found = found.clone();
        // Steps have the names of their days; a later version may have one of an earlier day, too.
        let error = if known.iter().all(|step| *step < found) {
            OpenError::SchemaTooNew { found }
        } else {
            OpenError::SchemaForeign { found }
        };
        return Err(error.into());
    }
    Ok(known.iter().filter(|step| !applied.contains(step)).count())
}
