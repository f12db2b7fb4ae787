use std::collections::HashMap;

use serde_json::{Value, json};

use super::{
    Decoder,
    testing::{answer, decoded, joined, lines, stream, told},
};
use crate::{
    dialects::{Decoded, Decoder as _, testing::golden},
    wire::{Finish, Part, What},
};

#[test]
fn a_whole_answer_is_taken_apart() {
    let Decoded { parts, error, unreadable } =
        Decoder::default().whole(answer().to_string().as_bytes()).expect("an answer");
    assert!(error.is_none() && !unreadable);
    golden("anthropic/answer.txt", &(lines(&parts).join("\n") + "\n"));
}

#[test]
fn a_stream_is_taken_apart_into_what_the_whole_answer_says() {
    let (parts, failed, unreadable) = decoded(stream(&told()).as_bytes(), usize::MAX);
    assert!(!failed && unreadable == 0);
    golden("anthropic/stream.txt", &(lines(&parts).join("\n") + "\n"));
    let whole = Decoder::default().whole(answer().to_string().as_bytes()).expect("an answer").parts;
    let told = joined(parts.into_iter().filter(|part| !matches!(part.what, What::Usage(_))).collect());
    let mut whole: Vec<Part> =
        whole.into_iter().filter(|part| !matches!(part.what, What::Usage(_))).collect();
    whole.push(Part::first(What::End));
    assert_eq!(lines(&told), lines(&whole));
}

#[test]
fn every_reason_has_its_finish() {
    let finish = |content: Value, reason: Value| {
        let body =
            json!({"type": "message", "content": content, "stop_reason": reason, "stop_sequence": "END"});
        let parts = Decoder::default().whole(body.to_string().as_bytes()).expect("an answer").parts;
        parts.into_iter().find_map(|part| match part.what {
            What::Finish { reason, stop_sequence } => Some((reason, stop_sequence)),
            _ => None,
        })
    };
    for (reason, wanted) in [
        (json!("end_turn"), Finish::Stop),
        (json!("stop_sequence"), Finish::StopSequence),
        (json!("max_tokens"), Finish::Length),
        (json!("model_context_window_exceeded"), Finish::Length),
        (json!("pause_turn"), Finish::Length),
        (json!("tool_use"), Finish::ToolCalls),
        (json!("refusal"), Finish::Filtered),
        (json!("not_heard_of_yet"), Finish::Stop),
        (Value::Null, Finish::Stop),
    ] {
        assert_eq!(finish(json!([]), reason.clone()), Some((wanted, Some("END".into()))), "{reason}");
    }
    let call = json!([{"type": "tool_use", "id": "1", "name": "t", "input": {}}]);
    assert_eq!(finish(call, json!("end_turn")).map(|(reason, _)| reason), Some(Finish::ToolCalls));
}

#[test]
fn a_refusal_is_explained_where_nothing_else_was_said() {
    let refusal = |content: Value| {
        let details = json!({"type": "refusal", "category": "cyber", "explanation": "I cannot."});
        let body =
            json!({"type": "message", "content": content, "stop_reason": "refusal", "stop_details": details});
        lines(&Decoder::default().whole(body.to_string().as_bytes()).expect("an answer").parts)
    };
    assert_eq!(refusal(json!([]))[1..], ["refusal \"I cannot.\"", "finish Filtered None"]);
    assert_eq!(
        refusal(json!([{"type": "text", "text": "No."}]))[1..],
        ["text \"No.\"", "finish Filtered None"]
    );
}

#[test]
fn tools_get_their_names_back_and_always_an_id() {
    let names = HashMap::from([("files_read_0a".to_owned(), "files.read".to_owned())]);
    let call = |name: &str| json!({"type": "tool_use", "name": name, "input": null});
    let body =
        json!({"type": "message", "content": [call("files_read_0a"), call("b")], "stop_reason": "tool_use"});
    let parts = Decoder::new(names).whole(body.to_string().as_bytes()).expect("an answer").parts;
    let calls: Vec<(String, String)> = parts
        .into_iter()
        .filter_map(|part| match part.what {
            What::ToolCall { id, name, .. } => Some((id, name)),
            _ => None,
        })
        .collect();
    assert_eq!((calls[0].1.as_str(), calls[1].1.as_str()), ("files.read", "b"));
    assert!(calls[0].0.starts_with("call_0_") && calls[1].0.starts_with("call_1_"), "{calls:?}");
}

#[test]
fn servers_that_leave_events_out_are_understood() {
    let told = [
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "1", "name": "t", "input": {"a": 1}}}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "2", "name": "t"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "astray"}}),
        json!({"type": "message_stop"}),
    ];
    let (parts, failed, _) = decoded(stream(&told).as_bytes(), 7);
    let wanted = [
        "text \"a\"",
        "call 0 1 t None",
        "arguments 0 {\"a\":1}",
        "call 1 2 t None",
        "arguments 1 {}",
        "finish ToolCalls None",
        "end",
    ];
    assert_eq!(lines(&parts), wanted);
    assert!(!failed);
}

#[test]
fn thoughts_without_a_signature_are_told_and_not_kept() {
    let body = json!({"type": "message", "content": [{"type": "thinking", "thinking": "t"}], "stop_reason": "end_turn"});
    let parts = Decoder::default().whole(body.to_string().as_bytes()).expect("an answer").parts;
    assert_eq!(lines(&parts)[1..], ["thought \"t\"", "finish Stop None"]);
    let silent = json!({"type": "message", "content": [{"type": "thinking", "thinking": "", "signature": "s"}], "stop_reason": "end_turn"});
    let parts = Decoder::default().whole(silent.to_string().as_bytes()).expect("an answer").parts;
    assert_eq!(lines(&parts)[1..], ["thinking \"\" Some(\"s\")", "finish Stop None"]);
}

#[test]
fn what_comes_behind_the_end_of_a_message_is_not_told() {
    let mut late = told();
    let at = late.iter().position(|data| data["delta"]["stop_reason"] == "tool_use").expect("the reason");
    let end = late.remove(at);
    let first = late.iter().position(|data| data["delta"]["text"] == "it up.").expect("text");
    late.insert(first, end);
    let (parts, failed, unreadable) = decoded(stream(&late).as_bytes(), usize::MAX);
    assert!(!failed && unreadable == 0);
    let finish = parts.iter().position(|part| matches!(part.what, What::Finish { .. })).expect("a finish");
    let behind = &parts[finish + 1..];
    assert!(behind.iter().all(|part| matches!(part.what, What::Usage(_) | What::End)), "{:?}", lines(behind));
}
