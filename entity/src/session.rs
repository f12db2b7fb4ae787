//! A session of a person on the admin plane. The token itself is never stored: it is signed.

use sea_orm::entity::prelude::*;

/// A session of a person on the admin plane. The token itself is never stored: it is signed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session")]
pub struct Model {
    /// `ses_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// When it was last used, to the minute; UTC, milliseconds since the epoch.
    pub seen_at: i64,
    /// When its token expires; UTC, milliseconds since the epoch.
    pub expires_at: i64,
    /// When it was ended before that; UTC, milliseconds since the epoch.
    pub ended_at: Option<i64>,
    /// Where it was begun from; null for one that a command signed.
    pub address: Option<String>,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
