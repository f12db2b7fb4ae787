//! What holds for any parts.

use proptest::prelude::*;

use super::{accumulate::accumulate, encoder, figures, finish, start, stream, whole};
use crate::{
    dialects::Encoder as _,
    wire::{Finish, Part, What, conversation::Thinking},
};

fn what() -> impl Strategy<Value = What> {
    let text = "[ab\"é ]{0,3}";
    let signature = proptest::option::of("[A-Z]{1,3}");
    let json = proptest::sample::select(
        &["{", "}", "{}", "{\"a\":", "1", "\"x}\"", "[", "]", "null", " ", ",", "\\"][..],
    );
    prop_oneof![
        text.prop_map(What::Text),
        text.prop_map(What::Thought),
        (text, signature.clone())
            .prop_map(|(text, signature)| What::Thinking(Thinking::Open { text, signature })),
        text.prop_map(|data| What::Thinking(Thinking::Sealed { data })),
        text.prop_map(What::Refusal),
        (0..3_u32, "[a.]{0,2}", signature).prop_map(|(index, id, signature)| What::ToolCall {
            index,
            id,
            name: "f".into(),
            signature
        }),
        (0..3_u32, json).prop_map(|(index, json)| What::Arguments { index, json: json.into() }),
        "[A-Z]{0,3}".prop_map(What::TextSignature),
        text.prop_map(|url| What::Citation { url, title: None }),
        (0..9_u64, 0..9_u64).prop_map(|(prompt, completion)| What::Usage(figures(prompt, completion))),
        Just(What::ServiceTier("priority".into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_parts_make_a_well_formed_stream(
        parts in proptest::collection::vec(
            prop_oneof![9 => what(), 1 => Just(start()), 1 => Just(finish(Finish::ToolCalls)), 1 => Just(What::End)],
            0..24,
        ),
        choices in proptest::collection::vec(0..2_u32, 24),
    ) {
        let mut encoder = encoder();
        let mut out = Vec::new();
        for (what, choice) in parts.into_iter().zip(choices) {
            encoder.part(Part { choice, what }, &mut out);
        }
        encoder.end(&mut out);
        accumulate(std::str::from_utf8(&out).expect("UTF-8"));
    }

    #[test]
    fn a_stream_adds_up_to_the_whole_answer(parts in proptest::collection::vec(what(), 0..24)) {
        prop_assert_eq!(accumulate(&stream(parts.clone())), whole(parts));
    }
}
