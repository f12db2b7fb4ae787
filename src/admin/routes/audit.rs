//! The audit log over HTTP: in pages, or all that matches as lines.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;

use crate::{
    admin::{
        AdminError,
        auth::Caller,
        page::{Listed, Query},
    },
    control::{AuditExport, AuditQuery, AuditView, Control, parse_page},
};

/// The media type of an export.
pub(in crate::admin) const JSON_LINES: &str = "application/x-ndjson";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    action: Option<String>,
    category: Option<String>,
    actor: Option<String>,
    outcome: Option<String>,
    object: Option<String>,
    from: Option<String>,
    to: Option<String>,
    format: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(control): State<Control>,
    Caller(caller): Caller,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, AdminError> {
    let Asked { action, category, actor, outcome, object, from, to, format, limit, cursor } = asked;
    let query = AuditQuery { action, category, actor, outcome, object, from, to };
    let lines = match format.as_deref() {
        None => accepts_lines(&headers),
        Some("json") => false,
        Some("jsonl") => true,
        Some(_) => return Err(AdminError::InvalidRequest("`format` takes `json` or `jsonl`".into())),
    };
    if !lines {
        let page = parse_page(limit.as_deref(), cursor.as_deref())?;
        let listed: Listed<AuditView> = control.audit_entries(&caller, &query, &page).await?.into();
        return Ok(listed.into_response());
    }
    if limit.is_some() || cursor.is_some() {
        return Err(AdminError::InvalidRequest(
            "JSON lines come all at once; leave `limit` and `cursor` out, or narrow `from` and `to`".into(),
        ));
    }
    let mut export = control.audit_export(&caller, &query).await?;
    // The first page before the head of the answer: what is wrong by then has a status of its own.
    let first = export.next().await?;
    let headers = [
        (header::CONTENT_TYPE, JSON_LINES),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.jsonl\""),
    ];
    Ok((headers, body(first, export)).into_response())
}

/// Page after page, read as the client takes them. A failure in the middle cuts the connection, so that nobody takes a
/// part for the whole.
fn body(first: Vec<AuditView>, export: AuditExport) -> Body {
    let pages = stream::try_unfold((Some(first), export), |(page, mut export)| async move {
        let page = match page {
            Some(page) => page,
            None => export.next().await.map_err(|error| {
                tracing::warn!(reason = %error, "audit.export_failed");
                std::io::Error::other("the export broke off")
            })?,
        };
        if page.is_empty() {
            return Ok::<_, std::io::Error>(None);
        }
        let mut lines = Vec::new();
        for entry in &page {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        Ok(Some((Bytes::from(lines), (None, export))))
    });
    Body::from_stream(pages)
}

fn accepts_lines(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|kind| kind.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case(JSON_LINES))
}
