//! What a client makes of a stream.

use serde_json::{Value, json};

use crate::dialects::testing::events;

/// Puts a stream together as the official SDKs do, and insists on what they only assume: every event has its name,
/// blocks come one after another, each with a start and a stop, and everything is there once.
pub(in crate::dialects) fn accumulate(text: &str) -> Value {
    let mut message = Value::Null;
    let (mut open, mut ended, mut stopped) = (None, false, false);
    let mut arguments = String::new();
    for event in events(text.as_bytes(), usize::MAX) {
        let data: Value = serde_json::from_str(&event.data).expect("an event is JSON");
        assert_eq!(data["type"], event.name, "{text}");
        assert!(!stopped, "nothing follows the end: {text}");
        assert_eq!(message.is_null(), event.name == "message_start", "{text}");
        let block = message["content"].as_array().map_or(0, Vec::len);
        match event.name.as_str() {
            "message_start" => {
                message = data["message"].clone();
                assert_eq!(
                    (&message["content"], &message["stop_reason"]),
                    (&json!([]), &Value::Null),
                    "{text}"
                );
            }
            "content_block_start" => {
                assert!(open.is_none() && !ended, "{text}");
                assert_eq!(data["index"], block, "{text}");
                open = Some(block);
                arguments.clear();
                message["content"].as_array_mut().expect("content").push(data["content_block"].clone());
            }
            "content_block_delta" => {
                let index = open.expect("a block is open");
                assert_eq!(data["index"], index, "{text}");
                let block = &mut message["content"][index];
                let delta = &data["delta"];
                let mut append = |kind: &str, name: &str| {
                    assert_eq!(block["type"], kind, "{text}");
                    let piece = delta[name].as_str().expect("text");
                    assert!(!piece.is_empty(), "{text}");
                    block[name] = json!(format!("{}{piece}", block[name].as_str().expect("text")));
                };
                match delta["type"].as_str().expect("a type") {
                    "text_delta" => append("text", "text"),
                    "thinking_delta" => append("thinking", "thinking"),
                    "signature_delta" => append("thinking", "signature"),
                    "input_json_delta" => {
                        assert_eq!(block["type"], "tool_use", "{text}");
                        arguments.push_str(delta["partial_json"].as_str().expect("text"));
                    }
                    "citations_delta" => {
                        assert_eq!(block["type"], "text", "{text}");
                        let cited = block.as_object_mut().expect("a block").entry("citations");
                        cited
                            .or_insert(json!([]))
                            .as_array_mut()
                            .expect("citations")
                            .push(delta["citation"].clone());
                    }
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                let index = open.take().expect("a block is open");
                assert_eq!(data["index"], index, "{text}");
                if !arguments.is_empty() {
                    let input = serde_json::from_str(&arguments);
                    message["content"][index]["input"] =
                        input.unwrap_or(json!({ "_raw": arguments.trim_end() }));
                }
            }
            "message_delta" => {
                assert!(open.is_none() && !std::mem::replace(&mut ended, true), "{text}");
                for (name, value) in data["delta"].as_object().expect("a delta") {
                    message[name] = value.clone();
                }
                message["usage"] = data["usage"].clone();
            }
            "message_stop" => {
                assert!(ended, "{text}");
                stopped = true;
            }
            other => panic!("{other}"),
        }
    }
    assert!(stopped, "{text}");
    message
}
