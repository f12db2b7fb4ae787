//! The admin plane over a real database and a real vault, without a socket.

mod access;
mod attacks;
mod audit;
mod audit_chain;
mod audit_events;
mod config_variables;
mod harness;
mod key_objects;
mod key_rotation;
mod keys;
mod money;
mod people;
mod policy_pack;
mod provider_keys;
mod retrieval;
mod service_tokens;
mod sessions;
