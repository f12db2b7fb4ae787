//! Gateways on the same database, over HTTP.

use axum::{
    Json,
    extract::{Path, State},
};

use crate::{
    admin::{AdminError, auth::Caller, page::Listed},
    control::{Control, InstanceView, ReleasedView},
};

pub(super) async fn list(
    State(control): State<Control>,
    Caller(actor): Caller,
) -> Result<Listed<InstanceView>, AdminError> {
    Ok(control.instances(&actor).await?.into())
}

pub(super) async fn release(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Json<ReleasedView>, AdminError> {
    Ok(Json(control.instance_release(&actor, &id).await?))
}
