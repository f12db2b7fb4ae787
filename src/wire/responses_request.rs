//! What policy reads of a request to `/responses`.
//!
//! Much of what such a request means may be kept by the provider: an earlier answer, a conversation, an item, a
//! template. None of that is seen here, so that the bytes sent do not bound what the model reads. Each of them counts
//! as one more file, since a file may fill the context window.

use super::{
    Envelope, EnvelopeError, RequestView,
    inline::{keeps_cache_long, says_only},
    items::{Items, ResponseTools},
    names::Known,
    request::{boolean, count, models, note, plain, read_modalities, string, walk, wrong},
    walks::{Text, text_bytes},
};

const INPUT: &str = "a string or an array of objects";

/// Reads what policy needs. One pass over the members.
///
/// # Errors
/// A member that matters here has the wrong type, or no model is named.
pub(super) fn read(envelope: &Envelope) -> Result<RequestView, EnvelopeError> {
    // Usage is told at the end of every stream, asked for or not.
    let mut view = RequestView { choices: 1, choices_sent: 1, include_usage: true, ..RequestView::default() };
    let mut has_input = false;
    for (name, raw) in envelope.iter().filter(|(_, raw)| *raw != "null") {
        let Some(member) = Known::of(name) else { continue };
        let name = member.name();
        match member {
            Known::Model => view.model = Some(string(name, raw)?).filter(|model| !model.is_empty()),
            Known::Models => view.models = models(raw)?,
            Known::Stream => view.stream = boolean(name, raw)?,
            Known::MaxOutputTokens => view.output_limit = Some(count(name, raw)?),
            Known::ServiceTier => view.service_tier = Some(string(name, raw)?),
            Known::Input => {
                read_input(raw, &mut view)?;
                has_input = true;
            }
            Known::Instructions => {
                view.said(string(name, raw)?.len() as u64);
                view.messages += 1;
            }
            Known::Text => view.said(text_bytes(raw, Text::NamesAndValues)),
            Known::Tools => {
                let tools = walk(name, "an array of objects", raw, ResponseTools)?;
                plain(tools.misspelt)?;
                view.said(tools.text_bytes);
                view.tools |= tools.any;
                if tools.priced_apart {
                    note(&mut view, name);
                }
            }
            Known::PreviousResponseId | Known::Conversation => {
                view.files += 1;
                has_input = true;
            }
            // A template brings its own tools as well.
            Known::Prompt => {
                view.files += 1;
                note(&mut view, name);
                has_input = true;
            }
            // Whether it is offered is for the dialect to say; what it asks for has to be plain.
            Known::Background => {
                boolean(name, raw)?;
            }
            // Several runs for one answer; another run, to shorten what came before; another model.
            Known::Reasoning if says_only(raw, "mode", "standard") == Some(false) => note(&mut view, name),
            Known::ContextManagement if raw != "[]" => note(&mut view, name),
            Known::Moderation => note(&mut view, name),
            Known::PromptCacheOptions => view.hour_cache |= keeps_cache_long(raw),
            Known::Modalities => read_modalities(raw, &mut view)?,
            Known::Audio => view.audio_output = true,
            // Searches, plug-ins and servers a provider bills by the call.
            Known::WebSearchOptions | Known::SearchParameters => note(&mut view, name),
            Known::McpServers | Known::Plugins if raw != "[]" => note(&mut view, name),
            Known::EnableSearch if raw != "false" => note(&mut view, name),
            // Of another endpoint, or asking for nothing.
            Known::StreamOptions
            | Known::MaxTokens
            | Known::MaxCompletionTokens
            | Known::N
            | Known::BestOf
            | Known::Messages
            | Known::EncodingFormat
            | Known::Functions
            | Known::ResponseFormat
            | Known::Suffix
            | Known::System
            | Known::CacheControl
            | Known::OutputConfig
            | Known::OutputFormat
            | Known::Speed
            | Known::InferenceGeo
            | Known::Container
            | Known::Fallbacks
            | Known::Compaction
            | Known::Thread
            | Known::Reasoning
            | Known::ContextManagement
            | Known::McpServers
            | Known::Plugins
            | Known::EnableSearch => {}
        }
    }
    if view.model.is_none() && view.models.is_empty() {
        return Err(EnvelopeError::MissingModel);
    }
    if !has_input {
        return Err(wrong("input", INPUT));
    }
    // A conversation that is nowhere in the body is one all the same, and bounded by the context window.
    view.messages = view.messages.max(1);
    Ok(view)
}

fn read_input(raw: &str, view: &mut RequestView) -> Result<(), EnvelopeError> {
    let found = walk("input", INPUT, raw, Items)?;
    plain(found.counts.misspelt)?;
    view.said(found.counts.text_bytes);
    view.messages += found.counts.messages;
    view.images += found.counts.images;
    view.audio_inputs += found.counts.audio;
    view.files = view.files.saturating_add(found.counts.files).saturating_add(found.unseen);
    view.inline_bytes = found.counts.inline_bytes;
    view.hour_cache |= found.counts.hour_cache;
    if found.counts.videos > 0 || found.priced_apart {
        note(view, "input");
    }
    Ok(())
}
