//! The pieces of an answer in the order in which they are told.
//!
//! Anthropic's blocks never overlap, while a provider may go back and forth between calls. So the first piece is told as
//! it comes, and while it is a call whose arguments are not complete, everything else waits behind it.

use std::collections::{HashMap, VecDeque};

use super::{
    arguments::Arguments,
    frames::{Block, Citation, Delta, Frame, Input},
    names,
};
use crate::{dialects::messages::gemini::Signature, wire::conversation::Thinking};

#[derive(Default)]
pub(super) struct Pieces {
    /// The first is the one that is being told; of what was told of it nothing is kept.
    waiting: VecDeque<Piece>,
    /// Pieces told to their end.
    told: usize,
    /// Which piece of all a call is.
    calls: HashMap<u32, usize>,
    /// The first has begun.
    begun: bool,
    /// Which block of the message the first is.
    index: u32,
    /// Bytes of thoughts that came in since a block of them was last complete.
    thoughts: usize,
    /// Sources that came in while there was no text to cite them.
    citations: Vec<Citation>,
}

enum Piece {
    Text { text: String, citations: Vec<Citation> },
    Thinking { text: String, signature: String, complete: bool },
    Sealed { data: String },
    Call { id: String, name: String, arguments: Arguments },
}

/// Appends, and does not copy what comes first.
fn append(text: &mut String, more: String) {
    if text.is_empty() {
        *text = more;
    } else {
        text.push_str(&more);
    }
}

impl Pieces {
    /// Whether there is anything to tell.
    pub(super) fn has_any(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn text(&mut self, more: String) {
        match self.waiting.back_mut() {
            _ if more.is_empty() => {}
            Some(Piece::Text { text, .. }) => append(text, more),
            _ => {
                let citations = std::mem::take(&mut self.citations);
                self.waiting.push_back(Piece::Text { text: more, citations });
            }
        }
    }

    pub(super) fn citation(&mut self, url: String, title: Option<String>) {
        let citation = Citation::new(url, title);
        match self.waiting.back_mut() {
            Some(Piece::Text { citations, .. }) => citations.push(citation),
            _ => self.citations.push(citation),
        }
    }

    pub(super) fn thought(&mut self, more: String) {
        self.thoughts = self.thoughts.saturating_add(more.len());
        match self.waiting.back_mut() {
            _ if more.is_empty() => {}
            Some(Piece::Thinking { text, complete: false, .. }) => append(text, more),
            _ => self.push_thinking(more, String::new(), false),
        }
    }

    /// A block of thoughts is complete, all or some of which came in before.
    pub(super) fn thinking(&mut self, thinking: Thinking) {
        let (whole, own) = match thinking {
            Thinking::Open { text, signature } => (text, signature.unwrap_or_default()),
            Thinking::Sealed { data } => return self.waiting.push_back(Piece::Sealed { data }),
        };
        // Fewer than came in cannot be the same ones.
        let rest = whole.get(std::mem::take(&mut self.thoughts)..).unwrap_or(&whole);
        match self.waiting.back_mut() {
            Some(Piece::Thinking { text, signature, complete: complete @ false }) => {
                text.push_str(rest);
                *signature = own;
                *complete = true;
            }
            _ if rest.is_empty() && own.is_empty() => {}
            _ => self.push_thinking(rest.to_owned(), own, true),
        }
    }

    pub(super) fn text_signature(&mut self, signature: &str) {
        self.push_thinking(String::new(), Signature::OfText(signature).to_string(), true);
    }

    fn push_thinking(&mut self, text: String, signature: String, complete: bool) {
        self.waiting.push_back(Piece::Thinking { text, signature, complete });
    }

    pub(super) fn call(&mut self, index: u32, id: &str, name: String, signature: Option<&str>) {
        if let Some(signature) = signature {
            self.push_thinking(String::new(), Signature::OfCall(signature).to_string(), true);
        }
        let id = names::call_id(id).into_owned();
        self.calls.insert(index, self.told + self.waiting.len());
        self.waiting.push_back(Piece::Call { id, name, arguments: Arguments::default() });
    }

    /// More arguments of a call that is not told yet; a complete one needs none.
    pub(super) fn arguments(&mut self, of: u32, json: &str) {
        let place = self.calls.get(&of).and_then(|place| place.checked_sub(self.told));
        if let Some(Piece::Call { arguments, .. }) = place.and_then(|place| self.waiting.get_mut(place)) {
            arguments.push(json);
        }
    }

    /// The blocks of a message of which nothing was told yet.
    pub(super) fn blocks(&self) -> Vec<Block<'_>> {
        let blocks = self.waiting.iter().map(|piece| match piece {
            Piece::Text { text, citations } => Block::Text { text, citations },
            Piece::Thinking { text, signature, .. } => Block::Thinking { thinking: text, signature },
            Piece::Sealed { data } => Block::RedactedThinking { data },
            Piece::Call { id, name, arguments, .. } => Block::ToolUse { id, name, input: arguments.input() },
        });
        blocks.collect()
    }

    /// Tells what can be told; with `all`, everything, since nothing more will come.
    pub(super) fn tell(&mut self, all: bool, out: &mut Vec<u8>) {
        loop {
            let followed = self.waiting.len() > 1;
            let Some(piece) = self.waiting.front_mut() else { return };
            let index = self.index;
            if !std::mem::replace(&mut self.begun, true) {
                Frame::ContentBlockStart { index, content_block: piece.beginning() }.write(out);
            }
            let ends = all || piece.ends(followed);
            piece.tell(index, ends, out);
            if !ends {
                return;
            }
            Frame::ContentBlockStop { index }.write(out);
            self.waiting.pop_front();
            self.told += 1;
            self.begun = false;
            self.index = self.index.saturating_add(1);
        }
    }
}

impl Piece {
    /// The block as it begins.
    fn beginning(&self) -> Block<'_> {
        match self {
            Self::Text { .. } => Block::Text { text: "", citations: &[] },
            Self::Thinking { .. } => Block::Thinking { thinking: "", signature: "" },
            Self::Sealed { data } => Block::RedactedThinking { data },
            Self::Call { id, name, .. } => Block::ToolUse { id, name, input: Input::None {} },
        }
    }

    /// Whether nothing can be added to it any more.
    const fn ends(&self, followed: bool) -> bool {
        match self {
            Self::Text { .. } => followed,
            Self::Thinking { complete, .. } => followed || *complete,
            Self::Sealed { .. } => true,
            Self::Call { arguments, .. } => followed && arguments.is_complete(),
        }
    }

    /// Tells what came in since the last time; with `rest`, also what can only be told at the end.
    fn tell(&mut self, index: u32, rest: bool, out: &mut Vec<u8>) {
        let mut write = |delta: Delta<'_>| Frame::ContentBlockDelta { index, delta }.write(out);
        match self {
            Self::Text { text, citations } => {
                if !text.is_empty() {
                    write(Delta::TextDelta { text });
                    text.clear();
                }
                for citation in citations.drain(..) {
                    write(Delta::CitationsDelta { citation: &citation });
                }
            }
            Self::Thinking { text, signature, .. } => {
                if !text.is_empty() {
                    write(Delta::ThinkingDelta { thinking: text });
                    text.clear();
                }
                if rest && !signature.is_empty() {
                    write(Delta::SignatureDelta { signature });
                }
            }
            Self::Sealed { .. } => {}
            Self::Call { arguments, .. } => {
                let more = if rest { arguments.rest() } else { arguments.ready() };
                if let Some(partial_json) = &more {
                    write(Delta::InputJsonDelta { partial_json });
                }
            }
        }
    }
}
