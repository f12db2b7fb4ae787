//! What a virtual key or a tenant may do.

use super::{ModelPattern, ModelRef, NanoUsd, SpendWindow};

/// The limits that a virtual key and a tenant have alike; a request must fit both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Models that may be called; `None` allows all, an empty list none.
    pub models_allowed: Option<Vec<ModelPattern>>,
    /// Most money that may be spent.
    pub cap: Option<SpendCap>,
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Tokens a minute.
    pub tpm: Option<u32>,
    /// Requests at the same time.
    pub max_parallel: Option<u32>,
}

impl Limits {
    /// Whether the allow-list lets `model` be called.
    pub fn allows(&self, model: &ModelRef) -> bool {
        self.models_allowed
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| pattern.allows(model)))
    }
}

/// A spend cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendCap {
    /// How much; zero blocks everything.
    pub amount: NanoUsd,
    /// In which span of time.
    pub window: SpendWindow,
    /// How strictly.
    pub mode: CapMode,
}

/// How strictly a cap holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CapMode {
    /// Worst cases are reserved beforehand: settled spend never exceeds the cap.
    #[default]
    Hard,
    /// Admits while anything is left, looking at settled spend only.
    Soft,
}

/// Whether a virtual key still lives. The data plane answers all dead states alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// May be used, until it expires.
    Active,
    /// Was revoked for good.
    Revoked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_allow_list_allows_all_and_an_empty_one_none() {
        let model = ModelRef::parse("openai/gpt").expect("a model");
        assert!(Limits::default().allows(&model));
        assert!(!Limits { models_allowed: Some(vec![]), ..Limits::default() }.allows(&model));
    }
}
