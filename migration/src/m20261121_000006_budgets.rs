//! Budgets that several keys share, and the time zone in which a tenant's days begin.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000006_budgets"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("budget")
                    .col(string("id").primary_key())
                    .col(string("tenant_id"))
                    .col(string("name"))
                    .col(big_integer_null("cap_nano_usd"))
                    .col(string("window"))
                    .col(string("cap_mode"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .col(big_integer_null("deleted_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create().name("idx_budget_tenant_id").table("budget").col("tenant_id").to_owned(),
            )
            .await?;
        let zone = text("time_zone").default("UTC").take();
        manager.alter_table(Table::alter().table("tenant").add_column(zone).to_owned()).await?;
        let budgets = text("budgets").default("[]").take();
        manager.alter_table(Table::alter().table("virtual_key").add_column(budgets).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("virtual_key").drop_column("budgets").to_owned()).await?;
        manager.alter_table(Table::alter().table("tenant").drop_column("time_zone").to_owned()).await?;
        manager.drop_table(Table::drop().table("budget").to_owned()).await
    }
}
