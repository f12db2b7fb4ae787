//! What the gateway promises, seen from outside: one module a behaviour.

mod schema;
