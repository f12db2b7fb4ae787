//! Reading a client's request strictly: every member is asked for by its name, and one that nobody asks for is refused
//! by its name. Values stay JSON text until somebody wants them; the way to a member is written down only when it is
//! needed for an error.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::dialects::DialectError;

/// No object of this API has nearly as many members.
const MAX_MEMBERS: usize = 64;
/// A name above this is not shown.
const MAX_SHOWN: usize = 64;
const ELSEWHERE: &str = "take it out, or call a provider of OpenAI's dialect";

/// Where a value stands.
#[derive(Clone, Copy)]
enum Path<'p> {
    Top(&'p str),
    Member(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(name) => f.write_str(shown(name)),
            Self::Member(parent, name) => write!(f, "{parent}.{}", shown(name)),
            Self::Item(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

/// A name as an error may show it: a long or strange one may be anything.
fn shown(name: &str) -> &str {
    let plain = name.len() <= MAX_SHOWN && !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    if plain { name } else { "…" }
}

/// A value of the request and where it stands. Never `null`: that is the same as no value.
#[derive(Clone, Copy)]
pub(super) struct Field<'a, 'p> {
    raw: &'a str,
    path: Path<'p>,
}

impl<'a, 'p> Field<'a, 'p> {
    /// A member of the request itself.
    pub(super) const fn top(name: &'p str, raw: &'a str) -> Self {
        Self { raw, path: Path::Top(name) }
    }

    /// A member of this object.
    pub(super) const fn member<'s>(&'s self, name: &'s str, raw: &'a str) -> Field<'a, 's> {
        Field { raw, path: Path::Member(&self.path, name) }
    }

    /// Its JSON text.
    pub(super) const fn raw(&self) -> &'a str {
        self.raw
    }

    /// Its JSON text, to be kept.
    pub(super) fn to_raw(self) -> Result<Box<RawValue>, DialectError> {
        RawValue::from_string(self.raw.to_owned()).map_err(|_| self.wrong("JSON"))
    }

    /// Its JSON text, to be kept, of an object.
    pub(super) fn to_raw_object(self) -> Result<Box<RawValue>, DialectError> {
        if self.is_object() { self.to_raw() } else { Err(self.wrong("an object")) }
    }

    pub(super) fn is_string(&self) -> bool {
        self.raw.starts_with('"')
    }

    pub(super) fn is_object(&self) -> bool {
        self.raw.starts_with('{')
    }

    /// Whether it is an object or an array without anything in it.
    pub(super) fn is_empty(&self) -> bool {
        let inside = |open, close| self.raw.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        inside('{', '}').or_else(|| inside('[', ']')).is_some_and(|inside| inside.trim().is_empty())
    }

    pub(super) fn text(&self) -> Result<Cow<'a, str>, DialectError> {
        serde_json::from_str::<Word<'a>>(self.raw).map(|word| word.0).map_err(|_| self.wrong("a string"))
    }

    pub(super) fn string(&self) -> Result<String, DialectError> {
        self.text().map(Cow::into_owned)
    }

    /// A string with something in it.
    pub(super) fn named(&self) -> Result<String, DialectError> {
        self.string()
            .ok()
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.wrong("a string that is not empty"))
    }

    pub(super) fn boolean(&self) -> Result<bool, DialectError> {
        self.raw.parse().map_err(|_| self.wrong("`true` or `false`"))
    }

    pub(super) fn number(&self) -> Result<f64, DialectError> {
        serde_json::from_str(self.raw).map_err(|_| self.wrong("a number"))
    }

    pub(super) fn count(&self) -> Result<u64, DialectError> {
        serde_json::from_str(self.raw).map_err(|_| self.wrong("a whole number, 0 or more"))
    }

    pub(super) fn whole(&self) -> Result<i64, DialectError> {
        serde_json::from_str(self.raw).map_err(|_| self.wrong("a whole number of 64 bits"))
    }

    /// Hands every member of this object that is not `null` to `read`.
    pub(super) fn members(
        &self,
        mut read: impl FnMut(&str, Field<'a, '_>) -> Result<(), DialectError>,
    ) -> Result<(), DialectError> {
        let Members(members) = serde_json::from_str(self.raw).map_err(|_| self.wrong("an object"))?;
        if members.len() > MAX_MEMBERS {
            return Err(self.wrong("an object with fewer members"));
        }
        for (at, (name, value)) in members.iter().enumerate() {
            let field = self.member(name, value.get());
            // Which of two values a provider would heed is not known.
            if members.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(field.wrong("given once"));
            }
            if field.raw != "null" {
                read(name, field)?;
            }
        }
        Ok(())
    }

    /// Hands every item of this array to `read`.
    pub(super) fn items(
        &self,
        wanted: &'static str,
        mut read: impl FnMut(Field<'a, '_>) -> Result<(), DialectError>,
    ) -> Result<(), DialectError> {
        let Items(items) = serde_json::from_str(self.raw).map_err(|_| self.wrong(wanted))?;
        for (at, raw) in items.iter().enumerate() {
            read(Field { raw: raw.get(), path: Path::Item(&self.path, at) })?;
        }
        Ok(())
    }

    /// It has the wrong shape.
    pub(super) fn wrong(&self, wanted: &'static str) -> DialectError {
        DialectError::wrong_shape(self.path.to_string(), wanted)
    }

    /// A member that must be there and is not.
    pub(super) fn missing(&self, name: &str, wanted: &'static str) -> DialectError {
        self.member(name, "").wrong(wanted)
    }

    /// What it asks for is not to be had from a provider of another dialect; `why` goes on from its name.
    pub(super) fn only_openai(&self, why: &str) -> DialectError {
        self.unsupported(&format!("{why}; {ELSEWHERE}"))
    }

    /// What it asks for is not to be had; `why` goes on from its name and says what to do.
    pub(super) fn unsupported(&self, why: &str) -> DialectError {
        DialectError::unsupported(self.path.to_string(), why)
    }

    /// Nobody asked for it.
    pub(super) fn unknown(&self) -> DialectError {
        self.only_openai("has no meaning for this model's provider")
    }
}

impl fmt::Debug for Field<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({})", self.path)
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Items<'a>(#[serde(borrow)] Vec<&'a RawValue>);

/// An object's members in order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(4);
                while let Some(Word(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}
