//! A client that reads a stream as strictly as OpenAI's own do, and stricter where they differ.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::dialects::testing::events;

/// Reads a stream as strictly as the strictest client, and answers with the response in its last event.
pub(in crate::dialects) fn follow(stream: &str) -> Value {
    let read = events(stream.as_bytes(), usize::MAX);
    let mut items: BTreeMap<u64, Value> = BTreeMap::new();
    let mut done: BTreeMap<u64, Value> = BTreeMap::new();
    let mut open_parts: BTreeMap<(u64, u64), Value> = BTreeMap::new();
    let mut last = Value::Null;
    for (number, event) in read.iter().enumerate() {
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        let kind = data["type"].as_str().expect("a type").to_owned();
        assert_eq!(kind, event.name, "an event has its type for a name");
        assert_eq!(data["sequence_number"], number, "{kind}");
        assert!(last.is_null(), "{kind} after the end");
        match number {
            0 => assert_eq!(kind, "response.created"),
            1 => assert_eq!(kind, "response.in_progress"),
            _ => assert!(!matches!(kind.as_str(), "response.created" | "response.in_progress")),
        }
        if let Some(response) = data.get("response") {
            for name in [
                "id",
                "object",
                "created_at",
                "model",
                "output",
                "parallel_tool_calls",
                "tool_choice",
                "tools",
            ] {
                assert!(!response[name].is_null(), "{kind}: {name}");
            }
            assert_eq!(response["id"], "resp_req_1");
            if number < 2 {
                assert_eq!((&response["status"], &response["output"]), (&json!("in_progress"), &json!([])));
                continue;
            }
            assert_eq!(kind, format!("response.{}", response["status"].as_str().expect("a status")));
            let output: Vec<Value> = done.values().cloned().collect();
            assert_eq!(response["output"], Value::from(output), "the end has every item as it was completed");
            last = response.clone();
            continue;
        }
        let index = data["output_index"].as_u64().expect("a place");
        if kind == "response.output_item.added" {
            assert!(items.insert(index, data["item"].clone()).is_none(), "{index} twice");
            assert_eq!(index + 1, items.len() as u64, "places have no gaps");
            continue;
        }
        assert!(!done.contains_key(&index), "{kind} in an item that is complete");
        let item = items.get_mut(&index).expect("an item is there before what is in it");
        if kind == "response.output_item.done" {
            let complete = &data["item"];
            assert_eq!((&item["type"], &item["id"]), (&complete["type"], &complete["id"]));
            assert!(!open_parts.keys().any(|(place, _)| *place == index), "a part is open");
            match complete["type"].as_str() {
                Some("message") => assert_eq!(complete["content"], item["content"]),
                Some("reasoning") => assert_eq!(complete["summary"], item["summary"]),
                Some("function_call") => {
                    assert_eq!(complete["arguments"], item["arguments"]);
                    assert_eq!(complete["call_id"], item["call_id"]);
                    let twice = |other: &&Value| other["call_id"] == complete["call_id"];
                    assert_eq!(done.values().filter(twice).count(), 0, "one call for each id");
                }
                other => panic!("{other:?}"),
            }
            done.insert(index, complete.clone());
            continue;
        }
        assert_eq!(data["item_id"], item["id"], "{kind}");
        if kind.starts_with("response.function_call_arguments") {
            let arguments = item["arguments"].as_str().expect("text").to_owned();
            match kind.rsplit('.').next() {
                Some("delta") => {
                    item["arguments"] = (arguments + data["delta"].as_str().expect("a delta")).into();
                }
                Some("done") => assert_eq!(data["arguments"], arguments),
                other => panic!("{other:?}"),
            }
            continue;
        }
        let (list, place) = match kind.contains("summary") {
            true => ("summary", "summary_index"),
            false => ("content", "content_index"),
        };
        let place = data[place].as_u64().expect("a place");
        let parts = item[list].as_array_mut().expect("a list");
        if kind.ends_with("part.added") {
            assert_eq!(place, parts.len() as u64, "parts have no gaps");
            assert!(open_parts.is_empty(), "one part at a time");
            parts.push(data["part"].clone());
            open_parts.insert((index, place), Value::Null);
            continue;
        }
        let at = usize::try_from(place).expect("small");
        let part = parts.get_mut(at).expect("a part is there before its text");
        let state = open_parts.get_mut(&(index, place)).expect("it is open");
        let text = if part["type"] == "refusal" { "refusal" } else { "text" };
        match kind.as_str() {
            "response.output_text.delta"
            | "response.refusal.delta"
            | "response.reasoning_summary_text.delta" => {
                assert!(state.is_null(), "its text is complete");
                let more = data["delta"].as_str().expect("a delta");
                part[text] = format!("{}{more}", part[text].as_str().expect("text")).into();
                assert_eq!(kind == "response.output_text.delta", data["logprobs"] == json!([]));
            }
            "response.output_text.annotation.added" => {
                let annotations = part["annotations"].as_array_mut().expect("a list");
                assert_eq!(data["annotation_index"], annotations.len());
                assert!(
                    data["annotation"]["title"].is_string() && data["annotation"]["start_index"].is_u64()
                );
                annotations.push(data["annotation"].clone());
            }
            "response.output_text.done"
            | "response.refusal.done"
            | "response.reasoning_summary_text.done" => {
                assert_eq!(data[text], part[text]);
                *state = true.into();
            }
            "response.content_part.done" | "response.reasoning_summary_part.done" => {
                assert_eq!((&data["part"], &*state), (&*part, &json!(true)));
                open_parts.remove(&(index, place));
            }
            other => panic!("{other} is no event of ours"),
        }
    }
    assert!(!last.is_null(), "there is an end");
    assert_eq!(items.len(), done.len());
    last
}
