//! The items of an answer while they grow. Each says what becomes of it, and leaves itself in the output when it ends.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::shapes::{Annotation, Frames, ItemShape, PartShape, Said};
use crate::{
    dialects::responses::seal::{Kept, seal},
    wire::conversation::Thinking,
};

/// Items that are complete, by place.
type Output = BTreeMap<usize, Box<RawValue>>;

/// Where an item stands, and its id.
pub(super) struct Place {
    pub(super) id: String,
    pub(super) index: usize,
}

impl Place {
    /// An event about what is in this item.
    fn said(&self, kind: &'static str) -> Said<'_> {
        Said { item_id: Some(&self.id), output_index: Some(self.index), ..Said::of(kind) }
    }

    fn begins(&self, item: ItemShape<'_>, frames: &mut Frames, out: &mut Vec<u8>) {
        let said = Said::of("response.output_item.added");
        frames.say(Said { output_index: Some(self.index), item: Some(&item), ..said }, out);
    }

    fn ends(&self, item: ItemShape<'_>, frames: &mut Frames, output: &mut Output, out: &mut Vec<u8>) {
        let said = Said::of("response.output_item.done");
        frames.say(Said { output_index: Some(self.index), item: Some(&item), ..said }, out);
        output.insert(self.index, to_raw_value(&item).expect("strings and numbers always serialise"));
    }
}

enum Piece {
    Text { text: String, annotations: Vec<Annotation> },
    Refusal(String),
}

impl Piece {
    fn shape(&self) -> PartShape<'_> {
        match self {
            Self::Text { text, annotations } => PartShape::OutputText { text, annotations, logprobs: [] },
            Self::Refusal(refusal) => PartShape::Refusal { refusal },
        }
    }
}

/// A message; its last piece is open.
pub(super) struct Message {
    place: Place,
    pieces: Vec<Piece>,
}

impl Message {
    pub(super) fn begin(place: Place, frames: &mut Frames, out: &mut Vec<u8>) -> Self {
        let message = Self { place, pieces: Vec::new() };
        message.place.begins(message.shape("in_progress"), frames, out);
        message
    }

    pub(super) const fn index(&self) -> usize {
        self.place.index
    }

    fn shape(&self, status: &'static str) -> ItemShape<'_> {
        let content = self.pieces.iter().map(Piece::shape).collect();
        ItemShape::Message { id: &self.place.id, status, role: "assistant", content }
    }

    /// Whether what would be cited now is text.
    pub(super) fn has_text(&self) -> bool {
        matches!(self.pieces.last(), Some(Piece::Text { .. }))
    }

    /// An event about the last piece.
    fn said(&self, kind: &'static str) -> Said<'_> {
        Said { content_index: Some(self.pieces.len().saturating_sub(1)), ..self.place.said(kind) }
    }

    fn open(&mut self, piece: Piece, frames: &mut Frames, out: &mut Vec<u8>) {
        self.end_piece(frames, out);
        let shape = piece.shape();
        let said =
            Said { content_index: Some(self.pieces.len()), ..self.place.said("response.content_part.added") };
        frames.say(Said { part: Some(&shape), ..said }, out);
        self.pieces.push(piece);
    }

    /// More text, and what it cites of what was named before it.
    pub(super) fn text(
        &mut self,
        more: &str,
        citations: Vec<Annotation>,
        frames: &mut Frames,
        out: &mut Vec<u8>,
    ) {
        if !self.has_text() {
            self.open(Piece::Text { text: String::new(), annotations: Vec::new() }, frames, out);
        }
        for citation in citations {
            self.cite(citation, frames, out);
        }
        if more.is_empty() {
            return;
        }
        if let Some(Piece::Text { text, .. }) = self.pieces.last_mut() {
            text.push_str(more);
        }
        let said = self.said("response.output_text.delta");
        frames.say(Said { delta: Some(more), logprobs: Some([]), ..said }, out);
    }

    /// More of a refusal.
    pub(super) fn refusal(&mut self, more: &str, frames: &mut Frames, out: &mut Vec<u8>) {
        if !matches!(self.pieces.last(), Some(Piece::Refusal(_))) {
            self.open(Piece::Refusal(String::new()), frames, out);
        }
        if let Some(Piece::Refusal(text)) = self.pieces.last_mut() {
            text.push_str(more);
        }
        frames.say(Said { delta: Some(more), ..self.said("response.refusal.delta") }, out);
    }

    /// A source of the text so far.
    pub(super) fn cite(&mut self, mut citation: Annotation, frames: &mut Frames, out: &mut Vec<u8>) {
        let content_index = self.pieces.len().saturating_sub(1);
        let Some(Piece::Text { text, annotations }) = self.pieces.last_mut() else { return };
        citation.stand_at(text.chars().count());
        let said = self.place.said("response.output_text.annotation.added");
        let said =
            Said { content_index: Some(content_index), annotation_index: Some(annotations.len()), ..said };
        frames.say(Said { annotation: Some(&citation), ..said }, out);
        annotations.push(citation);
    }

    fn end_piece(&self, frames: &mut Frames, out: &mut Vec<u8>) {
        let Some(piece) = self.pieces.last() else { return };
        match piece {
            Piece::Text { text, .. } => {
                let said = self.said("response.output_text.done");
                frames.say(Said { text: Some(text), logprobs: Some([]), ..said }, out);
            }
            Piece::Refusal(text) => {
                frames.say(Said { refusal: Some(text), ..self.said("response.refusal.done") }, out);
            }
        }
        let shape = piece.shape();
        frames.say(Said { part: Some(&shape), ..self.said("response.content_part.done") }, out);
    }

    pub(super) fn end(
        self,
        status: &'static str,
        frames: &mut Frames,
        output: &mut Output,
        out: &mut Vec<u8>,
    ) {
        self.end_piece(frames, out);
        self.place.ends(self.shape(status), frames, output, out);
    }
}

/// Thoughts.
pub(super) struct Reasoning {
    place: Place,
    summary: Vec<String>,
    /// The last part of the summary is open.
    open: bool,
    /// So many parts of it are kept as complete thoughts.
    complete: usize,
    kept: Vec<Kept>,
}

impl Reasoning {
    pub(super) fn begin(place: Place, frames: &mut Frames, out: &mut Vec<u8>) -> Self {
        let reasoning = Self { place, summary: Vec::new(), open: false, complete: 0, kept: Vec::new() };
        reasoning.place.begins(reasoning.shape(None), frames, out);
        reasoning
    }

    fn shape(&self, encrypted_content: Option<String>) -> ItemShape<'_> {
        let summary = self.summary.iter().map(|text| PartShape::SummaryText { text }).collect();
        ItemShape::Reasoning { id: &self.place.id, summary, encrypted_content }
    }

    /// An event about the last part.
    fn said(&self, kind: &'static str) -> Said<'_> {
        Said { summary_index: Some(self.summary.len().saturating_sub(1)), ..self.place.said(kind) }
    }

    /// More thoughts to read.
    pub(super) fn thought(&mut self, more: &str, frames: &mut Frames, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.open, true) {
            self.summary.push(String::new());
            let shape = PartShape::SummaryText { text: "" };
            frames
                .say(Said { part: Some(&shape), ..self.said("response.reasoning_summary_part.added") }, out);
        }
        if let Some(text) = self.summary.last_mut() {
            text.push_str(more);
        }
        frames.say(Said { delta: Some(more), ..self.said("response.reasoning_summary_text.delta") }, out);
    }

    /// A block of thoughts is complete: what was told of it since the last one, with its signature.
    pub(super) fn complete(&mut self, thinking: Thinking, frames: &mut Frames, out: &mut Vec<u8>) {
        if let Thinking::Open { text, .. } = &thinking
            && !self.open
            && !text.is_empty()
        {
            self.thought(text, frames, out);
        }
        self.end_part(frames, out);
        self.complete = self.summary.len();
        self.kept.push(thinking.into());
    }

    /// Keeps something for the next turn.
    pub(super) fn keep(&mut self, kept: Kept) {
        self.kept.push(kept);
    }

    fn end_part(&mut self, frames: &mut Frames, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let Some(text) = self.summary.last() else { return };
        frames.say(Said { text: Some(text), ..self.said("response.reasoning_summary_text.done") }, out);
        let shape = PartShape::SummaryText { text };
        frames.say(Said { part: Some(&shape), ..self.said("response.reasoning_summary_part.done") }, out);
    }

    pub(super) fn end(mut self, frames: &mut Frames, output: &mut Output, out: &mut Vec<u8>) {
        self.end_part(frames, out);
        // Where some thoughts are kept whole the summary is not read again: the others have to be kept as well.
        if self.kept.iter().any(|kept| matches!(kept, Kept::Thinking { .. } | Kept::Redacted { .. })) {
            let rest = self.summary.iter().skip(self.complete);
            self.kept.extend(rest.map(|text| Kept::Thinking { text: text.clone(), signature: None }));
        }
        let sealed = seal(&self.kept);
        self.place.ends(self.shape(Some(sealed)), frames, output, out);
    }
}

/// A call of one of the client's functions.
pub(super) struct FunctionCall {
    place: Place,
    call_id: String,
    name: String,
    arguments: String,
}

impl FunctionCall {
    pub(super) fn begin(
        place: Place,
        call_id: String,
        name: String,
        frames: &mut Frames,
        out: &mut Vec<u8>,
    ) -> Self {
        let call = Self { place, call_id, name, arguments: String::new() };
        call.place.begins(call.shape("in_progress"), frames, out);
        call
    }

    pub(super) const fn index(&self) -> usize {
        self.place.index
    }

    fn shape(&self, status: &'static str) -> ItemShape<'_> {
        let Self { place, call_id, name, arguments } = self;
        ItemShape::FunctionCall { id: &place.id, status, call_id, name, arguments }
    }

    pub(super) fn arguments(&mut self, more: &str, frames: &mut Frames, out: &mut Vec<u8>) {
        self.arguments.push_str(more);
        let said = self.place.said("response.function_call_arguments.delta");
        frames.say(Said { delta: Some(more), ..said }, out);
    }

    pub(super) fn end(
        self,
        status: &'static str,
        frames: &mut Frames,
        output: &mut Output,
        out: &mut Vec<u8>,
    ) {
        let said = self.place.said("response.function_call_arguments.done");
        frames.say(Said { arguments: Some(&self.arguments), ..said }, out);
        self.place.ends(self.shape(status), frames, output, out);
    }
}
