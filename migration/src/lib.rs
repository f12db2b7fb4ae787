//! Keystile's schema, one file a step; each goes up and down.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

mod m20261121_000001_tenants_and_users;
mod m20261121_000002_keys;
mod m20261121_000003_money;
mod m20261121_000004_audit_and_changes;

/// All steps, oldest first.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_tenants_and_users::Migration),
            Box::new(m20261121_000002_keys::Migration),
            Box::new(m20261121_000003_money::Migration),
            Box::new(m20261121_000004_audit_and_changes::Migration),
        ]
    }
}
