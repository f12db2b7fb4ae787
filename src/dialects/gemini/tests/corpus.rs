//! Recorded traffic, read the way the gateway reads it, judged by a plain JSON reading of the same bytes.

use serde_json::Value;

use super::{Told, said, tell, tell_cut};
use crate::{
    catalogue::Quirks,
    dialects::{
        Decoder as _, Dialect, StreamProgress,
        gemini::{Decoder, Gemini},
        testing::{self, Exchange},
    },
    wire::{Endpoint, Figures, What},
};

fn answers() -> Vec<Exchange> {
    testing::recorded(&[("gemini", "generateContent"), ("vertex", "generateContent")])
}

fn is_events(exchange: &Exchange) -> bool {
    exchange.body.trim_start().starts_with("data:")
}

/// The answers in a recording, by line and by tree.
fn chunks(body: &str) -> Vec<Value> {
    if body.trim_start().starts_with("data:") {
        let data = body.lines().filter_map(|line| line.strip_prefix("data:"));
        return data.map(|data| serde_json::from_str(data).expect("an event")).collect();
    }
    match serde_json::from_str(body).expect("an answer") {
        Value::Array(list) => list,
        one => vec![one],
    }
}

fn parts(chunks: &[Value]) -> impl Iterator<Item = &Value> {
    let candidates = chunks.iter().flat_map(|chunk| chunk["candidates"].as_array().into_iter().flatten());
    candidates.flat_map(|candidate| candidate["content"]["parts"].as_array().into_iter().flatten())
}

/// What was said, and the signatures in order.
fn judge(chunks: &[Value]) -> (String, Vec<&str>) {
    let text = parts(chunks)
        .filter(|part| part["thought"] != true)
        .filter_map(|part| part["text"].as_str())
        .collect();
    (text, parts(chunks).filter_map(|part| part["thoughtSignature"].as_str()).collect())
}

/// Input and output of the last report of the answer.
fn usage(chunks: &[Value]) -> (Option<u64>, Option<u64>, Option<u64>) {
    let mut reports = chunks.iter().map(|chunk| &chunk["usageMetadata"]);
    let Some(last) = reports.rfind(|usage| usage["promptTokenCount"].is_u64()) else {
        return (None, None, None);
    };
    let sum = |names: [&str; 2]| {
        let counts: Vec<u64> = names.iter().filter_map(|name| last[*name].as_u64()).collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    };
    (
        sum(["promptTokenCount", "toolUsePromptTokenCount"]),
        sum(["candidatesTokenCount", "thoughtsTokenCount"]),
        last["cachedContentTokenCount"].as_u64(),
    )
}

fn agree(id: &str, chunks: &[Value], figures: &Figures) {
    let read = (figures.prompt.count(), figures.completion.count(), figures.cache_read.count());
    assert_eq!(read, usage(chunks), "{id}");
    if let (Some(prompt), Some(completion)) = (figures.prompt.count(), figures.completion.count()) {
        assert_eq!(figures.total.count(), Some(prompt + completion), "{id}");
    }
}

fn signatures(told: &[Value]) -> Vec<&str> {
    told.iter().filter_map(|part| part["signature"].as_str().or(part["text_signature"].as_str())).collect()
}

#[test]
fn recorded_streams_are_told_to_their_own_figures_and_ends() {
    let streams: Vec<Exchange> = answers().into_iter().filter(is_events).collect();
    for exchange in &streams {
        let id = &exchange.id;
        let told = tell(exchange.body.as_bytes(), usize::MAX);
        let chunks = chunks(&exchange.body);
        let (text, wanted) = judge(&chunks);
        assert!(told.finished && !told.failed && told.unreadable == 0, "{id}: {told:?}");
        assert_eq!(told.text, text, "{id}");
        assert_eq!(signatures(&told.parts), wanted, "{id}");
        agree(id, &chunks, &told.figures);
        whole_calls(id, &told);
        for chunk in [1, 2, 7, 1000] {
            assert_eq!(tell(exchange.body.as_bytes(), chunk), told, "{id} in chunks of {chunk}");
        }
    }
}

/// Every call has an id of its own, and arguments that are an object, before anything else of the choice.
fn whole_calls(id: &str, told: &Told) {
    let mut ids = std::collections::BTreeSet::new();
    let mut open: Option<u64> = None;
    let mut next = 0;
    for part in &told.parts {
        let Some(index) = part["call"].as_u64() else {
            assert!(
                open.is_none() || part.get("usage").is_some() || part.get("service_tier").is_some(),
                "{id}: {part}"
            );
            continue;
        };
        if let Some(arguments) = part["arguments"].as_str() {
            assert_eq!(open.take(), Some(index), "{id}");
            assert!(
                serde_json::from_str::<Value>(arguments).is_ok_and(|value| value.is_object()),
                "{id}: {arguments}"
            );
        } else {
            assert_eq!((open.replace(index), index), (None, next), "{id}");
            next += 1;
            assert!(
                part["id"].as_str().is_some_and(|call| !call.is_empty() && ids.insert(call.to_owned())),
                "{id}"
            );
        }
    }
    assert_eq!(open, None, "{id}");
    if next > 0 {
        assert!(told.parts.iter().any(|part| part["finish"] == "ToolCalls"), "{id}");
    }
}

#[test]
fn recorded_whole_answers_are_told_to_their_own_figures() {
    let wholes = answers().into_iter().filter(|exchange| exchange.status == 200 && !is_events(exchange));
    for exchange in wholes {
        let id = &exchange.id;
        let decoded = Decoder::default()
            .whole(exchange.body.as_bytes())
            .unwrap_or_else(|error| panic!("{id}: {error}"));
        assert!(decoded.error.is_none() && !decoded.unreadable, "{id}");
        let mut told = Told::default();
        for part in &decoded.parts {
            told.parts.push(said(part));
            match &part.what {
                What::Usage(figures) => told.figures.merge_max(figures),
                What::Text(text) => told.text.push_str(text),
                _ => {}
            }
        }
        let chunks = chunks(&exchange.body);
        let (text, wanted) = judge(&chunks);
        assert_eq!(told.text, text, "{id}");
        assert_eq!(signatures(&told.parts), wanted, "{id}");
        assert_eq!(told.parts.iter().filter(|part| part.get("finish").is_some()).count(), 1, "{id}");
        agree(id, &chunks, &told.figures);
        whole_calls(id, &told);

        let facts =
            Gemini.read_answer(Endpoint::ChatCompletions, &Quirks::default(), exchange.body.as_bytes());
        let facts = facts.unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!((facts.figures, facts.error), (told.figures, None), "{id}");
        assert_eq!(facts.model.as_deref(), chunks[0]["modelVersion"].as_str(), "{id}");
    }
}

#[test]
fn recorded_streams_are_read_event_by_event_as_well() {
    for exchange in answers().iter().filter(|exchange| is_events(exchange)) {
        let mut progress = StreamProgress::default();
        let mut figures = Figures::default();
        for event in testing::events(exchange.body.as_bytes(), 64) {
            let facts =
                Gemini.read_event(Endpoint::ChatCompletions, &Quirks::default(), &mut progress, &event);
            assert!(facts.error.is_none() && !facts.unreadable, "{}", exchange.id);
            figures.merge_max(&facts.figures.unwrap_or_default());
        }
        assert!(progress.finished(), "{}", exchange.id);
        agree(&exchange.id, &chunks(&exchange.body), &figures);
    }
}

#[test]
fn a_recorded_stream_cut_at_any_byte_is_told_the_same() {
    let sample = ["fantasy--multi-tool-streaming", "braintrust-sdk-pyt--test-tool-use-stream-1"];
    for exchange in answers().iter().filter(|exchange| sample.iter().any(|name| exchange.id.ends_with(name)))
    {
        let body = exchange.body.as_bytes();
        let told = tell(body, usize::MAX);
        for cut in 0..=body.len() {
            assert_eq!(tell_cut(body, cut), told.parts, "{} cut at {cut}", exchange.id);
        }
    }
}

#[test]
fn a_recorded_stream_that_breaks_off_is_not_finished() {
    for exchange in answers().iter().filter(|exchange| is_events(exchange)) {
        let events = testing::events(exchange.body.as_bytes(), 1000).len();
        let cut = exchange.body.rfind("data:").unwrap_or(0);
        let told = tell(&exchange.body.as_bytes()[..cut], 1000);
        assert!(!told.finished && !told.failed, "{} of {events}", exchange.id);
    }
}

#[test]
fn recorded_errors_are_read() {
    let mut all = answers();
    all.extend(testing::recorded(&[("gemini", "embedContent"), ("gemini", "countTokens")]));
    for exchange in all.iter().filter(|exchange| exchange.status >= 400) {
        let id = &exchange.id;
        let value: Value = serde_json::from_str(&exchange.body).expect("an error");
        let error = Gemini.read_error(exchange.status, exchange.body.as_bytes());
        assert_eq!(error.kind.as_deref(), value["error"]["status"].as_str(), "{id}");
        assert!(!error.message.is_empty() && !error.message.contains("no readable message"), "{id}");
        assert!(!error.billing && !error.context_length && error.retry_after.is_none(), "{id}");
        let refused_key = id.ends_with("rig--auth-rejection-keeps-transport-shape");
        assert_eq!(error.status, Some(if refused_key { 401 } else { exchange.status }), "{id}");
    }
}
