//! Sockets: accept, speak HTTP/1.1, stop in good order, and be the only `serve` on its data.
//!
//! Both planes are served by the same loop over a hyper service of their own. Every connection has a deadline for
//! everything a client could drag out: the head, the pause between requests, and its own reading. (How fast a body must
//! come is the service's business.) When `max_connections` are open, accepting pauses and new connections wait in the
//! kernel's queue: a client waits a moment instead of seeing a reset. When the process has no file descriptors left,
//! accepting backs off and goes on.

mod connection;
mod harden;
mod io;
mod listen;
mod lock;
mod shutdown;

pub use harden::harden;
pub use listen::{ConnectionSettings, ConnectionStats, ListenError, Listening, listen};
pub use lock::{InstanceLock, LockError};
pub use shutdown::{Drained, ReloadSignals, Shutdown, StopSignals};

#[cfg(test)]
mod tests;
