//! Reads `config/prices.json`: one line a model, whole numbers of micro-USD per million tokens. Whatever is unknown,
//! misspelt, fractional or contradictory is refused with the name of the model it stands at.

use std::{collections::HashSet, sync::Arc};

use serde::Deserialize;

use super::{
    Providers,
    providers::InputBounds,
    rates::{DEFAULT_MAX_FILE_TOKENS, Mode, ModelPrice, Rates, Tier},
};
use crate::domain::{InvalidModel, ModelRef, PricePerMillion, Timestamp};

const UNIT: &str = "micro-USD per million tokens";

/// Why a price file was refused.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// It is not JSON of the right shape.
    #[error("the price catalogue cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// Its unit is not the one prices are kept in.
    #[error("the price catalogue is in `{0}`; write prices in `{UNIT}`")]
    Unit(String),
    /// A date is none.
    #[error("`{0}` in the price catalogue is no date; write YYYY-MM-DD")]
    Date(String),
    /// A model name is none.
    #[error("the price catalogue names a model that cannot be one")]
    Model(#[from] InvalidModel),
    /// A model's entry contradicts itself or the rest of the file.
    #[error("the price of `{model}` {wrong}")]
    Entry {
        /// Whose.
        model: ModelRef,
        /// What is wrong with it, and what to do.
        wrong: &'static str,
    },
}

/// Reads and checks a price file; entries keep their order.
pub(super) fn parse(text: &str, providers: &Providers) -> Result<Vec<ModelPrice>, PricesError> {
    let file: File = serde_json::from_str(text)?;
    if file.unit != UNIT {
        return Err(PricesError::Unit(file.unit));
    }
    date(&file.date)?;
    let known: HashSet<&str> = file.sources.iter().map(|source| source.name.as_str()).collect();
    for source in &file.sources {
        date(&source.date)?;
    }
    let version: Arc<str> = format!("catalogue:{}", file.date).into();
    let mut seen = HashSet::new();
    file.models
        .into_iter()
        .map(|row| {
            let model = ModelRef::parse(&row.model)?;
            let wrong = |wrong| PricesError::Entry { model: model.clone(), wrong };
            if row.sources.is_empty() || !row.sources.iter().all(|source| known.contains(source.as_str())) {
                return Err(wrong("names no source, or one the header does not list; add it to `sources`"));
            }
            let effective_from = match &row.effective_from {
                Some(text) => date(text)?,
                None => Timestamp::from_millis(0),
            };
            if !seen.insert((model.clone(), effective_from)) {
                return Err(wrong("stands twice for the same date; keep one"));
            }
            let bounds = providers.get(&model.provider).map(|provider| provider.bounds).unwrap_or_default();
            row.check(model.clone(), bounds, Arc::clone(&version), effective_from).map_err(wrong)
        })
        .collect()
}

fn date(text: &str) -> Result<Timestamp, PricesError> {
    Timestamp::parse(text)
        .filter(|_| text.len() == "YYYY-MM-DD".len())
        .ok_or_else(|| PricesError::Date(text.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    unit: String,
    date: String,
    sources: Vec<Source>,
    models: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    name: String,
    #[serde(rename = "repo")]
    _repo: String,
    #[serde(rename = "version")]
    _version: String,
    date: String,
    #[serde(rename = "licence")]
    _licence: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    model: String,
    input: PricePerMillion,
    output: PricePerMillion,
    cache_read: Option<PricePerMillion>,
    cache_write: Option<PricePerMillion>,
    cache_write_1h: Option<PricePerMillion>,
    input_audio: Option<PricePerMillion>,
    output_audio: Option<PricePerMillion>,
    #[serde(default)]
    tiers: Vec<TierRow>,
    priority: Option<ListRow>,
    flex: Option<ListRow>,
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    mode: Option<Mode>,
    #[serde(default)]
    fee_per_request: bool,
    effective_from: Option<String>,
    sources: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierRow {
    above_input_tokens: u64,
    input: PricePerMillion,
    output: PricePerMillion,
    cache_read: Option<PricePerMillion>,
    cache_write: Option<PricePerMillion>,
    cache_write_1h: Option<PricePerMillion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListRow {
    input: PricePerMillion,
    output: PricePerMillion,
    cache_read: Option<PricePerMillion>,
    cache_write: Option<PricePerMillion>,
    cache_write_1h: Option<PricePerMillion>,
}

impl Row {
    fn check(
        self,
        model: ModelRef,
        bounds: InputBounds,
        version: Arc<str>,
        effective_from: Timestamp,
    ) -> Result<ModelPrice, &'static str> {
        if self.context_window == Some(0) {
            return Err("has a context window of 0; leave it out when it is unknown");
        }
        if self.mode != Some(Mode::Embedding) && self.max_output_tokens == Some(0) {
            return Err("has a largest output of 0; leave it out when it is unknown");
        }
        if self.tiers.iter().any(|tier| tier.above_input_tokens == 0)
            || !self.tiers.is_sorted_by(|a, b| a.above_input_tokens < b.above_input_tokens)
        {
            return Err(
                "has tiers out of order; order them by rising `above_input_tokens`, beginning above 0",
            );
        }
        let rates = Rates {
            input: self.input,
            output: self.output,
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            cache_write_1h: self.cache_write_1h,
            input_audio: self.input_audio,
            output_audio: self.output_audio,
        };
        let list = |row: ListRow| {
            let ListRow { input, output, cache_read, cache_write, cache_write_1h } = row;
            Rates { cache_read, cache_write, cache_write_1h, ..Rates::new(input, output) }
                .completed_from(&rates)
        };
        let tiers = self
            .tiers
            .into_iter()
            .map(|row| {
                let TierRow { above_input_tokens, input, output, cache_read, cache_write, cache_write_1h } =
                    row;
                let row = ListRow { input, output, cache_read, cache_write, cache_write_1h };
                Tier { above_input_tokens, rates: list(row) }
            })
            .collect();
        Ok(ModelPrice {
            model,
            rates,
            tiers,
            priority: self.priority.map(list),
            flex: self.flex.map(list),
            fee_per_request: self.fee_per_request,
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            overhead_tokens: bounds.overhead_tokens,
            max_image_tokens: bounds.max_image_tokens,
            max_file_tokens: bounds
                .max_file_tokens
                .or(self.context_window)
                .unwrap_or(DEFAULT_MAX_FILE_TOKENS),
            version,
            effective_from,
            mode: self.mode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(models: &str) -> String {
        format!(
            r#"{{"unit":"{UNIT}","date":"2026-11-20","sources":[{{"name":"s","repo":"o/r","version":"1","date":"2026-11-20","licence":"MIT"}}],"models":[{models}]}}"#
        )
    }

    #[test]
    fn an_entry_is_read_with_its_defaults() {
        let text = file(
            r#"{"model":"openai/x","input":200,"output":1000,"cache_write":250,"priority":{"input":400,"output":2000},"sources":["s"]}"#,
        );
        let prices = parse(&text, &Providers::bundled()).expect("a price");
        let price = &prices[0];
        assert_eq!(&*price.version, "catalogue:2026-11-20");
        assert_eq!(price.max_file_tokens, DEFAULT_MAX_FILE_TOKENS);
        assert_eq!(price.priority.and_then(|list| list.cache_write), PricePerMillion::new(500));
        assert_eq!(price.overhead_tokens, 512);
    }

    #[test]
    fn a_mistake_names_its_model() {
        for (row, says) in [
            (r#"{"model":"a/x","input":1,"output":1,"sources":["t"]}"#, "the price of `a/x` names no source"),
            (
                r#"{"model":"a/x","input":1,"output":1,"context_window":0,"sources":["s"]}"#,
                "context window of 0",
            ),
            (
                r#"{"model":"a/x","input":1,"output":1,"sources":["s"],"tiers":[{"above_input_tokens":2,"input":1,"output":1},{"above_input_tokens":2,"input":1,"output":1}]}"#,
                "tiers out of order",
            ),
            (
                r#"{"model":"a/x","input":1,"output":1,"sources":["s"]},{"model":"a/x","input":2,"output":1,"sources":["s"]}"#,
                "`a/x` stands twice",
            ),
            (
                r#"{"model":"a/x","input":1,"output":1,"effective_from":"soon","sources":["s"]}"#,
                "`soon` in the price catalogue is no date",
            ),
            (r#"{"model":"bare","input":1,"output":1,"sources":["s"]}"#, "cannot be one"),
        ] {
            let refused = parse(&file(row), &Providers::default()).expect_err("a mistake");
            assert!(refused.to_string().contains(says), "{refused}");
        }
    }

    #[test]
    fn fractions_negatives_and_unknown_fields_are_refused() {
        for row in [
            r#"{"model":"a/x","input":0.5,"output":1,"sources":["s"]}"#,
            r#"{"model":"a/x","input":-1,"output":1,"sources":["s"]}"#,
            r#"{"model":"a/x","output":1,"sources":["s"]}"#,
            r#"{"model":"a/x","input":1,"output":1,"inptu_audio":1,"sources":["s"]}"#,
        ] {
            let refused = parse(&file(row), &Providers::default());
            assert!(matches!(refused, Err(PricesError::Unreadable(_))), "{row}");
        }
    }
}
