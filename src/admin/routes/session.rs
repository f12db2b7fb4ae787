//! Sessions over HTTP, and the document that describes this plane.

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    admin::{
        AdminError,
        auth::{InSession, Origin},
        openapi,
        page::{Body, Listed, MAX_LOGIN_BODY, Query},
    },
    control::{Control, PasswordChange, SecretInput, Session, SessionView, parse_page},
    domain::Actor,
};

/// Who wants to begin a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Login {
    /// Address of the account.
    email: String,
    /// Its password.
    #[schema(value_type = String)]
    password: SecretInput,
}

pub(super) async fn login(
    State(control): State<Control>,
    Origin(origin): Origin,
    Body(asked): Body<Login, MAX_LOGIN_BODY>,
) -> Result<Json<Session>, AdminError> {
    Ok(Json(control.login(&asked.email, asked.password, origin).await?))
}

/// Whose session it is.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Current {
    /// `ses_…`.
    session_id: String,
    /// `usr_…`.
    user_id: String,
    /// Role.
    role: Option<&'static str>,
    /// Tenant.
    tenant_id: Option<String>,
}

pub(super) async fn current(InSession(present): InSession) -> Json<Current> {
    let (session_id, user_id) = (present.session.to_string(), present.actor.label());
    let (role, tenant_id) = match present.actor {
        Actor::User { role, tenant, .. } => (Some(role.as_str()), Some(tenant.to_string())),
        _ => (None, None),
    };
    Json(Current { session_id, user_id, role, tenant_id })
}

pub(super) async fn log_out(
    State(control): State<Control>,
    InSession(present): InSession,
) -> Result<StatusCode, AdminError> {
    control.own_session_end(&present, &present.session.to_string()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn log_out_everywhere(
    State(control): State<Control>,
    InSession(present): InSession,
) -> Result<StatusCode, AdminError> {
    control.own_sessions_end(&present).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(control): State<Control>,
    InSession(present): InSession,
    Query(asked): Query<Asked>,
) -> Result<Listed<SessionView>, AdminError> {
    let page = parse_page(asked.limit.as_deref(), asked.cursor.as_deref())?;
    Ok(control.own_sessions(&present, &page).await?.into())
}

pub(super) async fn end(
    State(control): State<Control>,
    InSession(present): InSession,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.own_session_end(&present, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn change_password(
    State(control): State<Control>,
    InSession(present): InSession,
    Origin(origin): Origin,
    Body(asked): Body<PasswordChange, MAX_LOGIN_BODY>,
) -> Result<Json<Session>, AdminError> {
    Ok(Json(control.own_password_change(&present, asked, origin.address).await?))
}

pub(super) async fn list_of_user(
    State(control): State<Control>,
    InSession(present): InSession,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Listed<SessionView>, AdminError> {
    let page = parse_page(asked.limit.as_deref(), asked.cursor.as_deref())?;
    Ok(control.user_sessions(&present, &id, &page).await?.into())
}

pub(super) async fn end_all_of_user(
    State(control): State<Control>,
    InSession(present): InSession,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.user_sessions_end(&present.actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn openapi() -> impl IntoResponse {
    let text = openapi::document().to_json().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text)
}
