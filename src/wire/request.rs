//! The few fields of a request that policy needs, read without building the rest.
//!
//! Each is checked strictly: what the gateway counts on, the provider must not be able to read differently. All other
//! fields, known or not, are the provider's business.

use std::{borrow::Cow, fmt};

use serde::de::DeserializeSeed;

use super::{
    Endpoint, Envelope, EnvelopeError,
    inline::keeps_cache_long,
    messages_request,
    names::{Known, folds_to},
    responses_request,
    walks::{Input, Messages, Misspelt, Prompts, Text, Tools, text_bytes},
};

/// Most choices a request may ask for (`n`, `best_of`).
pub const MAX_CHOICES: u64 = 128;
/// Most entries of a request's own fallback list (`models`).
pub const MAX_MODELS: usize = 16;

/// What policy reads of a request.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RequestView {
    /// The model asked for.
    pub model: Option<String>,
    /// The request's own fallback list.
    pub models: Vec<String>,
    /// Whether the answer is to be a stream; never for embeddings.
    pub stream: bool,
    /// Whether the client asked for usage in the stream.
    pub include_usage: bool,
    /// The largest output limit given, in tokens a choice.
    pub output_limit: Option<u64>,
    /// `max_tokens`, if the client gave it.
    pub max_tokens: Option<u64>,
    /// `max_completion_tokens`, if the client gave it.
    pub max_completion_tokens: Option<u64>,
    /// How many outputs will be generated: `n` or `best_of`, for each of several prompts; 0 for embeddings.
    pub choices: u64,
    /// How many of them will be sent: `n`, for each of several prompts; 0 for embeddings.
    pub choices_sent: u64,
    /// The service tier asked for.
    pub service_tier: Option<String>,
    /// Messages.
    pub messages: u64,
    /// Images in the messages.
    pub images: u64,
    /// Pieces of audio in the messages.
    pub audio_inputs: u64,
    /// Files in the messages.
    pub files: u64,
    /// Bytes of the body that are data of these images and files, which count by number; none of audio.
    pub inline_bytes: u64,
    /// Bytes of the text that the model is shown, in UTF-8 and without escapes or framing: what messages, prompts and
    /// inputs say (four bytes for a token given by its number), and tools, functions and the response's schema with
    /// the names in them. Inline images, files and sound count with the bytes of their data as it stands, and by
    /// address with those of the address.
    pub text_bytes: u64,
    /// Whether audio will be generated.
    pub audio_output: bool,
    /// Whether tools are offered.
    pub tools: bool,
    /// Whether the provider is asked to cache input for an hour, which costs more than for minutes.
    pub hour_cache: bool,
    /// Whether embeddings are wanted as base64.
    pub base64_embeddings: bool,
    /// The first member whose effect on the price no token count covers.
    pub unpriceable: Option<&'static str>,
}

impl RequestView {
    pub(super) fn said(&mut self, bytes: u64) {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
    }
}

impl fmt::Debug for RequestView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestView")
            .field("stream", &self.stream)
            .field("output_limit", &self.output_limit)
            .field("choices", &self.choices)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

/// Reads what policy needs. One pass over the members.
///
/// # Errors
/// A member that matters here has the wrong type, or no model is named.
pub fn read_request(endpoint: Endpoint, envelope: &Envelope) -> Result<RequestView, EnvelopeError> {
    match endpoint {
        Endpoint::Messages => messages_request::read(envelope),
        Endpoint::CountTokens => messages_request::read_to_count(envelope),
        Endpoint::Responses => responses_request::read(envelope),
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => read(endpoint, envelope),
    }
}

fn read(endpoint: Endpoint, envelope: &Envelope) -> Result<RequestView, EnvelopeError> {
    let mut view = RequestView::default();
    let (mut n, mut best_of, mut prompts) = (1, 1, 1);
    let mut has_messages = false;
    for (name, raw) in envelope.iter().filter(|(_, raw)| *raw != "null") {
        let Some(member) = Known::of(name) else { continue };
        let name = member.name();
        match member {
            Known::Model => view.model = Some(string(name, raw)?).filter(|model| !model.is_empty()),
            Known::Models => view.models = models(raw)?,
            Known::Stream => view.stream = boolean(name, raw)?,
            Known::StreamOptions => view.include_usage = include_usage(raw)?,
            Known::MaxTokens => view.max_tokens = Some(count(name, raw)?),
            // Legacy completions do not know it, and what is not heeded bounds nothing.
            Known::MaxCompletionTokens if endpoint == Endpoint::ChatCompletions => {
                view.max_completion_tokens = Some(count(name, raw)?);
            }
            Known::N => n = choices(name, raw)?,
            Known::BestOf => best_of = choices(name, raw)?,
            Known::ServiceTier => view.service_tier = Some(string(name, raw)?),
            Known::Messages => {
                read_messages(raw, &mut view)?;
                has_messages = true;
            }
            Known::Prompt if endpoint == Endpoint::Completions => {
                let facts = walk(name, "a string, or an array of strings or tokens", raw, Prompts)?;
                // Several prompts are several answers.
                prompts = facts.prompts;
                view.said(facts.text_bytes);
            }
            Known::Suffix if endpoint == Endpoint::Completions => view.said(text_bytes(raw, Text::Values)),
            Known::Input if endpoint == Endpoint::Embeddings => {
                let facts = walk(name, "a string, or an array of strings or tokens", raw, Input)?;
                view.said(facts.text_bytes);
                if facts.other {
                    note(&mut view, name);
                }
            }
            Known::EncodingFormat => view.base64_embeddings = raw == "\"base64\"",
            Known::Modalities => read_modalities(raw, &mut view)?,
            Known::Audio => view.audio_output = true,
            Known::Tools => {
                let tools = walk(name, "an array of objects", raw, Tools)?;
                plain(tools.misspelt)?;
                view.said(tools.text_bytes);
                view.tools |= tools.any;
                view.hour_cache |= tools.hour_cache;
                if tools.priced_apart {
                    note(&mut view, name);
                }
            }
            Known::Functions => {
                view.said(text_bytes(raw, Text::NamesAndValues));
                view.tools |= raw != "[]";
            }
            Known::ResponseFormat if endpoint == Endpoint::ChatCompletions => {
                view.said(text_bytes(raw, Text::NamesAndValues));
            }
            // Searches, plug-ins and servers a provider bills by the call.
            Known::WebSearchOptions | Known::SearchParameters => note(&mut view, name),
            Known::McpServers | Known::Plugins if raw != "[]" => note(&mut view, name),
            Known::EnableSearch if raw != "false" => note(&mut view, name),
            Known::PromptCacheOptions => view.hour_cache |= keeps_cache_long(raw),
            // Of another endpoint, or asking for nothing.
            Known::System
            | Known::CacheControl
            | Known::OutputConfig
            | Known::OutputFormat
            | Known::Speed
            | Known::InferenceGeo
            | Known::Container
            | Known::Fallbacks
            | Known::ContextManagement
            | Known::Compaction
            | Known::Thread
            | Known::MaxCompletionTokens
            | Known::Prompt
            | Known::Suffix
            | Known::Input
            | Known::ResponseFormat
            | Known::McpServers
            | Known::Plugins
            | Known::EnableSearch
            | Known::MaxOutputTokens
            | Known::Instructions
            | Known::Text
            | Known::Reasoning
            | Known::PreviousResponseId
            | Known::Conversation
            | Known::Background
            | Known::Moderation => {}
        }
    }
    if view.model.is_none() && view.models.is_empty() {
        return Err(EnvelopeError::MissingModel);
    }
    if endpoint == Endpoint::ChatCompletions && !has_messages {
        return Err(wrong("messages", MESSAGES));
    }
    if endpoint == Endpoint::Embeddings {
        // Embeddings are never streamed, whatever the request says.
        (view.stream, view.include_usage) = (false, false);
        (view.max_tokens, view.max_completion_tokens) = (None, None);
    } else {
        view.choices = n.max(best_of).saturating_mul(prompts);
        view.choices_sent = n.saturating_mul(prompts);
    }
    // `max` over options prefers `Some`: with both given, the larger is what must be paid for.
    view.output_limit = view.max_tokens.max(view.max_completion_tokens);
    Ok(view)
}

pub(super) const MESSAGES: &str = "a non-empty array of objects";

pub(super) const fn wrong(name: &'static str, wanted: &'static str) -> EnvelopeError {
    EnvelopeError::WrongType { name, wanted }
}

/// Refuses a name that only some decoders take for one that decides the price.
pub(super) fn plain(misspelt: Misspelt) -> Result<(), EnvelopeError> {
    match misspelt.0 {
        Some((name, plain)) => Err(EnvelopeError::misspelt(&name, plain)),
        None => Ok(()),
    }
}

pub(super) fn note(view: &mut RequestView, name: &'static str) {
    view.unpriceable.get_or_insert(name);
}

pub(super) fn string(name: &'static str, raw: &str) -> Result<String, EnvelopeError> {
    serde_json::from_str(raw).map_err(|_| wrong(name, "a string"))
}

pub(super) fn boolean(name: &'static str, raw: &str) -> Result<bool, EnvelopeError> {
    raw.parse().map_err(|_| wrong(name, "`true` or `false`"))
}

pub(super) fn count(name: &'static str, raw: &str) -> Result<u64, EnvelopeError> {
    let number = if raw.bytes().all(|b| b.is_ascii_digit()) { raw.parse().ok() } else { None };
    number.ok_or_else(|| wrong(name, "a whole number of tokens, 0 or more"))
}

fn choices(name: &'static str, raw: &str) -> Result<u64, EnvelopeError> {
    let number = count(name, raw).ok().filter(|n| (1..=MAX_CHOICES).contains(n));
    number.ok_or_else(|| wrong(name, "a whole number from 1 to 128"))
}

pub(super) fn models(raw: &str) -> Result<Vec<String>, EnvelopeError> {
    let wanted = "an array of at most 16 model names";
    let models: Vec<String> = serde_json::from_str(raw).map_err(|_| wrong("models", wanted))?;
    if models.len() <= MAX_MODELS { Ok(models) } else { Err(wrong("models", wanted)) }
}

/// Runs a visitor over a member's value.
pub(super) fn walk<'a, W>(
    name: &'static str,
    wanted: &'static str,
    raw: &'a str,
    seed: W,
) -> Result<W::Value, EnvelopeError>
where
    W: DeserializeSeed<'a>,
{
    seed.deserialize(&mut serde_json::Deserializer::from_str(raw)).map_err(|_| wrong(name, wanted))
}

fn include_usage(raw: &str) -> Result<bool, EnvelopeError> {
    // The outer depth bound holds for what is inside as well.
    let options = Envelope::split(bytes::Bytes::copy_from_slice(raw.as_bytes()), usize::MAX);
    let options = options.map_err(|_| wrong("stream_options", "an object whose members are unique"))?;
    if let Some((name, plain)) =
        options.iter().find_map(|(name, _)| Some((name, folds_to(name, &["include_usage"])?)))
    {
        return Err(EnvelopeError::misspelt(name, plain));
    }
    match options.raw("include_usage") {
        None | Some("null") => Ok(false),
        Some(value) => boolean("stream_options.include_usage", value),
    }
}

pub(super) fn read_modalities(raw: &str, view: &mut RequestView) -> Result<(), EnvelopeError> {
    let modalities: Vec<Cow<'_, str>> =
        serde_json::from_str(raw).map_err(|_| wrong("modalities", "an array of strings"))?;
    for modality in modalities {
        match modality.as_ref() {
            "text" => {}
            "audio" => view.audio_output = true,
            _ => note(view, "modalities"),
        }
    }
    Ok(())
}

fn read_messages(raw: &str, view: &mut RequestView) -> Result<(), EnvelopeError> {
    let counts = walk("messages", MESSAGES, raw, Messages)?;
    if counts.messages == 0 {
        return Err(wrong("messages", MESSAGES));
    }
    plain(counts.misspelt)?;
    view.said(counts.text_bytes);
    view.messages = counts.messages;
    view.images = counts.images;
    view.audio_inputs = counts.audio;
    view.files = counts.files;
    view.inline_bytes = counts.inline_bytes;
    view.hour_cache |= counts.hour_cache;
    if counts.videos > 0 {
        note(view, "messages");
    }
    Ok(())
}
