//! Databases to test with: files, or on the Postgres server that `TEST_POSTGRES_URL` names (`postgres://user@host:port`).

use keystile::store::Store;
use sea_orm::{ConnectionTrait, Database};
use tokio::sync::OnceCell;

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
