//! Provider keys whose secret comes from somewhere else: from a config variable, or by the operator's policy pack.

use entity::provider_key::{Column, Entity};
use sea_orm::{ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder};

use super::{ProviderKey, StoreError, Tx, provider_keys::read, tenants::is_alive};
use crate::domain::TenantId;

/// The keys of `tenant` with exactly this reference (`store:NAME`), oldest first.
pub async fn provider_keys_referring(
    tx: &Tx,
    tenant: TenantId,
    reference: &str,
) -> Result<Vec<ProviderKey>, StoreError> {
    let rows = Entity::find()
        .filter(Column::TenantId.eq(tenant.to_string()))
        .filter(Column::Reference.eq(reference))
        .order_by_asc(Column::Id)
        .all(tx)
        .await?;
    rows.into_iter().map(read).collect()
}

/// The keys of all living tenants that have a reference or belong to a policy pack, oldest first.
pub async fn provider_keys_resolved(tx: &Tx) -> Result<Vec<ProviderKey>, StoreError> {
    let rows = Entity::find()
        .filter(is_alive(Column::TenantId))
        .filter(Column::Reference.is_not_null().or(Column::ManagedBy.is_not_null()))
        .order_by_asc(Column::Id)
        .all(tx)
        .await?;
    rows.into_iter().map(read).collect()
}
