//! A local journal: a row of append-only segment files with what must not be forgotten when the process dies.
//!
//! It knows nothing of money: bodies are bytes, and its caller says what is in them. A request gets an OPEN before
//! anything is sent, a SENT before its first byte may leave, PROGRESS while it streams, and one CLOSE. Whoever needs a
//! record on disk writes everything that is pending in one write, on its own thread: there is no queue to wait in and
//! no thread to hop to. A keeper thread does the rest (`keeper.rs`).
//!
//! Invariants:
//! - Sequences are given without a gap and lie in the files in their order. What [`Journal::sent`] and
//!   [`Journal::close`] have returned for survives the process; with [`Durability::Power`], what [`Journal::synced`] has
//!   returned for survives the machine.
//! - A CLOSE has room. Each OPEN promises it, and is refused when the promise cannot be kept; so a full disk stops new
//!   requests and ends none. It heals by itself when there is space again.
//! - A segment is removed only when every CLOSE in it is applied and every request that began in it is closed, its CLOSE
//!   applied; oldest first. A long request pins at most a few segments: then its state is carried forward.
//! - Reading the same files twice finds the same. A tail torn by a kill is cut; a hole that neither a kill nor a power
//!   loss explains refuses the start, by name and offset, for only an operator may decide that spend is forgotten.
//! - No byte in a file makes the reader panic, take much memory, or take more than linear time.
//!
//! When the disk fails: a write or sync that fails leaves unknown what is on it, so the journal is broken and takes
//! nothing more until a restart; its callers keep what they wanted to close in memory and apply it. Room is promised by
//! preallocation, which a file system that copies on write does not honour: there, a full disk breaks the journal.

mod desk;
mod error;
mod faults;
mod frame;
mod handle;
mod keeper;
mod replay;
mod scan;
mod segment;
mod start;
#[cfg(test)]
mod tests;
mod writer;

pub use desk::{CLOSE_MARGIN, PROGRESS_MARGIN};
pub use error::JournalError;
pub use faults::{Fate, Faults, effect};
pub use frame::{Kind, MAX_CLOSE_BODY, MAX_FRAME, MAX_OPEN_BODY};
pub use handle::{Durability, Journal, Settings, Stats, Ticket};
pub use replay::{Closes, Replay, Unfinished};
pub use segment::JournalId;
