//! What the model may call, and whether it has to.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Dropped,
    blocks::{CacheControl, Names, Wire},
    schema,
    turns::Message,
};
use crate::{
    catalogue::Capabilities,
    dialects::DialectError,
    wire::conversation::{Tool, ToolChoice},
};

/// Most tools whose arguments may be held to their schemas in one request.
const MAX_STRICT: usize = 20;

/// One tool.
#[derive(Serialize)]
pub(super) struct WireTool<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<CacheControl>,
}

/// Whether a tool has to be called.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Choice<'a> {
    Auto {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    },
    Any {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    },
    Tool {
        name: Cow<'a, str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    },
    None,
}

/// The tools of a request.
pub(super) fn tools<'a>(
    tools: &'a [Tool],
    capabilities: &Capabilities,
    names: &mut Names,
    dropped: &mut Dropped,
) -> Result<Vec<WireTool<'a>>, DialectError> {
    let strict = tools.iter().filter(|tool| tool.strict == Some(true)).count();
    let strict_can_be = capabilities.json_schema && strict <= MAX_STRICT;
    let written = tools.iter().enumerate().map(|(at, tool)| {
        let Tool { name, description, parameters, strict, cache } = tool;
        let field = |member: &str| format!("tools[{at}].function.{member}");
        if name.is_empty() {
            return Err(DialectError::unsupported(field("name"), "is empty; give the tool a name"));
        }
        let wrong = || DialectError::wrong_shape(field("parameters"), "a JSON Schema of type `object`");
        let mut input_schema = match parameters {
            Some(parameters) => object_schema(parameters).ok_or_else(wrong)?,
            None => Cow::Owned(without_parameters()),
        };
        let mut held = *strict == Some(true) && strict_can_be;
        if held {
            match schema::accepted(&input_schema, None) {
                Ok(schema) => input_schema = Cow::Owned(to_raw_value(&schema).map_err(|_| wrong())?),
                Err(_) => held = false,
            }
        }
        if *strict == Some(true) && !held {
            dropped.note("tools.strict");
        }
        Ok(WireTool {
            name: names.of(name),
            description: description.as_deref().filter(|text| !text.is_empty()),
            input_schema,
            strict: held,
            cache_control: cache.map(Into::into),
        })
    });
    written.collect()
}

/// Tools that were called before and are not offered any more, so that the calls can be shown: a request with calls
/// and without tools is refused.
pub(super) fn of_the_past<'a>(messages: &[Message<'a>]) -> Vec<WireTool<'a>> {
    let blocks = messages.iter().flat_map(|message| &message.content);
    let mut called: Vec<&str> = blocks
        .filter_map(|block| match block {
            Wire::ToolUse { name, .. } => Some(name.as_ref()),
            _ => None,
        })
        .collect();
    called.sort_unstable();
    called.dedup();
    let tool = |name: &str| WireTool {
        name: Cow::Owned(name.to_owned()),
        description: None,
        input_schema: Cow::Owned(without_parameters()),
        strict: false,
        cache_control: None,
    };
    called.into_iter().map(tool).collect()
}

fn without_parameters() -> Box<RawValue> {
    RawValue::from_string(r#"{"type":"object","properties":{}}"#.to_owned()).expect("this is JSON")
}

/// A schema whose root says that it is an object; it is the client's own text as far as can be.
fn object_schema(schema: &RawValue) -> Option<Cow<'_, RawValue>> {
    #[derive(serde::Deserialize)]
    struct Root<'a> {
        #[serde(rename = "type", borrow, default)]
        kind: Option<Cow<'a, str>>,
    }
    let members = schema.get().trim().strip_prefix('{')?;
    let root: Root<'_> = serde_json::from_str(schema.get()).ok()?;
    match root.kind.as_deref() {
        Some("object") => Some(Cow::Borrowed(schema)),
        Some(_) => None,
        None if members.trim_start() == "}" => Some(Cow::Owned(without_parameters())),
        // A `null` would be there twice.
        None if has_type(schema) => None,
        None => RawValue::from_string(format!("{{\"type\":\"object\",{members}")).ok().map(Cow::Owned),
    }
}

fn has_type(schema: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    struct Root<'a> {
        #[serde(rename = "type", borrow)]
        _kind: &'a RawValue,
    }
    serde_json::from_str::<Root<'_>>(schema.get()).is_ok()
}

/// Whether a tool has to be called, as the client has it.
pub(super) fn choice<'a>(
    wanted: Option<&'a ToolChoice>,
    parallel: Option<bool>,
    any_tools: bool,
    demand: Result<(), &'static str>,
    names: &mut Names,
) -> Result<Option<Choice<'a>>, DialectError> {
    let disable_parallel_tool_use = parallel == Some(false);
    if !any_tools {
        return match wanted {
            None | Some(ToolChoice::Auto | ToolChoice::None) => Ok(None),
            Some(ToolChoice::Required | ToolChoice::Named(_)) => Err(DialectError::unsupported(
                "tool_choice",
                "demands a tool and there is none; send `tools`",
            )),
        };
    }
    if matches!(wanted, Some(ToolChoice::Required | ToolChoice::Named(_)))
        && let Err(why) = demand
    {
        return Err(DialectError::unsupported("tool_choice", why));
    }
    Ok(match wanted {
        None | Some(ToolChoice::Auto) if disable_parallel_tool_use => {
            Some(Choice::Auto { disable_parallel_tool_use })
        }
        None => None,
        Some(ToolChoice::Auto) => Some(Choice::Auto { disable_parallel_tool_use }),
        Some(ToolChoice::Required) => Some(Choice::Any { disable_parallel_tool_use }),
        Some(ToolChoice::Named(name)) => {
            Some(Choice::Tool { name: names.of(name), disable_parallel_tool_use })
        }
        Some(ToolChoice::None) => Some(Choice::None),
    })
}
