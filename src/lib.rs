//! Keystile: a self-hosted, bring-your-own-key LLM routing gateway with an OpenAI-compatible API.

pub mod catalogue;
pub mod config;
pub mod demo;
pub mod dialects;
pub mod domain;
pub mod ledger;
pub mod limits;
pub mod server;
pub mod store;
pub mod vault;
pub mod wire;
