//! What the gateway promises, seen from outside: one module a behaviour.

mod openapi;
mod schema;
