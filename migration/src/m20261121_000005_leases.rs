//! Shares: gateways, and what each has leased of a cap.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000005_leases"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("instance")
                    .col(string("id").primary_key())
                    .col(big_integer("epoch"))
                    .col(big_integer("started_at"))
                    .col(big_integer("heartbeat_at"))
                    .col(big_integer_null("stopped_at"))
                    .col(big_integer("applied_seq"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("lease")
                    .col(string("instance_id"))
                    .col(string("scope"))
                    .col(string("scope_id"))
                    .col(string("window"))
                    .col(big_integer("window_index"))
                    .col(big_integer("granted_nano_usd"))
                    .primary_key(
                        Index::create()
                            .col("instance_id")
                            .col("scope")
                            .col("scope_id")
                            .col("window")
                            .col("window_index"),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_lease_scope_scope_id_window_window_index")
                    .table("lease")
                    .col("scope")
                    .col("scope_id")
                    .col("window")
                    .col("window_index")
                    .to_owned(),
            )
            .await?;
        // SQLite changes one column a statement.
        for column in [big_integer("leased_nano_usd").default(0).take(), big_integer_null("wanted_at")] {
            manager.alter_table(Table::alter().table("spend_counter").add_column(column).to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["wanted_at", "leased_nano_usd"] {
            manager.alter_table(Table::alter().table("spend_counter").drop_column(column).to_owned()).await?;
        }
        for table in ["lease", "instance"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
