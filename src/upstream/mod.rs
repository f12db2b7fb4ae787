//! Talking to one provider: one client, one attempt at a time, and a verdict on how it went.
//!
//! Nothing here decides money or policy. A provider key is opened here, against a grant, and is wiped when the
//! request that carries it has been written. When a provider is down an attempt ends in a [`Failure`] that says
//! whether anything was sent, and whether trying elsewhere helps.

mod attempt;
mod check;
mod classify;
mod client;
mod health;
mod key_use;
mod openings;
mod sent;

pub use attempt::{Call, CheckedUrl, Target, Upstream};
pub use check::{Checked, Staged};
pub use classify::{Failure, Verdict};
pub use client::{build_client, build_operator_client};
pub use health::{Health, Standing};
pub use key_use::{KeyUses, Noted, Touched};
pub use openings::{Opened, Openings};
pub use sent::SentMark;
