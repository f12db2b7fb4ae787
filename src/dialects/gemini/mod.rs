//! Google's Gemini API: `generateContent` and its relatives.
//!
//! No client speaks it here, so every request is written anew and every answer said in other words. A model stands in
//! the path, whether an answer streams as well; the key goes into a header, never into the address. A stream has no end
//! of its own: it is complete when every choice has its finish reason.

mod count;
mod embeddings;
mod error;
mod place;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::Decoder;

use super::{
    AnswerFacts, Call, Decoded, Decoder as _, Dialect, DialectError, EventFacts, ProviderError,
    StreamProgress, Talk, Unreadable, UpstreamRequest,
};
use crate::{
    catalogue::Quirks,
    wire::{Endpoint, Event, Part, What},
};

/// Gemini's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Gemini;

impl Dialect for Gemini {
    fn request(&self, call: &Call<'_>) -> Result<UpstreamRequest, DialectError> {
        let asked = call.asked;
        match asked.endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::Responses => {
                let conversation = asked.conversation()?;
                let mut request = write::write_request(conversation, call)?;
                request.translation = Some(Talk::between(Decoder::expecting(conversation.choices), call));
                Ok(request)
            }
            Endpoint::CountTokens => count::request(asked.conversation()?, call),
            Endpoint::Embeddings => embeddings::request(call),
            Endpoint::Completions => Err(DialectError::UnsupportedEndpoint { path: asked.endpoint.path() }),
        }
    }

    fn read_answer(
        &self,
        endpoint: Endpoint,
        _quirks: &Quirks,
        body: &[u8],
    ) -> Result<AnswerFacts, Unreadable> {
        if endpoint == Endpoint::Embeddings {
            return Ok(AnswerFacts { figures: read::usage_of(read::text(body)?), ..AnswerFacts::default() });
        }
        let Decoded { parts, error, unreadable } = Decoder::default().whole(body)?;
        if unreadable {
            return Err(Unreadable("not of the shape this endpoint answers with"));
        }
        let mut facts = AnswerFacts { error, ..AnswerFacts::default() };
        for Part { what, .. } in parts {
            facts.text_bytes = facts.text_bytes.saturating_add(what.text_bytes());
            match what {
                What::Usage(figures) => facts.figures.merge_max(&figures),
                What::Start { model, .. } => facts.model = model,
                What::ServiceTier(tier) => facts.service_tier = Some(tier),
                _ => {}
            }
        }
        Ok(facts)
    }

    fn read_event(
        &self,
        _endpoint: Endpoint,
        _quirks: &Quirks,
        progress: &mut StreamProgress,
        event: &Event,
    ) -> EventFacts {
        let Decoded { parts, error, unreadable } = Decoder::default().event(event);
        let mut facts = EventFacts { error, unreadable, ..EventFacts::default() };
        for Part { choice, what } in parts {
            facts.meaningful |= what.is_meaningful();
            facts.text_bytes = facts.text_bytes.saturating_add(what.text_bytes());
            match what {
                What::Usage(figures) => facts.figures.get_or_insert_default().merge_max(&figures),
                What::Start { model, .. } if !progress.model_seen => {
                    progress.model_seen = model.is_some();
                    facts.model = model;
                }
                What::ServiceTier(tier) if !progress.tier_seen => {
                    progress.tier_seen = true;
                    facts.service_tier = Some(tier);
                }
                What::Start { .. } | What::ServiceTier(_) => {}
                what => progress.choice(u64::from(choice), matches!(what, What::Finish { .. })),
            }
        }
        facts
    }

    fn read_error(&self, status: u16, body: &[u8]) -> ProviderError {
        error::from_body(status, body)
    }
}
