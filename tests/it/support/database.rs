//! Databases to test with: files, or on the Postgres server that `TEST_POSTGRES_URL` names (`postgres://user@host:port`).

use std::path::PathBuf;

use keystile::store::Store;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend};
use tokio::sync::OnceCell;

use super::Gateway;

/// A database with the schema in it, to be copied: much cheaper than to migrate every one.
static TEMPLATE: OnceCell<String> = OnceCell::const_new();

#[expect(clippy::disallowed_methods, reason = "a test has no settings")]
fn server() -> Option<String> {
    Some(std::env::var("TEST_POSTGRES_URL").ok()?.trim_end_matches('/').to_owned())
}

/// A database of its own without anything in it, if there is a server.
pub async fn empty_postgres() -> Option<String> {
    Some(create(&server()?, "").await)
}

/// A database of its own that is up to date, if there is a server.
pub async fn migrated_postgres() -> Option<String> {
    let server = server()?;
    let template = TEMPLATE.get_or_init(|| async {
        let url = create(&server, "").await;
        Store::open(&url).await.expect("a store").close().await.expect("closed");
        url.rsplit('/').next().expect("a name").to_owned()
    });
    let template = template.await;
    Some(create(&server, &format!(" TEMPLATE {template}")).await)
}

async fn create(server: &str, how: &str) -> String {
    let name = format!("keystile_{}", uuid::Uuid::now_v7().simple());
    on_the_server(server, &format!("CREATE DATABASE {name}{how}")).await;
    format!("{server}/{name}")
}

/// Runs `sql` from a database that is not the one to be tested.
pub async fn on_the_server(server: &str, sql: &str) {
    let house = Database::connect(format!("{server}/postgres")).await.expect("a server");
    house.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    house.close().await.expect("closed");
}

/// Somebody else's connection to the same database.
pub async fn intruder(url: &str) -> DatabaseConnection {
    // One connection, so that what it begins it also ends.
    let mut options = sea_orm::ConnectOptions::new(url.to_owned());
    options.max_connections(1).min_connections(1);
    Database::connect(options).await.expect("a connection")
}

/// Keeps everybody else from writing until `ROLLBACK`; reading goes on.
pub async fn hold_writes(other: &DatabaseConnection) {
    let sql = match other.get_database_backend() {
        DbBackend::Postgres => {
            "BEGIN; DO $$ DECLARE name text; BEGIN \
             FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP \
             EXECUTE format('LOCK TABLE %I IN EXCLUSIVE MODE', name); END LOOP; END $$"
        }
        _ => "BEGIN IMMEDIATE",
    };
    other.execute_unprepared(sql).await.expect("the lock");
}

/// The database of a gateway, out of its reach.
pub enum Away {
    File { here: PathBuf, aside: PathBuf },
    Postgres { server: String, name: String },
}

impl Away {
    pub async fn take(gateway: &Gateway) -> Self {
        if let Some(here) = gateway.config.database_file() {
            let aside = here.with_extension("aside");
            std::fs::rename(&here, &aside).expect("moved");
            return Self::File { here, aside };
        }
        let url = gateway.database_url();
        let (server, name) = url.rsplit_once('/').expect("a name");
        let (server, name) = (server.to_owned(), name.to_owned());
        on_the_server(&server, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        on_the_server(&server, &end).await;
        Self::Postgres { server, name }
    }

    pub async fn bring_back(self) {
        match self {
            Self::File { here, aside } => std::fs::rename(aside, here).expect("moved back"),
            Self::Postgres { server, name } => {
                on_the_server(&server, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
            }
        }
    }
}
