//! The shapes of chat completions, borrowing what they say.

use serde::Serialize;

use crate::wire::{Figure, Figures, Finish, conversation::Thinking};

/// What every answer and every chunk says of itself.
pub(super) struct Head<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: i64,
    pub(super) model: &'a str,
    pub(super) service_tier: Option<&'a str>,
}

/// A chunk of a stream.
#[derive(Serialize)]
pub(super) struct Chunk<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: i64,
    pub(super) model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<&'a str>,
    pub(super) choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Usage>,
}

#[derive(Serialize)]
pub(super) struct ChunkChoice<'a> {
    pub(super) index: u32,
    pub(super) delta: Delta<'a>,
    pub(super) finish_reason: Option<&'static str>,
}

/// The next piece of a message.
#[derive(Default, Serialize)]
pub(super) struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    /// The inner `None` is `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) thinking_blocks: &'a [ThinkingSaid<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) tool_calls: &'a [CallSaid<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) function_call: Option<FunctionSaid<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) annotations: &'a [Annotation<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extra_content: Option<Extra<'a>>,
}

/// A tool call, or the next piece of its arguments.
#[derive(Serialize)]
pub(super) struct CallSaid<'a> {
    /// In streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionSaid<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}

impl<'a> CallSaid<'a> {
    pub(super) fn begins(
        index: Option<u32>,
        id: &'a str,
        name: &'a str,
        arguments: &'a str,
        signature: Option<&'a str>,
    ) -> Self {
        Self {
            index,
            id: Some(id),
            kind: Some("function"),
            function: FunctionSaid { name: Some(name), arguments },
            extra_content: signature.map(Extra::new),
        }
    }

    pub(super) const fn goes_on(index: u32, arguments: &'a str) -> Self {
        let function = FunctionSaid { name: None, arguments };
        Self { index: Some(index), id: None, kind: None, function, extra_content: None }
    }
}

#[derive(Serialize)]
pub(super) struct FunctionSaid<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    pub(super) arguments: &'a str,
}

/// `{"google":{"thought_signature":…}}`, as Google's own chat endpoint has it.
#[derive(Serialize)]
pub(super) struct Extra<'a> {
    google: Google<'a>,
}

#[derive(Serialize)]
struct Google<'a> {
    thought_signature: &'a str,
}

impl<'a> Extra<'a> {
    pub(super) const fn new(thought_signature: &'a str) -> Self {
        Self { google: Google { thought_signature } }
    }
}

/// A block of thoughts. OpenAI's SDK for Python joins lists by their items' `index`.
#[derive(Serialize)]
pub(super) struct ThinkingSaid<'a> {
    index: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
}

impl<'a> ThinkingSaid<'a> {
    /// The index of the next one.
    pub(super) const fn after(&self) -> u32 {
        self.index.saturating_add(1)
    }

    pub(super) fn new(index: u32, thinking: &'a Thinking) -> Self {
        match thinking {
            Thinking::Open { text, signature } => {
                let signature = signature.as_deref();
                Self { index, kind: "thinking", thinking: Some(text), signature, data: None }
            }
            Thinking::Sealed { data } => {
                Self { index, kind: "redacted_thinking", thinking: None, signature: None, data: Some(data) }
            }
        }
    }
}

/// A source that the answer cites. Where in the text it does is not known: the members that say so must be there, and
/// say the beginning.
#[derive(Serialize)]
pub(super) struct Annotation<'a> {
    /// In streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(rename = "type")]
    kind: &'static str,
    url_citation: UrlCitation<'a>,
}

#[derive(Serialize)]
struct UrlCitation<'a> {
    url: &'a str,
    title: &'a str,
    start_index: u32,
    end_index: u32,
}

impl<'a> Annotation<'a> {
    pub(super) fn new(index: Option<u32>, url: &'a str, title: Option<&'a str>) -> Self {
        let url_citation =
            UrlCitation { url, title: title.unwrap_or_default(), start_index: 0, end_index: 0 };
        Self { index, kind: "url_citation", url_citation }
    }
}

/// `finish_reason`.
pub(super) const fn finish_name(reason: Finish, legacy: bool) -> &'static str {
    match reason {
        Finish::Stop | Finish::StopSequence => "stop",
        Finish::Length => "length",
        Finish::ToolCalls if legacy => "function_call",
        Finish::ToolCalls => "tool_calls",
        Finish::Filtered => "content_filter",
    }
}

/// What was used.
#[derive(Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
}

#[derive(Serialize)]
struct CompletionDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
}

impl Usage {
    /// `None` where nothing was reported.
    pub(super) fn of(figures: &Figures) -> Option<Self> {
        let Figures {
            prompt,
            completion,
            total,
            cache_read,
            cache_write,
            cache_write_1h,
            input_audio,
            output_audio,
            reasoning,
        } = figures;
        if figures.is_empty() {
            return None;
        }
        let count = |figure: &Figure| figure.count().unwrap_or(0);
        let cache_write_tokens = match (cache_write.count(), cache_write_1h.count()) {
            (None, None) => None,
            (minutes, hour) => Some(minutes.unwrap_or(0).saturating_add(hour.unwrap_or(0))),
        };
        let audio_tokens = input_audio.count();
        let knows = cache_read.count().is_some() || cache_write_tokens.is_some() || audio_tokens.is_some();
        let prompt_details =
            PromptDetails { cached_tokens: count(cache_read), cache_write_tokens, audio_tokens };
        let details =
            CompletionDetails { reasoning_tokens: reasoning.count(), audio_tokens: output_audio.count() };
        let knows_more = details.reasoning_tokens.is_some() || details.audio_tokens.is_some();
        Some(Self {
            prompt_tokens: count(prompt),
            completion_tokens: count(completion),
            total_tokens: total.count().unwrap_or_else(|| count(prompt).saturating_add(count(completion))),
            prompt_tokens_details: knows.then_some(prompt_details),
            completion_tokens_details: knows_more.then_some(details),
        })
    }
}
