//! Open by URL, migrate, and hand out transactions.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, IsolationLevel,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use super::{StoreError, open};

/// How long the health check waits for the database: long enough for a free reader beside slow reports.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause before a SQLite file that somebody else is just making is tried again.
const OPEN_AGAIN: Duration = Duration::from_millis(20);

/// A transaction that writes.
pub type Tx = DatabaseTransaction;
/// Where reads outside a transaction go. On SQLite it cannot write.
pub type Reader = DatabaseConnection;

/// How the database is used.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a statement waits for a lock or a free connection.
    pub busy_timeout: Duration,
    /// Connections that read beside SQLite's one writer.
    pub sqlite_readers: u32,
    /// Connections to Postgres.
    pub postgres_pool: u32,
    /// What to do with a schema that is not up to date.
    pub schema: Schema,
    /// Whether a commit on SQLite is on the disk when it returns, and not at the next checkpoint: whoever deletes what
    /// was committed from elsewhere must know. Postgres has a setting of its own, on by default.
    pub durable_commits: bool,
}

/// What to do with a schema that is not up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Bring it up to date: the gateway's own start.
    Migrate,
    /// Refuse it and write nothing: commands beside a gateway, which may still be the old one.
    Require,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            sqlite_readers: 4,
            postgres_pool: 16,
            schema: Schema::Migrate,
            durable_commits: false,
        }
    }
}

/// Statements since the database was opened; transactions begun and ended and health checks are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatementCounts {
    /// Outside transactions.
    pub reads: u64,
    /// Inside writing transactions, their reads included.
    pub writes: u64,
}

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    reports: DatabaseConnection,
    reads: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
    /// SQLite's file.
    file: Option<Arc<Path>>,
}

/// Connects, and migrates or looks whether that is needed. Of several processes that make the same SQLite file at once, those that find it locked try
/// again for as long as a statement would wait: the switch to the write-ahead log itself heeds no busy timeout.
async fn ready(url: &str, options: Options) -> Result<open::Opened, StoreError> {
    let deadline = Instant::now() + options.busy_timeout;
    loop {
        let opened = match open::connect(url, options).await {
            Ok(opened) => match options.schema {
                Schema::Migrate => open::migrate(&opened.writer).await.map(|()| opened),
                Schema::Require => open::require_current(&opened.reader).await.map(|()| opened),
            },
            Err(error) => Err(error),
        };
        match opened {
            Err(StoreError::Unavailable) if Instant::now() < deadline => tokio::time::sleep(OPEN_AGAIN).await,
            settled => return settled,
        }
    }
}

impl Store {
    /// Opens the database at `url` (`sqlite:path` or `postgres://…`), creates a missing SQLite file, and brings the
    /// schema up to date. Several processes may do so at once. In a SQLite path `%` and `?` are written `%25` and
    /// `%3f`, see [`sqlite_url`]; relative paths begin at the working directory.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, Options::default()).await
    }

    /// [`Store::open`] with other timeouts and pools.
    pub async fn open_with(url: &str, options: Options) -> Result<Self, StoreError> {
        let opened = ready(url, options).await?;
        let (mut writer, mut reader, mut reports) = (opened.writer, opened.reader, opened.reports);
        let (reads, writes) = (Arc::default(), Arc::default());
        count_statements(&mut reader, &reads);
        count_statements(&mut reports, &reads);
        count_statements(&mut writer, &writes);
        Ok(Self { writer, reader, reports, reads, writes, file: opened.file.map(PathBuf::into) })
    }

    /// For reads that need not be in a transaction with a write.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// For reads that may take long. They have few connections of their own, so that however many there are, the others
    /// go on.
    pub(super) fn reports(&self) -> &Reader {
        &self.reports
    }

    /// Begins a transaction in which several long reads see one moment; dropping it ends it.
    pub(super) async fn snapshot(&self) -> Result<Tx, StoreError> {
        // SQLite's deferred transactions are of this kind by themselves.
        let options = match self.reports.get_database_backend() {
            DbBackend::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            },
            _ => TransactionOptions::default(),
        };
        Ok(self.reports.begin_with_options(options).await?)
    }

    /// Runs `work` in one writing transaction: committed when it succeeds, rolled back when it fails or is dropped. On
    /// SQLite it is immediate: a deferred one that reads first and then writes fails at once when another writes.
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

    /// Begins a writing transaction; dropping it rolls back.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(self.writer.begin_with_options(immediate()).await?)
    }

    /// How many statements were sent so far.
    pub fn statements(&self) -> StatementCounts {
        StatementCounts {
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }

    /// Whether the database answers within three seconds. An open SQLite file goes on answering after it was deleted, so
    /// the file must still be there too.
    pub async fn is_healthy(&self) -> bool {
        let asked = async {
            if let Some(file) = &self.file
                && !tokio::fs::try_exists(file).await.unwrap_or(false)
            {
                return false;
            }
            self.reader.execute_unprepared("SELECT version FROM seaql_migrations LIMIT 1").await.is_ok()
        };
        tokio::time::timeout(HEALTH_TIMEOUT, asked).await.unwrap_or(false)
    }

    /// Waits for what is under way and closes the files or sockets.
    pub async fn close(self) -> Result<(), StoreError> {
        // The writer last: SQLite's last connection moves the write-ahead log into the file, which a reader may not.
        self.reader.close().await?;
        self.reports.close().await?;
        Ok(self.writer.close().await?)
    }
}

pub(super) fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}

fn count_statements(connection: &mut DatabaseConnection, counter: &Arc<AtomicU64>) {
    let counter = Arc::clone(counter);
    connection.set_metric_callback(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
}

#[cfg(test)]
mod tests;
