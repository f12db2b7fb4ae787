//! Logging in, and who a session is. The database is asked at every request: a changed role, password or lock is in
//! force at once.

use std::{net::IpAddr, time::Duration};

use serde::Serialize;
use utoipa::ToSchema;

use super::{Control, ControlError, SecretInput, throttle::Subjects, users::normalised_email};
use crate::{
    config::SecretText,
    domain::{Actor, AuditAction, AuditEvent, RequestId, Role},
    store::{Page, StoreError, TenantScope, User, user_find, user_update},
    vault::{SessionSubject, password},
};

/// A session that has begun.
#[derive(Clone, Serialize, ToSchema)]
pub struct Session {
    /// The JWT.
    pub token: String,
    /// The same, by the name that OAuth clients look for.
    pub access_token: String,
    /// `bearer`.
    pub token_type: &'static str,
    /// Seconds.
    pub expires_in: u64,
}

/// Where a login comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginOrigin {
    /// The client's address; failures are counted by it.
    pub address: Option<IpAddr>,
    /// The request on the admin plane; the audit log names it.
    pub request: Option<RequestId>,
}

impl Control {
    /// Checks email and password and begins a session. Every answer takes one hash, whether the account exists or not.
    pub async fn login(
        &self,
        email: &str,
        password: SecretInput,
        origin: LoginOrigin,
    ) -> Result<Session, ControlError> {
        let email = normalised_email(email);
        let subjects = Subjects::new(&email, origin.address);
        self.refuse_throttled(subjects)?;
        // No account has such an address, and Postgres takes no NUL in a text.
        let user = if email.chars().any(char::is_control) {
            None
        } else {
            self.store.user_with_email(&email).await?
        };
        let password = SecretText(password.into_text());
        let stored = user.as_ref().map(|user| user.password_hash.as_str());
        let right = self.passwords.verify(&password, stored).await?;
        // Others may have failed while this one waited for its hash.
        self.refuse_throttled(subjects)?;
        match user {
            Some(user) if right && user.is_active => self.welcome(user, &password, origin).await,
            other => {
                self.0.throttle.failed(subjects, self.clock.now());
                self.note_refusal(other.as_ref(), origin).await?;
                Err(ControlError::BadCredentials)
            }
        }
    }

    /// Who a session token belongs to, as of now.
    pub async fn authenticate(&self, token: &str) -> Result<Actor, ControlError> {
        let claims =
            self.sessions.verify(token, self.clock.now()).map_err(|_| ControlError::NoSession)?.subject;
        let user = match self.store.user(TenantScope::house(), claims.user).await {
            Ok(user) => user,
            Err(StoreError::NotFound) => return Err(ControlError::NoSession),
            Err(error) => return Err(error.into()),
        };
        if !user.is_active || user.session_version != claims.session_version {
            return Err(ControlError::NoSession);
        }
        Ok(Actor::User { id: user.id, role: user.role, tenant: user.tenant_id, request: None })
    }

    /// A session of an owner for a command that runs on the gateway's own data directory; it lasts for `ttl`. Fails
    /// with `NotFound` when there is no active owner yet.
    pub async fn sign_owner_session(&self, ttl: Duration) -> Result<String, ControlError> {
        let mut page = Page::first(500);
        loop {
            let users = self.store.users(TenantScope::house(), &page).await?;
            if let Some(owner) = users.items.iter().find(|user| user.role == Role::Owner && user.is_active) {
                return Ok(self.sessions.issue_for(&subject(owner), self.clock.now(), ttl));
            }
            page = users
                .next_cursor
                .and_then(|cursor| Page::parse(Some(500), Some(&cursor)))
                .ok_or(ControlError::NotFound("owner"))?;
        }
    }

    fn refuse_throttled(&self, subjects: Subjects) -> Result<(), ControlError> {
        match self.0.throttle.wait(subjects, self.clock.now()) {
            Some(retry_after) => Err(ControlError::Throttled { retry_after }),
            None => Ok(()),
        }
    }

    async fn welcome(
        &self,
        user: User,
        password: &SecretText,
        origin: LoginOrigin,
    ) -> Result<Session, ControlError> {
        let rehashed = if password::is_outdated(&user.password_hash) {
            // An old password may be weaker than a new one must be; then it keeps its old hash.
            self.passwords.hash(password, Some(&user.email)).await.ok()
        } else {
            None
        };
        let (id, role, tenant) = (user.id, user.role, user.tenant_id);
        let actor = Actor::User { id, role, tenant, request: origin.request };
        let act = self.begin_unasked(&actor).await?;
        let mut user = match user_find(act.tx(), TenantScope::house(), user.id).await {
            Ok(now) if now.is_active && now.session_version == user.session_version => now,
            Ok(_) | Err(StoreError::NotFound) => return Err(ControlError::BadCredentials),
            Err(error) => return Err(error.into()),
        };
        if let Some(hash) = rehashed {
            user.password_hash = hash;
            user_update(act.tx(), &user).await?;
        }
        let token = self.sessions.issue(&subject(&user), self.clock.now());
        let event = act.event(AuditAction::LoggedIn, Some(user.tenant_id), user.id);
        act.commit(event).await?;
        Ok(Session {
            access_token: token.clone(),
            token,
            token_type: "bearer",
            expires_in: self.sessions.ttl().as_secs(),
        })
    }

    async fn note_refusal(&self, user: Option<&User>, origin: LoginOrigin) -> Result<(), ControlError> {
        let act = self.begin_unasked(&Actor::System).await?;
        // What was typed for an unknown account may be a password in the wrong field: it is not kept.
        let event = AuditEvent {
            object: user.map(|user| user.id.to_string()),
            ..act
                .event(AuditAction::LoginRefused, user.map(|user| user.tenant_id), "")
                .in_request(origin.request)
                .refused()
        };
        act.commit(event).await
    }
}

fn subject(user: &User) -> SessionSubject {
    SessionSubject {
        user: user.id,
        role: user.role,
        tenant: user.tenant_id,
        session_version: user.session_version,
    }
}
