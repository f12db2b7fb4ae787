//! What the model may call, and whether it must.

use std::sync::LazyLock;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{CacheControl, Dropped};
use crate::{
    dialects::{Call, DialectError},
    wire::conversation::{self, ToolChoice as Choice},
};

/// `{"type":"function","function":{…}}`
#[derive(Serialize)]
pub(super) struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// What stands for a schema where there is none: not all servers do without.
fn no_parameters() -> &'static RawValue {
    static NOTHING: LazyLock<Box<RawValue>> = LazyLock::new(|| {
        RawValue::from_string(r#"{"type":"object","properties":{}}"#.to_owned()).expect("this is JSON")
    });
    &NOTHING
}

pub(super) fn write<'a>(
    tools: &'a [conversation::Tool],
    call: &Call<'_>,
    dropped: &mut Dropped,
) -> Vec<Tool<'a>> {
    let write = |tool: &'a conversation::Tool| {
        let conversation::Tool { name, description, parameters, strict, cache } = tool;
        let function = Function {
            name,
            description: description.as_deref(),
            parameters: parameters.as_deref().unwrap_or_else(|| no_parameters()),
            strict: strict.filter(|strict| *strict),
        };
        Tool { kind: "function", function, cache_control: dropped.mark(*cache, call) }
    };
    tools.iter().map(write).collect()
}

/// A word, or the name of a tool.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ToolChoice<'a> {
    Word(&'static str),
    Named {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Name<'a>,
    },
}

#[derive(Serialize)]
pub(super) struct Name<'a> {
    name: &'a str,
}

pub(super) fn write_choice<'a>(
    choice: Option<&'a Choice>,
    tools: &[conversation::Tool],
    call: &Call<'_>,
) -> Result<Option<ToolChoice<'a>>, DialectError> {
    let demand = |choice| match (tools.is_empty(), call.capabilities.forced_tools) {
        (true, _) => {
            Err(DialectError::unsupported("tool_choice", "demands a tool, and none is offered; offer it"))
        }
        (_, false) => {
            let why = "demands a tool, which this model cannot be made to call; leave it `auto`";
            Err(DialectError::unsupported("tool_choice", why))
        }
        (false, true) => Ok(Some(choice)),
    };
    match choice {
        Some(Choice::Required) => demand(ToolChoice::Word("required")),
        Some(Choice::Named(name)) => demand(ToolChoice::Named { kind: "function", function: Name { name } }),
        // The default.
        None | Some(Choice::Auto) => Ok(None),
        // Refused by some where there is nothing to choose from.
        Some(Choice::None) => Ok((!tools.is_empty()).then_some(ToolChoice::Word("none"))),
    }
}
