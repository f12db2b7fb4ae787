//! What a provider says was used, and what of it can be true.
//!
//! [`Figures`] are kept as reported: absent, a count, or impossible. Figures of one stream are cumulative and merge by
//! maximum. [`Figures::normalise`] makes disjoint classes of them and clamps what cannot be, saying so.

mod anthropic;
mod gemini;
mod responses;

pub use anthropic::AnthropicUsage;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

use crate::domain::TokenUsage;

/// The context window assumed for a model whose own is not known, in tokens.
pub const UNKNOWN_CONTEXT_WINDOW: u64 = 10_000_000;

/// One reported number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Figure {
    /// Not reported, or `null`.
    #[default]
    Absent,
    /// A count of tokens.
    Count(u64),
    /// Reported, and no count: negative, a fraction, text, or beyond 64 bits.
    Impossible,
}

impl Figure {
    /// Reads a JSON value. A float without a fraction is a count.
    pub fn from_json(raw: &str) -> Self {
        let raw = raw.trim();
        if raw == "null" {
            return Self::Absent;
        }
        if raw.bytes().all(|b| b.is_ascii_digit()) {
            return raw.parse().map_or(Self::Impossible, Self::Count);
        }
        /// Up to here a double is exact on whole numbers.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match raw.parse::<f64>() {
            Ok(number) if number.fract() == 0.0 && (0.0..=EXACT).contains(&number) => {
                // In range and whole, so the cast is exact.
                Self::Count(number as u64)
            }
            _ => Self::Impossible,
        }
    }

    /// The count, if it is one.
    pub const fn count(self) -> Option<u64> {
        match self {
            Self::Count(count) => Some(count),
            Self::Absent | Self::Impossible => None,
        }
    }

    /// Takes the larger of two reports; an impossible one stays impossible, so that it is flagged.
    pub fn merge_max(&mut self, other: Self) {
        *self = match (*self, other) {
            (Self::Absent, other) => other,
            (mine, Self::Absent) => mine,
            (Self::Count(a), Self::Count(b)) => Self::Count(a.max(b)),
            (Self::Impossible, _) | (_, Self::Impossible) => Self::Impossible,
        };
    }

    /// The count held to `bound`; an impossible one is `instead`. Adds to `clamp` what was taken away.
    fn within(self, bound: u64, instead: u64, clamp: &mut Clamp) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Count(count) if count <= bound => count,
            Self::Count(count) => {
                clamp.taken = clamp.taken.saturating_add(count - bound);
                clamp.happened = true;
                bound
            }
            Self::Impossible => {
                clamp.happened = true;
                instead.min(bound)
            }
        }
    }

    /// A detail of `total`, at most what is left of it. Larger than the whole total is impossible; merely larger than
    /// what other details left is an overlap.
    fn part_of(self, total: u64, left: &mut u64, clamp: &mut Clamp) -> u64 {
        let part = match self {
            Self::Absent => 0,
            Self::Count(count) => {
                clamp.happened |= count > total;
                count.min(*left)
            }
            Self::Impossible => {
                clamp.happened = true;
                0
            }
        };
        *left -= part;
        part
    }
}

#[derive(Default)]
struct Clamp {
    happened: bool,
    taken: u64,
}

/// What a provider reported of one attempt, in OpenAI's terms: `prompt` includes cached, cache-written and audio input,
/// `completion` includes reasoning and audio output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// All input.
    pub prompt: Figure,
    /// All output.
    pub completion: Figure,
    /// Input and output.
    pub total: Figure,
    /// Of `prompt`: read from a cache.
    pub cache_read: Figure,
    /// Of `prompt`: written to a cache for about five minutes.
    pub cache_write: Figure,
    /// Of `prompt`: written to a cache for an hour.
    pub cache_write_1h: Figure,
    /// Of `prompt`: audio.
    pub input_audio: Figure,
    /// Of `completion`: audio.
    pub output_audio: Figure,
    /// Of `completion`: reasoning.
    pub reasoning: Figure,
}

/// How a provider counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageRules {
    /// `completion` leaves reasoning out whenever `total` says so.
    pub reasoning_apart: bool,
}

/// What can be true of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageBounds {
    /// The model's context window, in tokens: no input is larger.
    pub context_window: u64,
    /// The output limit sent, of all choices together, in tokens.
    pub output_limit: Option<u64>,
    /// The most input the request can have been, in tokens: what stands for an input figure that is no count.
    pub worst_input: u64,
    /// The most output it can have made, in tokens: what stands for an output figure that is no count, and bounds one
    /// when no limit was sent.
    pub worst_output: u64,
}

impl Default for UsageBounds {
    fn default() -> Self {
        Self {
            context_window: UNKNOWN_CONTEXT_WINDOW,
            output_limit: None,
            worst_input: UNKNOWN_CONTEXT_WINDOW,
            worst_output: UNKNOWN_CONTEXT_WINDOW,
        }
    }
}

/// Usage that can be priced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Normalised {
    /// Disjoint classes.
    pub usage: TokenUsage,
    /// Whether anything reported could not be true.
    pub clamped: bool,
    /// What the clamp took away: `input` and `output` only.
    pub taken: TokenUsage,
}

impl Figures {
    /// Reads the JSON text of OpenAI's `usage` object and its relatives. What is not an object reports nothing.
    pub fn from_openai_usage(raw: &str) -> Self {
        let mut figures = Self::default();
        let mut json = serde_json::Deserializer::from_str(raw);
        // An object that breaks off keeps what was read until then.
        let _ = json.deserialize_any(Members(|name: &str, value: &str| match name {
            "prompt_tokens" => figures.prompt.merge_max(Figure::from_json(value)),
            "completion_tokens" => figures.completion.merge_max(Figure::from_json(value)),
            "total_tokens" => figures.total.merge_max(Figure::from_json(value)),
            // DeepSeek; Mistral; Together. All are part of `prompt_tokens`.
            "prompt_cache_hit_tokens" | "num_cached_tokens" | "cached_tokens" | "cache_read_input_tokens" => {
                figures.cache_read.merge_max(Figure::from_json(value));
            }
            "cache_creation_input_tokens" => figures.cache_write.merge_max(Figure::from_json(value)),
            // Writer and Mistral also write it without the first plural.
            "prompt_tokens_details" | "prompt_token_details" => figures.read_prompt_details(value),
            "completion_tokens_details" | "completion_token_details" => {
                figures.read_completion_details(value)
            }
            _ => {}
        }));
        figures
    }

    fn read_prompt_details(&mut self, raw: &str) {
        let mut json = serde_json::Deserializer::from_str(raw);
        let _ = json.deserialize_any(Members(|name: &str, value: &str| match name {
            "cached_tokens" => self.cache_read.merge_max(Figure::from_json(value)),
            "cache_write_tokens" | "cache_creation_tokens" => {
                self.cache_write.merge_max(Figure::from_json(value))
            }
            "audio_tokens" => self.input_audio.merge_max(Figure::from_json(value)),
            _ => {}
        }));
    }

    fn read_completion_details(&mut self, raw: &str) {
        let mut json = serde_json::Deserializer::from_str(raw);
        let _ = json.deserialize_any(Members(|name: &str, value: &str| match name {
            "reasoning_tokens" => self.reasoning.merge_max(Figure::from_json(value)),
            "audio_tokens" => self.output_audio.merge_max(Figure::from_json(value)),
            _ => {}
        }));
    }

    /// Whether neither input nor output is reported: then tokens have to be estimated.
    pub fn is_empty(&self) -> bool {
        self.prompt == Figure::Absent && self.completion == Figure::Absent
    }

    /// Takes in a later report of the same attempt, field by field the larger.
    pub fn merge_max(&mut self, other: &Self) {
        self.prompt.merge_max(other.prompt);
        self.completion.merge_max(other.completion);
        self.total.merge_max(other.total);
        self.cache_read.merge_max(other.cache_read);
        self.cache_write.merge_max(other.cache_write);
        self.cache_write_1h.merge_max(other.cache_write_1h);
        self.input_audio.merge_max(other.input_audio);
        self.output_audio.merge_max(other.output_audio);
        self.reasoning.merge_max(other.reasoning);
    }

    /// Disjoint classes within `bounds`.
    pub fn normalise(&self, rules: &UsageRules, bounds: &UsageBounds) -> Normalised {
        let (mut input_clamp, mut output_clamp) = (Clamp::default(), Clamp::default());

        let prompt = self.prompt.within(bounds.context_window, bounds.worst_input, &mut input_clamp);
        let mut fresh = prompt;
        // Details can overlap (audio that was cached); the dearer class takes the overlap.
        let input_audio = self.input_audio.part_of(prompt, &mut fresh, &mut input_clamp);
        let cache_write_1h = self.cache_write_1h.part_of(prompt, &mut fresh, &mut input_clamp);
        let cache_write = self.cache_write.part_of(prompt, &mut fresh, &mut input_clamp);
        let cache_read = self.cache_read.part_of(prompt, &mut fresh, &mut input_clamp);

        let output_bound = bounds.output_limit.unwrap_or(bounds.worst_output);
        let completion =
            self.whole_completion(rules).within(output_bound, bounds.worst_output, &mut output_clamp);
        let mut output = completion;
        let output_audio = self.output_audio.part_of(completion, &mut output, &mut output_clamp);
        let reasoning = self.reasoning.part_of(completion, &mut { output }, &mut output_clamp);

        Normalised {
            usage: TokenUsage {
                input: fresh,
                cache_read,
                cache_write,
                cache_write_1h,
                input_audio,
                output,
                output_audio,
                reasoning,
            },
            clamped: input_clamp.happened || output_clamp.happened,
            taken: TokenUsage {
                input: input_clamp.taken,
                output: output_clamp.taken,
                ..TokenUsage::default()
            },
        }
    }

    /// `completion` with reasoning in it.
    pub fn whole_completion(&self, rules: &UsageRules) -> Figure {
        let (Figure::Count(completion), Figure::Count(reasoning)) = (self.completion, self.reasoning) else {
            return self.completion;
        };
        let Some(whole) = completion.checked_add(reasoning) else {
            return self.completion;
        };
        let apart = self.total.count() == self.prompt.count().and_then(|prompt| prompt.checked_add(whole));
        if rules.reasoning_apart && self.total.count().is_some() && apart {
            Figure::Count(whole)
        } else {
            self.completion
        }
    }
}

/// Hands every member of an object to a function, as name and JSON text; anything else has none.
struct Members<F>(F);

impl<'de, F: FnMut(&str, &str)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<&'de RawValue>()? {
            // A name written with escapes is none of those looked for.
            match name.get().strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
                Some(name) => self.0(name, map.next_value::<&'de RawValue>()?.get()),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds(output_limit: Option<u64>) -> UsageBounds {
        UsageBounds { context_window: 1_000, output_limit, worst_input: 700, worst_output: 500 }
    }

    fn normal(raw: &str) -> Normalised {
        Figures::from_openai_usage(raw).normalise(&UsageRules::default(), &bounds(None))
    }

    #[test]
    fn classes_are_disjoint() {
        let found = normal(
            r#"{"prompt_tokens":100,"completion_tokens":40,"total_tokens":140,"cost":6e-7,
                "prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":20,"audio_tokens":10},
                "completion_tokens_details":{"reasoning_tokens":15,"audio_tokens":5,"x":{"y":[1.5]}}}"#,
        );
        let wanted = TokenUsage {
            input: 40,
            cache_read: 30,
            cache_write: 20,
            input_audio: 10,
            output: 35,
            output_audio: 5,
            reasoning: 15,
            ..TokenUsage::default()
        };
        assert_eq!((found.usage, found.clamped), (wanted, false));
    }

    #[test]
    fn relatives_of_the_shape_are_read() {
        let deepseek = r#"{"prompt_tokens":10,"completion_tokens":1,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6}"#;
        assert_eq!(normal(deepseek).usage.cache_read, 4);
        let nulls = r#"{"prompt_tokens":10,"completion_tokens":null,"prompt_tokens_details":null}"#;
        assert_eq!((normal(nulls).usage.input, normal(nulls).usage.output), (10, 0));
        for nothing in ["null", "[]", "3", "{}", "\"x\"", "{\"total_tokens\":3}"] {
            assert!(Figures::from_openai_usage(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn reasoning_is_added_only_where_the_total_says_it_is_apart() {
        let rules = UsageRules { reasoning_apart: true };
        let output = |total: u64| {
            let raw = format!(
                "{{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":{total},\
                 \"completion_tokens_details\":{{\"reasoning_tokens\":3}}}}"
            );
            Figures::from_openai_usage(&raw).normalise(&rules, &bounds(None)).usage.output
        };
        assert_eq!((output(18), output(15)), (8, 5));
    }

    #[test]
    fn what_cannot_be_is_clamped_and_flagged() {
        for impossible in ["-1", "5.5", "\"7\"", "1e308", "18446744073709551616", "{}", "true"] {
            let raw = format!("{{\"prompt_tokens\":{impossible},\"completion_tokens\":1}}");
            let found = normal(&raw);
            assert_eq!((found.usage.input, found.clamped), (700, true), "{impossible}");
        }
        let found = normal("{\"prompt_tokens\":1001,\"completion_tokens\":600}");
        assert_eq!((found.usage.input, found.usage.output, found.clamped), (1_000, 500, true));
        assert_eq!((found.taken.input, found.taken.output), (1, 100));
        let figures = Figures::from_openai_usage("{\"prompt_tokens\":1,\"completion_tokens\":9}");
        let limited = figures.normalise(&UsageRules::default(), &bounds(Some(8)));
        assert_eq!((limited.usage.output, limited.taken.output, limited.clamped), (8, 1, true));
        let detail = normal(
            "{\"prompt_tokens\":5,\"completion_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":6}}",
        );
        assert_eq!((detail.usage.input, detail.usage.cache_read, detail.clamped), (0, 5, true));
        assert_eq!(normal("{\"prompt_tokens\":5.0,\"completion_tokens\":1}").usage.input, 5);
    }

    #[test]
    fn reports_of_one_stream_merge_by_maximum() {
        let mut figures = Figures::from_openai_usage("{\"prompt_tokens\":5,\"completion_tokens\":1}");
        figures.merge_max(&Figures::from_openai_usage("{\"prompt_tokens\":5,\"completion_tokens\":7}"));
        figures.merge_max(&Figures::from_openai_usage("{\"completion_tokens\":6,\"total_tokens\":12}"));
        assert_eq!((figures.prompt.count(), figures.completion.count()), (Some(5), Some(7)));
    }

    fn figure() -> impl Strategy<Value = Figure> {
        prop_oneof![
            Just(Figure::Absent),
            Just(Figure::Impossible),
            (0..2_000_u64).prop_map(Figure::Count),
            any::<u64>().prop_map(Figure::Count),
        ]
    }

    fn figures() -> impl Strategy<Value = Figures> {
        proptest::collection::vec(figure(), 9).prop_map(|f| Figures {
            prompt: f[0],
            completion: f[1],
            total: f[2],
            cache_read: f[3],
            cache_write: f[4],
            cache_write_1h: f[5],
            input_audio: f[6],
            output_audio: f[7],
            reasoning: f[8],
        })
    }

    proptest! {
        #[test]
        fn usage_never_leaves_its_bounds(
            figures in figures(),
            limit in proptest::option::of(0..2_000_u64),
            reasoning_apart in any::<bool>(),
        ) {
            let bounds = bounds(limit);
            let found = figures.normalise(&UsageRules { reasoning_apart }, &bounds).usage;
            prop_assert!(found.input_total() <= bounds.context_window);
            prop_assert!(found.output_total() <= limit.unwrap_or(bounds.worst_output));
            prop_assert!(found.reasoning <= found.output);
        }

        #[test]
        fn merging_does_not_depend_on_the_order(a in figures(), b in figures()) {
            let (mut ab, mut ba) = (a, b);
            ab.merge_max(&b);
            ba.merge_max(&a);
            prop_assert_eq!(ab, ba);
        }

        #[test]
        fn p21_any_text_is_read_without_a_panic(raw in "\\PC{0,60}") {
            let _ = Figures::from_openai_usage(&raw);
        }
    }
}
