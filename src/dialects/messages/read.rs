//! Reading answers that go to the client as they are.
//!
//! The service tier is not read: at Anthropic a tier is a commitment bought beforehand (`priority`) or a different
//! endpoint (`batch`), and does not change the list price of a request.

use super::shapes::{Block, Delta, Message, StreamEvent, object, read};
use crate::{
    dialects::{AnswerFacts, EventFacts, ProviderError, StreamProgress, Unreadable, failure},
    wire::{AnthropicUsage, Endpoint, Event, Figures},
};

/// What a whole answer says.
pub(super) fn answer(endpoint: Endpoint, body: &[u8]) -> Result<AnswerFacts, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|_| Unreadable("not UTF-8"))?;
    let message: Message<'_> = object(text).ok_or(Unreadable("not a JSON object"))?;
    if message.is_error() {
        return Ok(AnswerFacts { error: Some(error(text)), ..AnswerFacts::default() });
    }
    if endpoint == Endpoint::CountTokens {
        // A count is no use of a model: it is neither charged nor text.
        return match object::<Counted>(text) {
            Some(_) => Ok(AnswerFacts::default()),
            None => Err(Unreadable("not of the shape this endpoint answers with")),
        };
    }
    let blocks = message.blocks().ok_or(Unreadable("not of the shape this endpoint answers with"))?;
    let mut usage = AnthropicUsage::default();
    if let Some(raw) = message.usage {
        usage.update(raw.get());
    }
    Ok(AnswerFacts {
        figures: usage.figures(),
        model: message.model.map(Into::into),
        text_bytes: blocks.iter().map(Block::text_bytes).sum(),
        ..AnswerFacts::default()
    })
}

#[derive(serde::Deserialize)]
struct Counted {
    #[serde(rename = "input_tokens")]
    _input_tokens: serde_json::Number,
}

/// What one event says.
pub(super) fn event(progress: &mut StreamProgress, event: &Event) -> EventFacts {
    let mut facts = EventFacts::default();
    let Some(parts) = object::<StreamEvent<'_>>(&event.data) else {
        facts.unreadable = true;
        facts.error = (event.name == "error").then(|| error(&event.data));
        return facts;
    };
    match event_kind(event, &parts) {
        "message_start" => {
            let Some(message) = read::<Message<'_>>(parts.message) else {
                facts.unreadable = true;
                return facts;
            };
            progress.choice(0, false);
            if let Some(model) = message.model.filter(|_| !progress.model_seen) {
                progress.model_seen = true;
                facts.model = Some(model.into());
            }
            facts.figures = message.usage.map(|usage| reported(progress, usage.get()));
        }
        "content_block_start" => match read::<Block<'_>>(parts.content_block) {
            Some(block) => {
                facts.text_bytes = block.text_bytes();
                facts.meaningful = block.is_meaningful();
                progress.choice(0, false);
            }
            None => facts.unreadable = true,
        },
        "content_block_delta" => match read::<Delta<'_>>(parts.delta) {
            Some(delta) => {
                facts.text_bytes = delta.text_bytes();
                facts.meaningful = delta.is_meaningful();
                progress.choice(0, false);
            }
            None => facts.unreadable = true,
        },
        "message_delta" => {
            facts.figures = parts.usage.map(|usage| reported(progress, usage.get()));
            let delta = read::<Delta<'_>>(parts.delta);
            facts.unreadable = parts.delta.is_some() && delta.is_none();
            if delta.is_some_and(|delta| delta.stop_reason.is_some()) {
                facts.meaningful = true;
                progress.choice(0, true);
            }
        }
        "message_stop" => {
            facts.done = true;
            progress.end();
        }
        "error" => facts.error = Some(error(&event.data)),
        // `ping`, the end of a block, and what later versions add.
        _ => facts.error = parts.error.map(|_| error(&event.data)),
    }
    facts
}

/// What kind of event it is. Its name and its `type` are the same, but for servers that leave one out.
pub(super) fn event_kind<'e>(event: &'e Event, parts: &'e StreamEvent<'_>) -> &'e str {
    if event.name == "error" { "error" } else { parts.kind.as_deref().unwrap_or(&event.name) }
}

/// What is known of the usage after one more report.
fn reported(progress: &mut StreamProgress, usage: &str) -> Figures {
    progress.anthropic_usage.update(usage);
    progress.anthropic_usage.figures()
}

/// The error in an event, or in an answer with a success status. It names no status, but its type stands for one.
pub(super) fn error(text: &str) -> ProviderError {
    let mut error = failure::from_text(text);
    error.status = error.status.or_else(|| error.kind.as_deref().and_then(status_of));
    error
}

/// The status that goes with a type of error.
fn status_of(kind: &str) -> Option<u16> {
    Some(match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}
