//! How often and how much at once: requests a minute, tokens a minute, requests at the same time, for a virtual key
//! and its tenant alike.
//!
//! Invariants: limits run on monotonic time only; they outlive the cached policy they came from ([`Limiters`]); what is
//! taken of a concurrency limit is given back when its guard is dropped, and a token debit is corrected exactly once.
//!
//! Counted in this process's memory, each instance grants its [`Share`] of a limit, and a restart begins with full
//! buckets. With a Redis ([`Counters::Redis`]) all instances count together, by Redis's clock. While it does not answer,
//! each grants its share again and requests go on: limits are neither money nor permission.

mod clock;
mod concurrency;
mod late;
mod limiter;
mod rate;
mod registry;
mod share;
mod shared;
mod tokens;

pub use clock::Ticks;
pub use limiter::{InFlight, LimitKind, LimitRefusal, Limiter, TokenDebit, check_request, check_tokens};
pub use rate::{Level, go_duration};
pub use registry::Limiters;
pub use share::Share;
pub use shared::{Counters, Shared};
