//! A person who logs in to the admin plane.

use sea_orm::entity::prelude::*;

/// A person who logs in to the admin plane.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "user")]
pub struct Model {
    /// `usr_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Normalised: trimmed, lower case.
    pub email: String,
    /// argon2id, PHC string.
    pub password_hash: String,
    /// `owner`, `tenant_admin`, `finance` or `auditor`.
    pub role: String,
    /// Home tenant.
    pub tenant_id: String,
    /// Sessions of another version are void.
    pub session_version: i32,
    /// May log in.
    pub is_active: bool,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
