//! Money, and nothing but money: what a request may cost at most, and what it did cost.
//!
//! Reservation and settlement are priced by the same rates in the same exact arithmetic, so what is reserved is never
//! less than what is settled for usage within the reserved bounds. Whole numbers throughout; one rounding, up, an
//! attempt.

pub mod cost;
pub mod estimate;
