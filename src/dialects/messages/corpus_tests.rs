//! Recorded traffic, read as it passes and taken apart, judged by a plain reading of the same JSON.

use bytes::Bytes;
use serde_json::Value;

use super::{
    Anthropic, Decoder,
    testing::{decoded, line},
};
use crate::{
    catalogue::Quirks,
    dialects::{
        AnswerFacts, Decoder as _, Dialect, StreamProgress,
        testing::{Exchange, events, recorded},
    },
    wire::{Endpoint, EventReader, Figure, Figures, Framer, Part, What},
};

fn exchanges() -> Vec<Exchange> {
    recorded(&[("anthropic", "messages"), ("anthropic", "count_tokens")])
}

/// What a plain reading finds.
#[derive(Debug, Default, PartialEq)]
struct Judged {
    prompt: Option<u64>,
    completion: Option<u64>,
    read: u64,
    written: u64,
    thinking: u64,
    text: String,
    thoughts: String,
    calls: Vec<(String, String, Value)>,
    signatures: usize,
    finished: bool,
}

impl Judged {
    fn usage(&mut self, usage: &Value) {
        let steps = usage["iterations"].as_array().filter(|steps| !steps.is_empty());
        let all: Vec<&Value> = steps.map_or_else(|| vec![usage], |steps| steps.iter().collect());
        let sum = |name: &str| all.iter().map(|usage| usage[name].as_u64().unwrap_or(0)).sum::<u64>();
        if usage["input_tokens"].is_u64() {
            self.read = sum("cache_read_input_tokens");
            self.written = sum("cache_creation_input_tokens");
            self.prompt = Some(sum("input_tokens") + self.read + self.written);
        }
        self.completion = Some(sum("output_tokens"));
        self.thinking =
            self.thinking.max(usage["output_tokens_details"]["thinking_tokens"].as_u64().unwrap_or(0));
    }

    fn block(&mut self, block: &Value) {
        let text = |name: &str| block[name].as_str().unwrap_or_default();
        match text("type") {
            "text" => self.text.push_str(text("text")),
            "thinking" => {
                self.thoughts.push_str(text("thinking"));
                self.signatures += usize::from(!text("signature").is_empty());
            }
            "redacted_thinking" => self.signatures += 1,
            "tool_use" => self.calls.push((text("id").into(), text("name").into(), block["input"].clone())),
            _ => {}
        }
    }

    fn of(exchange: &Exchange) -> Self {
        let mut judged = Self::default();
        if !exchange.stream {
            let body: Value = serde_json::from_str(&exchange.body).expect("an answer is JSON");
            body["content"].as_array().into_iter().flatten().for_each(|block| judged.block(block));
            judged.usage(&body["usage"]);
            judged.finished = true;
            return judged;
        }
        // As Anthropic's SDKs do it: blocks by their numbers, patched by deltas.
        let mut blocks: Vec<(Value, String)> = Vec::new();
        for data in exchange.body.lines().filter_map(|line| line.strip_prefix("data:")) {
            let event: Value = serde_json::from_str(data).expect("data is JSON");
            let delta = &event["delta"];
            match event["type"].as_str().unwrap_or_default() {
                "message_start" => judged.usage(&event["message"]["usage"]),
                "content_block_start" => blocks.push((event["content_block"].clone(), String::new())),
                "content_block_delta" => {
                    let at = usize::try_from(event["index"].as_u64().expect("an index")).expect("small");
                    let (block, json) = &mut blocks[at];
                    for name in ["text", "thinking", "signature"] {
                        if let Some(more) = delta[name].as_str() {
                            block[name] =
                                format!("{}{more}", block[name].as_str().unwrap_or_default()).into();
                        }
                    }
                    json.push_str(delta["partial_json"].as_str().unwrap_or_default());
                }
                "message_delta" => {
                    judged.usage(&event["usage"]);
                    judged.finished |= delta["stop_reason"].is_string();
                }
                _ => {}
            }
        }
        for (mut block, json) in blocks {
            if !json.is_empty() {
                block["input"] = serde_json::from_str(&json).expect("arguments are JSON");
            }
            judged.block(&block);
        }
        judged
    }

    /// The same of what was taken apart.
    fn told(parts: &[Part]) -> Self {
        let mut told = Self::default();
        let mut arguments: Vec<String> = Vec::new();
        for Part { what, .. } in parts {
            match what {
                What::Text(text) => told.text.push_str(text),
                What::Thought(text) => told.thoughts.push_str(text),
                What::Thinking(_) => told.signatures += 1,
                What::ToolCall { id, name, .. } => {
                    told.calls.push((id.clone(), name.clone(), Value::Null));
                    arguments.push(String::new());
                }
                What::Arguments { index, json } => arguments[*index as usize].push_str(json),
                What::Usage(figures) => told.figures(figures),
                What::Finish { .. } => told.finished = true,
                _ => {}
            }
        }
        for (call, arguments) in told.calls.iter_mut().zip(arguments) {
            call.2 = serde_json::from_str(&arguments).expect("arguments are JSON");
        }
        told
    }

    fn figures(&mut self, figures: &Figures) {
        let count = |figure: Figure| figure.count().unwrap_or(0);
        (self.prompt, self.completion) = (figures.prompt.count(), figures.completion.count());
        self.read = count(figures.cache_read);
        self.written = count(figures.cache_write) + count(figures.cache_write_1h);
        self.thinking = count(figures.reasoning);
    }
}

#[test]
fn recorded_answers_are_taken_apart_as_a_plain_reading_has_them() {
    let mut answers = 0;
    for exchange in exchanges().iter().filter(|exchange| exchange.status == 200 && exchange.api == "messages")
    {
        let id = &exchange.id;
        let judged = Judged::of(exchange);
        let parts = if exchange.stream {
            let (parts, failed, unreadable) = decoded(exchange.body.as_bytes(), usize::MAX);
            assert!(!failed && unreadable == 0, "{id}");
            assert_eq!(parts.last().map(line).as_deref(), Some("end"), "{id}");
            parts
        } else {
            let told = Decoder::default().whole(exchange.body.as_bytes()).expect("an answer");
            assert!(told.error.is_none() && !told.unreadable, "{id}");
            told.parts
        };
        assert_eq!(Judged::told(&parts), judged, "{id}");
        let finishes = parts.iter().filter(|part| matches!(part.what, What::Finish { .. })).count();
        assert_eq!((finishes, matches!(parts[0].what, What::Start { .. })), (1, true), "{id}");
        answers += 1;
    }
    assert!(answers == 40 || exchanges().is_empty(), "{answers} answers");
}

/// What came of reading a stream that passes.
#[derive(Debug, Default, PartialEq)]
struct Read {
    figures: Figures,
    text_bytes: u64,
    meaningful: u64,
    models: u64,
    finished: bool,
    done: bool,
}

fn read(exchange: &Exchange, chunk: usize) -> Read {
    let mut progress = StreamProgress::default();
    let mut read = Read::default();
    for event in events(exchange.body.as_bytes(), chunk) {
        let facts = Anthropic.read_event(Endpoint::Messages, &Quirks::default(), &mut progress, &event);
        assert!(!facts.unreadable && facts.error.is_none() && !read.done, "{}", exchange.id);
        read.figures.merge_max(&facts.figures.unwrap_or_default());
        read.text_bytes += facts.text_bytes;
        read.meaningful += u64::from(facts.meaningful);
        read.models += u64::from(facts.model.is_some());
        read.done |= facts.done;
    }
    read.finished = progress.finished();
    read
}

#[test]
fn recorded_answers_that_pass_are_measured() {
    for exchange in exchanges().iter().filter(|exchange| exchange.status == 200) {
        let id = &exchange.id;
        let mut found = Judged::default();
        let text_bytes = if exchange.stream {
            let read = read(exchange, usize::MAX);
            assert!(read.finished && read.done && read.meaningful > 0 && read.models == 1, "{id}");
            found.figures(&read.figures);
            read.text_bytes
        } else {
            let endpoint =
                if exchange.api == "messages" { Endpoint::Messages } else { Endpoint::CountTokens };
            let facts = Anthropic
                .read_answer(endpoint, &Quirks::default(), exchange.body.as_bytes())
                .expect("an answer");
            assert!(facts.error.is_none() && facts.service_tier.is_none(), "{id}");
            if endpoint == Endpoint::CountTokens {
                assert_eq!(facts, AnswerFacts::default(), "{id}");
                continue;
            }
            assert!(facts.model.is_some(), "{id}");
            found.figures(&facts.figures);
            facts.text_bytes
        };
        let judged = Judged::of(exchange);
        let figures = |j: &Judged| (j.prompt, j.completion, j.read, j.written, j.thinking);
        assert_eq!(figures(&found), figures(&judged), "{id}");
        let said = judged.text.len() + judged.thoughts.len();
        assert!(text_bytes >= said as u64, "{id}: {text_bytes} of {said}");
    }
}

#[test]
fn recorded_errors_are_read() {
    let mut errors = 0;
    for exchange in exchanges().iter().filter(|exchange| exchange.status >= 400) {
        let error = Anthropic.read_error(exchange.status, exchange.body.as_bytes());
        let body: Value = serde_json::from_str(&exchange.body).expect("an error is JSON");
        assert_eq!(error.kind.as_deref(), body["error"]["type"].as_str(), "{}", exchange.id);
        assert_eq!(Some(error.message.as_str()), body["error"]["message"].as_str(), "{}", exchange.id);
        assert_eq!(
            (error.status, error.billing, error.context_length),
            (Some(exchange.status), false, false)
        );
        errors += 1;
    }
    assert!(errors == 7 || exchanges().is_empty(), "{errors} errors");
}

#[test]
fn where_the_network_cuts_a_stream_makes_no_difference() {
    for exchange in exchanges().iter().filter(|exchange| exchange.stream) {
        let told = |chunk| {
            let (parts, failed, unreadable) = decoded(exchange.body.as_bytes(), chunk);
            (parts.iter().map(line).collect::<Vec<_>>(), failed, unreadable)
        };
        let (whole, passed) = (told(usize::MAX), read(exchange, usize::MAX));
        for chunk in [1, 2, 7, 1000] {
            assert_eq!(told(chunk), whole, "{} in chunks of {chunk}", exchange.id);
            assert_eq!(read(exchange, chunk), passed, "{} in chunks of {chunk}", exchange.id);
        }
    }
}

#[test]
fn a_stream_cut_at_any_byte_tells_the_same() {
    let samples = [
        "anthropic/messages/llm-anthropic--test-anthropic-test-tools",
        "anthropic/messages/fantasy--computer-use-streaming-1",
    ];
    for exchange in exchanges().iter().filter(|exchange| samples.contains(&exchange.id.as_str())) {
        let body = exchange.body.as_bytes();
        let whole = decoded(body, usize::MAX).0;
        for at in 0..body.len() {
            let (mut framer, mut reader) = (Framer::new(1 << 20), EventReader::new());
            let (mut decoder, mut parts) = (Decoder::default(), Vec::new());
            for piece in [&body[..at], &body[at..]] {
                framer.push(Bytes::copy_from_slice(piece));
                while let Some(frame) = framer.next_frame().expect("within the bound") {
                    for told in reader.read(&frame).into_iter().map(|event| decoder.event(&event)) {
                        assert!(told.error.is_none() && !told.unreadable, "cut at {at}");
                        parts.extend(told.parts);
                    }
                }
                // Had it broken off here, what came would have been the beginning.
                assert!(whole.starts_with(&parts), "cut at {at}");
            }
            assert_eq!(parts, whole, "cut at {at}");
        }
    }
}
