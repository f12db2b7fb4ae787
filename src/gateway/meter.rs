//! The one end of every request: settle what each attempt used, then hand over exactly one usage record. Whoever
//! drops a meter ends it, too: that is a client who left, and it neither blocks nor awaits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{House, plan::Candidate};
use crate::{
    catalogue::{ModelPrice, ServiceTier},
    domain::{
        AttemptOutcome, AttemptRecord, CostLine, ModelName, ModelRef, NanoUsd, Outcome, RequestId, Scope,
        TenantId, Timestamp, TokenClass, TokenUsage, UsageRecord, UsageSource, VirtualKeyId, Windows,
    },
    ledger::{self, Place, Reservation},
    limits::{InFlight, TokenDebit},
    telemetry::Counted,
    upstream::SentMark,
    wire::{Endpoint, Figure, Figures, UsageBounds, UsageRules},
};

/// What is written to the log and the record when a client left before anything was sent to it.
const CLIENT_GONE: u16 = 499;

/// What is known of a request before its first attempt.
pub(super) struct Facts {
    pub(super) request_id: RequestId,
    pub(super) arrived: Instant,
    pub(super) started_at: Timestamp,
    /// The windows and scopes in which its reservations are made, and its record counts.
    pub(super) windows: Windows,
    pub(super) scopes: Vec<Scope>,
    pub(super) endpoint: Endpoint,
    pub(super) tenant: TenantId,
    pub(super) virtual_key: VirtualKeyId,
    pub(super) requested: ModelName,
    pub(super) stream: bool,
    pub(super) tags: BTreeMap<String, String>,
}

/// An attempt under way.
pub(super) struct Live {
    pub(super) candidate: Candidate,
    pub(super) price: Option<Arc<ModelPrice>>,
    pub(super) tier: ServiceTier,
    pub(super) reservation: Reservation,
    pub(super) sent: SentMark,
    pub(super) started: Instant,
    /// What the input is taken for if the provider never says.
    pub(super) input_estimate: u64,
    /// The most that can be true of the provider's figures.
    pub(super) bounds: UsageBounds,
    pub(super) reasoning_apart: bool,
    /// HTTP status of the answer, once there is one.
    pub(super) status: Option<u16>,
    /// What the provider reported so far.
    pub(super) figures: Figures,
    /// Text relayed so far, in bytes.
    pub(super) text_bytes: u64,
    /// Whether the provider finished what it had to say, so that its figures are final.
    pub(super) complete: bool,
}

/// What an attempt is charged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Charge {
    /// Nothing: it was not sent, or refused by status.
    Nothing,
    /// What the provider reported, else an estimate.
    Used,
}

/// Counts one request.
pub(super) struct Meter {
    house: Arc<House>,
    facts: Facts,
    place: Option<Place>,
    tokens: Option<TokenDebit>,
    live: Option<Live>,
    attempts: Vec<AttemptRecord>,
    last: Option<Candidate>,
    usage: TokenUsage,
    /// Of all attempts with a price.
    cost: Option<NanoUsd>,
    /// Whether an attempt without a known price was charged.
    unpriced: bool,
    lines: Vec<CostLine>,
    clamped: NanoUsd,
    price_version: Option<Arc<str>>,
    source: UsageSource,
    first_token: Option<Instant>,
    status: u16,
    _counted: Counted,
    _in_flight: InFlight,
}

impl Meter {
    pub(super) fn new(
        house: Arc<House>,
        facts: Facts,
        place: Place,
        tokens: TokenDebit,
        in_flight: InFlight,
    ) -> Self {
        let counted = house.metrics.request_began();
        Self {
            house,
            facts,
            place: Some(place),
            tokens: Some(tokens),
            live: None,
            attempts: Vec::new(),
            last: None,
            usage: TokenUsage::default(),
            cost: None,
            unpriced: false,
            lines: Vec::new(),
            clamped: NanoUsd::ZERO,
            price_version: None,
            source: UsageSource::None,
            first_token: None,
            status: CLIENT_GONE,
            _counted: counted,
            _in_flight: in_flight,
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How many attempts were begun.
    pub(super) fn attempts(&self) -> usize {
        self.attempts.len() + usize::from(self.live.is_some())
    }

    /// An attempt begins; the one before has ended.
    pub(super) fn begin(&mut self, live: Live) {
        self.last = Some(live.candidate.clone());
        self.live = Some(live);
    }

    /// The attempt under way.
    pub(super) fn live(&mut self) -> Option<&mut Live> {
        self.live.as_mut()
    }

    /// The first meaningful event is here.
    pub(super) fn first_token(&mut self) {
        self.first_token.get_or_insert_with(Instant::now);
    }

    /// The head has gone to the client with this status.
    pub(super) fn committed(&mut self, status: u16) {
        self.status = status;
    }

    /// The attempt under way ends.
    pub(super) fn end_attempt(&mut self, outcome: AttemptOutcome, charge: Charge) {
        let Some(live) = self.live.take() else { return };
        let latency = live.started.elapsed();
        self.attempts.push(AttemptRecord {
            provider: live.candidate.model.provider.to_string(),
            model: live.candidate.model.model.to_string(),
            provider_key_id: live.candidate.key.id(),
            status: live.status,
            outcome,
            latency_ms: millis(latency),
        });
        let provider = live.candidate.model.provider.as_str();
        self.house.metrics.attempt_ended(provider, outcome.as_str(), latency);
        match charge {
            Charge::Nothing => live.reservation.release(),
            Charge::Used => self.settle(
                live.price,
                live.tier,
                live.reservation,
                Reported {
                    figures: live.figures,
                    bounds: live.bounds,
                    reasoning_apart: live.reasoning_apart,
                    input_estimate: live.input_estimate,
                    text_bytes: live.text_bytes,
                    complete: live.complete,
                },
            ),
        }
    }

    /// Settles one attempt.
    fn settle(
        &mut self,
        price: Option<Arc<ModelPrice>>,
        tier: ServiceTier,
        reservation: Reservation,
        reported: Reported,
    ) {
        let (usage, source, taken_away) = reported.read(price.as_deref(), tier);
        match price {
            Some(price) => {
                let cost = ledger::cost(&usage, &price, tier);
                let settled = reservation.settle(cost.total);
                self.clamped = self.clamped.plus(settled.clamped).plus(taken_away);
                self.cost = Some(self.cost.unwrap_or_default().plus(settled.charged));
                self.lines.extend(cost.lines);
                self.price_version = Some(Arc::clone(&price.version));
            }
            None => {
                reservation.release();
                self.unpriced = true;
            }
        }
        // An estimate in any attempt makes the whole an estimate.
        if self.source != UsageSource::Estimated {
            self.source = source;
        }
        self.usage = self.usage.plus(&usage);
    }

    /// The request ends: the record is handed over. Answers the cost.
    pub(super) fn finish(mut self, status: u16, outcome: Outcome) -> Option<NanoUsd> {
        self.status = status;
        self.record(outcome);
        self.known_cost()
    }

    /// What is known of the cost: nothing when no attempt that was charged had a price.
    fn known_cost(&self) -> Option<NanoUsd> {
        if self.unpriced { self.cost } else { Some(self.cost.unwrap_or_default()) }
    }

    /// Shutdown cuts the request before anything went to the client, which is answered with `status`.
    pub(super) fn cut(mut self, status: u16) {
        self.status = status;
        self.abandon(Outcome::CutShutdown);
    }

    /// The status of the last attempt's answer, if there was one.
    pub(super) fn last_status(&self) -> Option<u16> {
        self.attempts.last().and_then(|attempt| attempt.status)
    }

    /// Ends it as something that broke off by itself: the client, a deadline, shutdown.
    fn abandon(&mut self, outcome: Outcome) {
        if let Some(live) = &self.live {
            let (attempt, charge) = if live.sent.withdraw() {
                (AttemptOutcome::NotSent, Charge::Nothing)
            } else {
                (AttemptOutcome::ClientGone, Charge::Used)
            };
            self.end_attempt(attempt, charge);
        }
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        let Some(place) = self.place.take() else { return };
        if let Some(tokens) = self.tokens.take() {
            tokens.correct(self.usage.input_total().saturating_add(self.usage.output_total()));
        }
        let latency = self.facts.arrived.elapsed();
        let endpoint = self.facts.endpoint.path();
        let metrics = &self.house.metrics;
        metrics.request_ended(endpoint, self.facts.stream, self.status, outcome.as_str(), latency);
        // Without an attempt nothing happened that finance would ask about.
        let Some(last) = self.last.take() else { return };
        let first_token = self.first_token.map(|at| at.duration_since(self.facts.arrived));
        self.count(&last.model, first_token);
        tracing::debug!(
            request_id = %self.facts.request_id,
            tenant_id = %self.facts.tenant,
            virtual_key_id = %self.facts.virtual_key,
            model = %last.model,
            status = self.status,
            outcome = outcome.as_str(),
            attempts = self.attempts.len(),
            stream = self.facts.stream,
            input_tokens = self.usage.input_total(),
            output_tokens = self.usage.output_total(),
            latency_ms = millis(latency),
            "request.ended"
        );
        place.record(UsageRecord {
            request_id: self.facts.request_id,
            started_at: self.facts.started_at,
            windows: self.facts.windows,
            scopes: std::mem::take(&mut self.facts.scopes),
            tenant_id: self.facts.tenant,
            virtual_key_id: self.facts.virtual_key,
            provider_key_id: last.key.id(),
            requested_model: self.facts.requested.clone(),
            served_model: last.model,
            status: self.status,
            outcome,
            attempts: std::mem::take(&mut self.attempts),
            stream: self.facts.stream,
            usage: self.usage,
            cost: self.known_cost(),
            cost_lines: std::mem::take(&mut self.lines),
            clamped: self.clamped,
            price_version: self.price_version.take().map(|version| version.to_string()),
            usage_source: self.source,
            latency_ms: millis(latency),
            time_to_first_token_ms: first_token.filter(|_| self.facts.stream).map(millis),
            tags: std::mem::take(&mut self.facts.tags),
        });
    }
}

impl Meter {
    /// Counts what was used. Names outside the catalogue are lumped together by the metrics themselves.
    fn count(&self, model: &ModelRef, first_token: Option<Duration>) {
        let metrics = &self.house.metrics;
        let name = model.to_string();
        let provider = model.provider.as_str();
        if let Some(first_token) = first_token.filter(|_| self.facts.stream) {
            metrics.first_token_came(first_token);
        }
        for class in TokenClass::ALL {
            metrics.tokens_metered(provider, &name, class.as_str(), self.usage.of(class));
        }
        match self.known_cost() {
            Some(cost) => metrics.cost_settled(provider, &name, cost.nano().unsigned_abs()),
            None => {
                metrics.unpriced_requests.inc();
            }
        }
        metrics.clamped_nano_usd.inc_by(self.clamped.nano().unsigned_abs());
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.place.is_some() {
            let outcome =
                if self.house.cut.is_cancelled() { Outcome::CutShutdown } else { Outcome::ClientGone };
            self.abandon(outcome);
        }
    }
}

/// What one attempt reported, and what stands in where it did not.
struct Reported {
    figures: Figures,
    bounds: UsageBounds,
    reasoning_apart: bool,
    input_estimate: u64,
    text_bytes: u64,
    complete: bool,
}

impl Reported {
    /// The usage, where it comes from, and what a clamp of impossible figures took away. Each side that the provider
    /// left out is estimated; of an answer that broke off, its interim figures are the least that can be true.
    fn read(self, price: Option<&ModelPrice>, tier: ServiceTier) -> (TokenUsage, UsageSource, NanoUsd) {
        let rules = UsageRules { reasoning_apart: self.reasoning_apart };
        let within = self.figures.normalise(&rules, &self.bounds);
        let mut usage = within.usage;
        let mut estimated = false;
        // What is no count says nothing: it is estimated like what never came.
        let said = |figure| matches!(figure, Figure::Count(_));
        let input_unsaid = match self.figures.prompt {
            Figure::Absent => usage.input_total() == 0,
            other => !said(other),
        };
        if input_unsaid {
            usage = TokenUsage {
                output: usage.output,
                output_audio: usage.output_audio,
                reasoning: usage.reasoning,
                ..TokenUsage::default()
            };
            usage.input = self.input_estimate;
            estimated = true;
        }
        let relayed = ledger::estimated_tokens(self.text_bytes).min(self.bounds.worst_output);
        if self.figures.completion == Figure::Impossible {
            (usage.output, usage.output_audio, usage.reasoning) = (relayed, 0, 0);
            estimated = true;
        }
        let unsaid = self.figures.completion == Figure::Absent && relayed > 0;
        if (unsaid || !self.complete) && usage.output_total() < relayed {
            usage.output = relayed.saturating_sub(usage.output_audio);
            estimated = true;
        }
        let source = if estimated || !self.complete { UsageSource::Estimated } else { UsageSource::Provider };
        if !within.clamped {
            return (usage, source, NanoUsd::ZERO);
        }
        tracing::warn!("usage.impossible");
        let taken_away = price.map_or(NanoUsd::ZERO, |price| {
            let claimed = ledger::cost(&usage.plus(&within.taken), price, tier).total;
            claimed.minus(ledger::cost(&usage, price, tier).total).max(NanoUsd::ZERO)
        });
        (usage, source, taken_away)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
