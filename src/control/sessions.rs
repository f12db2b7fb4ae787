//! Logging in, and who a session is. The database is asked at every request: an ended session, a changed role, password
//! or lock is in force at once.

use std::{net::IpAddr, time::Duration};

use serde::Serialize;
use utoipa::ToSchema;

use super::{Control, ControlError, SecretInput, throttle::Subjects, users::normalised_email};
use crate::{
    config::SecretText,
    domain::{Actor, AuditAction, AuditEvent, RequestId, Role, SessionId, Timestamp},
    store::{Page, StoreError, StoredSession, TenantScope, Tx, User, session_insert, user_find, user_update},
    vault::{SessionSubject, password},
};

/// How far the noted last use of a session lags behind.
const SEEN_EVERY: Duration = Duration::from_secs(60);

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

/// Where a request without a session comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginOrigin {
    /// The client's address; failures are counted by it.
    pub address: Option<IpAddr>,
    /// The request on the admin plane; the audit log names it.
    pub request: Option<RequestId>,
}

/// Who sends a request, and in which session.
#[derive(Clone, Debug)]
pub struct Present {
    /// Who.
    pub actor: Actor,
    /// In which session.
    pub session: SessionId,
}

impl Present {
    /// The same, in this request on the admin plane.
    #[must_use]
    pub fn in_request(self, request: Option<RequestId>) -> Self {
        Self { actor: self.actor.in_request(request), ..self }
    }
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
                self.count_failure(subjects);
                self.note_refusal(other.as_ref(), origin).await?;
                Err(ControlError::BadCredentials)
            }
        }
    }

    /// Who a session token belongs to, as of now.
    pub async fn authenticate(&self, token: &str) -> Result<Present, ControlError> {
        let now = self.clock.now();
        let claims = self.sessions.verify(token, now).map_err(|_| ControlError::NoSession)?.subject;
        let session = self.store.session(claims.session).await.or_no_session()?;
        // A row outlives its token by the leeway that the token's own times have.
        if session.user_id != claims.user || session.ended_at.is_some() {
            return Err(ControlError::NoSession);
        }
        let user = self.store.user(TenantScope::house(), claims.user).await.or_no_session()?;
        let same = (user.session_version, user.role, user.tenant_id)
            == (claims.session_version, claims.role, claims.tenant);
        if !user.is_active || !same {
            return Err(ControlError::NoSession);
        }
        if session.seen_at.plus(SEEN_EVERY) <= now {
            // Whoever only reads must be able to while nothing can be written.
            if let Err(error) = self.store.session_seen(session.id, now).await {
                tracing::debug!(reason = %error, "session.not_noted");
            }
        }
        let actor = Actor::User { id: user.id, role: user.role, tenant: user.tenant_id, request: None };
        Ok(Present { actor, session: session.id })
    }

    /// A session of an owner for a command that runs on the gateway's own data directory; it lasts for `ttl` and is
    /// listed and audited like any other. Fails with `NotFound` when there is no active owner yet.
    pub async fn sign_owner_session(&self, ttl: Duration) -> Result<String, ControlError> {
        let mut page = Page::first(500);
        loop {
            let users = self.store.users(TenantScope::house(), &page).await?;
            if let Some(owner) = users.items.iter().find(|user| user.role == Role::Owner && user.is_active) {
                let act = self.begin_unasked(&Actor::Cli).await?;
                let session = a_session(owner, act.at(), ttl, None);
                session_insert(act.tx(), &session).await?;
                let event = act
                    .event(AuditAction::LoggedIn, Some(owner.tenant_id), owner.id)
                    .with("session", session.id);
                let token = self.sessions.issue_for(&subject(owner, session.id), act.at(), ttl);
                act.commit(event).await?;
                return Ok(token);
            }
            page = users
                .next_cursor
                .and_then(|cursor| Page::parse(Some(500), Some(&cursor)))
                .ok_or(ControlError::NotFound("owner"))?;
        }
    }

    /// Begins a session of `user` inside an act; it holds once that is committed.
    pub(super) async fn open_session(
        &self,
        tx: &Tx,
        user: &User,
        at: Timestamp,
        address: Option<IpAddr>,
    ) -> Result<(SessionId, Session), ControlError> {
        let ttl = self.sessions.ttl();
        let session = a_session(user, at, ttl, address);
        session_insert(tx, &session).await?;
        let token = self.sessions.issue_for(&subject(user, session.id), at, ttl);
        let answer =
            Session { access_token: token.clone(), token, token_type: "bearer", expires_in: ttl.as_secs() };
        Ok((session.id, answer))
    }

    pub(super) fn refuse_throttled(&self, subjects: Subjects) -> Result<(), ControlError> {
        match self.0.throttle.wait(subjects, self.clock.now()) {
            Some(retry_after) => Err(ControlError::Throttled { retry_after }),
            None => Ok(()),
        }
    }

    pub(super) fn count_failure(&self, subjects: Subjects) {
        self.0.throttle.failed(subjects, self.clock.now());
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
        let (session, answer) = self.open_session(act.tx(), &user, act.at(), origin.address).await?;
        let event = act.event(AuditAction::LoggedIn, Some(user.tenant_id), user.id).with("session", session);
        act.commit(event).await?;
        Ok(answer)
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

/// What is not there any more is a session that is over.
trait OrNoSession<T> {
    fn or_no_session(self) -> Result<T, ControlError>;
}

impl<T> OrNoSession<T> for Result<T, StoreError> {
    fn or_no_session(self) -> Result<T, ControlError> {
        self.map_err(|error| match error {
            StoreError::NotFound => ControlError::NoSession,
            other => other.into(),
        })
    }
}

fn a_session(user: &User, at: Timestamp, ttl: Duration, address: Option<IpAddr>) -> StoredSession {
    StoredSession {
        id: SessionId::generate(),
        user_id: user.id,
        created_at: at,
        seen_at: at,
        expires_at: at.plus(ttl),
        ended_at: None,
        address: address.map(|address| address.to_canonical().to_string()),
    }
}

fn subject(user: &User, session: SessionId) -> SessionSubject {
    SessionSubject {
        session,
        user: user.id,
        role: user.role,
        tenant: user.tenant_id,
        session_version: user.session_version,
    }
}
