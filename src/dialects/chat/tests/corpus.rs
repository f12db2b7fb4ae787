//! Recorded answers of the servers of OpenAI's dialect, judged by a plain reading of the same bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{decode_stream, decode_whole, encoder, line, plain, show, with_call};
use crate::{
    catalogue::{Capabilities, Quirks},
    dialects::{
        Encoder as _, Talk, Translation,
        chat::Decoder,
        testing::{CHATS, Exchange, Told, recorded, tell},
    },
    wire::{Endpoint, Figure, Figures, Finish, Part, What},
};

/// Several answers, one behind the other: only the first counts.
const GLUED: &str = "cerebras/chat/ai--cererebras-structured-output-tools-1";

fn answers(stream: bool) -> Vec<Exchange> {
    let found = recorded(&CHATS);
    let is_stream = |exchange: &Exchange| exchange.body.lines().any(|line| line.starts_with("data:"));
    let wanted = |exchange: &Exchange| exchange.status < 400 && is_stream(exchange) == stream;
    found.into_iter().filter(wanted).collect()
}

/// What one choice came to, by whichever reading.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    text: String,
    thoughts: String,
    refusal: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
    finished: bool,
}

/// By line and by tree.
fn judge(chunks: &[Value]) -> (BTreeMap<u64, Sum>, Figures) {
    let mut sums: BTreeMap<u64, Sum> = BTreeMap::new();
    let mut figures = Figures::default();
    for chunk in chunks {
        for usage in [&chunk["usage"], &chunk["x_groq"]["usage"]] {
            if usage.is_object() {
                figures.merge_max(&Figures::from_openai_usage(&usage.to_string()));
            }
        }
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let sum = sums.entry(choice["index"].as_u64().unwrap_or(0)).or_default();
            let said = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
            sum.finished |= choice["finish_reason"].as_str().is_some_and(|reason| !reason.is_empty());
            match &said["content"] {
                Value::String(text) => sum.text.push_str(text),
                Value::Array(parts) => {
                    for part in parts {
                        sum.text.push_str(part["text"].as_str().unwrap_or_default());
                        for thought in part["thinking"].as_array().into_iter().flatten() {
                            sum.thoughts.push_str(thought["text"].as_str().unwrap_or_default());
                        }
                    }
                }
                _ => {}
            }
            let details = said["reasoning_details"].as_array().into_iter().flatten();
            let details: String = details.filter_map(|detail| detail["text"].as_str()).collect();
            let named = [&said["reasoning_content"], &said["reasoning"]];
            let named = named.into_iter().filter_map(Value::as_str).find(|text| !text.is_empty());
            sum.thoughts.push_str(named.unwrap_or(&details));
            sum.refusal.push_str(said["refusal"].as_str().unwrap_or_default());
            let tools = said["tool_calls"].as_array().into_iter().flatten().map(|call| &call["function"]);
            for function in tools.chain(Some(&said["function_call"])) {
                let name = function["name"].as_str().unwrap_or_default();
                let arguments = function["arguments"].as_str().unwrap_or_default();
                match sum.calls.last_mut() {
                    Some((_, before)) if name.is_empty() => before.push_str(arguments),
                    _ if name.is_empty() => {}
                    _ => sum.calls.push((name.to_owned(), arguments.to_owned())),
                }
            }
        }
    }
    for (_, arguments) in sums.values_mut().flat_map(|sum| &mut sum.calls) {
        if arguments.is_empty() {
            arguments.push_str("{}");
        }
    }
    (sums, figures)
}

fn sum(parts: &[Part]) -> (BTreeMap<u64, Sum>, Figures) {
    let mut sums: BTreeMap<u64, Sum> = BTreeMap::new();
    let mut figures = Figures::default();
    for Part { choice, what } in parts {
        if let What::Usage(more) = what {
            figures.merge_max(more);
            continue;
        }
        if *what == What::End {
            continue;
        }
        let sum = sums.entry(u64::from(*choice)).or_default();
        match what {
            What::Text(text) => sum.text.push_str(text),
            What::Thought(thought) => sum.thoughts.push_str(thought),
            What::Refusal(refusal) => sum.refusal.push_str(refusal),
            What::ToolCall { index, id, name, .. } => {
                assert_eq!(*index as usize, sum.calls.len(), "calls are counted without gaps");
                assert!(!id.is_empty());
                sum.calls.push((name.clone(), String::new()));
            }
            What::Arguments { index, json } => sum.calls[*index as usize].1.push_str(json),
            What::Finish { .. } => {
                assert!(!sum.finished, "a choice is finished once");
                sum.finished = true;
            }
            _ => {}
        }
    }
    (sums, figures)
}

fn chunks(body: &str) -> Vec<Value> {
    body.lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect()
}

#[test]
fn recorded_streams_come_to_what_a_plain_reading_finds() {
    let streams = answers(true);
    for Exchange { id, body, .. } in &streams {
        let (parts, failed) = decode_stream(body);
        let (told, figures) = sum(&parts);
        let (mut judged, judged_figures) = judge(&chunks(body));
        assert_eq!(figures, judged_figures, "{id}");
        if body.contains("data: [DONE]") && !failed {
            // Some never say why an answer ended.
            judged.values_mut().for_each(|sum| sum.finished = true);
        }
        assert!(told == judged || id == GLUED, "{id}: {told:?} {judged:?}");
        assert!(matches!(parts.first(), Some(Part { what: What::Start { .. }, .. })), "{id}");
        let finishes = parts.iter().filter_map(|part| match &part.what {
            What::Finish { reason, .. } => Some(*reason),
            _ => None,
        });
        for (reason, sum) in finishes.zip(told.values()) {
            assert!(reason != Finish::Stop || sum.calls.is_empty(), "{id}: who called a tool waits for it");
        }
    }
}

#[test]
fn recorded_answers_come_to_what_a_plain_reading_finds() {
    for Exchange { id, body, .. } in answers(false) {
        let whole: Value = serde_json::from_str(&body).expect("an answer is JSON");
        let parts = decode_whole(&body);
        let (told, figures) = sum(&parts);
        let (mut judged, judged_figures) = judge(&[whole]);
        judged.values_mut().for_each(|sum| sum.finished = true);
        assert_eq!((told, figures), (judged, judged_figures), "{id}");
    }
}

/// Parts as lines, pieces of one kind joined, without what is said of the whole.
fn folded(parts: &[Part]) -> Vec<String> {
    let mut lines: Vec<(u32, What)> = Vec::new();
    for Part { choice, what } in parts {
        match (lines.last_mut(), what) {
            (_, What::Usage(_) | What::ServiceTier(_) | What::End) => {}
            (Some((last, What::Text(text))), What::Text(more)) if last == choice => text.push_str(more),
            (Some((last, What::Thought(text))), What::Thought(more)) if last == choice => text.push_str(more),
            (Some((last, What::Refusal(text))), What::Refusal(more)) if last == choice => text.push_str(more),
            (Some((last, What::Arguments { json, index })), What::Arguments { json: more, index: next })
                if last == choice && index == next =>
            {
                json.push_str(more);
            }
            _ => lines.push((*choice, what.clone())),
        }
    }
    // Sources are said at the end, wherever they came.
    lines.sort_by_key(|(_, what)| matches!(what, What::Citation { .. }));
    lines.iter().map(|(choice, what)| format!("{choice} {}", line(what))).collect()
}

#[test]
fn what_is_said_of_a_recorded_stream_says_the_same_when_it_is_read_again() {
    for Exchange { id, body, .. } in answers(true) {
        let (parts, failed) = decode_stream(&body);
        let mut encoder =
            encoder(serde_json::json!({"stream": true, "stream_options": {"include_usage": true}}));
        let mut said = Vec::new();
        for part in parts.iter().filter(|part| part.what != What::End) {
            encoder.part(part.clone(), &mut said);
        }
        encoder.end(&mut said);
        let said = String::from_utf8(said).expect("text");
        if failed {
            continue;
        }
        let (again, _) = decode_stream(&said);
        let mut first = folded(&parts);
        if let Some(start) = first.first_mut() {
            // An id the gateway gives where a provider gives none.
            *start = start.replace("start None", "start Some(\"chatcmpl-req_1\")");
        }
        assert_eq!(first, folded(&again), "{id}");
        assert_eq!(usage_of(&parts), usage_of(&again), "{id}");
        assert!(said.ends_with("data: [DONE]\n\n"), "{id}");
    }
}

#[test]
fn what_is_said_of_a_recorded_answer_says_the_same_when_it_is_read_again() {
    for Exchange { id, body, .. } in answers(false) {
        let parts = decode_whole(&body);
        let said = encoder(Value::Null).whole(parts.clone());
        let again = decode_whole(std::str::from_utf8(&said).expect("text"));
        // An id the gateway gives where a provider gives none.
        let first = show(&in_order(&parts)).replace("start None", "start Some(\"chatcmpl-req_1\")");
        assert_eq!(first, show(&in_order(&again)), "{id}");
        assert_eq!(usage_of(&parts), usage_of(&again), "{id}");
    }
}

/// Parts of whole answers, but for usage: a message joins its texts.
fn in_order(parts: &[Part]) -> Vec<Part> {
    let mut parts: Vec<Part> = parts.to_vec();
    parts.retain(|part| !matches!(part.what, What::Usage(_) | What::ServiceTier(_)));
    parts
}

/// The figures that are said to clients.
fn usage_of(parts: &[Part]) -> [Option<u64>; 6] {
    let (_, figures) = sum(parts);
    let Figures { prompt, completion, total, cache_read, cache_write, reasoning, .. } = figures;
    let some = |figure: Figure| figure.count().filter(|count| *count > 0);
    [prompt, completion, total, cache_read, cache_write, reasoning].map(some)
}

fn talk() -> Box<dyn Translation> {
    let members = serde_json::json!({"stream": true, "stream_options": {"include_usage": true}});
    let asked = plain(Endpoint::ChatCompletions, members);
    with_call(&asked, &Quirks::default(), &Capabilities::default(), |call| {
        Talk::between(Decoder::default(), call)
    })
}

#[test]
fn how_a_stream_was_cut_makes_no_difference() {
    for (place, Exchange { id, body, .. }) in answers(true).iter().enumerate() {
        let told: Told = tell(talk().as_mut(), body.as_bytes(), usize::MAX);
        assert!(told.unreadable == 0 && (told.finished || told.failed || !told.done), "{id}");
        assert!(told.meaningful > 0 || told.failed, "{id}");
        // Single bytes of the longest take long and show nothing new.
        for size in [1, 2, 7, 1000].into_iter().filter(|size| *size > 2 || body.len() < 30_000) {
            assert_eq!(tell(talk().as_mut(), body.as_bytes(), size), told, "{id} in chunks of {size}");
        }
        // Cut wherever there is a byte: of a few, since this is slow.
        if place % 4 == 0 && body.len() < 2_500 {
            for size in 1..body.len() {
                assert_eq!(tell(talk().as_mut(), body.as_bytes(), size), told, "{id} at {size}");
            }
        }
    }
}

#[test]
fn recorded_quirks_are_understood() {
    let streams = answers(true);
    let of = |id: &str| {
        let found = streams.iter().find(|exchange| exchange.id == id);
        found.map(|exchange| decode_stream(&exchange.body))
    };
    if streams.is_empty() {
        return;
    }
    let (parts, _) = of("perplexity/chat/ai--perplexity-citations").expect("recorded");
    let cited = parts.iter().filter(|part| matches!(part.what, What::Citation { .. })).count();
    assert!(cited == 7, "each source once, not in every chunk: {cited}");
    assert!(parts.last().is_some_and(|part| part.what == What::End), "its last chunk is the end");

    for failed in [
        "groq/chat/pydantic-ai--test-tool-use-failed-error-streaming",
        "openrouter/chat/pydantic-ai--test-openrouter-stream-error",
    ] {
        assert!(of(failed).expect("recorded").1, "{failed}");
    }

    let (parts, _) = of("snowflake/chat/pydantic-ai--test-snowflake-thinking-streaming").expect("recorded");
    let finished = parts.iter().any(|part| matches!(part.what, What::Finish { .. }));
    assert!(finished, "an answer without a finish reason is finished by `[DONE]`");

    let (parts, _) = of("mistral/chat/ai--mistral-incremental-tool-call").expect("recorded");
    let calls = parts.iter().filter(|part| matches!(part.what, What::ToolCall { .. })).count();
    assert_eq!(calls, 1, "a name that comes again with nothing in it begins no call");
}
