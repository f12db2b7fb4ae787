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
    /// May be used by batch jobs.
    pub use_for_batch_api: bool,
    /// What a cloud provider needs beside a secret, as JSON: which cloud, endpoint, region and their like; no secret.
    pub cloud: Option<String>,
    /// The secrets among it, sealed for this row.
    pub cloud_sealed: Option<String>,
    /// Where the secret comes from, if it was not typed in: `store:NAME` or `env:NAME`. `sealed` has what it stood for.
    pub reference: Option<String>,
    /// The operator's policy pack that this key belongs to; null for keys of the API.
    pub managed_by: Option<String>,
    /// A new secret that waits beside `sealed`, sealed for this row.
    pub staged_sealed: Option<String>,
    /// Its keyed hash.
    pub staged_fingerprint: Option<String>,
    /// Since when; UTC, milliseconds since the epoch.
    pub staged_at: Option<i64>,
    /// When the provider took it, if it was tried; UTC, milliseconds since the epoch.
    pub staged_verified_at: Option<i64>,
    /// UTC, milliseconds since the epoch.
    pub created_at: i64,
    /// UTC, milliseconds since the epoch.
    pub updated_at: i64,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
