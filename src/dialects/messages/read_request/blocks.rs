//! What stands in a message: blocks of all kinds.

use super::{
    Hints,
    fields::{At, Fields, flag, items, object, shown, text},
};
use crate::{
    dialects::{DialectError, messages::gemini},
    wire::conversation::{Block, CacheTime, Content, Source, Thinking, ToolCall},
};

/// Where blocks stand, which decides what they may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    System,
    User,
    Assistant,
    /// Inside a `tool_result`.
    Result,
}

impl Place {
    /// Whether a kind of block, one of those that can be read, may stand here.
    fn takes(self, kind: &str) -> bool {
        match kind {
            "text" => true,
            // Older versions of the API took documents from the assistant, too.
            "document" => self != Self::System,
            "image" | "search_result" => matches!(self, Self::User | Self::Result),
            "tool_result" => self == Self::User,
            "tool_reference" => self == Self::Result,
            _ => self == Self::Assistant,
        }
    }
}

/// Text, or an array of blocks.
pub(super) fn content(
    raw: &str,
    at: At<'_>,
    place: Place,
    hints: &mut Hints,
) -> Result<Vec<Block>, DialectError> {
    let mut reader = Reader { place, hints, blocks: Vec::new(), signature: None };
    match raw.as_bytes().first() {
        Some(b'"') => reader.push_text(text(raw, at)?, None),
        Some(b'[') => {
            for (index, block) in items(raw, at)?.into_iter().enumerate() {
                reader.block(block.get(), at.item(index))?;
            }
        }
        _ => return Err(at.wrong("a string, or an array of blocks")),
    }
    reader.place_signature();
    Ok(reader.blocks)
}

pub(super) fn cache_time(raw: &str, at: At<'_>) -> Result<CacheTime, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    if fields.need(at, "type", text)? != "ephemeral" {
        return Err(at.member("type").wrong("`ephemeral`"));
    }
    let time = fields.get(at, "ttl", |raw, at| match text(raw, at)?.as_str() {
        "5m" => Ok(CacheTime::FiveMinutes),
        "1h" => Ok(CacheTime::Hour),
        _ => Err(at.wrong("`5m` or `1h`")),
    })?;
    fields.finish(at)?;
    Ok(time.unwrap_or(CacheTime::FiveMinutes))
}

struct Reader<'h> {
    place: Place,
    hints: &'h mut Hints,
    blocks: Vec<Block>,
    /// Gemini's signature of the call that should come next.
    signature: Option<String>,
}

impl Reader<'_> {
    fn block(&mut self, raw: &str, at: At<'_>) -> Result<(), DialectError> {
        let mut fields = Fields::read(raw, at)?;
        let kind = fields.need(at, "type", text)?;
        let known = [
            "text",
            "image",
            "document",
            "search_result",
            "tool_use",
            "tool_result",
            "tool_reference",
            "thinking",
            "redacted_thinking",
        ];
        if !known.contains(&kind.as_str()) {
            return Err(at.member("type").refused(format!(
                "is `{}`, which only models of Anthropic's can read; leave such blocks out, or call such a model",
                shown(&kind)
            )));
        }
        if !self.place.takes(&kind) {
            return Err(at.member("type").wrong(match self.place {
                Place::System => "`text`, which is all that may stand here",
                Place::User => "a kind of block that a user may send",
                Place::Assistant => "a kind of block that an assistant may send",
                Place::Result => "a kind of block that the result of a tool may have",
            }));
        }
        let cache = fields.get(at, "cache_control", cache_time)?;
        if kind != "tool_use" {
            self.place_signature();
        }
        match kind.as_str() {
            "text" => {
                let text = fields.need(at, "text", text)?;
                // Sources of what an earlier answer said: the text is whole without them.
                if let Some(raw) = fields.take("citations").filter(|raw| *raw != "[]") {
                    self.hints.add("messages.citations", raw);
                }
                self.push_text(text, cache);
            }
            "image" => {
                let source = fields.need(at, "source", picture)?;
                if let Some(raw) = fields.take("transformations").filter(|raw| *raw != "{}") {
                    self.hints.add("image.transformations", raw);
                }
                self.push(Content::Image { source, detail: None }, cache);
            }
            "document" => self.document(&mut fields, at, cache)?,
            "search_result" => self.search_result(&mut fields, at, cache)?,
            "tool_use" => {
                let call = ToolCall {
                    id: fields.need(at, "id", text)?,
                    name: fields.need(at, "name", text)?,
                    arguments: fields.need(at, "input", object)?.get().to_owned(),
                    signature: self.signature.take(),
                };
                fields.get(at, "caller", direct)?;
                self.push(Content::ToolCall(call), cache);
            }
            "tool_result" => {
                let id = fields.need(at, "tool_use_id", text)?;
                let blocks =
                    fields.get(at, "content", |raw, at| content(raw, at, Place::Result, self.hints))?;
                let is_error = fields.get(at, "is_error", flag)?.unwrap_or(false);
                self.push(Content::ToolResult { id, blocks: blocks.unwrap_or_default(), is_error }, cache);
            }
            // A tool that a search found. All tools are offered, so its name is all there is to say.
            "tool_reference" => {
                let name = fields.need(at, "tool_name", text)?;
                self.push_text(name, cache);
            }
            "redacted_thinking" => {
                let data = fields.need(at, "data", text)?;
                self.push(Content::Thinking(Thinking::Sealed { data }), cache);
            }
            _ => self.thinking(&mut fields, at, cache)?,
        }
        fields.finish(at)
    }

    fn push(&mut self, content: Content, cache: Option<CacheTime>) {
        self.blocks.push(Block { content, cache });
    }

    /// Empty text says nothing, and some providers refuse it.
    fn push_text(&mut self, text: String, cache: Option<CacheTime>) {
        if !text.is_empty() {
            self.push(Content::Text(text), cache);
        }
    }

    /// Gemini's signature of a call that did not come can only be of the text before it.
    fn place_signature(&mut self) {
        if let Some(signature) = self.signature.take() {
            self.push(Content::TextSignature(signature), None);
        }
    }

    fn thinking(
        &mut self,
        fields: &mut Fields<'_>,
        at: At<'_>,
        cache: Option<CacheTime>,
    ) -> Result<(), DialectError> {
        let text = fields.need(at, "thinking", text)?;
        let signature = fields.get(at, "signature", self::text)?.filter(|signature| !signature.is_empty());
        let foreign = signature.as_deref().and_then(gemini::Signature::read);
        let own = signature.as_deref().filter(|_| foreign.is_none()).map(str::to_owned);
        if !text.is_empty() || own.is_some() {
            self.push(Content::Thinking(Thinking::Open { text, signature: own }), cache);
        }
        match foreign {
            Some(gemini::Signature::OfCall(signature)) => self.signature = Some(signature.to_owned()),
            Some(gemini::Signature::OfText(signature)) => {
                self.push(Content::TextSignature(signature.to_owned()), None);
            }
            None => {}
        }
        Ok(())
    }

    /// A result of a search as text: what it is called, where it is from, and what it says.
    fn search_result(
        &mut self,
        fields: &mut Fields<'_>,
        at: At<'_>,
        cache: Option<CacheTime>,
    ) -> Result<(), DialectError> {
        let mut whole = fields.need(at, "title", text)?;
        whole.push('\n');
        whole.push_str(&fields.need(at, "source", text)?);
        whole.push('\n');
        for block in fields.need(at, "content", |raw, at| content(raw, at, Place::System, self.hints))? {
            if let Content::Text(text) = block.content {
                whole.push('\n');
                whole.push_str(&text);
            }
        }
        if fields.get(at, "citations", citations)? == Some(true) {
            self.hints.add("search_result.citations", "{\"enabled\":true}");
        }
        self.push(Content::Text(whole), cache);
        Ok(())
    }

    /// A document; one that is made of blocks may be several, with its pictures between them.
    fn document(
        &mut self,
        fields: &mut Fields<'_>,
        at: At<'_>,
        cache: Option<CacheTime>,
    ) -> Result<(), DialectError> {
        let title = fields.get(at, "title", text)?;
        let context = fields.get(at, "context", text)?;
        let citations = fields.get(at, "citations", citations)?.unwrap_or(false);
        let document =
            |source| Content::Document { source, title: title.clone(), context: context.clone(), citations };
        let source = fields.need(at, "source", |raw, at| file(raw, at, self.hints))?;
        let blocks = match source {
            File::One(source) => {
                self.push(document(source), cache);
                return Ok(());
            }
            File::Blocks(blocks) => blocks,
        };
        let mut words = String::new();
        let mut last_cache = None;
        for block in blocks {
            last_cache = block.cache.or(last_cache);
            match block.content {
                Content::Text(text) => {
                    if !words.is_empty() {
                        words.push('\n');
                    }
                    words.push_str(&text);
                }
                other => {
                    if !words.is_empty() {
                        self.push(document(Source::Text(std::mem::take(&mut words))), None);
                    }
                    self.push(other, None);
                }
            }
        }
        if !words.is_empty() {
            self.push(document(Source::Text(words)), None);
        }
        if let Some(last) = self.blocks.last_mut() {
            last.cache = cache.or(last_cache).or(last.cache);
        }
        Ok(())
    }
}

/// Where a picture is.
fn picture(raw: &str, at: At<'_>) -> Result<Source, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    let kind = fields.need(at, "type", text)?;
    let source = address(&mut fields, at, &kind)?;
    fields.finish(at)?;
    source.ok_or_else(|| at.member("type").wrong("`base64`, `url` or `file`"))
}

/// A document's source.
enum File {
    One(Source),
    Blocks(Vec<Block>),
}

fn file(raw: &str, at: At<'_>, hints: &mut Hints) -> Result<File, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    let kind = fields.need(at, "type", text)?;
    let source = match kind.as_str() {
        "text" => {
            if fields.need(at, "media_type", text)? != "text/plain" {
                return Err(at.member("media_type").wrong("`text/plain`"));
            }
            File::One(Source::Text(fields.need(at, "data", text)?))
        }
        "content" => {
            File::Blocks(fields.need(at, "content", |raw, at| content(raw, at, Place::Result, hints))?)
        }
        _ => {
            let source = address(&mut fields, at, &kind)?;
            let wanted = "`base64`, `url`, `file`, `text` or `content`";
            File::One(source.ok_or_else(|| at.member("type").wrong(wanted))?)
        }
    };
    fields.finish(at)?;
    Ok(source)
}

/// What pictures and documents have in common.
fn address(fields: &mut Fields<'_>, at: At<'_>, kind: &str) -> Result<Option<Source>, DialectError> {
    Ok(match kind {
        "base64" => Some(Source::Base64 {
            media_type: fields.need(at, "media_type", text)?,
            data: fields.need(at, "data", text)?,
        }),
        "url" => Some(Source::Url(fields.need(at, "url", text)?)),
        "file" => Some(Source::File(fields.need(at, "file_id", text)?)),
        _ => None,
    })
}

/// `citations` of what can be cited.
fn citations(raw: &str, at: At<'_>) -> Result<bool, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    let enabled = fields.get(at, "enabled", flag)?.unwrap_or(false);
    fields.finish(at)?;
    Ok(enabled)
}

/// Who called a tool: the model itself, or code that Anthropic ran.
fn direct(raw: &str, at: At<'_>) -> Result<(), DialectError> {
    let mut fields = Fields::read(raw, at)?;
    if fields.need(at, "type", text)? != "direct" {
        return Err(at.refused(super::ONLY_ANTHROPIC));
    }
    fields.finish(at)
}
