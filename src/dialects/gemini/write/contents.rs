//! Turns: who said what, as Gemini wants it. Instructions stand apart, roles alternate, and the results of tools follow
//! the calls at once, in their order, each under the name of its tool.

use std::{borrow::Cow, collections::HashMap};

use serde_json::value::RawValue;

use super::{
    Notes, media,
    shape::{Entry, FunctionCall, FunctionResponse, Outcome, Part},
};
use crate::{
    catalogue::Capabilities,
    dialects::DialectError,
    wire::conversation::{Block, Content, Role, Source, ToolCall, Turn},
};

const USER: &str = "user";
const MODEL: &str = "model";
/// Stands for the user where Gemini demands a turn of theirs and the client has none. An empty text is refused.
const NOTHING_SAID: &str = " ";
/// Base64 of `skip_thought_signature_validator`, which Google documents for calls that come from elsewhere.
const FOREIGN_CALL: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// A conversation's turns.
pub(super) struct Contents<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) instructions: Vec<Part<'a>>,
}

/// Writes `turns`. Where `signed` is asked for, a turn whose first call has no signature gets the one for strangers.
pub(super) fn write<'a>(
    turns: &'a [Turn],
    capabilities: &Capabilities,
    signed: bool,
    notes: &mut Notes,
) -> Result<Contents<'a>, DialectError> {
    let mut writer = Writer {
        capabilities,
        notes,
        drafts: Vec::new(),
        instructions: Vec::new(),
        names: HashMap::new(),
        places: HashMap::new(),
    };
    for turn in turns {
        writer.turn(turn)?;
    }
    let Writer { drafts, instructions, .. } = writer;
    let mut entries: Vec<Entry<'a>> = drafts.into_iter().flat_map(|draft| draft.finish(signed)).collect();
    if entries.first().is_none_or(|first| first.role == MODEL) {
        entries.insert(0, Entry { role: USER, parts: vec![Part::text(NOTHING_SAID)] });
    }
    Ok(Contents { entries, instructions })
}

/// A turn being written.
struct Draft<'a> {
    role: &'static str,
    /// What tools answered, with the place of the call.
    results: Vec<(usize, Part<'a>)>,
    parts: Vec<Part<'a>>,
}

impl<'a> Draft<'a> {
    fn is_empty(&self) -> bool {
        self.results.is_empty() && self.parts.is_empty()
    }

    /// The results of tools are a turn of their own: Gemini counts its parts against those of the calls.
    fn finish(mut self, signed: bool) -> impl Iterator<Item = Entry<'a>> {
        self.results.sort_by_key(|(place, _)| *place);
        // Gemini looks at the first call of a turn only: the others of a batch never carry a signature.
        if signed && let Some(call) = self.parts.iter_mut().find(|part| part.function_call.is_some()) {
            call.thought_signature.get_or_insert(FOREIGN_CALL);
        }
        let results = self.results.into_iter().map(|(_, part)| part).collect();
        let both: [Vec<Part<'a>>; 2] = [results, self.parts];
        both.into_iter().filter(|parts| !parts.is_empty()).map(move |parts| Entry { role: self.role, parts })
    }
}

struct Writer<'a, 'n> {
    capabilities: &'n Capabilities,
    notes: &'n mut Notes,
    drafts: Vec<Draft<'a>>,
    instructions: Vec<Part<'a>>,
    /// Names of the tools called so far, by the id of the call.
    names: HashMap<&'a str, &'a str>,
    /// Places of the calls of the last turn with calls, by their ids.
    places: HashMap<&'a str, usize>,
}

impl<'a> Writer<'a, '_> {
    fn turn(&mut self, turn: &'a Turn) -> Result<(), DialectError> {
        let Turn { role, name, blocks } = turn;
        if name.is_some() {
            self.notes.dropped("messages.name");
        }
        match role {
            Role::System => {}
            Role::User => self.open(USER),
            Role::Assistant => self.open(MODEL),
        }
        for Block { content, cache } in blocks {
            if cache.is_some() {
                self.notes.dropped("cache_control");
            }
            match role {
                Role::System => self.instruct(content)?,
                Role::User | Role::Assistant => self.block(content)?,
            }
        }
        Ok(())
    }

    /// Goes on with the last turn if it is of the same speaker: Gemini wants them to alternate. A turn that came to
    /// nothing does not stand between two of the other speaker.
    fn open(&mut self, role: &'static str) {
        if self.drafts.last().is_some_and(|last| last.role != role && last.is_empty()) {
            self.drafts.pop();
        }
        if self.drafts.last().is_none_or(|last| last.role != role) {
            self.drafts.push(Draft { role, results: Vec::new(), parts: Vec::new() });
        }
    }

    fn push(&mut self, part: Part<'a>) {
        if let Some(last) = self.drafts.last_mut() {
            last.parts.push(part);
        }
    }

    fn instruct(&mut self, content: &'a Content) -> Result<(), DialectError> {
        match content {
            Content::Text(text) | Content::Refusal(text) => {
                if !text.is_empty() {
                    self.instructions.push(Part::text(text.as_str()));
                }
                Ok(())
            }
            _ => Err(DialectError::unsupported(
                "messages",
                "has instructions that are not text; put them as text",
            )),
        }
    }

    fn block(&mut self, content: &'a Content) -> Result<(), DialectError> {
        match content {
            Content::Text(text) | Content::Refusal(text) => {
                if !text.is_empty() {
                    self.push(Part::text(text.as_str()));
                }
            }
            Content::Image { source, detail } => self.image(source, detail.as_deref())?,
            Content::Audio { data, format } => {
                self.able(
                    self.capabilities.audio,
                    "has sound, which this model does not take; call another one",
                )?;
                self.push(media::audio(data, format));
            }
            Content::Document { source, title, context, citations } => {
                self.document(source, title.as_deref(), context.as_deref(), *citations)?;
            }
            Content::ToolCall(call) => self.call(call)?,
            Content::ToolResult { id, blocks, is_error } => {
                if self.drafts.last().is_some_and(|last| last.role == MODEL) {
                    return Err(DialectError::unsupported(
                        "messages",
                        "has a tool's result in a turn of the model",
                    ));
                }
                self.result(id, blocks, *is_error)?;
            }
            Content::Thinking(_) => {
                // What Gemini needs of its thoughts are the signatures beside text and calls.
                self.notes.dropped("messages.thinking");
            }
            Content::TextSignature(signature) => self.text_signature(signature),
        }
        Ok(())
    }

    fn image(&mut self, source: &'a Source, detail: Option<&str>) -> Result<(), DialectError> {
        self.able(
            self.capabilities.images,
            "has a picture, which this model does not take; call another one",
        )?;
        if detail.is_some_and(|detail| detail != "auto") {
            self.notes.dropped("image_url.detail");
        }
        self.push(media::picture(source, "image_url")?);
        Ok(())
    }

    fn document(
        &mut self,
        source: &'a Source,
        title: Option<&str>,
        context: Option<&'a str>,
        citations: bool,
    ) -> Result<(), DialectError> {
        self.able(
            self.capabilities.documents,
            "has a document, which this model does not take; call another one",
        )?;
        if citations {
            return Err(DialectError::unsupported(
                "citations",
                "are not to be had of Gemini; leave them out",
            ));
        }
        if title.is_some() {
            self.notes.dropped("document.title");
        }
        if let Some(context) = context.filter(|context| !context.is_empty()) {
            self.push(Part::text(context));
        }
        self.push(media::document(source, "file")?);
        Ok(())
    }

    fn able(&self, able: bool, why: &'static str) -> Result<(), DialectError> {
        if able { Ok(()) } else { Err(DialectError::unsupported("messages", why)) }
    }

    fn call(&mut self, call: &'a ToolCall) -> Result<(), DialectError> {
        let ToolCall { id, name, arguments, signature } = call;
        let args = arguments.trim();
        let args: &RawValue = serde_json::from_str(if args.is_empty() { "{}" } else { args })
            .ok()
            .filter(|args: &&RawValue| args.get().starts_with('{'))
            .ok_or_else(|| {
                DialectError::wrong_shape("messages.tool_calls.function.arguments", "a JSON object")
            })?;
        // From the end, where the last call is: all texts of a long turn are passed once and not for each call.
        let calls_before =
            |last: &Draft<'_>| last.parts.iter().rev().any(|part| part.function_call.is_some());
        if !self.drafts.last().is_some_and(calls_before) {
            self.places.clear();
        }
        self.places.insert(id, self.places.len());
        self.names.insert(id, name);
        self.push(Part {
            function_call: Some(FunctionCall { id, name, args }),
            thought_signature: signature.as_deref(),
            ..Part::default()
        });
        Ok(())
    }

    fn result(&mut self, id: &'a str, blocks: &'a [Block], is_error: bool) -> Result<(), DialectError> {
        let Some(name) = self.names.get(id).copied() else {
            return Err(DialectError::unsupported(
                "messages",
                "has a tool's result without the call it answers; send the model's turn with the call as well",
            ));
        };
        let mut said: Vec<&'a str> = Vec::new();
        for Block { content, cache } in blocks {
            if cache.is_some() {
                self.notes.dropped("cache_control");
            }
            match content {
                Content::Text(text) | Content::Refusal(text) => said.push(text),
                // A response is an object of text; what can be seen or heard follows it in the same turn.
                Content::Image { .. } | Content::Audio { .. } | Content::Document { .. } => {
                    self.block(content)?
                }
                Content::ToolCall(_)
                | Content::ToolResult { .. }
                | Content::Thinking(_)
                | Content::TextSignature(_) => {
                    return Err(DialectError::unsupported(
                        "messages",
                        "has something in a tool's result that is no result",
                    ));
                }
            }
        }
        let place = self.places.get(id).copied().unwrap_or(usize::MAX);
        let response = outcome(&said, is_error);
        let part =
            Part { function_response: Some(FunctionResponse { id, name, response }), ..Part::default() };
        if let Some(last) = self.drafts.last_mut() {
            last.results.push((place, part));
        }
        Ok(())
    }

    /// Belongs to the text before it; without one it stands on an empty text, as Gemini itself sends it.
    fn text_signature(&mut self, signature: &'a str) {
        let last = self.drafts.last_mut().and_then(|draft| draft.parts.last_mut());
        match last {
            Some(part) if part.text.is_some() && part.thought_signature.is_none() => {
                part.thought_signature = Some(signature);
            }
            _ => self.push(Part { thought_signature: Some(signature), ..Part::text(Cow::Borrowed("")) }),
        }
    }
}

/// An object as it is, anything else under a name.
fn outcome(said: &[&str], is_error: bool) -> Outcome {
    let said = said.join("\n");
    let trimmed = said.trim();
    let object = if trimmed.starts_with('{') { RawValue::from_string(trimmed.to_owned()).ok() } else { None };
    match (object, is_error) {
        (Some(object), false) => Outcome::Object(object),
        (Some(error), true) => Outcome::ErrorObject { error },
        (None, false) => Outcome::Output { output: said },
        (None, true) => Outcome::Error { error: said },
    }
}
