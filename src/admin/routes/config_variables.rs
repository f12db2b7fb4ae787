//! Config variables over HTTP: a sensitive value goes in and does not come out.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use serde::Deserialize;

use crate::{
    admin::{
        AdminError,
        auth::Caller,
        page::{Body, Create, Created, Listed, Query},
    },
    control::{ConfigVariableChange, ConfigVariableView, Control, NewConfigVariable, parse_page},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    tenant_id: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(control): State<Control>,
    Caller(actor): Caller,
    Query(asked): Query<Asked>,
) -> Result<Listed<ConfigVariableView>, AdminError> {
    let page = parse_page(asked.limit.as_deref(), asked.cursor.as_deref())?;
    Ok(control.config_variables(&actor, asked.tenant_id.as_deref(), &page).await?.into())
}

pub(super) async fn create(
    State(control): State<Control>,
    Caller(actor): Caller,
    create: Create<NewConfigVariable>,
) -> Result<impl IntoResponse, AdminError> {
    Ok(Created(control.config_variable_create(&actor, create.asked, create.idempotency.as_ref()).await?))
}

pub(super) async fn one(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Json<ConfigVariableView>, AdminError> {
    Ok(Json(control.config_variable(&actor, &id).await?))
}

pub(super) async fn change(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    Body(asked): Body<ConfigVariableChange>,
) -> Result<Json<ConfigVariableView>, AdminError> {
    Ok(Json(control.config_variable_change(&actor, &id, asked).await?))
}

pub(super) async fn remove(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.config_variable_delete(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
