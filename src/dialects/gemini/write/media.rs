//! Pictures, sound and documents.

use std::borrow::Cow;

use super::shape::{FileData, InlineData, Part};
use crate::{dialects::DialectError, wire::conversation::Source};

/// Where files uploaded to Google are.
const FILES: &str = "https://generativelanguage.googleapis.com/v1beta/";

/// Media types by the ending of an address. Google guesses badly and so does a gateway: what is not here goes without.
const BY_ENDING: [(&str, &str); 24] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("bmp", "image/bmp"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("htm", "text/html"),
    ("xml", "text/xml"),
    ("json", "application/json"),
    ("wav", "audio/wav"),
    ("mp3", "audio/mp3"),
    ("ogg", "audio/ogg"),
    ("flac", "audio/flac"),
    ("aac", "audio/aac"),
    ("mp4", "video/mp4"),
    ("mov", "video/mov"),
    ("webm", "video/webm"),
];

/// A picture, which must be one: what it may cost was reckoned as that of a picture, and Gemini would as well watch a film.
pub(super) fn picture<'a>(source: &'a Source, field: &'static str) -> Result<Part<'a>, DialectError> {
    let part = part(source, field)?;
    let media_type = part.media_type();
    if media_type.is_some_and(|media_type| starts_with(media_type, "image/")) {
        return Ok(part);
    }
    Err(DialectError::unsupported(
        field,
        "is not known to be a picture; send a data URL of one, or an address that ends in .png, .jpg, .webp, .gif, .heic or .bmp",
    ))
}

/// A document; sound and film cost more than one, and are asked for by other names.
pub(super) fn document<'a>(source: &'a Source, field: &'static str) -> Result<Part<'a>, DialectError> {
    let part = part(source, field)?;
    let heard = |media_type: &str| starts_with(media_type, "audio/") || starts_with(media_type, "video/");
    // Of what was uploaded, Google knows the type.
    let unknown = matches!(source, Source::Url(_)) && part.media_type().is_none();
    if unknown || part.media_type().is_some_and(heard) {
        return Err(DialectError::unsupported(
            field,
            "is not known to be a document; send its data with its media type, or an address that ends in .pdf, .txt, .md, .csv, .html, .xml or .json",
        ));
    }
    Ok(part)
}

fn starts_with(text: &str, beginning: &str) -> bool {
    text.get(..beginning.len()).is_some_and(|head| head.eq_ignore_ascii_case(beginning))
}

/// A picture or a document; `field` is the client's name of it.
fn part<'a>(source: &'a Source, field: &'static str) -> Result<Part<'a>, DialectError> {
    match source {
        Source::Base64 { media_type, data } => Ok(inline(media_type, data)),
        Source::Url(url) => match url.get(..5) {
            Some(scheme) if scheme.eq_ignore_ascii_case("data:") => data_url(url, field),
            _ => at(url, field),
        },
        Source::Text(text) => Ok(Part::text(text.as_str())),
        Source::File(id) => uploaded(id, field),
    }
}

/// Sound: `wav` or `mp3`, base64.
pub(super) fn audio<'a>(data: &'a str, format: &str) -> Part<'a> {
    inline_as(Cow::Owned(format!("audio/{format}")), data)
}

fn inline<'a>(media_type: &'a str, data: &'a str) -> Part<'a> {
    // What everybody writes and no registry knows.
    let known = if media_type.eq_ignore_ascii_case("image/jpg") { "image/jpeg" } else { media_type };
    inline_as(Cow::Borrowed(known), data)
}

fn inline_as<'a>(mime_type: Cow<'a, str>, data: &'a str) -> Part<'a> {
    Part { inline_data: Some(InlineData { mime_type, data }), ..Part::default() }
}

/// `data:image/png;base64,…`
fn data_url<'a>(url: &'a str, field: &'static str) -> Result<Part<'a>, DialectError> {
    let wanted = || DialectError::wrong_shape(field, "a data URL of the form `data:image/png;base64,…`");
    let (head, data) = url.split_once(',').ok_or_else(wanted)?;
    let media_type = head.get(5..).and_then(|head| head.strip_suffix(";base64")).ok_or_else(wanted)?;
    let media_type = media_type.split_once(';').map_or(media_type, |(media_type, _)| media_type);
    if media_type.is_empty() { Err(wanted()) } else { Ok(inline(media_type, data)) }
}

/// At an address, which Google fetches.
fn at<'a>(url: &'a str, field: &'static str) -> Result<Part<'a>, DialectError> {
    if !url.starts_with("https://") {
        return Err(DialectError::unsupported(
            field,
            "is at an address Gemini does not fetch; use https or a data URL",
        ));
    }
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
    let mime_type = ending.and_then(|ending| {
        BY_ENDING
            .iter()
            .find(|(known, _)| ending.eq_ignore_ascii_case(known))
            .map(|(_, mime_type)| *mime_type)
    });
    Ok(Part { file_data: Some(FileData { mime_type, file_uri: Cow::Borrowed(url) }), ..Part::default() })
}

/// Uploaded to Google before: `files/abc`, or its whole address.
fn uploaded<'a>(id: &'a str, field: &'static str) -> Result<Part<'a>, DialectError> {
    let file_uri = if id.starts_with("files/") {
        Cow::Owned(format!("{FILES}{id}"))
    } else if id.starts_with(FILES) {
        Cow::Borrowed(id)
    } else {
        return Err(DialectError::unsupported(
            field,
            "is the id of another provider's file; send the file itself, or `files/…` of Google's",
        ));
    };
    Ok(Part { file_data: Some(FileData { mime_type: None, file_uri }), ..Part::default() })
}
