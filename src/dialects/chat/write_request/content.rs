//! What a message holds: text, or parts where text is not enough.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

use super::{CacheControl, Dropped, options::Names};
use crate::{
    dialects::{Call, DialectError},
    wire::conversation::{Block, Content, Source},
};

/// A `content`.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Said<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

impl<'a> Said<'a> {
    /// Text alone becomes one string: not every server of this dialect takes a list of parts. Parts stay parts where one
    /// of them is no text, or carries a mark.
    pub(super) fn from_parts(mut parts: Vec<Part<'a>>) -> Self {
        let plain = |part: &Part<'_>| matches!(part, Part::Text { cache_control: None, .. });
        if !parts.iter().all(plain) {
            return Self::Parts(parts);
        }
        if parts.len() == 1
            && let Some(Part::Text { text, .. }) = parts.pop()
        {
            return Self::Text(text);
        }
        let texts: Vec<&str> = parts.iter().filter_map(Part::text).collect();
        Self::Text(texts.join("\n").into())
    }
}

/// One part of a content.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    InputAudio {
        input_audio: InputAudio<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    File {
        file: File<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
}

#[derive(Serialize)]
pub(super) struct ImageUrl<'a> {
    url: Address<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct InputAudio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
pub(super) struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<Address<'a>>,
}

/// A URL, or data written as one. The data is not copied before it is written.
pub(super) enum Address<'a> {
    Url(&'a str),
    Data { media_type: &'a str, data: &'a str },
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Data { media_type, data } => write!(f, "data:{media_type};base64,{data}"),
        }
    }
}

impl Serialize for Address<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'a> Part<'a> {
    /// Text without a mark.
    pub(super) fn plain(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text { text: text.into(), cache_control: None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text { text, .. } => Some(text),
            Self::ImageUrl { .. } | Self::InputAudio { .. } | Self::File { .. } => None,
        }
    }
}

/// What parts are written with.
pub(super) struct Pen<'w, 'c> {
    pub(super) call: &'w Call<'c>,
    pub(super) names: &'w Names,
    pub(super) dropped: &'w mut Dropped,
}

impl Pen<'_, '_> {
    /// Appends what a block is in parts: of someone who is not the model.
    pub(super) fn parts<'a>(
        &mut self,
        block: &'a Block,
        parts: &mut Vec<Part<'a>>,
    ) -> Result<(), DialectError> {
        let Block { content, cache } = block;
        let cache_control = self.dropped.mark(*cache, self.call);
        let capabilities = self.call.capabilities;
        match content {
            Content::Text(text) | Content::Refusal(text) => {
                parts.push(Part::Text { text: text.into(), cache_control });
            }
            Content::Image { source, detail } => {
                self.demand(capabilities.images, "shows a picture to a model that cannot see; take it out")?;
                let url = match source {
                    Source::Base64 { media_type, data } => Address::Data { media_type, data },
                    Source::Url(url) => Address::Url(url),
                    Source::Text(_) | Source::File(_) => {
                        return Err(
                            self.refuse("shows an uploaded picture; send its data or its address instead")
                        );
                    }
                };
                let image_url = ImageUrl { url, detail: detail.as_deref() };
                parts.push(Part::ImageUrl { image_url, cache_control });
            }
            Content::Audio { data, format } => {
                self.demand(capabilities.audio, "plays sound to a model that cannot hear; take it out")?;
                parts.push(Part::InputAudio { input_audio: InputAudio { data, format }, cache_control });
            }
            Content::Document { source, title, context, citations } => {
                self.demand(
                    capabilities.documents,
                    "shows a document to a model that cannot read it; send its text",
                )?;
                self.demand(
                    !citations,
                    "asks for citations, which this provider does not make; turn them off",
                )?;
                if let Source::Text(text) = source {
                    let text = with_heading(title.as_deref(), context.as_deref(), text);
                    parts.push(Part::Text { text, cache_control });
                    return Ok(());
                }
                parts.extend(context.as_deref().map(Part::plain));
                let file = self.file(source, title.as_deref())?;
                parts.push(Part::File { file, cache_control });
            }
            Content::Thinking(_) | Content::TextSignature(_) => self.dropped.note("messages.thinking"),
            Content::ToolCall(_) | Content::ToolResult { .. } => {
                return Err(
                    self.refuse("has a tool call or a result where none can be; put it in its own turn")
                );
            }
        }
        Ok(())
    }

    fn file<'a>(&self, source: &'a Source, title: Option<&'a str>) -> Result<File<'a>, DialectError> {
        match source {
            Source::Base64 { media_type, data } => Ok(File {
                file_id: None,
                filename: Some(file_name(title, media_type)),
                file_data: Some(Address::Data { media_type, data }),
            }),
            Source::File(id) => Ok(File { file_id: Some(id), filename: None, file_data: None }),
            Source::Url(_) | Source::Text(_) => Err(self.refuse(
                "shows a document by its address, which this provider does not fetch; send its data",
            )),
        }
    }

    fn demand(&self, can: bool, why: &str) -> Result<(), DialectError> {
        if can { Ok(()) } else { Err(self.refuse(why)) }
    }

    /// The whole of the turns is named: which block it was in the client's count is not known here.
    pub(super) fn refuse(&self, why: &str) -> DialectError {
        DialectError::unsupported(self.names.turns, why)
    }
}

/// A document that is text needs no file, which few servers take.
fn with_heading<'a>(title: Option<&str>, context: Option<&str>, text: &'a str) -> Cow<'a, str> {
    match (title, context) {
        (None, None) => text.into(),
        (title, context) => {
            [title, context, Some(text)].into_iter().flatten().collect::<Vec<_>>().join("\n\n").into()
        }
    }
}

/// Data comes with a file name, from whose ending some tell what it is.
fn file_name<'a>(title: Option<&'a str>, media_type: &str) -> Cow<'a, str> {
    let ending = if media_type == "application/pdf" { ".pdf" } else { "" };
    match title.filter(|title| !title.is_empty()) {
        Some(title) if title.to_ascii_lowercase().ends_with(ending) => title.into(),
        Some(title) => format!("{title}{ending}").into(),
        None => format!("document{ending}").into(),
    }
}
