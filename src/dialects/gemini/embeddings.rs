//! OpenAI's embeddings, asked of Gemini's `batchEmbedContents`.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{error, place, read};
use crate::{
    dialects::{
        AnswerFacts, Call, DialectError, EventFacts, StreamProgress, Translation, Unreadable, UpstreamRequest,
    },
    wire::{ErrorObject, Event},
};

/// Bytes of text that stand for a token where Google counts none.
const BYTES_A_TOKEN: u64 = 4;

#[derive(Serialize)]
struct Batch<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Text<'a>; 1],
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

/// Asks for the embeddings of the request in `call`.
pub(super) fn request(call: &Call<'_>) -> Result<UpstreamRequest, DialectError> {
    let path = place::path(call.model, "batchEmbedContents")?;
    let model = place::resource(call.model)?;
    let mut inputs = None;
    let mut dimensions = None;
    let mut dropped = Vec::new();
    for (name, raw) in call.asked.envelope.iter().filter(|(_, raw)| *raw != "null") {
        match name {
            // The gateway's own; and embeddings are never streamed.
            "model" | "models" | "stream" | "stream_options" => {}
            "input" => inputs = Some(texts(raw)?),
            "dimensions" => {
                let wanted = serde_json::from_str(raw).ok().filter(|dimensions: &u32| *dimensions > 0);
                dimensions = Some(
                    wanted.ok_or_else(|| DialectError::wrong_shape(name, "a whole number of dimensions"))?,
                );
            }
            "encoding_format" if matches!(raw, "\"float\"" | "\"base64\"") => {}
            "encoding_format" => return Err(DialectError::wrong_shape(name, "`float` or `base64`")),
            "user" => dropped.push("user"),
            _ => {
                return Err(DialectError::unsupported(
                    name,
                    "is not known to Gemini's embeddings; leave it out",
                ));
            }
        }
    }
    let inputs = inputs.ok_or_else(|| DialectError::wrong_shape("input", "a text, or an array of texts"))?;
    let one = |text| One {
        model: &model,
        content: Content { parts: [Text { text }] },
        output_dimensionality: dimensions,
    };
    let batch = Batch { requests: inputs.iter().map(|text| one(text.as_str())).collect() };
    let translation = Embedded {
        model: call.model.as_str().to_owned(),
        base64: call.asked.view.base64_embeddings,
        estimate: call.asked.view.text_bytes.div_ceil(BYTES_A_TOKEN),
    };
    Ok(UpstreamRequest {
        path: path.into(),
        body: place::json(&batch),
        translation: Some(Box::new(translation)),
        dropped,
        ..UpstreamRequest::default()
    })
}

/// The texts of an `input`.
fn texts(raw: &str) -> Result<Vec<String>, DialectError> {
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return Ok(vec![text]);
    }
    let wanted = || DialectError::wrong_shape("input", "a text, or an array of texts");
    let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| wanted())?;
    // Numbers are tokens, of one input or in arrays of several.
    if items.iter().any(|item| !item.get().starts_with('"')) {
        return Err(DialectError::unsupported(
            "input",
            "has tokens, which mean nothing to Gemini; send texts",
        ));
    }
    let texts: Vec<String> = items
        .iter()
        .map(|item| serde_json::from_str(item.get()))
        .collect::<Result<_, _>>()
        .map_err(|_| wanted())?;
    if texts.is_empty() { Err(wanted()) } else { Ok(texts) }
}

/// Google's embeddings as OpenAI's.
struct Embedded {
    model: String,
    base64: bool,
    /// Tokens that were asked about, for the client where Google counts none.
    estimate: u64,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    embeddings: Option<Vec<Values<'a>>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Embedding<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding<'a> {
    Floats(&'a RawValue),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

impl Translation for Embedded {
    fn answer(&mut self, body: &[u8]) -> Result<(AnswerFacts, Bytes), Unreadable> {
        const NONE: Unreadable = Unreadable("not a list of embeddings");
        let text = read::text(body)?;
        let answer: Answer<'_> = serde_json::from_str(text).map_err(|_| NONE)?;
        let mut facts = AnswerFacts { figures: read::usage_of(text), ..AnswerFacts::default() };
        if let Some(raw) = answer.error {
            facts.error = Some(error::inside(raw.get()));
            return Ok((facts, Bytes::new()));
        }
        let mut data = Vec::new();
        for (index, Values { values }) in answer.embeddings.ok_or(NONE)?.into_iter().enumerate() {
            let floats: Vec<f32> = serde_json::from_str(values.get()).map_err(|_| NONE)?;
            let embedding = if self.base64 {
                let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
                Embedding::Base64(STANDARD.encode(bytes))
            } else {
                Embedding::Floats(values)
            };
            data.push(Item { object: "embedding", index, embedding });
        }
        let tokens = facts.figures.prompt.count().unwrap_or(self.estimate);
        let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
        Ok((facts, place::json(&List { object: "list", data, model: &self.model, usage })))
    }

    fn answer_as_stream(&mut self, body: &[u8]) -> Result<(AnswerFacts, Bytes), Unreadable> {
        self.answer(body)
    }

    fn event(&mut self, _progress: &mut StreamProgress, _event: &Event) -> (EventFacts, Bytes) {
        // Embeddings are never streamed.
        (EventFacts { unreadable: true, ..EventFacts::default() }, Bytes::new())
    }

    fn end(&mut self) -> Bytes {
        Bytes::new()
    }

    fn error(&mut self, error: &ErrorObject) -> Bytes {
        error.to_event()
    }
}
