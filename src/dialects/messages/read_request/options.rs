//! What a request says besides its messages: thinking, the form of the answer, the choice of tools.

use super::{
    Hints, ONLY_ANTHROPIC,
    fields::{At, Fields, count, flag, items, object, text},
};
use crate::{
    dialects::DialectError,
    wire::conversation::{Effort, Format, Reasoning, ToolChoice},
};

/// `output_config`
#[derive(Default)]
pub(super) struct OutputConfig {
    pub(super) effort: Option<Effort>,
    pub(super) format: Option<Format>,
}

pub(super) fn output_config(raw: &str, at: At<'_>) -> Result<OutputConfig, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    let effort = fields.get(at, "effort", |raw, at| {
        let effort = Effort::parse(&text(raw, at)?).filter(|effort| *effort > Effort::Minimal);
        effort.ok_or_else(|| at.wrong("`low`, `medium`, `high`, `xhigh` or `max`"))
    })?;
    let format = fields.get(at, "format", format)?;
    fields.finish(at)?;
    Ok(OutputConfig { effort, format })
}

/// The schema that the answer keeps to; it has no name, and is always kept to exactly.
pub(super) fn format(raw: &str, at: At<'_>) -> Result<Format, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    if fields.need(at, "type", text)? != "json_schema" {
        return Err(at.member("type").wrong("`json_schema`"));
    }
    let schema = fields.need(at, "schema", object)?;
    fields.finish(at)?;
    Ok(Format::JsonSchema { name: None, description: None, schema, strict: Some(true) })
}

pub(super) fn thinking(raw: &str, at: At<'_>) -> Result<Reasoning, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    let show = fields.get(at, "display", |raw, at| match text(raw, at)?.as_str() {
        "summarized" => Ok(true),
        "omitted" => Ok(false),
        _ => Err(at.wrong("`summarized` or `omitted`")),
    })?;
    let reasoning = match fields.need(at, "type", text)?.as_str() {
        // Thoughts that are asked for by their number are shown unless the request says otherwise.
        "enabled" => Reasoning {
            budget: Some(fields.need(at, "budget_tokens", count)?),
            show: Some(show.unwrap_or(true)),
            ..Reasoning::default()
        },
        "adaptive" | "between_tools" => Reasoning { adaptive: true, show, ..Reasoning::default() },
        "disabled" => Reasoning { effort: Some(Effort::None), ..Reasoning::default() },
        _ => return Err(at.member("type").wrong("`enabled`, `adaptive`, `between_tools` or `disabled`")),
    };
    fields.finish(at)?;
    Ok(reasoning)
}

/// Thinking and effort together. Where thinking is disabled, the effort is only of the words.
pub(super) fn reasoning(
    thinking: Option<Reasoning>,
    effort: Option<Effort>,
    hints: &mut Hints,
) -> Option<Reasoning> {
    match (thinking, effort) {
        (Some(Reasoning { effort: Some(Effort::None), .. }), Some(effort)) => {
            hints.add("output_config.effort", &format!("\"{}\"", effort.as_str()));
            thinking
        }
        (Some(thinking), Some(_)) => Some(Reasoning { effort, ..thinking }),
        (None, Some(_)) => Some(Reasoning { effort, ..Reasoning::default() }),
        (thinking, None) => thinking,
    }
}

pub(super) fn tool_choice(raw: &str, at: At<'_>) -> Result<(Option<ToolChoice>, Option<bool>), DialectError> {
    let mut fields = Fields::read(raw, at)?;
    let choice = match fields.need(at, "type", text)?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(fields.need(at, "name", text)?),
        _ => return Err(at.member("type").wrong("`auto`, `any`, `tool` or `none`")),
    };
    let disabled = fields.get(at, "disable_parallel_tool_use", flag)?;
    fields.finish(at)?;
    Ok((Some(choice), disabled.map(|disabled| !disabled)))
}

/// The tier by the name that it has elsewhere: `auto` is what a request without one gets.
pub(super) fn service_tier(raw: &str, at: At<'_>) -> Result<Option<String>, DialectError> {
    match text(raw, at)?.as_str() {
        "auto" => Ok(None),
        "standard_only" => Ok(Some("default".to_owned())),
        _ => Err(at.wrong("`auto` or `standard_only`")),
    }
}

/// What to leave out of a conversation that grows too long. To leave out nothing can be had anywhere.
pub(super) fn context_management(raw: &str, at: At<'_>) -> Result<(), DialectError> {
    let mut fields = Fields::read(raw, at)?;
    fields.get(at, "edits", |raw, at| {
        for (index, edit) in items(raw, at)?.into_iter().enumerate() {
            let at = at.item(index);
            let mut fields = Fields::read(edit.get(), at)?;
            let clears_thoughts = fields.need(at, "type", text)?.starts_with("clear_thinking_");
            if !(clears_thoughts && fields.take("keep") == Some("\"all\"")) {
                return Err(at.refused(ONLY_ANTHROPIC));
            }
            fields.finish(at)?;
        }
        Ok(())
    })?;
    fields.finish(at)
}
