//! Which provider keys rest for a while: after a 429 as long as the provider asked, after repeated failures for half
//! a minute. When the rest is over one request probes; the others wait for what it finds. In memory, per instance:
//! a restart forgives everybody.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Failure;
use crate::domain::{ModelName, ProviderKeyId};

/// Failures in a row that make a key rest.
const FAILURES_TO_REST: u32 = 3;
/// How long it rests then.
const REST: Duration = Duration::from_secs(30);
/// How long it rests after a 429 that names no time.
const REST_AFTER_429: Duration = Duration::from_secs(5);
/// How long it rests after a 429 or 402-like refusal that is about money at the provider, which no waiting mends soon.
const REST_AFTER_BILLING: Duration = Duration::from_secs(3_600);
/// The longest rest that a provider's `retry-after` can ask for.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// A probe that has not reported by then is forgotten and another may go.
const PROBE_FOR: Duration = Duration::from_secs(30);
/// Keys and models that are remembered; healthy ones are forgotten at once.
const MOST_REMEMBERED: usize = 100_000;

/// How a provider key stands for one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May be used. After a rest only one request sees this, until it has reported.
    Healthy,
    /// Rests: to be used only when nothing else is left.
    Resting,
}

#[derive(Default)]
struct Record {
    failures: u32,
    resting_until: Option<Instant>,
    probing_since: Option<Instant>,
}

/// The health of every provider key that has failed lately.
#[derive(Default)]
pub struct Health {
    /// How many are remembered, so that a healthy house takes no lock.
    troubled: AtomicUsize,
    records: Mutex<HashMap<(ProviderKeyId, ModelName), Record>>,
}

impl Health {
    /// How `key` stands for `model` now. Takes the right to probe, where there is one to take.
    pub fn standing(&self, key: ProviderKeyId, model: &ModelName, now: Instant) -> Standing {
        if self.troubled.load(Ordering::Acquire) == 0 {
            return Standing::Healthy;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = records.get_mut(&(key, model.clone())) else { return Standing::Healthy };
        match record.resting_until {
            None => Standing::Healthy,
            Some(until) if now < until => Standing::Resting,
            Some(_) if record.probing_since.is_some_and(|since| now < since + PROBE_FOR) => Standing::Resting,
            Some(_) => {
                record.probing_since = Some(now);
                Standing::Healthy
            }
        }
    }

    /// An attempt was answered.
    pub fn succeeded(&self, key: ProviderKeyId, model: &ModelName) {
        if self.troubled.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.remove(&(key, model.clone()));
        self.troubled.store(records.len(), Ordering::Release);
    }

    /// An attempt failed. Answers whether the key rests now.
    pub fn failed(&self, key: ProviderKeyId, model: &ModelName, failure: &Failure, now: Instant) -> bool {
        if !failure.blames_the_key() {
            self.succeeded(key, model);
            return false;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= MOST_REMEMBERED {
            records.retain(|_, record| record.resting_until.is_some_and(|until| until > now));
        }
        let record = records.entry((key, model.clone())).or_default();
        record.failures = record.failures.saturating_add(1);
        let probe_failed = record.probing_since.take().is_some();
        let rest = match failure {
            Failure::Rejected { status: 429, error, retry_after } => match retry_after {
                Some(asked) => Some((*asked).min(LONGEST_REST)),
                None if error.billing => Some(REST_AFTER_BILLING),
                None => Some(REST_AFTER_429),
            },
            Failure::Rejected { status: 401 | 403, .. } | Failure::Unusable(_) => Some(REST),
            _ if probe_failed || record.failures >= FAILURES_TO_REST => Some(REST),
            _ => None,
        };
        if let Some(rest) = rest {
            record.resting_until = Some(record.resting_until.unwrap_or(now).max(now + rest));
        }
        self.troubled.store(records.len(), Ordering::Release);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelName {
        ModelName::parse("m").expect("a name")
    }

    fn status(status: u16, retry_after: Option<u64>) -> Failure {
        Failure::Rejected { status, error: Box::default(), retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn a_429_rests_as_long_as_asked_but_not_for_ever() {
        let (health, key, now) = (Health::default(), ProviderKeyId::generate(), Instant::now());
        assert!(health.failed(key, &model(), &status(429, Some(7)), now));
        assert_eq!(health.standing(key, &model(), now + Duration::from_secs(6)), Standing::Resting);
        assert_eq!(health.standing(key, &model(), now + Duration::from_secs(8)), Standing::Healthy);
        health.failed(key, &model(), &status(429, Some(1_000_000)), now);
        assert_eq!(health.standing(key, &model(), now + LONGEST_REST + PROBE_FOR), Standing::Healthy);
    }

    #[test]
    fn one_server_error_is_forgiven_and_three_in_a_row_are_not() {
        let (health, key, now) = (Health::default(), ProviderKeyId::generate(), Instant::now());
        assert!(!health.failed(key, &model(), &status(500, None), now));
        assert!(!health.failed(key, &model(), &status(500, None), now));
        assert_eq!(health.standing(key, &model(), now), Standing::Healthy);
        assert!(health.failed(key, &model(), &status(500, None), now));
        assert_eq!(health.standing(key, &model(), now), Standing::Resting);
    }

    #[test]
    fn after_a_rest_one_request_probes_and_a_failed_probe_rests_again() {
        let (health, key, now) = (Health::default(), ProviderKeyId::generate(), Instant::now());
        health.failed(key, &model(), &status(429, Some(1)), now);
        let later = now + Duration::from_secs(2);
        assert_eq!(health.standing(key, &model(), later), Standing::Healthy, "the probe");
        assert_eq!(health.standing(key, &model(), later), Standing::Resting, "everybody else");
        assert!(health.failed(key, &model(), &status(500, None), later));
        assert_eq!(health.standing(key, &model(), later + Duration::from_secs(1)), Standing::Resting);
        health.succeeded(key, &model());
        assert_eq!(health.standing(key, &model(), later), Standing::Healthy);
    }

    #[test]
    fn a_refused_request_does_not_speak_against_the_key() {
        let (health, key, now) = (Health::default(), ProviderKeyId::generate(), Instant::now());
        for _ in 0..10 {
            assert!(!health.failed(key, &model(), &status(400, None), now));
        }
        assert_eq!(health.standing(key, &model(), now), Standing::Healthy);
    }
}
