//! What policy reads of a request to Anthropic's `/messages` and `/messages/count_tokens`.

mod source;
#[cfg(test)]
mod tests;
mod walks;

use serde::Deserialize;

use self::walks::{Cache, Content, Facts, Messages, Tools};
use super::{
    Envelope, EnvelopeError, RequestView,
    names::Known,
    request::{MESSAGES, boolean, count, models, note, plain, string, walk, wrong},
    walks::{Text, text_bytes},
};

/// Reads what policy needs of a request for an answer. One pass over the members.
///
/// # Errors
/// A member that matters here has the wrong type or is missing, or no model is named.
pub(super) fn read(envelope: &Envelope) -> Result<RequestView, EnvelopeError> {
    let view = read_either(envelope)?;
    if view.max_tokens.is_none() {
        return Err(wrong("max_tokens", "given, as a whole number of tokens"));
    }
    Ok(view)
}

/// Reads what policy needs of a request that only asks how large it is: it has neither output nor a limit on it.
///
/// # Errors
/// As [`read`], but for the limit.
pub(super) fn read_to_count(envelope: &Envelope) -> Result<RequestView, EnvelopeError> {
    let view = read_either(envelope)?;
    Ok(RequestView {
        stream: false,
        max_tokens: None,
        output_limit: None,
        choices: 0,
        choices_sent: 0,
        ..view
    })
}

fn read_either(envelope: &Envelope) -> Result<RequestView, EnvelopeError> {
    // A stream of this API always ends with its usage.
    let mut view = RequestView { include_usage: true, choices: 1, choices_sent: 1, ..RequestView::default() };
    let mut facts = Facts::default();
    for (name, raw) in envelope.iter().filter(|(_, raw)| *raw != "null") {
        let Some(member) = Known::of(name) else { continue };
        let name = member.name();
        match member {
            Known::Model => view.model = Some(string(name, raw)?).filter(|model| !model.is_empty()),
            Known::Models => view.models = models(raw)?,
            Known::Stream => view.stream = boolean(name, raw)?,
            Known::MaxTokens => view.max_tokens = Some(count(name, raw)?),
            Known::Messages => walk(name, MESSAGES, raw, Messages(&mut facts))?,
            Known::System => walk(name, "a string, or an array of blocks", raw, Content(&mut facts))?,
            Known::Tools => walk(name, "an array of objects", raw, Tools(&mut facts))?,
            Known::CacheControl => walk(name, "an object", raw, Cache(&mut facts))?,
            // The schema in them is shown to the model.
            Known::OutputConfig | Known::OutputFormat => facts.said(text_bytes(raw, Text::NamesAndValues)),
            // Faster answers, and those from a region of one's choice, are dearer.
            Known::Speed if raw != "\"standard\"" => note(&mut view, name),
            Known::InferenceGeo if raw != "\"global\"" => note(&mut view, name),
            // Machines, servers and searches it bills by themselves;
            // conversations it has kept, whose size is not in the request.
            // Whether a key may call them is for the gateway to say.
            Known::Fallbacks if raw != "[]" => {
                return Err(wrong(name, "left out; name other models in `models`"));
            }
            Known::McpServers | Known::Plugins if raw != "[]" => note(&mut view, name),
            Known::EnableSearch if raw != "false" => note(&mut view, name),
            Known::Container
            | Known::Compaction
            | Known::Thread
            | Known::WebSearchOptions
            | Known::SearchParameters => note(&mut view, name),
            Known::ContextManagement if !only_clears(raw) => note(&mut view, name),
            // `service_tier` is no tier of the price list here: `auto` takes what the provider's contract has, and
            // `standard_only` is the list price. The rest asks for nothing, or is not of this API.
            _ => {}
        }
        if std::mem::take(&mut facts.priced_apart) {
            note(&mut view, name);
        }
    }
    if view.model.is_none() && view.models.is_empty() {
        return Err(EnvelopeError::MissingModel);
    }
    if facts.messages == 0 {
        return Err(wrong("messages", MESSAGES));
    }
    let Facts { messages, images, files, inline_bytes, text_bytes, tools, hour_cache, misspelt, .. } = facts;
    plain(misspelt)?;
    let output_limit = view.max_tokens;
    Ok(RequestView {
        output_limit,
        messages,
        images,
        files,
        inline_bytes,
        text_bytes,
        tools,
        hour_cache,
        ..view
    })
}

/// Whether all that `context_management` does is to leave things out. Compaction asks the model once more, for more
/// than the request's own limit.
fn only_clears(raw: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Management {
        #[serde(default)]
        edits: Vec<Edit>,
    }
    #[derive(Deserialize)]
    struct Edit {
        #[serde(rename = "type")]
        kind: String,
    }
    // Serde reads an array as a struct, too.
    let management = serde_json::from_str::<Management>(raw).ok().filter(|_| raw.starts_with('{'));
    management.is_some_and(|management| management.edits.iter().all(|edit| edit.kind.starts_with("clear_")))
}
