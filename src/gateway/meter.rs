//! The one end of every request: settle what each attempt used, then hand over exactly one usage record. Whoever
//! drops a meter ends it, too: that is a client who left, and it neither blocks nor awaits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    House,
    error::GatewayError,
    plan::Candidate,
    settle::{Reading, Reported},
};
use crate::{
    catalogue::{ModelPrice, ServiceTier},
    domain::{
        AttemptOutcome, AttemptRecord, CostLine, ModelName, ModelRef, NanoUsd, Outcome, RequestId, Scope,
        SpendWindow, TenantId, Timestamp, TokenClass, TokenUsage, UsageRecord, UsageSource, VirtualKeyId,
        Windows,
    },
    ledger::{self, Charge as Charged, Closed, Place, Reservation, SentNote, Unrecordable},
    limits::{InFlight, TokenDebit},
    telemetry::Counted,
    upstream::SentMark,
    wire::{Endpoint, Figures, UsageBounds},
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
    pub(super) scopes: Arc<[Scope]>,
    pub(super) endpoint: Endpoint,
    pub(super) tenant: TenantId,
    pub(super) virtual_key: VirtualKeyId,
    pub(super) requested: ModelName,
    pub(super) stream: bool,
    /// The hard caps that it is admitted under.
    pub(super) hard: Arc<[(Scope, SpendWindow, NanoUsd)]>,
    pub(super) tags: Arc<BTreeMap<String, String>>,
}

/// What is known of an attempt before it is sent.
pub(super) struct Beginning {
    pub(super) candidate: Candidate,
    pub(super) price: Option<Arc<ModelPrice>>,
    pub(super) tier: ServiceTier,
    pub(super) reservation: Reservation,
    /// What the input is taken for if the provider never says.
    pub(super) input_estimate: u64,
    /// The most that can be true of the provider's figures.
    pub(super) bounds: UsageBounds,
    pub(super) reasoning_apart: bool,
}

/// An attempt under way.
pub(super) struct Live {
    beginning: Beginning,
    sent: SentMark,
    note: SentNote,
    started: Instant,
    pub(super) tier: ServiceTier,
    /// HTTP status of the answer, once there is one.
    pub(super) status: Option<u16>,
    /// What the provider reported so far.
    pub(super) figures: Figures,
    /// Text relayed so far, in bytes.
    pub(super) text_bytes: u64,
    /// Whether the provider finished what it had to say, so that its figures are final.
    pub(super) complete: bool,
}

impl Live {
    /// What was known of it before it was sent.
    pub(super) fn beginning(&self) -> &Beginning {
        &self.beginning
    }
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

    /// An attempt begins; the one before has ended. Nothing may be sent but under the mark that it answers.
    ///
    /// # Errors
    /// 503 when it cannot be noted; nothing is reserved then.
    pub(super) fn begin(&mut self, beginning: Beginning) -> Result<SentMark, GatewayError> {
        let before = self.last.replace(beginning.candidate.clone());
        let (charge, stake) =
            (self.charge_if_lost(&beginning), Reported::nothing(&beginning).stake(&beginning));
        let opened = self.place.as_mut().ok_or(Unrecordable).and_then(|place| place.open(&charge, &stake));
        let Ok(note) = opened else {
            self.last = before;
            return Err(GatewayError::LedgerUnavailable);
        };
        let sent = SentMark::new({
            let note = note.clone();
            move || note.sent()
        });
        self.live = Some(Live {
            sent: sent.clone(),
            note,
            started: Instant::now(),
            tier: beginning.tier,
            status: None,
            figures: Figures::default(),
            text_bytes: 0,
            complete: false,
            beginning,
        });
        Ok(sent)
    }

    /// Where a record must be on the disk before anything is sent, waits until it is.
    pub(super) async fn note_ahead(&self) -> Result<(), Unrecordable> {
        match &self.live {
            Some(live) => live.note.ahead().await,
            None => Ok(()),
        }
    }

    /// Notes how much the attempt under way has used so far.
    pub(super) fn note_progress(&self) {
        if let (Some(live), Some(place)) = (&self.live, &self.place) {
            let mut stake = Reported::of(live).stake(&live.beginning);
            stake.first_token_ms = self.first_token_ms();
            place.progress(&stake);
        }
    }

    /// What is recorded if this process dies before it can say more, and nothing of the attempt was sent.
    fn charge_if_lost(&self, beginning: &Beginning) -> Charged {
        let mut attempts = Vec::with_capacity(self.attempts.len() + 1);
        attempts.extend_from_slice(&self.attempts);
        attempts.push(AttemptRecord {
            provider: beginning.candidate.model.provider.clone(),
            model: beginning.candidate.model.model.clone(),
            provider_key_id: beginning.candidate.key.id(),
            status: None,
            outcome: AttemptOutcome::Ambiguous,
            latency_ms: 0,
        });
        let lines = self.lines.clone();
        let record = self.draft(&beginning.candidate, Outcome::Recovered, attempts, lines);
        Charged { record, hard: Arc::clone(&self.facts.hard) }
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
            provider: live.beginning.candidate.model.provider.clone(),
            model: live.beginning.candidate.model.model.clone(),
            provider_key_id: live.beginning.candidate.key.id(),
            status: live.status,
            outcome,
            latency_ms: millis(latency),
        });
        let provider = live.beginning.candidate.model.provider.as_str();
        self.house.metrics.attempt_ended(provider, outcome.as_str(), latency);
        match charge {
            Charge::Nothing => live.beginning.reservation.release(),
            Charge::Used => self.settle(Reported::of(&live), live),
        }
    }

    /// Settles one attempt.
    fn settle(&mut self, reported: Reported, live: Live) {
        let Live { beginning: Beginning { price, reservation, .. }, tier, .. } = live;
        let Reading { usage, source, taken_away, impossible } = reported.read(price.as_deref());
        if impossible {
            tracing::warn!("usage.impossible");
        }
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

    /// The request ends: the record is handed over.
    pub(super) fn finish(mut self, status: u16, outcome: Outcome) -> Finished {
        self.status = status;
        let closed = self.record(outcome);
        Finished { cost: self.known_cost(), closed }
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

    fn first_token_ms(&self) -> Option<u64> {
        self.first_token.filter(|_| self.facts.stream).map(|at| millis(at.duration_since(self.facts.arrived)))
    }

    /// The request as it stands, with these attempts and what they cost.
    fn draft(
        &self,
        last: &Candidate,
        outcome: Outcome,
        attempts: Vec<AttemptRecord>,
        cost_lines: Vec<CostLine>,
    ) -> UsageRecord {
        UsageRecord {
            request_id: self.facts.request_id,
            started_at: self.facts.started_at,
            windows: self.facts.windows,
            scopes: Arc::clone(&self.facts.scopes),
            tenant_id: self.facts.tenant,
            virtual_key_id: self.facts.virtual_key,
            provider_key_id: last.key.id(),
            requested_model: self.facts.requested.clone(),
            served_model: last.model.clone(),
            status: self.status,
            outcome,
            attempts,
            stream: self.facts.stream,
            usage: self.usage,
            cost: self.known_cost(),
            cost_lines,
            clamped: self.clamped,
            price_version: self.price_version.clone(),
            usage_source: self.source,
            latency_ms: millis(self.facts.arrived.elapsed()),
            time_to_first_token_ms: self.first_token_ms(),
            tags: Arc::clone(&self.facts.tags),
        }
    }

    fn record(&mut self, outcome: Outcome) -> Option<Closed> {
        let place = self.place.take()?;
        if let Some(tokens) = self.tokens.take() {
            tokens.correct(self.usage.input_total().saturating_add(self.usage.output_total()));
        }
        let latency = self.facts.arrived.elapsed();
        let endpoint = self.facts.endpoint.path();
        let metrics = &self.house.metrics;
        metrics.request_ended(endpoint, self.facts.stream, self.status, outcome.as_str(), latency);
        // Without an attempt nothing happened that finance would ask about.
        let last = self.last.take()?;
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
        // The end: nothing asks the meter for them after this.
        let (attempts, lines) = (std::mem::take(&mut self.attempts), std::mem::take(&mut self.lines));
        let record = self.draft(&last, outcome, attempts, lines);
        Some(place.record(Charged { record, hard: Arc::clone(&self.facts.hard) }))
    }
}

/// A request that has ended and is recorded.
#[must_use = "the client may see the end only when the record is safe"]
pub(super) struct Finished {
    /// What it cost, as far as a price is known.
    pub(super) cost: Option<NanoUsd>,
    closed: Option<Closed>,
}

impl Finished {
    /// Whether the record already survives what it is meant to survive.
    pub(super) fn is_safe(&self) -> bool {
        self.closed.as_ref().is_none_or(Closed::is_safe)
    }

    /// Waits until it does.
    pub(super) fn safe(self) -> impl Future<Output = ()> + Send + 'static {
        let closed = self.closed.map(Closed::safe);
        async move {
            if let Some(closed) = closed {
                closed.await;
            }
        }
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
