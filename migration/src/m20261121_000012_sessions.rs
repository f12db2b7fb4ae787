//! Sessions on the admin plane, each of which can be ended by itself.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000012_sessions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("session")
                    .col(string("id").primary_key())
                    .col(string("user_id"))
                    .col(big_integer("created_at"))
                    .col(big_integer("seen_at"))
                    .col(big_integer("expires_at"))
                    .col(big_integer_null("ended_at"))
                    .col(string_null("address"))
                    .to_owned(),
            )
            .await?;
        for (name, column) in [("idx_session_user", "user_id"), ("idx_session_expires", "expires_at")] {
            let index = Index::create().name(name).table("session").col(column).to_owned();
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("session").to_owned()).await
    }
}
