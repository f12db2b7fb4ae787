//! Answers as Gemini gives them, read one layer at a time: a surprise in one part hides nothing of the others.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{dialects::Unreadable, wire::Figures};

/// A whole answer, or one event of a stream: they have one shape.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) prompt_feedback: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) response_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

impl Chunk<'_> {
    /// Whether there is anything in it that an answer has.
    pub(super) fn is_answer(&self) -> bool {
        self.candidates.is_some()
            || self.prompt_feedback.is_some()
            || self.usage_metadata.is_some()
            || self.model_version.is_some()
            || self.response_id.is_some()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Candidate<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    pub(super) finish_reason: Option<String>,
    #[serde(borrow)]
    pub(super) grounding_metadata: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) parts: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Part<'a> {
    pub(super) text: Option<String>,
    pub(super) thought: Option<bool>,
    pub(super) thought_signature: Option<String>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FunctionCall<'a> {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) partial_args: Option<&'a RawValue>,
    pub(super) will_continue: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PromptFeedback {
    pub(super) block_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Grounding {
    pub(super) grounding_chunks: Option<Vec<GroundingChunk>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct GroundingChunk {
    pub(super) web: Option<Web>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Web {
    pub(super) uri: Option<String>,
    pub(super) title: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Tier {
    pub(super) service_tier: Option<String>,
    pub(super) traffic_type: Option<String>,
}

impl Tier {
    /// The tier, by the name that requests give it.
    pub(super) fn name(self) -> Option<String> {
        let by_traffic = || match self.traffic_type.as_deref() {
            Some("ON_DEMAND") => Some("standard"),
            Some("ON_DEMAND_PRIORITY") => Some("priority"),
            Some("ON_DEMAND_FLEX") => Some("flex"),
            _ => None,
        };
        self.service_tier
            .filter(|tier| !tier.is_empty() && tier != "unspecified")
            .or_else(|| by_traffic().map(str::to_owned))
    }
}

/// A body as text.
pub(in super::super) fn text(body: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(body).map_err(|_| Unreadable("not UTF-8"))
}

/// The usage in an answer of any endpoint.
pub(in super::super) fn usage_of(body: &str) -> Figures {
    let chunk: Chunk<'_> = serde_json::from_str(body).unwrap_or_default();
    chunk.usage_metadata.map(|usage| Figures::from_gemini_usage(usage.get())).unwrap_or_default()
}

/// A string with something in it.
pub(super) fn string(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).filter(|text: &String| !text.is_empty())
}

/// JSON text without the space between its tokens: Google indents whole answers, arguments of tools as well.
pub(super) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}
