//! Errors as answers: one exhaustive mapping to status and code, `{"error":{"code","message"}}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    control::{ControlError, StoreError},
    vault::PasswordError,
};

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The act was refused or failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The body is not JSON.
    #[error("the body is not valid JSON: {0}")]
    InvalidJson(String),
    /// The body or query is not what this route takes.
    #[error("{0}")]
    InvalidRequest(String),
    /// The body is of another type.
    #[error("send the body as `content-type: application/json`")]
    UnsupportedMediaType,
    /// The body is too long.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// There is no such path.
    #[error("there is no such path; see /api/openapi.json")]
    UnknownPath,
    /// There is no such method for the path.
    #[error("this path does not take this method; see /api/openapi.json")]
    MethodNotAllowed,
    /// The path has escapes, empty or dot segments.
    #[error("the path must be plain: no escapes, empty or dot segments")]
    StrangePath,
    /// The request was meant for another host.
    #[error("this host name is not one that the admin plane answers to; add it to `KEYSTILE_ADMIN_HOSTS`")]
    Misdirected,
    /// Another site's page sent it.
    #[error("requests from other sites are refused")]
    CrossSite,
    /// There is a credential, and it is unusable.
    #[error("send exactly one credential: one `Authorization: Bearer` header with a session token")]
    StrangeCredential,
}

impl AdminError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::Control(error) => match error {
                ControlError::Invalid { code, .. } => (S::BAD_REQUEST, code),
                ControlError::Forbidden(_) => (S::FORBIDDEN, "forbidden"),
                ControlError::NotFound(_) => (S::NOT_FOUND, "not_found"),
                ControlError::Conflict(_) => (S::CONFLICT, "conflict"),
                ControlError::InTheWay { code, .. } => (S::CONFLICT, code),
                ControlError::InstanceAlive(_) => (S::CONFLICT, "instance_alive"),
                ControlError::Unresolvable(_) | ControlError::AuditBroken { .. } => {
                    (S::INTERNAL_SERVER_ERROR, "internal_error")
                }
                ControlError::InvalidConfiguration(_) => (S::UNPROCESSABLE_ENTITY, "invalid_configuration"),
                ControlError::IdempotencyMismatch => (S::UNPROCESSABLE_ENTITY, "idempotency_mismatch"),
                ControlError::BadCredentials => (S::UNAUTHORIZED, "invalid_credentials"),
                ControlError::NoSession => (S::UNAUTHORIZED, "unauthorized"),
                ControlError::Throttled { .. } => (S::TOO_MANY_REQUESTS, "too_many_attempts"),
                ControlError::NoServiceToken => (S::UNAUTHORIZED, "unauthorized"),
                ControlError::SeveralCredentials => (S::BAD_REQUEST, "invalid_authorization"),
                ControlError::ServicesThrottled { .. } => (S::TOO_MANY_REQUESTS, "too_many_attempts"),
                ControlError::ServiceTooOften { .. } => (S::TOO_MANY_REQUESTS, "rate_limit_exceeded"),
                ControlError::RetrievalOff => (S::FORBIDDEN, "retrieval_disabled"),
                ControlError::NothingToRetrieve(_) => (S::NOT_FOUND, "not_found"),
                ControlError::KeyDoesNotOpen => (S::SERVICE_UNAVAILABLE, "provider_key_unsealable"),
                ControlError::Unrecorded => (S::SERVICE_UNAVAILABLE, "audit_unavailable"),
                ControlError::ReportTooLong => (S::SERVICE_UNAVAILABLE, "report_too_long"),
                ControlError::Password(error) => match error {
                    PasswordError::TooShort | PasswordError::TooLong | PasswordError::Weak { .. } => {
                        (S::BAD_REQUEST, "invalid_password")
                    }
                    PasswordError::Busy => (S::SERVICE_UNAVAILABLE, "busy"),
                    PasswordError::Corrupt | PasswordError::Failed => {
                        (S::INTERNAL_SERVER_ERROR, "internal_error")
                    }
                },
                ControlError::Store(error) => match error {
                    StoreError::NotFound => (S::NOT_FOUND, "not_found"),
                    StoreError::Conflict => (S::CONFLICT, "conflict"),
                    StoreError::Unavailable => (S::SERVICE_UNAVAILABLE, "database_unavailable"),
                    StoreError::Refused | StoreError::Corrupt { .. } | StoreError::Open(_) => {
                        (S::INTERNAL_SERVER_ERROR, "internal_error")
                    }
                },
            },
            Self::InvalidJson(_) => (S::BAD_REQUEST, "invalid_json"),
            Self::InvalidRequest(_) => (S::BAD_REQUEST, "invalid_request"),
            Self::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::TooLarge(_) => (S::PAYLOAD_TOO_LARGE, "request_too_large"),
            Self::UnknownPath => (S::NOT_FOUND, "unknown_path"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::StrangePath => (S::BAD_REQUEST, "invalid_path"),
            Self::Misdirected => (S::MISDIRECTED_REQUEST, "misdirected_request"),
            Self::CrossSite => (S::FORBIDDEN, "cross_site_request"),
            Self::StrangeCredential => (S::BAD_REQUEST, "invalid_authorization"),
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let message = if status == StatusCode::INTERNAL_SERVER_ERROR {
            // What is broken inside is for the log.
            tracing::error!(error = %self, "admin.failed");
            "something is broken inside the gateway; its log says what".to_owned()
        } else {
            self.to_string()
        };
        let mut response =
            (status, Json(json!({"error": {"code": code, "message": message}}))).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = match &self {
                Self::Control(ControlError::NoServiceToken) => "X-Service-Token",
                _ => "Bearer",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        let wait = match &self {
            Self::Control(
                ControlError::Throttled { retry_after }
                | ControlError::ServicesThrottled { retry_after }
                | ControlError::ServiceTooOften { retry_after },
            ) => Some(retry_after.as_secs().max(1)),
            Self::Control(ControlError::Password(PasswordError::Busy)) => Some(1),
            Self::Control(ControlError::ReportTooLong) => Some(15),
            _ => None,
        };
        if let Some(seconds) = wait {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

pub(super) async fn unknown_path() -> AdminError {
    AdminError::UnknownPath
}

pub(super) async fn method_not_allowed() -> AdminError {
    AdminError::MethodNotAllowed
}
