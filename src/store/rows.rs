//! Columns to domain values and back, shared by everything that reads or writes the same shapes. A text that is not
//! what its column must hold is [`StoreError::Corrupt`]: a limit that cannot be read must not become no limit.

use std::{collections::BTreeMap, str::FromStr};

use entity::{tenant, virtual_key};
use serde::{Serialize, de::DeserializeOwned};

use super::StoreError;
use crate::domain::{
    BudgetId, CapMode, Counter, Limits, ModelPattern, ModelRef, NanoUsd, Scope, SpendCap, SpendWindow,
    WindowIndex, Zone,
};

/// The columns that `tenant` and `virtual_key` have alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitColumns {
    pub(crate) models_allowed: Option<String>,
    pub(crate) spend_cap_nano_usd: Option<i64>,
    pub(crate) spend_window: String,
    pub(crate) cap_mode: String,
    pub(crate) rate_limit_rpm: Option<i32>,
    pub(crate) rate_limit_tpm: Option<i32>,
    pub(crate) max_parallel: Option<i32>,
}

impl LimitColumns {
    /// Reads the columns of a row of `table`.
    pub(crate) fn read(&self, table: &'static str) -> Result<Limits, StoreError> {
        let corrupt = |what| StoreError::Corrupt { table, what };
        let models_allowed =
            self.models_allowed.as_deref().map(|text| model_patterns(table, text)).transpose()?;
        let window = spend_window(&self.spend_window).ok_or(corrupt("`spend_window` is unknown"))?;
        let mode = cap_mode(&self.cap_mode).ok_or(corrupt("`cap_mode` is unknown"))?;
        let count = |value: Option<i32>, what| {
            value.map(|count| u32::try_from(count).map_err(|_| corrupt(what))).transpose()
        };
        Ok(Limits {
            models_allowed,
            cap: self.spend_cap_nano_usd.map(|nano| SpendCap { amount: NanoUsd::new(nano), window, mode }),
            rpm: count(self.rate_limit_rpm, "`rate_limit_rpm` is negative")?,
            tpm: count(self.rate_limit_tpm, "`rate_limit_tpm` is negative")?,
            max_parallel: count(self.max_parallel, "`max_parallel` is negative")?,
        })
    }

    /// The columns that say `limits`. Without a cap the window and mode are the defaults. A count above `i32::MAX`
    /// becomes `i32::MAX`.
    #[cfg_attr(not(test), allow(dead_code, reason = "the admin side writes limits"))]
    pub(crate) fn of(limits: &Limits) -> Self {
        let count = |value: Option<u32>| value.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
        let (window, mode) = limits.cap.map(|cap| (cap.window, cap.mode)).unwrap_or_default();
        Self {
            models_allowed: limits
                .models_allowed
                .as_ref()
                .map(|patterns| texts_json(patterns.iter().map(ModelPattern::to_string))),
            spend_cap_nano_usd: limits.cap.map(|cap| cap.amount.nano()),
            spend_window: window.as_str().into(),
            cap_mode: cap_mode_text(mode).into(),
            rate_limit_rpm: count(limits.rpm),
            rate_limit_tpm: count(limits.tpm),
            max_parallel: count(limits.max_parallel),
        }
    }
}

macro_rules! limit_columns_of {
    ($($table:ident),+) => {$(
        impl From<&$table::Model> for LimitColumns {
            fn from(row: &$table::Model) -> Self {
                Self {
                    models_allowed: row.models_allowed.clone(),
                    spend_cap_nano_usd: row.spend_cap_nano_usd,
                    spend_window: row.spend_window.clone(),
                    cap_mode: row.cap_mode.clone(),
                    rate_limit_rpm: row.rate_limit_rpm,
                    rate_limit_tpm: row.rate_limit_tpm,
                    max_parallel: row.max_parallel,
                }
            }
        }
    )+};
}

limit_columns_of!(tenant, virtual_key);

/// Reads a window's name.
pub(crate) fn spend_window(text: &str) -> Option<SpendWindow> {
    SpendWindow::ALL.into_iter().find(|window| window.as_str() == text)
}

/// Reads the columns that name a counter.
pub(crate) fn counter(
    table: &'static str,
    kind: &str,
    scope_id: &str,
    window: &str,
    index: i64,
) -> Result<Counter, StoreError> {
    let corrupt = |what| StoreError::Corrupt { table, what };
    Ok(Counter {
        scope: match kind {
            "virtual_key" => Scope::VirtualKey(id(table, scope_id)?),
            "tenant" => Scope::Tenant(id(table, scope_id)?),
            "budget" => Scope::Budget(id(table, scope_id)?),
            _ => return Err(corrupt("`scope` is unknown")),
        },
        window: spend_window(window).ok_or(corrupt("`window` is unknown"))?,
        index: WindowIndex(index),
    })
}

/// Reads a mode's name.
pub(crate) fn cap_mode(text: &str) -> Option<CapMode> {
    [CapMode::Hard, CapMode::Soft].into_iter().find(|mode| cap_mode_text(*mode) == text)
}

/// The name of a mode.
pub(crate) const fn cap_mode_text(mode: CapMode) -> &'static str {
    match mode {
        CapMode::Hard => "hard",
        CapMode::Soft => "soft",
    }
}

/// Reads an id column.
pub(crate) fn id<T: FromStr>(table: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { table, what: "an id has another form" })
}

/// Reads a column of JSON.
pub(crate) fn json<T: DeserializeOwned>(
    table: &'static str,
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt { table, what })
}

/// Writes a column of JSON: counts, names and lists of them.
pub(crate) fn json_text<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("lists and string-keyed maps of plain values always serialise")
}

/// Reads an allow-list.
pub(crate) fn model_patterns(table: &'static str, text: &str) -> Result<Vec<ModelPattern>, StoreError> {
    parsed(table, "`models_allowed` is not a list of patterns", text, |entry| ModelPattern::parse(entry).ok())
}

/// Reads a list of `provider/model`.
pub(crate) fn model_refs(
    table: &'static str,
    what: &'static str,
    text: &str,
) -> Result<Vec<ModelRef>, StoreError> {
    parsed(table, what, text, |entry| ModelRef::parse(entry).ok())
}

/// Reads the budgets that a virtual key has joined.
pub(crate) fn budgets(text: &str) -> Result<Vec<BudgetId>, StoreError> {
    json("virtual_key", "`budgets` is not a list of budgets", text)
}

/// Reads a tenant's time zone.
pub(crate) fn zone(text: &str) -> Result<Zone, StoreError> {
    let unknown = |_| StoreError::Corrupt { table: "tenant", what: "`time_zone` is unknown" };
    text.parse().map_err(unknown)
}

/// Reads tags.
pub(crate) fn tags(table: &'static str, text: &str) -> Result<BTreeMap<String, String>, StoreError> {
    json(table, "`tags` is not an object of strings", text)
}

/// Writes a list of texts as a JSON array.
pub(crate) fn texts_json(texts: impl Iterator<Item = String>) -> String {
    json_text(&texts.collect::<Vec<_>>())
}

fn parsed<T>(
    table: &'static str,
    what: &'static str,
    text: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let entries: Vec<String> = json(table, what, text)?;
    entries.iter().map(|entry| parse(entry).ok_or(StoreError::Corrupt { table, what })).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*, sample::select};

    use super::*;

    fn some_limits() -> impl Strategy<Value = Limits> {
        let patterns =
            proptest::collection::vec(select(vec!["*", "openai/*", "openai/gpt", "my-vllm/org/llama"]), 0..4)
                .prop_map(|texts| {
                    texts.iter().map(|text| ModelPattern::parse(text).expect("a pattern")).collect()
                });
        let cap = (0i64.., select(SpendWindow::ALL.to_vec()), select(vec![CapMode::Hard, CapMode::Soft]))
            .prop_map(|(nano, window, mode)| SpendCap { amount: NanoUsd::new(nano), window, mode });
        let count = || option::of(0u32..=i32::MAX as u32);
        (option::of(patterns), option::of(cap), count(), count(), count()).prop_map(
            |(models_allowed, cap, rpm, tpm, max_parallel)| Limits {
                models_allowed,
                cap,
                rpm,
                tpm,
                max_parallel,
            },
        )
    }

    proptest! {
        #[test]
        fn limits_read_back_as_they_were_written(limits in some_limits()) {
            prop_assert_eq!(LimitColumns::of(&limits).read("tenant").expect("readable"), limits);
        }
    }

    #[test]
    fn a_limit_that_cannot_be_read_is_an_error_and_not_no_limit() {
        let good = LimitColumns::of(&Limits::default());
        for bad in [
            LimitColumns { models_allowed: Some("[\"openai/gpt-*\"]".into()), ..good.clone() },
            LimitColumns { models_allowed: Some("null".into()), ..good.clone() },
            LimitColumns { models_allowed: Some("[".into()), ..good.clone() },
            LimitColumns { spend_window: "yearly".into(), ..good.clone() },
            LimitColumns { cap_mode: "".into(), ..good.clone() },
            LimitColumns { rate_limit_rpm: Some(-1), ..good.clone() },
        ] {
            assert!(
                matches!(bad.read("tenant"), Err(StoreError::Corrupt { table: "tenant", .. })),
                "{bad:?}"
            );
        }
    }
}
