//! The conductor: one request from its body to its answer, the same for chat, completions and embeddings.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    House, Journey,
    authenticate::Principal,
    body::{self, GatewayBody},
    drain::Streamed,
    error::GatewayError,
    forward::{self, Content},
    meter::{Charge, Facts, Meter},
    outlive::Outliving,
    plan::{Candidate, Planner},
    policy,
    relay::Relay,
    reserve, tags,
};
use crate::{
    catalogue::{DialectKind, ServiceTier},
    dialects::{Asked, ClientHeaders},
    domain::{AttemptOutcome, ModelName, Outcome, RequestId},
    ledger,
    limits::{self, InFlight},
    wire::{Endpoint, Envelope, RequestView, read_request},
};

const COST_MICRO_USD: HeaderName = HeaderName::from_static("x-keystile-cost-micro-usd");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a request brings with it from its head.
pub(super) struct Arrival {
    pub(super) request_id: RequestId,
    pub(super) arrived: Instant,
    /// Let go of when a provider has answered, or none is left to ask.
    pub(super) underway: Arc<()>,
    pub(super) principal: Arc<Principal>,
    pub(super) in_flight: InFlight,
}

/// Answers one inference request.
///
/// # Errors
/// Everything in the contract's table.
pub(super) async fn infer(
    house: &Arc<House>,
    endpoint: Endpoint,
    arrival: Arrival,
    headers: &HeaderMap,
    incoming: &mut Incoming,
) -> Result<Response<GatewayBody>, GatewayError> {
    let most = house.settings.limits.max_body_bytes;
    body::check_head(headers, most)?;
    let request_tags = tags::from_headers(headers)?;
    let bytes = body::collect(incoming, most, house.settings.server.body_idle_timeout).await?;
    let envelope =
        Envelope::parse(bytes, house.settings.limits.max_json_depth).map_err(GatewayError::Envelope)?;
    let view = read_request(endpoint, &envelope).map_err(GatewayError::Envelope)?;
    let requested = requested_models(&view.model, &view.models)?;
    let principal = arrival.principal;
    let prices = house.catalogue.prices.load_full();
    let planner =
        Planner { principal: &principal, prices: &prices, health: &house.health, now: Instant::now() };
    let mut plan = policy::allowed(&principal, planner.plan(&requested)?)?;
    if endpoint == Endpoint::CountTokens {
        if !plan.first().is_some_and(counts_tokens) {
            return estimated_tokens(&view);
        }
        plan.retain(counts_tokens);
    }

    let mut tags = Arc::clone(&principal.key.tags);
    if !request_tags.is_empty() {
        Arc::make_mut(&mut tags).extend(request_tags);
    }
    let started_at = house.clock.now();
    let facts = Facts {
        request_id: arrival.request_id,
        arrived: arrival.arrived,
        started_at,
        windows: principal.windows(started_at),
        scopes: Arc::clone(&principal.charged),
        endpoint,
        tenant: principal.key.tenant,
        virtual_key: principal.key.id,
        requested: requested.into_iter().next().ok_or(GatewayError::MissingModel)?,
        stream: view.stream,
        hard: Arc::clone(&principal.hard_caps),
        tags,
    };
    let streams = view.stream;
    let tier = view.service_tier.as_deref().map_or(Some(ServiceTier::Standard), ServiceTier::from_name);
    let asked = Asked::new(endpoint, envelope, view, client_headers(headers));
    let journey = Journey { asked, tier, prices };
    let first_price = plan.first().and_then(|first| journey.prices.price(&first.model, facts.started_at));
    let tokens = reserve::most_tokens(&journey, first_price.as_deref());
    let tokens = limits::check_tokens(&principal.limiters, tokens).await.map_err(GatewayError::from)?;
    let place = house.ledger.try_place().map_err(|_| GatewayError::LedgerUnavailable)?;
    let meter = Meter::new(Arc::clone(house), facts, place, tokens, arrival.in_flight);
    if streams {
        // Boxed, like the call below: the whole call would else be moved with every request, wherever it is answered.
        return Box::pin(stream(house, &principal, journey, plan, meter, arrival.underway)).await;
    }
    // Given what it needs as it is: a block around it would hold all of it a second time.
    Outliving::new(&house.tasks, whole(Arc::clone(house), principal, journey, plan, meter, arrival.underway))
        .await
}

/// Headers that a provider of Anthropic's dialect is to see.
fn client_headers(headers: &HeaderMap) -> ClientHeaders {
    let joined = |name: &str| {
        let values: Vec<&str> =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(","))
    };
    ClientHeaders { anthropic_version: joined("anthropic-version"), anthropic_beta: joined("anthropic-beta") }
}

/// Whether the candidate's provider can say how many tokens a request has.
fn counts_tokens(candidate: &Candidate) -> bool {
    candidate.key.provider.dialect != DialectKind::OpenAi
}

/// How many tokens a request has, for a provider that cannot say it: nothing is sent.
fn estimated_tokens(view: &RequestView) -> Result<Response<GatewayBody>, GatewayError> {
    let tokens = ledger::estimated_tokens(view.text_bytes);
    Response::builder()
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header("x-keystile-estimated", HeaderValue::from_static("true"))
        .body(GatewayBody::full(format!("{{\"input_tokens\":{tokens}}}").into()))
        .map_err(|_| GatewayError::Internal)
}

fn requested_models(model: &Option<String>, models: &[String]) -> Result<Vec<ModelName>, GatewayError> {
    let parse =
        |name: &String| ModelName::parse(name).map_err(|_| GatewayError::ModelNotFound(printable(name)));
    if models.is_empty() {
        let name = model.as_ref().filter(|name| !name.is_empty()).ok_or(GatewayError::MissingModel)?;
        return Ok(vec![parse(name)?]);
    }
    models.iter().map(parse).collect()
}

/// A name that may stand in an error: short and visible.
fn printable(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(80).collect()
}

async fn stream(
    house: &Arc<House>,
    principal: &Principal,
    journey: Journey,
    plan: Vec<Candidate>,
    mut meter: Meter,
    underway: Arc<()>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let answer = {
        // Pinned where it is made: moved, it would be copied, thousands of bytes a request.
        let forward = pin!(forward::forward(house, principal, &journey, plan, &mut meter));
        house.cut.run_until_cancelled(forward).await
    };
    drop(underway);
    let answer = match answer {
        Some(Ok(answer)) => answer,
        Some(Err(error)) => return Err(failed(meter, error).await),
        None => {
            meter.cut(GatewayError::Draining.render().status.as_u16());
            return Err(GatewayError::Draining);
        }
    };
    let head = forward::head_of(&answer, meter.attempts());
    let body = match answer.content {
        Content::Stream(opened) => {
            GatewayBody::Relay(Streamed::new(Relay::new(house, *opened, 200, meter), house))
        }
        Content::Streamed(bytes) | Content::Whole(bytes) => {
            meter.end_attempt(AttemptOutcome::Ok, Charge::Used);
            meter.finish(200, Outcome::Ok).safe().await;
            GatewayBody::full(bytes)
        }
    };
    let mut head = head?;
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    head.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx and its relatives would hold a stream back until their buffer is full.
    head.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response(head, body))
}

async fn whole(
    house: Arc<House>,
    principal: Arc<Principal>,
    journey: Journey,
    plan: Vec<Candidate>,
    mut meter: Meter,
    underway: Arc<()>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let answer = {
        // Pinned where it is made: moved, it would be copied, thousands of bytes a request.
        let forward = pin!(forward::forward(&house, &principal, &journey, plan, &mut meter));
        house.cut.run_until_cancelled(forward).await
    };
    drop(underway);
    let answer = match answer {
        Some(Ok(answer)) => answer,
        Some(Err(error)) => return Err(failed(meter, error).await),
        None => {
            meter.cut(GatewayError::Draining.render().status.as_u16());
            return Err(GatewayError::Draining);
        }
    };
    let bytes = match &answer.content {
        Content::Whole(bytes) | Content::Streamed(bytes) => Bytes::clone(bytes),
        Content::Stream(_) => return Err(failed(meter, GatewayError::Internal).await),
    };
    // Counting tokens is free at every provider that does it.
    let counted = journey.asked.endpoint == Endpoint::CountTokens;
    meter.end_attempt(AttemptOutcome::Ok, if counted { Charge::Nothing } else { Charge::Used });
    let head = forward::head_of(&answer, meter.attempts());
    drop(answer);
    let finished = meter.finish(200, Outcome::Ok);
    let cost = finished.cost;
    finished.safe().await;
    let mut head = head?;
    if let Some(cost) = cost {
        let cost = HeaderValue::try_from(cost.as_micro().to_string());
        head.insert(COST_MICRO_USD, cost.map_err(|_| GatewayError::Internal)?);
    }
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response(head, GatewayBody::full(bytes)))
}

fn response(head: HeaderMap, body: GatewayBody) -> Response<GatewayBody> {
    let mut response = Response::new(body);
    *response.headers_mut() = head;
    response
}

/// Ends a request that nobody answered, and passes the error on.
async fn failed(meter: Meter, error: GatewayError) -> GatewayError {
    let outcome = match &error {
        GatewayError::Deadline => Outcome::CutDeadline,
        GatewayError::Upstream { failure, .. } if failure.verdict() == crate::upstream::Verdict::Stop => {
            Outcome::Rejected
        }
        GatewayError::Upstream { .. } => Outcome::UpstreamError,
        // A refusal of ours: nothing was sent.
        _ => Outcome::Rejected,
    };
    meter.finish(error.render().status.as_u16(), outcome).safe().await;
    error
}
