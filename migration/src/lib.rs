//! Keystile's schema, one file a step; each goes up and down.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::{
    prelude::*,
    sea_orm::{EntityName, EntityTrait, QueryOrder},
    seaql_migrations,
};

mod m20261121_000001_tenants_and_users;
mod m20261121_000002_keys;
mod m20261121_000003_money;
mod m20261121_000004_audit_and_changes;
mod m20261121_000005_leases;
mod m20261121_000006_budgets;
mod m20261121_000007_instance_run;
mod m20261121_000008_service_tokens;
mod m20261121_000009_provider_key_use;
mod m20261121_000010_config_variables;
mod m20261121_000011_master_keys;
mod m20261121_000012_sessions;

pub use m20261121_000004_audit_and_changes::AUDIT_TRIGGERS;

/// All steps, oldest first.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_tenants_and_users::Migration),
            Box::new(m20261121_000002_keys::Migration),
            Box::new(m20261121_000003_money::Migration),
            Box::new(m20261121_000004_audit_and_changes::Migration),
            Box::new(m20261121_000005_leases::Migration),
            Box::new(m20261121_000006_budgets::Migration),
            Box::new(m20261121_000007_instance_run::Migration),
            Box::new(m20261121_000008_service_tokens::Migration),
            Box::new(m20261121_000009_provider_key_use::Migration),
            Box::new(m20261121_000010_config_variables::Migration),
            Box::new(m20261121_000011_master_keys::Migration),
            Box::new(m20261121_000012_sessions::Migration),
        ]
    }
}

/// The names of all steps, oldest first.
pub fn known() -> Vec<String> {
    Migrator::migrations().iter().map(|step| step.name().to_owned()).collect()
}

/// The names of the steps that were applied to `db`, also of those that this version does not know. Creates nothing.
pub async fn applied<'c>(db: impl IntoSchemaManagerConnection<'c>) -> Result<Vec<String>, DbErr> {
    let manager = SchemaManager::new(db);
    if !manager.has_table(seaql_migrations::Entity.table_name()).await? {
        return Ok(Vec::new());
    }
    let rows = seaql_migrations::Entity::find()
        .order_by_asc(seaql_migrations::Column::Version)
        .all(manager.get_connection())
        .await?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}
