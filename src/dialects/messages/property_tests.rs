use proptest::prelude::*;
use serde_json::Value;

use super::{
    Anthropic, Decoder,
    testing::{event, told},
};
use crate::{
    catalogue::Quirks,
    dialects::{Decoder as _, Dialect, StreamProgress},
    wire::{Endpoint, Event, What},
};

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("message_start"),
        Just("content_block_start"),
        Just("content_block_delta"),
        Just("content_block_stop"),
        Just("message_delta"),
        Just("message_stop"),
        Just("error"),
        Just("text"),
        Just("thinking"),
        Just("tool_use"),
        Just("text_delta"),
        Just("thinking_delta"),
        Just("signature_delta"),
        Just("input_json_delta"),
        Just("end_turn"),
        Just("{\"a\":1}"),
        Just("é\\\n\""),
    ];
    let name = prop_oneof![
        Just("type"),
        Just("message"),
        Just("index"),
        Just("content_block"),
        Just("delta"),
        Just("usage"),
        Just("text"),
        Just("thinking"),
        Just("signature"),
        Just("partial_json"),
        Just("stop_reason"),
        Just("content"),
        Just("input"),
        Just("name"),
        Just("id"),
        Just("data"),
        Just("citations"),
        Just("citation"),
        Just("input_tokens"),
        Just("iterations"),
    ];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..3_u64).prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An event of the recorded kind with something else in one of its places.
fn mutated() -> impl Strategy<Value = Value> {
    (0..told().len(), any_json(), 0..8_usize).prop_map(|(at, odd, place)| {
        let mut event = told().swap_remove(at);
        let places = [
            "/delta",
            "/content_block",
            "/message",
            "/usage",
            "/index",
            "/delta/type",
            "/content_block/type",
            "/type",
        ];
        if let Some(found) = event.pointer_mut(places[place]) {
            *found = odd;
        }
        event
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_borne(told in proptest::collection::vec(prop_oneof![any_json(), mutated()], 0..12)) {
        let mut decoder = Decoder::default();
        let mut progress = StreamProgress::default();
        let (mut finishes, mut starts, mut calls) = (0, 0, Vec::new());
        for data in &told {
            let event = event(data);
            let _ = Anthropic.read_event(Endpoint::Messages, &Quirks::default(), &mut progress, &event);
            for part in decoder.event(&event).parts {
                match part.what {
                    What::Finish { .. } => finishes += 1,
                    What::Start { .. } => starts += 1,
                    What::ToolCall { index, id, .. } => {
                        prop_assert!(!id.is_empty());
                        prop_assert_eq!(index as usize, calls.len());
                        calls.push(String::new());
                    }
                    What::Arguments { index, json } => calls[index as usize].push_str(&json),
                    _ => {}
                }
            }
            let whole = data.to_string();
            let _ = Decoder::default().whole(whole.as_bytes());
            let _ = Anthropic.read_answer(Endpoint::Messages, &Quirks::default(), whole.as_bytes());
            let _ = Anthropic.read_error(500, whole.as_bytes());
        }
        prop_assert!(finishes <= 1 && starts <= 1);
        prop_assert!(finishes == 0 || calls.iter().take(calls.len().saturating_sub(1)).all(|call| !call.is_empty()));
    }

    #[test]
    fn any_text_is_borne(data in "\\PC{0,60}", name in "(error|message_start|)") {
        let event = Event { name, data };
        let _ = Decoder::default().event(&event);
        let _ = Anthropic.read_event(Endpoint::Messages, &Quirks::default(), &mut StreamProgress::default(), &event);
    }
}
