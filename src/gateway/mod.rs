//! The data plane: one hyper service, no framework. A request reads as a sentence:
//! route → identify → limits → envelope → plan → [ grant → reserve → send → classify ]* → relay → meter.
//!
//! When the database is gone, cached keys go on being served and their usage waits in the ledger's queue and journal; keys that
//! are not cached, and everybody once the queue is full, get 503. Nothing here asks the database for a cached key.

mod authenticate;
mod body;
mod drain;
mod error;
mod forward;
mod infer;
mod lists;
mod meter;
mod outlive;
mod plan;
mod policy;
mod relay;
mod reserve;
mod route;
mod settle;
mod stream;
mod tags;
mod tap;
mod underway;
mod upstream_body;

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    authenticate::Authenticator, body::GatewayBody, policy::check_grant, route::routes, underway::Underway,
};
use self::{
    error::GatewayError,
    infer::Arrival,
    route::{Route, Tongue},
};
use crate::{
    catalogue::{Catalogue, PriceBook, ServiceTier},
    config::Config,
    dialects::Asked,
    domain::{Alarms, Clock, RequestId},
    ledger::Ledger,
    limits::{self, Counters},
    store::Store,
    telemetry::Metrics,
    upstream::{Health, Upstream},
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's SDKs look for it.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Everything the data plane stands on; composed by `app`.
pub struct House {
    /// What the operator decided.
    pub settings: Arc<Config>,
    /// For `/health` only.
    pub store: Store,
    /// Virtual keys.
    pub authenticator: Authenticator,
    /// Caps, and usage records on their way to the database.
    pub ledger: Ledger,
    /// Providers and prices.
    pub catalogue: Arc<Catalogue>,
    /// The way to the providers.
    pub upstream: Upstream,
    /// Which provider keys rest.
    pub health: Health,
    /// Where rate limits are counted.
    pub counters: Counters,
    /// Who is told of provider keys that do not open.
    pub alarms: Alarms,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Wall time.
    pub clock: Clock,
    /// Places for streams that are read to their end although their clients have left.
    pub drains: Arc<Semaphore>,
    /// Requests that count on the providers being as they were when they began.
    pub underway: Arc<Underway>,
    /// Calls that outlive their clients; awaited at shutdown.
    pub tasks: TaskTracker,
    /// Set when the process is going down and no new request is taken.
    pub draining: CancellationToken,
    /// Set when even live requests are cut.
    pub cut: CancellationToken,
}

/// One request's own things, once its body was read.
struct Journey {
    asked: Asked,
    /// `None` when the tier it asks for has an unknown effect on the price.
    tier: Option<ServiceTier>,
    prices: Arc<PriceBook>,
}

/// The data plane as a service.
#[derive(Clone)]
pub struct Gateway(Arc<House>);

impl Gateway {
    /// Serves from `house`.
    pub fn new(house: Arc<House>) -> Self {
        Self(house)
    }

    /// Answers one request. Never fails: every refusal is an answer, and a panic costs one request only.
    pub async fn answer(self, request: Request<Incoming>) -> Result<Response<GatewayBody>, Infallible> {
        let request_id = RequestId::generate();
        let (head, mut incoming) = request.into_parts();
        let dispatch = self.dispatch(request_id, &head, &mut incoming);
        let answered = AssertUnwindSafe(dispatch).catch_unwind().await;
        let tongue = route::tongue(head.uri.path());
        let mut response = match answered.unwrap_or(Err(GatewayError::Internal)) {
            Ok(response) => response,
            Err(error) => {
                body::discard(&self.0.tasks, &self.0.cut, &head.headers, incoming);
                self.refuse(request_id, &error, tongue)
            }
        };
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
            if tongue == Tongue::Anthropic {
                headers.insert(REQUEST_ID, id.clone());
            }
            headers.insert(X_REQUEST_ID, id);
        }
        if self.0.draining.is_cancelled() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn dispatch(
        &self,
        request_id: RequestId,
        head: &http::request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Response<GatewayBody>, GatewayError> {
        let house = &self.0;
        let arrived = Instant::now();
        let route = route::of(&head.method, head.uri.path()).map_err(|error| error.at(&head.headers))?;
        if route == Route::Health {
            return Ok(lists::health(house).await);
        }
        let underway = house.underway.mark();
        let principal = house.authenticator.identify(&head.headers).await?;
        if house.draining.is_cancelled() {
            return Err(GatewayError::Draining);
        }
        match route {
            Route::Health => Ok(lists::health(house).await),
            Route::Models if head.headers.contains_key("anthropic-version") => {
                lists::anthropic_models(house, &principal)
            }
            Route::Models => lists::models(house, &principal),
            Route::Model(id) => lists::model(house, &principal, &id),
            Route::Key => lists::key(house, &principal).await,
            Route::Infer(endpoint) => {
                let in_flight =
                    limits::check_request(&principal.limiters).await.map_err(GatewayError::from)?;
                let arrival = Arrival { request_id, arrived, underway, principal, in_flight };
                infer::infer(house, endpoint, arrival, &head.headers, incoming).await
            }
        }
    }

    fn refuse(&self, request_id: RequestId, error: &GatewayError, tongue: Tongue) -> Response<GatewayBody> {
        if !matches!(error, GatewayError::Upstream { .. } | GatewayError::Deadline) {
            self.0.metrics.request_refused(error.code());
        }
        tracing::debug!(%request_id, code = error.code(), "request.refused");
        let rendered = error.render();
        let body = match tongue {
            Tongue::OpenAi => rendered.object.to_json(),
            Tongue::Anthropic => {
                rendered.object.to_anthropic_json(rendered.status.as_u16(), Some(&request_id.to_string()))
            }
        };
        let mut response = Response::new(GatewayBody::full(body));
        *response.status_mut() = rendered.status;
        *response.headers_mut() = rendered.headers;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
