//! What the model may call.

use super::{
    Hints,
    blocks::cache_time,
    fields::{At, Fields, flag, items, object, shown, text, texts},
};
use crate::{dialects::DialectError, wire::conversation::Tool};

pub(super) fn tools(raw: &str, at: At<'_>, hints: &mut Hints) -> Result<Vec<Tool>, DialectError> {
    let tools = items(raw, at)?.into_iter().enumerate();
    tools.map(|(index, tool)| read_tool(tool.get(), at.item(index), hints)).collect()
}

fn read_tool(raw: &str, at: At<'_>, hints: &mut Hints) -> Result<Tool, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    let kind = fields.get(at, "type", text)?;
    if let Some(kind) = kind.filter(|kind| kind != "custom") {
        return Err(at.member("type").refused(format!(
            "is `{}`, a tool that only models of Anthropic's have; describe one of your own with an `input_schema`, or call such a model",
            shown(&kind)
        )));
    }
    let tool = Tool {
        name: fields.need(at, "name", text)?,
        description: described(fields.get(at, "description", text)?, fields.take("input_examples"), at)?,
        parameters: Some(fields.need(at, "input_schema", object)?),
        strict: fields.get(at, "strict", flag)?,
        cache: fields.get(at, "cache_control", cache_time)?,
    };
    if let Some(callers) = fields.get(at, "allowed_callers", texts)?
        && !callers.iter().any(|caller| caller == "direct")
    {
        return Err(at.member("allowed_callers").refused(
            "allows only code that Anthropic runs to call the tool; add `direct`, or call a model of Anthropic's",
        ));
    }
    // It is offered from the beginning on, instead of when it is searched for.
    if let Some(raw) = fields.take("defer_loading").filter(|raw| *raw != "false") {
        hints.add("tools.defer_loading", raw);
    }
    if let Some(raw) = fields.take("eager_input_streaming") {
        hints.add("tools.eager_input_streaming", raw);
    }
    fields.finish(at)?;
    Ok(tool)
}

/// The description, and the examples of input behind it: elsewhere they have no place of their own.
fn described(
    description: Option<String>,
    examples: Option<&str>,
    at: At<'_>,
) -> Result<Option<String>, DialectError> {
    let at = at.member("input_examples");
    let Some(examples) =
        examples.map(|raw| items(raw, at)).transpose()?.filter(|examples| !examples.is_empty())
    else {
        return Ok(description);
    };
    let mut text = description.unwrap_or_default();
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str("Examples of input:");
    for example in examples {
        text.push('\n');
        text.push_str(example.get());
    }
    Ok(Some(text))
}
