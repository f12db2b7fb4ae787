//! For tests of dialects: requests made from JSON, recorded exchanges, and streams fed through a translation.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use super::{
    Asked, Call, ClientHeaders, DialectError, StreamProgress, Translation, UpstreamRequest, dialect,
};
use crate::{
    catalogue::{DialectKind, Quirks, capabilities},
    domain::ModelName,
    wire::{Endpoint, Envelope, Event, EventReader, Figures, Framer, read_request},
};

/// A request to `endpoint` with this body.
pub(crate) fn asked(endpoint: Endpoint, body: &Value) -> Asked {
    asked_text(endpoint, &body.to_string())
}

/// The same of a body whose members keep their order.
pub(crate) fn asked_text(endpoint: Endpoint, body: &str) -> Asked {
    let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 64).expect("an envelope");
    let view = read_request(endpoint, &envelope).unwrap_or_else(|error| panic!("{error}: {body}"));
    Asked::new(endpoint, envelope, view, ClientHeaders::default())
}

/// What a provider of this dialect, without quirks, is sent when `model` is asked.
pub(crate) fn send(kind: DialectKind, asked: &Asked, model: &str) -> Result<UpstreamRequest, DialectError> {
    let model = ModelName::parse(model).expect("a name");
    let call = Call {
        asked,
        quirks: &Quirks::default(),
        capabilities: capabilities(kind, model.as_str()),
        model: &model,
        output_limit: None,
        model_limit: Some(8_192),
        ask_usage: true,
        request_id: "req_1",
        created: 1_700_000_000,
    };
    dialect(kind).request(&call)
}

/// The body that is sent, as a value.
pub(crate) fn body_of(request: &UpstreamRequest) -> Value {
    serde_json::from_slice(&request.body).expect("a body is JSON")
}

/// A recorded exchange.
pub(crate) struct Exchange {
    /// Its file, without the ending.
    pub(crate) id: String,
    pub(crate) api: String,
    pub(crate) status: u16,
    pub(crate) stream: bool,
    /// The request's body; `Null` where it was not recorded.
    pub(crate) request: Value,
    pub(crate) body: String,
}

/// Where chats of OpenAI's dialect were recorded.
pub(crate) const CHATS: [(&str, &str); 21] = [
    ("openai", "chat"),
    ("groq", "chat"),
    ("mistral", "chat"),
    ("xai", "chat"),
    ("deepseek", "chat"),
    ("openrouter", "chat"),
    ("cerebras", "chat"),
    ("perplexity", "chat"),
    ("huggingface", "chat"),
    ("together", "chat"),
    ("azure", "chat"),
    ("alibaba", "chat"),
    ("zai", "chat"),
    ("vllm", "chat"),
    ("vercel-gateway", "chat"),
    ("venice", "chat"),
    ("llamacpp", "chat"),
    ("ollama", "chat"),
    ("snowflake", "chat"),
    ("gemini", "chat"),
    ("writer", "chat_v1"),
];

/// Every recorded exchange of these providers and APIs; empty where the recordings are not at hand.
pub(crate) fn recorded(wanted: &[(&str, &str)]) -> Vec<Exchange> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    if !root.is_dir() {
        println!("skipped: there are no recordings at {}", root.display());
        return Vec::new();
    }
    let folder = |(provider, api): &(&str, &str)| root.join(provider).join(api);
    let mut files: Vec<PathBuf> = wanted
        .iter()
        .map(folder)
        .flat_map(|folder| std::fs::read_dir(folder).expect("the recordings' folder"))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Exchange {
    let text = std::fs::read(file).expect("a recording");
    let recorded: Value = serde_json::from_slice(&text).expect("a recording is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Exchange {
        id: text(&recorded["id"]),
        api: text(&recorded["api"]),
        status: recorded["response"]["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(0),
        stream: recorded["stream"].as_bool().unwrap_or(false),
        request: recorded["request"]["body"].clone(),
        body: text(&recorded["response"]["body"]),
    }
}

/// The events of a stream that came in chunks of so many bytes.
pub(crate) fn events(stream: &[u8], chunk: usize) -> Vec<Event> {
    events_of(stream.chunks(chunk))
}

/// The events of a stream that came in these pieces.
pub(crate) fn events_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut framer = Framer::new(1 << 20);
    let mut reader = EventReader::new();
    let mut events = Vec::new();
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece));
        while let Some(frame) = framer.next_frame().expect("within the bound") {
            events.extend(reader.read(&frame));
        }
    }
    events
}

/// What became of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// What the client was sent, the end included.
    pub(crate) text: String,
    pub(crate) figures: Figures,
    pub(crate) text_bytes: u64,
    pub(crate) finished: bool,
    pub(crate) done: bool,
    pub(crate) failed: bool,
    pub(crate) unreadable: u64,
    pub(crate) meaningful: u64,
}

/// Translates a stream that came in chunks of so many bytes, as the gateway does it.
pub(crate) fn tell(translation: &mut dyn Translation, stream: &[u8], chunk: usize) -> Told {
    tell_events(translation, events(stream, chunk))
}

/// Translates a stream that came in these pieces.
pub(crate) fn tell_pieces(translation: &mut dyn Translation, pieces: &[&[u8]]) -> Told {
    tell_events(translation, events_of(pieces.iter().copied()))
}

fn tell_events(translation: &mut dyn Translation, events: Vec<Event>) -> Told {
    let mut progress = StreamProgress::default();
    let mut told = Told::default();
    let mut text = Vec::new();
    for event in events {
        let (facts, out) = translation.event(&mut progress, &event);
        text.extend_from_slice(&out);
        told.figures.merge_max(&facts.figures.unwrap_or_default());
        told.text_bytes += facts.text_bytes;
        told.unreadable += u64::from(facts.unreadable);
        told.meaningful += u64::from(facts.meaningful);
        told.failed |= facts.error.is_some();
        told.done |= facts.done;
        if facts.done || facts.error.is_some() {
            break;
        }
    }
    told.finished = progress.finished();
    if told.finished && !told.failed {
        text.extend_from_slice(&translation.end());
    }
    told.text = String::from_utf8(text).expect("what is sent is UTF-8");
    told
}

/// Compares with the golden file of this name under `tests/golden`. A file that is missing is written, and the test
/// fails: whoever changes an answer takes the file away, looks at the new one, and commits it.
pub(crate) fn golden(name: &str, actual: &str) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name);
    let Ok(expected) = std::fs::read_to_string(&path) else {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of golden files");
        std::fs::write(&path, actual).expect("a golden file");
        panic!("{name} was missing and has been written: look at it and commit it");
    };
    assert_eq!(actual, expected, "{name} differs");
}

/// A value as golden files have it.
pub(crate) fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a value is JSON");
    text.push('\n');
    text
}

/// JSON text on many lines, its members in their order and its numbers as they are written.
pub(crate) fn indented(json: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut inside, mut escaped) = (0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        if inside {
            out.push(c);
            inside = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                while rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(end) = rest.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                inside = c == '"';
                out.push(c);
            }
        }
    }
    out.push('\n');
    out
}
