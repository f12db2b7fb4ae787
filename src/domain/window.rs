//! Spans of time in which spend counts towards a cap: calendar windows in a tenant's own time zone.
//!
//! The index of a window is part of a counter's identity, so that nothing is ever reset: a new month is a new counter.

use std::{fmt, str::FromStr};

use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, Months, NaiveDate, NaiveDateTime, TimeDelta, TimeZone,
};
use chrono_tz::Tz;

use super::Timestamp;

/// An IANA time zone, such as `Europe/Berlin`; UTC unless a tenant chose another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

/// A text that names no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a time zone; give an IANA name such as `Europe/Berlin` or `UTC`")]
pub struct UnknownZone {
    given: String,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(Tz::UTC);

    /// Its IANA name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    fn date(self, moment: Timestamp) -> NaiveDate {
        moment.utc().with_timezone(&self.0).date_naive()
    }

    /// The first moment after `after` at which the clocks of this zone show `date`, or a later one where they skip it.
    fn start_of(self, date: NaiveDate, after: Timestamp) -> Option<Timestamp> {
        let mut local: NaiveDateTime = date.and_hms_opt(0, 0, 0)?;
        // Clocks were put forward by at most a day (Samoa, 2011), and by whole quarters of an hour.
        for _ in 0..=25 * 4 {
            let found = match self.0.from_local_datetime(&local) {
                MappedLocalTime::Single(only) => Some(only),
                MappedLocalTime::Ambiguous(first, second) => {
                    Some(if stamp(first) > after { first } else { second })
                }
                MappedLocalTime::None => None,
            };
            if let Some(found) = found {
                return Some(stamp(found));
            }
            local = local.checked_add_signed(TimeDelta::minutes(15))?;
        }
        None
    }
}

fn stamp(moment: DateTime<Tz>) -> Timestamp {
    Timestamp::from_millis(moment.timestamp_millis())
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        text.parse().map(Self).map_err(|_| UnknownZone { given: text.chars().take(64).collect() })
    }
}

/// The span of time in which spend counts towards a cap. Weeks are ISO weeks.
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

/// Which day, week or month of the common era a moment lies in (0 for [`SpendWindow::Total`]). Part of a counter's
/// identity, so that nothing is ever reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
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

    /// The window that `moment` lies in on a calendar of `zone`.
    pub fn index(self, moment: Timestamp, zone: Zone) -> WindowIndex {
        self.index_of(zone.date(moment))
    }

    fn index_of(self, date: NaiveDate) -> WindowIndex {
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
    pub fn resets_at(self, moment: Timestamp, zone: Zone) -> Option<Timestamp> {
        let date = zone.date(moment);
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
        zone.start_of(next, moment)
    }
}

/// The index of every window at one moment: a request counts in the windows in which it arrived, whenever it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Windows([WindowIndex; 4]);

impl Windows {
    /// The windows that `moment` lies in on a calendar of `zone`.
    pub fn of(moment: Timestamp, zone: Zone) -> Self {
        let date = zone.date(moment);
        Self(SpendWindow::ALL.map(|window| window.index_of(date)))
    }

    /// The index of one of them.
    pub const fn index(&self, window: SpendWindow) -> WindowIndex {
        self.0[match window {
            SpendWindow::Total => 0,
            SpendWindow::Monthly => 1,
            SpendWindow::Weekly => 2,
            SpendWindow::Daily => 3,
        }]
    }

    /// Every window and its index.
    pub fn iter(&self) -> impl Iterator<Item = (SpendWindow, WindowIndex)> {
        SpendWindow::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn zone(name: &str) -> Zone {
        name.parse().expect("a zone")
    }

    #[test]
    fn windows_end_at_midnight_monday_and_the_first() {
        let moment = at("2026-11-21T23:59:59.999Z");
        assert_eq!(SpendWindow::Total.resets_at(moment, Zone::UTC), None);
        assert_eq!(SpendWindow::Daily.resets_at(moment, Zone::UTC), Some(at("2026-11-22")));
        assert_eq!(SpendWindow::Weekly.resets_at(moment, Zone::UTC), Some(at("2026-11-23")));
        assert_eq!(SpendWindow::Monthly.resets_at(moment, Zone::UTC), Some(at("2026-12-01")));
        let december = at("2026-12-31T12:00:00Z");
        assert_eq!(SpendWindow::Monthly.resets_at(december, Zone::UTC), Some(at("2027-01-01")));
    }

    #[test]
    fn a_month_ends_where_the_tenant_lives() {
        let berlin = zone("Europe/Berlin");
        let last_minutes = at("2026-10-31T22:59:59.999Z");
        assert_eq!(SpendWindow::Monthly.resets_at(last_minutes, berlin), Some(at("2026-10-31T23:00:00Z")));
        let index = |moment| SpendWindow::Monthly.index(moment, berlin).0;
        assert_eq!(index(at("2026-10-31T23:00:00Z")), index(last_minutes) + 1);
        assert_eq!(
            SpendWindow::Monthly.index(at("2026-10-31T23:00:00Z"), Zone::UTC),
            SpendWindow::Monthly.index(last_minutes, Zone::UTC)
        );
    }

    #[test]
    fn days_with_daylight_saving_have_23_and_25_hours() {
        let berlin = zone("Europe/Berlin");
        for (day, hours) in [("2026-03-28T23:00:00Z", 23), ("2026-10-24T22:00:00Z", 25)] {
            let start = at(day);
            let end = SpendWindow::Daily.resets_at(start, berlin).expect("an end");
            assert_eq!(end.millis() - start.millis(), hours * 3_600_000, "{day}");
        }
    }

    #[test]
    fn a_day_that_begins_in_a_gap_or_is_skipped_ends_where_the_clocks_go_on() {
        // Cairo puts its clocks forward at midnight: 24 April 2026 begins at 01:00.
        let cairo = zone("Africa/Cairo");
        let eve = at("2026-04-23T12:00:00Z");
        assert_eq!(SpendWindow::Daily.resets_at(eve, cairo), Some(at("2026-04-23T22:00:00Z")));
        // Samoa had no 30 December 2011.
        let apia = zone("Pacific/Apia");
        let before = at("2011-12-30T09:00:00Z");
        assert_eq!(SpendWindow::Daily.resets_at(before, apia), Some(at("2011-12-30T10:00:00Z")));
    }

    #[test]
    fn only_names_of_zones_are_read() {
        assert_eq!("UTC".parse::<Zone>(), Ok(Zone::UTC));
        for other in ["", "berlin", "+02:00", "Europe/Berlin ", "Mars/Olympus"] {
            assert!(other.parse::<Zone>().is_err(), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn p13_a_window_holds_exactly_until_it_resets(
            millis in 0i64..4_102_444_800_000,
            name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
        ) {
            let (moment, zone) = (Timestamp::from_millis(millis), zone(name));
            for window in [SpendWindow::Daily, SpendWindow::Weekly, SpendWindow::Monthly] {
                let end = window.resets_at(moment, zone).expect("an end");
                let last = Timestamp::from_millis(end.millis() - 1);
                prop_assert!(end > moment);
                prop_assert_eq!(window.index(last, zone), window.index(moment, zone));
                prop_assert_eq!(window.index(end, zone).0, window.index(moment, zone).0 + 1);
                prop_assert_eq!(Windows::of(moment, zone).index(window), window.index(moment, zone));
            }
        }
    }
}
