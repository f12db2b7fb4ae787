//! Tenants: rows to values and back. A deleted tenant is out of sight; its row stays, because usage rows name it.

use std::collections::{BTreeSet, HashMap};

use entity::tenant::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Set,
    sea_query::{Expr, Query},
};

use super::{
    Page, Paged, Store, StoreError, StoredLimits, TenantScope, Tx,
    columns::{maybe, moment},
    rows,
    rows::LimitColumns,
};
use crate::domain::{TenantId, Timestamp, Zone};

const TABLE: &str = "tenant";

/// A tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Which.
    pub id: TenantId,
    /// Unique among those that are not deleted.
    pub name: String,
    /// What its keys may do together.
    pub limits: StoredLimits,
    /// Where its days begin.
    pub zone: Zone,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Store {
    /// One tenant.
    pub async fn tenant(&self, scope: TenantScope, tenant: TenantId) -> Result<Tenant, StoreError> {
        find(self.reader(), scope, tenant).await
    }

    /// The tenant of that name.
    pub async fn tenant_named(&self, name: &str) -> Result<Tenant, StoreError> {
        named(self.reader(), name).await?.ok_or(StoreError::NotFound)
    }

    /// Tenants, oldest first.
    pub async fn tenants(&self, scope: TenantScope, page: &Page) -> Result<Paged<Tenant>, StoreError> {
        let rows = Entity::find()
            .filter(Column::DeletedAt.is_null())
            .apply_if(scope.column(), |query, tenant| query.filter(Column::Id.eq(tenant)))
            .apply_if(page.after_id::<TenantId>()?, |query, after| query.filter(Column::Id.gt(after)))
            .order_by_asc(Column::Id)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let tenants = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(tenants, |tenant: &Tenant| tenant.id.to_string()))
    }

    /// Where the days of each of `tenants` begin.
    pub async fn tenant_zones(
        &self,
        tenants: impl Iterator<Item = TenantId>,
    ) -> Result<HashMap<TenantId, Zone>, StoreError> {
        let ids: BTreeSet<String> = tenants.map(|tenant| tenant.to_string()).collect();
        let rows: Vec<(String, String)> = Entity::find()
            .select_only()
            .columns([Column::Id, Column::TimeZone])
            .filter(Column::Id.is_in(ids))
            .into_tuple()
            .all(self.reader())
            .await?;
        rows.iter().map(|(id, zone)| Ok((rows::id(TABLE, id)?, rows::zone(zone)?))).collect()
    }
}

/// One tenant, inside a transaction.
pub async fn tenant_find(tx: &Tx, scope: TenantScope, tenant: TenantId) -> Result<Tenant, StoreError> {
    find(tx, scope, tenant).await
}

/// The tenant of that name, if there is one, inside a transaction.
pub async fn tenant_find_named(tx: &Tx, name: &str) -> Result<Option<Tenant>, StoreError> {
    named(tx, name).await
}

/// Adds a tenant.
pub async fn tenant_insert(tx: &Tx, tenant: &Tenant) -> Result<(), StoreError> {
    let row = ActiveModel { id: Set(tenant.id.to_string()), deleted_at: Set(None), ..changed(tenant) };
    row.insert(tx).await?;
    Ok(())
}

/// Writes a tenant's name, limits and time zone.
pub async fn tenant_update(tx: &Tx, tenant: &Tenant) -> Result<(), StoreError> {
    let row = ActiveModel { id: Set(tenant.id.to_string()), ..changed(tenant) };
    row.update(tx).await?;
    Ok(())
}

/// Puts a tenant out of sight.
pub async fn tenant_delete(tx: &Tx, tenant: TenantId, at: Timestamp) -> Result<(), StoreError> {
    let row = ActiveModel { id: Set(tenant.to_string()), deleted_at: maybe(Some(at)), ..Default::default() };
    row.update(tx).await?;
    Ok(())
}

/// Whether the tenant that `column` names is not deleted: nothing of a deleted tenant's is found, changed or revived.
pub(super) fn is_alive(column: impl ColumnTrait) -> Expr {
    let alive = Query::select().column(Column::Id).from(Entity).and_where(Column::DeletedAt.is_null()).take();
    column.in_subquery(alive)
}

async fn find(db: &impl ConnectionTrait, scope: TenantScope, tenant: TenantId) -> Result<Tenant, StoreError> {
    if !scope.covers(tenant) {
        return Err(StoreError::NotFound);
    }
    let row = Entity::find_by_id(tenant.to_string()).filter(Column::DeletedAt.is_null()).one(db).await?;
    read(row.ok_or(StoreError::NotFound)?)
}

async fn named(db: &impl ConnectionTrait, name: &str) -> Result<Option<Tenant>, StoreError> {
    let query = Entity::find().filter(Column::Name.eq(name)).filter(Column::DeletedAt.is_null());
    query.one(db).await?.map(read).transpose()
}

fn read(row: Model) -> Result<Tenant, StoreError> {
    let limits = StoredLimits::read(&LimitColumns::from(&row), TABLE)?;
    Ok(Tenant {
        id: rows::id(TABLE, &row.id)?,
        name: row.name,
        limits,
        zone: rows::zone(&row.time_zone)?,
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
    })
}

fn changed(tenant: &Tenant) -> ActiveModel {
    let limits = tenant.limits.columns();
    ActiveModel {
        name: Set(tenant.name.clone()),
        models_allowed: Set(limits.models_allowed),
        spend_cap_nano_usd: Set(limits.spend_cap_nano_usd),
        spend_window: Set(limits.spend_window),
        cap_mode: Set(limits.cap_mode),
        rate_limit_rpm: Set(limits.rate_limit_rpm),
        rate_limit_tpm: Set(limits.rate_limit_tpm),
        max_parallel: Set(limits.max_parallel),
        time_zone: Set(tenant.zone.name().to_owned()),
        created_at: Set(tenant.created_at.millis()),
        updated_at: Set(tenant.updated_at.millis()),
        ..Default::default()
    }
}
