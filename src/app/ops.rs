//! What machines ask the admin plane: `/health`, `/ready`, `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;

use crate::{
    gateway::House,
    ledger::Counts,
    limits::Counters,
    telemetry::{Metrics, metrics},
};

/// Their routes.
pub(super) fn router(house: Arc<House>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(scrape))
        .with_state(house)
}

/// The same as on the data plane.
async fn health(State(house): State<Arc<House>>) -> impl IntoResponse {
    let connected = house.store.is_healthy().await;
    let (code, status, database) = if connected {
        (StatusCode::OK, "healthy", "connected")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unhealthy", "disconnected")
    };
    let version = env!("CARGO_PKG_VERSION");
    (code, Json(json!({ "status": status, "service": "keystile", "version": version, "database": database })))
}

/// Whether to send requests here: not while draining, not while usage cannot be recorded or the database is gone.
async fn ready(State(house): State<Arc<House>>) -> impl IntoResponse {
    let reason = if house.draining.is_cancelled() {
        Some("draining")
    } else if house.ledger.is_usurped() {
        Some("another process runs on a copy of this data directory")
    } else if house.ledger.is_blocked() {
        Some("usage cannot be recorded")
    } else if !house.store.is_healthy().await {
        Some("the database does not answer")
    } else {
        None
    };
    match reason {
        None => (StatusCode::OK, Json(json!({ "status": "ready" }))),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "reason": reason })))
        }
    }
}

async fn scrape(State(house): State<Arc<House>>) -> impl IntoResponse {
    let counts = house.ledger.counts();
    house.metrics.record_queue_depth.set(i64::try_from(house.ledger.pending()).unwrap_or(i64::MAX));
    catch_up(&house.metrics.records_written, counts.applied);
    catch_up(&house.metrics.records_failed, counts.failures);
    house.metrics.reserved_nano_usd.set(house.ledger.accounts().reserved_total().nano());
    if let Counters::Redis(shared) = &house.counters {
        catch_up(&house.metrics.redis_failures, shared.failures());
        catch_up(&house.metrics.rate_corrections_dropped, shared.dropped());
        house.metrics.redis_up.set(shared.is_up().into());
    }
    export(&house.metrics, &counts);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], house.metrics.encode())
}

/// What the ledger counts of leases and of its journal.
fn export(metrics: &Metrics, counts: &Counts) {
    let Counts { leases_taken, fenced, refused, live_instances, journal, .. } = counts;
    for (counter, count) in [
        (&metrics.leases_taken, *leases_taken),
        (&metrics.leases_fenced, *fenced),
        (&metrics.journal_records, journal.records),
        (&metrics.journal_bytes, journal.bytes),
        (&metrics.journal_writes, journal.writes),
        (&metrics.journal_syncs, journal.syncs),
    ] {
        catch_up(counter, count);
    }
    metrics.live_instances.set(i64::from(*live_instances));
    metrics.stuck_records.set(i64::try_from(*refused).unwrap_or(i64::MAX));
    metrics.journal_broken.set(i64::from(journal.broken));
    for (gauge, count) in [
        (&metrics.journal_segments, journal.segments),
        (&metrics.journal_open, journal.open),
        (&metrics.journal_unapplied, journal.unapplied),
    ] {
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Brings a counter up to a count that is kept elsewhere. Two scrapes at once may not count the same step twice.
fn catch_up(counter: &Counter, count: u64) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    counter.inc_by(count.saturating_sub(counter.get()));
}
