//! One candidate after the other until one answers: `[ grant → reserve → open key → send → classify ]*`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
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
    catalogue::ServiceTier,
    dialects::{
        self, AnswerFacts, Call as DialectCall, Dialect, DialectError, ProviderError, UpstreamRequest,
    },
    domain::AttemptOutcome,
    upstream::{self, Failure, SentMark, Target, Verdict},
    vault::SealedRow,
};

/// An answer that may go to the client.
pub(super) struct Answer {
    pub(super) candidate: Candidate,
    /// The output limit that the gateway chose, if it chose one.
    pub(super) output_limit: Option<u64>,
    pub(super) content: Content,
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
    output_limit: Option<u64>,
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
        let prepared = match prepare(house, principal, journey, &candidate, meter).await {
            Ok(prepared) => prepared,
            // It would be the same for every candidate, and each would wait for the database once more.
            Err(refused @ GatewayError::LedgerUnavailable) => return Err(failed.unwrap_or(refused)),
            Err(refused) => {
                tracing::debug!(model = %candidate.model, code = refused.code(), "candidate.refused");
                refusal.get_or_insert(refused);
                continue;
            }
        };
        let output_limit = prepared.output_limit;
        match attempt(house, principal, journey, &candidate, prepared, deadline, meter).await {
            Ok(content) => {
                house.health.succeeded(candidate.key.id(), &candidate.model.model, Instant::now());
                return Ok(Answer { candidate, output_limit, content });
            }
            Err(failure) => {
                let verdict = failure.verdict();
                end_failed(house, &candidate, &failure, meter);
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
    let request = |output_limit| {
        let call = DialectCall {
            endpoint: journey.endpoint,
            quirks: &provider.quirks,
            model: &candidate.model.model,
            envelope: &journey.envelope,
            view: &journey.view,
            output_limit,
            ask_usage: true,
        };
        let refused =
            |error: DialectError| GatewayError::InvalidRequest { param: None, message: error.to_string() };
        dialect.request(&call).map_err(refused)
    };
    // What is reserved is the worst case of the bytes that are sent, so they come first.
    let plain = request(None)?;
    let bytes = plain.body.len() as u64;
    let limit_bytes = match reserve::may_clamp(principal, journey) {
        true => (request(Some(1))?.body.len() as u64).saturating_sub(bytes + 1),
        false => 0,
    };
    let body = reserve::Body { bytes, limit_bytes };
    let asked = reserve::Request { principal, journey, candidate, price: price.as_deref(), body, at };
    let reserved = reserve::reserve(&house.ledger, asked).await?;
    let request = match reserved.output_limit {
        None => plain,
        limit => request(limit)?,
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
    Ok(Prepared { grant, request, output_limit: reserved.output_limit, sent, dialect })
}

async fn attempt(
    house: &Arc<House>,
    principal: &Principal,
    journey: &Journey,
    candidate: &Candidate,
    prepared: Prepared,
    deadline: Instant,
    meter: &mut Meter,
) -> Result<Content, Failure> {
    let timeouts = &house.settings.upstream;
    let first_byte =
        if journey.view.stream { timeouts.stream_first_byte_timeout } else { timeouts.first_byte_timeout };
    let hide_usage = prepared.request.usage_injected && !journey.view.include_usage;
    let to_base64 = prepared.request.embeddings_to_base64;
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
        .await?;
    let (head, body) = response.into_parts();
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
    let reading = stream::Reading {
        dialect: prepared.dialect,
        endpoint: journey.endpoint,
        quirks: candidate.key.provider.quirks,
        choices: journey.view.choices_sent.max(1),
        hide_usage,
        most_event_bytes: house.settings.limits.max_event_bytes,
        idle: timeouts.idle_timeout,
        deadline,
    };
    if journey.view.stream && is_event_stream(&head.headers) {
        let opened = stream::open(reading, body, first_byte, meter).await?;
        return Ok(Content::Stream(Box::new(opened)));
    }
    let whole = upstream_body::collect(
        body,
        house.settings.limits.max_answer_bytes,
        timeouts.idle_timeout,
        body_deadline,
        deadline,
    )
    .await?;
    let facts = prepared
        .dialect
        .read_answer(journey.endpoint, &candidate.key.provider.quirks, &whole)
        .map_err(|_| Failure::Ambiguous("the provider's answer is unreadable"))?;
    answered(facts, status, meter)?;
    if journey.view.stream {
        let stream = dialects::whole_to_stream(&whole, journey.view.include_usage)
            .ok_or(Failure::Ambiguous("the provider did not stream its answer"))?;
        return Ok(Content::Streamed(stream));
    }
    if to_base64 {
        // Unreadable embeddings pass as they came.
        return Ok(Content::Whole(dialects::embeddings_to_base64(&whole).unwrap_or(whole)));
    }
    Ok(Content::Whole(whole))
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
            Err(Failure::Rejected { status, error: Box::new(error), retry_after: None })
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
        Failure::NotSent { .. } | Failure::Unusable(_) | Failure::Unrecordable => {
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
    Failure::Rejected {
        status,
        error: Box::new(dialect.read_error(status, &body)),
        retry_after: retry_after(headers, house),
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

/// Status and headers of an answer's head, without a body.
pub(super) fn head_of(answer: &Answer, request_id: &str, attempts: usize) -> http::response::Builder {
    let mut builder = Response::builder()
        .status(StatusCode::OK)
        .header("x-request-id", request_id)
        .header("x-keystile-provider", answer.candidate.model.provider.as_str())
        .header("x-keystile-model", answer.candidate.model.to_string())
        .header("x-keystile-attempts", attempts);
    if let Some(limit) = answer.output_limit {
        builder = builder.header("x-keystile-max-output-tokens", limit);
    }
    builder
}
