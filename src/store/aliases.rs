//! Model aliases: rows to values and back.

use entity::model_alias::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Set,
};

use super::{Page, Paged, Store, StoreError, TenantScope, Tx, columns::moment, rows, tenants::is_alive};
use crate::domain::{AliasId, ModelName, ModelRef, TenantId, Timestamp};

const TABLE: &str = "model_alias";

/// A name for an ordered list of models.
#[derive(Clone, Debug)]
pub struct Alias {
    /// Which.
    pub id: AliasId,
    /// Whose.
    pub tenant_id: TenantId,
    /// The name.
    pub name: ModelName,
    /// Tried in order.
    pub models: Vec<ModelRef>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Store {
    /// One alias.
    pub async fn alias(&self, scope: TenantScope, alias: AliasId) -> Result<Alias, StoreError> {
        find(self.reader(), scope, alias).await
    }

    /// Aliases, oldest first.
    pub async fn aliases(&self, scope: TenantScope, page: &Page) -> Result<Paged<Alias>, StoreError> {
        let rows = Entity::find()
            .filter(is_alive(Column::TenantId))
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .apply_if(page.after_id::<AliasId>()?, |query, after| query.filter(Column::Id.gt(after)))
            .order_by_asc(Column::Id)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let aliases = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(aliases, |alias: &Alias| alias.id.to_string()))
    }
}

/// One alias, inside a transaction.
pub async fn alias_find(tx: &Tx, scope: TenantScope, alias: AliasId) -> Result<Alias, StoreError> {
    find(tx, scope, alias).await
}

/// Whether the tenant has an alias of that name.
pub async fn alias_exists(tx: &Tx, tenant: TenantId, name: &str) -> Result<bool, StoreError> {
    let found = Entity::find()
        .filter(Column::TenantId.eq(tenant.to_string()))
        .filter(Column::Name.eq(name))
        .count(tx)
        .await?;
    Ok(found > 0)
}

/// Adds an alias.
pub async fn alias_insert(tx: &Tx, alias: &Alias) -> Result<(), StoreError> {
    row(alias).insert(tx).await?;
    Ok(())
}

/// Writes all of an alias.
pub async fn alias_update(tx: &Tx, alias: &Alias) -> Result<(), StoreError> {
    row(alias).update(tx).await?;
    Ok(())
}

/// Removes an alias.
pub async fn alias_delete(tx: &Tx, alias: AliasId) -> Result<(), StoreError> {
    Entity::delete_by_id(alias.to_string()).exec(tx).await?;
    Ok(())
}

async fn find(db: &impl ConnectionTrait, scope: TenantScope, alias: AliasId) -> Result<Alias, StoreError> {
    let row = Entity::find_by_id(alias.to_string())
        .filter(is_alive(Column::TenantId))
        .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
        .one(db)
        .await?;
    read(row.ok_or(StoreError::NotFound)?)
}

fn read(row: Model) -> Result<Alias, StoreError> {
    let corrupt = |what| StoreError::Corrupt { table: TABLE, what };
    let models: Vec<String> = rows::json(TABLE, "models", &row.models)?;
    Ok(Alias {
        id: rows::id(TABLE, &row.id)?,
        tenant_id: rows::id(TABLE, &row.tenant_id)?,
        name: ModelName::parse(&row.name).map_err(|_| corrupt("name"))?,
        models: models
            .iter()
            .map(|model| ModelRef::parse(model))
            .collect::<Result<_, _>>()
            .map_err(|_| corrupt("models"))?,
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
    })
}

fn row(alias: &Alias) -> ActiveModel {
    ActiveModel {
        id: Set(alias.id.to_string()),
        tenant_id: Set(alias.tenant_id.to_string()),
        name: Set(alias.name.to_string()),
        models: Set(rows::texts_json(alias.models.iter().map(ToString::to_string))),
        created_at: Set(alias.created_at.millis()),
        updated_at: Set(alias.updated_at.millis()),
    }
}
