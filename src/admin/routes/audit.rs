//! The audit log over HTTP.

use axum::extract::State;
use serde::Deserialize;

use crate::{
    admin::{
        AdminError,
        auth::Caller,
        page::{Listed, Query},
    },
    control::{AuditFilter, AuditView, Control, parse_page},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    action: Option<String>,
    category: Option<String>,
    actor: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(control): State<Control>,
    Caller(caller): Caller,
    Query(asked): Query<Asked>,
) -> Result<Listed<AuditView>, AdminError> {
    let Asked { action, category, actor, limit, cursor } = asked;
    let page = parse_page(limit.as_deref(), cursor.as_deref())?;
    Ok(control.audit_entries(&caller, &AuditFilter { action, category, actor }, &page).await?.into())
}
