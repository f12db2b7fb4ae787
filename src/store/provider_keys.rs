//! Provider keys as administrators see and change them: everything but the secret, of which only the sealed text
//! passes through.

use entity::provider_key::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Set,
};

use super::{
    Store, StoreError, TenantScope, Tx,
    columns::{moment, names},
    provider_key_use as key_use, rows,
    tenants::is_alive,
};
use crate::domain::{ModelName, ProviderKeyId, ProviderSlug, TenantId, Timestamp};

const TABLE: &str = "provider_key";
/// Most keys that one list shows.
const MAX_LISTED: u64 = 5_000;

/// A provider key; its secret is sealed.
#[derive(Clone)]
pub struct ProviderKey {
    /// Which.
    pub id: ProviderKeyId,
    /// Whose.
    pub tenant_id: TenantId,
    /// At which provider.
    pub provider: ProviderSlug,
    /// For people.
    pub key_name: String,
    /// Dialect of a custom provider; `None` for one of the catalogue.
    pub dialect: Option<String>,
    /// Where it is used, without a trailing slash.
    pub base_url: String,
    /// Scheme, host and port of `base_url`.
    pub origin: String,
    /// `v1.<kid>.<fernet token>`.
    pub sealed: String,
    /// Keyed hash of the secret.
    pub fingerprint: String,
    /// Upstream models it serves; `None` serves all.
    pub models: Option<Vec<ModelName>>,
    /// Share of the traffic.
    pub weight: u32,
    /// May be used.
    pub is_active: bool,
    /// May be fetched by a service token.
    pub retrievable: bool,
    /// May be used by batch jobs.
    pub use_for_batch_api: bool,
    /// What a cloud provider needs beside a secret, as JSON; no secret.
    pub cloud: Option<String>,
    /// The secrets among it, sealed for this row.
    pub cloud_sealed: Option<String>,
    /// Where the secret comes from, if it was not typed in: `store:NAME` or `env:NAME`.
    pub reference: Option<String>,
    /// The operator's policy pack that it belongs to; `None` for keys of the API.
    pub managed_by: Option<String>,
    /// A new secret that waits beside the present one.
    pub staged: Option<StagedSecret>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A new secret that waits beside a key's present one.
#[derive(Clone)]
pub struct StagedSecret {
    /// Sealed for the same row.
    pub sealed: String,
    /// Keyed hash of the secret.
    pub fingerprint: String,
    /// Since when.
    pub at: Timestamp,
    /// When the provider took it, if it was tried.
    pub verified_at: Option<Timestamp>,
}

impl Store {
    /// One key.
    pub async fn provider_key(
        &self,
        scope: TenantScope,
        key: ProviderKeyId,
    ) -> Result<ProviderKey, StoreError> {
        find(self.reader(), scope, key).await
    }

    /// Keys, oldest first, at most 5000.
    pub async fn provider_keys(&self, scope: TenantScope) -> Result<Vec<ProviderKey>, StoreError> {
        let rows = Entity::find()
            .filter(is_alive(Column::TenantId))
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .order_by_asc(Column::Id)
            .limit(MAX_LISTED)
            .all(self.reader())
            .await?;
        rows.into_iter().map(read).collect()
    }
}

/// One key, inside a transaction.
pub async fn provider_key_find(
    tx: &Tx,
    scope: TenantScope,
    key: ProviderKeyId,
) -> Result<ProviderKey, StoreError> {
    find(tx, scope, key).await
}

/// The keys of one tenant at one provider, oldest first, inside a transaction.
pub async fn provider_keys_of(
    tx: &Tx,
    tenant: TenantId,
    provider: &ProviderSlug,
) -> Result<Vec<ProviderKey>, StoreError> {
    let rows = Entity::find()
        .filter(is_alive(Column::TenantId))
        .filter(Column::TenantId.eq(tenant.to_string()))
        .filter(Column::Provider.eq(provider.as_str()))
        .order_by_asc(Column::Id)
        .limit(MAX_LISTED)
        .all(tx)
        .await?;
    rows.into_iter().map(read).collect()
}

/// Adds a key.
pub async fn provider_key_insert(tx: &Tx, key: &ProviderKey) -> Result<(), StoreError> {
    row(key).insert(tx).await?;
    Ok(())
}

/// Writes all of a key.
pub async fn provider_key_update(tx: &Tx, key: &ProviderKey) -> Result<(), StoreError> {
    row(key).update(tx).await?;
    Ok(())
}

/// Removes a key and its sealed secret.
pub async fn provider_key_delete(tx: &Tx, key: ProviderKeyId) -> Result<(), StoreError> {
    Entity::delete_by_id(key.to_string()).exec(tx).await?;
    // After the key itself: whoever notes its use holds its row meanwhile.
    key_use::forget(tx, key).await
}

/// Removes all keys of a tenant and their sealed secrets; usage rows keep their ids.
pub async fn provider_keys_delete(tx: &Tx, tenant: TenantId) -> Result<(), StoreError> {
    let gone = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::TenantId.eq(tenant.to_string()))
        .into_tuple()
        .all(tx)
        .await?;
    Entity::delete_many().filter(Column::TenantId.eq(tenant.to_string())).exec(tx).await?;
    key_use::forget_all(tx, gone).await
}

async fn find(
    db: &impl ConnectionTrait,
    scope: TenantScope,
    key: ProviderKeyId,
) -> Result<ProviderKey, StoreError> {
    let row = Entity::find_by_id(key.to_string())
        .filter(is_alive(Column::TenantId))
        .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
        .one(db)
        .await?;
    read(row.ok_or(StoreError::NotFound)?)
}

pub(super) fn read(row: Model) -> Result<ProviderKey, StoreError> {
    let corrupt = |what| StoreError::Corrupt { table: TABLE, what };
    Ok(ProviderKey {
        id: rows::id(TABLE, &row.id)?,
        tenant_id: rows::id(TABLE, &row.tenant_id)?,
        provider: ProviderSlug::parse(&row.provider).map_err(|_| corrupt("provider"))?,
        key_name: row.key_name,
        dialect: row.dialect,
        base_url: row.base_url,
        origin: row.origin,
        sealed: row.sealed,
        fingerprint: row.fingerprint,
        models: row.models.map(|text| names(&text, TABLE, "models")).transpose()?,
        weight: u32::try_from(row.weight).map_err(|_| corrupt("weight"))?,
        is_active: row.is_active,
        retrievable: row.retrievable,
        use_for_batch_api: row.use_for_batch_api,
        cloud: row.cloud,
        cloud_sealed: row.cloud_sealed,
        reference: row.reference,
        managed_by: row.managed_by,
        staged: match (row.staged_sealed, row.staged_fingerprint, row.staged_at) {
            (Some(sealed), Some(fingerprint), Some(at)) => {
                let verified_at = row.staged_verified_at.map(moment);
                Some(StagedSecret { sealed, fingerprint, at: moment(at), verified_at })
            }
            _ => None,
        },
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
    })
}

fn row(key: &ProviderKey) -> ActiveModel {
    ActiveModel {
        id: Set(key.id.to_string()),
        tenant_id: Set(key.tenant_id.to_string()),
        provider: Set(key.provider.to_string()),
        key_name: Set(key.key_name.clone()),
        dialect: Set(key.dialect.clone()),
        base_url: Set(key.base_url.clone()),
        origin: Set(key.origin.clone()),
        sealed: Set(key.sealed.clone()),
        fingerprint: Set(key.fingerprint.clone()),
        models: Set(key
            .models
            .as_ref()
            .map(|models| rows::texts_json(models.iter().map(ToString::to_string)))),
        weight: Set(i32::try_from(key.weight).unwrap_or(i32::MAX)),
        is_active: Set(key.is_active),
        retrievable: Set(key.retrievable),
        use_for_batch_api: Set(key.use_for_batch_api),
        cloud: Set(key.cloud.clone()),
        cloud_sealed: Set(key.cloud_sealed.clone()),
        reference: Set(key.reference.clone()),
        managed_by: Set(key.managed_by.clone()),
        staged_sealed: Set(key.staged.as_ref().map(|staged| staged.sealed.clone())),
        staged_fingerprint: Set(key.staged.as_ref().map(|staged| staged.fingerprint.clone())),
        staged_at: Set(key.staged.as_ref().map(|staged| staged.at.millis())),
        staged_verified_at: Set(key
            .staged
            .as_ref()
            .and_then(|staged| staged.verified_at)
            .map(Timestamp::millis)),
        created_at: Set(key.created_at.millis()),
        updated_at: Set(key.updated_at.millis()),
    }
}
