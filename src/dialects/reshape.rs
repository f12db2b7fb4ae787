//! Two answers that come in another shape than the client asked for: float embeddings where base64 was wanted, and a
//! whole answer where a stream was.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use crate::wire::{Edit, Envelope};

/// Deeper than any answer; the scan behind it is not recursive.
const DEPTH: usize = 128;

/// Rewrites float embeddings as the official SDKs ask for them: little-endian 32-bit floats in base64. Everything else
/// stays as it came. `None` when there is nothing to rewrite: an answer that is base64 already passes untouched.
pub fn embeddings_to_base64(answer: &Bytes) -> Option<Bytes> {
    let envelope = Envelope::split(answer.clone(), DEPTH).ok()?;
    let items: Vec<&RawValue> = serde_json::from_str(envelope.raw("data")?).ok()?;
    let mut data = String::from("[");
    let mut any = false;
    for (place, item) in items.iter().enumerate() {
        let item = Envelope::split(Bytes::copy_from_slice(item.get().as_bytes()), DEPTH).ok()?;
        if place > 0 {
            data.push(',');
        }
        let rewritten = match serde_json::from_str::<Vec<f32>>(item.raw("embedding")?) {
            Ok(floats) => {
                any = true;
                let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
                item.render(&[Edit::text("embedding", &STANDARD.encode(bytes))])
            }
            // Base64 already.
            Err(_) => item.render(&[]),
        };
        data.push_str(std::str::from_utf8(&rewritten).ok()?);
    }
    data.push(']');
    any.then(|| envelope.render(&[Edit::Set { name: "data", value: data }]))
}

/// Turns a whole chat or text completion into a stream of one chunk, the usage chunk if it was asked for, and `[DONE]`.
/// `None` when it has no choices.
pub fn whole_to_stream(answer: &[u8], include_usage: bool) -> Option<Bytes> {
    let mut whole: Value = serde_json::from_slice(answer).ok()?;
    let usage = whole.as_object_mut()?.remove("usage");
    let choices = whole.get_mut("choices")?.as_array_mut()?;
    for choice in choices {
        let choice = choice.as_object_mut()?;
        let Some(mut delta) = choice.remove("message") else { continue };
        if let Some(calls) = delta.get_mut("tool_calls").and_then(Value::as_array_mut) {
            for (index, call) in calls.iter_mut().enumerate() {
                call.as_object_mut()?.insert("index".into(), json!(index));
            }
        }
        choice.insert("delta".into(), delta);
    }
    if whole.get("object").and_then(Value::as_str) == Some("chat.completion") {
        whole["object"] = json!("chat.completion.chunk");
    }
    let mut stream = format!("data: {whole}\n\n");
    if let Some(usage) = usage.filter(|_| include_usage) {
        let mut last = whole;
        last["choices"] = json!([]);
        last["usage"] = usage;
        stream.push_str(&format!("data: {last}\n\n"));
    }
    stream.push_str("data: [DONE]\n\n");
    Some(stream.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_become_base64_and_everything_else_stays_in_order() {
        let answer = Bytes::from_static(
            br#"{"model":"m","data":[{"index":0,"embedding":[1.0,-2.5],"x":1e2}],"usage":{"prompt_tokens":3}}"#,
        );
        let rewritten = embeddings_to_base64(&answer).expect("embeddings");
        let expected = r#"{"model":"m","data":[{"index":0,"embedding":"AACAPwAAIMA=","x":1e2}],"usage":{"prompt_tokens":3}}"#;
        assert_eq!(rewritten, expected.as_bytes());
        assert_eq!(embeddings_to_base64(&rewritten), None, "once is enough");
    }

    #[test]
    fn what_is_no_list_of_embeddings_is_left_alone() {
        for other in ["[]", "{}", r#"{"data":5}"#, r#"{"data":[{}]}"#, "nonsense"] {
            assert_eq!(embeddings_to_base64(&Bytes::from(other)), None, "{other}");
        }
    }

    #[test]
    fn a_whole_answer_becomes_a_stream_with_contiguous_tool_indexes() {
        let answer = br#"{"id":"c","object":"chat.completion","choices":[{"index":0,"finish_reason":"tool_calls",
            "message":{"role":"assistant","content":null,"tool_calls":[{"id":"a"},{"id":"b"}]}}],"usage":{"total_tokens":1}}"#;
        let stream = whole_to_stream(answer, true).expect("a stream");
        let text = std::str::from_utf8(&stream).expect("text");
        let events: Vec<&str> = text.split("\n\n").collect();
        assert_eq!(events.len(), 4);
        let first: Value = serde_json::from_str(&events[0][6..]).expect("a chunk");
        assert_eq!(first["object"], "chat.completion.chunk");
        assert_eq!(first["choices"][0]["delta"]["tool_calls"][1]["index"], 1);
        assert_eq!(first.get("usage"), None);
        let usage: Value = serde_json::from_str(&events[1][6..]).expect("a chunk");
        assert_eq!(usage["usage"]["total_tokens"], 1);
        assert_eq!(events[2], "data: [DONE]");
        assert_eq!(whole_to_stream(br#"{"object":"list"}"#, true), None);
    }
}
