//! Every metric, named once, with labels from closed sets.
//!
//! A label is a constant of the program, a number of a few hundred, or a name out of the catalogue as it was when the
//! process began: a provider that is not in it is `custom`, a model `other`. So no request, tenant or key can make a new
//! series, and none can be read from one. Nothing on a request's way allocates, except the first time a series is seen.

use std::{collections::HashSet, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds. From an answer out of a local model to a long stream.
const DURATION_BUCKETS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Seconds.
const FIRST_TOKEN_BUCKETS: [f64; 13] =
    [0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0];

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Applications.
    Data,
    /// People and their tools.
    Admin,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    status: u16,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    endpoint: &'static str,
    stream: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    provider: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    provider: Arc<str>,
    model: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    provider: Arc<str>,
    model: Arc<str>,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaneLabels {
    plane: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric of the process. Those without labels are open for whoever keeps them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    providers: Names,
    models: Names,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histograms<DurationLabels>,
    time_to_first_token: Histogram,
    attempts: Family<AttemptLabels, Counter>,
    upstream_duration: Histograms<ProviderLabels>,
    tokens: Family<TokenLabels, Counter>,
    cost: Family<ModelLabels, Counter>,
    refusals: Family<CodeLabels, Counter>,
    cooldowns: Family<ProviderLabels, Counter>,
    vault_open_failures: Family<ReasonLabels, Counter>,
    requests_in_flight: Gauge,
    data_connections: Gauge,
    admin_connections: Gauge,
    /// Nano-USD that stand reserved for requests in flight.
    pub reserved_nano_usd: Gauge,
    /// Usage records that wait for the database.
    pub record_queue_depth: Gauge,
    /// Usage records that are in the database.
    pub records_written: Counter,
    /// Tries to write usage records that failed; the records wait and are tried again.
    pub records_failed: Counter,
    /// 1 while Redis answers; 0 while it does not, and where there is none.
    pub redis_up: Gauge,
    /// Calls of Redis that failed or took too long, and tries to connect that did.
    pub redis_failures: Counter,
    /// Corrections of tokens a minute that Redis was never told.
    pub rate_corrections_dropped: Counter,
    /// Instances that share the database, this one included.
    pub live_instances: Gauge,
    /// Leases on caps that were taken or looked at.
    pub leases_taken: Counter,
    /// Times that this instance found its leases given away.
    pub leases_fenced: Counter,
    /// Records that were queued for the journal.
    pub journal_records: Counter,
    /// Bytes that were written to the journal.
    pub journal_bytes: Counter,
    /// Writes to the journal, each of one record or many.
    pub journal_writes: Counter,
    /// Rounds of syncing the journal.
    pub journal_syncs: Counter,
    /// Segments of the journal on the disk.
    pub journal_segments: Gauge,
    /// Requests that are open in the journal.
    pub journal_open: Gauge,
    /// Closed requests in the journal that the database does not have yet.
    pub journal_unapplied: Gauge,
    /// Usage records that the database refuses for what they are, set aside.
    pub stuck_records: Gauge,
    /// 1 when the journal's disk has failed and nothing new is taken.
    pub journal_broken: Gauge,
    /// Requests whose cost is unknown, because their model has no price.
    pub unpriced_requests: Counter,
    /// Nano-USD that providers reported beyond what was reserved under a hard cap.
    pub clamped_nano_usd: Counter,
    /// Checkpoints of the audit log that reached the operator's sink.
    pub audit_checkpoints: Counter,
    /// Tries to hand over a checkpoint that failed and are made again.
    pub audit_checkpoint_failures: Counter,
    /// What looked like credentials and was taken out of log lines. Anything but 0 is a bug of ours.
    pub scrubbed: Counter,
}

impl Metrics {
    /// Fresh metrics. `providers` are the catalogue's slugs, `models` its upstream model names; other names are never
    /// shown.
    pub fn new<'a>(
        providers: impl IntoIterator<Item = &'a str>,
        models: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut registry = Registry::with_prefix("keystile");
        let all = &mut registry;
        let connections: Family<PlaneLabels, Gauge> =
            register(all, "connections", "Open connections, by listener", Family::default());
        // Each in a statement of its own: the lock that `get_or_create` hands out lives to the statement's end, and the
        // second would wait for the first for ever.
        let data_connections = connections.get_or_create(&PlaneLabels { plane: "data" }).clone();
        let admin_connections = connections.get_or_create(&PlaneLabels { plane: "admin" }).clone();
        Self {
            providers: Names::new(providers, "custom"),
            models: Names::new(models, "other"),
            // The library adds `_total` to the name of a counter.
            requests: register(
                all,
                "requests",
                "Requests that were answered, by endpoint, status sent and outcome",
                Family::default(),
            ),
            request_duration: register(
                all,
                "request_duration_seconds",
                "From a request's arrival to the end of its answer",
                Family::new_with_constructor(duration_histogram as fn() -> Histogram),
            ),
            time_to_first_token: register(
                all,
                "time_to_first_token_seconds",
                "From a streamed request's arrival to its first meaningful event",
                Histogram::new(FIRST_TOKEN_BUCKETS),
            ),
            attempts: register(all, "upstream_attempts", "Calls to providers, by outcome", Family::default()),
            upstream_duration: register(
                all,
                "upstream_duration_seconds",
                "From the start of a call to a provider to its end",
                Family::new_with_constructor(duration_histogram as fn() -> Histogram),
            ),
            tokens: register(all, "tokens", "Tokens that were metered, by class", Family::default()),
            cost: register(all, "cost_nano_usd", "Cost that was settled, in nano-USD", Family::default()),
            refusals: register(
                all,
                "refusals",
                "Requests that were refused before any call to a provider, by error code",
                Family::default(),
            ),
            cooldowns: register(
                all,
                "cooldowns",
                "Times that a provider key was set aside after failures",
                Family::default(),
            ),
            vault_open_failures: register(
                all,
                "vault_open_failures",
                "Stored provider keys that did not open for a request, by reason; anything but 0 needs a person",
                Family::default(),
            ),
            requests_in_flight: register(
                all,
                "requests_in_flight",
                "Requests that have begun and not ended",
                Gauge::default(),
            ),
            data_connections,
            admin_connections,
            reserved_nano_usd: register(
                all,
                "reserved_nano_usd",
                "Spend that stands reserved for requests in flight, in nano-USD",
                Gauge::default(),
            ),
            record_queue_depth: register(
                all,
                "record_queue_depth",
                "Usage records that wait for the database",
                Gauge::default(),
            ),
            records_written: register(
                all,
                "records_written",
                "Usage records that were written to the database",
                Counter::default(),
            ),
            records_failed: register(
                all,
                "records_failed",
                "Tries to write usage records that failed and are made again",
                Counter::default(),
            ),
            redis_up: register(
                all,
                "redis_up",
                "Whether Redis answers; 0 where there is none",
                Gauge::default(),
            ),
            redis_failures: register(
                all,
                "redis_failures",
                "Calls of Redis that failed or took too long, and tries to connect that did",
                Counter::default(),
            ),
            rate_corrections_dropped: register(
                all,
                "rate_corrections_dropped",
                "Corrections of tokens a minute that Redis was never told",
                Counter::default(),
            ),
            live_instances: register(
                all,
                "instances_live",
                "Gateways that share the database and are heard of, this one included",
                Gauge::default(),
            ),
            leases_taken: register(
                all,
                "leases_taken",
                "Leases on caps that were taken or looked at",
                Counter::default(),
            ),
            leases_fenced: register(
                all,
                "leases_fenced",
                "Times that this gateway found its leases given away",
                Counter::default(),
            ),
            journal_records: register(
                all,
                "journal_records",
                "Records that were queued for the journal",
                Counter::default(),
            ),
            journal_bytes: register(
                all,
                "journal_bytes",
                "Bytes that were written to the journal",
                Counter::default(),
            ),
            journal_writes: register(
                all,
                "journal_writes",
                "Writes to the journal, each of one record or many",
                Counter::default(),
            ),
            journal_syncs: register(
                all,
                "journal_syncs",
                "Rounds of syncing the journal",
                Counter::default(),
            ),
            journal_segments: register(
                all,
                "journal_segments",
                "Segments of the journal on the disk",
                Gauge::default(),
            ),
            journal_open: register(
                all,
                "journal_open",
                "Requests that are open in the journal",
                Gauge::default(),
            ),
            journal_unapplied: register(
                all,
                "journal_unapplied",
                "Closed requests in the journal that the database does not have yet",
                Gauge::default(),
            ),
            stuck_records: register(
                all,
                "ledger_stuck_records",
                "Usage records that the database refuses for what they are, set aside and tried again now and then",
                Gauge::default(),
            ),
            journal_broken: register(
                all,
                "journal_broken",
                "1 when the journal's disk has failed and nothing new is taken",
                Gauge::default(),
            ),
            unpriced_requests: register(
                all,
                "unpriced_requests",
                "Requests whose cost is unknown for want of a price",
                Counter::default(),
            ),
            clamped_nano_usd: register(
                all,
                "clamped_nano_usd",
                "Cost that providers reported beyond its reservation under a hard cap, in nano-USD",
                Counter::default(),
            ),
            audit_checkpoints: register(
                all,
                "audit_checkpoints",
                "Signed checkpoints of the audit log that reached the configured sink",
                Counter::default(),
            ),
            audit_checkpoint_failures: register(
                all,
                "audit_checkpoint_failures",
                "Tries to hand over a checkpoint of the audit log that failed and are made again",
                Counter::default(),
            ),
            scrubbed: register(
                all,
                "scrubbed",
                "Texts that looked like credentials and were taken out of log lines; anything but 0 is a bug",
                Counter::default(),
            ),
            registry,
        }
    }

    /// A request has begun; it ends when the guard is dropped.
    #[must_use = "the request counts as ended when this is dropped"]
    pub fn request_began(&self) -> Counted {
        Counted::new(&self.requests_in_flight)
    }

    /// A connection is open until the guard is dropped.
    #[must_use = "the connection counts as closed when this is dropped"]
    pub fn connection_opened(&self, plane: Plane) -> Counted {
        Counted::new(match plane {
            Plane::Data => &self.data_connections,
            Plane::Admin => &self.admin_connections,
        })
    }

    /// A request has been answered: at `endpoint` (its path), with the status and outcome that its usage record has.
    pub fn request_ended(
        &self,
        endpoint: &'static str,
        stream: bool,
        status: u16,
        outcome: &'static str,
        duration: Duration,
    ) {
        self.requests.get_or_create(&RequestLabels { endpoint, status, outcome }).inc();
        self.request_duration
            .get_or_create(&DurationLabels { endpoint, stream })
            .observe(duration.as_secs_f64());
    }

    /// A request was refused with the error code `code` before any call to a provider.
    pub fn request_refused(&self, code: &'static str) {
        self.refusals.get_or_create(&CodeLabels { code }).inc();
    }

    /// A stream's first meaningful event came, so long after the request's arrival.
    pub fn first_token_came(&self, after: Duration) {
        self.time_to_first_token.observe(after.as_secs_f64());
    }

    /// A call to a provider has ended.
    pub fn attempt_ended(&self, provider: &str, outcome: &'static str, duration: Duration) {
        let provider = self.providers.label(provider);
        self.attempts.get_or_create(&AttemptLabels { provider: Arc::clone(&provider), outcome }).inc();
        self.upstream_duration.get_or_create(&ProviderLabels { provider }).observe(duration.as_secs_f64());
    }

    /// Tokens of one class were metered. Nothing is counted for 0.
    pub fn tokens_metered(&self, provider: &str, model: &str, class: &'static str, tokens: u64) {
        if tokens > 0 {
            let labels = TokenLabels {
                provider: self.providers.label(provider),
                model: self.models.label(model),
                class,
            };
            self.tokens.get_or_create(&labels).inc_by(tokens);
        }
    }

    /// A cost was settled.
    pub fn cost_settled(&self, provider: &str, model: &str, nano_usd: u64) {
        let labels =
            ModelLabels { provider: self.providers.label(provider), model: self.models.label(model) };
        self.cost.get_or_create(&labels).inc_by(nano_usd);
    }

    /// A provider key was set aside after failures.
    pub fn cooldown_began(&self, provider: &str) {
        self.cooldowns.get_or_create(&ProviderLabels { provider: self.providers.label(provider) }).inc();
    }

    /// A stored provider key did not open for a request.
    pub fn vault_open_failed(&self, reason: &'static str) {
        self.vault_open_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// All metrics in the OpenMetrics text format, [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("writing to a string does not fail");
        page
    }
}

/// Counts one until it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The names that may be a label, and the one that stands for all others.
#[derive(Debug)]
struct Names {
    known: HashSet<Arc<str>>,
    other: Arc<str>,
}

impl Names {
    fn new<'a>(known: impl IntoIterator<Item = &'a str>, other: &str) -> Self {
        Self { known: known.into_iter().map(Arc::from).collect(), other: other.into() }
    }

    fn label(&self, name: &str) -> Arc<str> {
        Arc::clone(self.known.get(name).unwrap_or(&self.other))
    }
}

fn register<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
    metric
}

fn duration_histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
