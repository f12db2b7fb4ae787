//! The few fields of a request that policy needs, read without building the rest.
//!
//! Each is checked strictly: what the gateway counts on, the provider must not be able to read differently. All other
//! fields, known or not, are the provider's business.

use std::{borrow::Cow, fmt};

use serde::de::DeserializeSeed;

use super::{
    Endpoint, Envelope, EnvelopeError,
    names::Known,
    walks::{Input, Messages, Prompts, Tools},
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
    /// Whether audio will be generated.
    pub audio_output: bool,
    /// Whether tools are offered.
    pub tools: bool,
    /// Whether embeddings are wanted as base64.
    pub base64_embeddings: bool,
    /// The first member whose effect on the price no token count covers.
    pub unpriceable: Option<&'static str>,
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
            Known::Prompt if endpoint == Endpoint::Completions => prompts = prompt_count(raw)?,
            Known::Input if endpoint == Endpoint::Embeddings => {
                if walk(name, "a string, or an array of strings or tokens", raw, Input)? {
                    note(&mut view, name);
                }
            }
            Known::EncodingFormat => view.base64_embeddings = raw == "\"base64\"",
            Known::Modalities => read_modalities(raw, &mut view)?,
            Known::Audio => view.audio_output = true,
            Known::Tools => {
                let tools = walk(name, "an array of objects", raw, Tools)?;
                view.tools |= tools.any;
                if tools.priced_apart {
                    note(&mut view, name);
                }
            }
            Known::Functions => view.tools |= raw != "[]",
            // Searches, plug-ins and servers a provider bills by the call.
            Known::WebSearchOptions | Known::SearchParameters => note(&mut view, name),
            Known::McpServers | Known::Plugins if raw != "[]" => note(&mut view, name),
            Known::EnableSearch if raw != "false" => note(&mut view, name),
            // Of another endpoint, or asking for nothing.
            Known::MaxCompletionTokens
            | Known::Prompt
            | Known::Input
            | Known::McpServers
            | Known::Plugins
            | Known::EnableSearch => {}
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

const MESSAGES: &str = "a non-empty array of objects";

const fn wrong(name: &'static str, wanted: &'static str) -> EnvelopeError {
    EnvelopeError::WrongType { name, wanted }
}

fn note(view: &mut RequestView, name: &'static str) {
    view.unpriceable.get_or_insert(name);
}

fn string(name: &'static str, raw: &str) -> Result<String, EnvelopeError> {
    serde_json::from_str(raw).map_err(|_| wrong(name, "a string"))
}

fn boolean(name: &'static str, raw: &str) -> Result<bool, EnvelopeError> {
    raw.parse().map_err(|_| wrong(name, "`true` or `false`"))
}

fn count(name: &'static str, raw: &str) -> Result<u64, EnvelopeError> {
    let number = if raw.bytes().all(|b| b.is_ascii_digit()) { raw.parse().ok() } else { None };
    number.ok_or_else(|| wrong(name, "a whole number of tokens, 0 or more"))
}

fn choices(name: &'static str, raw: &str) -> Result<u64, EnvelopeError> {
    let number = count(name, raw).ok().filter(|n| (1..=MAX_CHOICES).contains(n));
    number.ok_or_else(|| wrong(name, "a whole number from 1 to 128"))
}

fn models(raw: &str) -> Result<Vec<String>, EnvelopeError> {
    let wanted = "an array of at most 16 model names";
    let models: Vec<String> = serde_json::from_str(raw).map_err(|_| wrong("models", wanted))?;
    if models.len() <= MAX_MODELS { Ok(models) } else { Err(wrong("models", wanted)) }
}

/// Runs a visitor over a member's value.
fn walk<'a, W>(
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
    match options.raw("include_usage") {
        None | Some("null") => Ok(false),
        Some(value) => boolean("stream_options.include_usage", value),
    }
}

fn read_modalities(raw: &str, view: &mut RequestView) -> Result<(), EnvelopeError> {
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

/// Several prompts are several answers.
fn prompt_count(raw: &str) -> Result<u64, EnvelopeError> {
    walk("prompt", "a string, or an array of strings or tokens", raw, Prompts)
}

fn read_messages(raw: &str, view: &mut RequestView) -> Result<(), EnvelopeError> {
    let counts = walk("messages", MESSAGES, raw, Messages)?;
    if counts.messages == 0 {
        return Err(wrong("messages", MESSAGES));
    }
    view.messages = counts.messages;
    view.images = counts.images;
    view.audio_inputs = counts.audio;
    view.files = counts.files;
    view.inline_bytes = counts.inline_bytes;
    if counts.videos > 0 {
        note(view, "messages");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn read(endpoint: Endpoint, body: &str) -> Result<RequestView, EnvelopeError> {
        let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 64).expect("an envelope");
        read_request(endpoint, &envelope)
    }

    fn chat(members: &str) -> Result<RequestView, EnvelopeError> {
        let body =
            format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}]{members}}}");
        read(Endpoint::ChatCompletions, &body)
    }

    fn refused(members: &str) -> &'static str {
        match chat(members) {
            Err(EnvelopeError::WrongType { name, .. }) => name,
            other => panic!("{members}: {other:?}"),
        }
    }

    #[test]
    fn a_plain_chat_is_read() {
        let view =
            chat(",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":5,\"n\":3");
        let view = view.expect("a request");
        assert_eq!(view.model.as_deref(), Some("m"));
        assert!(view.stream && view.include_usage && view.unpriceable.is_none());
        assert_eq!((view.output_limit, view.choices, view.messages), (Some(5), 3, 1));
    }

    #[test]
    fn null_is_absent() {
        let view =
            chat(",\"stream\":null,\"stream_options\":null,\"max_tokens\":null,\"n\":null,\"models\":null");
        let view = view.expect("a request");
        assert!(!view.stream && !view.include_usage && view.output_limit.is_none() && view.choices == 1);
    }

    #[test]
    fn fields_of_the_wrong_type_are_named() {
        for bad in ["-1", "1.5", "1.0", "\"5\"", "1e308", "99999999999999999999", "[]", "true"] {
            assert_eq!(refused(&format!(",\"max_tokens\":{bad}")), "max_tokens");
            assert_eq!(refused(&format!(",\"max_completion_tokens\":{bad}")), "max_completion_tokens");
            assert_eq!(refused(&format!(",\"n\":{bad}")), "n");
        }
        assert_eq!(refused(",\"n\":0"), "n");
        assert_eq!(refused(",\"best_of\":129"), "best_of");
        assert_eq!(refused(",\"stream\":1"), "stream");
        assert_eq!(refused(",\"stream_options\":[]"), "stream_options");
        assert_eq!(refused(",\"stream_options\":{\"include_usage\":1}"), "stream_options.include_usage");
        assert_eq!(
            refused(",\"stream_options\":{\"include_usage\":true,\"include_usage\":false}"),
            "stream_options"
        );
        assert_eq!(refused(",\"models\":\"m\""), "models");
        assert_eq!(refused(&format!(",\"models\":[{}\"m\"]", "\"m\",".repeat(16))), "models");
        assert_eq!(refused(",\"service_tier\":1"), "service_tier");
        assert_eq!(refused(",\"tools\":{}"), "tools");
        for messages in ["[]", "{}", "\"x\"", "[1]", "[[]]", "null"] {
            let body = format!("{{\"model\":\"m\",\"messages\":{messages}}}");
            let error = read(Endpoint::ChatCompletions, &body).err();
            assert!(matches!(error, Some(EnvelopeError::WrongType { name: "messages", .. })), "{messages}");
        }
    }

    #[test]
    fn a_model_must_be_named() {
        for body in ["{}", "{\"model\":null}", "{\"model\":\"\"}", "{\"models\":[]}"] {
            assert_eq!(read(Endpoint::Embeddings, body).err(), Some(EnvelopeError::MissingModel), "{body}");
        }
        assert!(read(Endpoint::Embeddings, "{\"models\":[\"a\"]}").is_ok());
    }

    #[test]
    fn the_larger_limit_is_the_limit() {
        let view = chat(",\"max_tokens\":5,\"max_completion_tokens\":9").expect("a request");
        assert_eq!((view.output_limit, view.max_tokens), (Some(9), Some(5)));
    }

    #[test]
    fn a_limit_that_an_endpoint_does_not_know_bounds_nothing() {
        let view =
            read(Endpoint::Completions, "{\"model\":\"m\",\"prompt\":\"x\",\"max_completion_tokens\":1}");
        assert_eq!(view.expect("a request").output_limit, None);
    }

    #[test]
    fn parts_are_counted_by_what_they_may_be() {
        let body = r#"{"model":"m","messages":[
            {"role":"user","content":[{"type":"text","text":"{\"type\":\"image_url\"}"},
                {"type":"image_url","image_url":{"url":"u"}},
                {"type":"text","type":"\u0069mage_url"},
                {"image_url":"u"},
                {"type":"input_audio","input_audio":{"data":"","format":"wav"}},
                {"type":"file","file":{"file_id":"f"}}, 7, "text", null, [[]]]},
            {"role":"assistant","content":null,"audio":{"id":"a"}},
            {"role":"assistant","cont\u0065nt":[{"type":"image_url"}],"audio":null}]}"#;
        let view = read(Endpoint::ChatCompletions, body).expect("a request");
        assert_eq!((view.messages, view.images, view.audio_inputs, view.files), (3, 4, 2, 1));
        assert_eq!(view.unpriceable, None);
    }

    fn inline_bytes(parts: &str) -> u64 {
        let body =
            format!("{{\"model\":\"m\",\"messages\":[{{\"content\":[{parts}]}},{{\"content\":\"x\"}}]}}");
        let view = read(Endpoint::ChatCompletions, &body).expect("a request");
        assert!(view.inline_bytes == 0 || view.images + view.files > 0, "{parts}");
        assert!(view.inline_bytes <= body.len() as u64);
        view.inline_bytes
    }

    #[test]
    fn inline_images_and_files_are_measured_as_they_stand_in_the_body() {
        let cases = [
            (r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}"#, 26),
            (r#"{"type":"input_image","image_url":"data:image/png;base64,AAAA"}"#, 26),
            (r#"{"image\u005furl" : { "\u0075rl" : "data:image\/png;base64,A\/A" } }"#, 27),
            (
                r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,AA"}}"#,
                30,
            ),
            (r#"{"type":"file","file":{"file_data":"AAAA"}},{"image_url":"data:image/x,AA"}"#, 19),
        ];
        for (parts, wanted) in cases {
            assert_eq!(inline_bytes(parts), wanted, "{parts}");
        }
    }

    #[test]
    fn bytes_that_no_maximum_covers_stay_bytes() {
        for parts in [
            r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}"#,
            r#"{"type":"image_url","image_url":{"url":"data:application/pdf;base64,AAAA"}}"#,
            r#"{"type":"image_url","image_url":{"url":"\u0064ata:image/png;base64,AAAA"}}"#,
            r#"{"type":"image_url","image_url":{"url":"data:image/png,A","url":"data:image/png,B"}}"#,
            r#"{"type":"image_url","image_url":[{"url":"data:image/png;base64,AAAA"}]}"#,
            r#"{"type":"image_url","image_url":7},{"type":"image_url","image_url":{"url":null}}"#,
            r#"{"type":"image_url","url":"data:image/png;base64,AAAA"}"#,
            r#"{"type":"text","text":"data:image/png;base64,AAAA"}"#,
            r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}"#,
            r#"{"type":"input_audio","input_audio":{"url":"data:image/png;base64,AAAA","file_data":"AA"}}"#,
            r#"{"type":"file","file":{"file_data":"data:audio/mpeg;base64,AAAA"}}"#,
            r#"{"type":"file","file":{"file_id":"f"}},{"type":"file","file":"AAAA"}"#,
            r#""data:image/png;base64,AAAA""#,
        ] {
            assert_eq!(inline_bytes(parts), 0, "{parts}");
        }
    }

    #[test]
    fn what_tokens_do_not_cover_is_named() {
        let cases = [
            (",\"web_search_options\":{}", Some("web_search_options")),
            (",\"tools\":[{\"type\":\"function\",\"function\":{}},{\"type\":\"custom\"}]", None),
            (",\"tools\":[{\"type\":\"function\"},{\"type\":\"web_search\"}]", Some("tools")),
            (",\"tools\":[{\"type\":7}]", Some("tools")),
            (",\"modalities\":[\"text\",\"audio\"]", None),
            (",\"modalities\":[\"image\"]", Some("modalities")),
            (",\"plugins\":[{\"id\":\"web\"}]", Some("plugins")),
            (",\"prediction\":{\"type\":\"content\",\"content\":\"x\"}", None),
        ];
        for (members, wanted) in cases {
            assert_eq!(chat(members).expect("a request").unpriceable, wanted, "{members}");
        }
        assert!(chat(",\"modalities\":[\"audio\"]").expect("a request").audio_output);
        assert!(chat(",\"tools\":[{}]").expect("a request").tools);
    }

    #[test]
    fn every_prompt_of_a_completion_is_an_output() {
        for (prompt, wanted) in [("\"a\"", 4), ("[\"a\",\"b\"]", 8), ("[1,2,3]", 4), ("[[1],[2],[3]]", 12)] {
            let body = format!("{{\"model\":\"m\",\"prompt\":{prompt},\"n\":2,\"best_of\":4}}");
            let view = read(Endpoint::Completions, &body).expect("a request");
            assert_eq!((view.choices, view.choices_sent), (wanted, wanted / 2), "{prompt}");
        }
    }

    #[test]
    fn embeddings_have_no_output() {
        let view = read(Endpoint::Embeddings, "{\"model\":\"m\",\"input\":[[1,2]],\"max_tokens\":4,\"n\":2}");
        let view = view.expect("a request");
        assert_eq!((view.choices, view.choices_sent), (0, 0));
        assert_eq!((view.output_limit, view.unpriceable), (None, None));
        let image = read(Endpoint::Embeddings, "{\"model\":\"m\",\"input\":[{\"image_url\":\"u\"}]}");
        assert_eq!(image.expect("a request").unpriceable, Some("input"));
    }

    #[test]
    fn embeddings_are_never_streamed() {
        let streamed =
            "{\"model\":\"m\",\"input\":\"x\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
        let view = read(Endpoint::Embeddings, streamed).expect("a request");
        assert!(!view.stream && !view.include_usage);
        for (member, value) in [("stream", "1"), ("stream_options", "[]")] {
            let body = format!("{{\"model\":\"m\",\"input\":\"x\",\"{member}\":{value}}}");
            let error = read(Endpoint::Embeddings, &body).err();
            assert!(matches!(error, Some(EnvelopeError::WrongType { name, .. }) if name == member), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_value_of_any_member_is_answered(
            name in proptest::sample::select(&["messages", "tools", "prompt", "input", "models", "modalities", "stream_options", "n"][..]),
            value in "[\\[\\]{}\",:a0-9.-]{0,24}",
        ) {
            let body = format!("{{\"model\":\"m\",\"{name}\":{value}}}");
            if let Ok(envelope) = Envelope::parse(Bytes::from(body), 64) {
                for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Embeddings] {
                    let _ = read_request(endpoint, &envelope);
                }
            }
        }
    }
}
