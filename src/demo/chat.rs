//! Chat and legacy completions, whole or as a stream. The two differ in their envelope only.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body::Frame;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    answers,
    service::{Refusal, Stamp},
};

/// Before the first token.
const FIRST_DELAY: Duration = Duration::from_millis(80);
/// Between two tokens.
const TOKEN_DELAY: Duration = Duration::from_millis(20);
/// What the legacy endpoint writes when it is not told.
const LEGACY_MAX_TOKENS: u64 = 16;

/// The fields of a request that matter here.
#[derive(Deserialize)]
pub(super) struct Asked {
    pub(super) model: String,
    messages: Option<Vec<Message>>,
    prompt: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Value>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// Which envelope an answer wears.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Legacy,
}

/// An answer, decided but not yet written.
pub(super) struct Answer {
    shape: Shape,
    stamp: Stamp,
    model: String,
    tokens: Vec<String>,
    finish_reason: &'static str,
    usage: Usage,
    pub(super) stream: bool,
    include_usage: bool,
}

/// Decides what to answer.
pub(super) fn answer(shape: Shape, asked: Asked, stamp: Stamp) -> Result<Answer, Refusal> {
    let (prompt_bytes, overhead) = match shape {
        Shape::Chat => {
            let messages = asked.messages.filter(|messages| !messages.is_empty());
            let messages =
                messages.ok_or_else(|| Refusal::invalid("messages", "give at least one message"))?;
            let bytes = messages.iter().filter_map(|message| message.content.as_ref()).map(text_bytes).sum();
            // As OpenAI counts: a few tokens of framing for each message, and for the answer's own beginning.
            (bytes, 3 + 3 * messages.len() as u64)
        }
        Shape::Legacy => {
            let prompt = asked.prompt.ok_or_else(|| Refusal::invalid("prompt", "give a prompt"))?;
            if prompt.as_array().is_some_and(|prompts| prompts.len() > 1) {
                return Err(Refusal::invalid("prompt", "the demo provider takes one prompt at a time"));
            }
            (text_bytes(&prompt), 0)
        }
    };
    if asked.n.is_some_and(|n| n != 1) {
        return Err(Refusal::invalid(
            "n",
            "the demo provider gives one choice; leave `n` out or set it to 1",
        ));
    }
    let limit = match (asked.max_completion_tokens.or(asked.max_tokens), shape) {
        (Some(0), _) => return Err(Refusal::invalid("max_tokens", "must be at least 1")),
        (Some(limit), _) => limit,
        (None, Shape::Chat) => u64::MAX,
        (None, Shape::Legacy) => LEGACY_MAX_TOKENS,
    };
    let stream = asked.stream.unwrap_or(false);
    if asked.stream_options.is_some() && !stream {
        return Err(Refusal::invalid("stream_options", "is only allowed when `stream` is true"));
    }

    let text = answers::answer(prompt_bytes);
    let mut tokens: Vec<String> = answers::tokens(&text).into_iter().map(str::to_owned).collect();
    let whole = tokens.len() as u64 <= limit;
    tokens.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let usage = Usage::new(answers::prompt_tokens(prompt_bytes) + overhead, tokens.len() as u64);
    Ok(Answer {
        shape,
        stamp,
        model: asked.model,
        tokens,
        finish_reason: if whole { "stop" } else { "length" },
        usage,
        stream,
        include_usage: asked.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
    })
}

/// Bytes of the text in a content: a string, or parts of which some have one.
fn text_bytes(content: &Value) -> usize {
    match content {
        Value::String(text) => text.len(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| part.get("text").map_or_else(|| part.as_str().map_or(0, str::len), text_bytes))
            .sum(),
        _ => 0,
    }
}

impl Answer {
    /// The whole answer, after the time a model would think.
    pub(super) async fn whole(self) -> Bytes {
        tokio::time::sleep(FIRST_DELAY).await;
        let text = self.tokens.concat();
        let choice = match self.shape {
            Shape::Chat => Choice {
                message: Some(Said { role: Some("assistant"), content: Some(&text), refusal: Some(()) }),
                ..Choice::new(Some(self.finish_reason))
            },
            Shape::Legacy => Choice { text: Some(&text), ..Choice::new(Some(self.finish_reason)) },
        };
        let object = match self.shape {
            Shape::Chat => "chat.completion",
            Shape::Legacy => "text_completion",
        };
        json(&self.envelope(object, &[choice], Some(Some(&self.usage))))
    }

    /// The answer as OpenAI streams it: role, tokens, finish reason, usage if it was asked for, `[DONE]`.
    pub(super) fn events(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
        let start = tokio::time::Instant::now() + FIRST_DELAY;
        let pace = tokio::time::interval_at(start, TOKEN_DELAY);
        // Only chat begins with a role.
        let first = usize::from(self.shape == Shape::Legacy);
        stream::unfold((self, first, pace), |(answer, step, mut pace)| async move {
            let event = answer.event(step)?;
            // Only tokens take time; what frames them comes along with its neighbour.
            if (1..=answer.tokens.len()).contains(&step) {
                pace.tick().await;
            }
            Some((Ok(Frame::data(event)), (answer, step + 1, pace)))
        })
    }

    /// The event at `step`; `None` after the last one.
    fn event(&self, step: usize) -> Option<Bytes> {
        let tokens = self.tokens.len();
        let data = match step {
            0 => self.chunk(Choice {
                delta: Some(Said { role: Some("assistant"), content: Some(""), refusal: Some(()) }),
                ..Choice::new(None)
            }),
            _ if step <= tokens => {
                let token = self.tokens[step - 1].as_str();
                self.chunk(match self.shape {
                    Shape::Chat => Choice {
                        delta: Some(Said { content: Some(token), ..Said::default() }),
                        ..Choice::new(None)
                    },
                    Shape::Legacy => Choice { text: Some(token), ..Choice::new(None) },
                })
            }
            _ if step == tokens + 1 => {
                let choice = Choice::new(Some(self.finish_reason));
                self.chunk(match self.shape {
                    Shape::Chat => Choice { delta: Some(Said::default()), ..choice },
                    Shape::Legacy => Choice { text: Some(""), ..choice },
                })
            }
            _ if step == tokens + 2 && self.include_usage => {
                json(&self.envelope(self.chunk_object(), &[], Some(Some(&self.usage))))
            }
            _ if step == tokens + 2 + usize::from(self.include_usage) => Bytes::from_static(b"[DONE]"),
            _ => return None,
        };
        Some([b"data: ", &data[..], b"\n\n"].concat().into())
    }

    fn chunk(&self, choice: Choice<'_>) -> Bytes {
        // When usage was asked for, every other chunk says that it has none.
        let usage = self.include_usage.then_some(None);
        json(&self.envelope(self.chunk_object(), &[choice], usage))
    }

    fn chunk_object(&self) -> &'static str {
        match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Legacy => "text_completion",
        }
    }

    fn envelope<'a>(
        &'a self,
        object: &'static str,
        choices: &'a [Choice<'a>],
        usage: Option<Option<&'a Usage>>,
    ) -> Envelope<'a> {
        let id = match self.shape {
            Shape::Chat => format!("chatcmpl-demo-{}", self.stamp.id),
            Shape::Legacy => format!("cmpl-demo-{}", self.stamp.id),
        };
        Envelope {
            id,
            object,
            created: self.stamp.created,
            model: &self.model,
            system_fingerprint: "fp_keystile_demo",
            choices,
            usage,
        }
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("structs with string keys and finite numbers always serialise").into()
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: &'a [Choice<'a>],
    /// Left out, `null`, or there.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<&'a Usage>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

impl Choice<'_> {
    fn new(finish_reason: Option<&'static str>) -> Self {
        Self { index: 0, message: None, delta: None, text: None, logprobs: None, finish_reason }
    }
}

#[derive(Default, Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    /// `null`, as there never is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Default, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Default, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl Usage {
    fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails::default(),
            completion_tokens_details: CompletionDetails::default(),
        }
    }
}
