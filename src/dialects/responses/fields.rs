//! A request's objects, taken apart member by member until nothing is left: what nobody takes is refused by name.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{dialects::DialectError, wire::Envelope};

/// The bound on the whole request's depth holds for what is inside as well.
const DEPTH: usize = usize::MAX;

/// An object on its way to being read.
pub(super) struct Fields {
    /// Its name in the request; empty for the request itself.
    path: String,
    envelope: Envelope,
    taken: Vec<&'static str>,
}

impl Fields {
    /// The request itself.
    pub(super) fn whole(envelope: &Envelope) -> Self {
        Self { path: String::new(), envelope: envelope.clone(), taken: Vec::new() }
    }

    /// The object that this member is.
    pub(super) fn read(path: String, raw: &str) -> Result<Self, DialectError> {
        match Envelope::split(Bytes::copy_from_slice(raw.as_bytes()), DEPTH) {
            Ok(envelope) => Ok(Self { path, envelope, taken: Vec::new() }),
            Err(_) => Err(DialectError::wrong_shape(
                path,
                "an object whose members are unique and have plain names",
            )),
        }
    }

    /// The name of a member in the request.
    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Its own name in the request.
    pub(super) fn own_path(&self) -> &str {
        &self.path
    }

    /// A member's JSON text, if it is there and not `null`.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&str> {
        self.taken.push(name);
        self.envelope.raw(name).filter(|raw| *raw != "null")
    }

    /// Takes members that mean nothing elsewhere and change nothing.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.taken.extend_from_slice(names);
    }

    /// A member that `parse` must be able to read.
    fn parsed<T>(
        &mut self,
        name: &'static str,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, DialectError> {
        let path = self.path(name);
        let Some(raw) = self.take(name) else { return Ok(None) };
        parse(raw).map(Some).ok_or_else(|| DialectError::wrong_shape(path, wanted))
    }

    /// A string.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, DialectError> {
        self.parsed(name, "a string", |raw| serde_json::from_str(raw).ok())
    }

    /// A string that must be there.
    pub(super) fn required_text(&mut self, name: &'static str) -> Result<String, DialectError> {
        self.text(name)?.ok_or_else(|| DialectError::wrong_shape(self.path(name), "a string"))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, DialectError> {
        self.parsed(name, "`true` or `false`", |raw| raw.parse().ok())
    }

    /// A number.
    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<f64>, DialectError> {
        self.parsed(name, "a number", |raw| serde_json::from_str(raw).ok())
    }

    /// An object that only passes through.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Box<RawValue>>, DialectError> {
        self.parsed(name, "an object", |raw| {
            raw.starts_with('{').then(|| RawValue::from_string(raw.to_owned()).ok()).flatten()
        })
    }

    /// The entries of an array, as JSON text.
    pub(super) fn list(&mut self, name: &'static str) -> Result<Option<Vec<Box<RawValue>>>, DialectError> {
        self.parsed(name, "an array", |raw| serde_json::from_str(raw).ok())
    }

    /// An object inside.
    pub(super) fn inner(&mut self, name: &'static str) -> Result<Option<Self>, DialectError> {
        let path = self.path(name);
        self.take(name).map(|raw| Self::read(path, raw)).transpose()
    }

    /// Refuses a member that is there and says anything but these.
    pub(super) fn refuse(
        &mut self,
        name: &'static str,
        harmless: &[&str],
        why: &str,
    ) -> Result<(), DialectError> {
        let path = self.path(name);
        match self.take(name) {
            Some(raw) if !harmless.contains(&raw) => Err(DialectError::unsupported(path, why)),
            _ => Ok(()),
        }
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), DialectError> {
        let left = self.envelope.iter().find(|(name, raw)| !self.taken.contains(name) && *raw != "null");
        match left {
            None => Ok(()),
            Some((name, _)) => Err(DialectError::unsupported(
                self.path(&shown(name)),
                "is not known here and cannot be said to this provider; leave it out, or call a model whose provider \
                 speaks `/responses`",
            )),
        }
    }
}

/// A client's name, if it is short and plain: a name may carry content too.
fn shown(name: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) { name.into() } else { "…".into() }
}
