//! The words between the gateway and a dialect.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;

use super::{Asked, Translation};
use crate::{
    catalogue::{Capabilities, DialectKind, Quirks},
    domain::ModelName,
    wire::{AnthropicUsage, Endpoint, Event, Figures},
};

/// How one kind of provider speaks. Implementations keep no state: a stream's is in its [`StreamProgress`].
pub trait Dialect: Send + Sync + 'static {
    /// Builds what goes upstream, and how the answer comes to be in the client's words if those are others.
    ///
    /// # Errors
    /// The request cannot be said in this dialect.
    fn request(&self, call: &Call<'_>) -> Result<UpstreamRequest, DialectError>;

    /// Reads a whole answer that came with a success status and goes to the client as it is.
    ///
    /// # Errors
    /// The body is no answer of this endpoint, and no error either.
    fn read_answer(
        &self,
        endpoint: Endpoint,
        quirks: &Quirks,
        body: &[u8],
    ) -> Result<AnswerFacts, Unreadable>;

    /// Reads one event of a stream that goes to the client as it is. One that cannot be read is said to be so; it is no error.
    fn read_event(
        &self,
        endpoint: Endpoint,
        quirks: &Quirks,
        progress: &mut StreamProgress,
        event: &Event,
    ) -> EventFacts;

    /// Reads the body of an answer with an error status. Always has a message, and never a key in it.
    fn read_error(&self, status: u16, body: &[u8]) -> ProviderError;
}

/// The dialect of a kind.
pub fn dialect(kind: DialectKind) -> &'static dyn Dialect {
    match kind {
        DialectKind::OpenAi => &super::openai::OpenAi,
        DialectKind::Anthropic => &super::messages::Anthropic,
        DialectKind::Gemini => &super::gemini::Gemini,
    }
}

/// One attempt to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What the client asks.
    pub asked: &'a Asked,
    /// How the provider differs.
    pub quirks: &'a Quirks,
    /// What the model can do.
    pub capabilities: &'a Capabilities,
    /// The provider's own name of the model.
    pub model: &'a ModelName,
    /// The output limit the gateway sets, in tokens a choice; `None` leaves the client's alone.
    pub output_limit: Option<u64>,
    /// The most output the model can make, in tokens, where it is known: for providers that must be told a limit.
    pub model_limit: Option<u64>,
    /// Whether the stream shall carry usage even if the client did not ask.
    pub ask_usage: bool,
    /// Made part of the ids of an answer whose provider gives it none: unlike that of any other request.
    pub request_id: &'a str,
    /// When the request came, in seconds since 1970: what a translated answer says of its making.
    pub created: i64,
}

/// What goes upstream.
#[derive(Default)]
pub struct UpstreamRequest {
    /// Appended to the provider's base URL; begins with a slash.
    pub path: Cow<'static, str>,
    /// The body; the client's own bytes when nothing had to change.
    pub body: Bytes,
    /// The gateway asked for usage and the client did not: the usage-only event is to be taken out again.
    pub usage_injected: bool,
    /// Headers this dialect needs besides credentials and content type.
    pub headers: Vec<(&'static str, String)>,
    /// The client wanted base64 embeddings: floats in the answer are to be rewritten, whether the provider was asked for
    /// them or knows nothing else.
    pub embeddings_to_base64: bool,
    /// The answer comes in other words than the client's.
    pub translation: Option<Box<dyn Translation>>,
    /// A limit on output that this dialect had to choose because the provider demands one, in tokens.
    pub output_limit: Option<u64>,
    /// Hints of the client's that this provider cannot be given, by the client's names: `x-keystile-dropped`.
    pub dropped: Vec<&'static str>,
}

impl fmt::Debug for UpstreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamRequest")
            .field("path", &self.path)
            .field("body_bytes", &self.body.len())
            .field("usage_injected", &self.usage_injected)
            .finish_non_exhaustive()
    }
}

/// A request that a dialect cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// The provider has no such endpoint.
    #[error("`{path}` is not offered by this provider; call a model of another one")]
    UnsupportedEndpoint {
        /// The endpoint's path.
        path: &'static str,
    },
    /// Something asked for has no words in this dialect, or this model cannot do it.
    #[error("`{field}` {why}")]
    Unsupported {
        /// The client's name of it, such as `messages[2].content[0]`.
        field: String,
        /// What is wrong with it here and what to do; goes on from the name.
        why: String,
    },
    /// A member that only translation reads has the wrong shape.
    #[error("`{field}` must be {wanted}")]
    WrongShape {
        /// The member, such as `messages[2].content[0].type`.
        field: String,
        /// What it must be.
        wanted: &'static str,
    },
}

impl DialectError {
    /// Something that `field` asks for and that is not to be had.
    pub fn unsupported(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into(), why: why.into() }
    }

    /// A member that cannot be read.
    pub fn wrong_shape(field: impl Into<String>, wanted: &'static str) -> Self {
        Self::WrongShape { field: field.into(), wanted }
    }

    /// The member at fault, if it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::UnsupportedEndpoint { .. } => None,
            Self::Unsupported { field, .. } | Self::WrongShape { field, .. } => Some(field),
        }
    }
}

/// An answer that is not JSON, or not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's answer is {0}")]
pub struct Unreadable(pub &'static str);

/// What a whole answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerFacts {
    /// Usage as reported.
    pub figures: Figures,
    /// The model that answered.
    pub model: Option<String>,
    /// The service tier used.
    pub service_tier: Option<String>,
    /// UTF-8 bytes of the text in it; they may be left uncounted where the figures say how much output there is.
    pub text_bytes: u64,
    /// The answer is an error although its status said success.
    pub error: Option<ProviderError>,
}

/// What one event of a stream says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFacts {
    /// Usage, cumulative.
    pub figures: Option<Figures>,
    /// It carries content, reasoning, a refusal, a tool call or a finish reason: the answer has begun.
    pub meaningful: bool,
    /// It carries usage and nothing for the client.
    pub usage_only: bool,
    /// It is `[DONE]`.
    pub done: bool,
    /// It could not be read, and passes as it is.
    pub unreadable: bool,
    /// UTF-8 bytes of the text in it.
    pub text_bytes: u64,
    /// The provider gave up.
    pub error: Option<ProviderError>,
    /// The service tier used, when it is first named.
    pub service_tier: Option<String>,
    /// The model that answers, when it is first named.
    pub model: Option<String>,
}

/// Indexes of choices and of items above this are not followed: no request can have them.
const MAX_FOLLOWED_CHOICES: u64 = 1 << 16;

/// How far a stream has come.
#[derive(Clone, Debug)]
pub struct StreamProgress {
    /// Choices the request asked for, as far as they can be followed.
    expected: usize,
    /// Choices seen, and whether each is finished.
    choices: BTreeMap<u64, bool>,
    unfinished: usize,
    ended: bool,
    /// What Anthropic's events have said of usage: a later one replaces only what it names.
    pub(super) anthropic_usage: AnthropicUsage,
    pub(super) tier_seen: bool,
    pub(super) model_seen: bool,
    /// Bytes that deltas said of items which are not complete yet, by the items' place.
    items: BTreeMap<u64, u64>,
}

impl Default for StreamProgress {
    fn default() -> Self {
        Self::expecting(1)
    }
}

impl StreamProgress {
    /// The beginning of a stream that is to bring `choices` choices; 0 counts as 1.
    pub fn expecting(choices: u64) -> Self {
        let expected = choices.clamp(1, MAX_FOLLOWED_CHOICES);
        Self {
            expected: usize::try_from(expected).unwrap_or(usize::MAX),
            choices: BTreeMap::new(),
            unfinished: 0,
            ended: false,
            anthropic_usage: AnthropicUsage::default(),
            tier_seen: false,
            model_seen: false,
            items: BTreeMap::new(),
        }
    }

    /// Whether the stream is complete: it had a choice, and either the dialect's own end (`[DONE]`, which some send
    /// without any finish reason) or a finish reason for every choice seen, and for as many as were asked for: choices
    /// may come one after another, and a stream cut between two is not complete.
    pub fn finished(&self) -> bool {
        let all_here = self.unfinished == 0 && self.choices.len() >= self.expected;
        !self.choices.is_empty() && (self.ended || all_here)
    }

    /// Choices seen so far.
    pub fn choices(&self) -> usize {
        self.choices.len()
    }

    /// Notes an event of a choice.
    pub(super) fn choice(&mut self, index: u64, finished: bool) {
        if index >= MAX_FOLLOWED_CHOICES {
            return;
        }
        let known = self.choices.entry(index).or_insert_with(|| {
            self.unfinished += 1;
            false
        });
        if finished && !std::mem::replace(known, true) {
            self.unfinished -= 1;
        }
    }

    /// Notes so many bytes of an item of the output.
    pub(super) fn said_in_item(&mut self, index: u64, bytes: u64) {
        if index < MAX_FOLLOWED_CHOICES {
            let said = self.items.entry(index).or_default();
            *said = said.saturating_add(bytes);
        }
    }

    /// An item is complete: what was noted of it.
    pub(super) fn item_is_done(&mut self, index: u64) -> u64 {
        self.items.remove(&index).unwrap_or(0)
    }

    /// Notes the dialect's own end.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }
}

/// An error as a provider reports it, cleaned of anything like a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProviderError {
    /// The HTTP status, or the one named inside an event.
    pub status: Option<u16>,
    /// What it says.
    pub message: String,
    /// Its `type`.
    pub kind: Option<String>,
    /// The member at fault.
    pub param: Option<String>,
    /// Its code.
    pub code: Option<String>,
    /// The request is too long for this model; another may take it.
    pub context_length: bool,
    /// A matter of money at the provider: trying again does not help.
    pub billing: bool,
    /// How long it asks to be left alone, where its body says so rather than a header.
    pub retry_after: Option<Duration>,
}

impl fmt::Debug for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The message may quote the prompt.
        f.debug_struct("ProviderError")
            .field("status", &self.status)
            .field("kind", &self.kind)
            .field("code", &self.code)
            .field("context_length", &self.context_length)
            .field("billing", &self.billing)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_finished_when_every_choice_seen_is() {
        let mut progress = StreamProgress::default();
        assert!(!progress.finished());
        progress.choice(0, false);
        progress.choice(1, true);
        progress.choice(u64::MAX, false);
        assert!(!progress.finished());
        progress.choice(0, true);
        progress.choice(0, false);
        assert!(progress.finished() && progress.choices() == 2);
    }

    #[test]
    fn a_stream_that_lacks_choices_is_finished_only_by_the_dialects_own_end() {
        let mut progress = StreamProgress::expecting(3);
        progress.choice(0, true);
        progress.choice(1, true);
        assert!(!progress.finished(), "the third has not begun");
        let mut ended = progress.clone();
        ended.end();
        assert!(ended.finished());
        progress.choice(2, false);
        assert!(!progress.finished(), "the third has only begun");
        progress.choice(2, true);
        assert!(progress.finished());
        let mut nothing = StreamProgress::expecting(0);
        assert!(!nothing.finished());
        nothing.end();
        assert!(!nothing.finished(), "an end without a choice is no answer");
    }

    #[test]
    fn more_choices_than_can_be_followed_can_still_finish() {
        let mut progress = StreamProgress::expecting(u64::MAX);
        for index in 0..MAX_FOLLOWED_CHOICES {
            assert!(!progress.finished());
            progress.choice(index, true);
        }
        assert!(progress.finished());
    }
}
