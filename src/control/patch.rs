//! A member of a change: absent keeps, `null` clears, a value replaces.

use serde::{Deserialize, Deserializer};

use super::ControlError;

/// What is to become of one setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Stays as it is.
    #[default]
    Keep,
    /// Goes back to what it is when nobody sets it.
    Clear,
    /// Becomes this.
    Set(T),
}

impl<T> Patch<T> {
    /// Whether it was not mentioned.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The value, for settings that a create leaves out or names: `null` is as if left out.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// The value, for settings that always have one.
    pub fn not_null(self, name: &str) -> Result<Option<T>, ControlError> {
        match self {
            Self::Keep => Ok(None),
            Self::Set(value) => Ok(Some(value)),
            Self::Clear => {
                Err(ControlError::bad(format!("`{name}` cannot be null; leave it out to keep it")))
            }
        }
    }

    /// Changes `setting`; `clear` is what `null` means.
    pub fn apply<U>(
        self,
        setting: &mut U,
        clear: U,
        check: impl FnOnce(T) -> Result<U, ControlError>,
    ) -> Result<(), ControlError> {
        match self {
            Self::Keep => {}
            Self::Clear => *setting = clear,
            Self::Set(value) => *setting = check(value)?,
        }
        Ok(())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| value.map_or(Self::Clear, Self::Set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Change {
        #[serde(default)]
        cap: Patch<i64>,
    }

    #[test]
    fn absent_null_and_a_value_are_three_things() {
        for (text, expected) in
            [("{}", Patch::Keep), (r#"{"cap":null}"#, Patch::Clear), (r#"{"cap":0}"#, Patch::Set(0))]
        {
            assert_eq!(serde_json::from_str::<Change>(text).expect("a change").cap, expected);
        }
    }
}
