//! Recorded traffic, read the way the gateway reads it, judged by a plain JSON reading of the same bytes.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use super::OpenAi;
use crate::{
    catalogue::Quirks,
    dialects::{AnswerFacts, Dialect, StreamProgress},
    wire::{Endpoint, EventReader, Figures, Framer},
};

struct Exchange {
    id: String,
    endpoint: Endpoint,
    status: u16,
    stream: bool,
    body: String,
}

/// Every recorded exchange in this dialect; empty where the recordings are not at hand.
fn exchanges() -> Vec<Exchange> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    if !root.is_dir() {
        println!("skipped: there are no recordings at {}", root.display());
        return Vec::new();
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for provider in entries(root) {
        for (api, _) in ENDPOINTS {
            files.extend(entries(&provider.join(api)));
        }
    }
    files.sort();
    let found: Vec<Exchange> = files.iter().filter_map(|file| read(file)).collect();
    assert!(found.len() > 100, "only {} exchanges were read", found.len());
    found
}

const ENDPOINTS: [(&str, Endpoint); 3] = [
    ("chat", Endpoint::ChatCompletions),
    ("completions", Endpoint::Completions),
    ("embeddings", Endpoint::Embeddings),
];

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .map_or_else(|_| Vec::new(), |dir| dir.flatten().map(|entry| entry.path()).collect())
}

fn read(file: &Path) -> Option<Exchange> {
    let recorded: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    if recorded["request"]["path"].as_str().is_some_and(|path| path.starts_with("/api/embeddings")) {
        return None; // Ollama's native shape
    }
    let api = recorded["api"].as_str()?;
    Some(Exchange {
        id: recorded["id"].as_str()?.to_owned(),
        endpoint: ENDPOINTS.iter().find(|(name, _)| *name == api)?.1,
        status: u16::try_from(recorded["response"]["status"].as_u64()?).ok()?,
        stream: recorded["response"]["body"].as_str()?.lines().any(|line| line.starts_with("data:")),
        body: recorded["response"]["body"].as_str()?.to_owned(),
    })
}

/// What came of reading a stream.
#[derive(Default, PartialEq, Debug)]
struct Read {
    figures: Figures,
    finished: bool,
    done: bool,
    failed: bool,
    unreadable: u64,
    meaningful: u64,
    usage_only: u64,
    text_bytes: u64,
    frames: Vec<Bytes>,
}

fn read_stream(exchange: &Exchange, chunk: usize) -> Read {
    let mut framer = Framer::new(1 << 20);
    let mut reader = EventReader::new();
    let mut progress = StreamProgress::default();
    let mut read = Read::default();
    for chunk in exchange.body.as_bytes().chunks(chunk) {
        framer.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = framer.next_frame().expect("within the bound") {
            if let Some(event) = reader.read(&frame) {
                let facts = OpenAi.read_event(exchange.endpoint, &Quirks::default(), &mut progress, &event);
                read.figures.merge_max(&facts.figures.unwrap_or_default());
                read.done |= facts.done;
                read.failed |= facts.error.is_some();
                read.unreadable += u64::from(facts.unreadable);
                read.meaningful += u64::from(facts.meaningful);
                read.usage_only += u64::from(facts.usage_only);
                read.text_bytes += facts.text_bytes;
            }
            read.frames.push(frame);
        }
    }
    assert!(framer.into_rest().is_empty(), "{}: recordings are whole", exchange.id);
    read.finished = progress.finished();
    read
}

/// The same, by line and by tree.
#[derive(Default)]
struct Judged {
    prompt: Option<u64>,
    completion: Option<u64>,
    finished: bool,
    text: bool,
}

fn judge(body: &str) -> Judged {
    let mut judged = Judged::default();
    let mut choices = std::collections::BTreeMap::new();
    for line in body.lines() {
        let Some(chunk) =
            line.strip_prefix("data:").and_then(|data| serde_json::from_str::<Value>(data).ok())
        else {
            continue;
        };
        for usage in [&chunk["usage"], &chunk["x_groq"]["usage"]] {
            judged.prompt = judged.prompt.max(usage["prompt_tokens"].as_u64());
            judged.completion = judged.completion.max(usage["completion_tokens"].as_u64());
        }
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let reason = choice["finish_reason"].as_str().is_some_and(|reason| !reason.is_empty());
            *choices.entry(choice["index"].as_u64().unwrap_or(0)).or_insert(false) |= reason;
            let texts = [&choice["text"], &choice["delta"]["content"], &choice["delta"]["reasoning_content"]];
            judged.text |= texts.iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty()));
        }
    }
    let done = body.contains("data: [DONE]");
    judged.finished = !choices.is_empty() && (done || choices.values().all(|finished| *finished));
    judged
}

#[test]
fn recorded_streams_are_read_to_their_own_figures_and_ends() {
    let streams: Vec<Exchange> = exchanges().into_iter().filter(|exchange| exchange.stream).collect();
    for exchange in &streams {
        let read = read_stream(exchange, usize::MAX);
        let id = &exchange.id;
        assert_eq!(read.frames.concat(), exchange.body.as_bytes(), "{id}");
        assert_eq!(read.unreadable, 0, "{id}");
        let judged = judge(&exchange.body);
        assert_eq!(read.figures.prompt.count(), judged.prompt, "{id}");
        assert_eq!(read.figures.completion.count(), judged.completion, "{id}");
        assert_eq!(read.finished, judged.finished, "{id}");
        assert!(read.text_bytes > 0 || !judged.text, "{id}");
        assert!(read.meaningful > 0 || read.failed, "{id}");
        assert!(read.finished || read.failed || !read.done, "{id}: ended without a finish reason");
        for cut in [1, 2, 7, 1000] {
            assert_eq!(read_stream(exchange, cut), read, "{id} in chunks of {cut}");
        }
    }
}

#[test]
fn recorded_quirks_are_seen() {
    for exchange in exchanges() {
        let id = exchange.id.as_str();
        match id {
            "groq/chat/pydantic-ai--test-tool-use-failed-error-streaming"
            | "openrouter/chat/pydantic-ai--test-openrouter-stream-error" => {
                assert!(read_stream(&exchange, 64).failed, "{id}");
            }
            "perplexity/chat/ai--perplexity-citations" => {
                let read = read_stream(&exchange, 64);
                assert!(read.finished && !read.done && read.usage_only == 0, "{id}");
            }
            "azure/chat/fantasy--simple-streaming" => {
                assert_eq!(read_stream(&exchange, 64).usage_only, 1, "{id}")
            }
            _ => {}
        }
    }
}

#[test]
fn recorded_answers_and_errors_are_read() {
    for exchange in exchanges().iter().filter(|exchange| !exchange.stream) {
        let id = &exchange.id;
        let value: Value = serde_json::from_str(&exchange.body).unwrap_or(Value::Null);
        if exchange.status >= 400 {
            let error = OpenAi.read_error(exchange.status, exchange.body.as_bytes());
            assert!(!error.message.is_empty(), "{id}");
            let said = [&value["error"]["message"], &value["error"], &value["message"], &value["detail"]];
            if said.iter().any(|text| text.is_string()) {
                assert!(!error.message.contains("no readable message"), "{id}: {}", error.message);
            }
            assert!(!error.billing && !error.context_length, "{id}");
            continue;
        }
        let read = |body: &str| {
            OpenAi
                .read_answer(exchange.endpoint, &Quirks::default(), body.as_bytes())
                .unwrap_or_else(|unreadable| panic!("{id}: {unreadable}"))
        };
        let AnswerFacts { figures, error, .. } = read(&exchange.body);
        assert!(error.is_none(), "{id}");
        let usage = &value["usage"];
        if exchange.endpoint == Endpoint::Embeddings {
            assert!(figures.prompt.count() > Some(0), "{id}");
        } else {
            assert_eq!(figures.prompt.count(), usage["prompt_tokens"].as_u64(), "{id}");
            assert_eq!(figures.completion.count(), usage["completion_tokens"].as_u64(), "{id}");
            let said = value["choices"].as_array().into_iter().flatten().any(|choice| {
                let texts = [&choice["text"], &choice["message"]["content"]];
                texts.iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty()))
            });
            let mut silent = value.clone();
            silent["usage"] = Value::Null;
            assert!(read(&silent.to_string()).text_bytes > 0 || !said, "{id}: counted without usage");
        }
    }
}
