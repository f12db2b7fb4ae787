//! Virtual keys over HTTP: shown once when they are made or rotated.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    admin::{
        AdminError,
        auth::Caller,
        page::{Body, Create, Created, Listed, MaybeBody, Query},
    },
    control::{Control, MadeKey, NewVirtualKey, RotateKey, VirtualKeyChange, VirtualKeyView, parse_page},
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
) -> Result<Listed<VirtualKeyView>, AdminError> {
    let page = parse_page(asked.limit.as_deref(), asked.cursor.as_deref())?;
    Ok(control.virtual_keys(&actor, asked.tenant_id.as_deref(), &page).await?.into())
}

pub(super) async fn create(
    State(control): State<Control>,
    Caller(actor): Caller,
    create: Create<NewVirtualKey>,
) -> Result<Response, AdminError> {
    let made = control.virtual_key_create(&actor, create.asked, create.idempotency.as_ref()).await?;
    Ok(Created(shown(&made)).into_response())
}

pub(super) async fn one(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Json<VirtualKeyView>, AdminError> {
    Ok(Json(control.virtual_key(&actor, &id).await?))
}

pub(super) async fn change(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    Body(asked): Body<VirtualKeyChange>,
) -> Result<Json<VirtualKeyView>, AdminError> {
    Ok(Json(control.virtual_key_change(&actor, &id, asked).await?))
}

pub(super) async fn remove(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.virtual_key_delete(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rotate(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    MaybeBody(asked): MaybeBody<RotateKey>,
) -> Result<Response, AdminError> {
    let made = control.virtual_key_rotate(&actor, &id, asked).await?;
    Ok(Json(shown(&made)).into_response())
}

pub(super) async fn revoke(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Json<VirtualKeyView>, AdminError> {
    Ok(Json(control.virtual_key_revoke(&actor, &id).await?))
}

/// A virtual key with its secret.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct MadeVirtualKey {
    /// The key, `ks_…`: shown this once; `null` when the same create came before.
    key: Option<String>,
    #[serde(flatten)]
    view: VirtualKeyView,
}

#[expect(clippy::disallowed_methods, reason = "the one answer in which a new key is shown")]
fn shown(made: &MadeKey) -> MadeVirtualKey {
    MadeVirtualKey {
        key: made.plaintext.as_ref().map(|key| key.expose_secret().to_owned()),
        view: made.view.clone(),
    }
}
