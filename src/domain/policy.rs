//! What a virtual key or a tenant may do.

use chrono::{Datelike, Days, Months, NaiveDate};

use super::{ModelPattern, ModelRef, NanoUsd, Timestamp};

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

/// The span of time in which spend counts towards a cap. In UTC; weeks are ISO weeks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SpendWindow {
    /// For ever.
    #[default]
    Total,
    /// A calendar day.
    Daily,
    /// Monday to Sunday.
    Weekly,
    /// A calendar month.
    Monthly,
}

/// Which day, week or month since the epoch a moment lies in (0 for [`SpendWindow::Total`]). Part of a counter's
/// identity, so that nothing is ever reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowIndex(pub i64);

impl SpendWindow {
    /// Every window, shortest last.
    pub const ALL: [Self; 4] = [Self::Total, Self::Monthly, Self::Weekly, Self::Daily];

    /// The name used by the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// The window that `moment` lies in.
    pub fn index(self, moment: Timestamp) -> WindowIndex {
        let date = moment.utc().date_naive();
        let days = i64::from(date.num_days_from_ce());
        WindowIndex(match self {
            Self::Total => 0,
            Self::Daily => days,
            // Day 1 of the common era was a Monday.
            Self::Weekly => (days - 1).div_euclid(7),
            Self::Monthly => i64::from(date.year()) * 12 + i64::from(date.month0()),
        })
    }

    /// When the window of `moment` ends and the next begins; `None` for [`SpendWindow::Total`].
    pub fn resets_at(self, moment: Timestamp) -> Option<Timestamp> {
        let date = moment.utc().date_naive();
        let next = match self {
            Self::Total => return None,
            Self::Daily => date.checked_add_days(Days::new(1))?,
            Self::Weekly => {
                date.checked_add_days(Days::new(7 - u64::from(date.weekday().num_days_from_monday())))?
            }
            Self::Monthly => {
                NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?.checked_add_months(Months::new(1))?
            }
        };
        Some(Timestamp::from_millis(next.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()))
    }
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
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    #[test]
    fn windows_end_at_midnight_monday_and_the_first() {
        let moment = at("2026-11-21T23:59:59.999Z");
        assert_eq!(SpendWindow::Total.resets_at(moment), None);
        assert_eq!(SpendWindow::Daily.resets_at(moment), Some(at("2026-11-22")));
        assert_eq!(SpendWindow::Weekly.resets_at(moment), Some(at("2026-11-23")));
        assert_eq!(SpendWindow::Monthly.resets_at(moment), Some(at("2026-12-01")));
        assert_eq!(SpendWindow::Monthly.resets_at(at("2026-12-31T12:00:00Z")), Some(at("2027-01-01")));
    }

    #[test]
    fn an_absent_allow_list_allows_all_and_an_empty_one_none() {
        let model = ModelRef::parse("openai/gpt").expect("a model");
        assert!(Limits::default().allows(&model));
        assert!(!Limits { models_allowed: Some(vec![]), ..Limits::default() }.allows(&model));
    }

    proptest! {
        #[test]
        fn a_window_holds_exactly_until_it_resets(millis in 0i64..4_102_444_800_000) {
            let moment = Timestamp::from_millis(millis);
            for window in [SpendWindow::Daily, SpendWindow::Weekly, SpendWindow::Monthly] {
                let end = window.resets_at(moment).expect("an end");
                let last = Timestamp::from_millis(end.millis() - 1);
                prop_assert!(end > moment);
                prop_assert_eq!(window.index(last), window.index(moment));
                prop_assert_eq!(window.index(end).0, window.index(moment).0 + 1);
            }
        }
    }
}
