//! Columns that several tables share, to domain values and back.

use sea_orm::{ActiveValue, Set};

use super::{StoreError, rows, rows::LimitColumns};
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

impl StoredLimits {
    pub(super) fn read(columns: &LimitColumns, table: &'static str) -> Result<Self, StoreError> {
        let limits = columns.read(table)?;
        let corrupt = |what| StoreError::Corrupt { table, what };
        Ok(Self {
            models_allowed: limits.models_allowed,
            spend_cap: limits.cap.map(|cap| cap.amount),
            spend_window: rows::spend_window(&columns.spend_window).ok_or(corrupt("spend_window"))?,
            cap_mode: rows::cap_mode(&columns.cap_mode).ok_or(corrupt("cap_mode"))?,
            rpm: limits.rpm,
            tpm: limits.tpm,
            max_parallel: limits.max_parallel,
        })
    }

    pub(super) fn columns(&self) -> LimitColumns {
        LimitColumns {
            spend_window: self.spend_window.as_str().to_owned(),
            cap_mode: rows::cap_mode_text(self.cap_mode).to_owned(),
            ..LimitColumns::of(&self.limits())
        }
    }
}

pub(super) fn names(
    text: &str,
    table: &'static str,
    what: &'static str,
) -> Result<Vec<ModelName>, StoreError> {
    rows::json(table, what, text)
}

pub(super) fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) fn maybe(moment: Option<Timestamp>) -> ActiveValue<Option<i64>> {
    Set(moment.map(Timestamp::millis))
}
