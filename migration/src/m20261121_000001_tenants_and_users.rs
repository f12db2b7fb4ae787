//! Who: tenants and the people who administer them.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000001_tenants_and_users"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("tenant")
                    .col(string("id").primary_key())
                    .col(string("name"))
                    .col(text_null("models_allowed"))
                    .col(big_integer_null("spend_cap_nano_usd"))
                    .col(string("spend_window"))
                    .col(string("cap_mode"))
                    .col(integer_null("rate_limit_rpm"))
                    .col(integer_null("rate_limit_tpm"))
                    .col(integer_null("max_parallel"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .col(big_integer_null("deleted_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(Index::create().name("idx_tenant_name").table("tenant").col("name").to_owned())
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("user")
                    .col(string("id").primary_key())
                    .col(string("email"))
                    .col(string("password_hash"))
                    .col(string("role"))
                    .col(string("tenant_id"))
                    .col(integer("session_version"))
                    .col(boolean("is_active"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create().name("uniq_user_email").table("user").col("email").unique().to_owned(),
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["user", "tenant"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
