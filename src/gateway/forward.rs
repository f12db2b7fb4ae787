//! One candidate after the other until one answers: `[ grant → reserve → open key → send → classify ]*`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use super::{
    House, Journey,
    authenticate::Principal,
    error::{GatewayError, LastAttempt},
    meter::{Beginning, Charge, Meter},
    plan::Candidate,
    policy, reserve,
    stream::{self, Opened},
    upstream_body,
};
use crate::{
    catalogue::{ServiceTier, capabilities},
    dialects::{
        self, AnswerFacts, Call as DialectCall, Dialect, DialectError, ProviderError, UpstreamRequest,
    },
    domain::{AttemptOutcome, ModelRef, UnsealableKey},
    upstream::{self, Failure, SentMark, Target, Verdict},
    vault::SealedRow,
    wire::Endpoint,
};

const PROVIDER: HeaderName = HeaderName::from_static("x-keystile-provider");
const MODEL: HeaderName = HeaderName::from_static("x-keystile-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-keystile-attempts");
const MAX_OUTPUT_TOKENS: HeaderName = HeaderName::from_static("x-keystile-max-output-tokens");
const DROPPED: HeaderName = HeaderName::from_static("x-keystile-dropped");

/// An answer that may go to the client.
pub(super) struct Answer {
    pub(super) candidate: Candidate,
    /// The output limit that the gateway chose, if it chose one.
    pub(super) output_limit: Option<u64>,
    /// Hints of the client's that this provider was not given.
    pub(super) dropped: Vec<&'static str>,
    /// Headers of the provider's that are the client's as well.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) content: Content,
}

/// What an attempt brought.
struct Brought {
    headers: Vec<(HeaderName, HeaderValue)>,
    content: Content,
}

/// What a provider answered.
pub(super) enum Content {
    /// All of it, as it came.
    Whole(Bytes),
    /// All of it although a stream was asked for, as a stream.
    Streamed(Bytes),
    /// A stream whose first meaningful event is in hand.
    Stream(Box<Opened>),
}

/// What is needed to send one attempt.
struct Prepared {
    grant: crate::domain::DispatchGrant,
    request: UpstreamRequest,
    sent: SentMark,
    dialect: &'static dyn Dialect,
}

/// Tries `plan` in order.
///
/// # Errors
/// The first refusal when nothing was sent, else the last provider's failure.
pub(super) async fn forward(
    house: &Arc<House>,
    principal: &Principal,
    journey: &Journey,
    plan: Vec<Candidate>,
    meter: &mut Meter,
) -> Result<Answer, GatewayError> {
    let deadline = meter.facts().arrived + house.settings.upstream.total_timeout;
    let mut refusal: Option<GatewayError> = None;
    let mut failed: Option<GatewayError> = None;
    for candidate in plan {
        if meter.attempts() >= house.settings.upstream.max_attempts {
            break;
        }
        if Instant::now() >= deadline {
            // Nobody is to blame who was not asked.
            return Err(failed.unwrap_or(GatewayError::Deadline));
        }
        let mut prepared = match prepare(house, principal, journey, &candidate, meter).await {
            Ok(prepared) => prepared,
            // It would be the same for every candidate, and each would wait for the database once more.
            Err(refused @ GatewayError::LedgerUnavailable) => return Err(failed.unwrap_or(refused)),
            Err(refused) => {
                tracing::debug!(model = %candidate.model, code = refused.code(), "candidate.refused");
                refusal.get_or_insert(refused);
                continue;
            }
        };
        let output_limit = prepared.request.output_limit;
        let dropped = std::mem::take(&mut prepared.request.dropped);
        match attempt(house, principal, journey, &candidate, prepared, deadline, meter).await {
            Ok(Brought { headers, content }) => {
                house.health.succeeded(candidate.key.id(), &candidate.model.model, Instant::now());
                return Ok(Answer { candidate, output_limit, dropped, headers, content });
            }
            Err(failure) => {
                let verdict = failure.verdict();
                end_failed(house, &candidate, &failure, meter);
                if let Failure::Unsealable(reason) = failure {
                    house.metrics.vault_open_failed(reason);
                    house.alarms.ring(UnsealableKey {
                        tenant: principal.key.tenant,
                        key: candidate.key.id(),
                        provider: candidate.model.provider.clone(),
                        reason,
                    });
                }
                if matches!(failure, Failure::Unrecordable) {
                    return Err(GatewayError::LedgerUnavailable);
                }
                let last = LastAttempt {
                    model: candidate.model,
                    attempts: meter.attempts(),
                    status: meter.last_status(),
                };
                failed = Some(GatewayError::Upstream { failure, last: Box::new(last) });
                if verdict == Verdict::Stop {
                    break;
                }
            }
        }
    }
    Err(failed.or(refusal).unwrap_or(GatewayError::NoProvider("no candidate is left")))
}

async fn prepare(
    house: &Arc<House>,
    principal: &Principal,
    journey: &Journey,
    candidate: &Candidate,
    meter: &mut Meter,
) -> Result<Prepared, GatewayError> {
    let grant = policy::grant(principal, candidate)?;
    let at = meter.facts().started_at;
    let price = journey.prices.price(&candidate.model, at);
    let provider = &candidate.key.provider;
    let dialect = dialects::dialect(provider.dialect);
    let request_id = meter.facts().request_id.to_string();
    let request = |output_limit| {
        let call = DialectCall {
            asked: &journey.asked,
            quirks: &provider.quirks,
            capabilities: capabilities(provider.dialect, candidate.model.model.as_str()),
            model: &candidate.model.model,
            output_limit,
            model_limit: price.as_ref().and_then(|price| price.max_output_tokens),
            ask_usage: true,
            request_id: &request_id,
            created: at.seconds(),
        };
        dialect.request(&call).map_err(|error| refused(&error, &candidate.model))
    };
    // What is reserved is the worst case of the bytes that are sent, so they come first.
    let plain = request(None)?;
    let bytes = plain.body.len() as u64;
    let limit_bytes = match reserve::may_clamp(principal, journey) {
        true => (request(Some(1))?.body.len() as u64).saturating_sub(bytes + 1),
        false => 0,
    };
    // In other words an inline picture may be shorter than it was in the client's: what is sent is what counts.
    let (inline_bytes, hour_cache) = match plain.translation.as_ref().map(|_| journey.asked.conversation()) {
        Some(Ok(conversation)) => (conversation.inline_bytes(), conversation.caches_an_hour()),
        Some(Err(_)) => (0, journey.asked.view.hour_cache),
        None => (journey.asked.view.inline_bytes, journey.asked.view.hour_cache),
    };
    let body = reserve::Body { bytes, limit_bytes, inline_bytes, hour_cache };
    let asked = reserve::Request { principal, journey, candidate, price: price.as_deref(), body, at };
    let reserved = reserve::reserve(&house.ledger, asked).await?;
    let request = match reserved.output_limit {
        None => plain,
        limit => UpstreamRequest { output_limit: limit, ..request(limit)? },
    };
    let sent = meter.begin(Beginning {
        candidate: candidate.clone(),
        tier: journey.tier.unwrap_or_default(),
        price,
        reservation: reserved.reservation,
        input_estimate: reserved.input_estimate,
        bounds: reserved.bounds,
        reasoning_apart: provider.quirks.reasoning_apart,
    })?;
    house.health.begins(candidate.key.id(), &candidate.model.model, Instant::now());
    Ok(Prepared { grant, request, sent, dialect })
}

/// A request that this candidate cannot be asked.
fn refused(error: &DialectError, model: &ModelRef) -> GatewayError {
    GatewayError::InvalidRequest {
        param: error.field().map(str::to_owned),
        message: format!("{error} (asked of `{model}`)"),
    }
}

async fn attempt(
    house: &Arc<House>,
    principal: &Principal,
    journey: &Journey,
    candidate: &Candidate,
    mut prepared: Prepared,
    deadline: Instant,
    meter: &mut Meter,
) -> Result<Brought, Failure> {
    let timeouts = &house.settings.upstream;
    let first_byte = if journey.asked.view.stream {
        timeouts.stream_first_byte_timeout
    } else {
        timeouts.first_byte_timeout
    };
    let hide_usage = prepared.request.usage_injected && !journey.asked.view.include_usage;
    let to_base64 = prepared.request.embeddings_to_base64;
    let translation = prepared.request.translation.take();
    if meter.note_ahead().await.is_err() {
        return Err(Failure::Unrecordable);
    }
    let row = &candidate.key.row;
    let response = house
        .upstream
        .send(upstream::Call {
            grant: prepared.grant,
            target: Target {
                base_url: &row.base_url,
                checked_url: &candidate.key.url,
                auth: &candidate.key.provider.auth,
                sealed: SealedRow {
                    tenant: principal.key.tenant,
                    key: row.id,
                    provider: row.provider.as_str(),
                    origin: &row.origin,
                    sealed: &row.sealed,
                },
            },
            request: prepared.request,
            first_byte,
            deadline,
            sent: prepared.sent,
        })
        .await;
    if !matches!(
        response,
        Err(Failure::NotSent { .. } | Failure::Unusable(_) | Failure::Unsealable(_) | Failure::Unrecordable)
    ) {
        candidate.key.touched.used(meter.facts().started_at);
    }
    let (head, body) = response?.into_parts();
    let status = head.status.as_u16();
    if let Some(live) = meter.live() {
        live.status = Some(status);
    }
    let body_deadline = deadline.min(Instant::now() + first_byte);
    if !head.status.is_success() {
        return Err(rejected(house, prepared.dialect, status, &head.headers, body, body_deadline).await);
    }
    if !is_plain(&head.headers) {
        return Err(Failure::Ambiguous("the provider compressed its answer although it was told not to"));
    }
    let headers = if translation.is_none() { shared_headers(&head.headers) } else { Vec::new() };
    let streams = journey.asked.view.stream;
    let mut reading = stream::Reading {
        dialect: prepared.dialect,
        endpoint: journey.asked.endpoint,
        quirks: candidate.key.provider.quirks,
        translation,
        choices: journey.asked.view.choices_sent.max(1),
        hide_usage,
        most_event_bytes: house.settings.limits.max_event_bytes,
        most_kept_bytes: house.settings.limits.max_answer_bytes,
        idle: timeouts.idle_timeout,
        deadline,
    };
    if streams && is_event_stream(&head.headers) {
        let opened = stream::open(reading, body, first_byte, meter).await?;
        return Ok(Brought { headers, content: Content::Stream(Box::new(opened)) });
    }
    let whole = upstream_body::collect(
        body,
        house.settings.limits.max_answer_bytes,
        timeouts.idle_timeout,
        body_deadline,
        deadline,
    )
    .await?;
    let unreadable = |_| Failure::Ambiguous("the provider's answer is unreadable");
    if let Some(translation) = &mut reading.translation {
        let told = if streams { translation.answer_as_stream(&whole) } else { translation.answer(&whole) };
        let (facts, told) = told.map_err(unreadable)?;
        answered(facts, status, meter)?;
        let content = if streams { Content::Streamed(told) } else { Content::Whole(told) };
        return Ok(Brought { headers, content });
    }
    let facts = prepared
        .dialect
        .read_answer(journey.asked.endpoint, &candidate.key.provider.quirks, &whole)
        .map_err(unreadable)?;
    answered(facts, status, meter)?;
    let content = if streams {
        let stream = (journey.asked.endpoint != Endpoint::Messages
            && journey.asked.endpoint != Endpoint::Responses)
            .then(|| dialects::whole_to_stream(&whole, journey.asked.view.include_usage))
            .flatten();
        Content::Streamed(stream.ok_or(Failure::Ambiguous("the provider did not stream its answer"))?)
    } else if to_base64 {
        // Unreadable embeddings pass as they came.
        Content::Whole(dialects::embeddings_to_base64(&whole).unwrap_or(whole))
    } else {
        Content::Whole(whole)
    };
    Ok(Brought { headers, content })
}

/// What a provider of Anthropic's dialect says about its limits on the stored key: its clients read it.
fn shared_headers(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let shared = headers.iter().filter(|(name, _)| name.as_str().starts_with("anthropic-ratelimit-"));
    shared.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Notes what a whole answer says of itself; an error inside a 200 is a refusal.
fn answered(facts: AnswerFacts, status: u16, meter: &mut Meter) -> Result<(), Failure> {
    if let Some(live) = meter.live() {
        live.figures.merge_max(&facts.figures);
        live.text_bytes = facts.text_bytes;
        live.complete = true;
        if let Some(tier) = &facts.service_tier {
            live.tier = ServiceTier::from_name(tier).unwrap_or(live.tier);
        }
    }
    match facts.error {
        Some(error) => {
            let status = if status < 400 { stands_for(&error) } else { status };
            Err(Failure::Rejected { status, retry_after: error.retry_after, error: Box::new(error) })
        }
        None => Ok(()),
    }
}

/// The status that an error inside a 200 would have had.
pub(super) fn stands_for(error: &ProviderError) -> u16 {
    if let Some(status) = error.status.filter(|status| (400..600).contains(status)) {
        return status;
    }
    let says = |word: &str| [&error.kind, &error.code].into_iter().flatten().any(|text| text.contains(word));
    match () {
        () if error.context_length || says("invalid_request") => 400,
        () if error.billing || says("rate_limit") => 429,
        () if says("authentication") || says("invalid_api_key") => 401,
        () if says("permission") => 403,
        () if says("not_found") => 404,
        () if says("overloaded") => 529,
        () => 502,
    }
}

/// Settles an attempt that gave no answer.
fn end_failed(house: &House, candidate: &Candidate, failure: &Failure, meter: &mut Meter) {
    let (outcome, charge) = match failure {
        Failure::NotSent { .. } | Failure::Unusable(_) | Failure::Unsealable(_) | Failure::Unrecordable => {
            (AttemptOutcome::NotSent, Charge::Nothing)
        }
        // A refusal costs nothing, unless the provider reported usage with it.
        Failure::Rejected { .. } => {
            let used = meter.live().is_some_and(|live| !live.figures.is_empty());
            (AttemptOutcome::Rejected, if used { Charge::Used } else { Charge::Nothing })
        }
        Failure::Ambiguous(_) | Failure::TimedOut => (AttemptOutcome::Ambiguous, Charge::Used),
    };
    meter.end_attempt(outcome, charge);
    candidate.key.touched.failed(house.clock.now(), failure);
    if house.health.failed(candidate.key.id(), &candidate.model.model, failure, Instant::now()) {
        tracing::warn!(provider = %candidate.model.provider, provider_key = %candidate.key.id(), "provider_key.resting");
        house.metrics.cooldown_began(candidate.model.provider.as_str());
    }
}

async fn rejected(
    house: &House,
    dialect: &'static dyn Dialect,
    status: u16,
    headers: &HeaderMap,
    body: reqwest::Body,
    deadline: Instant,
) -> Failure {
    let most = house.settings.limits.max_error_bytes;
    let body = upstream_body::collect_some(body, most, house.settings.upstream.idle_timeout, deadline).await;
    let error = dialect.read_error(status, &body);
    Failure::Rejected {
        // A dialect knows what a status means at its providers: Google refuses a key with 400.
        status: error.status.unwrap_or(status),
        retry_after: retry_after(headers, house).or(error.retry_after),
        error: Box::new(error),
    }
}

/// `retry-after` in seconds or as a date; what is absurd or negative counts as absent.
fn retry_after(headers: &HeaderMap, house: &House) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
    u64::try_from(at - house.clock.now().millis()).ok().map(Duration::from_millis)
}

fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity") || value.is_empty())
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    // Some servers forget the type of a stream; what is not JSON is read as events.
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_none_or(|value| !value.trim_start().to_ascii_lowercase().starts_with("application/json"))
}

/// What most answers have for headers, and what the layers around this one add; a map that grows is copied.
const HEADERS_ROOM: usize = 16;

/// The headers of an answer.
pub(super) fn head_of(answer: &Answer, attempts: usize) -> Result<HeaderMap, GatewayError> {
    let unwritable = |_| GatewayError::Internal;
    let mut headers = HeaderMap::with_capacity(HEADERS_ROOM);
    let model = &answer.candidate.model;
    headers.insert(PROVIDER, HeaderValue::from_str(model.provider.as_str()).map_err(unwritable)?);
    headers.insert(MODEL, HeaderValue::try_from(model.to_string()).map_err(unwritable)?);
    headers.insert(ATTEMPTS, attempts.into());
    if let Some(limit) = answer.output_limit {
        headers.insert(MAX_OUTPUT_TOKENS, limit.into());
    }
    if !answer.dropped.is_empty() {
        headers.insert(DROPPED, HeaderValue::try_from(answer.dropped.join(", ")).map_err(unwritable)?);
    }
    for (name, value) in &answer.headers {
        headers.append(name, value.clone());
    }
    Ok(headers)
}
