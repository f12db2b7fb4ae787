//! Chances that a seed repeats.

use std::{ops::RangeInclusive, time::Duration};

/// A generator of random numbers (splitmix64): small, and equal on every machine.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of a seed; `purpose` tells those apart that use the same one.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range. So small a range is not skewed in a way that matters here.
    pub fn of(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    /// A place in a list of so many.
    pub fn place(&mut self, length: usize) -> usize {
        (self.next() % length.max(1) as u64) as usize
    }

    /// A time of the range, in whole milliseconds.
    pub fn time(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let millis = |time: &Duration| time.as_millis() as u64;
        Duration::from_millis(self.of(millis(range.start())..=millis(range.end())))
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.of(1..=100) <= chance
    }
}
