//! What the gateway says about itself: log lines and metrics. Counts, names and times; never content.
//!
//! Nothing here waits for anybody: a log line that cannot be written is lost, a metric is an atomic number, and a
//! request is never slowed or refused because of either.

pub mod logs;
pub mod metrics;
mod scrub;

pub use logs::LogError;
pub use metrics::{Counted, Metrics, Plane};
