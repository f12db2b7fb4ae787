//! Reading Gemini's `usageMetadata`.

use serde::de::Deserializer;
use serde_json::value::RawValue;

use super::{Figure, Figures, Members};

impl Figures {
    /// Reads the JSON text of Gemini's `usageMetadata`. What is not an object reports nothing.
    ///
    /// Google counts what was thought apart from what was said, and what its own tools brought apart from the prompt;
    /// here the one is part of the output and the other of the input, as they are billed.
    pub fn from_gemini_usage(raw: &str) -> Self {
        let mut reported = Reported::default();
        let mut json = serde_json::Deserializer::from_str(raw);
        // An object that breaks off keeps what was read until then.
        let _ = json.deserialize_any(Members(|name: &str, value: &str| reported.read(name, value)));
        reported.figures()
    }
}

/// The counts as Google names them.
#[derive(Default)]
struct Reported {
    prompt: Figure,
    cached: Figure,
    candidates: Figure,
    thoughts: Figure,
    tool_use: Figure,
    total: Figure,
    input_audio: Figure,
    output_audio: Figure,
}

impl Reported {
    fn read(&mut self, name: &str, value: &str) {
        match name {
            "promptTokenCount" => self.prompt.merge_max(Figure::from_json(value)),
            "cachedContentTokenCount" => self.cached.merge_max(Figure::from_json(value)),
            "candidatesTokenCount" => self.candidates.merge_max(Figure::from_json(value)),
            "thoughtsTokenCount" => self.thoughts.merge_max(Figure::from_json(value)),
            "toolUsePromptTokenCount" => self.tool_use.merge_max(Figure::from_json(value)),
            "totalTokenCount" => self.total.merge_max(Figure::from_json(value)),
            // Embeddings write it without the plural.
            "promptTokensDetails" | "promptTokenDetails" | "toolUsePromptTokensDetails" => {
                self.input_audio = plus(self.input_audio, audio(value));
            }
            "candidatesTokensDetails" => self.output_audio = plus(self.output_audio, audio(value)),
            _ => {}
        }
    }

    fn figures(self) -> Figures {
        let prompt = plus(self.prompt, self.tool_use);
        Figures {
            prompt,
            completion: self.completion(prompt),
            total: self.total,
            cache_read: self.cached,
            input_audio: self.input_audio,
            output_audio: self.output_audio,
            reasoning: self.thoughts,
            ..Figures::default()
        }
    }

    /// What was said and what was thought. Some models count thoughts among what was said: then the total has no room
    /// for them beside it.
    fn completion(&self, prompt: Figure) -> Figure {
        if let (Figure::Count(candidates), Figure::Count(thoughts)) = (self.candidates, self.thoughts) {
            let without = prompt.count().unwrap_or(0).checked_add(candidates);
            if without.is_some() && without == self.total.count() && thoughts <= candidates {
                return self.candidates;
            }
        }
        plus(self.candidates, self.thoughts)
    }
}

/// The sum of two counts. What is absent adds nothing; what is impossible stays so.
fn plus(one: Figure, other: Figure) -> Figure {
    match (one, other) {
        (Figure::Absent, figure) | (figure, Figure::Absent) => figure,
        (Figure::Count(a), Figure::Count(b)) => a.checked_add(b).map_or(Figure::Impossible, Figure::Count),
        (Figure::Impossible, _) | (_, Figure::Impossible) => Figure::Impossible,
    }
}

/// The tokens of sound in a list of `{"modality","tokenCount"}`.
fn audio(raw: &str) -> Figure {
    let mut sum = Figure::Absent;
    for entry in serde_json::from_str::<Vec<&RawValue>>(raw).unwrap_or_default() {
        let (mut is_audio, mut count) = (false, Figure::Absent);
        let mut json = serde_json::Deserializer::from_str(entry.get());
        let _ = json.deserialize_any(Members(|name: &str, value: &str| match name {
            "modality" => is_audio = value == "\"AUDIO\"",
            "tokenCount" => count = Figure::from_json(value),
            _ => {}
        }));
        if is_audio {
            sum = plus(sum, count);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::{UsageBounds, UsageRules};

    fn read(usage: &Value) -> Figures {
        Figures::from_gemini_usage(&usage.to_string())
    }

    #[test]
    fn thoughts_are_output_and_what_tools_brought_is_input() {
        let figures = read(&json!({
            "promptTokenCount": 32, "candidatesTokenCount": 25, "totalTokenCount": 4704,
            "toolUsePromptTokenCount": 4610, "thoughtsTokenCount": 37, "serviceTier": "standard",
        }));
        assert_eq!(figures.prompt, Figure::Count(4642));
        assert_eq!(figures.completion, Figure::Count(62));
        assert_eq!(figures.reasoning, Figure::Count(37));
        assert_eq!(figures.total, Figure::Count(4704));
        assert_eq!(figures.cache_read, Figure::Absent);
    }

    #[test]
    fn thoughts_that_the_total_has_no_room_for_are_counted_among_the_candidates() {
        let inclusive = read(&json!({
            "promptTokenCount": 10, "candidatesTokenCount": 50, "thoughtsTokenCount": 30, "totalTokenCount": 60,
        }));
        assert_eq!(inclusive.completion, Figure::Count(50));
        let impossible = read(&json!({
            "promptTokenCount": 10, "candidatesTokenCount": 20, "thoughtsTokenCount": 30, "totalTokenCount": 30,
        }));
        assert_eq!(impossible.completion, Figure::Count(50), "so many thoughts cannot be among them");
        let no_total =
            read(&json!({"promptTokenCount": 1, "candidatesTokenCount": 2, "thoughtsTokenCount": 3}));
        assert_eq!(no_total.completion, Figure::Count(5));
    }

    #[test]
    fn an_answer_of_thoughts_alone_has_output() {
        let figures = read(&json!({"promptTokenCount": 15, "thoughtsTokenCount": 2, "totalTokenCount": 17}));
        assert_eq!((figures.completion, figures.reasoning), (Figure::Count(2), Figure::Count(2)));
        let blocked = read(&json!({"promptTokenCount": 14, "totalTokenCount": 14}));
        assert_eq!((blocked.prompt, blocked.completion), (Figure::Count(14), Figure::Absent));
    }

    #[test]
    fn cached_and_heard_tokens_are_parts_of_the_prompt() {
        let figures = read(&json!({
            "promptTokenCount": 345, "cachedContentTokenCount": 230, "candidatesTokenCount": 37,
            "totalTokenCount": 382,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 40}, {"modality": "TEXT", "tokenCount": 305}],
            "toolUsePromptTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 30}, {"modality": "AUDIO", "tokenCount": 7}],
        }));
        assert_eq!(figures.cache_read, Figure::Count(230));
        assert_eq!(figures.input_audio, Figure::Count(42));
        assert_eq!(figures.output_audio, Figure::Count(7));
        let used = figures.normalise(&UsageRules::default(), &UsageBounds::default());
        assert!(!used.clamped);
        assert_eq!(used.usage.input_total() + used.usage.output_total(), 382);
    }

    #[test]
    fn what_is_no_count_is_flagged_and_what_is_no_object_reports_nothing() {
        assert_eq!(read(&json!({"promptTokenCount": -1})).prompt, Figure::Impossible);
        assert_eq!(
            read(&json!({"promptTokenCount": u64::MAX, "toolUsePromptTokenCount": 1})).prompt,
            Figure::Impossible
        );
        for nothing in
            ["", "null", "[]", "5", "{}", r#"{"trafficType":"ON_DEMAND"}"#, "{\"promptTokensDetails\":5}"]
        {
            assert_eq!(Figures::from_gemini_usage(nothing), Figures::default(), "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn classes_sum_to_googles_total(
            prompt in 0_u64..100_000, cached in 0_u64..100_000, candidates in 0_u64..50_000, thoughts in 1_u64..50_000,
            tools in 0_u64..10_000, heard in 0_u64..1_000,
        ) {
            let figures = read(&json!({
                "promptTokenCount": prompt + heard, "cachedContentTokenCount": cached.min(prompt),
                "candidatesTokenCount": candidates, "thoughtsTokenCount": thoughts, "toolUsePromptTokenCount": tools,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": heard}],
                "totalTokenCount": prompt + heard + candidates + thoughts + tools,
            }));
            let used = figures.normalise(&UsageRules::default(), &UsageBounds::default());
            prop_assert!(!used.clamped);
            prop_assert_eq!(Some(used.usage.input_total() + used.usage.output_total()), figures.total.count());
            prop_assert_eq!(used.usage.reasoning, thoughts);
        }

        #[test]
        fn any_text_is_read_without_harm(raw in "\\PC{0,80}") {
            let _ = Figures::from_gemini_usage(&raw);
        }
    }
}
