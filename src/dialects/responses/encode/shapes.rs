//! Events, items and their parts as they are written.

use serde::Serialize;

use super::response::Response;
use crate::wire::{ErrorObject, write_frame};

/// An event: its type, and those of all members that it has.
#[derive(Default, Serialize)]
pub(super) struct Said<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotation_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<&'a ItemShape<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<&'a PartShape<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotation: Option<&'a Annotation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arguments: Option<&'a str>,
    /// Always none, but clients want the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<[(); 0]>,
    pub(super) sequence_number: u64,
}

impl Said<'_> {
    /// An event of this type, with nothing in it yet.
    pub(super) fn of(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }
}

/// An item as a client sees it.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ItemShape<'a> {
    Message {
        id: &'a str,
        status: &'static str,
        role: &'static str,
        content: Vec<PartShape<'a>>,
    },
    Reasoning {
        id: &'a str,
        summary: Vec<PartShape<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    FunctionCall {
        id: &'a str,
        status: &'static str,
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
    },
}

/// A part of an item.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum PartShape<'a> {
    OutputText { text: &'a str, annotations: &'a [Annotation], logprobs: [(); 0] },
    Refusal { refusal: &'a str },
    SummaryText { text: &'a str },
}

/// A citation.
#[derive(Serialize)]
pub(super) struct Annotation {
    #[serde(rename = "type")]
    kind: &'static str,
    start_index: usize,
    end_index: usize,
    url: String,
    title: String,
}

impl Annotation {
    /// Cites this address.
    pub(super) fn new(url: String, title: Option<String>) -> Self {
        let title = title.unwrap_or_else(|| url.clone());
        Self { kind: "url_citation", start_index: 0, end_index: 0, url, title }
    }

    /// Which words are covered is not known, only behind how many characters it was named.
    pub(super) fn stand_at(&mut self, at: usize) {
        (self.start_index, self.end_index) = (at, at);
    }
}

/// Counts events, and writes them.
#[derive(Default)]
pub(super) struct Frames {
    sequence: u64,
    silent: bool,
}

impl Frames {
    /// Nothing is written from now on.
    pub(super) fn silence(&mut self) {
        self.silent = true;
    }

    /// Writes an event under the next number.
    pub(super) fn say(&mut self, said: Said<'_>, out: &mut Vec<u8>) {
        if !self.silent {
            write_frame(Some(said.kind), &Said { sequence_number: self.sequence, ..said }, out);
            self.sequence += 1;
        }
    }

    /// Writes an error. Flat as OpenAI documents it; OpenAI's own clients raise only what stands in `error`.
    pub(super) fn error(&mut self, error: &ErrorObject, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Broken<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            code: Option<&'a str>,
            message: &'a str,
            param: Option<&'a str>,
            sequence_number: u64,
            error: &'a ErrorObject,
        }
        let broken = Broken {
            kind: "error",
            code: error.code.as_deref(),
            message: &error.message,
            param: error.param.as_deref(),
            sequence_number: self.sequence,
            error,
        };
        write_frame(Some("error"), &broken, out);
        self.sequence += 1;
    }
}
