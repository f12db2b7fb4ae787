//! Config variables: rows to values and back. Of a sensitive one only the sealed text passes through.

use entity::config_variable::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Set,
};

use super::{Page, Paged, Store, StoreError, TenantScope, Tx, columns::moment, rows, tenants::is_alive};
use crate::domain::{ConfigVariableId, TenantId, Timestamp};

const TABLE: &str = "config_variable";

/// A tenant's config variable.
#[derive(Clone)]
pub struct ConfigVariable {
    /// Which.
    pub id: ConfigVariableId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Its name.
    pub name: String,
    /// What it holds.
    pub value: VariableValue,
    /// For people.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What a config variable holds.
#[derive(Clone)]
pub enum VariableValue {
    /// Anybody who may see the variable sees it.
    Open(String),
    /// Nobody sees it: `v2.<kid>.<AES-256-GCM-SIV>`.
    Sealed(String),
}

impl Store {
    /// One variable.
    pub async fn config_variable(
        &self,
        scope: TenantScope,
        id: ConfigVariableId,
    ) -> Result<ConfigVariable, StoreError> {
        find(self.reader(), scope, id).await
    }

    /// Variables, oldest first.
    pub async fn config_variables(
        &self,
        scope: TenantScope,
        page: &Page,
    ) -> Result<Paged<ConfigVariable>, StoreError> {
        let rows = Entity::find()
            .filter(is_alive(Column::TenantId))
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .apply_if(page.after_id::<ConfigVariableId>()?, |query, after| query.filter(Column::Id.gt(after)))
            .order_by_asc(Column::Id)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let variables = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(variables, |variable: &ConfigVariable| variable.id.to_string()))
    }
}

/// One variable, inside a transaction.
pub async fn config_variable_find(
    tx: &Tx,
    scope: TenantScope,
    id: ConfigVariableId,
) -> Result<ConfigVariable, StoreError> {
    find(tx, scope, id).await
}

/// The tenant's variable of that name.
pub async fn config_variable_named(
    tx: &Tx,
    tenant: TenantId,
    name: &str,
) -> Result<Option<ConfigVariable>, StoreError> {
    let row = Entity::find()
        .filter(Column::TenantId.eq(tenant.to_string()))
        .filter(Column::Name.eq(name))
        .one(tx)
        .await?;
    row.map(read).transpose()
}

/// Adds a variable.
pub async fn config_variable_insert(tx: &Tx, variable: &ConfigVariable) -> Result<(), StoreError> {
    row(variable).insert(tx).await?;
    Ok(())
}

/// Writes all of a variable.
pub async fn config_variable_update(tx: &Tx, variable: &ConfigVariable) -> Result<(), StoreError> {
    row(variable).update(tx).await?;
    Ok(())
}

/// Removes a variable.
pub async fn config_variable_delete(tx: &Tx, id: ConfigVariableId) -> Result<(), StoreError> {
    Entity::delete_by_id(id.to_string()).exec(tx).await?;
    Ok(())
}

/// Removes all variables of a tenant.
pub async fn config_variables_delete(tx: &Tx, tenant: TenantId) -> Result<(), StoreError> {
    Entity::delete_many().filter(Column::TenantId.eq(tenant.to_string())).exec(tx).await?;
    Ok(())
}

/// Replaces `old` by `new`, the same value sealed anew; [`StoreError::NotFound`] when `old` does not stand any more.
pub async fn config_variable_reseal(
    tx: &Tx,
    id: ConfigVariableId,
    old: &str,
    new: &str,
) -> Result<(), StoreError> {
    let done = Entity::update_many()
        .col_expr(Column::Sealed, new.into())
        .filter(Column::Id.eq(id.to_string()))
        .filter(Column::Sealed.eq(old))
        .exec(tx)
        .await?;
    if done.rows_affected == 1 { Ok(()) } else { Err(StoreError::NotFound) }
}

async fn find(
    db: &impl ConnectionTrait,
    scope: TenantScope,
    id: ConfigVariableId,
) -> Result<ConfigVariable, StoreError> {
    let row = Entity::find_by_id(id.to_string())
        .filter(is_alive(Column::TenantId))
        .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
        .one(db)
        .await?;
    read(row.ok_or(StoreError::NotFound)?)
}

fn read(row: Model) -> Result<ConfigVariable, StoreError> {
    let value = match (row.value, row.sealed) {
        (Some(open), None) => VariableValue::Open(open),
        (None, Some(sealed)) => VariableValue::Sealed(sealed),
        _ => return Err(StoreError::Corrupt { table: TABLE, what: "it must have one value" }),
    };
    Ok(ConfigVariable {
        id: rows::id(TABLE, &row.id)?,
        tenant_id: rows::id(TABLE, &row.tenant_id)?,
        name: row.name,
        value,
        description: row.description,
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
    })
}

fn row(variable: &ConfigVariable) -> ActiveModel {
    let (value, sealed) = match &variable.value {
        VariableValue::Open(value) => (Some(value.clone()), None),
        VariableValue::Sealed(sealed) => (None, Some(sealed.clone())),
    };
    ActiveModel {
        id: Set(variable.id.to_string()),
        tenant_id: Set(variable.tenant_id.to_string()),
        name: Set(variable.name.clone()),
        value: Set(value),
        sealed: Set(sealed),
        description: Set(variable.description.clone()),
        created_at: Set(variable.created_at.millis()),
        updated_at: Set(variable.updated_at.millis()),
    }
}
