//! Wall time for windows, expiry and records. Everything that waits uses tokio's monotonic time instead.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Datelike, SecondsFormat, TimeZone, Utc};

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The moment `duration` later.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The moment `duration` before.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// As a calendar date and time in UTC. Moments outside chrono's range become its nearest bound.
    pub fn utc(self) -> DateTime<Utc> {
        let nearest = if self.0 < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        Utc.timestamp_millis_opt(self.0).single().unwrap_or(nearest)
    }

    /// Reads RFC 3339 (`2026-11-21T08:00:00Z`), or a date (`2026-11-21`), which means its start in UTC. Both within the
    /// years 1970 to 9999 in UTC: what lies outside is a slip of the unit or the pen.
    pub fn parse(text: &str) -> Option<Self> {
        // chrono alone would also read `2026-1-1`, `+2026-11-21` and `26-11-21`.
        let date = text.get(..10)?;
        let plain = date.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if !plain {
            return None;
        }
        let moment = if text.len() == date.len() {
            let date = chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
            date.and_time(chrono::NaiveTime::MIN).and_utc()
        } else {
            DateTime::parse_from_rfc3339(text).ok()?.to_utc()
        };
        (1970..=9999).contains(&moment.year()).then(|| Self(moment.timestamp_millis()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.utc().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Text for people, a number for the journal.
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self);
        }
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 moment"))
    }
}

/// Where wall time comes from; the only place that asks the system for it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is turned by [`Clock::set`].
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.millis()))))
    }

    /// The present moment.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp(Utc::now().timestamp_millis()),
            Source::Manual(millis) => Timestamp(millis.load(Ordering::SeqCst)),
        }
    }

    /// Turns a manual clock; the system's clock is not ours to turn and ignores it.
    pub fn set(&self, moment: Timestamp) {
        if let Source::Manual(millis) = &self.0 {
            millis.store(moment.millis(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_rfc_3339_are_read_and_nothing_else() {
        let date = Timestamp::parse("2026-11-21").expect("a date");
        assert_eq!(date.to_string(), "2026-11-21T00:00:00.000Z");
        assert_eq!(Timestamp::parse("2026-11-21T01:00:00+01:00"), Some(date));
        for other in [
            "21.11.2026",
            "",
            "2026-1-1",
            "26-11-21",
            "+2026-11-21",
            "2026-11-31",
            "2026-11-21 ",
            "2026-11-21T",
            "2026-11-21T08:00:00",
            "２026-11-21",
        ] {
            assert_eq!(Timestamp::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn years_before_1970_and_after_9999_are_not_read() {
        for good in ["1970-01-01", "1970-01-01T00:00:00Z", "9999-12-31", "9999-12-31T23:59:59.999Z"] {
            assert!(Timestamp::parse(good).is_some(), "{good}");
        }
        for bad in [
            "1969-12-31",
            "0000-01-01",
            "10000-01-01",
            "1970-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn extreme_moments_still_have_a_text() {
        assert!(!Timestamp::from_millis(i64::MAX).to_string().is_empty());
        assert!(!Timestamp::from_millis(i64::MIN).to_string().is_empty());
    }
}
