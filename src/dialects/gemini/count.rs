//! How large a request is: Anthropic's `count_tokens`, asked of Gemini's `countTokens`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{error, place, read, write};
use crate::{
    dialects::{
        AnswerFacts, Call, DialectError, EventFacts, StreamProgress, Translation, Unreadable, UpstreamRequest,
    },
    wire::{Conversation, ErrorObject, Event},
};

/// Asks how many tokens `conversation` has, as it would be sent.
pub(super) fn request(conversation: &Conversation, call: &Call<'_>) -> Result<UpstreamRequest, DialectError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<T> {
        generate_content_request: T,
    }
    let path = place::path(call.model, "countTokens")?;
    let (mut body, dropped) = write::body(conversation, call)?;
    body.model = Some(place::resource(call.model)?);
    Ok(UpstreamRequest {
        path: path.into(),
        body: place::json(&Body { generate_content_request: body }),
        translation: Some(Box::new(Count)),
        dropped,
        ..UpstreamRequest::default()
    })
}

/// `{"totalTokens":n}` becomes `{"input_tokens":n}`. Counting costs nothing, so there are no figures.
struct Count;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    total_tokens: Option<u64>,
    #[serde(borrow)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(Serialize)]
struct Counted {
    input_tokens: u64,
}

impl Translation for Count {
    fn answer(&mut self, body: &[u8]) -> Result<(AnswerFacts, Bytes), Unreadable> {
        let answer: Answer<'_> =
            serde_json::from_str(read::text(body)?).map_err(|_| Unreadable("not a count of tokens"))?;
        if let Some(raw) = answer.error {
            let error = Some(error::inside(raw.get()));
            return Ok((AnswerFacts { error, ..AnswerFacts::default() }, Bytes::new()));
        }
        let input_tokens = answer.total_tokens.ok_or(Unreadable("not a count of tokens"))?;
        Ok((AnswerFacts::default(), place::json(&Counted { input_tokens })))
    }

    fn answer_as_stream(&mut self, body: &[u8]) -> Result<(AnswerFacts, Bytes), Unreadable> {
        self.answer(body)
    }

    fn event(&mut self, _progress: &mut StreamProgress, _event: &Event) -> (EventFacts, Bytes) {
        // Nobody streams a number.
        (EventFacts { unreadable: true, ..EventFacts::default() }, Bytes::new())
    }

    fn end(&mut self) -> Bytes {
        Bytes::new()
    }

    fn error(&mut self, error: &ErrorObject) -> Bytes {
        error.to_event()
    }
}
