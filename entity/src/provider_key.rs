//! A tenant's own key at a provider, sealed.

use sea_orm::entity::prelude::*;

/// A tenant's own key at a provider, sealed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "provider_key")]
pub struct Model {
    /// `pk_…`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub tenant_id: String,
    /// Provider slug.
    pub provider: String,
    /// For people.
    pub key_name: String,
    /// Dialect of a custom provider; null for a catalogue provider.
    pub dialect: Option<String>,
    /// Where it is used, without a trailing slash.
    pub base_url: String,
    /// Scheme, host and port of `base_url`; bound into the sealed payload.
    pub origin: String,
    /// `v1.<kid>.<fernet token>`; never a plaintext.
    pub sealed: String,
    /// Keyed hash of the secret, 8 hex digits.
    pub fingerprint: String,
    /// JSON array of upstream model names it serves; null serves all.
    pub models: Option<String>,
    /// Share of the traffic; 0 serves only when all others are down.
    pub weight: i32,
    /// May be used.
    pub is_active: bool,
    /// May be fetched by a service token; fixed at upload.
    pub retrievable: bool,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
