//! Reading the `usage` of OpenAI's Responses.

use serde::de::Deserializer;

use super::{Figure, Figures, Members};

impl Figures {
    /// Reads the JSON text of the `usage` of OpenAI's Responses. What is not an object reports nothing.
    pub fn from_responses_usage(raw: &str) -> Self {
        let mut figures = Self::default();
        let mut json = serde_json::Deserializer::from_str(raw);
        // An object that breaks off keeps what was read until then.
        let _ = json.deserialize_any(Members(|name: &str, value: &str| match name {
            "input_tokens" => figures.prompt.merge_max(Figure::from_json(value)),
            "output_tokens" => figures.completion.merge_max(Figure::from_json(value)),
            "total_tokens" => figures.total.merge_max(Figure::from_json(value)),
            "input_tokens_details" => {
                figures.read_prompt_details(value);
                figures.read_cache_times(value);
            }
            "output_tokens_details" => figures.read_completion_details(value),
            _ => {}
        }));
        figures
    }

    /// How long what was written to the cache is kept. Twelve hours count as the longer of the two classes there are,
    /// and are taken out of the shorter one, which counts both.
    fn read_cache_times(&mut self, raw: &str) {
        let mut long = Figure::Absent;
        let mut json = serde_json::Deserializer::from_str(raw);
        let _ = json.deserialize_any(Members(|name: &str, value: &str| {
            if name == "cache_write_tokens_details" {
                let mut json = serde_json::Deserializer::from_str(value);
                let _ = json.deserialize_any(Members(|name: &str, value: &str| {
                    if name == "ttl_12h_tokens" {
                        long.merge_max(Figure::from_json(value));
                    }
                }));
            }
        }));
        if let (Figure::Count(all), Figure::Count(long)) = (self.cache_write, long) {
            self.cache_write = Figure::Count(all.saturating_sub(long));
        }
        self.cache_write_1h.merge_max(long);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{UsageBounds, UsageRules};

    #[test]
    fn classes_are_read_and_disjoint() {
        let figures = Figures::from_responses_usage(
            r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":30,"cache_write_tokens":20,
                "cache_write_tokens_details":{"ttl_30m_tokens":13,"ttl_12h_tokens":7}},"output_tokens":40,
                "output_tokens_details":{"reasoning_tokens":15},"total_tokens":140,"cost":8.6e-06,"is_byok":false}"#,
        );
        let found = figures.normalise(&UsageRules::default(), &UsageBounds::default());
        let usage = found.usage;
        assert_eq!((usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h), (50, 30, 13, 7));
        assert_eq!((usage.output, usage.reasoning, found.clamped), (40, 15, false));
        assert_eq!(figures.total, Figure::Count(140));
    }

    #[test]
    fn what_reports_nothing_is_nothing() {
        for nothing in ["null", "[]", "3", "{}", "\"x\"", "{\"total_tokens\":3}", "{\"prompt_tokens\":3}"] {
            assert!(Figures::from_responses_usage(nothing).is_empty(), "{nothing}");
        }
        let nulls = Figures::from_responses_usage(
            r#"{"input_tokens":1,"output_tokens":2,"input_tokens_details":null}"#,
        );
        assert_eq!(
            (nulls.prompt, nulls.completion, nulls.cache_read),
            (Figure::Count(1), Figure::Count(2), Figure::Absent)
        );
    }

    proptest! {
        #[test]
        fn input_of_every_class_is_the_input_told(
            read in 0..400_u64,
            short in 0..300_u64,
            long in 0..300_u64,
            output in 0..1_000_u64,
        ) {
            let raw = serde_json::json!({
                "input_tokens": 1_000, "output_tokens": output, "total_tokens": 1_000 + output,
                "input_tokens_details": { "cached_tokens": read, "cache_write_tokens": short + long,
                    "cache_write_tokens_details": { "ttl_30m_tokens": short, "ttl_12h_tokens": long } },
            });
            let figures = Figures::from_responses_usage(&raw.to_string());
            let found = figures.normalise(&UsageRules::default(), &UsageBounds::default());
            prop_assert!(!found.clamped);
            prop_assert_eq!(found.usage.input_total() + found.usage.output_total(), 1_000 + output);
            prop_assert_eq!((found.usage.cache_write, found.usage.cache_write_1h), (short, long));
        }

        #[test]
        fn any_text_is_read_without_a_panic(raw in "\\PC{0,60}") {
            let _ = Figures::from_responses_usage(&raw);
        }
    }
}
