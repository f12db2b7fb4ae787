//! People who administer: rows to values and back.

use entity::{
    session,
    user::{ActiveModel, Column, Entity, Model},
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Set,
};

use super::{Page, Paged, Store, StoreError, TenantScope, Tx, columns::moment, rows, tenants::is_alive};
use crate::domain::{Role, TenantId, Timestamp, UserId};

const TABLE: &str = "user";

/// A person who may log in.
#[derive(Clone)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// Trimmed and in lower case.
    pub email: String,
    /// argon2id, PHC string.
    pub password_hash: String,
    /// With which rights.
    pub role: Role,
    /// In which tenant.
    pub tenant_id: TenantId,
    /// Sessions of another version are void.
    pub session_version: i32,
    /// May log in.
    pub is_active: bool,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Store {
    /// One user.
    pub async fn user(&self, scope: TenantScope, user: UserId) -> Result<User, StoreError> {
        find(self.reader(), scope, user).await
    }

    /// The user with that normalised address, if there is one.
    pub async fn user_with_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        with_email(self.reader(), email).await
    }

    /// Users, oldest first.
    pub async fn users(&self, scope: TenantScope, page: &Page) -> Result<Paged<User>, StoreError> {
        let rows = Entity::find()
            .filter(is_alive(Column::TenantId))
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .apply_if(page.after_id::<UserId>()?, |query, after| query.filter(Column::Id.gt(after)))
            .order_by_asc(Column::Id)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let users = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(users, |user: &User| user.id.to_string()))
    }

    /// Whether anyone has an account.
    pub async fn has_users(&self) -> Result<bool, StoreError> {
        any(self.reader()).await
    }
}

/// Whether anyone has an account, inside a transaction.
pub async fn users_exist(tx: &Tx) -> Result<bool, StoreError> {
    any(tx).await
}

/// One user, inside a transaction.
pub async fn user_find(tx: &Tx, scope: TenantScope, user: UserId) -> Result<User, StoreError> {
    find(tx, scope, user).await
}

/// The user with that normalised address, inside a transaction.
pub async fn user_find_email(tx: &Tx, email: &str) -> Result<Option<User>, StoreError> {
    with_email(tx, email).await
}

/// How many owners may log in.
pub async fn user_count_active_owners(tx: &Tx) -> Result<u64, StoreError> {
    let owners =
        Entity::find().filter(Column::Role.eq(Role::Owner.as_str())).filter(Column::IsActive.eq(true));
    Ok(owners.filter(is_alive(Column::TenantId)).count(tx).await?)
}

/// Adds a user.
pub async fn user_insert(tx: &Tx, user: &User) -> Result<(), StoreError> {
    row(user).insert(tx).await?;
    Ok(())
}

/// Writes all of a user.
pub async fn user_update(tx: &Tx, user: &User) -> Result<(), StoreError> {
    row(user).update(tx).await?;
    Ok(())
}

/// Removes a user and the user's sessions.
pub async fn user_delete(tx: &Tx, user: UserId) -> Result<(), StoreError> {
    session::Entity::delete_many().filter(session::Column::UserId.eq(user.to_string())).exec(tx).await?;
    Entity::delete_by_id(user.to_string()).exec(tx).await?;
    Ok(())
}

/// Removes all users of a tenant, and their sessions; their addresses are free.
pub async fn users_delete(tx: &Tx, tenant: TenantId) -> Result<(), StoreError> {
    let of_tenant = || Column::TenantId.eq(tenant.to_string());
    let users = Entity::find().select_only().column(Column::Id).filter(of_tenant()).into_query();
    session::Entity::delete_many().filter(session::Column::UserId.in_subquery(users)).exec(tx).await?;
    Entity::delete_many().filter(of_tenant()).exec(tx).await?;
    Ok(())
}

async fn any(db: &impl ConnectionTrait) -> Result<bool, StoreError> {
    Ok(Entity::find().count(db).await? > 0)
}

async fn find(db: &impl ConnectionTrait, scope: TenantScope, user: UserId) -> Result<User, StoreError> {
    let row = Entity::find_by_id(user.to_string())
        .filter(is_alive(Column::TenantId))
        .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
        .one(db)
        .await?;
    read(row.ok_or(StoreError::NotFound)?)
}

async fn with_email(db: &impl ConnectionTrait, email: &str) -> Result<Option<User>, StoreError> {
    Entity::find().filter(Column::Email.eq(email)).one(db).await?.map(read).transpose()
}

fn read(row: Model) -> Result<User, StoreError> {
    Ok(User {
        id: rows::id(TABLE, &row.id)?,
        email: row.email,
        password_hash: row.password_hash,
        role: Role::parse(&row.role).ok_or(StoreError::Corrupt { table: TABLE, what: "role" })?,
        tenant_id: rows::id(TABLE, &row.tenant_id)?,
        session_version: row.session_version,
        is_active: row.is_active,
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
    })
}

fn row(user: &User) -> ActiveModel {
    ActiveModel {
        id: Set(user.id.to_string()),
        email: Set(user.email.clone()),
        password_hash: Set(user.password_hash.clone()),
        role: Set(user.role.as_str().to_owned()),
        tenant_id: Set(user.tenant_id.to_string()),
        session_version: Set(user.session_version),
        is_active: Set(user.is_active),
        created_at: Set(user.created_at.millis()),
        updated_at: Set(user.updated_at.millis()),
    }
}
