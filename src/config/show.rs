//! How a setting's value is shown and compared. What may be secret is shown as `(set)` and never as itself.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::settings::{CheckpointSink, Durability, EgressAllow, JwtKey, LogFormat, SecretText};

/// A value that can be shown to whoever runs the gateway.
pub(super) trait Show {
    /// As it would be written; `(set)` for a secret, `-` for nothing.
    fn show(&self) -> String;

    /// Whether both say the same.
    fn same(&self, other: &Self) -> bool;
}

macro_rules! shown {
    ($($kind:ty: $show:expr;)+) => {$(
        impl Show for $kind {
            fn show(&self) -> String {
                let show: fn(&Self) -> String = $show;
                show(self)
            }

            fn same(&self, other: &Self) -> bool {
                self == other
            }
        }
    )+};
}

shown! {
    bool: |flag| flag.to_string();
    usize: |count| count.to_string();
    String: |text| text.clone();
    SocketAddr: |address| address.to_string();
    PathBuf: |path| path.display().to_string();
    Duration: |duration| as_written(*duration);
    EgressAllow: |allowed| format!("{}:{}", allowed.host, allowed.port);
    Durability: |durability| format!("{durability:?}").to_lowercase();
    LogFormat: |format| format!("{format:?}").to_lowercase();
}

/// A duration as the documentation writes it: in days, in seconds, or in milliseconds, whichever is whole. Settings have no
/// parts of a millisecond.
pub(super) fn as_written(duration: Duration) -> String {
    const DAY: u128 = 86_400_000;
    match duration.as_millis() {
        days if days >= DAY && days % DAY == 0 => format!("{}d", days / DAY),
        seconds if seconds % 1_000 == 0 => format!("{}s", seconds / 1_000),
        millis => format!("{millis}ms"),
    }
}

impl Show for SecretText {
    fn show(&self) -> String {
        "(set)".into()
    }

    fn same(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl Show for CheckpointSink {
    fn show(&self) -> String {
        match self {
            Self::File(path) => format!("file:{}", path.display()),
            // It may carry a password.
            Self::Url(_) => "(set)".into(),
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Url(one), Self::Url(other)) => one.same(other),
            _ => false,
        }
    }
}

impl Show for JwtKey {
    fn show(&self) -> String {
        format!("{}:(set)", self.kid)
    }

    fn same(&self, other: &Self) -> bool {
        self.kid == other.kid && self.secret.same(&other.secret)
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "-".into(), T::show)
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Some(one), Some(other)) => one.same(other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> String {
        if self.is_empty() { "-".into() } else { self.iter().map(T::show).collect::<Vec<_>>().join(",") }
    }

    fn same(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(one, other)| one.same(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::value::{Value, duration_or_zero};

    #[test]
    fn a_duration_is_shown_in_days_seconds_or_milliseconds() {
        for (millis, shown) in [
            (0, "0s"),
            (1, "1ms"),
            (1_500, "1500ms"),
            (30_000, "30s"),
            (90_000, "90s"),
            (600_000, "600s"),
            (3_600_000, "3600s"),
            (34_560_000_000, "400d"),
        ] {
            assert_eq!(Duration::from_millis(millis).show(), shown);
        }
    }

    proptest! {
        #[test]
        fn a_duration_that_is_shown_can_be_written(number in 0..100_000_u64, unit in 0..5_usize) {
            let millis = number * [1, 1_000, 60_000, 3_600_000, 86_400_000][unit] % 315_360_000_000;
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(duration_or_zero(Value::of(&duration.show())), Ok(duration));
        }
    }
}
