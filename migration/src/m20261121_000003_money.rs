//! Money: prices, usage rows, their sums by day, settled spend.

use sea_orm_migration::{prelude::*, schema::*, sea_orm::DbBackend};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000003_money"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("price")
                    .col(string("id").primary_key())
                    .col(string("model"))
                    .col(big_integer("input"))
                    .col(big_integer("output"))
                    .col(big_integer_null("cache_read"))
                    .col(big_integer_null("cache_write"))
                    .col(big_integer_null("cache_write_1h"))
                    .col(big_integer_null("context_window"))
                    .col(big_integer_null("max_output_tokens"))
                    .col(big_integer("effective_from"))
                    .col(big_integer("created_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_price_model_effective_from")
                    .table("price")
                    .col("model")
                    .col("effective_from")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("usage_record")
                    .col(string("request_id").primary_key())
                    .col(big_integer("started_at"))
                    .col(string("tenant_id"))
                    .col(string("virtual_key_id"))
                    .col(string("provider_key_id"))
                    .col(string("provider"))
                    .col(string("requested_model"))
                    .col(string("served_model"))
                    .col(integer("status"))
                    .col(string("outcome"))
                    .col(text("attempts"))
                    .col(boolean("stream"))
                    .col(big_integer("input_tokens"))
                    .col(big_integer("cache_read_tokens"))
                    .col(big_integer("cache_write_tokens"))
                    .col(big_integer("output_tokens"))
                    .col(big_integer("reasoning_tokens"))
                    .col(big_integer_null("cost_nano_usd"))
                    .col(text("cost_lines"))
                    .col(big_integer("clamped_nano_usd"))
                    .col(string_null("price_version"))
                    .col(string("usage_source"))
                    .col(big_integer("latency_ms"))
                    .col(big_integer_null("time_to_first_token_ms"))
                    .col(text("tags"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_usage_record_started_at_request_id")
                    .table("usage_record")
                    .col("started_at")
                    .col("request_id")
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_usage_record_tenant_id_started_at")
                    .table("usage_record")
                    .col("tenant_id")
                    .col("started_at")
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_usage_record_virtual_key_id_started_at")
                    .table("usage_record")
                    .col("virtual_key_id")
                    .col("started_at")
                    .to_owned(),
            )
            .await?;
        spend_rollup(manager).await?;
        manager
            .create_table(
                Table::create()
                    .table("spend_counter")
                    .col(string("scope"))
                    .col(string("scope_id"))
                    .col(string("window"))
                    .col(big_integer("window_index"))
                    .col(big_integer("settled_nano_usd"))
                    .primary_key(
                        Index::create().col("scope").col("scope_id").col("window").col("window_index"),
                    )
                    .to_owned(),
            )
            .await?;
        // A start reads the windows that run, not all that ever ran.
        manager
            .create_index(
                Index::create()
                    .name("idx_spend_counter_window_window_index")
                    .table("spend_counter")
                    .col("window")
                    .col("window_index")
                    .to_owned(),
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["spend_counter", "usage_pruned", "spend_rollup", "usage_record", "price"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// The sums by day of the usage rows, and how far those rows were pruned. Made with the rows, so that none is ever
/// without its sums.
async fn spend_rollup(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut table = Table::create()
        .table("spend_rollup")
        .col(string("grain"))
        .col(big_integer("month"))
        .col(string("series"))
        .col(string("tenant_id"))
        .col(string("virtual_key_id"))
        .col(string("provider"))
        .col(string("requested_model"))
        .col(string("served_model"))
        .col(text("tags"))
        .col(text("days"))
        .primary_key(Index::create().col("grain").col("month").col("series"))
        .to_owned();
    if manager.get_database_backend() == DbBackend::Sqlite {
        // In the order of its key, so that a report reads one stretch of the file.
        table.extra("WITHOUT ROWID");
    }
    manager.create_table(table).await?;
    // In the order in which a report of one tenant reads them.
    manager
        .create_index(
            Index::create()
                .name("idx_spend_rollup_grain_month_tenant_id_series")
                .table("spend_rollup")
                .col("grain")
                .col("month")
                .col("tenant_id")
                .col("series")
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("usage_pruned")
                .col(integer("id").primary_key())
                .col(big_integer("before"))
                .to_owned(),
        )
        .await
}
