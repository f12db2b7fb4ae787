//! Where a picture or a document is: what is measured as inline data is left out of the bytes that bound a request's
//! tokens, since images and files count with a maximum of their own; in doubt nothing is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::walks::{Content, Facts};
use crate::wire::walks::{MaybeWord, Text, Word, no_scalars, text_bytes};

/// Names that decide whether data is inline data; in other letters they are refused.
const IN_SOURCE: [&str; 4] = ["type", "media_type", "data", "content"];

/// Where a picture or a document is, as far as it decides how its bytes count.
#[derive(Default)]
pub(super) struct Source<'a> {
    /// How often the block has a source, and that a type, a media type and data: of what is repeated it is not known
    /// which a provider reads.
    times: u32,
    types: u32,
    media_types: u32,
    datas: u32,
    base64: bool,
    /// It is text, or blocks, and counts as such.
    words: bool,
    picture: bool,
    pdf: bool,
    /// The JSON text of the last data.
    data: Option<&'a str>,
}

impl Source<'_> {
    /// The bytes of data, as they stand in the body, of an image or a document that counts with a maximum of its own.
    pub(super) fn inline(&self, image: bool, document: bool) -> Option<u64> {
        let once = self.times == 1 && self.types == 1 && self.media_types == 1 && self.datas == 1;
        let covered = self.base64 && (image && self.picture || document && self.pdf);
        let data = self.data.and_then(|data| data.strip_prefix('"')?.strip_suffix('"'));
        data.filter(|_| once && covered).map(|data| data.len() as u64)
    }

    /// The bytes of data that is no such thing.
    pub(super) fn data_as_text(&self) -> u64 {
        self.data.map_or(0, |data| text_bytes(data, Text::Values))
    }

    /// Whether a document holds nothing but what was counted already.
    pub(super) fn is_its_own_words(&self) -> bool {
        self.times == 1 && self.types == 1 && self.words
    }
}

/// Counts what is no data, and keeps what decides about it.
pub(super) struct ReadSource<'s, 'de, 'f>(pub(super) &'s mut Source<'de>, pub(super) &'f mut Facts);

impl<'de> DeserializeSeed<'de> for ReadSource<'_, 'de, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ReadSource<'_, 'de, '_> {
    type Value = ();
    no_scalars!(());
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.1.said(text.len() as u64);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Content(self.1).visit_seq(seq)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(source, facts) = self;
        source.times += 1;
        while let Some(Word(name)) = map.next_key()? {
            match name.as_ref() {
                "type" => {
                    source.types += 1;
                    if let Some(Word(kind)) = map.next_value_seed(MaybeWord)? {
                        source.base64 = kind == "base64";
                        source.words = kind == "text" || kind == "content";
                    }
                }
                "media_type" => {
                    source.media_types += 1;
                    if let Some(Word(kind)) = map.next_value_seed(MaybeWord)? {
                        source.picture = kind.starts_with("image/");
                        source.pdf = kind == "application/pdf";
                    }
                }
                "data" => {
                    source.datas += 1;
                    let data = map.next_value::<&RawValue>()?.get();
                    if let Some(earlier) = source.data.replace(data) {
                        facts.said(text_bytes(earlier, Text::Values));
                    }
                }
                "content" => map.next_value_seed(Content(facts))?,
                _ => {
                    facts.misspelt.check(&name, &IN_SOURCE);
                    let said = map.next_value_seed(Text::Values)?;
                    facts.said(said);
                }
            }
        }
        Ok(())
    }
}
