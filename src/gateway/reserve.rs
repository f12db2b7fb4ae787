//! Before each attempt: is the price known, does the worst case fit every cap, and which output limit is sent.

use std::sync::Arc;

use super::{
    Journey,
    authenticate::Principal,
    error::{Capped, GatewayError},
    plan::Candidate,
};
use crate::{
    catalogue::ModelPrice,
    domain::{NanoUsd, Timestamp, TokenClass},
    ledger::{self, Accounts, Ask, Ledger, Patience, Reservation, Sizes, Stop, Wants, WorstCase},
    wire::{Endpoint, UsageBounds},
};

/// A clamp below this many tokens would be of no use to anybody.
const LEAST_OUTPUT: u64 = 256;
/// Digits of the largest limit that a clamp can choose.
const MOST_DIGITS: u32 = 8;
/// The most that a limit the gateway adds takes in a body: `,"max_completion_tokens":` and its digits.
const MOST_LIMIT_BYTES: u64 = 40;
/// Context window that is assumed when it is unknown.
const UNKNOWN_CONTEXT: u64 = 10_000_000;

/// What was set aside for one attempt.
pub(super) struct Reserved {
    pub(super) reservation: Reservation,
    /// The output limit that the gateway puts into the request; `None` leaves the request as it is.
    pub(super) output_limit: Option<u64>,
    pub(super) bounds: UsageBounds,
    pub(super) input_estimate: u64,
}

/// How many bytes are sent.
#[derive(Clone, Copy)]
pub(super) struct Body {
    /// Without a limit that the gateway adds.
    pub(super) bytes: u64,
    /// What such a limit adds, without its digits.
    pub(super) limit_bytes: u64,
    /// Of `bytes`: data of pictures and documents, which count by number.
    pub(super) inline_bytes: u64,
    /// The provider is asked to cache input for an hour.
    pub(super) hour_cache: bool,
}

impl Body {
    /// Of a request as its client sent it.
    fn of_client(journey: &Journey) -> Self {
        let view = &journey.asked.view;
        Self {
            bytes: journey.asked.envelope.len() as u64,
            limit_bytes: 0,
            inline_bytes: view.inline_bytes,
            hour_cache: view.hour_cache,
        }
    }
}

/// What decides how much one attempt may cost at most.
struct Demand<'a> {
    worst: WorstCase,
    price: &'a ModelPrice,
    client_limit: Option<u64>,
    model_limit: Option<u64>,
    /// Bytes that a limit the gateway adds takes in the body, without its digits.
    limit_bytes: u64,
    /// The largest output that a clamp may choose.
    ceiling: u64,
}

impl Demand<'_> {
    fn cost(&self, output: u64) -> NanoUsd {
        self.worst.cost(self.price, output)
    }

    /// The output limit that fits into `left`, and what it may cost; else the least that would have to fit.
    fn fit(&self, left: Option<NanoUsd>) -> Result<(Option<u64>, NanoUsd), NanoUsd> {
        if let Some(limit) = self.client_limit {
            let need = self.cost(limit.min(self.model_limit.unwrap_or(limit)));
            return if left.is_none_or(|left| need <= left) { Ok((None, need)) } else { Err(need) };
        }
        let Some(left) = left else {
            return Ok((None, self.cost(self.model_limit.unwrap_or(0))));
        };
        // Output that costs nothing needs no limit.
        let most = self.model_limit.unwrap_or(u64::from(u32::MAX));
        if self.model_limit.is_some() || self.cost(most) == self.cost(0) {
            let need = self.cost(most);
            if need <= left {
                return Ok((None, need));
            }
        }
        // The limit itself is sent, too: the more digits, the less is left for the output.
        for digits in 1..=MOST_DIGITS {
            let worst = self.with_limit_of(digits);
            let Some(output) = worst.largest_output(self.price, left) else { break };
            let output = output.min(self.ceiling).min(10_u64.pow(digits) - 1);
            let wants_more =
                output == 10_u64.pow(digits) - 1 && output < self.ceiling && digits < MOST_DIGITS;
            if output >= LEAST_OUTPUT && !(wants_more && self.fits_longer(digits + 1, left, output)) {
                return Ok((Some(output), worst.cost(self.price, output)));
            }
        }
        Err(self.with_limit_of(3).cost(self.price, LEAST_OUTPUT))
    }

    /// Whether a limit of so many digits would allow more output than `output`.
    fn fits_longer(&self, digits: u32, left: NanoUsd, output: u64) -> bool {
        self.with_limit_of(digits).largest_output(self.price, left).is_some_and(|longer| longer > output)
    }

    fn with_limit_of(&self, digits: u32) -> WorstCase {
        let added = self.limit_bytes + u64::from(digits);
        WorstCase { input_tokens: self.worst.input_tokens.saturating_add(added), ..self.worst }
    }
}

/// Refuses what a capped key may not ask for because its price cannot be bounded.
fn check_priceable(journey: &Journey, price: &ModelPrice) -> Result<(), GatewayError> {
    let view = &journey.asked.view;
    let refuse = |param: &'static str, why: &str| {
        let message = format!(
            "`{param}` {why}, and this virtual key has a spend cap; leave it out, or use a key without a cap"
        );
        Err(GatewayError::InvalidRequest { param: Some(param.to_owned()), message })
    };
    if let Some(field) = view.unpriceable {
        return refuse(field, "changes the price in a way that is not in the price list");
    }
    // Limits of a model that a beta widens are not the ones in the price list.
    let widens =
        |beta: &str| ["context-1m", "output-", "fast-mode"].iter().any(|known| beta.starts_with(known));
    if journey
        .asked
        .headers
        .anthropic_beta
        .iter()
        .flat_map(|betas| betas.split(','))
        .map(str::trim)
        .any(widens)
    {
        return refuse("anthropic-beta", "widens the model's limits or changes its price");
    }
    if !journey.tier.is_some_and(|tier| price.supports(tier)) {
        return refuse("service_tier", "has no known price for this model");
    }
    if view.audio_output && !price.rates.has(TokenClass::OutputAudio) {
        return refuse("modalities", "asks for audio, whose price is unknown for this model");
    }
    if view.audio_inputs > 0 && !price.rates.has(TokenClass::InputAudio) {
        return refuse("messages", "contain audio, whose price is unknown for this model");
    }
    Ok(())
}

/// How large the request is, as far as it decides what it may cost.
fn sizes(journey: &Journey, body: Body) -> Sizes {
    if journey.asked.endpoint == Endpoint::CountTokens {
        // Nothing is generated and nothing billed.
        return Sizes::default();
    }
    let view = &journey.asked.view;
    Sizes {
        body_bytes: body.bytes.saturating_sub(body.inline_bytes),
        messages: view.messages,
        images: view.images,
        files: view.files,
        audio_inputs: view.audio_inputs,
        audio_output: view.audio_output,
        tools: view.tools,
        hour_cache: body.hour_cache,
        choices: view.choices,
    }
}

fn client_limit(journey: &Journey) -> Option<u64> {
    match journey.asked.endpoint {
        Endpoint::Embeddings | Endpoint::CountTokens => Some(0),
        _ => journey.asked.view.output_limit,
    }
}

/// Whether the gateway may have to choose an output limit.
pub(super) fn may_clamp(principal: &Principal, journey: &Journey) -> bool {
    client_limit(journey).is_none() && principal.is_capped()
}

/// The most tokens that a request is taken to use, for the token limits; corrected when it is known.
pub(super) fn most_tokens(journey: &Journey, price: Option<&ModelPrice>) -> u64 {
    let output = client_limit(journey).or(price.and_then(|price| price.max_output_tokens)).unwrap_or(0);
    ledger::input_bound(&sizes(journey, Body::of_client(journey)), price)
        .saturating_add(output.saturating_mul(journey.asked.view.choices.max(1)))
}

/// What an attempt asks for, and of whom.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) principal: &'a Principal,
    pub(super) journey: &'a Journey,
    pub(super) candidate: &'a Candidate,
    pub(super) price: Option<&'a ModelPrice>,
    pub(super) body: Body,
    pub(super) at: Timestamp,
}

/// Why nothing is reserved yet.
enum NotYet {
    /// Leases must be taken first.
    Lease(Wants),
    Failed(GatewayError),
}

impl From<GatewayError> for NotYet {
    fn from(error: GatewayError) -> Self {
        Self::Failed(error)
    }
}

/// Sets aside what an attempt may cost at most, in every cap in scope or in none. It waits only when this instance has
/// no lease that covers it, as for the first request of a key.
///
/// # Errors
/// 402 when a cap leaves no room, 403 when a cap is set and no price is known, 400 when a field cannot be priced, 503
/// when a lease is needed and the database does not answer.
pub(super) async fn reserve(ledger: &Ledger, request: Request<'_>) -> Result<Reserved, GatewayError> {
    let mut patience = Patience::default();
    loop {
        match try_reserve(ledger.accounts(), request) {
            Ok(reserved) => return Ok(reserved),
            Err(NotYet::Failed(error)) => return Err(error),
            Err(NotYet::Lease(wants)) => {
                ledger.lease(&wants, &mut patience).await.map_err(|_| GatewayError::LedgerUnavailable)?
            }
        }
    }
}

fn try_reserve(accounts: &Arc<Accounts>, request: Request<'_>) -> Result<Reserved, NotYet> {
    let Request { principal, journey, candidate, price, body, at } = request;
    let sizes = sizes(journey, body);
    // Inline data is part of the text: where no figures come, an image must not have cost nothing.
    let text = ledger::estimated_tokens(journey.asked.view.text_bytes);
    let input_estimate = text.min(ledger::input_bound(&sizes, price));
    let choices = sizes.choices.max(1);
    let client_limit = client_limit(journey);
    let Some(price) = price else {
        // A spent cap comes first: it refuses everything.
        let reservation = set_aside(accounts, principal, at, &|_| Ok(NanoUsd::ZERO))?;
        if principal.is_capped() {
            return Err(GatewayError::ModelUnpriced(candidate.model.to_string()).into());
        }
        let bounds = bounds(journey, &sizes, None, client_limit, choices);
        return Ok(Reserved { reservation, output_limit: None, bounds, input_estimate });
    };
    if principal.is_capped() {
        check_priceable(journey, price)?;
    }
    let demand = Demand {
        worst: WorstCase::new(&sizes, Some(price), journey.tier.unwrap_or_default()),
        price,
        client_limit,
        model_limit: price.max_output_tokens,
        limit_bytes: body.limit_bytes,
        ceiling: ceiling(price, ledger::input_bound(&sizes, Some(price))),
    };
    let chosen = std::cell::Cell::new(None);
    let fit = |left: Option<NanoUsd>| {
        let (limit, need) = demand.fit(left)?;
        chosen.set(limit);
        Ok(need)
    };
    let reservation = set_aside(accounts, principal, at, &fit)?;
    let output_limit = chosen.get();
    let bounds = bounds(journey, &sizes, Some(price), output_limit.or(client_limit), choices);
    Ok(Reserved { reservation, output_limit, bounds, input_estimate })
}

/// Asks all of the key's caps on its tenant's calendar. A refusal by a budget gets the budget's name.
fn set_aside(
    accounts: &Arc<Accounts>,
    principal: &Principal,
    at: Timestamp,
    fit: &dyn Fn(Option<NanoUsd>) -> Result<NanoUsd, NanoUsd>,
) -> Result<Reservation, NotYet> {
    let ask = Ask { scopes: &principal.scopes, at, zone: principal.zone(), fit };
    accounts.reserve(ask).map_err(|stop| match stop {
        Stop::Refused(refusal) => {
            let budget = principal.budget(refusal.scope).map(|budget| budget.name.clone());
            NotYet::Failed(GatewayError::Capped(Box::new(Capped { refusal: *refusal, budget })))
        }
        Stop::Lease(wants) => NotYet::Lease(wants),
        Stop::OutOfTouch => NotYet::Failed(GatewayError::LedgerUnavailable),
    })
}

/// The largest output that a clamp may choose: the model's maximum, else what the context window leaves beside the
/// input. A window that the bound on the input fills does not say how much is left.
fn ceiling(price: &ModelPrice, input_bound: u64) -> u64 {
    let window = price.context_window.map(|window| window.saturating_sub(input_bound));
    let beside_the_input = window.filter(|left| *left >= LEAST_OUTPUT).unwrap_or(UNKNOWN_CONTEXT);
    price.max_output_tokens.unwrap_or(beside_the_input)
}

/// The most that a provider's figures can say and still be true. A batch of prompts or of texts to embed may exceed
/// the context window, which holds for each of them.
fn bounds(
    journey: &Journey,
    sizes: &Sizes,
    price: Option<&ModelPrice>,
    limit: Option<u64>,
    choices: u64,
) -> UsageBounds {
    let window =
        price.and_then(|price| price.context_window).filter(|_| journey.asked.endpoint.is_conversation());
    let input = window.unwrap_or(UNKNOWN_CONTEXT);
    let most_output = limit.unwrap_or(input).saturating_mul(choices);
    UsageBounds {
        context_window: input,
        output_limit: limit.map(|_| most_output),
        // A limit that the gateway adds makes the body a little longer.
        worst_input: input.min(ledger::input_bound(sizes, price).saturating_add(MOST_LIMIT_BYTES)),
        worst_output: most_output,
    }
}
