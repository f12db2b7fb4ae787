//! Failed logins are counted by account and by address, and requests for keys without a live service token by address; after a few in a minute the door stays shut for a while.
//! Memory is bounded: when it is full, the oldest counts make room.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::domain::Timestamp;

/// Failures within a minute after which nobody is let in.
const FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
const MAX_SUBJECTS: usize = 16_384;

/// Counts of failed logins.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<u64, Vec<Timestamp>>>);

/// What one login is counted under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subjects {
    account: u64,
    address: Option<u64>,
}

impl Subjects {
    /// An account, by its normalised address, and where the request comes from.
    pub(super) fn new(account: &str, address: Option<IpAddr>) -> Self {
        let network = address.map(network);
        Self { account: hashed(("account", account)), address: network.map(|net| hashed(("address", net))) }
    }

    /// Where a request without a live service token comes from. It is counted apart: a service with an old token does not
    /// keep the people behind the same address from logging in.
    pub(super) fn service(address: Option<IpAddr>) -> Self {
        Self { account: hashed(("service", address.map(network))), address: None }
    }

    fn all(self) -> impl Iterator<Item = u64> {
        [Some(self.account), self.address].into_iter().flatten()
    }
}

/// What counts as one address. One IPv6 customer has a whole /64.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

impl Throttle {
    /// How long to wait, if anyone of the subjects has failed too often.
    pub(super) fn wait(&self, subjects: Subjects, now: Timestamp) -> Option<Duration> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subjects
            .all()
            .filter_map(|subject| {
                let failures = counts.get_mut(&subject)?;
                failures.retain(|at| is_recent(*at, now));
                let first = failures.len().checked_sub(FAILURES).and_then(|skip| failures.get(skip))?;
                let millis = first.plus(WINDOW).millis().saturating_sub(now.millis()).max(1);
                Some(Duration::from_secs(u64::try_from(millis).unwrap_or(1).div_ceil(1000)))
            })
            .max()
    }

    /// Counts a failure.
    pub(super) fn failed(&self, subjects: Subjects, now: Timestamp) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in subjects.all() {
            if counts.len() >= MAX_SUBJECTS && !counts.contains_key(&subject) {
                counts.retain(|_, failures| failures.last().is_some_and(|at| is_recent(*at, now)));
                if counts.len() >= MAX_SUBJECTS {
                    make_room(&mut counts);
                }
            }
            let failures = counts.entry(subject).or_default();
            failures.retain(|at| is_recent(*at, now));
            if failures.len() >= FAILURES {
                failures.remove(0);
            }
            failures.push(now);
        }
    }
}

fn make_room(counts: &mut HashMap<u64, Vec<Timestamp>>) {
    let oldest = counts
        .iter()
        .min_by_key(|(_, failures)| failures.last().map(|at| at.millis()))
        .map(|(subject, _)| *subject);
    if let Some(oldest) = oldest {
        counts.remove(&oldest);
    }
}

/// A clock that was put back must not shut the door for long.
fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    at.plus(WINDOW) > now && at <= now.plus(WINDOW)
}

fn hashed(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn the_sixth_try_in_a_minute_waits_until_the_first_is_a_minute_old() {
        let throttle = Throttle::default();
        let who = Subjects::new("a@b.c", None);
        for second in 0..5 {
            assert_eq!(throttle.wait(who, NOW), None);
            throttle.failed(who, NOW.plus(Duration::from_secs(second)));
        }
        let later = NOW.plus(Duration::from_secs(10));
        assert_eq!(throttle.wait(who, later), Some(Duration::from_secs(50)));
        assert_eq!(throttle.wait(Subjects::new("x@b.c", None), later), None);
        assert_eq!(throttle.wait(who, NOW.plus(Duration::from_secs(60))), None);
    }

    #[test]
    fn at_086_one_address_cannot_try_many_accounts_and_a_slash_64_is_one() {
        let throttle = Throttle::default();
        let from = |host: u64| Some(format!("2001:db8::{host:x}").parse().expect("an address"));
        for number in 0..5 {
            throttle.failed(Subjects::new(&format!("{number}@b.c"), from(number)), NOW);
        }
        assert!(throttle.wait(Subjects::new("fresh@b.c", from(99)), NOW).is_some());
        let elsewhere = Some("2001:db8:1::1".parse().expect("an address"));
        assert!(throttle.wait(Subjects::new("fresh@b.c", elsewhere), NOW).is_none());
    }

    #[test]
    fn at_086_a_million_addresses_of_one_network_are_one_and_memory_is_bounded() {
        let throttle = Throttle::default();
        let network = 0x2001_0db8_u128 << 96;
        for host in 0..1_000_000_u64 {
            let address = Ipv6Addr::from_bits(network | u128::from(host.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            throttle.failed(Subjects::new("one@b.c", Some(address.into())), NOW);
        }
        assert_eq!(throttle.0.lock().expect("not poisoned").len(), 2, "one account, one network");
        for number in 0..(MAX_SUBJECTS + 100) {
            throttle.failed(Subjects::new(&number.to_string(), None), NOW);
        }
        let counts = throttle.0.lock().expect("not poisoned");
        assert!(counts.len() <= MAX_SUBJECTS && counts.values().all(|failures| failures.len() <= FAILURES));
    }
}
