//! What is known of providers and models: data, parsed and checked.

pub mod quirks;

pub use quirks::{DialectKind, OutputLimitField, Quirks, StreamUsage};
