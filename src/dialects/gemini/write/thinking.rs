//! How hard to think, in Gemini's words: a budget of tokens for Gemini 2.5, a level for later ones.

use super::{Notes, shape::ThinkingConfig};
use crate::{
    catalogue::{Capabilities, ThinkingStyle},
    dialects::DialectError,
    wire::{
        Endpoint,
        conversation::{Effort, Reasoning},
    },
};

/// The largest budget that every model with budgets takes.
const LARGEST_BUDGET: u64 = 24_576;
/// A budget that leaves it to the model.
const DYNAMIC: i64 = -1;

/// What to send, if anything.
pub(super) fn config(
    reasoning: &Reasoning,
    capabilities: &Capabilities,
    endpoint: Endpoint,
    notes: &mut Notes,
) -> Result<Option<ThinkingConfig>, DialectError> {
    let Reasoning { effort, budget, adaptive, show } = *reasoning;
    let wanted =
        effort.is_some_and(|effort| effort > Effort::None) || budget.is_some_and(|budget| budget > 0);
    if capabilities.thinking == ThinkingStyle::None {
        return if wanted {
            Err(DialectError::unsupported(
                field(endpoint),
                "is not known to this model, which does not think; leave it out or call another model",
            ))
        } else {
            Ok(None)
        };
    }
    // A chat or a message that asks for thinking is shown it; a response only if it asks for a summary as well.
    let shown = show.unwrap_or((wanted || adaptive) && endpoint != Endpoint::Responses);
    let mut config = ThinkingConfig::default();
    if capabilities.thinking == ThinkingStyle::Budget {
        config.thinking_budget = match (budget, effort) {
            (Some(0), _) => Some(budget_of(accepted(Effort::None, capabilities, endpoint, notes))),
            (Some(budget), _) => i64::try_from(budget.min(LARGEST_BUDGET)).ok(),
            (None, Some(effort)) => Some(budget_of(accepted(effort, capabilities, endpoint, notes))),
            (None, None) => adaptive.then_some(DYNAMIC),
        };
    } else {
        let effort = effort.or_else(|| budget.map(effort_of));
        config.thinking_level =
            effort.map(|effort| level_of(accepted(effort, capabilities, endpoint, notes)));
    }
    // Nothing is shown of what was not thought.
    config.include_thoughts = (shown && config.thinking_budget != Some(0)).then_some(true);
    Ok((config != ThinkingConfig::default()).then_some(config))
}

/// The nearest effort that the model takes: what it does not know is told as the next lower one, or as its least. Said
/// to the client, since it asked for another.
fn accepted(effort: Effort, capabilities: &Capabilities, endpoint: Endpoint, notes: &mut Notes) -> Effort {
    let known = || capabilities.efforts.iter().filter_map(|name| Effort::parse(name));
    let nearest = known().filter(|known| *known <= effort).max().or_else(|| known().min()).unwrap_or(effort);
    if nearest != effort {
        notes.dropped(field(endpoint));
    }
    nearest
}

/// Google's own table for its chat endpoint.
const fn budget_of(effort: Effort) -> i64 {
    match effort {
        Effort::None => 0,
        Effort::Minimal | Effort::Low => 1_024,
        Effort::Medium => 8_192,
        Effort::High | Effort::XHigh | Effort::Max => 24_576,
    }
}

/// The same table read backwards: the least effort whose budget is enough.
const fn effort_of(budget: u64) -> Effort {
    match budget {
        0 => Effort::None,
        1..=1_024 => Effort::Low,
        1_025..=8_192 => Effort::Medium,
        _ => Effort::High,
    }
}

const fn level_of(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High => "HIGH",
        Effort::XHigh | Effort::Max => "XHIGH",
    }
}

const fn field(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Responses => "reasoning.effort",
        Endpoint::Messages | Endpoint::CountTokens => "thinking",
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => "reasoning_effort",
    }
}
