//! What the gateway promises, seen from outside: one module a behaviour.

mod allow_list;
mod architecture;
mod budgets;
mod chat;
mod cli;
mod cli_secrets;
mod connections;
mod corpus;
mod database_gone;
mod errors;
mod fallback;
mod hang_up;
mod instances;
mod isolation;
mod metering;
mod openapi;
mod privacy;
mod rate_limit;
mod retention;
mod revocation;
mod schema;
mod shutdown;
mod spend_cap;
mod stream_faults;
mod support;
