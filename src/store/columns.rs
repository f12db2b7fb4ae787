//! Columns that several tables share, to domain values and back.

use std::{collections::BTreeMap, str::FromStr};

use sea_orm::{ActiveValue, Set};

use super::StoreError;
use crate::domain::{CapMode, Limits, ModelName, ModelPattern, NanoUsd, SpendCap, SpendWindow, Timestamp};

/// The limits of a tenant or a virtual key as they are stored: window and mode are kept also while no cap is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredLimits {
    /// Models that may be called; `None` allows all, an empty list none.
    pub models_allowed: Option<Vec<ModelPattern>>,
    /// Cap; `None` is unlimited.
    pub spend_cap: Option<NanoUsd>,
    /// Span of time of the cap.
    pub spend_window: SpendWindow,
    /// How strictly the cap holds.
    pub cap_mode: CapMode,
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Tokens a minute.
    pub tpm: Option<u32>,
    /// Requests at the same time.
    pub max_parallel: Option<u32>,
}

impl StoredLimits {
    /// The cap, if one is set.
    pub fn cap(&self) -> Option<SpendCap> {
        self.spend_cap.map(|amount| SpendCap { amount, window: self.spend_window, mode: self.cap_mode })
    }

    /// As the data plane reads them.
    pub fn limits(&self) -> Limits {
        Limits {
            models_allowed: self.models_allowed.clone(),
            cap: self.cap(),
            rpm: self.rpm,
            tpm: self.tpm,
            max_parallel: self.max_parallel,
        }
    }
}

/// The seven columns behind [`StoredLimits`].
pub(super) struct LimitColumns {
    pub models_allowed: Option<String>,
    pub spend_cap_nano_usd: Option<i64>,
    pub spend_window: String,
    pub cap_mode: String,
    pub rpm: Option<i32>,
    pub tpm: Option<i32>,
    pub max_parallel: Option<i32>,
}

impl LimitColumns {
    pub(super) fn read(self, table: &'static str) -> Result<StoredLimits, StoreError> {
        let corrupt = |what| move || StoreError::Corrupt { table, what };
        let models_allowed = match self.models_allowed {
            Some(text) => {
                let texts: Vec<String> = from_json(&text, table, "models_allowed")?;
                let patterns: Result<_, _> = texts.iter().map(|text| ModelPattern::parse(text)).collect();
                Some(patterns.map_err(|_| corrupt("models_allowed")())?)
            }
            None => None,
        };
        let window = SpendWindow::ALL.into_iter().find(|window| window.as_str() == self.spend_window);
        Ok(StoredLimits {
            models_allowed,
            spend_cap: self.spend_cap_nano_usd.map(NanoUsd::new),
            spend_window: window.ok_or_else(corrupt("spend_window"))?,
            cap_mode: match self.cap_mode.as_str() {
                "hard" => CapMode::Hard,
                "soft" => CapMode::Soft,
                _ => return Err(corrupt("cap_mode")()),
            },
            rpm: positive(self.rpm, table, "rate_limit_rpm")?,
            tpm: positive(self.tpm, table, "rate_limit_tpm")?,
            max_parallel: positive(self.max_parallel, table, "max_parallel")?,
        })
    }

    pub(super) fn write(limits: &StoredLimits) -> Self {
        let narrow = |value: Option<u32>| value.map(|value| i32::try_from(value).unwrap_or(i32::MAX));
        Self {
            models_allowed: limits
                .models_allowed
                .as_ref()
                .map(|patterns| json_list(patterns.iter().map(ToString::to_string))),
            spend_cap_nano_usd: limits.spend_cap.map(NanoUsd::nano),
            spend_window: limits.spend_window.as_str().to_owned(),
            cap_mode: match limits.cap_mode {
                CapMode::Hard => "hard",
                CapMode::Soft => "soft",
            }
            .to_owned(),
            rpm: narrow(limits.rpm),
            tpm: narrow(limits.tpm),
            max_parallel: narrow(limits.max_parallel),
        }
    }
}

fn positive(value: Option<i32>, table: &'static str, what: &'static str) -> Result<Option<u32>, StoreError> {
    value.map(u32::try_from).transpose().map_err(|_| StoreError::Corrupt { table, what })
}

pub(super) fn id<T: FromStr>(text: &str, table: &'static str, what: &'static str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { table, what })
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    text: &str,
    table: &'static str,
    what: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt { table, what })
}

pub(super) fn names(
    text: &str,
    table: &'static str,
    what: &'static str,
) -> Result<Vec<ModelName>, StoreError> {
    from_json(text, table, what)
}

pub(super) fn json_list(texts: impl Iterator<Item = String>) -> String {
    serde_json::Value::from_iter(texts).to_string()
}

pub(super) fn json_map(map: &BTreeMap<String, String>) -> String {
    let pairs = map.iter().map(|(name, value)| (name.clone(), value.clone()));
    serde_json::Value::from_iter(pairs).to_string()
}

pub(super) fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) fn maybe(moment: Option<Timestamp>) -> ActiveValue<Option<i64>> {
    Set(moment.map(Timestamp::millis))
}
