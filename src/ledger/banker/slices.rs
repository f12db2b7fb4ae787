//! How large leases are: pure sums, no state.
//!
//! An instance that is alone holds all that is left of a cap, so that admission is exact without asking anybody. Among
//! several each takes a share that shrinks with what is left, and near the end exactly what its requests need, giving
//! back what it does not use: so the last micro-dollar is usable by whoever asks.

/// A lease among several instances is this part of an equal share of what is left.
const PART_OF_SHARE: i128 = 4;
/// When so many of the largest requests would use up what is left, leases are taken request by request.
const LAST_REQUESTS: i128 = 10;

/// Where one counter stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Neither settled nor leased to anybody.
    pub(super) free: i128,
    /// Leased to this instance.
    pub(super) granted: i128,
    /// Of that: reserved, or settled and not yet in the database.
    pub(super) used: i128,
    /// The largest request lately.
    pub(super) appetite: i128,
    /// Instances that are alive.
    pub(super) live: i128,
}

impl Room {
    /// Whether it is so little that every request counts.
    fn is_near_the_end(&self) -> bool {
        let idle = (self.granted - self.used).max(0);
        self.free + idle < LAST_REQUESTS.saturating_mul(self.appetite.max(1)).saturating_mul(self.live)
    }

    fn slice(&self) -> i128 {
        self.free.max(0) / (PART_OF_SHARE * self.live.max(1))
    }

    /// What to take so that requests of `least` to `all` together fit: the least that helps, and what is wished for.
    pub(super) fn wish(&self, least: i128, all: i128) -> (i128, i128) {
        let missing = |need: i128| (self.used + need - self.granted).max(0);
        let at_least = missing(least);
        let wish = match self.live {
            ..=1 => self.free,
            _ if self.is_near_the_end() => missing(all),
            _ => missing(all).max(self.slice()),
        };
        (at_least, wish.max(at_least))
    }

    /// What to keep of the lease. `wanted`: somebody else waits for it; `idle`: nobody has asked here for a while.
    pub(super) fn keep(&self, wanted: bool, idle: bool) -> i128 {
        if self.live <= 1 {
            return if idle { self.used } else { self.granted };
        }
        if wanted || idle || self.is_near_the_end() {
            return self.used;
        }
        // Twice a slice, or every second request would give back what the next takes again.
        self.granted.min(self.used + 2 * self.slice())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: Room = Room { free: 1_000_000, granted: 0, used: 0, appetite: 10, live: 1 };

    #[test]
    fn who_is_alone_takes_all_and_who_is_not_takes_less_the_less_is_left() {
        assert_eq!(ROOM.wish(10, 10), (10, 1_000_000));
        let shared = Room { live: 3, ..ROOM };
        assert_eq!(shared.wish(10, 10), (10, 83_333));
        assert_eq!(Room { free: 1_000, ..shared }.wish(10, 30), (10, 83));
        assert_eq!(Room { free: 200, ..shared }.wish(10, 30), (10, 30), "near the end: what is needed");
    }

    #[test]
    fn what_is_not_used_goes_back_when_others_want_it_or_nobody_asks() {
        let shared = Room { live: 2, granted: 500_000, used: 200, ..ROOM };
        assert_eq!(shared.keep(true, false), 200);
        assert_eq!(shared.keep(false, true), 200);
        assert_eq!(shared.keep(false, false), 250_200);
        assert_eq!(Room { live: 1, ..shared }.keep(false, false), 500_000);
    }

    proptest! {
        #[test]
        fn p22_nothing_is_kept_below_what_is_used_or_above_what_is_granted(
            free in 0i128..1 << 70, granted in 0i128..1 << 70, part in 0u8..=255, appetite in 0i128..1 << 62,
            live in 1i128..100, wanted: bool, idle: bool,
        ) {
            let used = granted * i128::from(part) / 255;
            let kept = Room { free, granted, used, appetite, live }.keep(wanted, idle);
            prop_assert!(used <= kept && kept <= granted);
        }

        #[test]
        fn p18_a_wish_covers_what_is_needed(
            free in 0i128..1 << 70, granted in 0i128..1 << 70, used in 0i128..1 << 70, least in 0i128..1 << 62,
            more in 0i128..1 << 62, live in 1i128..100,
        ) {
            let room = Room { free, granted, used, appetite: least, live };
            let (at_least, wish) = room.wish(least, least + more);
            prop_assert!(granted + at_least >= used + least);
            prop_assert!(wish >= at_least);
        }
    }
}
