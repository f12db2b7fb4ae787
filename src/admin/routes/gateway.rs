//! The running gateway over HTTP: what is in force, and reading the configuration anew.

use axum::{Extension, Json};

use crate::{
    admin::{AdminError, auth::Caller},
    control::{GatewayHandle, GatewayStatus, ReloadView},
};

pub(super) async fn status(
    Extension(gateway): Extension<GatewayHandle>,
    Caller(actor): Caller,
) -> Result<Json<GatewayStatus>, AdminError> {
    Ok(Json(gateway.status(&actor).await?))
}

pub(super) async fn reload(
    Extension(gateway): Extension<GatewayHandle>,
    Caller(actor): Caller,
) -> Result<Json<ReloadView>, AdminError> {
    Ok(Json(gateway.reload(&actor).await?))
}
