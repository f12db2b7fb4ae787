//! Money: prices, usage rows, settled spend.

use sea_orm_migration::{prelude::*, schema::*};

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
        for table in ["spend_counter", "usage_record", "price"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
