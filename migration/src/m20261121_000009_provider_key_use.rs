//! When each provider key was last used, and last refused by its provider.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000009_provider_key_use"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // A table of its own: it is written every few seconds, and no reader of keys should wait for that.
        manager
            .create_table(
                Table::create()
                    .table("provider_key_use")
                    .col(string("provider_key_id").primary_key())
                    .col(big_integer("last_used_at"))
                    .col(big_integer("last_refused_at"))
                    .col(integer("last_refusal_status"))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("provider_key_use").to_owned()).await
    }
}
