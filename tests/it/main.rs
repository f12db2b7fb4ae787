//! What the gateway promises, seen from outside: one module a behaviour.



mod chat;
mod schema;
mod support;
