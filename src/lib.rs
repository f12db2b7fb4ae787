//! Keystile: a self-hosted, bring-your-own-key LLM routing gateway with OpenAI-compatible and
//! Anthropic-compatible APIs.

pub mod admin;
pub mod app;
pub mod catalogue;
pub mod changes;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod dialects;
pub mod domain;
pub mod gateway;
pub mod ledger;
pub mod limits;
pub mod redis;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod vault;
pub mod wire;
