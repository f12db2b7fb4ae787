//! Config variables, and an index to find the provider keys that refer to one.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000010_config_variables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("config_variable")
                    .col(string("id").primary_key())
                    .col(string("tenant_id"))
                    .col(string("name"))
                    .col(text_null("value"))
                    .col(text_null("sealed"))
                    .col(text_null("description"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("uniq_config_variable_tenant_id_name")
                    .table("config_variable")
                    .col("tenant_id")
                    .col("name")
                    .unique()
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_provider_key_tenant_id_reference")
                    .table("provider_key")
                    .col("tenant_id")
                    .col("reference")
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let index =
            Index::drop().name("idx_provider_key_tenant_id_reference").table("provider_key").to_owned();
        manager.drop_index(index).await?;
        manager.drop_table(Table::drop().table("config_variable").to_owned()).await
    }
}
