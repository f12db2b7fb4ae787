//! The admin plane over a real database and a real vault, without a socket.

mod access;
mod audit;
mod config_variables;
mod harness;
mod keys;
mod money;
mod people;
mod policy_pack;
mod provider_keys;
