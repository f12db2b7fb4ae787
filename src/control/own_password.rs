//! Changing one's own password. It asks for the present one, because a session may be somebody else's by now, and counts
//! wrong ones like failed logins. Every session ends with it, also the one that asks; the answer holds a new one.

use std::net::IpAddr;

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Control, ControlError, SecretInput,
    error::OrMissing,
    session_list::own_id,
    sessions::{Present, Session},
    throttle::Subjects,
};
use crate::{
    config::SecretText,
    domain::{Actor, AuditAction},
    store::{TenantScope, User, sessions_end, user_find, user_update},
};

/// One's present password, and the one to be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password as it is.
    #[schema(value_type = String)]
    pub current_password: SecretInput,
    /// The password to be: 12 to 128 characters.
    #[schema(value_type = String)]
    pub new_password: SecretInput,
}

impl Control {
    /// Changes one's own password, ends all of one's sessions, and begins a new one.
    pub async fn own_password_change(
        &self,
        who: &Present,
        asked: PasswordChange,
        address: Option<IpAddr>,
    ) -> Result<Session, ControlError> {
        let id = own_id(&who.actor)?;
        let before = self.store.user(TenantScope::house(), id).await.or_missing("user")?;
        let subjects = Subjects::new(&before.email, address);
        self.refuse_throttled(subjects)?;
        let current = SecretText(asked.current_password.into_text());
        let right = self.passwords.verify(&current, Some(&before.password_hash)).await?;
        // Others may have failed while this one waited for its hash.
        self.refuse_throttled(subjects)?;
        if !right {
            self.count_failure(subjects);
            self.note_wrong_password(&who.actor, &before).await?;
            return Err(ControlError::Forbidden("`current_password` is wrong"));
        }
        let new = SecretText(asked.new_password.into_text());
        if *new.0 == *current.0 {
            return Err(ControlError::invalid(
                "invalid_password",
                "`new_password` is the present one; choose another one",
            ));
        }
        let hash = self.passwords.hash(&new, Some(&before.email)).await?;
        let act = self.begin_unasked(&who.actor).await?;
        let mut user = user_find(act.tx(), TenantScope::house(), id).await.or_missing("user")?;
        // Whoever was locked or got another password meanwhile has no session any more.
        if !user.is_active || user.session_version != before.session_version {
            return Err(ControlError::NoSession);
        }
        user.password_hash = hash;
        user.session_version = user.session_version.wrapping_add(1);
        user.updated_at = act.at();
        user_update(act.tx(), &user).await?;
        sessions_end(act.tx(), user.id, act.at()).await?;
        let (session, answer) = self.open_session(act.tx(), &user, act.at(), address).await?;
        let event =
            act.event(AuditAction::PasswordChanged, Some(user.tenant_id), user.id).with("session", session);
        act.commit(event).await?;
        Ok(answer)
    }

    async fn note_wrong_password(&self, actor: &Actor, user: &User) -> Result<(), ControlError> {
        let act = self.begin_unasked(actor).await?;
        let event = act.event(AuditAction::PasswordChanged, Some(user.tenant_id), user.id).refused();
        act.commit(event).await
    }
}
