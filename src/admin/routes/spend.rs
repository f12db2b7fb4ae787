//! Usage and spend over HTTP.

use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::{
    admin::{
        AdminError,
        auth::Caller,
        page::{Listed, Query},
    },
    control::{Control, ExplainView, SpendQuery, UsageQuery, UsageView, parse_page},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageAsked {
    from: Option<String>,
    to: Option<String>,
    tenant_id: Option<String>,
    virtual_key_id: Option<String>,
    model: Option<String>,
    provider: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn usage(
    State(control): State<Control>,
    Caller(actor): Caller,
    Query(asked): Query<UsageAsked>,
) -> Result<Listed<UsageView>, AdminError> {
    let UsageAsked { from, to, tenant_id, virtual_key_id, model, provider, limit, cursor } = asked;
    let page = parse_page(limit.as_deref(), cursor.as_deref())?;
    let query = UsageQuery { from, to, tenant_id, virtual_key_id, model, provider };
    Ok(control.usage(&actor, &query, &page).await?.into())
}

pub(super) async fn explain(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(request_id): Path<String>,
) -> Result<Json<ExplainView>, AdminError> {
    Ok(Json(control.usage_explain(&actor, &request_id).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpendAsked {
    from: Option<String>,
    to: Option<String>,
    tenant_id: Option<String>,
    virtual_key_id: Option<String>,
    model: Option<String>,
    provider: Option<String>,
    group_by: Option<String>,
    format: Option<String>,
}

pub(super) async fn spend(
    State(control): State<Control>,
    Caller(actor): Caller,
    Query(asked): Query<SpendAsked>,
) -> Result<Response, AdminError> {
    let SpendAsked { from, to, tenant_id, virtual_key_id, model, provider, group_by, format } = asked;
    let csv = match format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(AdminError::InvalidRequest("`format` takes `json` or `csv`".into())),
    };
    let rows = UsageQuery { from, to, tenant_id, virtual_key_id, model, provider };
    let report = control.spend(&actor, &SpendQuery { rows, group_by }).await?;
    if !csv {
        return Ok(([(header::CONTENT_TYPE, "application/json")], report.to_json()).into_response());
    }
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"spend.csv\""),
    ];
    Ok((headers, report.to_csv()).into_response())
}
