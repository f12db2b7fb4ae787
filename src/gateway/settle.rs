//! What one attempt used: what the provider reported, and what stands in where it did not.

use std::sync::Arc;

use super::meter::{Beginning, Live};
use crate::{
    catalogue::{ModelPrice, ServiceTier},
    domain::{NanoUsd, TokenUsage, UsageSource},
    ledger::{self, Stake},
    wire::{Figure, Figures, UsageBounds, UsageRules},
};

/// Everything that is known of what an attempt used.
pub(super) struct Reported {
    figures: Figures,
    bounds: UsageBounds,
    reasoning_apart: bool,
    input_estimate: u64,
    text_bytes: u64,
    complete: bool,
    tier: ServiceTier,
}

/// What it comes to.
pub(super) struct Reading {
    pub(super) usage: TokenUsage,
    pub(super) source: UsageSource,
    /// What a clamp of impossible figures took away.
    pub(super) taken_away: NanoUsd,
    /// Whether the provider reported what cannot be.
    pub(super) impossible: bool,
}

impl Reported {
    /// Before anything is sent.
    pub(super) fn nothing(beginning: &Beginning) -> Self {
        Self {
            figures: Figures::default(),
            bounds: beginning.bounds,
            reasoning_apart: beginning.reasoning_apart,
            input_estimate: beginning.input_estimate,
            text_bytes: 0,
            complete: false,
            tier: beginning.tier,
        }
    }

    /// Of an attempt under way or just ended.
    pub(super) fn of(live: &Live) -> Self {
        Self {
            figures: live.figures,
            text_bytes: live.text_bytes,
            complete: live.complete,
            tier: live.tier,
            ..Self::nothing(live.beginning())
        }
    }

    /// What it would be charged if nothing more were heard of it.
    pub(super) fn stake(self, beginning: &Beginning) -> Stake {
        let price = beginning.price.as_deref();
        let tier = self.tier;
        let usage = self.read(price).usage;
        let Some(price) = price else { return Stake { usage, ..Stake::default() } };
        let cost = ledger::cost(&usage, price, tier);
        let held = beginning.reservation.amount();
        let charged = if beginning.reservation.is_clamped() { cost.total.min(held) } else { cost.total };
        Stake {
            usage,
            cost_nano_usd: Some(charged.nano()),
            lines: cost.lines,
            price_version: Some(Arc::clone(&price.version)),
            first_token_ms: None,
        }
    }

    /// The usage, and where it comes from. Each side that the provider left out is estimated; of an answer that broke off,
    /// its interim figures are the least that can be true.
    pub(super) fn read(self, price: Option<&ModelPrice>) -> Reading {
        let rules = UsageRules { reasoning_apart: self.reasoning_apart };
        let within = self.figures.normalise(&rules, &self.bounds);
        let mut usage = within.usage;
        let mut estimated = false;
        // What is no count says nothing: it is estimated like what never came.
        let said = |figure| matches!(figure, Figure::Count(_));
        let input_unsaid = match self.figures.prompt {
            Figure::Absent => usage.input_total() == 0,
            other => !said(other),
        };
        if input_unsaid {
            usage = TokenUsage {
                output: usage.output,
                output_audio: usage.output_audio,
                reasoning: usage.reasoning,
                ..TokenUsage::default()
            };
            usage.input = self.input_estimate;
            estimated = true;
        }
        let relayed = ledger::estimated_tokens(self.text_bytes).min(self.bounds.worst_output);
        if self.figures.completion == Figure::Impossible {
            (usage.output, usage.output_audio, usage.reasoning) = (relayed, 0, 0);
            estimated = true;
        }
        let unsaid = self.figures.completion == Figure::Absent && relayed > 0;
        if (unsaid || !self.complete) && usage.output_total() < relayed {
            usage.output = relayed.saturating_sub(usage.output_audio);
            estimated = true;
        }
        let source = if estimated || !self.complete { UsageSource::Estimated } else { UsageSource::Provider };
        let taken_away = match price.filter(|_| within.clamped) {
            Some(price) => {
                let claimed = ledger::cost(&usage.plus(&within.taken), price, self.tier).total;
                claimed.minus(ledger::cost(&usage, price, self.tier).total).max(NanoUsd::ZERO)
            }
            None => NanoUsd::ZERO,
        };
        Reading { usage, source, taken_away, impossible: within.clamped }
    }
}
