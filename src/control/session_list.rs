//! Which sessions there are, and ending them. What is ended is refused at the next request, on every instance.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Control, ControlError,
    act::{permit, scope_of},
    error::OrMissing,
    sessions::Present,
    users::refuse_more_than_own,
};
use crate::{
    domain::{Actor, AuditAction, Permission, SessionId, Timestamp, UserId},
    store::{
        Page, Paged, StoredSession, TenantScope, Tx, User, session_end, sessions_end, user_find, user_update,
    },
};

/// A session that is not over.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// `ses_…`.
    #[schema(value_type = String)]
    pub id: SessionId,
    /// Whether it is the one that asks.
    pub current: bool,
    /// Where it was begun from; `null` for one that a command signed on the gateway's own machine.
    pub address: Option<String>,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used, give or take a minute.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

impl SessionView {
    fn of(session: StoredSession, current: SessionId) -> Self {
        Self {
            id: session.id,
            current: session.id == current,
            address: session.address,
            created_at: session.created_at,
            last_seen_at: session.seen_at,
            expires_at: session.expires_at,
        }
    }
}

impl Control {
    /// One's own sessions, oldest first.
    pub async fn own_sessions(&self, who: &Present, page: &Page) -> Result<Paged<SessionView>, ControlError> {
        self.sessions_of(own_id(&who.actor)?, who.session, page).await
    }

    /// Ends one of one's own sessions.
    pub async fn own_session_end(&self, who: &Present, id: &str) -> Result<(), ControlError> {
        let own = own_id(&who.actor)?;
        let id: SessionId = id.parse().map_err(|_| ControlError::NotFound("session"))?;
        let act = self.begin_unasked(&who.actor).await?;
        if !session_end(act.tx(), own, id, act.at()).await? {
            return Err(ControlError::NotFound("session"));
        }
        let event = act.event(AuditAction::SessionEnded, who.actor.bound_to(), id);
        act.commit(event).await
    }

    /// Ends all of one's own sessions, also the one that asks.
    pub async fn own_sessions_end(&self, who: &Present) -> Result<(), ControlError> {
        let act = self.begin_unasked(&who.actor).await?;
        let user = user_find(act.tx(), TenantScope::house(), own_id(&who.actor)?).await.or_missing("user")?;
        let event = act.event(AuditAction::SessionsEnded, Some(user.tenant_id), user.id);
        self.end_all(act.tx(), user, act.at()).await?;
        act.commit(event).await
    }

    /// The sessions of a user whom the actor may change, oldest first.
    pub async fn user_sessions(
        &self,
        who: &Present,
        id: &str,
        page: &Page,
    ) -> Result<Paged<SessionView>, ControlError> {
        permit(&who.actor, Permission::ManageUsers)?;
        let id: UserId = id.parse().map_err(|_| ControlError::NotFound("user"))?;
        let user = self.store.user(scope_of(&who.actor), id).await.or_missing("user")?;
        // Where an owner logs in from is nobody else's business.
        refuse_more_than_own(&who.actor, user.role)?;
        self.sessions_of(user.id, who.session, page).await
    }

    /// Ends all sessions of a user whom the actor may change.
    pub async fn user_sessions_end(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let act = self.begin(actor, Permission::ManageUsers).await?;
        let id: UserId = id.parse().map_err(|_| ControlError::NotFound("user"))?;
        let user = user_find(act.tx(), act.scope(), id).await.or_missing("user")?;
        refuse_more_than_own(actor, user.role)?;
        let event = act.event(AuditAction::SessionsEnded, Some(user.tenant_id), user.id);
        self.end_all(act.tx(), user, act.at()).await?;
        act.commit(event).await
    }

    async fn sessions_of(
        &self,
        user: UserId,
        current: SessionId,
        page: &Page,
    ) -> Result<Paged<SessionView>, ControlError> {
        let found = self.store.live_sessions(user, self.clock.now(), page).await.or_bad_cursor()?;
        Ok(found.map(|session| SessionView::of(session, current)))
    }

    /// Two locks on one door: the rows are ended, and tokens of the version before are void even if a row comes back, as
    /// from a backup.
    async fn end_all(&self, tx: &Tx, mut user: User, at: Timestamp) -> Result<(), ControlError> {
        user.session_version = user.session_version.wrapping_add(1);
        user_update(tx, &user).await?;
        Ok(sessions_end(tx, user.id, at).await?)
    }
}

/// Only people have sessions of their own.
pub(super) fn own_id(actor: &Actor) -> Result<UserId, ControlError> {
    match actor {
        Actor::User { id, .. } => Ok(*id),
        _ => Err(ControlError::NoSession),
    }
}
