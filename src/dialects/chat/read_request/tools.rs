//! What the model may call, and whether it must.

use std::collections::HashSet;

use super::content::read_cache;
use crate::{
    dialects::{DialectError, chat::field::Field},
    wire::{
        Conversation,
        conversation::{CacheTime, Tool, ToolChoice},
    },
};

const CUSTOM: &str = "is `custom`, which only OpenAI's own models know; make it a function with one string, or call a \
                      provider of OpenAI's dialect";
const CHOICES: &str = "`none`, `auto`, `required`, or an object that names a function";

pub(super) fn read(tools: Field<'_, '_>) -> Result<Vec<Tool>, DialectError> {
    let mut all = Vec::new();
    tools.items("an array of objects", |tool| {
        all.push(read_tool(tool)?);
        Ok(())
    })?;
    Ok(all)
}

fn read_tool(tool: Field<'_, '_>) -> Result<Tool, DialectError> {
    let (mut function, mut cache) = (None, None);
    tool.members(|name, value| {
        match name {
            "type" => check_function(value)?,
            "function" => function = Some(value.raw()),
            "cache_control" => cache = Some(read_cache(value)?),
            // Named by its type, unless there is none.
            "custom" => return Err(value.unsupported(CUSTOM)),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let function = function.ok_or_else(|| tool.missing("function", "an object"))?;
    read_definition(tool.member("function", function), cache)
}

/// Legacy `functions`: the definitions themselves.
pub(super) fn read_functions(functions: Field<'_, '_>) -> Result<Vec<Tool>, DialectError> {
    let mut all = Vec::new();
    functions.items("an array of objects", |function| {
        all.push(read_definition(function, None)?);
        Ok(())
    })?;
    Ok(all)
}

fn read_definition(function: Field<'_, '_>, mut cache: Option<CacheTime>) -> Result<Tool, DialectError> {
    let (mut name, mut description, mut parameters, mut strict) = (None, None, None, None);
    function.members(|member, value| {
        match member {
            "name" => name = Some(value.named()?),
            "description" => description = Some(value.string()?),
            "parameters" => parameters = Some(value.to_raw_object()?),
            "strict" => strict = Some(value.boolean()?),
            "cache_control" => cache = Some(read_cache(value)?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| function.missing("name", "a string that is not empty"))?;
    Ok(Tool { name, description, parameters, strict, cache })
}

/// `type` of a tool, of a call, of a choice.
pub(super) fn check_function(kind: Field<'_, '_>) -> Result<(), DialectError> {
    match kind.text()?.as_ref() {
        "function" => Ok(()),
        "custom" => Err(kind.unsupported(CUSTOM)),
        _ => Err(kind.only_openai("is not `function`")),
    }
}

/// What is chosen, and from which of the tools.
pub(super) struct Choice {
    choice: ToolChoice,
    allowed: Option<HashSet<String>>,
}

impl From<ToolChoice> for Choice {
    fn from(choice: ToolChoice) -> Self {
        Self { choice, allowed: None }
    }
}

impl Choice {
    /// Says it in the conversation: tools that are not allowed are as good as not offered.
    pub(super) fn apply(self, conversation: &mut Conversation) -> Result<(), DialectError> {
        let Self { choice, allowed } = self;
        if let Some(allowed) = allowed {
            let offered: HashSet<&str> = conversation.tools.iter().map(|tool| tool.name.as_str()).collect();
            if allowed.iter().any(|name| !offered.contains(name.as_str())) {
                let field = "tool_choice.allowed_tools.tools";
                return Err(DialectError::wrong_shape(field, "functions that `tools` offers"));
            }
            conversation.tools.retain(|tool| allowed.contains(&tool.name));
        }
        conversation.tool_choice = Some(choice);
        Ok(())
    }
}

pub(super) fn read_choice(choice: Field<'_, '_>) -> Result<Choice, DialectError> {
    if choice.is_string() {
        return match choice.text()?.as_ref() {
            "none" => Ok(ToolChoice::None.into()),
            "auto" => Ok(ToolChoice::Auto.into()),
            // `any` is Mistral's word for it.
            "required" | "any" => Ok(ToolChoice::Required.into()),
            _ => Err(choice.wrong(CHOICES)),
        };
    }
    if !choice.is_object() {
        return Err(choice.wrong(CHOICES));
    }
    let (mut kind, mut function, mut allowed) = (None, None, None);
    choice.members(|name, value| {
        match name {
            "type" => kind = Some((value.string()?, value.raw())),
            "function" => function = Some(value.raw()),
            "allowed_tools" => allowed = Some(value.raw()),
            "custom" => return Err(value.unsupported(CUSTOM)),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    match (kind, function, allowed) {
        (Some((kind, _)), None, Some(raw)) if kind == "allowed_tools" => {
            read_allowed(choice.member("allowed_tools", raw))
        }
        (Some((kind, _)), Some(raw), None) if kind == "function" => {
            Ok(ToolChoice::Named(read_name(choice.member("function", raw))?).into())
        }
        (Some((kind, _)), None, None) if kind == "function" => Err(choice.missing("function", "an object")),
        (Some((kind, _)), None, None) if kind == "allowed_tools" => {
            Err(choice.missing("allowed_tools", "an object"))
        }
        (Some((_, raw)), _, _) => {
            let kind = choice.member("type", raw);
            check_function(kind)?;
            Err(kind.wrong("the name of the member beside it"))
        }
        (None, _, _) => Err(choice.missing("type", "`function` or `allowed_tools`")),
    }
}

fn read_allowed(allowed: Field<'_, '_>) -> Result<Choice, DialectError> {
    let (mut mode, mut names) = (ToolChoice::Auto, HashSet::new());
    allowed.members(|name, value| match name {
        "mode" => {
            mode = match value.text()?.as_ref() {
                "auto" => ToolChoice::Auto,
                "required" => ToolChoice::Required,
                _ => return Err(value.wrong("`auto` or `required`")),
            };
            Ok(())
        }
        "tools" => value.items("an array of objects", |tool| {
            let mut function = None;
            tool.members(|name, value| {
                match name {
                    "type" => check_function(value)?,
                    "function" => function = Some(value.raw()),
                    "custom" => return Err(value.unsupported(CUSTOM)),
                    _ => return Err(value.unknown()),
                }
                Ok(())
            })?;
            let function = function.ok_or_else(|| tool.missing("function", "an object"))?;
            names.insert(read_name(tool.member("function", function))?);
            Ok(())
        }),
        _ => Err(value.unknown()),
    })?;
    Ok(Choice { choice: mode, allowed: Some(names) })
}

/// Legacy `function_call`.
pub(super) fn read_function_choice(choice: Field<'_, '_>) -> Result<Choice, DialectError> {
    if choice.is_object() {
        return Ok(ToolChoice::Named(read_name(choice)?).into());
    }
    match choice.text().as_deref() {
        Ok("none") => Ok(ToolChoice::None.into()),
        Ok("auto") => Ok(ToolChoice::Auto.into()),
        _ => Err(choice.wrong("`none`, `auto`, or an object with the function's `name`")),
    }
}

/// `{"name":…}`
fn read_name(function: Field<'_, '_>) -> Result<String, DialectError> {
    let mut found = None;
    function.members(|name, value| {
        match name {
            "name" => found = Some(value.named()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    found.ok_or_else(|| function.missing("name", "a string that is not empty"))
}
