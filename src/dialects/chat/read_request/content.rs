//! What a message holds: a text, or parts.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    dialects::{DialectError, chat::field::Field},
    wire::conversation::{Block, CacheTime, Content, Source, Thinking},
};

const TEXT_OR_PARTS: &str = "a string or an array of parts";
const PICTURE: &str = "an address that begins with `https://`, or a data URL with base64";
const FILE: &str = "a data URL with base64, such as `data:application/pdf;base64,…`";

/// Which parts a role may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Text.
    System,
    /// All but what only a model says.
    User,
    /// Text, refusals, thoughts.
    Assistant,
    /// Text, pictures, files: the first is OpenAI's, the others what some models can be shown besides.
    Tool,
}

/// Reads a `content` that is there.
pub(super) fn read(content: Field<'_, '_>, speaker: Speaker) -> Result<Vec<Block>, DialectError> {
    if content.is_string() {
        return Ok(vec![Content::Text(content.string()?).into()]);
    }
    let mut blocks = Vec::new();
    content.items(TEXT_OR_PARTS, |part| {
        blocks.push(read_part(part, speaker)?);
        Ok(())
    })?;
    Ok(blocks)
}

fn read_part(part: Field<'_, '_>, speaker: Speaker) -> Result<Block, DialectError> {
    let (mut kind, mut cache) = (None, None);
    let mut payload: Option<(String, &str)> = None;
    let mut signature = None;
    part.members(|name, value| {
        match name {
            "type" => kind = Some((value.string()?, value.raw())),
            "cache_control" => cache = Some(read_cache(value)?),
            "prompt_cache_breakpoint" => cache = Some(read_breakpoint(value)?),
            "signature" if speaker == Speaker::Assistant => signature = Some(value.string()?),
            _ if payload.is_none() => payload = Some((name.to_owned(), value.raw())),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let Some((kind, raw_kind)) = kind else { return Err(part.missing("type", "a string")) };
    let may = match kind.as_str() {
        "text" => true,
        "image_url" | "file" => matches!(speaker, Speaker::User | Speaker::Tool),
        "input_audio" => speaker == Speaker::User,
        "refusal" | "thinking" => speaker == Speaker::Assistant,
        _ => {
            return Err(part
                .member("type", raw_kind)
                .only_openai("is not `text`, `image_url`, `input_audio` or `file`"));
        }
    };
    if !may {
        return Err(part.member("type", raw_kind).only_openai("is nothing that this role can say"));
    }
    let (name, raw) = payload.ok_or_else(|| part.missing(&kind, "what this part holds"))?;
    let value = part.member(&name, raw);
    if name != kind {
        return Err(value.unknown());
    }
    if signature.is_some() && kind != "thinking" {
        return Err(part.member("signature", "").unknown());
    }
    let content = match kind.as_str() {
        "text" => Content::Text(value.string()?),
        "refusal" => Content::Refusal(value.string()?),
        "thinking" => Content::Thinking(Thinking::Open { text: read_thoughts(value)?, signature }),
        "image_url" => read_image(value)?,
        "input_audio" => read_audio(value)?,
        _ => read_file(value)?,
    };
    Ok(Block { content, cache })
}

/// Mistral's models say their thoughts as a list of text parts.
fn read_thoughts(thinking: Field<'_, '_>) -> Result<String, DialectError> {
    if thinking.is_string() {
        return thinking.string();
    }
    let mut text = String::new();
    thinking.items("a string or an array of text parts", |part| {
        match read_part(part, Speaker::System)?.content {
            Content::Text(more) => text.push_str(&more),
            _ => return Err(part.wrong("a text part")),
        }
        Ok(())
    })?;
    Ok(text)
}

/// An object with a `url`, or, as some clients have it, the URL itself.
fn read_image(image: Field<'_, '_>) -> Result<Content, DialectError> {
    let (mut raw_url, mut detail) = (image.is_string().then_some(image.raw()), None);
    if raw_url.is_none() {
        image.members(|name, value| {
            match name {
                "url" => raw_url = Some(value.raw()),
                "detail" => detail = Some(value.string()?).filter(|detail| detail != "auto"),
                _ => return Err(value.unknown()),
            }
            Ok(())
        })?;
    }
    let raw_url = raw_url.ok_or_else(|| image.missing("url", PICTURE))?;
    let field = if image.is_string() { image } else { image.member("url", raw_url) };
    let url = field.string()?;
    let source = match DataUrl::parse(&url) {
        Some(DataUrl { media_type, data }) if media_type.starts_with("image/") => {
            Source::Base64 { media_type, data: data.to_owned() }
        }
        Some(_) => return Err(field.unsupported("is no picture; send a document as a `file` part")),
        None if is_address(&url) => Source::Url(url),
        None => return Err(field.wrong(PICTURE)),
    };
    Ok(Content::Image { source, detail })
}

/// An address that a provider may fetch from. Google's models read from its own storage.
fn is_address(url: &str) -> bool {
    ["https://", "http://", "gs://"].iter().any(|scheme| {
        let head = url.get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    })
}

fn read_audio(audio: Field<'_, '_>) -> Result<Content, DialectError> {
    let (mut data, mut format) = (None, None);
    audio.members(|name, value| {
        match name {
            "data" => data = Some(value.string()?),
            "format" => format = Some(value.string()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let data = data.ok_or_else(|| audio.missing("data", "base64"))?;
    let format = format.ok_or_else(|| audio.missing("format", "`wav` or `mp3`"))?;
    Ok(Content::Audio { data, format })
}

fn read_file(file: Field<'_, '_>) -> Result<Content, DialectError> {
    let (mut data, mut id, mut title) = (None, None, None);
    file.members(|name, value| {
        match name {
            "file_data" => data = Some(value.raw()),
            "file_id" => id = Some(value.named()?),
            "filename" => title = Some(value.string()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let source = match (data, id) {
        (None, Some(id)) => Source::File(id),
        (Some(raw), None) => read_file_data(file.member("file_data", raw), title.as_deref())?,
        (Some(raw), Some(_)) => {
            return Err(file
                .member("file_data", raw)
                .unsupported("stands beside `file_id`; give one of them"));
        }
        (None, None) => return Err(file.missing("file_data", FILE)),
    };
    Ok(Content::Document { source, title, context: None, citations: false })
}

fn read_file_data(data: Field<'_, '_>, title: Option<&str>) -> Result<Source, DialectError> {
    let text = data.string()?;
    if let Some(DataUrl { media_type, data: encoded }) = DataUrl::parse(&text) {
        if media_type != "text/plain" {
            return Ok(Source::Base64 { media_type, data: encoded.to_owned() });
        }
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return decoded.map(Source::Text).ok_or_else(|| data.wrong("base64 of text in UTF-8"));
    }
    if is_address(&text) {
        return Ok(Source::Url(text));
    }
    // OpenAI takes bare base64 as well; what it is, the name must say.
    let pdf = title.is_some_and(|title| title.to_ascii_lowercase().ends_with(".pdf"));
    if !pdf || text.starts_with("data:") {
        return Err(data.wrong(FILE));
    }
    Ok(Source::Base64 { media_type: "application/pdf".to_owned(), data: text })
}

/// `data:image/png;base64,…`
struct DataUrl<'a> {
    media_type: String,
    data: &'a str,
}

impl<'a> DataUrl<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_at_checked("data:".len())?;
        let (head, data) = rest.split_once(',')?;
        let mut head = head.split(';').map(str::trim);
        let media_type = head.next().unwrap_or_default().to_ascii_lowercase();
        let is_base64 = head.next_back().is_some_and(|last| last.eq_ignore_ascii_case("base64"));
        (scheme.eq_ignore_ascii_case("data:") && is_base64 && media_type.contains('/'))
            .then_some(Self { media_type, data })
    }
}

/// Anthropic's `cache_control`, which other gateways take on parts, messages and tools.
pub(super) fn read_cache(cache: Field<'_, '_>) -> Result<CacheTime, DialectError> {
    let mut time = CacheTime::FiveMinutes;
    cache.members(|name, value| match (name, value.text()?.as_ref()) {
        ("type", "ephemeral") | ("ttl", "5m") => Ok(()),
        ("ttl", "1h") => {
            time = CacheTime::Hour;
            Ok(())
        }
        ("type", _) => Err(value.wrong("`ephemeral`")),
        ("ttl", _) => Err(value.wrong("`5m` or `1h`")),
        _ => Err(value.unknown()),
    })?;
    Ok(time)
}

/// OpenAI's own mark. Its shortest time stands for the shortest elsewhere: a longer one is dearer to write.
fn read_breakpoint(mark: Field<'_, '_>) -> Result<CacheTime, DialectError> {
    mark.members(|name, value| match (name, value.text()?.as_ref()) {
        ("mode", "explicit") | ("ttl", "30m" | "12h") => Ok(()),
        ("mode", _) => Err(value.wrong("`explicit`")),
        ("ttl", _) => Err(value.wrong("`30m` or `12h`")),
        _ => Err(value.unknown()),
    })?;
    Ok(CacheTime::FiveMinutes)
}
