//! How much the model shall think, in the words its family knows.

use serde::Serialize;

use crate::{
    catalogue::{Capabilities, ThinkingStyle},
    dialects::DialectError,
    wire::conversation::{Effort, Reasoning},
};

/// The least budget that is accepted, in tokens.
const LEAST_BUDGET: u64 = 1024;

/// `thinking`
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WireThinking {
    Enabled { budget_tokens: u64 },
    Adaptive { display: &'static str },
    Disabled,
}

/// What is said of thinking.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Thoughts {
    /// `thinking`
    pub(super) thinking: Option<WireThinking>,
    /// `output_config.effort`
    pub(super) effort: Option<&'static str>,
    /// A budget was given that this model does not know.
    pub(super) budget_dropped: bool,
}

impl Thoughts {
    /// Whether thinking is asked for.
    pub(super) const fn are_on(&self) -> bool {
        matches!(self.thinking, Some(WireThinking::Enabled { .. } | WireThinking::Adaptive { .. }))
    }

    /// Whether it is asked for with a budget.
    pub(super) const fn are_budgeted(&self) -> bool {
        matches!(self.thinking, Some(WireThinking::Enabled { .. }))
    }
}

/// How the model is told to think. `field` and `limit_field` are the client's names of effort and output limit.
pub(super) fn thoughts(
    reasoning: Option<Reasoning>,
    capabilities: &Capabilities,
    output_limit: u64,
    field: &'static str,
    limit_field: &'static str,
) -> Result<Thoughts, DialectError> {
    let Reasoning { effort, budget, adaptive, show } = reasoning.unwrap_or_default();
    let wanted = matches!(effort, Some(effort) if effort != Effort::None) || budget.is_some() || adaptive;
    let off = effort == Some(Effort::None);
    if !wanted && !off {
        // What is shown of thoughts nobody asked for is the model's affair.
        return Ok(Thoughts::default());
    }
    // Left to itself an adaptive model shows a signature and no words.
    let adaptively =
        || WireThinking::Adaptive { display: if show == Some(false) { "omitted" } else { "summarized" } };
    match capabilities.thinking {
        // These do not think unless told to.
        ThinkingStyle::None | ThinkingStyle::Level | ThinkingStyle::Budget if off => Ok(Thoughts::default()),
        ThinkingStyle::None | ThinkingStyle::Level => Err(DialectError::unsupported(
            field,
            "is not known to this model, which does not think; leave it out",
        )),
        ThinkingStyle::Budget => {
            if output_limit <= LEAST_BUDGET {
                let why = format!(
                    "needs an output limit above {LEAST_BUDGET} tokens with this model; raise `{limit_field}`"
                );
                return Err(DialectError::unsupported(field, why));
            }
            // A budget from an effort leaves half of the output to the answer.
            let budget_tokens = match budget {
                Some(budget) => budget.min(output_limit - 1),
                None => budget_of(effort).min(output_limit / 2),
            };
            let thinking = WireThinking::Enabled { budget_tokens: budget_tokens.max(LEAST_BUDGET) };
            Ok(Thoughts { thinking: Some(thinking), ..Thoughts::default() })
        }
        ThinkingStyle::Adaptive if off => {
            Ok(Thoughts { thinking: Some(WireThinking::Disabled), ..Thoughts::default() })
        }
        ThinkingStyle::Always if off => Err(DialectError::unsupported(
            field,
            "cannot be `none`: this model always thinks; leave it out or use `low`",
        )),
        ThinkingStyle::Adaptive | ThinkingStyle::Always => Ok(Thoughts {
            thinking: Some(adaptively()),
            effort: effort.and_then(|effort| nearest(effort, &capabilities.efforts)),
            budget_dropped: budget.is_some(),
        }),
    }
}

/// Tokens of thought that go with an effort.
const fn budget_of(effort: Option<Effort>) -> u64 {
    match effort {
        Some(Effort::None | Effort::Minimal | Effort::Low) => LEAST_BUDGET,
        None | Some(Effort::Medium) => 2 * LEAST_BUDGET,
        Some(Effort::High) => 4 * LEAST_BUDGET,
        Some(Effort::XHigh) => 8 * LEAST_BUDGET,
        Some(Effort::Max) => 16 * LEAST_BUDGET,
    }
}

/// The greatest effort the model knows that is not greater than this one; else its least.
fn nearest(effort: Effort, known: &[String]) -> Option<&'static str> {
    let mut known: Vec<Effort> = known.iter().filter_map(|name| Effort::parse(name)).collect();
    known.sort_unstable();
    let below = known.iter().rev().find(|known| **known <= effort);
    below.or(known.first()).map(|effort| effort.as_str())
}
