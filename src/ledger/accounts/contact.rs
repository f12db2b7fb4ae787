//! How long leases are trusted without a word from the database.
//!
//! An operator may give the leases of a silent instance back. Were it only paused or cut off, it would go on admitting
//! against what others spend by then; so it stops by itself before anybody may do that.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Until when leases are trusted. `u64::MAX`: for ever.
#[derive(Debug)]
pub(super) struct Contact(AtomicU64);

impl Default for Contact {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Contact {
    pub(super) fn trust(&self, since: u64, grace: Option<Duration>) {
        let until = grace.map_or(u64::MAX, |grace| since.saturating_add(millis(grace)));
        self.0.store(until, Ordering::Release);
    }

    pub(super) fn is_in_touch(&self) -> bool {
        match self.0.load(Ordering::Acquire) {
            u64::MAX => true,
            until => moment() < until,
        }
    }
}

/// Milliseconds since the machine was started, its sleep included: the process' own pauses must count.
pub(super) fn moment() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_trusted_for_their_grace_and_no_longer() {
        let contact = Contact::default();
        assert!(contact.is_in_touch());
        contact.trust(moment(), Some(Duration::from_secs(60)));
        assert!(contact.is_in_touch());
        contact.trust(moment(), Some(Duration::ZERO));
        assert!(!contact.is_in_touch());
        contact.trust(moment(), None);
        assert!(contact.is_in_touch());
    }
}
