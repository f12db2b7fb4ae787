//! Keystile: a self-hosted, bring-your-own-key LLM routing gateway with an OpenAI-compatible API.

pub mod admin;
pub mod catalogue;
pub mod config;
pub mod control;
pub mod domain;
pub mod ledger;
pub mod limits;
pub mod store;
pub mod telemetry;
pub mod vault;
