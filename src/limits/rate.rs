//! Requests a minute: a burst of N, refilled evenly over 60 s.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use governor::{
    Quota, RateLimiter, clock::Clock, middleware::StateInformationMiddleware, nanos::Nanos,
    state::InMemoryState, state::direct::NotKeyed,
};

use super::{Share, Ticks};

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

/// A limit on requests a minute; this instance grants its share of it.
#[derive(Debug)]
pub(super) struct RequestRate {
    per_minute: u32,
    share: Share,
    /// `None` for a limit of zero, which lets nothing through.
    part: Option<ArcSwap<Part>>,
    ticks: Ticks,
}

/// The share while a certain number of instances live.
#[derive(Debug)]
struct Part {
    per_minute: NonZeroU32,
    limiter: Direct,
}

impl Part {
    fn new(per_minute: NonZeroU32, ticks: &Ticks) -> Self {
        let limiter = Direct::new(Quota::per_minute(per_minute), InMemoryState::default(), ticks.clone());
        Self { per_minute, limiter }
    }

    /// A part of another size with as much left, in proportion: instances that come and go hand out no bursts.
    fn resized(&self, per_minute: NonZeroU32, ticks: &Ticks) -> Self {
        let new = Self::new(per_minute, ticks);
        let (old_size, size) = (u64::from(self.per_minute.get()), u64::from(per_minute.get()));
        // The old one has no other way to say what is left than by giving one of it.
        let left = self.limiter.check().map_or(0, |given| u64::from(given.remaining_burst_capacity()) + 1);
        let used = size - (size * left / old_size).min(size);
        if let Some(used) = u32::try_from(used).ok().and_then(NonZeroU32::new) {
            // Cannot be refused: it is full, and `used` is at most all of it.
            let _ = new.limiter.check_n(used);
        }
        new
    }
}

impl RequestRate {
    pub(super) fn new(per_minute: u32, share: &Share, ticks: &Ticks) -> Self {
        let part =
            NonZeroU32::new(share.of(per_minute)).map(|part| ArcSwap::from_pointee(Part::new(part, ticks)));
        Self { per_minute, share: share.clone(), part, ticks: ticks.clone() }
    }

    pub(super) const fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Takes one request; the error says where the limit stands and how long until one is free.
    pub(super) fn take(&self) -> Result<Level, (Level, Duration)> {
        let limit = u64::from(self.per_minute);
        let (Some(kept), Some(size)) = (&self.part, NonZeroU32::new(self.share.of(self.per_minute))) else {
            return Err((Level { limit, remaining: 0, reset: MINUTE }, MINUTE));
        };
        let mut part = kept.load();
        if part.per_minute != size {
            // Whoever comes first resizes it; the others find it done.
            kept.rcu(|old| match old.per_minute == size {
                true => Arc::clone(old),
                false => Arc::new(old.resized(size, &self.ticks)),
            });
            part = kept.load();
        }
        match part.limiter.check() {
            Ok(snapshot) => {
                let remaining = snapshot.remaining_burst_capacity();
                let missing = part.per_minute.get().saturating_sub(remaining);
                let reset = snapshot.quota().replenish_interval() * missing;
                Ok(Level { limit, remaining: remaining.into(), reset })
            }
            Err(until) => {
                let now: Nanos = self.ticks.now();
                let wait = until.wait_time_from(now);
                // One is free after `wait`; the others follow one interval apart.
                let reset = wait + until.quota().replenish_interval() * (part.per_minute.get() - 1);
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
        let rate = RequestRate::new(60, &Share::default(), &ticks);
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
        let rate = RequestRate::new(0, &Share::default(), &Ticks::manual());
        assert_eq!(rate.take(), Err((Level { limit: 0, remaining: 0, reset: MINUTE }, MINUTE)));
    }

    #[test]
    fn the_share_follows_the_number_of_instances_and_a_change_hands_out_no_burst() {
        let (ticks, share) = (Ticks::manual(), Share::default());
        let rate = RequestRate::new(60, &share, &ticks);
        let left = |rate: &RequestRate| rate.take().map(|level| level.remaining).unwrap_or(0);
        for _ in 0..30 {
            rate.take().expect("within the burst");
        }
        share.set(3);
        // Half of 60 was left, so half of 20 is.
        let level = rate.take().expect("left");
        assert_eq!((level.limit, level.remaining), (60, 9));
        for _ in 0..100 {
            share.set(1);
            left(&rate);
            share.set(3);
            left(&rate);
        }
        assert_eq!(rate.take().map_err(|(level, _)| level.remaining), Err(0));
        ticks.advance(MINUTE);
        assert_eq!(left(&rate), 19, "a third of the limit is all there is");
        share.set(1);
        ticks.advance(MINUTE);
        assert_eq!(left(&rate), 59);
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
            let rate = RequestRate::new(per_minute, &Share::default(), &ticks);
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
