//! How the answer shall be.

use crate::{
    dialects::{DialectError, chat::field::Field},
    wire::conversation::{Effort, Format, Reasoning},
};

const EFFORTS: &str = "`none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`";

/// Whether usage is wanted was read by policy; padding is not to be had and not missed.
pub(super) fn check_stream_options(options: Field<'_, '_>) -> Result<(), DialectError> {
    options.members(|name, value| match name {
        "include_usage" | "include_obfuscation" => value.boolean().map(drop),
        _ => Err(value.unknown()),
    })
}

pub(super) fn check_modalities(modalities: Field<'_, '_>) -> Result<(), DialectError> {
    modalities.items("an array of strings", |modality| match modality.text()?.as_ref() {
        "text" => Ok(()),
        _ => Err(modality.only_openai("asks for something other than text")),
    })
}

/// One text, or several.
pub(super) fn read_stop(stop: Field<'_, '_>) -> Result<Vec<String>, DialectError> {
    if stop.is_string() {
        return Ok(vec![stop.string()?]);
    }
    let mut all = Vec::new();
    stop.items("a string or an array of strings", |text| {
        all.push(text.string()?);
        Ok(())
    })?;
    Ok(all)
}

pub(super) fn read_verbosity(verbosity: Field<'_, '_>) -> Result<String, DialectError> {
    let known = |text: &String| matches!(text.as_str(), "low" | "medium" | "high");
    verbosity.string().ok().filter(known).ok_or_else(|| verbosity.wrong("`low`, `medium` or `high`"))
}

pub(super) fn read_format(format: Field<'_, '_>) -> Result<Format, DialectError> {
    let (mut kind, mut json_schema) = (None, None);
    format.members(|name, value| {
        match name {
            "type" => kind = Some(value.string()?),
            "json_schema" => json_schema = Some(value.raw()),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    match (kind.as_deref(), json_schema) {
        (Some("text"), None) => Ok(Format::Text),
        (Some("json_object"), None) => Ok(Format::JsonObject),
        (Some("json_schema"), Some(raw)) => read_schema(format.member("json_schema", raw)),
        (Some("json_schema"), None) => Err(format.missing("json_schema", "an object")),
        (Some("text" | "json_object"), Some(raw)) => Err(format.member("json_schema", raw).unknown()),
        _ => Err(format.missing("type", "`text`, `json_object` or `json_schema`")),
    }
}

fn read_schema(json_schema: Field<'_, '_>) -> Result<Format, DialectError> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    json_schema.members(|member, value| {
        match member {
            "name" => name = Some(value.string()?),
            "description" => description = Some(value.string()?),
            "schema" => schema = Some(value.to_raw_object()?),
            "strict" => strict = Some(value.boolean()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let schema = schema.ok_or_else(|| json_schema.missing("schema", "an object"))?;
    Ok(Format::JsonSchema { name, description, schema, strict })
}

/// What several members, of several APIs that look like this one, say of thinking.
#[derive(Default)]
pub(super) struct Thoughts {
    reasoning: Reasoning,
    said: bool,
}

impl Thoughts {
    pub(super) fn read(&mut self, name: &str, value: Field<'_, '_>) -> Result<(), DialectError> {
        self.said = true;
        match name {
            "reasoning_effort" => self.effort(value),
            "reasoning" => self.read_reasoning(value),
            "thinking" => self.read_thinking(value),
            _ => self.show(value.boolean()?, value),
        }
    }

    /// `None` where nothing was said.
    pub(super) fn finish(self) -> Option<Reasoning> {
        self.said.then_some(self.reasoning)
    }

    fn effort(&mut self, value: Field<'_, '_>) -> Result<(), DialectError> {
        let effort = Effort::parse(&value.text()?).ok_or_else(|| value.wrong(EFFORTS))?;
        agree(&mut self.reasoning.effort, effort, value)
    }

    fn budget(&mut self, value: Field<'_, '_>) -> Result<(), DialectError> {
        agree(&mut self.reasoning.budget, value.count()?, value)
    }

    fn show(&mut self, show: bool, value: Field<'_, '_>) -> Result<(), DialectError> {
        agree(&mut self.reasoning.show, show, value)
    }

    /// OpenRouter's `reasoning`.
    fn read_reasoning(&mut self, reasoning: Field<'_, '_>) -> Result<(), DialectError> {
        let mut enabled = None;
        reasoning.members(|name, value| match name {
            "effort" => self.effort(value),
            "max_tokens" => self.budget(value),
            "exclude" => self.show(!value.boolean()?, value),
            "enabled" => {
                enabled = Some(value.boolean()?);
                Ok(())
            }
            _ => Err(value.unknown()),
        })?;
        match enabled {
            Some(false) => {
                agree(&mut self.reasoning.effort, Effort::None, reasoning.member("enabled", "false"))
            }
            Some(true) if self.reasoning.effort.is_none() && self.reasoning.budget.is_none() => {
                self.reasoning.adaptive = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Anthropic's `thinking`, as other gateways take it beside OpenAI's members.
    fn read_thinking(&mut self, thinking: Field<'_, '_>) -> Result<(), DialectError> {
        let (mut kind, mut budget) = (None, None);
        thinking.members(|name, value| {
            match name {
                "type" => kind = Some((value.string()?, value.raw())),
                "budget_tokens" => budget = Some(value.raw()),
                "display" => match value.text()?.as_ref() {
                    "summarized" => self.show(true, value)?,
                    "omitted" => self.show(false, value)?,
                    _ => return Err(value.wrong("`summarized` or `omitted`")),
                },
                _ => return Err(value.unknown()),
            }
            Ok(())
        })?;
        let Some((kind, raw)) = kind else {
            return Err(thinking.missing("type", "`enabled`, `disabled` or `adaptive`"));
        };
        if let Some(raw) = budget {
            self.budget(thinking.member("budget_tokens", raw))?;
        }
        match kind.as_str() {
            "enabled" => self.reasoning.adaptive |= budget.is_none(),
            "adaptive" => self.reasoning.adaptive = true,
            "disabled" => agree(&mut self.reasoning.effort, Effort::None, thinking.member("type", raw))?,
            _ => return Err(thinking.member("type", raw).wrong("`enabled`, `disabled` or `adaptive`")),
        }
        Ok(())
    }
}

/// Members that say the same thing must say the same.
fn agree<T: PartialEq>(slot: &mut Option<T>, said: T, value: Field<'_, '_>) -> Result<(), DialectError> {
    match slot {
        Some(before) if *before != said => {
            Err(value.unsupported("says otherwise than another member about reasoning; give one of them"))
        }
        _ => {
            *slot = Some(said);
            Ok(())
        }
    }
}
