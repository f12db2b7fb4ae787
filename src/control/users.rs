//! People who administer. Nobody edits their own role, nobody gives more than they have, and there is always an owner
//! who can log in.
//!
//! Addresses are unique over the whole house, because a login names no tenant. So a tenant's administrator who makes a
//! user can learn that an address is taken, also in another tenant; nothing else of that account is told.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Control, ControlError, Idempotency, Patch, SecretInput,
    act::{Act, permit, scope_of},
    error::OrMissing,
};
use crate::{
    config::SecretText,
    domain::{Actor, AuditAction, AuditEvent, Permission, Role, TenantId, Timestamp, UserId},
    store::{
        Page, Paged, User, sessions_end, user_count_active_owners, user_delete, user_find, user_find_email,
        user_insert, user_update, users_exist,
    },
};

/// A user to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Address to log in with.
    pub email: String,
    /// 12 to 128 characters.
    #[schema(value_type = String)]
    pub password: SecretInput,
    /// `owner`, `tenant_admin`, `finance` or `auditor`.
    #[schema(value_type = String)]
    pub role: Role,
    /// In which tenant; one's own, or `default`, when left out.
    #[serde(default)]
    pub tenant_id: Option<String>,
}

/// What is to change in a user: what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// New role.
    #[schema(value_type = String)]
    #[serde(default)]
    pub role: Patch<Role>,
    /// New password; ends all sessions.
    #[schema(value_type = String)]
    #[serde(default)]
    pub password: Patch<SecretInput>,
    /// Whether the user may log in.
    #[schema(value_type = bool)]
    #[serde(default)]
    pub is_active: Patch<bool>,
}

/// A user.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserView {
    /// `usr_…`.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Address.
    pub email: String,
    /// Role.
    #[schema(value_type = String)]
    pub role: Role,
    /// Tenant.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// Whether the user may log in.
    pub is_active: bool,
    /// When the account was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            role: user.role,
            tenant_id: user.tenant_id,
            is_active: user.is_active,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

impl Control {
    /// Makes the first owner unless there is any user at all. Answers whether one was made: of several instances that
    /// start at once on one database, one is told so.
    pub async fn ensure_first_admin(&self, email: &str, password: &SecretText) -> Result<bool, ControlError> {
        if self.store.has_users().await? {
            return Ok(false);
        }
        let email = checked_email(email)?;
        let hash = self.passwords.hash(password, Some(&email)).await?;
        let act = self.begin_unasked(&Actor::System).await?;
        // Another instance may have been faster, also with another address.
        if users_exist(act.tx()).await? {
            return Ok(false);
        }
        let tenant = act.tenant(None).await?;
        let user = a_user(email, hash, Role::Owner, tenant, act.at());
        user_insert(act.tx(), &user).await?;
        let event = made(&act, &user);
        act.commit(event).await?;
        Ok(true)
    }

    /// Makes a user.
    pub async fn user_create(
        &self,
        actor: &Actor,
        asked: NewUser,
        idempotency: Option<&Idempotency>,
    ) -> Result<UserView, ControlError> {
        permit(actor, Permission::ManageUsers)?;
        let email = checked_email(&asked.email)?;
        refuse_more_than_own(actor, asked.role)?;
        let password_hash =
            self.passwords.hash(&SecretText(asked.password.into_text()), Some(&email)).await?;
        let act = self.begin(actor, Permission::ManageUsers).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return self.user(actor, &made).await;
        }
        let tenant_id = act.tenant(asked.tenant_id.as_deref()).await?;
        if user_find_email(act.tx(), &email).await?.is_some() {
            return Err(ControlError::Conflict(format!("a user with the address `{email}` exists already")));
        }
        let user = a_user(email, password_hash, asked.role, tenant_id, act.at());
        user_insert(act.tx(), &user).await?;
        act.remember(actor, idempotency, user.id).await?;
        let event = made(&act, &user);
        act.commit(event).await?;
        Ok(user.into())
    }

    /// Users that the actor may see, oldest first.
    pub async fn users(
        &self,
        actor: &Actor,
        tenant: Option<&str>,
        page: &Page,
    ) -> Result<Paged<UserView>, ControlError> {
        permit(actor, Permission::ManageUsers)?;
        let scope = self.scope(actor, tenant).await?;
        Ok(self.store.users(scope, page).await.or_bad_cursor()?.map(UserView::from))
    }

    /// One user.
    pub async fn user(&self, actor: &Actor, id: &str) -> Result<UserView, ControlError> {
        permit(actor, Permission::ManageUsers)?;
        let id = id.parse().map_err(|_| ControlError::NotFound("user"))?;
        Ok(self.store.user(scope_of(actor), id).await.or_missing("user")?.into())
    }

    /// Changes a user. A new password, role or lock ends the user's sessions.
    pub async fn user_change(
        &self,
        actor: &Actor,
        id: &str,
        asked: UserChange,
    ) -> Result<UserView, ControlError> {
        permit(actor, Permission::ManageUsers)?;
        let id: UserId = id.parse().map_err(|_| ControlError::NotFound("user"))?;
        let before = self.store.user(scope_of(actor), id).await.or_missing("user")?;
        let role = asked.role.not_null("role")?;
        let is_active = asked.is_active.not_null("is_active")?;
        if is(actor, id) && (role.is_some() || is_active.is_some()) {
            return Err(ControlError::Forbidden("nobody changes their own role or lock; ask another owner"));
        }
        refuse_more_than_own(actor, before.role)?;
        if let Some(role) = role {
            refuse_more_than_own(actor, role)?;
        }
        let hash = match asked.password.not_null("password")? {
            Some(password) => {
                Some(self.passwords.hash(&SecretText(password.into_text()), Some(&before.email)).await?)
            }
            None => None,
        };
        let act = self.begin(actor, Permission::ManageUsers).await?;
        let mut user = user_find(act.tx(), act.scope(), id).await.or_missing("user")?;
        // The role may have changed while the password was hashed.
        refuse_more_than_own(actor, user.role)?;
        let mut names = Vec::new();
        let was_owner = user.role == Role::Owner && user.is_active;
        if let Some(role) = role {
            user.role = role;
            names.push("role");
        }
        if let Some(is_active) = is_active {
            user.is_active = is_active;
            names.push("is_active");
        }
        if let Some(hash) = hash {
            user.password_hash = hash;
            names.push("password");
        }
        let is_owner = user.role == Role::Owner && user.is_active;
        if was_owner && !is_owner {
            refuse_last_owner(act.tx()).await?;
        }
        if !names.is_empty() {
            user.session_version = user.session_version.wrapping_add(1);
            sessions_end(act.tx(), id, act.at()).await?;
        }
        user.updated_at = act.at();
        user_update(act.tx(), &user).await?;
        let event = act
            .event(AuditAction::UserUpdated, Some(user.tenant_id), user.id)
            .with("changed", names.join(","))
            .with("role", user.role.as_str());
        act.commit(event).await?;
        Ok(user.into())
    }

    /// Deletes a user.
    pub async fn user_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let act = self.begin(actor, Permission::ManageUsers).await?;
        let id: UserId = id.parse().map_err(|_| ControlError::NotFound("user"))?;
        let user = user_find(act.tx(), act.scope(), id).await.or_missing("user")?;
        if is(actor, id) {
            return Err(ControlError::Forbidden("nobody deletes their own account; ask another owner"));
        }
        refuse_more_than_own(actor, user.role)?;
        if user.role == Role::Owner && user.is_active {
            refuse_last_owner(act.tx()).await?;
        }
        user_delete(act.tx(), id).await?;
        let event = act.event(AuditAction::UserDeleted, Some(user.tenant_id), id).with("email", &user.email);
        act.commit(event).await
    }
}

fn a_user(email: String, password_hash: String, role: Role, tenant_id: TenantId, at: Timestamp) -> User {
    User {
        id: UserId::generate(),
        email,
        password_hash,
        role,
        tenant_id,
        session_version: 1,
        is_active: true,
        created_at: at,
        updated_at: at,
    }
}

fn made(act: &Act<'_>, user: &User) -> AuditEvent {
    act.event(AuditAction::UserCreated, Some(user.tenant_id), user.id)
        .with("email", &user.email)
        .with("role", user.role.as_str())
}

fn is(actor: &Actor, user: UserId) -> bool {
    matches!(actor, Actor::User { id, .. } if *id == user)
}

/// Owners are made and changed by owners only.
pub(super) fn refuse_more_than_own(actor: &Actor, role: Role) -> Result<(), ControlError> {
    match actor {
        Actor::User { role: own, .. } if *own != Role::Owner && role == Role::Owner => {
            Err(ControlError::Forbidden("only an owner makes or changes an owner"))
        }
        _ => Ok(()),
    }
}

async fn refuse_last_owner(tx: &crate::store::Tx) -> Result<(), ControlError> {
    if user_count_active_owners(tx).await? <= 1 {
        return Err(ControlError::Conflict("this is the last active owner; make another one first".into()));
    }
    Ok(())
}

/// An address as it is compared: trimmed and in lower case.
pub(super) fn normalised_email(text: &str) -> String {
    text.trim().to_lowercase()
}

fn checked_email(text: &str) -> Result<String, ControlError> {
    let email = normalised_email(text);
    let good = email.len() <= 254
        && email.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"' | b',' | b';'))
        && email
            .split_once('@')
            .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'));
    if good {
        Ok(email)
    } else {
        Err(ControlError::bad("`email` must be an address of the form `name@host` in ASCII"))
    }
}
