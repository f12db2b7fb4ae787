//! A histogram of durations with a relative error below 1 %: 128 steps to every doubling.

use std::time::Duration;

const STEPS_LOG2: u32 = 7;
const STEPS: usize = 1 << STEPS_LOG2;

/// How often durations were seen.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * (64 - STEPS_LOG2 as usize + 1)], total: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[place(nanos)] += 1;
        self.total += 1;
    }

    /// The duration that `quantile` of all were at most; zero when there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = (self.total as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return Duration::from_nanos(highest(place));
            }
        }
        Duration::ZERO
    }
}

/// Below `STEPS` every value has a place of its own; above, every doubling has `STEPS` of them.
fn place(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(STEPS_LOG2 + 1);
    shift as usize * STEPS + (nanos >> shift) as usize
}

/// The largest value that has this place.
fn highest(place: usize) -> u64 {
    let shift = (place / STEPS).saturating_sub(1);
    let step = (place - shift * STEPS) as u64;
    ((step + 1) << shift) - 1
}

/// What must hold of it; run by the quick check, as a bench has no tests of its own.
pub fn check() {
    for nanos in [0, 1, 127, 128, 255, 256, 1_000, 123_456_789, 1 << 40] {
        let most = highest(place(nanos));
        assert!(nanos <= most && most - nanos <= nanos / 100, "{nanos} ns counts as {most} ns");
    }
}
