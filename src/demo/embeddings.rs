//! Embeddings that mean nothing and are the same each time: unit vectors from a hash of the input.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{answers, service::Refusal};

const DEFAULT_DIMENSIONS: usize = 256;
const MOST_DIMENSIONS: usize = 3072;
const MOST_INPUTS: usize = 2048;

/// The fields of a request that matter here.
#[derive(Deserialize)]
pub(super) struct Asked {
    pub(super) model: String,
    input: Value,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

/// The answer as JSON.
pub(super) fn answer(asked: &Asked) -> Result<Value, Refusal> {
    let inputs = inputs(&asked.input)?;
    let dimensions = asked.dimensions.unwrap_or(DEFAULT_DIMENSIONS);
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(Refusal::invalid("dimensions", "must be from 1 to 3072"));
    }
    let base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refusal::invalid("encoding_format", "must be `float` or `base64`")),
    };
    let mut tokens = 0;
    let mut data = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        tokens += input.tokens;
        let vector = vector(&input.digest, dimensions);
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Value::String(STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    Ok(json!({
        "object": "list",
        "data": data,
        "model": asked.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

struct Input {
    digest: [u8; 32],
    tokens: u64,
}

/// A text, a list of texts, a list of token ids, or a list of such lists.
fn inputs(input: &Value) -> Result<Vec<Input>, Refusal> {
    let wrong = || Refusal::invalid("input", "give a text, or up to 2048 texts, none of them empty");
    let items = match input {
        Value::Array(items) if items.iter().all(Value::is_u64) && !items.is_empty() => vec![input],
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    if items.is_empty() || items.len() > MOST_INPUTS {
        return Err(wrong());
    }
    let read = |item: &Value| match item {
        Value::String(text) if !text.is_empty() => {
            Ok(Input { digest: Sha256::digest(text).into(), tokens: answers::prompt_tokens(text.len()) })
        }
        Value::Array(ids) if !ids.is_empty() && ids.iter().all(Value::is_u64) => {
            let mut hash = Sha256::new();
            ids.iter().filter_map(Value::as_u64).for_each(|id| hash.update(id.to_le_bytes()));
            Ok(Input { digest: hash.finalize().into(), tokens: ids.len() as u64 })
        }
        _ => Err(wrong()),
    };
    items.into_iter().map(read).collect()
}

/// A vector of length 1 in a direction that the digest decides.
fn vector(digest: &[u8; 32], dimensions: usize) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(dimensions + 8);
    for block in 0_u32.. {
        let bytes = Sha256::new().chain_update(digest).chain_update(block.to_le_bytes()).finalize();
        for four in bytes.as_chunks::<4>().0 {
            numbers.push(f64::from(i32::from_le_bytes(*four)) / f64::from(i32::MAX));
        }
        if numbers.len() >= dimensions {
            break;
        }
    }
    numbers.truncate(dimensions);
    let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
    // The length is zero only for a hash of all zeros, which nobody has found.
    numbers.iter().map(|number| (number / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: Value) -> Result<Value, Refusal> {
        answer(&serde_json::from_value(body).unwrap())
    }

    #[test]
    fn vectors_have_length_one_and_depend_on_the_input_only() {
        let of = |text: &str| vector(&Sha256::digest(text).into(), 256);
        let length: f32 = of("a").iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }

    #[test]
    fn floats_and_base64_say_the_same() {
        let floats = ask(json!({"model": "m", "input": "x", "dimensions": 3})).unwrap();
        let packed =
            ask(json!({"model": "m", "input": ["x"], "dimensions": 3, "encoding_format": "base64"})).unwrap();
        let bytes = STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let unpacked: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        assert_eq!(floats["data"][0]["embedding"], json!(unpacked));
        assert_eq!(floats["usage"], json!({"prompt_tokens": 1, "total_tokens": 1}));
    }

    #[test]
    fn inputs_come_in_four_shapes() {
        let count = |input: Value| {
            ask(json!({"model": "m", "input": input})).map(|a| a["data"].as_array().unwrap().len())
        };
        assert_eq!(count(json!("a")).ok(), Some(1));
        assert_eq!(count(json!(["a", "b"])).ok(), Some(2));
        assert_eq!(count(json!([1, 2, 3])).ok(), Some(1));
        assert_eq!(count(json!([[1], [2]])).ok(), Some(2));
        for wrong in [json!(""), json!([]), json!([""]), json!(5), json!([[]]), json!(["a", 1]), json!({})] {
            assert!(count(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
