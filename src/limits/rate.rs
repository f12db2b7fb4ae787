//! Requests a minute: a burst of N, refilled evenly over 60 s.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::StateInformationMiddleware, nanos::Nanos,
    state::InMemoryState, state::direct::NotKeyed,
};

use super::Ticks;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Where a limit stands: what the `x-ratelimit-*` headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The limit itself.
    pub limit: u64,
    /// How much of it is left.
    pub remaining: u64,
    /// Until all of it is left again, if nothing is taken.
    pub reset: Duration,
}

type Direct = RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>;

/// A limit on requests a minute.
#[derive(Debug)]
pub(super) struct RequestRate {
    per_minute: u32,
    /// `None` for a limit of zero, which lets nothing through.
    limiter: Option<Direct>,
    ticks: Ticks,
}

impl RequestRate {
    pub(super) fn new(per_minute: u32, ticks: &Ticks) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|burst| {
            let state = InMemoryState::default();
            Direct::new(Quota::per_minute(burst), state, ticks.clone())
        });
        Self { per_minute, limiter, ticks: ticks.clone() }
    }

    pub(super) const fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Takes one request; the error says where the limit stands and how long until one is free.
    pub(super) fn take(&self) -> Result<Level, (Level, Duration)> {
        let limit = u64::from(self.per_minute);
        let Some(limiter) = &self.limiter else {
            return Err((Level { limit, remaining: 0, reset: MINUTE }, MINUTE));
        };
        match limiter.check() {
            Ok(snapshot) => {
                let remaining = snapshot.remaining_burst_capacity();
                let missing = self.per_minute.saturating_sub(remaining);
                let reset = snapshot.quota().replenish_interval() * missing;
                Ok(Level { limit, remaining: remaining.into(), reset })
            }
            Err(until) => {
                let now: Nanos = self.ticks.now();
                let wait = until.wait_time_from(now);
                // One is free after `wait`; the others follow one interval apart.
                let reset = wait + until.quota().replenish_interval() * (self.per_minute - 1);
                Err((Level { limit, remaining: 0, reset }, wait))
            }
        }
    }
}

/// A duration as Go writes it and OpenAI sends it in `x-ratelimit-reset-*`: `12ms`, `1s`, `8.64s`, `6m0s`. To the
/// millisecond, rounded up.
pub fn go_duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    if (1..1_000).contains(&millis) {
        return format!("{millis}ms");
    }
    let (seconds, fraction) = (millis / 1_000, millis % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    if hours > 0 {
        text += &format!("{hours}h");
    }
    if hours > 0 || minutes > 0 {
        text += &format!("{minutes}m");
    }
    text += &seconds.to_string();
    if fraction > 0 {
        text += format!(".{fraction:03}").trim_end_matches('0');
    }
    text + "s"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (12, "12ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (8_640, "8.64s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (3_661_005, "1h1m1.005s"),
        ];
        for (millis, text) in cases {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms", "rounded up");
        assert!(go_duration(Duration::MAX).ends_with('s'));
    }

    #[test]
    fn a_burst_of_n_passes_and_then_one_every_nth_of_a_minute() {
        let ticks = Ticks::manual();
        let rate = RequestRate::new(60, &ticks);
        for taken in 1..=60 {
            let level = rate.take().expect("within the burst");
            assert_eq!((level.limit, level.remaining), (60, 60 - taken));
            assert_eq!(level.reset, Duration::from_secs(taken));
        }
        ticks.advance(Duration::from_millis(400));
        let (level, wait) = rate.take().expect_err("used up");
        assert_eq!((level.remaining, wait), (0, Duration::from_millis(600)));
        assert_eq!(level.reset, Duration::from_millis(59_600));
        ticks.advance(wait);
        assert_eq!(rate.take().map(|level| level.remaining), Ok(0));
        assert!(rate.take().is_err());
        ticks.advance(MINUTE);
        assert_eq!(rate.take().map(|level| level.remaining), Ok(59));
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_through() {
        let rate = RequestRate::new(0, &Ticks::manual());
        assert_eq!(rate.take(), Err((Level { limit: 0, remaining: 0, reset: MINUTE }, MINUTE)));
    }

    proptest! {
        /// In any span of time no more pass than the burst and what was refilled meanwhile; and waiting as long as
        /// a refusal says is enough.
        #[test]
        fn no_more_pass_than_burst_and_refill(
            per_minute in 1u32..500,
            steps in proptest::collection::vec(0u64..3_000, 1..300),
        ) {
            let ticks = Ticks::manual();
            let rate = RequestRate::new(per_minute, &ticks);
            let (mut passed, mut millis) = (0u64, 0u64);
            for step in steps {
                ticks.advance(Duration::from_millis(step));
                millis += step;
                passed += u64::from(rate.take().is_ok());
                // One more for the nanoseconds lost in dividing the minute.
                prop_assert!(passed <= u64::from(per_minute) + u64::from(per_minute) * millis / 60_000 + 1);
            }
            if let Err((_, wait)) = rate.take() {
                ticks.advance(wait);
                prop_assert!(rate.take().is_ok());
            }
        }
    }
}
