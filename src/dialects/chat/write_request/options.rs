//! How the answer shall be.

use serde::Serialize;
use serde_json::value::RawValue;

use super::Dropped;
use crate::{
    catalogue::ThinkingStyle,
    dialects::{Call, DialectError},
    wire::{
        Endpoint,
        conversation::{Effort, Format, Reasoning},
    },
};

/// The client's names of what this room has to tell it about.
pub(super) struct Names {
    pub(super) turns: &'static str,
    pub(super) stop: &'static str,
    pub(super) user: &'static str,
    pub(super) effort: &'static str,
}

impl Names {
    pub(super) const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Messages | Endpoint::CountTokens => Self {
                turns: "messages",
                stop: "stop_sequences",
                user: "metadata.user_id",
                effort: "thinking",
            },
            Endpoint::Responses => {
                Self { turns: "input", stop: "stop", user: "user", effort: "reasoning.effort" }
            }
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => {
                Self { turns: "messages", stop: "stop", user: "user", effort: "reasoning_effort" }
            }
        }
    }
}

/// OpenAI takes four, and so do most that speak like it.
const MAX_STOPS: usize = 4;

pub(super) fn check_stop<'a>(stop: &'a [String], names: &Names) -> Result<&'a [String], DialectError> {
    if stop.len() > MAX_STOPS {
        return Err(DialectError::unsupported(
            names.stop,
            "has more than four texts, the most this provider takes",
        ));
    }
    Ok(stop)
}

/// Whether a tier is what one gets without asking, in OpenAI's words or Anthropic's.
pub(super) fn is_default_tier(tier: &str) -> bool {
    matches!(tier, "auto" | "default" | "standard" | "standard_only")
}

/// How hard to think. What cannot be said, and what was not asked for: whether thoughts are shown, which is decided
/// where they are told, and a model that thinks as it finds right, which it does by itself.
pub(super) fn write_effort(
    reasoning: Option<&Reasoning>,
    call: &Call<'_>,
    names: &Names,
    dropped: &mut Dropped,
) -> Result<Option<&'static str>, DialectError> {
    let Some(Reasoning { effort, budget, adaptive: _, show: _ }) = reasoning else { return Ok(None) };
    let Some(effort) = effort.or_else(|| budget.map(effort_of)) else { return Ok(None) };
    let accepted: Vec<Effort> =
        call.capabilities.efforts.iter().filter_map(|name| Effort::parse(name)).collect();
    if call.capabilities.thinking == ThinkingStyle::None {
        return match effort {
            Effort::None => Ok(None),
            _ => Err(DialectError::unsupported(
                names.effort,
                "asks a model to think that does not; take it out",
            )),
        };
    }
    // Most models of this dialect refuse `none`. To Anthropic's clients not to think is the default, whether they say
    // it or not, and models that think here do so either way.
    if effort == Effort::None && accepted.is_empty() && call.asked.endpoint == Endpoint::Messages {
        dropped.note(names.effort);
        return Ok(None);
    }
    let distance = |other: &Effort| (*other as u8).abs_diff(effort as u8);
    Ok(Some(accepted.into_iter().min_by_key(distance).unwrap_or(effort).as_str()))
}

/// The effort nearest to a budget, in tokens, of those that every thinking model knows.
const fn effort_of(budget: u64) -> Effort {
    match budget {
        0..=2_048 => Effort::Low,
        2_049..=8_192 => Effort::Medium,
        _ => Effort::High,
    }
}

/// `{"type":"json_schema",…}`
#[derive(Serialize)]
pub(super) struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

pub(super) fn write_format<'a>(
    format: Option<&'a Format>,
    call: &Call<'_>,
) -> Result<Option<ResponseFormat<'a>>, DialectError> {
    match format {
        None | Some(Format::Text) => Ok(None),
        Some(Format::JsonObject) => Ok(Some(ResponseFormat { kind: "json_object", json_schema: None })),
        Some(Format::JsonSchema { name, description, schema, strict }) => {
            if !call.capabilities.json_schema {
                let why = "asks for a schema, to which this model cannot be held; take it out";
                return Err(DialectError::unsupported("response_format", why));
            }
            let json_schema = JsonSchema {
                // Anthropic's have no names; here one is demanded.
                name: name.as_deref().unwrap_or("answer"),
                description: description.as_deref(),
                schema,
                // Anthropic's are always kept to.
                strict: strict.or((call.asked.endpoint == Endpoint::Messages).then_some(true)),
            };
            Ok(Some(ResponseFormat { kind: "json_schema", json_schema: Some(json_schema) }))
        }
    }
}
