//! Sessions over HTTP, and the document that describes this plane.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    admin::{
        AdminError,
        auth::{Caller, Origin},
        openapi,
        page::{Body, MAX_LOGIN_BODY},
    },
    control::{Control, SecretInput, Session},
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
    /// `usr_…`.
    user_id: String,
    /// Role.
    role: Option<&'static str>,
    /// Tenant.
    tenant_id: Option<String>,
}

pub(super) async fn current(Caller(actor): Caller) -> Json<Current> {
    let user_id = actor.label();
    Json(match actor {
        Actor::User { role, tenant, .. } => {
            Current { user_id, role: Some(role.as_str()), tenant_id: Some(tenant.to_string()) }
        }
        Actor::Service { .. } | Actor::Cli | Actor::System => {
            Current { user_id, role: None, tenant_id: None }
        }
    })
}

pub(super) async fn openapi() -> impl IntoResponse {
    let text = openapi::document().to_json().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text)
}
