//! Which run of a gateway is an instance now, so that one on a copy of its data directory is told from it.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000007_instance_run"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite changes one column a statement.
        for column in ["place", "run"] {
            let column = Table::alter().table("instance").add_column(string_null(column)).to_owned();
            manager.alter_table(column).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["run", "place"] {
            manager.alter_table(Table::alter().table("instance").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}
