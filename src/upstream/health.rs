//! Which provider keys rest for a while: after a 429 as long as the provider asked, after repeated failures for half
//! a minute. When the rest is over one request probes; the others wait for what it finds. In memory, per instance:
//! a restart forgives everybody.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
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
/// How long it rests after a refusal that is about money at the provider, which no waiting mends soon.
const REST_AFTER_BILLING: Duration = Duration::from_secs(3_600);
/// The longest rest that a provider's `retry-after` can ask for.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// A probe that has not reported by then is forgotten and another may go.
const PROBE_FOR: Duration = Duration::from_secs(30);
/// Models remembered of one key: names come from requests, so that a tenant could make up any number of them.
const MODELS_A_KEY: usize = 64;

/// Keys remembered before those that have recovered are forgotten.
const KEYS_BEFORE_SWEEP: usize = 1_024;

/// How a provider key stands for one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May be used.
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

impl Record {
    fn standing(&self, now: Instant) -> Standing {
        let resting = self.resting_until.is_some_and(|until| now < until);
        let probed =
            self.resting_until.is_some() && self.probing_since.is_some_and(|since| now < since + PROBE_FOR);
        if resting || probed { Standing::Resting } else { Standing::Healthy }
    }
}

type Models = Arc<Mutex<HashMap<ModelName, Record>>>;

/// The health of every provider key that has failed lately. Keys do not wait for one another.
#[derive(Default)]
pub struct Health {
    /// How many keys are remembered, so that a healthy house takes no lock.
    troubled: AtomicUsize,
    keys: RwLock<HashMap<ProviderKeyId, Models>>,
}

fn lock(models: &Models) -> MutexGuard<'_, HashMap<ModelName, Record>> {
    models.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    fn models(&self, key: ProviderKeyId) -> Option<Models> {
        if self.troubled.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// How `key` stands for `model` now.
    pub fn standing(&self, key: ProviderKeyId, model: &ModelName, now: Instant) -> Standing {
        let Some(models) = self.models(key) else { return Standing::Healthy };
        lock(&models).get(model).map_or(Standing::Healthy, |record| record.standing(now))
    }

    /// An attempt begins. After a rest it is the probe, and others see the key rest until it has reported.
    pub fn begins(&self, key: ProviderKeyId, model: &ModelName, now: Instant) {
        let Some(models) = self.models(key) else { return };
        if let Some(record) = lock(&models).get_mut(model)
            && record.resting_until.is_some_and(|until| now >= until)
        {
            record.probing_since = Some(now);
        }
    }

    /// An attempt was answered. That of an older request says nothing about a rest that was asked for since.
    pub fn succeeded(&self, key: ProviderKeyId, model: &ModelName, now: Instant) {
        let Some(models) = self.models(key) else { return };
        let mut models = lock(&models);
        if models.get(model).is_some_and(|record| record.resting_until.is_none_or(|until| now >= until)) {
            models.remove(model);
        }
    }

    /// An attempt failed. Answers whether the key rests now because of it.
    pub fn failed(&self, key: ProviderKeyId, model: &ModelName, failure: &Failure, now: Instant) -> bool {
        if !failure.blames_the_key() {
            return false;
        }
        let models = {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            if keys.len() > KEYS_BEFORE_SWEEP {
                keys.retain(|known, models| *known == key || !lock(models).is_empty());
            }
            let models = Arc::clone(keys.entry(key).or_default());
            self.troubled.store(keys.len(), Ordering::Release);
            models
        };
        let mut models = lock(&models);
        if models.len() >= MODELS_A_KEY && !models.contains_key(model) {
            models.retain(|_, record| record.standing(now) == Standing::Resting);
            if models.len() >= MODELS_A_KEY {
                return false;
            }
        }
        let record = models.entry(model.clone()).or_default();
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

    fn house() -> (Health, ProviderKeyId, Instant) {
        (Health::default(), ProviderKeyId::generate(), Instant::now())
    }

    #[test]
    fn a_429_rests_as_long_as_asked_but_not_for_ever() {
        let (health, key, now) = house();
        assert!(health.failed(key, &model(), &status(429, Some(7)), now));
        assert_eq!(health.standing(key, &model(), now + Duration::from_secs(6)), Standing::Resting);
        assert_eq!(health.standing(key, &model(), now + Duration::from_secs(8)), Standing::Healthy);
        health.failed(key, &model(), &status(429, Some(1_000_000)), now);
        assert_eq!(health.standing(key, &model(), now + LONGEST_REST + PROBE_FOR), Standing::Healthy);
    }

    #[test]
    fn one_server_error_is_forgiven_and_three_in_a_row_are_not() {
        let (health, key, now) = house();
        assert!(!health.failed(key, &model(), &status(500, None), now));
        health.succeeded(key, &model(), now);
        assert!(!health.failed(key, &model(), &status(500, None), now));
        assert!(!health.failed(key, &model(), &status(500, None), now));
        assert_eq!(health.standing(key, &model(), now), Standing::Healthy);
        assert!(health.failed(key, &model(), &status(500, None), now));
        assert_eq!(health.standing(key, &model(), now), Standing::Resting);
    }

    #[test]
    fn a_rest_outlives_the_answers_of_older_requests_and_refusals_of_newer_ones() {
        let (health, key, now) = house();
        health.failed(key, &model(), &status(429, Some(300)), now);
        health.succeeded(key, &model(), now + Duration::from_secs(1));
        health.failed(key, &model(), &status(400, None), now + Duration::from_secs(2));
        assert_eq!(health.standing(key, &model(), now + Duration::from_secs(3)), Standing::Resting);
    }

    #[test]
    fn after_a_rest_the_first_that_begins_probes_and_a_failed_probe_rests_again() {
        let (health, key, now) = house();
        health.failed(key, &model(), &status(429, Some(1)), now);
        let later = now + Duration::from_secs(2);
        for _ in 0..3 {
            assert_eq!(health.standing(key, &model(), later), Standing::Healthy, "planning is no probe");
        }
        health.begins(key, &model(), later);
        assert_eq!(health.standing(key, &model(), later), Standing::Resting, "everybody else waits");
        assert!(health.failed(key, &model(), &status(500, None), later));
        assert_eq!(health.standing(key, &model(), later + Duration::from_secs(1)), Standing::Resting);
        health.begins(key, &model(), later + REST);
        health.succeeded(key, &model(), later + REST);
        assert_eq!(health.standing(key, &model(), later + REST), Standing::Healthy);
    }

    #[test]
    fn a_refused_request_does_not_speak_against_the_key() {
        let (health, key, now) = house();
        for _ in 0..10 {
            assert!(!health.failed(key, &model(), &status(400, None), now));
        }
        assert_eq!(health.standing(key, &model(), now), Standing::Healthy);
    }

    #[test]
    fn made_up_models_do_not_fill_the_memory() {
        let (health, key, now) = house();
        for number in 0..10 * MODELS_A_KEY {
            let model = ModelName::parse(&format!("m{number}")).expect("a name");
            health.failed(key, &model, &status(429, Some(600)), now);
        }
        let models = health.models(key).expect("remembered");
        assert_eq!(lock(&models).len(), MODELS_A_KEY);
    }
}
