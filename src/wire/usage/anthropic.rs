//! Reading Anthropic's `usage`.
//!
//! Its three input figures are disjoint, where OpenAI's details are parts of the whole: input is the sum of what was read
//! afresh, written to a cache and read from one. In a stream every report replaces what it names and leaves the rest as
//! it was: the last ones name totals without saying for how long something was cached, which only the first one said.

use serde::de::Deserializer;
use serde_json::value::RawValue;

use super::{Figure, Figures, Members};

impl Figures {
    /// Reads the JSON text of Anthropic's `usage`. What is not an object reports nothing.
    pub fn from_anthropic_usage(raw: &str) -> Self {
        let mut usage = AnthropicUsage::default();
        usage.update(raw);
        usage.figures()
    }
}

/// What the reports of one answer have said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnthropicUsage {
    whole: Counts,
    /// The sum of `iterations`: what the provider's own steps used, of which `whole` leaves compaction out.
    steps: Counts,
}

impl AnthropicUsage {
    /// Takes in the JSON text of a later `usage`: what it names replaces what was known.
    pub fn update(&mut self, raw: &str) {
        self.whole.replace(&Counts::read(raw));
        if let Some(steps) = steps(raw) {
            self.steps.replace(&steps);
        }
    }

    /// The figures known so far.
    pub fn figures(&self) -> Figures {
        let mut figures = self.whole.figures();
        // What was billed is the sum of the steps. Never less than the whole: a list may leave one out.
        figures.merge_max(&self.steps.figures());
        figures
    }
}

/// The figures of a `usage` or of one of its iterations, as reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    input: Figure,
    cache_read: Figure,
    cache_write: Figure,
    /// Of `cache_write`: for five minutes.
    minutes: Figure,
    /// Of `cache_write`: for an hour.
    hour: Figure,
    output: Figure,
    thinking: Figure,
}

impl Counts {
    /// Reads an object; one that breaks off counts with what was read until then.
    fn read(raw: &str) -> Self {
        let mut counts = Self::default();
        members(raw, |name, value| match name {
            "input_tokens" => counts.input.merge_max(Figure::from_json(value)),
            "cache_read_input_tokens" => counts.cache_read.merge_max(Figure::from_json(value)),
            "cache_creation_input_tokens" => counts.cache_write.merge_max(Figure::from_json(value)),
            "output_tokens" => counts.output.merge_max(Figure::from_json(value)),
            "cache_creation" => members(value, |name, value| match name {
                "ephemeral_5m_input_tokens" => counts.minutes.merge_max(Figure::from_json(value)),
                "ephemeral_1h_input_tokens" => counts.hour.merge_max(Figure::from_json(value)),
                _ => {}
            }),
            "output_tokens_details" => members(value, |name, value| {
                if name == "thinking_tokens" {
                    counts.thinking.merge_max(Figure::from_json(value));
                }
            }),
            _ => {}
        });
        counts
    }

    /// Overwrites what `later` reports.
    fn replace(&mut self, later: &Self) {
        for (mine, later) in self.each_mut().into_iter().zip(later.each()) {
            if later != Figure::Absent {
                *mine = later;
            }
        }
    }

    fn plus(mut self, other: &Self) -> Self {
        for (mine, other) in self.each_mut().into_iter().zip(other.each()) {
            *mine = sum(*mine, other);
        }
        self
    }

    const fn each(&self) -> [Figure; 7] {
        let Self { input, cache_read, cache_write, minutes, hour, output, thinking } = *self;
        [input, cache_read, cache_write, minutes, hour, output, thinking]
    }

    const fn each_mut(&mut self) -> [&mut Figure; 7] {
        let Self { input, cache_read, cache_write, minutes, hour, output, thinking } = self;
        [input, cache_read, cache_write, minutes, hour, output, thinking]
    }

    fn figures(&self) -> Figures {
        let (cache_write, cache_write_1h) = self.writes();
        // A report without `input_tokens` (the last one of older streams) says nothing of the input.
        let prompt = match self.input {
            Figure::Absent => Figure::Absent,
            input => sum(sum(input, self.cache_read), sum(cache_write, cache_write_1h)),
        };
        Figures {
            prompt,
            completion: self.output,
            cache_read: self.cache_read,
            cache_write,
            cache_write_1h,
            reasoning: self.thinking,
            ..Figures::default()
        }
    }

    /// What was written to a cache, for minutes and for an hour.
    fn writes(&self) -> (Figure, Figure) {
        let told = match (self.minutes, self.hour) {
            (Figure::Absent, Figure::Absent) => return (self.cache_write, Figure::Absent),
            (Figure::Impossible, _) | (_, Figure::Impossible) => return (self.minutes, self.hour),
            (minutes, hour) => sum(minutes, hour).count().unwrap_or(u64::MAX),
        };
        let untold = match self.cache_write {
            Figure::Count(all) => Figure::Count(all.saturating_sub(told)),
            other => other,
        };
        // What came on top is of the kind known so far; in doubt of the shorter one, which is what a marker asks for
        // that does not say.
        if self.minutes.count().unwrap_or(0) == 0 && self.hour.count().unwrap_or(0) > 0 {
            (self.minutes, sum(self.hour, untold))
        } else {
            (sum(self.minutes, untold), self.hour)
        }
    }
}

/// Both together; what is absent adds nothing.
fn sum(a: Figure, b: Figure) -> Figure {
    match (a, b) {
        (Figure::Absent, other) | (other, Figure::Absent) => other,
        (Figure::Count(a), Figure::Count(b)) => a.checked_add(b).map_or(Figure::Impossible, Figure::Count),
        (Figure::Impossible, _) | (_, Figure::Impossible) => Figure::Impossible,
    }
}

/// Hands the members of an object to a function; anything else has none.
fn members(raw: &str, each: impl FnMut(&str, &str)) {
    let mut json = serde_json::Deserializer::from_str(raw);
    let _ = json.deserialize_any(Members(each));
}

/// The sum over `usage.iterations`, where there are any.
fn steps(raw: &str) -> Option<Counts> {
    let mut list = None;
    members(raw, |name, value| {
        if name == "iterations" {
            list = serde_json::from_str::<Vec<&RawValue>>(value).ok().map(|steps| {
                let steps = steps.into_iter().map(|step| Counts::read(step.get()));
                steps.reduce(|all, step| all.plus(&step))
            });
        }
    });
    list.flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{UsageBounds, UsageRules};

    const WHOLE: &str = r#"{"input_tokens":12,"cache_creation_input_tokens":1000,"cache_read_input_tokens":4000,
        "cache_creation":{"ephemeral_5m_input_tokens":700,"ephemeral_1h_input_tokens":300},
        "output_tokens":80,"output_tokens_details":{"thinking_tokens":50},
        "server_tool_use":null,"service_tier":"standard","inference_geo":"us"}"#;

    /// prompt, read, written for minutes, for an hour, completion
    fn read(raw: &str) -> [Option<u64>; 5] {
        told(&Figures::from_anthropic_usage(raw))
    }

    fn told(figures: &Figures) -> [Option<u64>; 5] {
        let Figures { prompt, cache_read, cache_write, cache_write_1h, completion, .. } = figures;
        [prompt, cache_read, cache_write, cache_write_1h, completion].map(|figure| figure.count())
    }

    #[test]
    fn input_is_the_sum_of_three_disjoint_figures() {
        assert_eq!(read(WHOLE), [Some(5_012), Some(4_000), Some(700), Some(300), Some(80)]);
        let usage =
            Figures::from_anthropic_usage(WHOLE).normalise(&UsageRules::default(), &UsageBounds::default());
        assert_eq!(
            (usage.usage.input, usage.usage.output, usage.usage.reasoning, usage.clamped),
            (12, 80, 50, false)
        );
    }

    #[test]
    fn a_report_without_input_says_nothing_of_it() {
        assert_eq!(read(r#"{"output_tokens":5}"#), [None, None, None, None, Some(5)]);
        assert_eq!(read(r#"{"input_tokens":3,"cache_creation":null}"#), [Some(3), None, None, None, None]);
        for nothing in ["null", "[]", "7", "\"x\"", "{}", "", "{\"input_tokens\":null}"] {
            assert_eq!(Figures::from_anthropic_usage(nothing), Figures::default(), "{nothing}");
        }
    }

    #[test]
    fn what_is_cached_for_how_long_is_known_as_far_as_it_was_said() {
        assert_eq!(read(r#"{"input_tokens":1,"cache_creation_input_tokens":9}"#)[2..4], [Some(9), None]);
        let more = r#"{"input_tokens":1,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":3}}"#;
        assert_eq!(read(more), [Some(10), None, Some(6), Some(3), None]);
        let less = r#"{"input_tokens":1,"cache_creation_input_tokens":2,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":3}}"#;
        assert_eq!(read(less), [Some(8), None, Some(4), Some(3), None]);
    }

    #[test]
    fn a_later_report_replaces_what_it_names() {
        let mut usage = AnthropicUsage::default();
        usage.update(r#"{"input_tokens":2,"cache_creation_input_tokens":30,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":30},"output_tokens":1}"#);
        assert_eq!(told(&usage.figures()), [Some(32), Some(0), Some(0), Some(30), Some(1)]);
        usage.update(r#"{"output_tokens":20}"#);
        assert_eq!(told(&usage.figures()), [Some(32), Some(0), Some(0), Some(30), Some(20)]);
        // Totals that have grown, without a word of how long: of the kind there was.
        usage.update(r#"{"input_tokens":6,"cache_creation_input_tokens":35,"cache_read_input_tokens":60,"output_tokens":40}"#);
        assert_eq!(told(&usage.figures()), [Some(101), Some(60), Some(0), Some(35), Some(40)]);
    }

    #[test]
    fn steps_are_summed_and_never_make_it_less() {
        let compacted = r#"{"input_tokens":682,"output_tokens":1320,"iterations":[
            {"type":"compaction","input_tokens":60385,"output_tokens":592,"cache_read_input_tokens":5},
            {"type":"message","input_tokens":682,"output_tokens":1320,"cache_creation":{"ephemeral_1h_input_tokens":7}}]}"#;
        assert_eq!(read(compacted), [Some(61_079), Some(5), None, Some(7), Some(1_912)]);
        let short =
            r#"{"input_tokens":9,"output_tokens":9,"iterations":[{"input_tokens":1,"output_tokens":1}]}"#;
        assert_eq!(read(short), [Some(9), None, None, None, Some(9)]);
        for odd in ["null", "[]", "{}", "[null]", "[[1]]", "3"] {
            let raw = format!("{{\"input_tokens\":9,\"output_tokens\":2,\"iterations\":{odd}}}");
            assert_eq!(read(&raw), [Some(9), None, None, None, Some(2)], "{odd}");
        }
    }

    #[test]
    fn what_cannot_be_is_flagged() {
        for impossible in ["-1", "1.5", "\"7\"", "18446744073709551616", "{}", "true"] {
            let raw = format!(
                "{{\"input_tokens\":{impossible},\"output_tokens\":1,\"cache_read_input_tokens\":4}}"
            );
            let figures = Figures::from_anthropic_usage(&raw);
            assert_eq!(figures.prompt, Figure::Impossible, "{impossible}");
            assert!(
                figures.normalise(&UsageRules::default(), &UsageBounds::default()).clamped,
                "{impossible}"
            );
            let raw = format!("{{\"input_tokens\":1,\"cache_read_input_tokens\":{impossible}}}");
            assert_eq!(Figures::from_anthropic_usage(&raw).prompt, Figure::Impossible, "{impossible}");
        }
        let over = format!("{{\"input_tokens\":{0},\"cache_read_input_tokens\":{0}}}", u64::MAX);
        assert_eq!(Figures::from_anthropic_usage(&over).prompt, Figure::Impossible);
    }

    proptest! {
        #[test]
        fn the_classes_add_up_to_what_was_reported(
            [input, read, minutes, hour, output, thinking] in proptest::array::uniform6(0..1_000_000_u64),
        ) {
            let raw = format!(
                "{{\"input_tokens\":{input},\"cache_read_input_tokens\":{read},\"cache_creation_input_tokens\":{},\
                 \"cache_creation\":{{\"ephemeral_5m_input_tokens\":{minutes},\"ephemeral_1h_input_tokens\":{hour}}},\
                 \"output_tokens\":{},\"output_tokens_details\":{{\"thinking_tokens\":{thinking}}}}}",
                minutes + hour, output + thinking,
            );
            let found = Figures::from_anthropic_usage(&raw)
                .normalise(&UsageRules::default(), &UsageBounds::default());
            prop_assert!(!found.clamped);
            prop_assert_eq!(found.usage.input_total(), input + read + minutes + hour);
            prop_assert_eq!(found.usage.output_total(), output + thinking);
            let classes = [found.usage.input, found.usage.cache_read, found.usage.cache_write, found.usage.cache_write_1h];
            prop_assert_eq!(classes, [input, read, minutes, hour]);
        }

        #[test]
        fn any_text_is_read_without_a_panic(raw in "\\PC{0,80}", later in "\\PC{0,80}") {
            let mut usage = AnthropicUsage::default();
            usage.update(&raw);
            usage.update(&later);
            let _ = usage.figures();
        }
    }
}
