//! Open by URL, migrate, and hand out transactions.

use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

use super::StoreError;

/// How long a statement waits for SQLite's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that read beside SQLite's one writer.
const SQLITE_READERS: u32 = 4;
/// Connections to Postgres.
const POSTGRES_POOL: u32 = 16;

/// A transaction that writes.
pub type Tx = DatabaseTransaction;
/// Where reads outside a transaction go.
pub type Reader = DatabaseConnection;

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
}

impl Store {
    /// Opens the database at `url` (`sqlite:path` or `postgres://…`), creates a missing SQLite file, and brings the
    /// schema up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let store = Self::connect(url).await?;
        Migrator::up(&store.writer, None).await?;
        Ok(store)
    }

    /// Opens the database without touching its schema.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("sqlite:") {
            let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
            let url = format!("sqlite://{}?mode=rwc", path.split('?').next().unwrap_or_default());
            let writer = Database::connect(sqlite(&url, 1)).await?;
            let reader = Database::connect(sqlite(&url, SQLITE_READERS)).await?;
            return Ok(Self { writer, reader });
        }
        let mut options = ConnectOptions::new(url);
        options.max_connections(POSTGRES_POOL).acquire_timeout(BUSY_TIMEOUT).sqlx_logging(false);
        let pool = Database::connect(options).await?;
        Ok(Self { writer: pool.clone(), reader: pool })
    }

    /// For reads that need not be in a transaction with a write.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Runs `work` in one writing transaction: committed when it succeeds, rolled back when it fails. On SQLite it is
    /// immediate: a deferred one that reads first and then writes fails at once when another writes.
    pub async fn write<T, E>(&self, work: impl AsyncFnOnce(&Tx) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let tx = self.begin().await?;
        match work(&tx).await {
            Ok(value) => {
                tx.commit().await.map_err(StoreError::from)?;
                Ok(value)
            }
            Err(error) => {
                // A failed rollback ends with the connection, and the transaction with it.
                tx.rollback().await.ok();
                Err(error)
            }
        }
    }

    /// Begins a writing transaction.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(self.writer.begin_with_options(options).await?)
    }

    /// Whether the database answers.
    pub async fn is_healthy(&self) -> bool {
        self.reader.execute_unprepared("SELECT 1").await.is_ok()
    }

    /// Waits for what is under way and closes the files or sockets.
    pub async fn close(self) -> Result<(), DbErr> {
        self.reader.close().await?;
        self.writer.close().await
    }
}

fn sqlite(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).min_connections(1).acquire_timeout(BUSY_TIMEOUT).sqlx_logging(false);
    options.map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
    });
    options
}
