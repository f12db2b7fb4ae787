//! Routes, the key check and errors in OpenAI's shape.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    CHAT_MODEL, EMBEDDING_MODEL,
    chat::{self, Shape},
    embeddings,
};
use crate::domain::Clock;

/// More than the gateway lets through.
const MOST_BODY_BYTES: usize = 64 << 20;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The provider's state: its key and a counter.
pub(super) struct Demo {
    api_key: Zeroizing<String>,
    /// Different at each start, so that ids do not repeat.
    run: String,
    answered: AtomicU64,
    clock: Clock,
    started: i64,
}

/// An answer's id and time.
pub(super) struct Stamp {
    pub(super) id: String,
    /// Seconds since the epoch.
    pub(super) created: i64,
}

/// A request that is not answered as it wished.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

impl Refusal {
    /// 400 for one field.
    pub(super) fn invalid(param: &'static str, message: &str) -> Self {
        let message = format!("`{param}`: {message}");
        Self { status: StatusCode::BAD_REQUEST, message, param: Some(param), code: Some("invalid_value") }
    }

    fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code }
    }

    fn into_response(self) -> Response<Body> {
        let error = json!({"error": {
            "message": self.message,
            "type": "invalid_request_error",
            "param": self.param,
            "code": self.code,
        }});
        json_response(self.status, error.to_string())
    }
}

impl Demo {
    pub(super) fn new(api_key: Zeroizing<String>, run: String, clock: Clock) -> Self {
        let started = clock.now().seconds();
        Self { api_key, run, answered: AtomicU64::new(0), clock, started }
    }

    /// Answers one request.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        Ok(self.route(request).await.unwrap_or_else(Refusal::into_response))
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        self.check_key(request.headers())?;
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::POST, "/v1/chat/completions") => self.complete(Shape::Chat, request).await,
            (&Method::POST, "/v1/completions") => self.complete(Shape::Legacy, request).await,
            (&Method::POST, "/v1/embeddings") => {
                let asked: embeddings::Asked = read(request).await?;
                check_model(&asked.model, EMBEDDING_MODEL)?;
                Ok(json_response(StatusCode::OK, embeddings::answer(&asked)?.to_string()))
            }
            (&Method::GET, "/v1/models") => {
                let list =
                    json!({"object": "list", "data": [self.model(CHAT_MODEL), self.model(EMBEDDING_MODEL)]});
                Ok(json_response(StatusCode::OK, list.to_string()))
            }
            (&Method::GET, _) if path.starts_with("/v1/models/") => {
                let id = path.trim_start_matches("/v1/models/");
                match [CHAT_MODEL, EMBEDDING_MODEL].into_iter().find(|model| *model == id) {
                    Some(model) => Ok(json_response(StatusCode::OK, self.model(model).to_string())),
                    None => Err(unknown_model()),
                }
            }
            (method, _) => {
                let message = format!("the demo provider does not know {method} {path}");
                Err(Refusal::new(StatusCode::NOT_FOUND, Some("unknown_url"), message))
            }
        }
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let presented = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .unwrap_or_default();
        if presented.ct_eq(self.api_key.as_bytes()).into() {
            return Ok(());
        }
        let message = "incorrect API key; the demo provider takes the key of this start only";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message))
    }

    async fn complete(&self, shape: Shape, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let asked: chat::Asked = read(request).await?;
        check_model(&asked.model, CHAT_MODEL)?;
        let answer = chat::answer(shape, asked, self.stamp())?;
        if !answer.stream {
            return Ok(json_response(StatusCode::OK, answer.whole().await));
        }
        let body = StreamBody::new(answer.events()).boxed_unsync();
        Ok(response(StatusCode::OK, "text/event-stream; charset=utf-8", body))
    }

    fn stamp(&self) -> Stamp {
        let number = self.answered.fetch_add(1, Ordering::Relaxed);
        Stamp { id: format!("{}{number:06x}", self.run), created: self.clock.now().seconds() }
    }

    fn model(&self, id: &str) -> Value {
        json!({"id": id, "object": "model", "created": self.started, "owned_by": "keystile"})
    }
}

fn check_model(asked: &str, known: &str) -> Result<(), Refusal> {
    if asked == known { Ok(()) } else { Err(unknown_model()) }
}

fn unknown_model() -> Refusal {
    let message = format!(
        "the demo provider has no such model; use `{CHAT_MODEL}` to chat and `{EMBEDDING_MODEL}` for embeddings"
    );
    Refusal { param: Some("model"), ..Refusal::new(StatusCode::NOT_FOUND, Some("model_not_found"), message) }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let body = Limited::new(request.into_body(), MOST_BODY_BYTES).collect().await.map_err(|_| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Some("request_too_large"),
            "the body is too large or incomplete",
        )
    })?;
    // serde's own text may quote the body, so only the position is told.
    serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        let message = format!(
            "the body is no JSON of the expected shape, at line {} column {}",
            error.line(),
            error.column()
        );
        Refusal::new(StatusCode::BAD_REQUEST, None, message)
    })
}

fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    response(status, "application/json", Full::new(body.into()).boxed_unsync())
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
