//! What services fetch keys with.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000008_service_tokens"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("service_token")
                    .col(string("id").primary_key())
                    .col(string("tenant_id"))
                    .col(string("service_name"))
                    .col(boolean("is_active"))
                    .col(big_integer_null("last_used_at"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("service_token_secret")
                    .col(string("digest").primary_key())
                    .col(string("service_token_id"))
                    .col(string("token_id"))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("expires_at"))
                    .to_owned(),
            )
            .await?;
        for (table, column) in [("service_token", "tenant_id"), ("service_token_secret", "service_token_id")]
        {
            let index =
                Index::create().name(format!("idx_{table}_{column}")).table(table).col(column).to_owned();
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["service_token_secret", "service_token"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
