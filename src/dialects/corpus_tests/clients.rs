//! Clients that insist on the grammar of their words, and what they have heard in the end.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    dialects::{messages::accumulate, responses::follow},
    wire::Endpoint,
};

/// What a client knows of the first choice when an answer is complete.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// Refusals as well.
    pub(super) text: String,
    pub(super) thoughts: String,
    /// Names and arguments.
    pub(super) calls: Vec<(String, Value)>,
    /// Why it ended, in the client's words.
    pub(super) end: String,
    /// Input and output, all classes together.
    pub(super) usage: (Option<u64>, Option<u64>),
}

/// A whole answer.
pub(super) fn heard(client: Endpoint, answer: &Value) -> Heard {
    match client {
        Endpoint::Messages => message(answer),
        Endpoint::Responses => response(answer),
        _ => {
            assert_eq!(answer["object"], "chat.completion", "{answer}");
            completion(answer)
        }
    }
}

/// A stream, its end included.
pub(super) fn heard_stream(client: Endpoint, stream: &str) -> Heard {
    let answer = follows(client, stream);
    match client {
        Endpoint::Messages => message(&answer),
        Endpoint::Responses => response(&answer),
        _ => completion(&answer),
    }
}

/// What a stream adds up to, if it is well formed.
pub(in crate::dialects) fn follows(client: Endpoint, stream: &str) -> Value {
    match client {
        Endpoint::Messages => accumulate(stream),
        Endpoint::Responses => follow(stream),
        _ => chunks(stream),
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn message(message: &Value) -> Heard {
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert!(!word(&message["id"]).is_empty() && message["model"].is_string(), "{message}");
    let usage = |name: &str| message["usage"][name].as_u64();
    let input = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
    let input = input.into_iter().filter_map(usage).reduce(|sum, more| sum + more);
    let mut heard = Heard {
        end: word(&message["stop_reason"]).to_owned(),
        usage: (input, usage("output_tokens")),
        ..Heard::default()
    };
    let mut ids = std::collections::BTreeSet::new();
    for block in message["content"].as_array().expect("content") {
        match word(&block["type"]) {
            "text" => heard.text.push_str(word(&block["text"])),
            "thinking" => heard.thoughts.push_str(word(&block["thinking"])),
            "redacted_thinking" => assert!(block["data"].is_string()),
            "tool_use" => {
                assert!(block["input"].is_object() && ids.insert(word(&block["id"])), "{block}");
                let input = block["input"].get("_raw").unwrap_or(&block["input"]);
                heard.calls.push((word(&block["name"]).to_owned(), input.clone()));
            }
            other => panic!("{other}"),
        }
    }
    assert!(
        ["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"].contains(&heard.end.as_str()),
        "{message}"
    );
    assert!(heard.end != "tool_use" || !heard.calls.is_empty(), "{message}");
    heard
}

fn response(response: &Value) -> Heard {
    assert_eq!(response["object"], "response", "{response}");
    let usage = |name: &str| response["usage"][name].as_u64();
    assert_eq!(
        usage("total_tokens"),
        usage("input_tokens").map(|input| input + usage("output_tokens").expect("both"))
    );
    let mut heard = Heard {
        end: word(&response["status"]).to_owned(),
        usage: (usage("input_tokens"), usage("output_tokens")),
        ..Heard::default()
    };
    for item in response["output"].as_array().expect("output") {
        assert!(!word(&item["id"]).is_empty(), "{item}");
        match word(&item["type"]) {
            "message" => {
                for part in item["content"].as_array().expect("content") {
                    heard.text.push_str(part["text"].as_str().unwrap_or_else(|| word(&part["refusal"])));
                }
            }
            "reasoning" => {
                for part in item["summary"].as_array().expect("a summary") {
                    heard.thoughts.push_str(word(&part["text"]));
                }
            }
            "function_call" => {
                let arguments = word(&item["arguments"]);
                let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into());
                heard.calls.push((word(&item["name"]).to_owned(), arguments));
            }
            other => panic!("{other}"),
        }
    }
    assert!(["completed", "incomplete"].contains(&heard.end.as_str()), "{response}");
    heard
}

fn completion(answer: &Value) -> Heard {
    assert!(!word(&answer["id"]).is_empty() && answer["model"].is_string(), "{answer}");
    assert_eq!(answer["created"], 1_700_000_000);
    let usage = |name: &str| answer["usage"][name].as_u64();
    let choice = &answer["choices"][0];
    let said = &choice["message"];
    assert_eq!((&choice["index"], &said["role"]), (&json!(0), &json!("assistant")), "{answer}");
    let mut heard = Heard {
        text: format!("{}{}", word(&said["content"]), word(&said["refusal"])),
        thoughts: word(&said["reasoning_content"]).to_owned(),
        end: word(&choice["finish_reason"]).to_owned(),
        usage: (usage("prompt_tokens"), usage("completion_tokens")),
        ..Heard::default()
    };
    let mut ids = std::collections::BTreeSet::new();
    for call in said["tool_calls"].as_array().into_iter().flatten() {
        assert!(call["type"] == "function" && ids.insert(word(&call["id"])), "{answer}");
        let arguments = word(&call["function"]["arguments"]);
        let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into());
        heard.calls.push((word(&call["function"]["name"]).to_owned(), arguments));
    }
    assert!(
        ["stop", "length", "tool_calls", "content_filter"].contains(&heard.end.as_str()),
        "{}",
        heard.end
    );
    assert_eq!(heard.end == "tool_calls", !heard.calls.is_empty() && heard.end == "tool_calls");
    heard
}

/// Puts chunks together as OpenAI's SDKs do, and insists on what they only assume: frames of one line without a name, one
/// name for the answer, every choice begun with its role and ended once, calls counted without gaps and named once, and
/// behind the last choice nothing but usage and `[DONE]`.
fn chunks(stream: &str) -> Value {
    let frames: Vec<&str> = stream.strip_suffix("\n\n").expect("whole frames").split("\n\n").collect();
    let (done, frames) = frames.split_last().expect("frames");
    assert_eq!(*done, "data: [DONE]");
    let mut whole = Value::Null;
    let mut choices: BTreeMap<u64, Value> = BTreeMap::new();
    for frame in frames {
        let data = frame.strip_prefix("data: ").expect("no name");
        let chunk: Value = serde_json::from_str(data).expect("a chunk is JSON on one line");
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert!(whole["usage"].is_null(), "nothing but the end follows usage: {frame}");
        let head = json!({"id": chunk["id"], "model": chunk["model"], "created": chunk["created"]});
        if whole.is_null() {
            whole = head;
        } else {
            assert_eq!(whole, head, "one name");
        }
        let list = chunk["choices"].as_array().expect("choices");
        if list.is_empty() {
            assert!(chunk["usage"].is_object(), "{frame}");
            whole["usage"] = chunk["usage"].clone();
        }
        for choice in list {
            take(choice, &mut choices);
        }
    }
    for choice in choices.values() {
        assert!(choice["finish_reason"].is_string(), "every choice ends: {choice}");
    }
    whole["choices"] = choices.into_values().collect();
    whole
}

fn take(choice: &Value, choices: &mut BTreeMap<u64, Value>) {
    let index = choice["index"].as_u64().expect("an index");
    let delta = choice["delta"].as_object().expect("a delta");
    let known = choices.entry(index).or_insert_with(|| json!({"index": index, "finish_reason": null}));
    assert!(known["finish_reason"].is_null(), "nothing of a choice behind its end: {choice}");
    assert_eq!(known["message"].is_null(), delta.contains_key("role"), "the role comes first and once");
    known["finish_reason"] = choice["finish_reason"].clone();
    for (name, value) in delta {
        let message = &mut known["message"];
        match name.as_str() {
            "role" => message[name] = value.clone(),
            "content" | "reasoning_content" | "refusal" => {
                let more = format!("{}{}", word(&message[name]), word(value));
                message[name] = more.into();
            }
            "tool_calls" => {
                if message[name].is_null() {
                    message[name] = json!([]);
                }
                let calls = message[name].as_array_mut().expect("a list");
                for piece in value.as_array().expect("a list") {
                    let at = usize::try_from(piece["index"].as_u64().expect("an index")).expect("small");
                    let function = &piece["function"];
                    match calls.get_mut(at) {
                        Some(call) => {
                            assert!(piece.get("id").is_none() && function.get("name").is_none(), "{piece}");
                            let more = format!(
                                "{}{}",
                                word(&call["function"]["arguments"]),
                                word(&function["arguments"])
                            );
                            call["function"]["arguments"] = more.into();
                        }
                        None => {
                            assert_eq!(at, calls.len(), "calls have no gaps");
                            assert!(
                                !word(&piece["id"]).is_empty() && function["name"].is_string(),
                                "{piece}"
                            );
                            calls.push(piece.clone());
                        }
                    }
                }
            }
            "thinking_blocks" | "annotations" => {
                let list = value.as_array().expect("a list");
                assert!(list.iter().all(|item| item["index"].is_u64()), "what is joined is counted: {value}");
            }
            "extra_content" => assert!(value["google"]["thought_signature"].is_string(), "{value}"),
            other => panic!("{other} is no member of ours"),
        }
    }
}
