//! The response as one object: what an answer without a stream is, and what the first and the last event of a stream
//! carry. It repeats the settings of its request, which clients count on.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    dialects::Call,
    wire::{Envelope, Figure, Figures, UsageRules},
};

/// What every telling of a response has in common.
pub(super) struct Head {
    id: String,
    created_at: i64,
    /// The model that answers.
    pub(super) model: String,
    /// The tier that was used, once it is known.
    pub(super) service_tier: Option<String>,
    rules: UsageRules,
    settings: Settings,
}

/// Settings as the client gave them, or as they are without being given.
#[derive(Serialize)]
struct Settings {
    instructions: Box<RawValue>,
    max_output_tokens: Option<u64>,
    max_tool_calls: Box<RawValue>,
    metadata: Box<RawValue>,
    parallel_tool_calls: Box<RawValue>,
    prompt_cache_key: Box<RawValue>,
    reasoning: ReasoningSettings,
    safety_identifier: Box<RawValue>,
    temperature: Box<RawValue>,
    text: TextSettings,
    tool_choice: Box<RawValue>,
    tools: Box<RawValue>,
    top_p: Box<RawValue>,
    user: Box<RawValue>,
}

#[derive(Serialize)]
struct ReasoningSettings {
    effort: Box<RawValue>,
    summary: Box<RawValue>,
}

#[derive(Serialize)]
struct TextSettings {
    format: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<Box<RawValue>>,
}

/// A response.
#[derive(Serialize)]
pub(super) struct Response<'a> {
    id: &'a str,
    object: &'static str,
    created_at: i64,
    status: &'static str,
    background: bool,
    error: Option<()>,
    incomplete_details: Option<Incomplete>,
    model: &'a str,
    output: Vec<&'a RawValue>,
    previous_response_id: Option<()>,
    service_tier: Option<&'a str>,
    store: bool,
    top_logprobs: u64,
    truncation: &'static str,
    #[serde(flatten)]
    settings: &'a Settings,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl Head {
    pub(super) fn new(call: &Call<'_>) -> Self {
        let envelope = &call.asked.envelope;
        let given = |name: &str, otherwise: &'static str| echo(envelope.raw(name), otherwise);
        let inside = |name: &str| {
            let raw = envelope.raw_bytes(name)?;
            Envelope::split(raw, usize::MAX).ok()
        };
        let (text, reasoning) = (inside("text"), inside("reasoning"));
        let of = |object: &Option<Envelope>, name: &str, otherwise: &'static str| {
            echo(object.as_ref().and_then(|object| object.raw(name)), otherwise)
        };
        let verbosity = text.as_ref().and_then(|text| text.raw("verbosity"));
        let settings = Settings {
            instructions: given("instructions", "null"),
            max_output_tokens: call.output_limit.or(call.asked.view.output_limit),
            max_tool_calls: given("max_tool_calls", "null"),
            metadata: given("metadata", "{}"),
            parallel_tool_calls: given("parallel_tool_calls", "true"),
            prompt_cache_key: given("prompt_cache_key", "null"),
            reasoning: ReasoningSettings {
                effort: of(&reasoning, "effort", "null"),
                summary: of(&reasoning, "summary", "null"),
            },
            safety_identifier: given("safety_identifier", "null"),
            temperature: given("temperature", "1.0"),
            text: TextSettings {
                format: of(&text, "format", "{\"type\":\"text\"}"),
                verbosity: verbosity.map(|raw| echo(Some(raw), "null")),
            },
            tool_choice: given("tool_choice", "\"auto\""),
            tools: given("tools", "[]"),
            top_p: given("top_p", "1.0"),
            user: given("user", "null"),
        };
        Self {
            id: format!("resp_{}", call.request_id),
            created_at: call.created,
            model: call.model.as_str().to_owned(),
            service_tier: None,
            rules: UsageRules { reasoning_apart: call.quirks.reasoning_apart },
            settings,
        }
    }

    /// The response at this point.
    pub(super) fn response<'a>(
        &'a self,
        status: &'static str,
        incomplete: Option<&'static str>,
        output: &'a BTreeMap<usize, Box<RawValue>>,
        figures: Option<&Figures>,
    ) -> Response<'a> {
        Response {
            id: &self.id,
            object: "response",
            created_at: self.created_at,
            status,
            background: false,
            error: None,
            incomplete_details: incomplete.map(|reason| Incomplete { reason }),
            model: &self.model,
            output: output.values().map(AsRef::as_ref).collect(),
            previous_response_id: None,
            service_tier: self.service_tier.as_deref(),
            store: false,
            top_logprobs: 0,
            truncation: "disabled",
            settings: &self.settings,
            usage: figures.filter(|figures| !figures.is_empty()).map(|figures| usage(figures, &self.rules)),
        }
    }
}

/// All members that clients expect; what was not told is none.
fn usage(figures: &Figures, rules: &UsageRules) -> Usage {
    let count = |figure: Figure| figure.count().unwrap_or(0);
    let (input_tokens, output_tokens) = (count(figures.prompt), count(figures.whole_completion(rules)));
    Usage {
        input_tokens,
        input_tokens_details: InputDetails {
            cached_tokens: count(figures.cache_read),
            cache_write_tokens: count(figures.cache_write).saturating_add(count(figures.cache_write_1h)),
        },
        output_tokens,
        output_tokens_details: OutputDetails { reasoning_tokens: count(figures.reasoning) },
        // Clients add the two up themselves, whatever else a provider counts into its total.
        total_tokens: input_tokens.saturating_add(output_tokens),
    }
}

/// A setting as it came, on one line: an event has no room for more.
fn echo(raw: Option<&str>, otherwise: &'static str) -> Box<RawValue> {
    let raw = raw.filter(|raw| *raw != "null").unwrap_or(otherwise);
    let text = RawValue::from_string(on_one_line(raw));
    text.unwrap_or_else(|_| RawValue::from_string(otherwise.to_owned()).expect("every default is JSON"))
}

/// JSON text without the space between its tokens.
fn on_one_line(raw: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    raw.chars()
        .filter(|c| {
            if inside {
                (inside, escaped) = (escaped || *c != '"', !escaped && *c == '\\');
                return true;
            }
            inside = *c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn space_goes_and_text_stays() {
        let raw = "{ \"a b\" : [ 1.50 ,\n\"x \\\" y\\\\\" , \" \\u000a\" ] ,\r\t\"z\":{ } }";
        assert_eq!(on_one_line(raw), "{\"a b\":[1.50,\"x \\\" y\\\\\",\" \\u000a\"],\"z\":{}}");
    }

    proptest! {
        #[test]
        fn the_value_is_the_same(text in "[\\PC\"\\\\\n]{0,20}", number in any::<i32>()) {
            let value = serde_json::json!({ "text": [text, { "n": number }] });
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            prop_assert_eq!(on_one_line(&pretty), value.to_string());
        }
    }
}
