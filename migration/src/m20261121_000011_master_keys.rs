//! What became of the master keys, and which of them each instance has loaded.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000011_master_keys"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("master_key")
            .col(string("kid").primary_key())
            .col(string("state"))
            .col(big_integer("since"))
            .to_owned();
        manager.create_table(table).await?;
        let column = Table::alter().table("instance").add_column(string_null("kids")).to_owned();
        manager.alter_table(column).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("instance").drop_column("kids").to_owned()).await?;
        manager.drop_table(Table::drop().table("master_key").to_owned()).await
    }
}
