//! Tokens a minute: a bucket of N, refilled evenly over 60 s, that may go below zero.
//!
//! What a request will use is known only after it. So the bucket admits while it has a token, is debited by what was
//! reserved, and is corrected by what was used; a debt is worked off before anything else is admitted.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Share, Ticks, rate::Level, rate::MINUTE};

/// The bucket is counted in parts of a token so that N a minute is exactly N parts a nanosecond: no rounding, ever.
const PARTS: i128 = 60_000_000_000;

/// A limit on tokens a minute; this instance grants its share of it.
#[derive(Debug)]
pub(super) struct TokenRate {
    per_minute: u32,
    share: Share,
    ticks: Ticks,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    parts: i128,
    /// When `parts` was right, in nanoseconds.
    at: u64,
}

impl TokenRate {
    pub(super) fn new(per_minute: u32, share: &Share, ticks: &Ticks) -> Self {
        let bucket = Bucket { parts: i128::from(share.of(per_minute)) * PARTS, at: ticks.nanos() };
        Self { per_minute, share: share.clone(), ticks: ticks.clone(), bucket: Mutex::new(bucket) }
    }

    pub(super) const fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Debits `tokens`, however many, if there is at least one; the error says where the limit stands and how long
    /// until there is one again.
    pub(super) fn take(&self, tokens: u64) -> Result<Level, (Level, Duration)> {
        let mut bucket = self.filled();
        if bucket.parts < PARTS {
            let wait = if self.per_minute == 0 { MINUTE } else { self.time_for(PARTS - bucket.parts) };
            return Err((self.level(&bucket), wait));
        }
        bucket.parts -= i128::from(tokens) * PARTS;
        Ok(self.level(&bucket))
    }

    /// Replaces a debit by what was really used.
    pub(super) fn correct(&self, debited: u64, actual: u64) {
        let mut bucket = self.filled();
        bucket.parts += (i128::from(debited) - i128::from(actual)) * PARTS;
        bucket.parts = bucket.parts.min(self.full());
    }

    /// Whether nothing is missing, so that a new bucket would be the same.
    pub(super) fn is_full(&self) -> bool {
        self.filled().parts >= self.full()
    }

    /// What this instance grants a minute.
    fn part(&self) -> u32 {
        self.share.of(self.per_minute)
    }

    fn full(&self) -> i128 {
        i128::from(self.part()) * PARTS
    }

    fn filled(&self) -> MutexGuard<'_, Bucket> {
        // A panic between the two assignments is not possible, so a poisoned bucket is a right one.
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.ticks.nanos();
        // Another thread may have read the clock later and come first.
        let passed = now.saturating_sub(bucket.at);
        bucket.parts = (bucket.parts + i128::from(passed) * i128::from(self.part())).min(self.full());
        bucket.at = bucket.at.max(now);
        bucket
    }

    fn level(&self, bucket: &Bucket) -> Level {
        let reset = if self.per_minute == 0 { MINUTE } else { self.time_for(self.full() - bucket.parts) };
        Level {
            limit: self.per_minute.into(),
            remaining: u64::try_from(bucket.parts.div_euclid(PARTS)).unwrap_or(0),
            reset,
        }
    }

    fn time_for(&self, parts: i128) -> Duration {
        let nanos = parts.max(0).unsigned_abs().div_ceil(u128::from(self.part().max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn anything_left_admits_and_a_debt_is_worked_off_first() {
        let ticks = Ticks::manual();
        let rate = TokenRate::new(600, &Share::default(), &ticks);
        let level = rate.take(599).expect("full");
        assert_eq!((level.limit, level.remaining, level.reset), (600, 1, Duration::from_millis(59_900)));
        let level = rate.take(201).expect("one is left");
        assert_eq!(level.remaining, 0);
        // 200 below zero at 10 a second, and one to have.
        let (level, wait) = rate.take(1).expect_err("in debt");
        assert_eq!((level.remaining, wait), (0, Duration::from_millis(20_100)));
        ticks.advance(wait - Duration::from_nanos(1));
        assert!(rate.take(1).is_err());
        ticks.advance(Duration::from_nanos(1));
        assert_eq!(rate.take(0).map(|level| level.remaining), Ok(1));
    }

    #[test]
    fn a_correction_gives_back_and_takes_more_but_never_fills_above_the_limit() {
        let ticks = Ticks::manual();
        let rate = TokenRate::new(100, &Share::default(), &ticks);
        rate.take(80).expect("full");
        rate.correct(80, 30);
        assert_eq!(rate.take(0).map(|level| level.remaining), Ok(70));
        rate.correct(0, 100);
        assert!(rate.take(0).is_err());
        ticks.advance(MINUTE);
        rate.correct(80, 0);
        assert!(rate.is_full());
        assert_eq!(rate.take(0).map(|level| level.remaining), Ok(100));
    }

    #[test]
    fn a_limit_of_zero_and_the_largest_numbers_are_no_trouble() {
        let ticks = Ticks::manual();
        assert_eq!(
            TokenRate::new(0, &Share::default(), &ticks).take(0).map_err(|(_, wait)| wait),
            Err(MINUTE)
        );
        let rate = TokenRate::new(u32::MAX, &Share::default(), &ticks);
        for _ in 0..3 {
            rate.take(u64::MAX).ok();
            rate.correct(0, u64::MAX);
        }
        ticks.advance(Duration::from_secs(1 << 33));
        let (level, wait) = rate.take(1).expect_err("deep in debt");
        assert!(level.remaining == 0 && wait > MINUTE);
    }

    #[test]
    fn the_share_follows_the_number_of_instances() {
        let (ticks, share) = (Ticks::manual(), Share::default());
        let rate = TokenRate::new(600, &share, &ticks);
        share.set(2);
        let level = rate.take(400).expect("full");
        assert_eq!((level.limit, level.remaining), (600, 0));
        ticks.advance(Duration::from_secs(40));
        assert_eq!(rate.take(0).map(|level| level.remaining), Ok(100), "five a second after a debt of 100");
        share.set(1);
        ticks.advance(Duration::from_secs(10));
        assert_eq!(rate.take(0).map(|level| level.remaining), Ok(200), "ten a second");
    }

    proptest! {
        /// Against the plainest model: whole tokens times 60 000, milliseconds.
        #[test]
        fn the_bucket_agrees_with_the_model(
            per_minute in 1u32..5_000,
            steps in proptest::collection::vec((0u64..90_000, 0u64..9_000, 0u64..9_000), 1..100),
        ) {
            let ticks = Ticks::manual();
            let rate = TokenRate::new(per_minute, &Share::default(), &ticks);
            let full = i128::from(per_minute) * 60_000;
            let mut model = full;
            for (millis, debit, actual) in steps {
                ticks.advance(Duration::from_millis(millis));
                model = (model + i128::from(millis) * i128::from(per_minute)).min(full);
                match rate.take(debit) {
                    Ok(level) => {
                        prop_assert!(model >= 60_000);
                        model -= i128::from(debit) * 60_000;
                        prop_assert_eq!(i128::from(level.remaining), model.div_euclid(60_000).max(0));
                        rate.correct(debit, actual);
                        model = (model + (i128::from(debit) - i128::from(actual)) * 60_000).min(full);
                    }
                    Err((level, wait)) => {
                        prop_assert!(model < 60_000);
                        prop_assert!(level.remaining == 0 && wait > Duration::ZERO && wait <= level.reset);
                    }
                }
            }
        }
    }
}
