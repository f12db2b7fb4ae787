//! Service tokens: rows to values and back. A deleted token is gone with its secrets; what it fetched stays in the audit
//! log.

use std::collections::HashMap;

use entity::{
    service_token::{ActiveModel, Column, Entity, Model},
    service_token_secret as secret,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Set, sea_query::Expr,
};

use super::{
    Page, Paged, Store, StoreError, TenantScope, Tx,
    columns::{maybe, moment},
    rows,
    tenants::is_alive,
};
use crate::domain::{ServiceTokenDigest, ServiceTokenId, TenantId, Timestamp};

const TABLE: &str = "service_token";

/// A service token without its secret.
#[derive(Clone, Debug)]
pub struct ServiceToken {
    /// Which.
    pub id: ServiceTokenId,
    /// Whose keys it fetches.
    pub tenant_id: TenantId,
    /// For people.
    pub service_name: String,
    /// May be used.
    pub is_active: bool,
    /// When a key was last asked for with it.
    pub last_used_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The non-secret id inside its newest secret.
    pub token_id: Option<String>,
}

/// A service token that was found by one of its secrets.
#[derive(Clone, Debug)]
pub struct PresentedToken {
    /// Which.
    pub id: ServiceTokenId,
    /// Whose keys it fetches.
    pub tenant: TenantId,
    /// May be used.
    pub is_active: bool,
    /// When the secret ends, if it is one that was rotated away.
    pub secret_expires_at: Option<Timestamp>,
}

impl Store {
    /// One token.
    pub async fn service_token(
        &self,
        scope: TenantScope,
        token: ServiceTokenId,
    ) -> Result<ServiceToken, StoreError> {
        find(self.reader(), scope, token).await
    }

    /// Tokens, oldest first.
    pub async fn service_tokens(
        &self,
        scope: TenantScope,
        page: &Page,
    ) -> Result<Paged<ServiceToken>, StoreError> {
        let rows = Entity::find()
            .filter(is_alive(Column::TenantId))
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .apply_if(page.after_id::<ServiceTokenId>()?, |query, after| query.filter(Column::Id.gt(after)))
            .order_by_asc(Column::Id)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let mut names = token_ids(self.reader(), rows.iter().map(|row| row.id.clone())).await?;
        let tokens = rows
            .into_iter()
            .map(|row| {
                let name = names.remove(&row.id);
                read(row, name)
            })
            .collect::<Result<_, _>>()?;
        Ok(page.cut(tokens, |token: &ServiceToken| token.id.to_string()))
    }

    /// The token that has this secret, whether it may be used or not.
    pub async fn service_token_presented(
        &self,
        digest: &ServiceTokenDigest,
    ) -> Result<Option<PresentedToken>, StoreError> {
        let found = secret::Entity::find_by_id(hex(digest)).one(self.reader()).await?;
        let Some(found) = found else { return Ok(None) };
        let token = Entity::find_by_id(found.service_token_id)
            .filter(is_alive(Column::TenantId))
            .one(self.reader())
            .await?;
        token
            .map(|row| {
                Ok(PresentedToken {
                    id: rows::id(TABLE, &row.id)?,
                    tenant: rows::id(TABLE, &row.tenant_id)?,
                    is_active: row.is_active,
                    secret_expires_at: found.expires_at.map(moment),
                })
            })
            .transpose()
    }
}

/// One token, inside a transaction.
pub async fn service_token_find(
    tx: &Tx,
    scope: TenantScope,
    token: ServiceTokenId,
) -> Result<ServiceToken, StoreError> {
    find(tx, scope, token).await
}

/// Adds a token.
pub async fn service_token_insert(tx: &Tx, token: &ServiceToken) -> Result<(), StoreError> {
    row(token).insert(tx).await?;
    Ok(())
}

/// Writes all of a token but its secrets.
pub async fn service_token_update(tx: &Tx, token: &ServiceToken) -> Result<(), StoreError> {
    row(token).update(tx).await?;
    Ok(())
}

/// Removes a token and its secrets.
pub async fn service_token_delete(tx: &Tx, token: ServiceTokenId) -> Result<(), StoreError> {
    let token = token.to_string();
    secret::Entity::delete_many().filter(secret::Column::ServiceTokenId.eq(&token)).exec(tx).await?;
    Entity::delete_by_id(token).exec(tx).await?;
    Ok(())
}

/// Removes all tokens of a tenant and their secrets.
pub async fn service_tokens_delete(tx: &Tx, tenant: TenantId) -> Result<(), StoreError> {
    let of_tenant = Column::TenantId.eq(tenant.to_string());
    let tokens = Entity::find().select_only().column(Column::Id).filter(of_tenant.clone()).into_query();
    secret::Entity::delete_many().filter(secret::Column::ServiceTokenId.in_subquery(tokens)).exec(tx).await?;
    Entity::delete_many().filter(of_tenant).exec(tx).await?;
    Ok(())
}

/// Adds a secret to a token, by its digest.
pub async fn service_token_secret_insert(
    tx: &Tx,
    token: ServiceTokenId,
    digest: &ServiceTokenDigest,
    token_id: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let row = secret::ActiveModel {
        digest: Set(hex(digest)),
        service_token_id: Set(token.to_string()),
        token_id: Set(token_id.to_owned()),
        created_at: Set(at.millis()),
        expires_at: Set(None),
    };
    row.insert(tx).await?;
    Ok(())
}

/// Lets every secret of a token live until `until` at most, and removes those that are dead already.
pub async fn service_token_secrets_retire(
    tx: &Tx,
    token: ServiceTokenId,
    at: Timestamp,
    until: Timestamp,
) -> Result<(), StoreError> {
    let of_token = secret::Column::ServiceTokenId.eq(token.to_string());
    secret::Entity::update_many()
        .col_expr(secret::Column::ExpiresAt, Expr::value(until.millis()))
        .filter(of_token.clone())
        .filter(
            Condition::any()
                .add(secret::Column::ExpiresAt.is_null())
                .add(secret::Column::ExpiresAt.gt(until.millis())),
        )
        .exec(tx)
        .await?;
    secret::Entity::delete_many()
        .filter(of_token)
        .filter(secret::Column::ExpiresAt.lte(at.millis()))
        .exec(tx)
        .await?;
    Ok(())
}

async fn find(
    db: &impl ConnectionTrait,
    scope: TenantScope,
    token: ServiceTokenId,
) -> Result<ServiceToken, StoreError> {
    let row = Entity::find_by_id(token.to_string())
        .filter(is_alive(Column::TenantId))
        .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
        .one(db)
        .await?
        .ok_or(StoreError::NotFound)?;
    let name = token_ids(db, std::iter::once(row.id.clone())).await?.remove(&row.id);
    read(row, name)
}

/// The id inside the newest secret of each token: the only one that has no end.
async fn token_ids(
    db: &impl ConnectionTrait,
    tokens: impl Iterator<Item = String>,
) -> Result<HashMap<String, String>, StoreError> {
    let newest = secret::Entity::find()
        .filter(secret::Column::ServiceTokenId.is_in(tokens))
        .filter(secret::Column::ExpiresAt.is_null())
        .all(db)
        .await?;
    Ok(newest.into_iter().map(|row| (row.service_token_id, row.token_id)).collect())
}

fn read(row: Model, token_id: Option<String>) -> Result<ServiceToken, StoreError> {
    Ok(ServiceToken {
        id: rows::id(TABLE, &row.id)?,
        tenant_id: rows::id(TABLE, &row.tenant_id)?,
        service_name: row.service_name,
        is_active: row.is_active,
        last_used_at: row.last_used_at.map(moment),
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
        token_id,
    })
}

fn row(token: &ServiceToken) -> ActiveModel {
    ActiveModel {
        id: Set(token.id.to_string()),
        tenant_id: Set(token.tenant_id.to_string()),
        service_name: Set(token.service_name.clone()),
        is_active: Set(token.is_active),
        last_used_at: maybe(token.last_used_at),
        created_at: Set(token.created_at.millis()),
        updated_at: Set(token.updated_at.millis()),
    }
}

fn hex(digest: &ServiceTokenDigest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
