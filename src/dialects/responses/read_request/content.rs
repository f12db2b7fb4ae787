//! Parts of messages and of what tools answered.

use serde_json::value::RawValue;

use super::hint;
use crate::{
    dialects::{DialectError, responses::fields::Fields},
    wire::{
        Conversation,
        conversation::{Block, CacheTime, Content, Source},
    },
};

const A_URL: &str = "an address that begins with `https://`, or a data URL with base64";
const A_FILE: &str = "a data URL with base64, such as `data:application/pdf;base64,…`";

/// The member `name`: text, or an array of parts.
pub(super) fn read(
    fields: &mut Fields,
    name: &'static str,
    conversation: &mut Conversation,
) -> Result<Vec<Block>, DialectError> {
    let path = fields.path(name);
    let wrong = || DialectError::wrong_shape(&path, "a string or an array of parts");
    let raw = fields.take(name).ok_or_else(wrong)?;
    if raw.starts_with('"') {
        let text: String = serde_json::from_str(raw).map_err(|_| wrong())?;
        return Ok(vec![Content::Text(text).into()]);
    }
    let parts: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| wrong())?;
    parts
        .into_iter()
        .enumerate()
        .map(|(at, raw)| part(Fields::read(format!("{path}[{at}]"), raw.get())?, conversation))
        .collect()
}

fn part(mut part: Fields, conversation: &mut Conversation) -> Result<Block, DialectError> {
    let content = match part.required_text("type")?.as_str() {
        "input_text" => Content::Text(part.required_text("text")?),
        "output_text" => {
            // What stood beside the text when it was an answer.
            part.ignore(&["annotations", "logprobs"]);
            Content::Text(part.required_text("text")?)
        }
        "refusal" => Content::Refusal(part.required_text("refusal")?),
        "input_image" => {
            let detail = part.text("detail")?.filter(|detail| detail != "auto");
            Content::Image { source: image(&mut part)?, detail }
        }
        "input_file" => {
            if part.text("detail")?.is_some_and(|detail| detail != "auto") {
                hint(conversation, "input_file.detail", "true");
            }
            let title = part.text("filename")?;
            let source = file(&mut part, title.as_deref())?;
            Content::Document { source, title, context: None, citations: false }
        }
        _ => {
            return Err(DialectError::unsupported(
                part.path("type"),
                "is no part that can be said to this provider; send `input_text`, `input_image` or `input_file`",
            ));
        }
    };
    let cache = cache(&mut part)?;
    part.finish()?;
    Ok(Block { content, cache })
}

fn image(part: &mut Fields) -> Result<Source, DialectError> {
    if let Some(id) = part.text("file_id")? {
        part.refuse("image_url", &[], "must be left out where `file_id` is given")?;
        return Ok(Source::File(id));
    }
    let url = part.required_text("image_url")?;
    address(url).ok_or_else(|| DialectError::wrong_shape(part.path("image_url"), A_URL))
}

fn file(part: &mut Fields, name: Option<&str>) -> Result<Source, DialectError> {
    let (id, url, data) = (part.text("file_id")?, part.text("file_url")?, part.text("file_data")?);
    match (id, url, data) {
        (Some(id), None, None) => Ok(Source::File(id)),
        (None, Some(url), None) => {
            address(url).ok_or_else(|| DialectError::wrong_shape(part.path("file_url"), A_URL))
        }
        (None, None, Some(data)) => {
            let is_pdf = name.is_some_and(|name| name.to_ascii_lowercase().ends_with(".pdf"));
            let source = match inline(&data) {
                None if is_pdf && !data.starts_with("data:") => {
                    Some(Source::Base64 { media_type: "application/pdf".into(), data })
                }
                source => source,
            };
            source.ok_or_else(|| DialectError::wrong_shape(part.path("file_data"), A_FILE))
        }
        _ => Err(DialectError::wrong_shape(
            part.own_path(),
            "an `input_file` with exactly one of `file_data`, `file_url` and `file_id`",
        )),
    }
}

/// What an address or a data URL leads to.
fn address(url: String) -> Option<Source> {
    if url.starts_with("https://") || url.starts_with("http://") {
        Some(Source::Url(url))
    } else {
        inline(&url)
    }
}

/// The base64 inside a data URL.
fn inline(url: &str) -> Option<Source> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type =
        head.strip_suffix(";base64")?.split(';').next().filter(|media_type| media_type.contains('/'))?;
    Some(Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
}

/// A mark up to which everything is to be cached. Half an hour is nearest to the shorter of the two times there are.
fn cache(part: &mut Fields) -> Result<Option<CacheTime>, DialectError> {
    let Some(mut mark) = part.inner("prompt_cache_breakpoint")? else { return Ok(None) };
    mark.ignore(&["mode"]);
    let time = match mark.text("ttl")?.as_deref() {
        None | Some("30m") => CacheTime::FiveMinutes,
        Some("12h") => CacheTime::Hour,
        Some(_) => return Err(DialectError::wrong_shape(mark.path("ttl"), "`30m` or `12h`")),
    };
    mark.finish()?;
    Ok(Some(time))
}
