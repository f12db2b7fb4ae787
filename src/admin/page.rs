//! What routes take and answer: JSON bodies, queries, pages.

use axum::{
    Json,
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use super::AdminError;
use crate::control::{Control, Idempotency, Paged};

/// Largest body, in bytes.
pub(super) const MAX_BODY: usize = 256 * 1024;
/// Largest body of a login, in bytes.
pub(super) const MAX_LOGIN_BODY: usize = 8 * 1024;

/// A JSON body of at most `LIMIT` bytes.
pub(super) struct Body<T, const LIMIT: usize = MAX_BODY>(pub T);

impl<S: Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Body<T, LIMIT> {
    type Rejection = AdminError;

    async fn from_request(request: Request, _: &S) -> Result<Self, AdminError> {
        parse(&read(request, LIMIT).await?).map(Self)
    }
}

/// A JSON body that may be missing.
pub(super) struct MaybeBody<T>(pub T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeBody<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, _: &S) -> Result<Self, AdminError> {
        let typed = is_json(request.headers());
        let bytes = collect(request, MAX_BODY).await?;
        match (bytes.is_empty(), typed) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => parse(&bytes).map(Self),
            (false, false) => Err(AdminError::UnsupportedMediaType),
        }
    }
}

/// The body of a create, and its `Idempotency-Key`.
pub(super) struct Create<T> {
    pub asked: T,
    pub idempotency: Option<Idempotency>,
}

impl<T: DeserializeOwned> FromRequest<Control> for Create<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, control: &Control) -> Result<Self, AdminError> {
        let mut keys = request.headers().get_all(HeaderName::from_static("idempotency-key")).iter();
        let key = match (keys.next(), keys.next()) {
            (None, _) => None,
            (Some(key), None) => Some(key.as_bytes().to_vec()),
            (Some(_), Some(_)) => {
                return Err(AdminError::InvalidRequest("send one `Idempotency-Key` header".into()));
            }
        };
        let route = request.uri().path().to_owned();
        let bytes = read(request, MAX_BODY).await?;
        let asked = parse(&bytes)?;
        let idempotency = match key {
            Some(key) => {
                let key = String::from_utf8(key).unwrap_or_default();
                Some(control.idempotency(&key, &route, &bytes)?)
            }
            None => None,
        };
        Ok(Self { asked, idempotency })
    }
}

/// A query string.
pub(super) struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminError> {
        // Postgres takes no NUL in a text, and nothing that can be asked for has control characters.
        let query = parts.uri.query().unwrap_or_default();
        if url::form_urlencoded::parse(query.as_bytes()).any(|(_, value)| value.chars().any(char::is_control))
        {
            return Err(AdminError::InvalidRequest("the query has control characters; remove them".into()));
        }
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|rejection| {
            AdminError::InvalidRequest(format!("the query is not understood: {}", cause(&rejection)))
        })
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(request: Request, limit: usize) -> Result<Bytes, AdminError> {
    if !is_json(request.headers()) {
        return Err(AdminError::UnsupportedMediaType);
    }
    let encoded = request.headers().get(header::CONTENT_ENCODING);
    if encoded.is_some_and(|encoding| encoding != "identity") {
        return Err(AdminError::UnsupportedMediaType);
    }
    collect(request, limit).await
}

async fn collect(request: Request, limit: usize) -> Result<Bytes, AdminError> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > limit) {
        return Err(AdminError::TooLarge(limit));
    }
    to_bytes(request.into_body(), limit).await.map_err(|error| {
        if cause(&error).contains("length limit") {
            AdminError::TooLarge(limit)
        } else {
            AdminError::InvalidRequest("the body ended too early; send it again".into())
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AdminError> {
    // A struct would also be read from an array of its members in order, and so without their names.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        return Err(AdminError::InvalidRequest("the body must be a JSON object".into()));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = without_values(&error.to_string());
        if error.is_data() { AdminError::InvalidRequest(text) } else { AdminError::InvalidJson(text) }
    })
}

/// What the parser says, without what it quotes from the body: a secret may stand in the wrong member.
fn without_values(text: &str) -> String {
    for (kind, end) in [
        ("invalid type: ", ", expected"),
        ("invalid value: ", ", expected"),
        ("unknown variant ", ", expected"),
    ] {
        if let Some(rest) = text.strip_prefix(kind)
            && let Some(place) = rest.rfind(end)
        {
            let found = rest.split([' ', '`']).next().filter(|word| !word.is_empty()).unwrap_or("value");
            return format!("{kind}{found}{}", &rest[place..]);
        }
    }
    text.to_owned()
}

/// A page as it is answered.
#[derive(Serialize)]
pub(super) struct Listed<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
}

impl<T> From<Paged<T>> for Listed<T> {
    fn from(page: Paged<T>) -> Self {
        Self { data: page.items, next_cursor: page.next_cursor }
    }
}

impl<T: Serialize> IntoResponse for Listed<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// Something that was made.
pub(super) struct Created<T>(pub T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parser_errors_do_not_quote_the_body() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Asked {
            #[expect(dead_code, reason = "only read from JSON")]
            weight: i64,
        }
        let error = parse::<Asked>(br#"{"weight":"sk-canary, expected x"}"#).expect_err("not a number");
        assert_eq!(error.to_string(), "invalid type: string, expected i64 at line 1 column 33");
        let error = parse::<Asked>(br#"{"wait":1}"#).expect_err("unknown");
        assert!(error.to_string().starts_with("unknown field `wait`"), "{error}");
    }
}
