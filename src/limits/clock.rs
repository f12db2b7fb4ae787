//! Monotonic time for limits, and a hand-turned one for tests.

use std::time::{Duration, Instant};

use governor::{
    clock::{Clock, FakeRelativeClock},
    nanos::Nanos,
};

/// Nanoseconds since some fixed moment; never goes back, whatever the wall clock does.
#[derive(Clone, Debug)]
pub struct Ticks(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Instant),
    Manual(FakeRelativeClock),
}

impl Default for Ticks {
    fn default() -> Self {
        Self::system()
    }
}

impl Ticks {
    /// The system's monotonic clock.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that stands still until [`Ticks::advance`].
    pub fn manual() -> Self {
        Self(Source::Manual(FakeRelativeClock::default()))
    }

    /// Turns a manual clock, and all its clones; the system's ignores it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(clock) = &self.0 {
            clock.advance(by);
        }
    }

    /// Nanoseconds since the clock was made.
    pub fn nanos(&self) -> u64 {
        match &self.0 {
            // 584 years of uptime fit.
            Source::System(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Source::Manual(clock) => clock.now().as_u64(),
        }
    }
}

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.nanos())
    }
}
