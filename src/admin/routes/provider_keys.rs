//! Provider keys over HTTP: secrets go in, metadata comes out.

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
        page::{Body, Create, Created, MaybeBody, Query},
    },
    control::{
        Control, NewProviderKey, PromoteKey, ProviderKeyChange, ProviderKeyView, StageKey, VerifiedView,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    tenant_id: Option<String>,
}

pub(super) async fn list(
    State(control): State<Control>,
    Caller(actor): Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<Vec<ProviderKeyView>>, AdminError> {
    Ok(Json(control.provider_keys(&actor, asked.tenant_id.as_deref()).await?))
}

pub(super) async fn create(
    State(control): State<Control>,
    Caller(actor): Caller,
    create: Create<NewProviderKey>,
) -> Result<impl IntoResponse, AdminError> {
    Ok(Created(control.provider_key_create(&actor, create.asked, create.idempotency.as_ref()).await?))
}

pub(super) async fn one(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Json<ProviderKeyView>, AdminError> {
    Ok(Json(control.provider_key(&actor, &id).await?))
}

pub(super) async fn change(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    Body(asked): Body<ProviderKeyChange>,
) -> Result<Json<ProviderKeyView>, AdminError> {
    Ok(Json(control.provider_key_change(&actor, &id, asked).await?))
}

pub(super) async fn remove(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.provider_key_delete(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn stage(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    Body(asked): Body<StageKey>,
) -> Result<Json<ProviderKeyView>, AdminError> {
    Ok(Json(control.provider_key_stage(&actor, &id, asked).await?))
}

pub(super) async fn unstage(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.provider_key_unstage(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn verify(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Json<VerifiedView>, AdminError> {
    Ok(Json(control.provider_key_verify(&actor, &id).await?))
}

pub(super) async fn promote(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    MaybeBody(asked): MaybeBody<PromoteKey>,
) -> Result<Json<ProviderKeyView>, AdminError> {
    Ok(Json(control.provider_key_promote(&actor, &id, asked).await?))
}
