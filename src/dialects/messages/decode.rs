//! Takes Anthropic's answers apart. A whole answer is read as the stream it would have been: every block begins with
//! all that is in it, and ends.

use std::{collections::HashMap, fmt};

use sha2::{Digest, Sha256};

use super::{
    read::{error, event_kind},
    shapes::{Block, Citation, Delta, Message, Raw, StopDetails, StreamEvent, object, read},
};
use crate::{
    dialects::{Decoded, Unreadable},
    wire::{AnthropicUsage, Event, Finish, Part, What, conversation::Thinking},
};

/// Takes Anthropic's messages apart.
#[derive(Default)]
pub struct Decoder {
    /// The client's names of tools whose names Anthropic would not take, by those it was given.
    names: HashMap<String, String>,
    usage: AnthropicUsage,
    started: bool,
    /// The block that is being told, by its number. Blocks come one after another.
    open: Option<(Option<u64>, Open)>,
    calls: u32,
    /// Text has come: then a refusal's explanation is not one more.
    said: bool,
    finished: bool,
}

/// What a block needs to know until it ends.
enum Open {
    Thinking {
        text: String,
        signature: String,
    },
    Call {
        index: u32,
        /// Arguments that came with its beginning, as some servers send them.
        whole: Option<String>,
        /// Some have come piece by piece.
        any: bool,
    },
    Text,
    /// What the provider's own tools did, and kinds not heard of yet.
    Skipped,
}

impl Decoder {
    /// A decoder that gives tools back their names.
    pub fn new(names: HashMap<String, String>) -> Self {
        Self { names, ..Self::default() }
    }

    fn start(&mut self, message: &Message<'_>, parts: &mut Vec<Part>) {
        if !std::mem::replace(&mut self.started, true) {
            let own = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
            parts.push(Part::first(What::Start { id: own(&message.id), model: own(&message.model) }));
        }
    }

    fn begin_block(&mut self, index: Option<u64>, block: &Block<'_>, parts: &mut Vec<Part>) {
        self.end_block(parts);
        let open = match block.kind.as_deref() {
            Some("text") => {
                self.text(block.text.as_deref(), parts);
                for citation in block.citations.into_iter().flat_map(list) {
                    cite(Some(citation), parts);
                }
                Open::Text
            }
            Some("thinking") => {
                let text = block.thinking.as_deref().unwrap_or_default().to_owned();
                if !text.is_empty() {
                    parts.push(Part::first(What::Thought(text.clone())));
                }
                let signature = block.signature.as_deref().unwrap_or_default().to_owned();
                Open::Thinking { text, signature }
            }
            Some("redacted_thinking") => {
                if let Some(data) = &block.data {
                    let data = data.clone().into_owned();
                    parts.push(Part::first(What::Thinking(Thinking::Sealed { data })));
                }
                Open::Skipped
            }
            Some("tool_use") => self.call(block, parts),
            _ => Open::Skipped,
        };
        self.open = Some((index, open));
    }

    fn call(&mut self, block: &Block<'_>, parts: &mut Vec<Part>) -> Open {
        let index = self.calls;
        self.calls = self.calls.saturating_add(1);
        let given = block.name.as_deref().unwrap_or_default();
        let name = self.names.get(given).map_or(given, String::as_str).to_owned();
        let id = match &block.id {
            Some(id) => id.clone().into_owned(),
            None => format!("call_{index}_{}", short_hash(given)),
        };
        parts.push(Part::first(What::ToolCall { index, id, name, signature: None }));
        Open::Call { index, whole: block.arguments().map(str::to_owned), any: false }
    }

    fn text(&mut self, text: Option<&str>, parts: &mut Vec<Part>) {
        if let Some(text) = text {
            self.said = true;
            parts.push(Part::first(What::Text(text.to_owned())));
        }
    }

    fn delta(&mut self, index: Option<u64>, delta: &Delta<'_>, parts: &mut Vec<Part>) {
        let open = self.open.as_mut().filter(|(number, _)| *number == index).map(|(_, open)| open);
        match (open, delta.kind.as_deref()) {
            (Some(Open::Skipped), _) => {}
            (Some(Open::Thinking { text: all, .. }), Some("thinking_delta")) => {
                if let Some(text) = &delta.thinking {
                    all.push_str(text);
                    parts.push(Part::first(What::Thought(text.clone().into_owned())));
                }
            }
            // Comes once; a second one would replace it, as in Anthropic's own SDKs.
            (Some(Open::Thinking { signature, .. }), Some("signature_delta")) => {
                if let Some(new) = &delta.signature {
                    signature.clear();
                    signature.push_str(new);
                }
            }
            (Some(Open::Call { index, any, .. }), Some("input_json_delta")) => {
                if let Some(json) = &delta.partial_json {
                    *any = true;
                    let json = json.clone().into_owned();
                    parts.push(Part::first(What::Arguments { index: *index, json }));
                }
            }
            // Of a block whose beginning was left out, as well.
            (_, Some("text_delta")) => self.text(delta.text.as_deref(), parts),
            (_, Some("citations_delta")) => cite(delta.citation, parts),
            _ => {}
        }
    }

    fn end_block(&mut self, parts: &mut Vec<Part>) {
        match self.open.take() {
            // Without a signature they cannot be given back, and have been told.
            Some((_, Open::Thinking { text, signature })) if !signature.is_empty() => {
                let thinking = Thinking::Open { text, signature: Some(signature) };
                parts.push(Part::first(What::Thinking(thinking)));
            }
            Some((_, Open::Call { index, whole, any: false })) => {
                let json = whole.unwrap_or_else(|| "{}".to_owned());
                parts.push(Part::first(What::Arguments { index, json }));
            }
            _ => {}
        }
    }

    /// The end of the message, once it is known why.
    fn finish(&mut self, delta: &Delta<'_>, parts: &mut Vec<Part>) {
        self.end_block(parts);
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let reason = match delta.stop_reason.as_deref() {
            Some("stop_sequence") => Finish::StopSequence,
            // A paused turn is to be sent back and continued, as one that reached the limit is.
            Some("max_tokens" | "model_context_window_exceeded" | "pause_turn" | "compaction") => {
                Finish::Length
            }
            Some("tool_use") => Finish::ToolCalls,
            Some("refusal") => Finish::Filtered,
            _ if self.calls > 0 => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        if reason == Finish::Filtered && !self.said {
            let details: Option<StopDetails<'_>> = read(delta.stop_details);
            if let Some(why) = details.and_then(|details| details.explanation) {
                parts.push(Part::first(What::Refusal(why.into_owned())));
            }
        }
        let stop_sequence = delta.stop_sequence.as_deref().map(str::to_owned);
        parts.push(Part::first(What::Finish { reason, stop_sequence }));
    }

    fn usage(&mut self, raw: Raw<'_>, parts: &mut Vec<Part>) {
        if let Some(raw) = raw {
            self.usage.update(raw.get());
            parts.push(Part::first(What::Usage(self.usage.figures())));
        }
    }
}

impl crate::dialects::Decoder for Decoder {
    fn whole(&mut self, body: &[u8]) -> Result<Decoded, Unreadable> {
        let text = std::str::from_utf8(body).map_err(|_| Unreadable("not UTF-8"))?;
        let message: Message<'_> = object(text).ok_or(Unreadable("not a JSON object"))?;
        if message.is_error() {
            return Ok(Decoded { error: Some(error(text)), ..Decoded::default() });
        }
        let blocks = message.blocks().ok_or(Unreadable("not of the shape this endpoint answers with"))?;
        let mut parts = Vec::with_capacity(blocks.len() * 2 + 3);
        self.start(&message, &mut parts);
        for block in &blocks {
            self.begin_block(None, block, &mut parts);
        }
        self.finish(&message.delta(), &mut parts);
        self.usage(message.usage, &mut parts);
        Ok(Decoded { parts, ..Decoded::default() })
    }

    fn event(&mut self, event: &Event) -> Decoded {
        let mut decoded = Decoded::default();
        let Some(told) = object::<StreamEvent<'_>>(&event.data) else {
            decoded.unreadable = true;
            decoded.error = (event.name == "error").then(|| error(&event.data));
            return decoded;
        };
        let parts = &mut decoded.parts;
        match event_kind(event, &told) {
            // A message has ended once it is known why: what came late can be told to nobody any more.
            "content_block_start" | "content_block_delta" | "content_block_stop" if self.finished => {}
            "message_start" => match read::<Message<'_>>(told.message) {
                Some(message) => {
                    self.start(&message, parts);
                    self.usage(message.usage, parts);
                }
                None => decoded.unreadable = true,
            },
            "content_block_start" => match read::<Block<'_>>(told.content_block) {
                Some(block) => self.begin_block(told.index, &block, parts),
                None => decoded.unreadable = true,
            },
            "content_block_delta" => match read::<Delta<'_>>(told.delta) {
                Some(delta) => self.delta(told.index, &delta, parts),
                None => decoded.unreadable = true,
            },
            "content_block_stop" => self.end_block(parts),
            "message_delta" => {
                match read::<Delta<'_>>(told.delta) {
                    Some(delta) if delta.stop_reason.is_some() => self.finish(&delta, parts),
                    Some(_) => {}
                    None => decoded.unreadable = told.delta.is_some(),
                }
                self.usage(told.usage, parts);
            }
            "message_stop" => {
                // Said once, even of a message that never said why it ended.
                self.finish(&Delta::default(), parts);
                parts.push(Part::first(What::End));
            }
            "error" => decoded.error = Some(error(&event.data)),
            // `ping`, and what later versions add.
            _ => decoded.error = told.error.map(|_| error(&event.data)),
        }
        decoded
    }
}

/// A source as an address, if it has one: a place in a document has none.
fn cite(raw: Raw<'_>, parts: &mut Vec<Part>) {
    let Some(citation) = read::<Citation<'_>>(raw) else { return };
    let address =
        |source: &std::borrow::Cow<'_, str>| source.starts_with("https://") || source.starts_with("http://");
    if let Some(url) = citation.url.or_else(|| citation.source.filter(address)) {
        let title = citation.title.map(Into::into);
        parts.push(Part::first(What::Citation { url: url.into(), title }));
    }
}

fn list(raw: &serde_json::value::RawValue) -> Vec<&serde_json::value::RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// Eight hexadecimal digits that a text always gives.
pub(super) fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what was said.
        f.debug_struct("Decoder")
            .field("calls", &self.calls)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}
