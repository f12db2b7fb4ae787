//! Google's errors: `{"error":{"code","message","status","details"}}`, sometimes in an array of one.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    dialects::{ProviderError, failure},
    wire::scrub,
};

/// A day's quota does not come back within the delay that Google names for it.
const DAILY_QUOTA: Duration = Duration::from_secs(3_600);
/// The longest delay that is believed.
const LONGEST_DELAY: Duration = Duration::from_secs(86_400);
/// Bodies above this are pages, not errors, and are not read.
const MAX_ERROR_BYTES: usize = 256 << 10;

#[derive(Deserialize)]
struct Wrapped {
    error: Status,
}

/// `google.rpc.Status`
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: Option<u16>,
    message: Option<String>,
    status: Option<String>,
    details: Option<Vec<Value>>,
}

/// `ErrorInfo`, `QuotaFailure`, `RetryInfo` and `BadRequest` in one: no member of theirs means two things.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    reason: Option<String>,
    retry_delay: Option<String>,
    violations: Option<Vec<Violation>>,
    field_violations: Option<Vec<FieldViolation>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Violation {
    quota_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FieldViolation {
    field: Option<String>,
}

/// The error in a body that came with `status`.
pub(super) fn from_body(status: u16, body: &[u8]) -> ProviderError {
    let readable = if body.len() <= MAX_ERROR_BYTES { body } else { &[] };
    // An array first: as an object it would be taken for one whose members have no names.
    let wrapped = match readable.trim_ascii_start().first() {
        Some(b'[') => {
            serde_json::from_slice::<Vec<Wrapped>>(readable).ok().and_then(|list| list.into_iter().next())
        }
        _ => serde_json::from_slice::<Wrapped>(readable).ok(),
    };
    match wrapped {
        Some(Wrapped { error }) => error.read(Some(status)),
        // A page, or a proxy's words.
        None => failure::from_body(status, body),
    }
}

/// The error in an answer with a success status: `raw` is what stands under `error`.
pub(super) fn inside(raw: &str) -> ProviderError {
    let readable = if raw.len() <= MAX_ERROR_BYTES { raw } else { "" };
    match serde_json::from_str::<Status>(readable) {
        Ok(status) => status.read(None),
        Err(_) => failure::from_text(&format!("{{\"error\":{readable}}}")),
    }
}

impl Status {
    fn read(self, http: Option<u16>) -> ProviderError {
        let Self { code, message, status: name, details } = self;
        let details =
            details.unwrap_or_default().into_iter().filter_map(|detail| serde_json::from_value(detail).ok());
        let details: Vec<Detail> = details.collect();
        let name = name.as_deref().unwrap_or_default();
        let reason = details.iter().find_map(|detail| detail.reason.as_deref()).unwrap_or_default();
        let message = message.filter(|message| !message.trim().is_empty());
        let words = message.as_deref().unwrap_or_default().to_ascii_lowercase();
        let mut status =
            http.or_else(|| code.filter(|code| (400..600).contains(code))).or_else(|| status_of(name));
        if is_refused_key(status, reason, &words) {
            status = Some(401);
        }
        ProviderError {
            status,
            message: scrub(message.as_deref().unwrap_or("the provider reported an error without a message")),
            kind: (!name.is_empty()).then(|| scrub(name)),
            param: param(&details),
            code: (!reason.is_empty()).then(|| scrub(reason)),
            context_length: status == Some(400) && is_too_long(&words),
            billing: is_billing(status, name, reason, &words),
            retry_after: retry_after(&details),
        }
    }
}

/// A key that Google does not know is a bad request to it.
fn is_refused_key(status: Option<u16>, reason: &str, words: &str) -> bool {
    status == Some(400)
        && (reason == "API_KEY_INVALID"
            || words.starts_with("api key not valid")
            || words.starts_with("api key expired"))
}

fn is_too_long(words: &str) -> bool {
    words.contains("exceeds the maximum number of tokens") || words.contains("input context is too long")
}

/// `RESOURCE_EXHAUSTED` asks every caller to look at plan and billing, so that its words alone do not tell.
fn is_billing(status: Option<u16>, name: &str, reason: &str, words: &str) -> bool {
    status == Some(402)
        || reason == "BILLING_DISABLED"
        || (name == "FAILED_PRECONDITION" && words.contains("billing"))
        || words.contains("credits are depleted")
}

fn param(details: &[Detail]) -> Option<String> {
    let fields = details.iter().filter_map(|detail| detail.field_violations.as_deref()).flatten();
    fields.filter_map(|violation| violation.field.as_deref()).find(|field| !field.is_empty()).map(scrub)
}

fn retry_after(details: &[Detail]) -> Option<Duration> {
    let named = details.iter().find_map(|detail| detail.retry_delay.as_deref()).and_then(duration);
    let mut violations = details.iter().filter_map(|detail| detail.violations.as_deref()).flatten();
    let daily =
        violations.any(|violation| violation.quota_id.as_deref().is_some_and(|id| id.contains("PerDay")));
    if daily { Some(named.unwrap_or_default().max(DAILY_QUOTA)) } else { named }
}

/// `34s`, `34.074824224s`
fn duration(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|delay| delay.min(LONGEST_DELAY))
}

/// The HTTP status of a name, for errors that come without one.
fn status_of(name: &str) -> Option<u16> {
    Some(match name {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => 400,
        "UNAUTHENTICATED" => 401,
        "PERMISSION_DENIED" => 403,
        "NOT_FOUND" => 404,
        "ALREADY_EXISTS" | "ABORTED" => 409,
        "RESOURCE_EXHAUSTED" => 429,
        "CANCELLED" => 499,
        "INTERNAL" | "UNKNOWN" | "DATA_LOSS" => 500,
        "UNIMPLEMENTED" => 501,
        "UNAVAILABLE" => 503,
        "DEADLINE_EXCEEDED" => 504,
        _ => return None,
    })
}
