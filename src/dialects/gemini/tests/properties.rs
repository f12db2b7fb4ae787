//! Whatever comes, nothing breaks.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    decode::{full, stream},
    tell,
};
use crate::{
    dialects::{Decoder as _, gemini::Decoder},
    wire::{Event, What},
};

fn any_json() -> impl Strategy<Value = Value> {
    let names = proptest::sample::select(
        &[
            "candidates",
            "content",
            "parts",
            "text",
            "thought",
            "thoughtSignature",
            "functionCall",
            "name",
            "args",
            "id",
            "finishReason",
            "index",
            "usageMetadata",
            "promptFeedback",
            "blockReason",
            "error",
            "groundingMetadata",
            "groundingChunks",
            "web",
            "uri",
            "partialArgs",
            "jsonPath",
            "stringValue",
            "willContinue",
            "responseId",
            "promptTokenCount",
            "candidatesTokenCount",
            "code",
            "status",
            "details",
        ][..],
    );
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[$.a-z\\[\\]0-9]{0,12}".prop_map(Value::from),
        proptest::sample::select(&["STOP", "SAFETY", "MALFORMED_RESPONSE", "$.a", "AUDIO"][..])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(names.clone(), inner, 0..6).prop_map(|map| Value::Object(
                map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_taken_apart_without_harm(values in proptest::collection::vec(any_json(), 1..5)) {
        let mut decoder = Decoder::default();
        for value in &values {
            decoder.event(&Event { name: "message".into(), data: value.to_string() });
        }
        let _ = Decoder::default().whole(Value::Array(values).to_string().as_bytes());
    }

    #[test]
    fn any_change_to_an_answer_is_taken_apart_without_harm(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let stream = stream(&full());
        let mut bytes = stream.into_bytes();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        let told = tell(&bytes, 1000);
        prop_assert_eq!(tell(&bytes, 7), told, "however it is cut");
    }

    #[test]
    fn parts_come_in_an_order_that_can_be_said(values in proptest::collection::vec(any_json(), 1..5)) {
        let mut decoder = Decoder::default();
        let mut finished = std::collections::BTreeSet::new();
        for value in &values {
            let data = json!({"candidates": value, "usageMetadata": {}}).to_string();
            for part in decoder.event(&Event { name: "message".into(), data }).parts {
                let apart = matches!(part.what, What::Start { .. } | What::Usage(_) | What::ServiceTier(_));
                prop_assert!(apart || !finished.contains(&part.choice), "nothing of a choice behind its end");
                if matches!(part.what, What::Finish { .. }) {
                    finished.insert(part.choice);
                }
                prop_assert!(part.what != What::End);
            }
        }
    }
}
