//! Every way in which the data plane says no: one exhaustive mapping to a status, a code and an OpenAI error object.
//! `reference` behaviour of the official SDKs decides the headers: they retry 408, 409, 429 and 5xx by themselves.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};

use crate::{
    domain::ModelRef,
    ledger::{Refusal, RefusalKind},
    limits::{LimitKind, LimitRefusal},
    upstream::Failure,
    wire::{EnvelopeError, ErrorObject, scrub},
};

/// The longest `retry-after` of a provider that is passed on, in seconds: one official SDK gives up beyond 120, another sleeps
/// without bound.
const MOST_RETRY_AFTER: u64 = 120;

/// A refusal or failure of one request.
#[derive(Debug)]
pub enum GatewayError {
    /// No live virtual key.
    InvalidKey,
    /// Two credentials that differ, or one header twice.
    TwoCredentials,
    /// A path or method that is not ours.
    UnknownPath { missing_v1: bool, host: Option<String> },
    /// A path of ours with another method.
    MethodNotAllowed { allow: &'static str },
    /// The body's type or coding is not JSON as it is.
    UnsupportedMediaType(&'static str),
    /// The body is larger than allowed, in bytes.
    TooLarge(usize),
    /// The body came too slowly or not at all.
    RequestTimeout,
    /// The body broke off or is framed wrongly.
    BrokenBody,
    /// The body is unusable.
    Envelope(EnvelopeError),
    /// A field or header has a value that cannot be used.
    InvalidRequest { param: Option<String>, message: String },
    /// No model is named.
    MissingModel,
    /// No such model for this tenant.
    ModelNotFound(String),
    /// The allow-list does not have it.
    ModelNotAllowed(String),
    /// A cap is set and the price is unknown.
    ModelUnpriced(String),
    /// A rate or concurrency limit.
    Limited(Box<LimitRefusal>),
    /// A spend cap.
    Capped(Box<Capped>),
    /// Nothing is healthy or usable.
    NoProvider(&'static str),
    /// Only a key could answer whose provider is not spoken to yet.
    NoDialect { key: String, provider: String },
    /// The process is going down.
    Draining,
    /// The database does not answer, or usage cannot be recorded.
    LedgerUnavailable,
    /// The last provider's failure.
    Upstream { failure: Failure, last: Box<LastAttempt> },
    /// Everything together took too long.
    Deadline,
    /// A fault of ours.
    Internal,
}

/// A refusal by a spend cap.
#[derive(Debug)]
pub struct Capped {
    /// Whose cap, and where it stands.
    pub refusal: Refusal,
    /// The budget's name, if it is a budget's.
    pub budget: Option<String>,
}

/// The attempt that failed last.
#[derive(Debug)]
pub struct LastAttempt {
    /// What was called.
    pub model: ModelRef,
    /// How many attempts there were.
    pub attempts: usize,
    /// HTTP status it answered with, if it answered.
    pub status: Option<u16>,
}

/// What goes to the client.
pub struct Rendered {
    /// HTTP status.
    pub status: StatusCode,
    /// The body.
    pub object: ErrorObject,
    /// Headers beside the usual ones.
    pub headers: HeaderMap,
}

struct Draft {
    status: u16,
    kind: &'static str,
    code: &'static str,
    param: Option<String>,
    message: String,
}

fn draft(status: u16, kind: &'static str, code: &'static str, message: impl Into<String>) -> Draft {
    Draft { status, kind, code, param: None, message: message.into() }
}

impl From<LimitRefusal> for GatewayError {
    fn from(refusal: LimitRefusal) -> Self {
        Self::Limited(Box::new(refusal))
    }
}

impl GatewayError {
    /// Adds the host that the client called, as it called it, where the answer names an address.
    pub fn at(self, headers: &HeaderMap) -> Self {
        let plain = |host: &&str| {
            host.len() <= 255 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b))
        };
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).filter(plain);
        match self {
            Self::UnknownPath { missing_v1, .. } => {
                Self::UnknownPath { missing_v1, host: host.map(str::to_owned) }
            }
            other => other,
        }
    }

    /// The code, for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidKey => "invalid_api_key",
            Self::TwoCredentials | Self::BrokenBody | Self::InvalidRequest { .. } => "invalid_request",
            Self::UnknownPath { .. } | Self::MethodNotAllowed { .. } => "unknown_path",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::TooLarge(_) => "request_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::Envelope(error) => envelope_code(error),
            Self::MissingModel => "missing_model",
            Self::ModelNotFound(_) => "model_not_found",
            Self::ModelNotAllowed(_) => "model_not_allowed",
            Self::ModelUnpriced(_) => "model_unpriced",
            Self::Limited(_) => "rate_limit_exceeded",
            Self::Capped(capped) => match capped.refusal.kind {
                RefusalKind::Reached => "spend_cap_reached",
                RefusalKind::Reserved => "spend_cap_reserved",
            },
            Self::NoProvider(_) | Self::NoDialect { .. } => "no_provider_available",
            Self::Draining => "draining",
            Self::LedgerUnavailable => "ledger_unavailable",
            Self::Upstream { failure, .. } => upstream_code(failure),
            Self::Deadline => "upstream_timeout",
            Self::Internal => "internal_error",
        }
    }

    /// Status, body and headers.
    pub fn render(&self) -> Rendered {
        let mut headers = HeaderMap::new();
        let draft = self.draft(&mut headers);
        let mut object = ErrorObject {
            message: draft.message,
            kind: draft.kind.into(),
            param: draft.param,
            code: Some(draft.code.into()),
            provider: None,
            provider_status: None,
        };
        if let Self::Upstream { failure, last } = self {
            object.provider = Some(last.model.provider.to_string());
            object.provider_status = last.status;
            insert(&mut headers, HeaderName::from_static("x-keystile-provider"), &last.model.provider);
            insert(&mut headers, HeaderName::from_static("x-keystile-model"), &last.model);
            insert(&mut headers, HeaderName::from_static("x-keystile-attempts"), last.attempts);
            if let Failure::Rejected { error, status, .. } = failure
                && keeps_the_providers_words(failure)
            {
                object.kind = error.kind.clone().unwrap_or_else(|| kind_of(*status).into());
                object.code = error.code.clone().or_else(|| Some(kind_of(*status).into()));
                object.param = error.param.clone();
            }
        }
        let status = StatusCode::from_u16(draft.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Rendered { status, object, headers }
    }

    fn draft(&self, headers: &mut HeaderMap) -> Draft {
        const BAD: &str = "invalid_request_error";
        match self {
            Self::InvalidKey => draft(
                401,
                "authentication_error",
                self.code(),
                "no live virtual key: send one as `Authorization: Bearer ks_…`; ask whoever runs this gateway for a new one",
            ),
            Self::TwoCredentials => draft(
                400,
                BAD,
                self.code(),
                "more than one credential: send the virtual key once, in one header",
            ),
            Self::UnknownPath { missing_v1: true, host } => {
                let host = host.as_deref().unwrap_or("localhost:8080");
                draft(
                    404,
                    BAD,
                    self.code(),
                    format!(
                        "unknown path: the base URL of this API ends in `/v1`; here it is `http://{host}/v1`"
                    ),
                )
            }
            Self::UnknownPath { missing_v1: false, .. } => draft(
                404,
                BAD,
                self.code(),
                "unknown path: this gateway speaks `/v1/chat/completions`, `/v1/responses`, `/v1/messages`, `/v1/messages/count_tokens`, `/v1/completions`, `/v1/embeddings`, `/v1/models` and `/v1/key`",
            ),
            Self::MethodNotAllowed { allow } => {
                headers.insert(http::header::ALLOW, HeaderValue::from_static(allow));
                draft(405, BAD, self.code(), format!("this path takes `{allow}`"))
            }
            Self::UnsupportedMediaType(what) => draft(415, BAD, self.code(), *what),
            Self::TooLarge(most) => draft(
                413,
                BAD,
                self.code(),
                format!(
                    "the request's body is larger than {most} bytes; send less, or raise `limits.max_body_bytes`"
                ),
            ),
            Self::RequestTimeout => draft(
                408,
                BAD,
                self.code(),
                "the request's body did not arrive in time; send it again without pauses",
            ),
            Self::BrokenBody => draft(
                400,
                BAD,
                self.code(),
                "the request's body broke off or is framed wrongly; send it again",
            ),
            Self::Envelope(error) => {
                let mut draft = draft(400, BAD, self.code(), error.to_string());
                draft.param = envelope_param(error).map(Into::into);
                draft
            }
            Self::InvalidRequest { param, message } => {
                let mut draft = draft(400, BAD, self.code(), message.clone());
                draft.param.clone_from(param);
                draft
            }
            Self::MissingModel => {
                let mut draft = draft(
                    400,
                    BAD,
                    self.code(),
                    "no `model` is named; name one as `provider/model`, or an alias",
                );
                draft.param = Some("model".into());
                draft
            }
            Self::ModelNotFound(model) => {
                let mut draft = draft(
                    404,
                    BAD,
                    self.code(),
                    format!(
                        "no model `{}` here: `GET /v1/models` lists what this key may call",
                        scrub(model)
                    ),
                );
                draft.param = Some("model".into());
                draft
            }
            Self::ModelNotAllowed(model) => {
                let mut draft = draft(
                    403,
                    "permission_error",
                    self.code(),
                    format!(
                        "this virtual key may not call `{}`; `GET /v1/models` lists what it may call",
                        scrub(model)
                    ),
                );
                draft.param = Some("model".into());
                draft
            }
            Self::ModelUnpriced(model) => {
                let mut draft = draft(
                    403,
                    "permission_error",
                    self.code(),
                    format!(
                        "this virtual key has a spend cap and the price of `{model}` is unknown; an owner sets it with `PUT /api/prices`"
                    ),
                );
                draft.param = Some("model".into());
                draft
            }
            Self::Limited(refusal) => limited(refusal, headers),
            Self::Capped(refused) => capped(refused, headers),
            Self::NoProvider(why) => {
                insert(headers, RETRY_AFTER, 5);
                draft(503, "server_error", self.code(), format!("no provider can be called now: {why}"))
            }
            Self::NoDialect { key, provider } => {
                // No waiting mends it; SDKs would try again by themselves.
                insert(headers, HeaderName::from_static("x-should-retry"), false);
                draft(
                    503,
                    "server_error",
                    self.code(),
                    format!(
                        "no provider can be called now: the provider key `{}` is for `{provider}` with a cloud configuration, whose dialect this version does not speak yet; use another provider",
                        scrub(key)
                    ),
                )
            }
            Self::Draining => {
                insert(headers, RETRY_AFTER, 1);
                draft(503, "server_error", self.code(), "this gateway is going down; send the request again")
            }
            Self::LedgerUnavailable => {
                insert(headers, RETRY_AFTER, 2);
                draft(503, "server_error", self.code(), UNRECORDABLE)
            }
            Self::Upstream { failure, .. } => upstream(failure, headers),
            Self::Deadline => draft(
                504,
                "server_error",
                self.code(),
                "the request took too long altogether; ask for less, or raise `upstream.total_timeout`",
            ),
            Self::Internal => {
                draft(500, "server_error", self.code(), "the gateway failed; its log has this request's id")
            }
        }
    }
}

fn envelope_code(error: &EnvelopeError) -> &'static str {
    match error {
        EnvelopeError::NotUtf8
        | EnvelopeError::NotJson { .. }
        | EnvelopeError::NotAnObject
        | EnvelopeError::TooDeep { .. }
        | EnvelopeError::NotFinite { .. } => "invalid_json",
        EnvelopeError::Duplicate { .. }
        | EnvelopeError::Escaped { .. }
        | EnvelopeError::Misspelt { .. }
        | EnvelopeError::WrongType { .. } => "invalid_request",
        EnvelopeError::Forbidden { .. } => "forbidden_parameter",
        EnvelopeError::MissingModel => "missing_model",
    }
}

fn envelope_param(error: &EnvelopeError) -> Option<&str> {
    match error {
        EnvelopeError::Duplicate { name }
        | EnvelopeError::Escaped { name }
        | EnvelopeError::Misspelt { name, .. } => Some(name),
        EnvelopeError::Forbidden { name } | EnvelopeError::WrongType { name, .. } => Some(name),
        EnvelopeError::MissingModel => Some("model"),
        _ => None,
    }
}

fn insert(headers: &mut HeaderMap, name: impl http::header::IntoHeaderName, value: impl ToString) {
    if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
        headers.insert(name, value);
    }
}

fn seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).clamp(1, MOST_RETRY_AFTER)
}

fn limited(refusal: &LimitRefusal, headers: &mut HeaderMap) -> Draft {
    // Uncapped: a client that comes back earlier is refused again.
    insert(headers, RETRY_AFTER, refusal.retry_after_seconds());
    let unit = match refusal.kind {
        LimitKind::Requests | LimitKind::Parallel => "requests",
        LimitKind::Tokens => "tokens",
    };
    let level = refusal.level;
    let header = |part: &str| HeaderName::try_from(format!("x-ratelimit-{part}-{unit}")).ok();
    if let Some(name) = header("limit") {
        insert(headers, name, level.limit);
    }
    if let Some(name) = header("remaining") {
        insert(headers, name, level.remaining);
    }
    if let Some(name) = header("reset") {
        insert(headers, name, crate::limits::go_duration(level.reset));
    }
    draft(429, "rate_limit_error", "rate_limit_exceeded", refusal.to_string())
}

fn capped(Capped { refusal, budget }: &Capped, headers: &mut HeaderMap) -> Draft {
    let (cap, spent, reserved) =
        (refusal.cap.amount.as_micro(), refusal.settled.as_micro(), refusal.reserved.as_micro());
    insert(headers, HeaderName::from_static("x-keystile-cap-scope"), refusal.scope);
    insert(headers, HeaderName::from_static("x-keystile-cap-micro-usd"), cap);
    insert(headers, HeaderName::from_static("x-keystile-spent-micro-usd"), spent);
    insert(headers, HeaderName::from_static("x-keystile-reserved-micro-usd"), reserved);
    let code = match refusal.kind {
        RefusalKind::Reached => "spend_cap_reached",
        RefusalKind::Reserved => {
            insert(headers, RETRY_AFTER, 1);
            "spend_cap_reserved"
        }
    };
    let advice = if refusal.settled >= refusal.cap.amount { "" } else { ", or set a lower `max_tokens`" };
    let name = budget.as_ref().map_or_else(String::new, |name| format!("budget `{name}`: "));
    draft(402, "billing_error", code, format!("{name}{refusal}{advice}"))
}

fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// What is said when nothing may be sent because it could not be accounted for.
const UNRECORDABLE: &str = "the gateway cannot look up or record spend now, because its database or its disk does not answer; try again soon";

/// Whether the provider's own type, code and message go to the client.
fn keeps_the_providers_words(failure: &Failure) -> bool {
    match failure {
        Failure::Rejected { status, error, .. } => {
            error.context_length && *status < 500
                || matches!(status, 400 | 402 | 404..=407 | 409..=424 | 426..=428 | 430..=499)
        }
        _ => false,
    }
}

fn upstream_code(failure: &Failure) -> &'static str {
    match failure {
        Failure::NotSent { timed_out: true } | Failure::TimedOut => "upstream_timeout",
        Failure::Unusable(_) | Failure::Unsealable(_) => "no_provider_available",
        Failure::Unrecordable => "ledger_unavailable",
        Failure::Rejected { status: 401 | 403, error, .. } if !error.context_length => {
            "provider_key_rejected"
        }
        Failure::Rejected { status: 429, .. } => "upstream_rate_limited",
        Failure::Rejected { .. } if keeps_the_providers_words(failure) => "upstream_refused",
        Failure::NotSent { .. } | Failure::Ambiguous(_) | Failure::Rejected { .. } => "upstream_error",
    }
}

fn upstream(failure: &Failure, headers: &mut HeaderMap) -> Draft {
    let code = upstream_code(failure);
    let should_retry = HeaderName::from_static("x-should-retry");
    match failure {
        Failure::NotSent { timed_out: true } => {
            draft(504, "server_error", code, "the provider's connection did not stand in time")
        }
        Failure::TimedOut => draft(504, "server_error", code, "the provider did not answer in time"),
        Failure::NotSent { timed_out: false } => {
            draft(502, "server_error", code, "the provider could not be reached")
        }
        Failure::Ambiguous(why) => draft(502, "server_error", code, *why),
        Failure::Unusable(why) => draft(503, "server_error", code, *why),
        Failure::Unsealable(_) => {
            // It needs a person; an SDK that tries again by itself only makes noise.
            headers.insert(should_retry, HeaderValue::from_static("false"));
            draft(
                503,
                "server_error",
                code,
                "the stored provider key does not open, and no other is used in its place; whoever runs this gateway finds the reason in the audit log",
            )
        }
        Failure::Unrecordable => draft(503, "server_error", code, UNRECORDABLE),
        Failure::Rejected { status: 401 | 403, error, .. } if !error.context_length => {
            headers.insert(should_retry, HeaderValue::from_static("false"));
            draft(
                502,
                "server_error",
                code,
                "the provider refused the stored provider key; whoever manages this tenant's keys must replace it",
            )
        }
        Failure::Rejected { status: 429, error, retry_after } => {
            if error.billing {
                headers.insert(should_retry, HeaderValue::from_static("false"));
            }
            if let Some(retry_after) = retry_after {
                insert(headers, RETRY_AFTER, seconds(*retry_after));
            }
            draft(429, "rate_limit_error", code, format!("the provider limits its rate: {}", error.message))
        }
        Failure::Rejected { error, status, .. } if keeps_the_providers_words(failure) => {
            draft(*status, kind_of(*status), code, error.message.clone())
        }
        Failure::Rejected { status: 503, error, .. } => {
            draft(503, "server_error", code, format!("the provider is not available: {}", error.message))
        }
        Failure::Rejected { error, .. } => {
            draft(502, "server_error", code, format!("the provider failed: {}", error.message))
        }
    }
}
