//! Sums of spend as an answer: by which groups, as JSON, as CSV.

use super::{ControlError, checks, csv, spend_json};
use crate::{
    domain::NanoUsd,
    store::{GroupKey, Spend, Sums},
};

/// Sums by group, and the sum of everything.
#[derive(Clone, Debug)]
pub struct SpendReport {
    pub(super) keys: Vec<GroupKey>,
    pub(super) spend: Spend,
    /// Leased by dead instances of the virtual keys that the report is about; no window, model or provider is known of
    /// it.
    pub(super) unreconciled: NanoUsd,
}

/// Reads `group_by`.
pub(super) fn group_keys(text: Option<&str>) -> Result<Vec<GroupKey>, ControlError> {
    let mut keys = Vec::new();
    for part in text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let key = match part {
            "tenant" => GroupKey::Tenant,
            "key" => GroupKey::Key,
            "provider" => GroupKey::Provider,
            "model" => GroupKey::Model,
            "day" => GroupKey::Day,
            _ => {
                let name = part.strip_prefix("tag:").ok_or_else(|| {
                    ControlError::bad(
                        "`group_by` takes `tenant`, `key`, `provider`, `model`, `day` and `tag:NAME`, separated by commas",
                    )
                })?;
                checks::tag_name(name)?;
                GroupKey::Tag(name.to_owned())
            }
        };
        if keys.contains(&key) {
            return Err(ControlError::bad("`group_by` names something twice; remove one"));
        }
        keys.push(key);
    }
    if keys.len() > 8 {
        return Err(ControlError::bad("`group_by` takes at most 8 names"));
    }
    Ok(keys)
}

impl SpendReport {
    /// The sum of everything.
    pub fn total(&self) -> &Sums {
        &self.spend.total
    }

    /// What may have been spent besides and is not known: leased by gateways that are silent.
    pub fn unreconciled(&self) -> NanoUsd {
        self.unreconciled
    }

    /// The names of the grouping's columns.
    pub fn columns(&self) -> Vec<String> {
        self.keys
            .iter()
            .map(|key| match key {
                GroupKey::Tenant => "tenant_id".to_owned(),
                GroupKey::Key => "virtual_key_id".to_owned(),
                GroupKey::Provider => "provider".to_owned(),
                GroupKey::Model => "model".to_owned(),
                GroupKey::Day => "day".to_owned(),
                GroupKey::Tag(name) => format!("tag:{name}"),
            })
            .collect()
    }

    /// The names of all columns: the grouping's, then the sums'.
    pub fn heading(&self) -> Vec<String> {
        let sums = ["requests", "input_tokens", "output_tokens", "cost_micro_usd"];
        self.columns().into_iter().chain(sums.map(str::to_owned)).collect()
    }

    /// The groups as text, in the heading's columns.
    pub fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.spend.rows().map(|(values, sums)| {
            let values = values.into_iter().map(|value| value.unwrap_or_default().to_owned());
            values.chain(texts(sums)).collect()
        })
    }

    /// The sum of everything as text, in the last four of the heading's columns.
    pub fn total_texts(&self) -> [String; 4] {
        texts(&self.spend.total)
    }

    /// All of it as JSON, a line for each row.
    pub fn to_json(&self) -> String {
        spend_json::written(self)
    }

    /// The groups, one line each, under a line of names. Without a total: a column is to be summed.
    pub fn to_csv(&self) -> String {
        let mut out = String::new();
        csv::line(&mut out, self.heading().iter().map(String::as_str));
        for row in self.rows() {
            csv::line(&mut out, row.iter().map(String::as_str));
        }
        out
    }
}

fn texts(sums: &Sums) -> [String; 4] {
    [
        sums.requests.to_string(),
        sums.input_tokens.to_string(),
        sums.output_tokens.to_string(),
        micro_text(sums.cost_nano_usd),
    ]
}

/// Micro-USD with up to three decimals.
fn micro_text(nano: i128) -> String {
    let mut text = String::new();
    spend_json::push_micro(&mut text, nano);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_sums_keep_their_digits() {
        assert_eq!(micro_text(i128::from(i64::MAX) * 10 + 5), "92233720368547758.075");
        assert_eq!(micro_text(0), "0");
        assert_eq!(micro_text(1_500), "1.5");
        assert_eq!(micro_text(-1), "-0.001");
    }

    #[test]
    fn groupings_are_read_and_others_refused() {
        assert_eq!(group_keys(None).expect("none"), []);
        assert_eq!(
            group_keys(Some("tenant,tag:team")).expect("two"),
            [GroupKey::Tenant, GroupKey::Tag("team".into())]
        );
        for bad in ["team", "tag:", "tag:a b", "day,day", "tenant;drop", "tag:a\nb"] {
            assert!(group_keys(Some(bad)).is_err(), "{bad}");
        }
    }
}
