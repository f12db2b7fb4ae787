//! A request body as ordered (name, raw value) pairs over the client's own bytes.
//!
//! Invariants of an [`Envelope`]: the body is UTF-8 and exactly one JSON object, nested no deeper than the caller
//! allows, without a number that is not finite; its top-level names are unique, written without escapes, and none of
//! them authenticates, chooses a destination, or is a name the gateway counts on in other letters. Two readers of one
//! body can therefore not disagree about what it asks for.
//! What is not edited leaves byte for byte as it came.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Range};

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    names::{FORBIDDEN, misspelt},
    scan,
};

/// Up to here repeated names are found by comparing all pairs, which needs no allocation.
const PAIRWISE: usize = 24;

/// Why a body is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not UTF-8.
    #[error("the body is not UTF-8; send JSON encoded as UTF-8")]
    NotUtf8,
    /// Not one JSON value.
    #[error("the body is not valid JSON at byte {at}; send exactly one JSON object")]
    NotJson {
        /// Where reading stopped, in bytes from the start.
        at: usize,
    },
    /// JSON, but no object.
    #[error("the body is JSON but not an object; send an object such as `{{\"model\": …}}`")]
    NotAnObject,
    /// Nested too deeply.
    #[error("the body is nested deeper than {max} levels; flatten it")]
    TooDeep {
        /// The deepest nesting that is accepted.
        max: usize,
    },
    /// A number that no double can hold.
    #[error("the number at byte {at} is too large; send a finite number")]
    NotFinite {
        /// Where the number begins.
        at: usize,
    },
    /// A name that occurs twice.
    #[error("`{name}` is given more than once; send it once")]
    Duplicate {
        /// The name, if it is fit to be shown.
        name: String,
    },
    /// A top-level name written with escapes.
    #[error("the member name `{name}` is written with escapes; write it in plain characters")]
    Escaped {
        /// The decoded name, if it is fit to be shown.
        name: String,
    },
    /// A member that only the gateway may decide.
    #[error("`{name}` must not be in the body; the gateway chooses where a request goes and with which key")]
    Forbidden {
        /// The member.
        name: &'static str,
    },
    /// A name that some providers take for one that matters, because they ignore case.
    #[error("`{name}` is read as `{plain}` by some providers; write it `{plain}`")]
    Misspelt {
        /// The name, if it is fit to be shown.
        name: String,
        /// What it is taken for.
        plain: &'static str,
    },
    /// A member of the wrong type or out of range.
    #[error("`{name}` must be {wanted}")]
    WrongType {
        /// The member.
        name: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// No model is named.
    #[error("`model` is missing; name a model, for example `openai/gpt-5.4-mini`")]
    MissingModel,
}

impl EnvelopeError {
    /// A name that is taken for `plain`.
    pub(super) fn misspelt(name: &str, plain: &'static str) -> Self {
        Self::Misspelt { name: shown(name), plain }
    }
}

/// One change to a body.
#[derive(Clone, PartialEq, Eq)]
pub enum Edit {
    /// Gives a member this value, in place or at the end.
    Set {
        /// The member.
        name: &'static str,
        /// Its value, as JSON text.
        value: String,
    },
    /// Takes a member out.
    Remove {
        /// The member.
        name: &'static str,
    },
}

impl Edit {
    /// Sets a string.
    pub fn text(name: &'static str, text: &str) -> Self {
        Self::Set { name, value: serde_json::to_string(text).expect("a text can be written") }
    }

    /// Sets a number.
    pub fn number(name: &'static str, number: u64) -> Self {
        Self::Set { name, value: number.to_string() }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Set { name, .. } | Self::Remove { name } => name,
        }
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { name, .. } => f.debug_struct("Set").field("name", name).finish_non_exhaustive(),
            Self::Remove { name } => f.debug_struct("Remove").field("name", name).finish(),
        }
    }
}

#[derive(Clone)]
struct Member {
    name: Range<usize>,
    value: Range<usize>,
}

/// A checked request body. Cloning shares its bytes.
#[derive(Clone)]
pub struct Envelope {
    body: Bytes,
    members: Vec<Member>,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("bytes", &self.body.len())
            .field("members", &self.members.len())
            .finish()
    }
}

impl Envelope {
    /// Checks a body and finds its members. Linear in the body, without recursion.
    ///
    /// # Errors
    /// The body is not one JSON object, or breaks an invariant of this module.
    pub fn parse(body: Bytes, max_depth: usize) -> Result<Self, EnvelopeError> {
        let envelope = Self::split(body, max_depth)?;
        for (name, _) in envelope.iter() {
            let taken_for = misspelt(name);
            let read_as = taken_for.unwrap_or(name);
            // Its right spelling would not help what is forbidden.
            if let Some(name) = FORBIDDEN.into_iter().find(|forbidden| *forbidden == read_as) {
                return Err(EnvelopeError::Forbidden { name });
            }
            if let Some(plain) = taken_for {
                return Err(EnvelopeError::misspelt(name, plain));
            }
        }
        Ok(envelope)
    }

    /// As [`Self::parse`], for an object inside a request: every name may occur.
    ///
    /// # Errors
    /// As [`Self::parse`], except `Forbidden` and `Misspelt`.
    pub fn split(body: Bytes, max_depth: usize) -> Result<Self, EnvelopeError> {
        let text = std::str::from_utf8(&body).map_err(|_| EnvelopeError::NotUtf8)?;
        scan::check(body.as_ref(), max_depth)?;
        let mut found =
            Found { base: text.as_ptr() as usize, members: Vec::with_capacity(16), escaped: None };
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(&mut found)
            .and_then(|()| json.end())
            .map_err(|error| not_an_object(text, &error))?;
        let Found { members, escaped, .. } = found;
        if let Some(name) = escaped {
            return Err(EnvelopeError::Escaped { name: shown(&name) });
        }
        let envelope = Self { body, members };
        match envelope.repeated() {
            Some(name) => Err(EnvelopeError::Duplicate { name: shown(name) }),
            None => Ok(envelope),
        }
    }

    /// Bytes of the body as it came.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether the body is empty; a parsed one never is.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The JSON text of a member.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// The bytes of a member's value, sharing the body.
    pub fn raw_bytes(&self, name: &str) -> Option<Bytes> {
        let member = self.members.iter().find(|member| self.text(&member.name) == name)?;
        Some(self.body.slice(member.value.clone()))
    }

    /// Members in order, as name and JSON text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|member| (self.text(&member.name), self.text(&member.value)))
    }

    /// The body with `edits` made. Without an effective edit these are the same bytes, not a copy; while nothing is
    /// removed, even the white space between members stays.
    pub fn render(&self, edits: &[Edit]) -> Bytes {
        // The last edit of a name is the one that counts.
        let edit_of = |name: &str| edits.iter().rev().find(|edit| edit.name() == name);
        let appended: Vec<(&str, &str)> = edits
            .iter()
            .enumerate()
            .filter_map(|(at, edit)| match edit {
                Edit::Set { name, value }
                    if self.raw(name).is_none()
                        && !edits[at + 1..].iter().any(|later| later.name() == *name) =>
                {
                    Some((*name, value.as_str()))
                }
                _ => None,
            })
            .collect();
        let mut removes = false;
        let mut sets = !appended.is_empty();
        for (name, value) in self.iter() {
            match edit_of(name) {
                Some(Edit::Remove { .. }) => removes = true,
                Some(Edit::Set { value: new, .. }) => sets |= new != value,
                None => {}
            }
        }
        if !removes && !sets {
            return self.body.clone();
        }
        let grown = edits.iter().map(|edit| match edit {
            Edit::Set { name, value } => name.len() + value.len() + 4,
            Edit::Remove { .. } => 0,
        });
        let mut out = Vec::with_capacity(self.body.len() + grown.sum::<usize>());
        if removes {
            self.rewrite(&mut out, edit_of, &appended);
        } else {
            self.splice(&mut out, edit_of, &appended);
        }
        Bytes::from(out)
    }

    /// Copies the body, values exchanged where they stand.
    fn splice<'e>(
        &self,
        out: &mut Vec<u8>,
        edit_of: impl Fn(&str) -> Option<&'e Edit>,
        appended: &[(&str, &str)],
    ) {
        let mut copied = 0;
        for member in &self.members {
            if let Some(Edit::Set { value, .. }) = edit_of(self.text(&member.name)) {
                out.extend_from_slice(&self.body[copied..member.value.start]);
                out.extend_from_slice(value.as_bytes());
                copied = member.value.end;
            }
        }
        let end = match self.members.last() {
            Some(last) => last.value.end,
            // An empty object: what is appended goes right behind its brace.
            None => self.body.iter().position(|b| *b == b'{').map_or(0, |brace| brace + 1),
        };
        out.extend_from_slice(&self.body[copied..end]);
        for (at, (name, value)) in appended.iter().enumerate() {
            write_member(out, at == 0 && self.members.is_empty(), name, value);
        }
        out.extend_from_slice(&self.body[end..]);
    }

    /// Writes the members that stay, in order, without the white space between them.
    fn rewrite<'e>(
        &self,
        out: &mut Vec<u8>,
        edit_of: impl Fn(&str) -> Option<&'e Edit>,
        appended: &[(&str, &str)],
    ) {
        out.push(b'{');
        let mut first = true;
        for (name, value) in self.iter() {
            let value = match edit_of(name) {
                Some(Edit::Remove { .. }) => continue,
                Some(Edit::Set { value, .. }) => value.as_str(),
                None => value,
            };
            write_member(out, first, name, value);
            first = false;
        }
        for (name, value) in appended {
            write_member(out, first, name, value);
            first = false;
        }
        out.push(b'}');
    }

    fn text(&self, span: &Range<usize>) -> &str {
        std::str::from_utf8(&self.body[span.clone()]).expect("spans were cut from this body as `&str`")
    }

    fn repeated(&self) -> Option<&str> {
        if self.members.len() <= PAIRWISE {
            return self.members.iter().enumerate().find_map(|(at, member)| {
                let name = &self.body[member.name.clone()];
                let earlier = self.members[..at].iter().any(|other| self.body[other.name.clone()] == *name);
                earlier.then(|| self.text(&member.name))
            });
        }
        let mut seen = HashSet::with_capacity(self.members.len());
        self.iter().map(|(name, _)| name).find(|name| !seen.insert(*name))
    }
}

fn write_member(out: &mut Vec<u8>, first: bool, name: &str, value: &str) {
    if !first {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value.as_bytes());
}

/// A client's name for its error message: only if it is short and plain, since a name may carry content too.
fn shown(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) {
        name.to_owned()
    } else {
        "…".to_owned()
    }
}

fn not_an_object(text: &str, error: &serde_json::Error) -> EnvelopeError {
    let object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
    if !object && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return EnvelopeError::NotAnObject;
    }
    let line_start: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    EnvelopeError::NotJson { at: (line_start + error.column().saturating_sub(1)).min(text.len()) }
}

/// Collects spans while serde_json walks the object once. Offsets come from addresses: `RawValue` and plain names
/// borrow from the input.
struct Found {
    base: usize,
    members: Vec<Member>,
    escaped: Option<String>,
}

impl<'de> Visitor<'de> for &mut Found {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            match name {
                Cow::Borrowed(name) => {
                    let span = |part: &str| {
                        let start = part.as_ptr() as usize - self.base;
                        start..start + part.len()
                    };
                    let member = Member { name: span(name), value: span(value.get()) };
                    self.members.push(member);
                }
                Cow::Owned(name) => {
                    self.escaped.get_or_insert(name);
                }
            }
        }
        Ok(())
    }
}

/// A member's name; borrowed exactly when it is written without escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Envelope, EnvelopeError> {
        Envelope::parse(Bytes::copy_from_slice(text.as_bytes()), 64)
    }

    fn edited(text: &str, edits: &[Edit]) -> String {
        let body = parse(text).expect("an envelope").render(edits);
        String::from_utf8(body.to_vec()).expect("text")
    }

    #[test]
    fn bodies_that_are_no_single_object_are_told_what_is_wrong() {
        let cases = [
            ("", EnvelopeError::NotJson { at: 0 }),
            ("[1]", EnvelopeError::NotAnObject),
            ("null", EnvelopeError::NotAnObject),
            ("\u{feff}{}", EnvelopeError::NotJson { at: 0 }),
            ("{\"a\":1}}", EnvelopeError::NotJson { at: 7 }),
            ("{\"a\":1} {\"a\":2}", EnvelopeError::NotJson { at: 8 }),
            ("{\"model\":\"a\",\"model\":\"b\"}", EnvelopeError::Duplicate { name: "model".into() }),
            ("{\"mod\\u0065l\":\"b\"}", EnvelopeError::Escaped { name: "model".into() }),
            ("{\"api_base\":null}", EnvelopeError::Forbidden { name: "api_base" }),
            ("{\"a\":[{\"t\":1e999}]}", EnvelopeError::NotFinite { at: 11 }),
        ];
        for (body, error) in cases {
            assert_eq!(parse(body).err(), Some(error), "{body}");
        }
        for broken in [
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1,}",
            "{\"a\":NaN}",
            "{\"a\":\"\n\"}",
        ] {
            assert!(matches!(parse(broken), Err(EnvelopeError::NotJson { .. })), "{broken}");
        }
        assert_eq!(
            Envelope::parse(Bytes::from_static(b"{\"a\":\"\xff\"}"), 64).err(),
            Some(EnvelopeError::NotUtf8)
        );
    }

    #[test]
    fn p21_nesting_is_bounded_without_recursion() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(parse(&nested(64)).is_ok());
        assert_eq!(parse(&nested(65)).err(), Some(EnvelopeError::TooDeep { max: 64 }));
        assert_eq!(parse(&nested(200_000)).err(), Some(EnvelopeError::TooDeep { max: 64 }));
        let allowed = Envelope::parse(Bytes::from(nested(100_000)), 100_000).expect("deep but allowed");
        assert_eq!(allowed.iter().count(), 1);
        assert!(parse(&format!("{{\"a\":\"{}\"}}", "[".repeat(500))).is_ok(), "brackets in text are text");
    }

    #[test]
    fn many_members_are_checked_for_repetition_too() {
        let members = |n: usize| (0..n).map(|i| format!("\"m{i}\":{i}")).collect::<Vec<_>>().join(",");
        assert!(parse(&format!("{{{}}}", members(5_000))).is_ok());
        let repeated = format!("{{{},\"m7\":0}}", members(5_000));
        assert_eq!(parse(&repeated).err(), Some(EnvelopeError::Duplicate { name: "m7".into() }));
    }

    #[test]
    fn without_an_effective_edit_the_bytes_are_the_same_allocation() {
        let body = Bytes::from_static(b" {\"model\" : \"a\"}\n");
        let envelope = Envelope::parse(body.clone(), 8).expect("an envelope");
        for edits in [vec![], vec![Edit::Remove { name: "models" }], vec![Edit::text("model", "a")]] {
            assert_eq!(envelope.render(&edits).as_ptr(), body.as_ptr());
        }
    }

    #[test]
    fn setting_keeps_everything_else_even_white_space() {
        let body = "{ \"model\" : \"a\" ,\n \"seed\":9007199254740993, \"x\" : [ 1.50 ] }\n";
        assert_eq!(
            edited(body, &[Edit::text("model", "b\"c"), Edit::number("max_tokens", 7)]),
            "{ \"model\" : \"b\\\"c\" ,\n \"seed\":9007199254740993, \"x\" : [ 1.50 ],\"max_tokens\":7 }\n"
        );
        assert_eq!(edited("{ }", &[Edit::number("n", 1)]), "{\"n\":1 }");
    }

    #[test]
    fn removing_keeps_the_order_and_the_values() {
        let body = "{\"models\": [\"a\"], \"model\":\"a\", \"x\" : 1.0e1 ,\"models2\":{} }";
        let edits = [Edit::Remove { name: "models" }, Edit::text("model", "b"), Edit::number("n", 2)];
        assert_eq!(edited(body, &edits), "{\"model\":\"b\",\"x\":1.0e1,\"models2\":{},\"n\":2}");
        assert_eq!(edited("{\"a\":1}", &[Edit::Remove { name: "a" }]), "{}");
    }

    #[test]
    fn debug_shows_no_content() {
        let envelope = parse("{\"model\":\"canary-7\"}").expect("an envelope");
        assert!(!format!("{envelope:?} {:?}", Edit::text("model", "canary-7")).contains("canary-7"));
    }

    proptest! {
        #[test]
        fn p21_any_bytes_are_answered_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Envelope::parse(Bytes::from(body), 8);
        }

        #[test]
        fn an_envelope_says_what_serde_json_says(
            pairs in proptest::collection::btree_map("[a-z]{1,6}", "[\\PC\"\\\\\n]{0,12}", 0..6),
            space in "[ \n\t]{0,2}",
        ) {
            let members: Vec<String> = pairs
                .iter()
                .map(|(name, value)| format!("{space}\"{name}\"{space}:{}", serde_json::Value::from(value.as_str())))
                .collect();
            let body = format!("{space}{{{}{space}}}", members.join(","));
            let envelope = parse(&body).expect("an object");
            let edits = [Edit::text("new-name", "x"), Edit::Remove { name: "b" }];
            let out: serde_json::Value = serde_json::from_slice(&envelope.render(&edits)).expect("still JSON");
            prop_assert_eq!(&out["new-name"], "x");
            for (name, value) in pairs.iter().filter(|(name, _)| *name != "b") {
                prop_assert_eq!(&out[name], value.as_str());
            }
        }
    }
}
