//! Objects of a request, member by member, so that none is forgotten: what nobody takes is refused by its name.

use std::{borrow::Cow, fmt};

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::dialects::DialectError;

/// No object that is read here knows nearly so many members.
const MAX_MEMBERS: usize = 64;

/// Where in a request a value stands; written out only when there is something wrong with it.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Root,
    Member(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    pub(super) const fn member(&'a self, name: &'a str) -> Self {
        Self::Member(self, name)
    }

    pub(super) const fn item(&'a self, index: usize) -> Self {
        Self::Item(self, index)
    }

    /// An error: it must be something else.
    pub(super) fn wrong(&self, wanted: &'static str) -> DialectError {
        DialectError::wrong_shape(self.to_string(), wanted)
    }

    /// An error: it asks for what is not to be had.
    pub(super) fn refused(&self, why: impl Into<String>) -> DialectError {
        DialectError::unsupported(self.to_string(), why)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(Self::Root, name) => f.write_str(shown(name)),
            Self::Member(outer, name) => write!(f, "{outer}.{}", shown(name)),
            Self::Item(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

/// A client's word for its error message: only if it is short and plain, since a word may carry content too.
pub(super) fn shown(word: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if !word.is_empty() && word.len() <= 64 && word.bytes().all(plain) { word } else { "…" }
}

/// The members of an object that nobody has taken yet; those that are `null` ask for nothing.
pub(super) struct Fields<'j>(Vec<(Cow<'j, str>, &'j RawValue)>);

impl<'j> Fields<'j> {
    /// The members of the object in this JSON text.
    pub(super) fn read(raw: &'j str, at: At<'_>) -> Result<Self, DialectError> {
        let members = serde_json::Deserializer::from_str(raw).deserialize_map(Members);
        let members = members.map_err(|_| at.wrong("an object of a few members"))?;
        for (place, (name, _)) in members.iter().enumerate() {
            if members.iter().take(place).any(|(earlier, _)| earlier == name) {
                return Err(at.member(name).wrong("given once"));
            }
        }
        Ok(Self(members))
    }

    /// The JSON text of a member.
    pub(super) fn take(&mut self, name: &str) -> Option<&'j str> {
        let place = self.0.iter().position(|(found, _)| found == name)?;
        let (_, value) = self.0.swap_remove(place);
        Some(value.get()).filter(|raw| *raw != "null")
    }

    /// A member, read by `read`.
    pub(super) fn get<T>(
        &mut self,
        at: At<'_>,
        name: &str,
        read: impl FnOnce(&'j str, At<'_>) -> Result<T, DialectError>,
    ) -> Result<Option<T>, DialectError> {
        self.take(name).map(|raw| read(raw, at.member(name))).transpose()
    }

    /// A member that must be there. What `read` says of `null` is said of one that is not.
    pub(super) fn need<T>(
        &mut self,
        at: At<'_>,
        name: &str,
        read: impl FnOnce(&'j str, At<'_>) -> Result<T, DialectError>,
    ) -> Result<T, DialectError> {
        read(self.take(name).unwrap_or("null"), at.member(name))
    }

    /// Nothing may be left.
    pub(super) fn finish(self, at: At<'_>) -> Result<(), DialectError> {
        match self.0.iter().find(|(_, value)| value.get() != "null") {
            Some((name, _)) => Err(unknown(at.member(name))),
            None => Ok(()),
        }
    }
}

/// An error: a member that nobody knows.
pub(super) fn unknown(at: At<'_>) -> DialectError {
    at.refused(
        "cannot be translated for the provider of this model; leave it out, or call a model of Anthropic's",
    )
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some(name) = map.next_key::<&'de RawValue>()? {
            let name = match name.get().strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
                Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
                _ => Cow::Owned(serde_json::from_str(name.get()).map_err(A::Error::custom)?),
            };
            if members.len() == MAX_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

pub(super) fn text(raw: &str, at: At<'_>) -> Result<String, DialectError> {
    serde_json::from_str(raw).map_err(|_| at.wrong("a string"))
}

pub(super) fn texts(raw: &str, at: At<'_>) -> Result<Vec<String>, DialectError> {
    serde_json::from_str(raw).map_err(|_| at.wrong("an array of strings"))
}

pub(super) fn flag(raw: &str, at: At<'_>) -> Result<bool, DialectError> {
    raw.parse().map_err(|_| at.wrong("`true` or `false`"))
}

pub(super) fn count(raw: &str, at: At<'_>) -> Result<u64, DialectError> {
    serde_json::from_str(raw).map_err(|_| at.wrong("a whole number, 0 or more"))
}

pub(super) fn number(raw: &str, at: At<'_>) -> Result<f64, DialectError> {
    serde_json::from_str(raw).map_err(|_| at.wrong("a number"))
}

pub(super) fn items<'j>(raw: &'j str, at: At<'_>) -> Result<Vec<&'j RawValue>, DialectError> {
    serde_json::from_str(raw).map_err(|_| at.wrong("an array"))
}

/// An object that passes as it stands.
pub(super) fn object(raw: &str, at: At<'_>) -> Result<Box<RawValue>, DialectError> {
    let value = Some(raw).filter(|raw| raw.starts_with('{'));
    value.and_then(|raw| RawValue::from_string(raw.to_owned()).ok()).ok_or_else(|| at.wrong("an object"))
}
