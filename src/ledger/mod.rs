//! Money, and nothing but money: worst cases are reserved before an attempt, settled after it, and recorded.
//!
//! Invariants: reservation and settlement are priced by the same function in the same exact arithmetic, one rounding,
//! up, an attempt; under a hard cap `settled + reserved ≤ cap` at every admission, in every scope of a request at
//! once; a reservation is settled or released exactly once, in the window in which it was made; a usage record leaves
//! the queue only into the database. When the database is down, requests are still admitted against the counters in
//! memory until the queue of records is full; then no place is given and the gateway refuses.

mod accounts;
pub mod cost;
pub mod estimate;
pub mod journal;
mod record;
mod reserve;

pub use accounts::{Accounts, SettledSpend, Standing};
pub use cost::{Cost, cost};
pub use estimate::{Sizes, WorstCase, estimated_tokens, input_bound};
pub use record::{Place, QueueFull, Recorder, Sink};
pub use reserve::{Ask, Refusal, RefusalKind, Reservation, ScopeCap, Settled};

pub use crate::domain::Scope;
