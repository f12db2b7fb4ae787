//! Virtual keys: rows to values and back. A deleted key is out of sight; its row and its usage stay.

use std::collections::{BTreeMap, HashMap};

use entity::{
    virtual_key::{ActiveModel, Column, Entity, Model},
    virtual_key_secret as secret,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, Set, sea_query::Expr,
};

use super::{
    Page, Paged, Store, StoreError, StoredLimits, TenantScope, Tx,
    columns::{maybe, moment, names},
    rows,
    rows::LimitColumns,
    tenants::is_alive,
};
use crate::domain::{BudgetId, KeyDigest, ModelName, TenantId, Timestamp, VirtualKeyId};

const TABLE: &str = "virtual_key";

/// A virtual key without its secret.
#[derive(Clone, Debug)]
pub struct VirtualKey {
    /// Which.
    pub id: VirtualKeyId,
    /// Whose.
    pub tenant_id: TenantId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub limits: StoredLimits,
    /// Tried in order after what was asked for.
    pub fallback_models: Vec<ModelName>,
    /// Joined to every usage row.
    pub tags: BTreeMap<String, String>,
    /// Budgets it has joined, each once.
    pub budgets: Vec<BudgetId>,
    /// When it stops living.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// The non-secret id inside its newest secret.
    pub token_id: Option<String>,
}

impl Store {
    /// One key that is not deleted.
    pub async fn virtual_key(&self, scope: TenantScope, key: VirtualKeyId) -> Result<VirtualKey, StoreError> {
        find(self.reader(), scope, key).await
    }

    /// Keys that are not deleted, oldest first.
    pub async fn virtual_keys(
        &self,
        scope: TenantScope,
        page: &Page,
    ) -> Result<Paged<VirtualKey>, StoreError> {
        let rows = Entity::find()
            .filter(is_alive(Column::TenantId))
            .filter(Column::DeletedAt.is_null())
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .apply_if(page.after_id::<VirtualKeyId>()?, |query, after| query.filter(Column::Id.gt(after)))
            .order_by_asc(Column::Id)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        let mut tokens = token_ids(self.reader(), ids).await?;
        let keys = rows
            .into_iter()
            .map(|row| {
                let token = tokens.remove(&row.id);
                read(row, token)
            })
            .collect::<Result<_, _>>()?;
        Ok(page.cut(keys, |key: &VirtualKey| key.id.to_string()))
    }

    /// Whether there is or ever was such a key within `scope`.
    pub async fn virtual_key_existed(
        &self,
        scope: TenantScope,
        key: VirtualKeyId,
    ) -> Result<bool, StoreError> {
        let found = Entity::find_by_id(key.to_string())
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .count(self.reader())
            .await?;
        Ok(found > 0)
    }
}

/// One key that is not deleted, inside a transaction.
pub async fn virtual_key_find(
    tx: &Tx,
    scope: TenantScope,
    key: VirtualKeyId,
) -> Result<VirtualKey, StoreError> {
    find(tx, scope, key).await
}

/// Adds a key.
pub async fn virtual_key_insert(tx: &Tx, key: &VirtualKey) -> Result<(), StoreError> {
    row(key).insert(tx).await?;
    Ok(())
}

/// Writes all of a key but its secrets.
pub async fn virtual_key_update(tx: &Tx, key: &VirtualKey) -> Result<(), StoreError> {
    row(key).update(tx).await?;
    Ok(())
}

/// Revokes all keys of a tenant.
pub async fn virtual_keys_revoke(tx: &Tx, tenant: TenantId, at: Timestamp) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::value(at.millis()))
        .col_expr(Column::UpdatedAt, Expr::value(at.millis()))
        .filter(Column::TenantId.eq(tenant.to_string()))
        .filter(Column::RevokedAt.is_null())
        .exec(tx)
        .await?;
    Ok(())
}

/// Adds a secret to a key, by its digest.
pub async fn virtual_key_secret_insert(
    tx: &Tx,
    key: VirtualKeyId,
    digest: &KeyDigest,
    token_id: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let row = secret::ActiveModel {
        digest: Set(hex(digest.as_bytes())),
        virtual_key_id: Set(key.to_string()),
        token_id: Set(token_id.to_owned()),
        created_at: Set(at.millis()),
        expires_at: Set(None),
    };
    row.insert(tx).await?;
    Ok(())
}

/// Lets every secret of a key live until `until` at most, and removes those that are dead already.
pub async fn virtual_key_secrets_retire(
    tx: &Tx,
    key: VirtualKeyId,
    at: Timestamp,
    until: Timestamp,
) -> Result<(), StoreError> {
    let of_key = secret::Column::VirtualKeyId.eq(key.to_string());
    secret::Entity::update_many()
        .col_expr(secret::Column::ExpiresAt, Expr::value(until.millis()))
        .filter(of_key.clone())
        .filter(
            Condition::any()
                .add(secret::Column::ExpiresAt.is_null())
                .add(secret::Column::ExpiresAt.gt(until.millis())),
        )
        .exec(tx)
        .await?;
    secret::Entity::delete_many()
        .filter(of_key)
        .filter(secret::Column::ExpiresAt.lte(at.millis()))
        .exec(tx)
        .await?;
    Ok(())
}

async fn find(
    db: &impl ConnectionTrait,
    scope: TenantScope,
    key: VirtualKeyId,
) -> Result<VirtualKey, StoreError> {
    let row = Entity::find_by_id(key.to_string())
        .filter(is_alive(Column::TenantId))
        .filter(Column::DeletedAt.is_null())
        .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
        .one(db)
        .await?
        .ok_or(StoreError::NotFound)?;
    let token = token_ids(db, vec![row.id.clone()]).await?.remove(&row.id);
    read(row, token)
}

/// The newest token id of each key.
async fn token_ids(
    db: &impl ConnectionTrait,
    keys: Vec<String>,
) -> Result<HashMap<String, String>, StoreError> {
    let rows = secret::Entity::find()
        .filter(secret::Column::VirtualKeyId.is_in(keys))
        // A secret in its grace period was made before the one that replaced it.
        .order_by_asc(secret::Column::CreatedAt)
        .order_by_desc(secret::Column::ExpiresAt)
        .all(db)
        .await?;
    let mut newest: HashMap<String, secret::Model> = HashMap::new();
    for row in rows {
        match newest.get(&row.virtual_key_id) {
            Some(other) if other.expires_at.is_none() && row.expires_at.is_some() => {}
            _ => {
                newest.insert(row.virtual_key_id.clone(), row);
            }
        }
    }
    Ok(newest.into_iter().map(|(key, row)| (key, row.token_id)).collect())
}

fn read(row: Model, token_id: Option<String>) -> Result<VirtualKey, StoreError> {
    let limits = StoredLimits::read(&LimitColumns::from(&row), TABLE)?;
    Ok(VirtualKey {
        id: rows::id(TABLE, &row.id)?,
        tenant_id: rows::id(TABLE, &row.tenant_id)?,
        name: row.name,
        limits,
        fallback_models: names(&row.fallback_models, TABLE, "fallback_models")?,
        tags: rows::json(TABLE, "tags", &row.tags)?,
        budgets: rows::budgets(&row.budgets)?,
        expires_at: row.expires_at.map(moment),
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
        revoked_at: row.revoked_at.map(moment),
        deleted_at: row.deleted_at.map(moment),
        token_id,
    })
}

fn row(key: &VirtualKey) -> ActiveModel {
    let limits = key.limits.columns();
    ActiveModel {
        id: Set(key.id.to_string()),
        tenant_id: Set(key.tenant_id.to_string()),
        name: Set(key.name.clone()),
        models_allowed: Set(limits.models_allowed),
        spend_cap_nano_usd: Set(limits.spend_cap_nano_usd),
        spend_window: Set(limits.spend_window),
        cap_mode: Set(limits.cap_mode),
        rate_limit_rpm: Set(limits.rate_limit_rpm),
        rate_limit_tpm: Set(limits.rate_limit_tpm),
        max_parallel: Set(limits.max_parallel),
        fallback_models: Set(rows::texts_json(key.fallback_models.iter().map(ToString::to_string))),
        tags: Set(rows::json_text(&key.tags)),
        budgets: Set(rows::json_text(&key.budgets)),
        expires_at: maybe(key.expires_at),
        created_at: Set(key.created_at.millis()),
        updated_at: Set(key.updated_at.millis()),
        revoked_at: maybe(key.revoked_at),
        deleted_at: maybe(key.deleted_at),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
