//! The blocks of a request, as Anthropic has them.

use std::{borrow::Cow, collections::HashMap};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Dropped;
use crate::{
    catalogue::Capabilities,
    dialects::{DialectError, messages::decode::short_hash},
    wire::conversation::{Block, CacheTime, Content, Source},
};

/// One block.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Wire<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    Image {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    Document {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<Citations>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    ToolUse {
        id: String,
        name: Cow<'a, str>,
        input: Cow<'a, RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    ToolResult {
        tool_use_id: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Wire<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
}

impl<'a> Wire<'a> {
    /// Text that marks nothing.
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text { text: text.into(), cache_control: None }
    }

    /// Where its marker stands, for those that may have one.
    pub(super) const fn marker(&mut self) -> Option<&mut Option<CacheControl>> {
        match self {
            Self::Text { cache_control, .. }
            | Self::Image { cache_control, .. }
            | Self::Document { cache_control, .. }
            | Self::ToolUse { cache_control, .. }
            | Self::ToolResult { cache_control, .. } => Some(cache_control),
            Self::Thinking { .. } | Self::RedactedThinking { .. } => None,
        }
    }
}

/// Where a picture or a document is.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WireSource<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    Text { media_type: &'static str, data: Cow<'a, str> },
}

#[derive(Serialize)]
pub(super) struct Citations {
    enabled: bool,
}

/// A marker up to which the prompt is cached.
#[derive(Clone, Copy, Serialize)]
pub(super) struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl From<CacheTime> for CacheControl {
    fn from(time: CacheTime) -> Self {
        let ttl = match time {
            // What Anthropic takes a marker without a time for.
            CacheTime::FiveMinutes => None,
            CacheTime::Hour => Some("1h"),
        };
        Self { kind: "ephemeral", ttl }
    }
}

/// Whether there is nothing in a text that Anthropic would accept.
pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// A text, unless it is blank, which would be refused.
pub(super) fn text<'a>(text: &'a str, cache: Option<CacheTime>, dropped: &mut Dropped) -> Option<Wire<'a>> {
    if is_blank(text) {
        dropped.cache(cache);
        return None;
    }
    Some(Wire::Text { text: text.into(), cache_control: cache.map(Into::into) })
}

/// Text, a picture or a document, as users and tools may show them.
pub(super) fn shown<'a>(
    block: &'a Block,
    capabilities: &Capabilities,
    dropped: &mut Dropped,
) -> Result<Option<Wire<'a>>, DialectError> {
    let cache_control = block.cache.map(Into::into);
    Ok(Some(match &block.content {
        Content::Text(said) | Content::Refusal(said) => return Ok(text(said, block.cache, dropped)),
        Content::Image { source, detail } => {
            if !capabilities.images {
                return Err(refused("has an image, which this model cannot see; send text"));
            }
            if detail.as_deref().is_some_and(|detail| detail != "auto") {
                dropped.note("image_url.detail");
            }
            Wire::Image { source: picture(source)?, cache_control }
        }
        Content::Document { source, title, context, citations } => {
            if !capabilities.documents {
                return Err(refused("has a document, which this model cannot read; send its text"));
            }
            Wire::Document {
                source: document(source)?,
                title: title.as_deref().filter(|title| !title.is_empty()),
                context: context.as_deref().filter(|context| !context.is_empty()),
                citations: citations.then_some(Citations { enabled: true }),
                cache_control,
            }
        }
        Content::Audio { .. } => {
            return Err(refused("has sound, which this provider's models cannot hear; send text"));
        }
        Content::ToolCall(_) => {
            return Err(refused("has a tool call that is not the model's; put it into an assistant message"));
        }
        Content::ToolResult { .. } => {
            return Err(refused("has a tool result where none can be; put it into a message of its own"));
        }
        Content::Thinking(_) | Content::TextSignature(_) => {
            dropped.note("messages.thinking");
            return Ok(None);
        }
    }))
}

/// Something in the messages that cannot be said.
pub(super) fn refused(why: &'static str) -> DialectError {
    DialectError::unsupported("messages", why)
}

fn picture(source: &Source) -> Result<WireSource<'_>, DialectError> {
    match source {
        Source::Base64 { media_type, data } => match picture_type(media_type) {
            Some(media_type) => Ok(WireSource::Base64 { media_type, data }),
            None => Err(refused(
                "has an image of a type that this provider does not know; send JPEG, PNG, GIF or WebP",
            )),
        },
        Source::Url(url) => Ok(WireSource::Url { url }),
        Source::Text(_) => Err(refused("has an image that is text; send its data as base64")),
        Source::File(_) => Err(elsewhere()),
    }
}

/// The types that are accepted, by the names that are accepted.
fn picture_type(media_type: &str) -> Option<&'static str> {
    const TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
    let media_type = essence(media_type);
    if media_type.eq_ignore_ascii_case("image/jpg") {
        return Some("image/jpeg");
    }
    TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(media_type))
}

fn document(source: &Source) -> Result<WireSource<'_>, DialectError> {
    const PDF: &str = "application/pdf";
    const PLAIN: &str = "text/plain";
    match source {
        Source::Base64 { media_type, data } if essence(media_type).eq_ignore_ascii_case(PDF) => {
            Ok(WireSource::Base64 { media_type: PDF, data })
        }
        // Text is taken as it is, not as base64, and every kind of it is plain.
        Source::Base64 { media_type, data } if is_text(essence(media_type)) => {
            let bytes = BASE64_STANDARD.decode(data).ok();
            match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(text) => Ok(WireSource::Text { media_type: PLAIN, data: text.into() }),
                None => Err(refused("has a text document that is not base64 of UTF-8; send it so")),
            }
        }
        Source::Base64 { .. } => {
            Err(refused("has a document of a type that this provider does not know; send PDF or text"))
        }
        Source::Url(url) => Ok(WireSource::Url { url }),
        Source::Text(text) => Ok(WireSource::Text { media_type: PLAIN, data: text.into() }),
        Source::File(_) => Err(elsewhere()),
    }
}

fn is_text(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type.starts_with("text/") || matches!(media_type.as_str(), "application/json" | "application/xml")
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn elsewhere() -> DialectError {
    refused("names an uploaded file, which this provider does not have; send its data inline")
}

/// Names that Anthropic takes, for those it does not: every letter of `[A-Za-z0-9_-]`, and not too many.
#[derive(Default)]
pub(super) struct Names {
    /// The client's, by those that are sent instead.
    pub(super) changed: HashMap<String, String>,
}

/// Longest name of a tool that is accepted, in letters.
const MAX_NAME: usize = 128;

impl Names {
    /// The name under which a tool is sent. Always the same for the same name, so that what is cached stays so.
    pub(super) fn of<'a>(&mut self, name: &'a str) -> Cow<'a, str> {
        if is_plain(name) && name.len() <= MAX_NAME {
            return Cow::Borrowed(name);
        }
        let instead = plain(name, MAX_NAME);
        self.changed.insert(instead.clone(), name.to_owned());
        Cow::Owned(instead)
    }
}

/// Whether a text has only letters that Anthropic takes in names and ids, and at least one.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_plain_byte)
}

const fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// A text made of such letters, at most `max` of them, that differs wherever the given one does.
pub(super) fn plain(text: &str, max: usize) -> String {
    let letters = text.chars().map(|c| if c.is_ascii() && is_plain_byte(c as u8) { c } else { '_' });
    let hash = short_hash(text);
    let mut plain: String = letters.take(max.saturating_sub(hash.len() + 1)).collect();
    plain.push('_');
    plain.push_str(&hash);
    plain
}
