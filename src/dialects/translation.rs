//! Answers that come in other words than they were asked for: a [`Decoder`] makes [`Part`]s of what the provider says,
//! an [`Encoder`] says them in the client's words. Both keep the state of one answer.

use std::fmt;

use bytes::Bytes;

use super::{
    AnswerFacts, Call, EventFacts, ProviderError, StreamProgress, Unreadable, chat, messages, responses,
};
use crate::wire::{Endpoint, ErrorObject, Event, Part, What};

/// What a provider said, taken apart.
#[derive(Debug, Default)]
pub struct Decoded {
    /// What is in it, in order.
    pub parts: Vec<Part>,
    /// The provider gave up.
    pub error: Option<ProviderError>,
    /// It could not be read.
    pub unreadable: bool,
}

/// Takes a provider's answer apart.
pub trait Decoder: Send {
    /// A whole answer that came with a success status.
    ///
    /// # Errors
    /// The body is no answer, and no error either.
    fn whole(&mut self, body: &[u8]) -> Result<Decoded, Unreadable>;

    /// One event of a stream. One that means nothing to it has no parts.
    fn event(&mut self, event: &Event) -> Decoded;

    /// The provider's bytes have ended: what is still to be said, for a dialect whose streams have no end of their own.
    /// [`What::End`] is not said here; whether the stream was complete is known from its finish reasons.
    fn ended(&mut self) -> Vec<Part> {
        Vec::new()
    }
}

/// Says an answer in the client's words.
pub trait Encoder: Send {
    /// A whole answer as one body.
    fn whole(&mut self, parts: Vec<Part>) -> Bytes;

    /// What a stream says of one part, as whole frames, appended to `out`. [`What::End`] never comes here.
    fn part(&mut self, part: Part, out: &mut Vec<u8>);

    /// The end of a stream that is complete: whatever was held back, and the end as the client's words have it.
    fn end(&mut self, out: &mut Vec<u8>);

    /// The end of a stream that broke.
    fn error(&mut self, error: &ErrorObject, out: &mut Vec<u8>);
}

/// How one attempt's answer comes to be in the client's words.
pub trait Translation: Send {
    /// A whole answer.
    ///
    /// # Errors
    /// The body is no answer, and no error either.
    fn answer(&mut self, body: &[u8]) -> Result<(AnswerFacts, Bytes), Unreadable>;

    /// A whole answer, told as the stream that the client asked for.
    ///
    /// # Errors
    /// The body is no answer, and no error either.
    fn answer_as_stream(&mut self, body: &[u8]) -> Result<(AnswerFacts, Bytes), Unreadable>;

    /// One event: what it says, and its frames for the client, if any. `done` is said of the event that ends the
    /// stream; what the client is told of that comes from [`Self::end`].
    fn event(&mut self, progress: &mut StreamProgress, event: &Event) -> (EventFacts, Bytes);

    /// The end of a complete stream.
    fn end(&mut self) -> Bytes;

    /// The end of a broken one.
    fn error(&mut self, error: &ErrorObject) -> Bytes;
}

/// A decoder and an encoder.
pub struct Talk {
    decoder: Box<dyn Decoder>,
    encoder: Box<dyn Encoder>,
}

impl Talk {
    /// Reads with `decoder`, says in the words in which `call` asks.
    pub fn between(decoder: impl Decoder + 'static, call: &Call<'_>) -> Box<dyn Translation> {
        let encoder: Box<dyn Encoder> = match call.asked.endpoint {
            Endpoint::Messages | Endpoint::CountTokens => Box::new(messages::Encoder::new(call)),
            Endpoint::Responses => Box::new(responses::Encoder::new(call)),
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => {
                Box::new(chat::Encoder::new(call))
            }
        };
        Box::new(Self { decoder: Box::new(decoder), encoder })
    }

    fn read_whole(&mut self, body: &[u8]) -> Result<(AnswerFacts, Vec<Part>), Unreadable> {
        let Decoded { parts, error, unreadable } = self.decoder.whole(body)?;
        if unreadable {
            return Err(Unreadable("not of the shape this endpoint answers with"));
        }
        let mut facts = AnswerFacts { error, ..AnswerFacts::default() };
        for Part { what, .. } in &parts {
            facts.text_bytes = facts.text_bytes.saturating_add(what.text_bytes());
            match what {
                What::Usage(figures) => facts.figures.merge_max(figures),
                What::Start { model, .. } => facts.model.clone_from(model),
                What::ServiceTier(tier) => facts.service_tier = Some(tier.clone()),
                _ => {}
            }
        }
        Ok((facts, parts))
    }
}

impl Translation for Talk {
    fn answer(&mut self, body: &[u8]) -> Result<(AnswerFacts, Bytes), Unreadable> {
        let (facts, parts) = self.read_whole(body)?;
        let body = if facts.error.is_some() { Bytes::new() } else { self.encoder.whole(parts) };
        Ok((facts, body))
    }

    fn answer_as_stream(&mut self, body: &[u8]) -> Result<(AnswerFacts, Bytes), Unreadable> {
        let (facts, parts) = self.read_whole(body)?;
        let mut out = Vec::new();
        for part in parts.into_iter().filter(|part| part.what != What::End) {
            self.encoder.part(part, &mut out);
        }
        self.encoder.end(&mut out);
        Ok((facts, out.into()))
    }

    fn event(&mut self, progress: &mut StreamProgress, event: &Event) -> (EventFacts, Bytes) {
        let Decoded { parts, error, unreadable } = self.decoder.event(event);
        let mut facts = EventFacts { error, unreadable, ..EventFacts::default() };
        let mut out = Vec::new();
        for part in parts {
            let Part { choice, what } = &part;
            facts.meaningful |= what.is_meaningful();
            facts.text_bytes = facts.text_bytes.saturating_add(what.text_bytes());
            match what {
                What::Usage(figures) => facts.figures.get_or_insert_default().merge_max(figures),
                What::Start { model, .. } => {
                    facts.model.clone_from(model);
                    progress.choice(u64::from(*choice), false);
                }
                What::ServiceTier(tier) => facts.service_tier = Some(tier.clone()),
                What::Finish { .. } => progress.choice(u64::from(*choice), true),
                What::End => {
                    facts.done = true;
                    progress.end();
                    continue;
                }
                _ => progress.choice(u64::from(*choice), false),
            }
            self.encoder.part(part, &mut out);
        }
        (facts, out.into())
    }

    fn end(&mut self) -> Bytes {
        let mut out = Vec::new();
        for part in self.decoder.ended() {
            self.encoder.part(part, &mut out);
        }
        self.encoder.end(&mut out);
        out.into()
    }

    fn error(&mut self, error: &ErrorObject) -> Bytes {
        let mut out = Vec::new();
        self.encoder.error(error, &mut out);
        out.into()
    }
}

impl fmt::Debug for dyn Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Translation")
    }
}
