//! Tools, the form of the answer, and how hard to think.

use std::collections::HashSet;

use super::hint;
use crate::{
    dialects::{DialectError, responses::fields::Fields},
    wire::{
        Conversation,
        conversation::{Effort, Format, Reasoning, Tool, ToolChoice},
    },
};

const AN_EFFORT: &str = "`none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`";
const A_CHOICE: &str = "`auto`, `none`, `required`, or an object with a `type`";

/// Reads them.
pub(super) fn read(fields: &mut Fields, conversation: &mut Conversation) -> Result<(), DialectError> {
    for (at, raw) in fields.list("tools")?.unwrap_or_default().iter().enumerate() {
        conversation.tools.push(tool(Fields::read(format!("tools[{at}]"), raw.get())?)?);
    }
    read_choice(fields, conversation)?;
    conversation.parallel_tools = fields.flag("parallel_tool_calls")?;
    if let Some(text) = fields.inner("text")? {
        read_text(text, conversation)?;
    }
    if let Some(reasoning) = fields.inner("reasoning")? {
        read_reasoning(reasoning, conversation)?;
    }
    Ok(())
}

fn tool(mut tool: Fields) -> Result<Tool, DialectError> {
    match tool.required_text("type")?.as_str() {
        "function" => {}
        "custom" => {
            return Err(DialectError::unsupported(
                tool.path("type"),
                "is `custom`, which this provider does not know; offer a `function` with one text parameter",
            ));
        }
        _ => {
            return Err(DialectError::unsupported(
                tool.path("type"),
                "is a tool that this provider does not have; offer tools of the type `function` only",
            ));
        }
    }
    const WHY: &str = "is not to be had with this provider; leave it out";
    tool.refuse("defer_loading", &["false"], WHY)?;
    tool.refuse("async", &["false"], WHY)?;
    tool.refuse("output_schema", &[], WHY)?;
    let callers = tool.list("allowed_callers")?.unwrap_or_default();
    if callers.iter().any(|caller| caller.get() != "\"direct\"") {
        return Err(DialectError::unsupported(tool.path("allowed_callers"), WHY));
    }
    let read = Tool {
        name: tool.required_text("name")?,
        description: tool.text("description")?,
        parameters: tool.object("parameters")?,
        strict: tool.flag("strict")?,
        cache: None,
    };
    tool.finish()?;
    Ok(read)
}

fn read_choice(fields: &mut Fields, conversation: &mut Conversation) -> Result<(), DialectError> {
    let Some(raw) = fields.take("tool_choice") else { return Ok(()) };
    if let Ok(word) = serde_json::from_str::<String>(raw) {
        let choice = by_word(&word).ok_or_else(|| DialectError::wrong_shape("tool_choice", A_CHOICE))?;
        conversation.tool_choice = Some(choice);
        return Ok(());
    }
    let mut choice = Fields::read("tool_choice".to_owned(), raw)
        .map_err(|_| DialectError::wrong_shape("tool_choice", A_CHOICE))?;
    match choice.required_text("type")?.as_str() {
        "function" => conversation.tool_choice = Some(ToolChoice::Named(choice.required_text("name")?)),
        "allowed_tools" => {
            let mode = choice.required_text("mode")?;
            let Some(mode @ (ToolChoice::Auto | ToolChoice::Required)) = by_word(&mode) else {
                return Err(DialectError::wrong_shape(choice.path("mode"), "`auto` or `required`"));
            };
            let mut allowed = HashSet::new();
            for (at, raw) in choice.list("tools")?.unwrap_or_default().iter().enumerate() {
                let mut entry = Fields::read(format!("tool_choice.tools[{at}]"), raw.get())?;
                if entry.required_text("type")? != "function" {
                    return Err(DialectError::unsupported(
                        entry.path("type"),
                        "is a tool that this provider does not have; allow tools of the type `function` only",
                    ));
                }
                allowed.insert(entry.required_text("name")?);
                entry.finish()?;
            }
            // A tool that must not be called is one that the model need not hear of.
            conversation.tools.retain(|tool| allowed.contains(&tool.name));
            conversation.tool_choice = Some(mode);
        }
        _ => {
            return Err(DialectError::unsupported(
                choice.path("type"),
                "demands a tool that this provider does not have; demand one of the type `function`",
            ));
        }
    }
    choice.finish()
}

fn by_word(word: &str) -> Option<ToolChoice> {
    match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" => Some(ToolChoice::Required),
        _ => None,
    }
}

fn read_text(mut text: Fields, conversation: &mut Conversation) -> Result<(), DialectError> {
    if let Some(verbosity) = text.text("verbosity")? {
        if !matches!(verbosity.as_str(), "low" | "medium" | "high") {
            return Err(DialectError::wrong_shape(text.path("verbosity"), "`low`, `medium` or `high`"));
        }
        conversation.verbosity = Some(verbosity);
    }
    if let Some(mut format) = text.inner("format")? {
        conversation.format = Some(match format.required_text("type")?.as_str() {
            "text" => Format::Text,
            "json_object" => Format::JsonObject,
            "json_schema" => {
                let schema = format.object("schema")?;
                Format::JsonSchema {
                    name: format.text("name")?,
                    description: format.text("description")?,
                    schema: schema
                        .ok_or_else(|| DialectError::wrong_shape(format.path("schema"), "an object"))?,
                    strict: format.flag("strict")?,
                }
            }
            _ => {
                return Err(DialectError::unsupported(
                    format.path("type"),
                    "is not known here; ask for `text`, `json_object` or `json_schema`",
                ));
            }
        });
        format.finish()?;
    }
    text.finish()
}

fn read_reasoning(mut reasoning: Fields, conversation: &mut Conversation) -> Result<(), DialectError> {
    let mut read = Reasoning::default();
    if let Some(effort) = reasoning.text("effort")? {
        let effort = Effort::parse(&effort);
        read.effort =
            Some(effort.ok_or_else(|| DialectError::wrong_shape(reasoning.path("effort"), AN_EFFORT))?);
    }
    for name in ["summary", "generate_summary"] {
        match reasoning.text(name)?.as_deref() {
            None => {}
            Some("auto" | "concise" | "detailed") => read.show = Some(true),
            Some(_) => {
                return Err(DialectError::wrong_shape(
                    reasoning.path(name),
                    "`auto`, `concise` or `detailed`",
                ));
            }
        }
    }
    reasoning.refuse("mode", &["\"standard\""], "must be `standard` with this provider; leave it out")?;
    if reasoning.text("context")?.is_some_and(|context| context != "auto") {
        hint(conversation, "reasoning.context", "true");
    }
    reasoning.finish()?;
    conversation.reasoning = (read != Reasoning::default()).then_some(read);
    Ok(())
}
