//! Keystile: a self-hosted, bring-your-own-key LLM routing gateway with an OpenAI-compatible API.

pub mod config;
pub mod domain;
pub mod store;
pub mod telemetry;
pub mod vault;
