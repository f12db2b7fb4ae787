//! The admin plane over a real database and a real vault, without a socket.

mod access;
mod audit;
mod harness;
mod key_objects;
mod key_rotation;
mod keys;
mod money;
mod people;
mod provider_keys;
