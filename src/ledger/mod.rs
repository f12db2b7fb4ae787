//! Money, and nothing but money: worst cases are reserved before an attempt, settled after it, and recorded.
//!
//! How it holds together: [`Accounts`] admit in memory against *leases*, durable shares of each cap; the [`journal`] has an
//! attempt on the disk before its first byte goes out and its charge before the client sees the end; the banker brings
//! charges into the database, exactly once, and takes and returns leases.
//!
//! Invariants: reservation and settlement are priced by the same function in the same exact arithmetic, one rounding,
//! up, an attempt; under a hard cap `settled + leased ≤ cap` in the database at every moment, and `reserved + unapplied ≤
//! lease` in every instance, in every scope of a request at once; a reservation is settled or released exactly once, in
//! the windows in which it was made; of a request of which a byte was sent there is exactly one usage record, whatever
//! dies. When the database is down, requests go on within the leases that are held and until the queue of records is
//! full; then they are refused. When the journal's disk is full or broken, nothing new is sent, and what is open can
//! still be closed.

mod accounts;
mod aside;
mod bank;
mod banker;
mod book;
pub mod cost;
mod entry;
pub mod estimate;
pub mod journal;
mod place;
mod recovery;
mod reserve;
mod station;
#[cfg(test)]
mod tests;

pub use accounts::{Accounts, Standing};
pub use bank::Bank;
pub use banker::Sharing;
pub use book::{Counts, Ledger, LedgerSettings, Patience, instance_in};
pub use cost::{Cost, cost};
pub use entry::{Stake, Unreadable};
pub use estimate::{Sizes, WorstCase, estimated_tokens, input_bound};
pub use place::{Closed, Place, SentNote, Unrecordable};
pub use recovery::{Recovered, RecoveryError};
pub use reserve::{Ask, Refusal, RefusalKind, Reservation, ScopeCap, Settled, Stop, Want, Wants};

pub use crate::{domain::Scope, store::Charge};
