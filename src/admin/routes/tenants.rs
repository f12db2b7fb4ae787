//! Tenants over HTTP.

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
    control::{Control, NewTenant, TenantChange, TenantView, parse_page},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(control): State<Control>,
    Caller(actor): Caller,
    Query(asked): Query<Asked>,
) -> Result<Listed<TenantView>, AdminError> {
    let page = parse_page(asked.limit.as_deref(), asked.cursor.as_deref())?;
    Ok(control.tenants(&actor, &page).await?.into())
}

pub(super) async fn create(
    State(control): State<Control>,
    Caller(actor): Caller,
    create: Create<NewTenant>,
) -> Result<impl IntoResponse, AdminError> {
    Ok(Created(control.tenant_create(&actor, create.asked, create.idempotency.as_ref()).await?))
}

pub(super) async fn one(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Json<TenantView>, AdminError> {
    Ok(Json(control.tenant(&actor, &id).await?))
}

pub(super) async fn change(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    Body(asked): Body<TenantChange>,
) -> Result<Json<TenantView>, AdminError> {
    Ok(Json(control.tenant_change(&actor, &id, asked).await?))
}

pub(super) async fn remove(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.tenant_delete(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
