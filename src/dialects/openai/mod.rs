//! OpenAI's dialect: chat, legacy completions and embeddings, spoken by OpenAI and, with quirks, by most others.

#[cfg(test)]
mod corpus_tests;
pub(super) mod payload;
#[cfg(test)]
mod tests;

use self::payload::{Choice, Payload, string};
use super::{
    AnswerFacts, Call, Dialect, DialectError, EventFacts, ProviderError, StreamProgress, Talk, Unreadable,
    UpstreamRequest, chat, failure, responses,
};
use crate::{
    catalogue::{OutputLimitField, Quirks, StreamUsage},
    wire::{Edit, Endpoint, Envelope, Event, Figure, Figures, RequestView},
};

/// OpenAI's dialect.
#[derive(Clone, Copy, Debug)]
pub struct OpenAi;

impl Dialect for OpenAi {
    fn request(&self, call: &Call<'_>) -> Result<UpstreamRequest, DialectError> {
        let asked = call.asked;
        match asked.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => {}
            Endpoint::Responses if call.quirks.responses => return responses::pass(call),
            Endpoint::Responses | Endpoint::Messages => {
                let mut request = chat::write_request(asked.conversation()?, call)?;
                request.translation = Some(Talk::between(chat::Decoder::default(), call));
                return Ok(request);
            }
            Endpoint::CountTokens => {
                return Err(DialectError::UnsupportedEndpoint { path: asked.endpoint.path() });
            }
        }
        let mut edits = Vec::with_capacity(6);
        if call.asked.view.model.as_deref() != Some(call.model.as_str()) {
            edits.push(Edit::text("model", call.model.as_str()));
        }
        edits.push(Edit::Remove { name: "models" });
        let usage_injected = stream_options(call, &mut edits);
        output_limit(call, &mut edits);
        // A server that has never heard of `encoding_format` answers with floats whatever it is asked for, and of those the
        // SDK for Node makes an empty vector, without an error. So every such answer is looked at.
        let embeddings_to_base64 =
            call.asked.endpoint == Endpoint::Embeddings && call.asked.view.base64_embeddings;
        if embeddings_to_base64 && call.quirks.float_embeddings_only {
            edits.push(Edit::text("encoding_format", "float"));
        }
        Ok(UpstreamRequest {
            path: call.asked.endpoint.path().into(),
            body: call.asked.envelope.render(&edits),
            usage_injected,
            embeddings_to_base64,
            ..UpstreamRequest::default()
        })
    }

    fn read_answer(
        &self,
        endpoint: Endpoint,
        _quirks: &Quirks,
        body: &[u8],
    ) -> Result<AnswerFacts, Unreadable> {
        if endpoint == Endpoint::Responses {
            return responses::read_answer(body);
        }
        let text = std::str::from_utf8(body).map_err(|_| Unreadable("not UTF-8"))?;
        let payload: Payload<'_> = serde_json::from_str(text).map_err(|_| Unreadable("not a JSON object"))?;
        let mut facts = AnswerFacts {
            figures: payload.usage.map(Figures::from_openai_usage).unwrap_or_default(),
            model: payload.model.and_then(string),
            service_tier: payload.service_tier.and_then(string),
            ..AnswerFacts::default()
        };
        let answer = match endpoint {
            Endpoint::Embeddings => payload.data,
            _ => payload.choices,
        };
        facts.error = payload.whole_failure(answer, text)?;
        if facts.error.is_some() {
            return Ok(facts);
        }
        if endpoint == Endpoint::Embeddings {
            // Some count the total only, and an embedding has no output.
            if facts.figures.prompt == Figure::Absent {
                facts.figures.prompt = facts.figures.total;
            }
        } else if !matches!(facts.figures.completion, Figure::Count(_)) {
            // An answer may be long, and where its output is said nobody asks for its text.
            let choices = payload.choices.and_then(choices).unwrap_or_default();
            facts.text_bytes = choices.iter().map(|choice| choice.content().0).sum();
        }
        Ok(facts)
    }

    fn read_event(
        &self,
        endpoint: Endpoint,
        _quirks: &Quirks,
        progress: &mut StreamProgress,
        event: &Event,
    ) -> EventFacts {
        if endpoint == Endpoint::Responses {
            return responses::read_event(progress, event);
        }
        let mut facts = EventFacts::default();
        if event.data.starts_with("[DONE]") {
            facts.done = true;
            progress.end();
            return facts;
        }
        let error_event = event.name == "error";
        let Ok(payload) = serde_json::from_str::<Payload<'_>>(&event.data) else {
            facts.unreadable = true;
            facts.error = error_event.then(|| failure::from_text(&event.data));
            return facts;
        };
        let groq = payload.groq();
        facts.figures = payload.figures(groq.as_ref());
        let choices = match payload.choices {
            None | Some("null") => Some(Vec::new()),
            Some(raw) => choices(raw),
        };
        facts.unreadable = choices.is_none();
        for choice in choices.iter().flatten() {
            let (bytes, any) = choice.content();
            facts.text_bytes += bytes;
            facts.meaningful |= any || choice.finished();
            progress.choice(choice.index(), choice.finished());
        }
        if payload.is_last() {
            progress.end();
        }
        facts.error = payload.failure(groq.as_ref(), error_event, &event.data);
        facts.usage_only = payload.choices.is_some()
            && choices.is_some_and(|choices| choices.is_empty())
            && payload.usage.is_some_and(|usage| usage.starts_with('{'))
            && facts.error.is_none()
            && !payload.extras;
        if let Some(tier) = payload.service_tier.filter(|_| !progress.tier_seen).and_then(string) {
            progress.tier_seen = true;
            facts.service_tier = Some(tier);
        }
        if let Some(model) = payload.model.filter(|_| !progress.model_seen).and_then(string) {
            progress.model_seen = true;
            facts.model = Some(model);
        }
        facts
    }

    fn read_error(&self, status: u16, body: &[u8]) -> ProviderError {
        failure::from_body(status, body)
    }
}

fn choices(raw: &str) -> Option<Vec<Choice>> {
    serde_json::from_str(raw).ok()
}

/// Asks for usage; says whether the client did not.
fn stream_options(call: &Call<'_>, edits: &mut Vec<Edit>) -> bool {
    if call.asked.endpoint == Endpoint::Embeddings {
        // There is nothing to stream, and some providers refuse the members.
        edits.extend([Edit::Remove { name: "stream" }, Edit::Remove { name: "stream_options" }]);
        return false;
    }
    if call.quirks.refuses_stream_options {
        edits.push(Edit::Remove { name: "stream_options" });
        return false;
    }
    let asks = call.quirks.stream_usage == StreamUsage::Ask && call.ask_usage && call.asked.view.stream;
    if !asks || call.asked.view.include_usage {
        return false;
    }
    let own =
        call.asked.envelope.raw_bytes("stream_options").and_then(|own| Envelope::split(own, usize::MAX).ok());
    let value = own.map_or_else(
        || "{\"include_usage\":true}".to_owned(),
        |own| {
            let with_usage = own.render(&[Edit::Set { name: "include_usage", value: "true".to_owned() }]);
            String::from_utf8_lossy(&with_usage).into_owned()
        },
    );
    edits.push(Edit::Set { name: "stream_options", value });
    true
}

const OLD: &str = "max_tokens";
const NEW: &str = "max_completion_tokens";

/// Puts the output limit under the name the provider knows.
fn output_limit(call: &Call<'_>, edits: &mut Vec<Edit>) {
    let RequestView { max_tokens, max_completion_tokens, .. } = &call.asked.view;
    let only_old = match call.asked.endpoint {
        Endpoint::Completions => true,
        Endpoint::ChatCompletions => call.quirks.output_limit == OutputLimitField::MaxTokens,
        _ => return,
    };
    let Some(limit) = call.output_limit else {
        // The client's own passes; only a name the provider does not know is changed. Completions know no other.
        if only_old
            && call.asked.endpoint == Endpoint::ChatCompletions
            && call.asked.envelope.raw(NEW).is_some()
        {
            if let (None, Some(limit)) = (max_tokens, max_completion_tokens) {
                edits.push(Edit::number(OLD, *limit));
            }
            edits.push(Edit::Remove { name: NEW });
        }
        return;
    };
    if only_old {
        edits.push(Edit::number(OLD, limit));
        edits.push(Edit::Remove { name: NEW });
        return;
    }
    // The limit holds under every name the client used: a provider may heed either.
    let adds = match call.quirks.output_limit {
        OutputLimitField::MaxCompletionTokens => NEW,
        OutputLimitField::MaxTokens | OutputLimitField::Either => OLD,
    };
    let used = [(OLD, max_tokens.is_some()), (NEW, max_completion_tokens.is_some())];
    let none_used = used.iter().all(|(_, used)| !used);
    for (name, used) in used {
        if used || (none_used && name == adds) {
            edits.push(Edit::number(name, limit));
        }
    }
}
