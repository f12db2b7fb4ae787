//! How often and how much at once: requests a minute, tokens a minute, requests at the same time, for a virtual key
//! and its tenant alike.
//!
//! Invariants: limits run on monotonic time only; they outlive the cached policy they came from ([`Limiters`]); what is
//! taken of a concurrency limit is given back when its guard is dropped, and a token debit is corrected exactly once.
//! All of it is in this process's memory: there is no backend that could be down, and a restart begins with full
//! buckets. Several instances each grant the limits on their own.

mod clock;
mod concurrency;
mod limiter;
mod rate;
mod registry;
mod tokens;

pub use clock::Ticks;
pub use limiter::{InFlight, LimitKind, LimitRefusal, Limiter, TokenDebit, check_request, check_tokens};
pub use rate::{Level, go_duration};
pub use registry::Limiters;
