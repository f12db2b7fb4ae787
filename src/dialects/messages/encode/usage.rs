//! Usage in Anthropic's classes, which are disjoint.

use serde::Serialize;

use crate::{
    domain::TokenUsage,
    wire::{Figure, Figures, UsageBounds, UsageRules},
};

/// What a client is told: figures as reported, and 0 for what is not, or cannot be.
const BOUNDS: UsageBounds =
    UsageBounds { context_window: u64::MAX, output_limit: Some(u64::MAX), worst_input: 0, worst_output: 0 };

/// `usage`, cumulative.
#[derive(Serialize)]
pub(super) struct Usage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation: Option<CacheCreation>,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutputDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Serialize)]
struct CacheCreation {
    ephemeral_5m_input_tokens: u64,
    ephemeral_1h_input_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    thinking_tokens: u64,
}

impl Usage {
    pub(super) fn new(figures: &Figures, rules: &UsageRules, service_tier: Option<&'static str>) -> Self {
        let known = |figure: Figure| figure.count().is_some();
        let usage: TokenUsage = figures.normalise(rules, &BOUNDS).usage;
        Self {
            input_tokens: usage.input.saturating_add(usage.input_audio),
            cache_creation_input_tokens: usage.cache_write_total(),
            cache_read_input_tokens: usage.cache_read,
            cache_creation: (known(figures.cache_write) || known(figures.cache_write_1h)).then_some(
                CacheCreation {
                    ephemeral_5m_input_tokens: usage.cache_write,
                    ephemeral_1h_input_tokens: usage.cache_write_1h,
                },
            ),
            output_tokens: usage.output_total(),
            output_tokens_details: known(figures.reasoning)
                .then_some(OutputDetails { thinking_tokens: usage.reasoning }),
            service_tier,
        }
    }

    /// All input, of every class.
    pub(super) const fn input_total(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_creation_input_tokens)
            .saturating_add(self.cache_read_input_tokens)
    }
}

/// Anthropic's name of a tier, for those that it has.
pub(super) fn service_tier(tier: &str) -> Option<&'static str> {
    match tier {
        "default" | "standard" => Some("standard"),
        "priority" => Some("priority"),
        "batch" => Some("batch"),
        _ => None,
    }
}
