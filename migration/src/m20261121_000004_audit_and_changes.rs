//! Trail: audit chain, change outbox, idempotency keys.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000004_audit_and_changes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("audit_entry")
                    .col(big_integer("seq").primary_key())
                    .col(string("id"))
                    .col(big_integer("at"))
                    .col(string("actor"))
                    .col(string_null("tenant_id"))
                    .col(string("category"))
                    .col(string("action"))
                    .col(string_null("object"))
                    .col(string("outcome"))
                    .col(string_null("request_id"))
                    .col(text("canonical"))
                    .col(string("mac"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("uniq_audit_entry_id")
                    .table("audit_entry")
                    .col("id")
                    .unique()
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create().name("idx_audit_entry_action").table("audit_entry").col("action").to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("audit_head")
                    .col(integer("id").primary_key())
                    .col(big_integer("seq"))
                    .col(string("mac"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("change_log")
                    .col(big_integer("seq").auto_increment().primary_key())
                    .col(string_null("tenant_id"))
                    .col(string("subject"))
                    .col(big_integer("at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("idempotency_key")
                    .col(string("actor"))
                    .col(string("key"))
                    .col(string("request_digest"))
                    .col(string("object_id"))
                    .col(big_integer("created_at"))
                    .primary_key(Index::create().col("actor").col("key"))
                    .to_owned(),
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["idempotency_key", "change_log", "audit_head", "audit_entry"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
