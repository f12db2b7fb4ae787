//! Prices over HTTP.

use axum::{Json, extract::State};
use serde::Deserialize;

use crate::{
    admin::{
        AdminError,
        auth::Caller,
        page::{Body, Query},
    },
    control::{Control, NewPrices, PricesView},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    model: Option<String>,
}

pub(super) async fn list(
    State(control): State<Control>,
    Caller(actor): Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<PricesView>, AdminError> {
    Ok(Json(control.prices(&actor, asked.model.as_deref()).await?))
}

pub(super) async fn set(
    State(control): State<Control>,
    Caller(actor): Caller,
    Body(asked): Body<NewPrices>,
) -> Result<Json<PricesView>, AdminError> {
    Ok(Json(control.prices_set(&actor, asked).await?))
}
