//! Embeddings, counting, paths, and what is not offered.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{chat, with_call};
use crate::{
    catalogue::{DialectKind, ThinkingStyle, capabilities},
    dialects::{
        DialectError, Translation, UpstreamRequest,
        gemini::{count, place},
        testing::{self, body_of},
    },
    domain::ModelName,
    wire::{
        Conversation, Endpoint, Figure, Figures,
        conversation::{Content, Role, Turn},
    },
};

fn embed(body: Value) -> Result<UpstreamRequest, DialectError> {
    testing::send(DialectKind::Gemini, &testing::asked(Endpoint::Embeddings, &body), "gemini-embedding-2")
}

fn translation(request: UpstreamRequest) -> Box<dyn Translation> {
    request.translation.expect("a translation")
}

#[test]
fn one_text_or_several_are_one_batch() {
    let request = embed(json!({
        "model": "gemini/gemini-embedding-2", "input": ["a", "b"], "dimensions": 768, "encoding_format": "float",
        "user": "u", "models": [], "x": null,
    }))
    .expect("a request");
    assert_eq!(request.path, "/models/gemini-embedding-2:batchEmbedContents");
    assert_eq!(request.dropped, ["user"]);
    let one = |text: &str| json!({"model": "models/gemini-embedding-2", "content": {"parts": [{"text": text}]}, "outputDimensionality": 768});
    assert_eq!(body_of(&request), json!({"requests": [one("a"), one("b")]}));
    let single = embed(json!({"model": "m", "input": "a"})).expect("a request");
    assert_eq!(body_of(&single)["requests"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_embeddings_cannot_have_is_refused_by_name() {
    for (body, field) in [
        (json!({"model": "m", "input": [1, 2]}), "input"),
        (json!({"model": "m", "input": [[1, 2], [3]]}), "input"),
        (json!({"model": "m", "input": ["a", 1]}), "input"),
        (json!({"model": "m", "input": []}), "input"),
        (json!({"model": "m"}), "input"),
        (json!({"model": "m", "input": "a", "dimensions": 0}), "dimensions"),
        (json!({"model": "m", "input": "a", "dimensions": "768"}), "dimensions"),
        (json!({"model": "m", "input": "a", "encoding_format": "int8"}), "encoding_format"),
        (json!({"model": "m", "input": "a", "truncate": true}), "truncate"),
    ] {
        let refused = embed(body.clone()).expect_err("refused");
        assert_eq!(refused.field(), Some(field), "{body}");
    }
}

#[test]
fn embeddings_come_as_openai_has_them() {
    let answer = json!({"embeddings": [{"values": [1.0, -2.5]}, {"values": [0.5]}],
        "usageMetadata": {"promptTokenCount": 4, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 4}]}});
    let floats = embed(json!({"model": "m", "input": ["a", "b"]})).expect("a request");
    let (facts, body) = translation(floats).answer(answer.to_string().as_bytes()).expect("an answer");
    assert_eq!(facts.figures, Figures { prompt: Figure::Count(4), ..Figures::default() });
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        body,
        json!({"object": "list", "model": "gemini-embedding-2", "usage": {"prompt_tokens": 4, "total_tokens": 4}, "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, -2.5]},
            {"object": "embedding", "index": 1, "embedding": [0.5]},
        ]})
    );
    let base64 =
        embed(json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64"})).expect("a request");
    let (_, body) = translation(base64).answer(answer.to_string().as_bytes()).expect("an answer");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["data"][0]["embedding"], "AACAPwAAIMA=");
}

#[test]
fn embeddings_without_usage_are_estimated_for_the_client_only() {
    let request = embed(json!({"model": "m", "input": ["abcde", "fghi"]})).expect("a request");
    let (facts, body) =
        translation(request).answer(br#"{"embeddings":[{"values":[1]}]}"#).expect("an answer");
    assert!(facts.figures.is_empty(), "the gateway estimates by itself");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
}

#[test]
fn what_is_no_list_of_embeddings_is_unreadable() {
    for body in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"embeddings":5}"#,
        r#"{"embeddings":[{}]}"#,
        r#"{"embeddings":[{"values":["x"]}]}"#,
    ] {
        let request = embed(json!({"model": "m", "input": "a"})).expect("a request");
        assert!(translation(request).answer(body.as_bytes()).is_err(), "{body}");
    }
    let request = embed(json!({"model": "m", "input": "a"})).expect("a request");
    let failed = br#"{"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}"#;
    let (facts, _) = translation(request).answer(failed).expect("an error");
    assert_eq!(facts.error.and_then(|error| error.status), Some(503));
}

#[test]
fn recorded_embeddings_are_told() {
    for exchange in
        testing::recorded(&[("gemini", "embedContent")]).iter().filter(|exchange| exchange.status == 200)
    {
        let texts = &exchange.request["requests"][0]["content"]["parts"][0]["text"];
        let body = json!({"model": "gemini/gemini-embedding-2", "input": [texts], "dimensions": 768, "encoding_format": "base64"});
        let request = embed(body).expect("a request");
        assert_eq!(body_of(&request), exchange.request, "{}", exchange.id);
        let (facts, body) = translation(request).answer(exchange.body.as_bytes()).expect("an answer");
        assert_eq!(facts.figures.prompt, Figure::Count(4));
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let bytes = STANDARD.decode(body["data"][0]["embedding"].as_str().expect("base64")).expect("base64");
        let recorded: Value = serde_json::from_str(&exchange.body).expect("JSON");
        let values = recorded["embeddings"][0]["values"].as_array().expect("values");
        let floats: Vec<f32> =
            bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect();
        let wanted: Vec<f32> = values.iter().map(|value| value.as_f64().expect("a number") as f32).collect();
        assert_eq!(floats, wanted);
    }
}

#[test]
fn counting_asks_for_the_whole_request_and_costs_nothing() {
    let conversation = Conversation {
        turns: vec![
            Turn::new(Role::System, vec![Content::Text("s".into()).into()]),
            Turn::new(Role::User, vec![Content::Text("u".into()).into()]),
        ],
        choices: 1,
        ..Conversation::default()
    };
    let request = with_call(&chat(), "gemini-3.5-flash", |call| count::request(&conversation, call))
        .expect("a request");
    assert_eq!(request.path, "/models/gemini-3.5-flash:countTokens");
    assert_eq!(
        body_of(&request),
        json!({"generateContentRequest": {
            "model": "models/gemini-3.5-flash", "contents": [{"role": "user", "parts": [{"text": "u"}]}],
            "systemInstruction": {"parts": [{"text": "s"}]}, "generationConfig": {},
        }})
    );
    let mut translation = translation(request);
    let answer = br#"{"totalTokens":31,"promptTokensDetails":[{"modality":"TEXT","tokenCount":31}]}"#;
    let (facts, body) = translation.answer(answer).expect("a count");
    assert_eq!((facts.figures, &body[..]), (Figures::default(), &br#"{"input_tokens":31}"#[..]));
    assert!(translation.answer(b"{}").is_err() && translation.answer(b"[]").is_err());
    let (facts, _) = translation
        .answer(br#"{"error":{"code":404,"status":"NOT_FOUND","message":"m"}}"#)
        .expect("an error");
    assert_eq!(facts.error.and_then(|error| error.status), Some(404));
}

#[test]
fn text_completions_are_not_offered() {
    let asked = testing::asked(Endpoint::Completions, &json!({"model": "m", "prompt": "x"}));
    let refused = testing::send(DialectKind::Gemini, &asked, "gemini-3.5-flash").expect_err("refused");
    assert_eq!(refused, DialectError::UnsupportedEndpoint { path: "/completions" });
}

#[test]
fn a_model_that_would_make_another_path_is_refused() {
    let path = |model: &str| place::path(&ModelName::parse(model).expect("a name"), "generateContent");
    assert_eq!(path("gemini-3.5-flash").as_deref(), Ok("/models/gemini-3.5-flash:generateContent"));
    for hostile in [
        "models/gemini-3.5-flash",
        "../files",
        "..",
        ".",
        "a/b",
        "a:countTokens",
        "a?key=x",
        "a#b",
        "a%2Fb",
        "a&b",
        "a;b",
        "a@b",
        "a=b",
    ] {
        let refused = path(hostile).expect_err("refused");
        assert_eq!(refused.field(), Some("model"), "{hostile}");
    }
}

#[test]
fn every_family_of_models_has_its_way_of_thinking() {
    for (model, thinking, least) in [
        ("gemini-2.0-flash", ThinkingStyle::None, None),
        ("gemini-2.0-flash-lite-001", ThinkingStyle::None, None),
        ("gemini-2.5-pro", ThinkingStyle::Budget, Some("minimal")),
        ("gemini-2.5-pro-preview-tts", ThinkingStyle::None, None),
        ("gemini-2.5-flash", ThinkingStyle::Budget, Some("none")),
        ("gemini-2.5-flash-lite", ThinkingStyle::Budget, Some("none")),
        ("gemini-2.5-flash-image", ThinkingStyle::None, None),
        ("gemini-3-pro-preview", ThinkingStyle::Level, Some("low")),
        ("gemini-3-flash-preview", ThinkingStyle::Level, Some("minimal")),
        ("gemini-3.1-pro-preview", ThinkingStyle::Level, Some("low")),
        ("gemini-3.1-flash-lite", ThinkingStyle::Level, Some("minimal")),
        ("gemini-3.5-flash", ThinkingStyle::Level, Some("minimal")),
        ("gemini-3.8-flash", ThinkingStyle::Level, Some("low")),
        ("gemini-flash-latest", ThinkingStyle::Level, Some("low")),
        ("gemini-4-argon", ThinkingStyle::Level, Some("low")),
        ("gemini-embedding-001", ThinkingStyle::None, None),
        ("text-embedding-004", ThinkingStyle::None, None),
        ("gemma-4-31b-it", ThinkingStyle::None, None),
    ] {
        let found = capabilities(DialectKind::Gemini, model);
        let of_none =
            if thinking == ThinkingStyle::None { None } else { found.efforts.first().map(String::as_str) };
        assert_eq!((found.thinking, of_none), (thinking, least), "{model}");
    }
}
