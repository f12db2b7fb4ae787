//! What may be done: virtual keys, provider keys, aliases, the house's own secrets.

use sea_orm_migration::{prelude::*, schema::*};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000002_keys"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("virtual_key")
                    .col(string("id").primary_key())
                    .col(string("tenant_id"))
                    .col(string("name"))
                    .col(text_null("models_allowed"))
                    .col(big_integer_null("spend_cap_nano_usd"))
                    .col(string("spend_window"))
                    .col(string("cap_mode"))
                    .col(integer_null("rate_limit_rpm"))
                    .col(integer_null("rate_limit_tpm"))
                    .col(integer_null("max_parallel"))
                    .col(text("fallback_models"))
                    .col(text("tags"))
                    .col(big_integer_null("expires_at"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .col(big_integer_null("revoked_at"))
                    .col(big_integer_null("deleted_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_virtual_key_tenant_id")
                    .table("virtual_key")
                    .col("tenant_id")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("virtual_key_secret")
                    .col(string("digest").primary_key())
                    .col(string("virtual_key_id"))
                    .col(string("token_id"))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("expires_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_virtual_key_secret_virtual_key_id")
                    .table("virtual_key_secret")
                    .col("virtual_key_id")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("provider_key")
                    .col(string("id").primary_key())
                    .col(string("tenant_id"))
                    .col(string("provider"))
                    .col(string("key_name"))
                    .col(string_null("dialect"))
                    .col(string("base_url"))
                    .col(string("origin"))
                    .col(text("sealed"))
                    .col(string("fingerprint"))
                    .col(text_null("models"))
                    .col(integer("weight"))
                    .col(boolean("is_active"))
                    .col(boolean("retrievable"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_provider_key_tenant_id_provider")
                    .table("provider_key")
                    .col("tenant_id")
                    .col("provider")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("model_alias")
                    .col(string("id").primary_key())
                    .col(string("tenant_id"))
                    .col(string("name"))
                    .col(text("models"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("uniq_model_alias_tenant_id_name")
                    .table("model_alias")
                    .col("tenant_id")
                    .col("name")
                    .unique()
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("house_secret")
                    .col(string("name").primary_key())
                    .col(text("sealed"))
                    .col(big_integer("created_at"))
                    .to_owned(),
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["house_secret", "model_alias", "provider_key", "virtual_key_secret", "virtual_key"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
