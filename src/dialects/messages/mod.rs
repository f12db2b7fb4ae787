//! Anthropic's Messages: the dialect of its providers, and the words of clients that call `/v1/messages`.
//!
//! Whoever asks in these words is passed on as he came, with another model's name where it differs; everything else is
//! written anew from a [`Conversation`](crate::wire::Conversation).

#[cfg(test)]
mod corpus_tests;
mod decode;
#[cfg(test)]
mod decode_tests;
mod encode;
mod gemini;
mod pass;
#[cfg(test)]
mod property_tests;
mod read;
mod read_request;
mod shapes;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod write_request;

pub use decode::Decoder;
pub use encode::Encoder;
#[cfg(test)]
pub(super) use encode::accumulate;
pub use read_request::read_request;

use super::{
    AnswerFacts, Call, Dialect, DialectError, EventFacts, ProviderError, StreamProgress, Talk, Unreadable,
    UpstreamRequest, failure,
};
use crate::{
    catalogue::Quirks,
    wire::{Endpoint, Event},
};

const VERSION: &str = "anthropic-version";

/// The version that is asked for unless a client asks for another one. The newer `2026-10-21` refuses `temperature`,
/// `top_p` and `top_k` even of models that heed them, and is unknown to older models on other clouds and to everybody
/// who speaks these words besides Anthropic. Nothing it adds is written here.
const PLAIN_VERSION: &str = "2023-06-01";

/// Anthropic's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Anthropic;

impl Dialect for Anthropic {
    fn request(&self, call: &Call<'_>) -> Result<UpstreamRequest, DialectError> {
        let asked = call.asked;
        match asked.endpoint {
            Endpoint::Messages | Endpoint::CountTokens => Ok(pass::pass(call)),
            Endpoint::ChatCompletions | Endpoint::Responses => {
                let (mut request, names) = write_request::write_request(asked.conversation()?, call)?;
                request.headers.push((VERSION, PLAIN_VERSION.to_owned()));
                request.translation = Some(Talk::between(Decoder::new(names), call));
                Ok(request)
            }
            Endpoint::Completions | Endpoint::Embeddings => {
                Err(DialectError::UnsupportedEndpoint { path: asked.endpoint.path() })
            }
        }
    }

    fn read_answer(
        &self,
        endpoint: Endpoint,
        _quirks: &Quirks,
        body: &[u8],
    ) -> Result<AnswerFacts, Unreadable> {
        read::answer(endpoint, body)
    }

    fn read_event(
        &self,
        _endpoint: Endpoint,
        _quirks: &Quirks,
        progress: &mut StreamProgress,
        event: &Event,
    ) -> EventFacts {
        read::event(progress, event)
    }

    fn read_error(&self, status: u16, body: &[u8]) -> ProviderError {
        let mut error = failure::from_body(status, body);
        // The edge says this before the API is reached, and not always in JSON.
        if status == 413 && error.kind.is_none() {
            error.kind = Some("request_too_large".to_owned());
        }
        error
    }
}
