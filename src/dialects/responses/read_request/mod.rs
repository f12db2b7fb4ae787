//! A response's request in no provider's words.
//!
//! Everything that refers to something a provider keeps is refused here, since no other provider has it; so is
//! everything that only this API's providers do. The order of items is kept: what the model said without being
//! interrupted is one turn, however many items it is.

mod content;
mod input;
mod settings;
#[cfg(test)]
mod tests;

use super::fields::Fields;
use crate::{
    dialects::DialectError,
    wire::{
        Conversation, Envelope, RequestView,
        conversation::{Content, Hint, Role, Sampling, Turn},
    },
};

/// Members that pass as hints, as they came.
const HINTS: [&str; 5] =
    ["metadata", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "image"];
/// What may be asked to be included: `None` changes nothing, since it is told anyway or has no occasion here.
const INCLUDES: [(&str, Option<&str>); 8] = [
    ("reasoning.encrypted_content", None),
    ("message.output_text.logprobs", Some(NO_LOGPROBS)),
    ("message.input_image.image_url", None),
    ("file_search_call.results", None),
    ("web_search_call.results", None),
    ("web_search_call.action.sources", None),
    ("computer_call_output.output.image_url", None),
    ("code_interpreter_call.outputs", None),
];
const NO_LOGPROBS: &str = "asks for the likelihood of tokens, which no translated answer carries; leave it out, or call \
                           a model whose provider speaks `/responses`";

/// Reads a response's request.
///
/// # Errors
/// A member has no meaning outside this API, or the wrong shape.
pub fn read_request(envelope: &Envelope, view: &RequestView) -> Result<Conversation, DialectError> {
    let mut fields = Fields::whole(envelope);
    refuse_state(&mut fields)?;
    // What policy has read; a limit on calls that the provider runs, of which there are none.
    fields.ignore(&["model", "models", "stream", "service_tier", "max_output_tokens", "max_tool_calls"]);
    let mut conversation = Conversation {
        choices: 1,
        stream: view.stream,
        output_limit: view.output_limit,
        service_tier: view.service_tier.clone(),
        ..Conversation::default()
    };
    if let Some(text) = fields.text("instructions")?.filter(|text| !text.is_empty()) {
        conversation.turns.push(Turn::new(Role::System, vec![Content::Text(text).into()]));
    }
    input::read(&mut fields, &mut conversation)?;
    settings::read(&mut fields, &mut conversation)?;
    conversation.sampling = Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        ..Sampling::default()
    };
    fields.refuse("top_logprobs", &["0"], NO_LOGPROBS)?;
    read_includes(&mut fields)?;
    if let Some(mut options) = fields.inner("stream_options")? {
        // Nothing is obfuscated, and usage is told at the end of every stream.
        options.ignore(&["include_obfuscation", "include_usage"]);
        options.finish()?;
    }
    let user = fields.text("user")?;
    let safety = fields.text("safety_identifier")?;
    if let (Some(user), Some(safety)) = (&user, &safety)
        && user != safety
    {
        hint(&mut conversation, "user", &serde_json::Value::from(user.as_str()).to_string());
    }
    conversation.user = safety.or(user);
    for name in HINTS {
        if let Some(raw) = fields.take(name) {
            hint(&mut conversation, name, raw);
        }
    }
    fields.finish()?;
    Ok(conversation)
}

/// Notes a hint, once.
fn hint(conversation: &mut Conversation, name: &'static str, raw: &str) {
    if conversation.hints.iter().any(|hint| hint.name == name) {
        return;
    }
    if let Ok(value) = serde_json::value::RawValue::from_string(raw.to_owned()) {
        conversation.hints.push(Hint { name, value });
    }
}

fn refuse_state(fields: &mut Fields) -> Result<(), DialectError> {
    let refusals = [
        (
            "store",
            "is not to be had here: nobody keeps this provider's answers; leave it out, or set it to `false`",
        ),
        (
            "previous_response_id",
            "refers to an answer that this provider does not have; send the whole conversation as `input` instead",
        ),
        (
            "conversation",
            "refers to a conversation that this provider does not have; send it whole as `input` instead",
        ),
        ("background", "is not to be had here: this provider answers at once or not at all; leave it out"),
        ("prompt", "refers to a template that this provider does not have; send its text as `instructions`"),
        (
            "context_management",
            "is not to be had here: this provider shortens no conversation; leave it out, and shorten `input` yourself",
        ),
        ("moderation", "is not to be had here: this provider moderates in its own way; leave it out"),
        (
            "truncation",
            "must be `disabled` here: this provider drops nothing from a conversation that is too long; shorten `input`",
        ),
    ];
    for (name, why) in refusals {
        fields.refuse(name, &["false", "[]", "\"disabled\""], why)?;
    }
    Ok(())
}

fn read_includes(fields: &mut Fields) -> Result<(), DialectError> {
    for (at, raw) in fields.list("include")?.unwrap_or_default().iter().enumerate() {
        let path = format!("include[{at}]");
        let name: String =
            serde_json::from_str(raw.get()).map_err(|_| DialectError::wrong_shape(&path, "a string"))?;
        match INCLUDES.iter().find(|(known, _)| *known == name) {
            Some((_, None)) => {}
            Some((_, Some(why))) => return Err(DialectError::unsupported(path, *why)),
            None => {
                return Err(DialectError::unsupported(
                    path,
                    "asks for something that is not known here; leave it out",
                ));
            }
        }
    }
    Ok(())
}
