//! Answers that go to the client as they are, read just far enough to meter them and to know how they end.

use super::payload::{Happening, Item, Response, is_error, string, string_bytes, written};
use crate::{
    dialects::{AnswerFacts, EventFacts, ProviderError, StreamProgress, Unreadable, failure},
    wire::{Event, Figures},
};

/// Reads a whole answer.
///
/// # Errors
/// The body is no response, and no error either.
pub fn read_answer(body: &[u8]) -> Result<AnswerFacts, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|_| Unreadable("not UTF-8"))?;
    let response: Response<'_> = serde_json::from_str(text).map_err(|_| Unreadable("not a JSON object"))?;
    let mut facts = AnswerFacts {
        figures: response.usage.map(Figures::from_responses_usage).unwrap_or_default(),
        model: response.model.and_then(string),
        service_tier: response.service_tier.and_then(string),
        ..AnswerFacts::default()
    };
    if is_error(response.error) {
        facts.error = Some(failed(response.error, text));
        return Ok(facts);
    }
    match response.output {
        Some(output) if output.starts_with('[') => facts.text_bytes = written(output),
        _ if is_error(response.message) || is_error(response.detail) => {
            facts.error = Some(failed(None, text))
        }
        _ => return Err(Unreadable("not of the shape this endpoint answers with")),
    }
    Ok(facts)
}

/// Reads one event of a stream.
pub fn read_event(progress: &mut StreamProgress, event: &Event) -> EventFacts {
    let mut facts = EventFacts::default();
    if event.data.starts_with("[DONE]") {
        // Some say so after the last event, which has its own end. Without that the stream is not complete.
        facts.done = true;
        return facts;
    }
    let Ok(happening) = serde_json::from_str::<Happening<'_>>(&event.data) else {
        facts.unreadable = true;
        facts.error = (event.name == "error").then(|| failed(None, &event.data));
        return facts;
    };
    // Not everybody names events outside their data.
    let kind = happening.kind.and_then(string).unwrap_or_else(|| event.name.clone());
    let response = happening.response.and_then(|raw| serde_json::from_str::<Response<'_>>(raw).ok());
    if let Some(response) = &response {
        facts.figures =
            response.usage.filter(|usage| usage.starts_with('{')).map(Figures::from_responses_usage);
        if let Some(model) = response.model.filter(|_| !progress.model_seen).and_then(string) {
            progress.model_seen = true;
            facts.model = Some(model);
        }
    }
    if kind == "error" || is_error(happening.error) {
        facts.error = Some(failed(happening.error, &event.data));
        return facts;
    }
    match kind.as_str() {
        "response.failed" => {
            let error = response.as_ref().and_then(|response| response.error);
            facts.error = Some(failed(error, ""));
        }
        "response.completed" | "response.incomplete" => {
            facts.meaningful = true;
            facts.done = true;
            progress.choice(0, true);
            // Before its end a response names the tier that was asked for.
            let tier = response.and_then(|response| response.service_tier);
            if let Some(tier) = tier.filter(|_| !progress.tier_seen).and_then(string) {
                progress.tier_seen = true;
                facts.service_tier = Some(tier);
            }
        }
        _ => {
            read_content(&kind, &happening, progress, &mut facts);
            if facts.meaningful {
                progress.choice(0, false);
            }
        }
    }
    facts
}

/// What an event in the middle of a stream brings. Deltas are counted as they come; an item that is complete counts
/// with what no delta said of it, since some providers send calls whole.
fn read_content(
    kind: &str,
    happening: &Happening<'_>,
    progress: &mut StreamProgress,
    facts: &mut EventFacts,
) {
    let index = happening.output_index.and_then(|raw| raw.parse().ok()).unwrap_or(0);
    // A sound's deltas are data.
    if kind.ends_with(".delta") && kind != "response.audio.delta" {
        facts.text_bytes = string_bytes(happening.delta);
        facts.meaningful = facts.text_bytes > 0;
        progress.said_in_item(index, facts.text_bytes);
    } else if kind.ends_with(".delta") || kind.ends_with(".done") || kind.ends_with(".added") {
        let whole =
            [happening.text, happening.refusal, happening.arguments, happening.input, happening.delta];
        facts.meaningful =
            whole.into_iter().any(|text| string_bytes(text) > 0) || is_error(happening.annotation);
    } else {
        facts.meaningful = string_bytes(happening.partial_image) > 0;
    }
    let Some(raw) = happening.item else { return };
    let item: Item<'_> = serde_json::from_str(raw).unwrap_or_default();
    let silent = matches!(item.kind, None | Some("\"message\"" | "\"reasoning\""));
    let bytes = written(raw);
    match kind {
        "response.output_item.added" => facts.meaningful = !silent || bytes > 0,
        "response.output_item.done" => {
            facts.meaningful = !silent || bytes > 0 || string_bytes(item.sealed) > 0;
            facts.text_bytes = bytes.saturating_sub(progress.item_is_done(index));
        }
        _ => {}
    }
}

/// The error in a member of that name, where it is an object, or else in the whole. What stands beside an object may be
/// all of a request.
fn failed(error: Option<&str>, whole: &str) -> ProviderError {
    let mut error = match error.filter(|error| error.starts_with('{')) {
        Some(error) => failure::from_text(&format!("{{\"error\":{error}}}")),
        None => failure::from_text(whole),
    };
    // Responses have codes of their own for what the client got wrong.
    let clients = |code: &str| match code {
        "invalid_api_key" => false,
        code => code.starts_with("invalid_") || code.contains("image") || code.ends_with("_policy"),
    };
    if error.status.is_none() && error.code.as_deref().is_some_and(clients) {
        error.status = Some(400);
    }
    error
}
