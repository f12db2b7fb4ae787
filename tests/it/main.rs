//! What the gateway promises, seen from outside: one module a behaviour.



mod allow_list;
mod chat;
mod errors;
mod fallback;
mod hang_up;
mod schema;
mod stream_faults;
mod support;
