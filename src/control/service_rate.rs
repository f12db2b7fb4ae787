//! How often one service token may ask for keys. Each instance counts for itself; a service keeps what it fetched and asks
//! again when it starts or when its key stops working, so the limit stands against loops and not against work.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    NotUntil, Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos,
    state::keyed::HashMapStateStore,
};

use crate::{domain::ServiceTokenId, limits::Ticks};

/// Requests a minute and token, and how many of them at once.
pub(super) const FETCHES: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
/// Refusals for this reason that are audited, a minute and token: they cannot flood the log.
const NOTES: NonZeroU32 = NonZeroU32::MIN;
/// Tokens that are remembered before those that have been quiet are forgotten.
const MANY: usize = 4_096;

type Keyed = RateLimiter<ServiceTokenId, HashMapStateStore<ServiceTokenId>, Ticks, NoOpMiddleware<Nanos>>;

/// What each service token has left.
#[derive(Debug)]
pub(super) struct ServiceRate {
    fetches: Keyed,
    notes: Keyed,
    ticks: Ticks,
}

/// A request beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooOften {
    /// Until one is free.
    pub retry_after: Duration,
    /// Whether the audit log hears of it.
    pub note: bool,
}

impl ServiceRate {
    /// With everything left.
    pub(super) fn new(ticks: Ticks) -> Self {
        let keyed = |quota| Keyed::hashmap_with_clock(Quota::per_minute(quota), ticks.clone());
        Self { fetches: keyed(FETCHES), notes: keyed(NOTES), ticks }
    }

    /// Takes one request of `token`, which must be one that lives: strangers are not remembered here.
    pub(super) fn take(&self, token: ServiceTokenId) -> Result<(), TooOften> {
        if self.fetches.len() > MANY {
            self.fetches.retain_recent();
            self.notes.retain_recent();
        }
        self.fetches.check_key(&token).map_err(|until: NotUntil<Nanos>| {
            let wait = until.wait_time_from(self.ticks.now());
            let retry_after = Duration::from_millis(wait.as_millis().try_into().unwrap_or(u64::MAX));
            TooOften { retry_after, note: self.notes.check_key(&token).is_ok() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_at_once_then_one_a_second_and_one_note_a_minute() {
        let ticks = Ticks::manual();
        let rate = ServiceRate::new(ticks.clone());
        let (busy, quiet) = (ServiceTokenId::generate(), ServiceTokenId::generate());
        for _ in 0..60 {
            assert_eq!(rate.take(busy), Ok(()));
        }
        let first = rate.take(busy).expect_err("too often");
        assert!(first.note && first.retry_after <= Duration::from_secs(1) && !first.retry_after.is_zero());
        assert!(!rate.take(busy).expect_err("too often").note, "one note a minute");
        assert_eq!(rate.take(quiet), Ok(()), "another token has its own");
        ticks.advance(Duration::from_secs(1));
        assert_eq!(rate.take(busy), Ok(()));
        assert!(rate.take(busy).is_err());
        ticks.advance(Duration::from_secs(60));
        for _ in 0..60 {
            assert_eq!(rate.take(busy), Ok(()));
        }
        assert!(rate.take(busy).expect_err("too often").note);
    }

    #[test]
    fn quiet_tokens_are_forgotten() {
        let ticks = Ticks::manual();
        let rate = ServiceRate::new(ticks.clone());
        for _ in 0..=MANY {
            rate.take(ServiceTokenId::generate()).expect("the first");
        }
        assert!(rate.fetches.len() > MANY);
        ticks.advance(Duration::from_secs(120));
        rate.take(ServiceTokenId::generate()).expect("the first");
        assert_eq!(rate.fetches.len(), 1);
    }
}
