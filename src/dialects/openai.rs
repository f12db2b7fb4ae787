//! OpenAI's dialect: chat, legacy completions and embeddings, spoken by OpenAI and, with quirks, by most others.

use super::{
    AnswerFacts, Call, Dialect, DialectError, EventFacts, ProviderError, StreamProgress, Unreadable,
    UpstreamRequest, failure,
    payload::{Choice, Payload},
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
        let mut edits = Vec::with_capacity(6);
        if call.view.model.as_deref() != Some(call.model.as_str()) {
            edits.push(Edit::text("model", call.model.as_str()));
        }
        edits.push(Edit::Remove { name: "models" });
        let usage_injected = stream_options(call, &mut edits);
        output_limit(call, &mut edits);
        // A server that has never heard of `encoding_format` answers with floats whatever it is asked for, and of those the
        // SDK for Node makes an empty vector, without an error. So every such answer is looked at.
        let embeddings_to_base64 = call.endpoint == Endpoint::Embeddings && call.view.base64_embeddings;
        if embeddings_to_base64 && call.quirks.float_embeddings_only {
            edits.push(Edit::text("encoding_format", "float"));
        }
        Ok(UpstreamRequest {
            path: call.endpoint.path().to_owned(),
            body: call.envelope.render(&edits),
            usage_injected,
            headers: Vec::new(),
            embeddings_to_base64,
        })
    }

    fn read_answer(
        &self,
        endpoint: Endpoint,
        _quirks: &Quirks,
        body: &[u8],
    ) -> Result<AnswerFacts, Unreadable> {
        let text = std::str::from_utf8(body).map_err(|_| Unreadable("not UTF-8"))?;
        let payload: Payload<'_> = serde_json::from_str(text).map_err(|_| Unreadable("not a JSON object"))?;
        let mut facts = AnswerFacts {
            figures: payload.usage.map(Figures::from_openai_usage).unwrap_or_default(),
            model: payload.model.and_then(string),
            service_tier: payload.service_tier.and_then(string),
            ..AnswerFacts::default()
        };
        if is_error(payload.error) {
            facts.error = Some(failure::from_text(text));
            return Ok(facts);
        }
        let answer = match endpoint {
            Endpoint::Embeddings => payload.data,
            Endpoint::ChatCompletions | Endpoint::Completions => payload.choices,
        };
        match answer {
            Some(answer) if answer.starts_with('[') => {}
            _ if payload.flat_error => {
                facts.error = Some(failure::from_text(text));
                return Ok(facts);
            }
            _ => return Err(Unreadable("not of the shape this endpoint answers with")),
        }
        if endpoint == Endpoint::Embeddings {
            // Some count the total only, and an embedding has no output.
            if facts.figures.prompt == Figure::Absent {
                facts.figures.prompt = facts.figures.total;
            }
        } else {
            let choices = payload.choices.and_then(choices).unwrap_or_default();
            facts.text_bytes = choices.iter().map(|choice| choice.content().0).sum();
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
        let groq = payload.x_groq.and_then(|raw| serde_json::from_str::<Payload<'_>>(raw).ok());
        for usage in [payload.usage, groq.as_ref().and_then(|groq| groq.usage)].into_iter().flatten() {
            if usage.starts_with('{') {
                facts.figures.get_or_insert_default().merge_max(&Figures::from_openai_usage(usage));
            }
        }
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
        if payload.object.is_some_and(|object| object == "\"chat.completion.done\"") {
            progress.end();
        }
        if error_event || is_error(payload.error) {
            facts.error = Some(failure::from_text(&event.data));
        } else if let Some(raw) = groq.as_ref().and_then(|groq| groq.error).filter(|raw| is_error(Some(raw)))
        {
            facts.error = Some(failure::from_text(&format!("{{\"error\":{raw}}}")));
        }
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

/// A JSON text as a string, if it is one with something in it.
fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok().filter(|text: &String| !text.is_empty())
}

fn choices(raw: &str) -> Option<Vec<Choice>> {
    serde_json::from_str(raw).ok()
}

/// As the SDKs see it: anything true of a member named `error`.
fn is_error(raw: Option<&str>) -> bool {
    !matches!(raw.map(str::trim), None | Some("null" | "false" | "\"\"" | "0" | "{}" | "[]"))
}

/// Asks for usage; says whether the client did not.
fn stream_options(call: &Call<'_>, edits: &mut Vec<Edit>) -> bool {
    if call.endpoint == Endpoint::Embeddings {
        // There is nothing to stream, and some providers refuse the members.
        edits.extend([Edit::Remove { name: "stream" }, Edit::Remove { name: "stream_options" }]);
        return false;
    }
    if call.quirks.refuses_stream_options {
        edits.push(Edit::Remove { name: "stream_options" });
        return false;
    }
    let asks = call.quirks.stream_usage == StreamUsage::Ask && call.ask_usage && call.view.stream;
    if !asks || call.view.include_usage {
        return false;
    }
    let own = call.envelope.raw_bytes("stream_options").and_then(|own| Envelope::split(own, usize::MAX).ok());
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
    let RequestView { max_tokens, max_completion_tokens, .. } = call.view;
    let only_old = match call.endpoint {
        Endpoint::Embeddings => return,
        Endpoint::Completions => true,
        Endpoint::ChatCompletions => call.quirks.output_limit == OutputLimitField::MaxTokens,
    };
    let Some(limit) = call.output_limit else {
        // The client's own passes; only a name the provider does not know is changed. Completions know no other.
        if only_old && call.endpoint == Endpoint::ChatCompletions && call.envelope.raw(NEW).is_some() {
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
