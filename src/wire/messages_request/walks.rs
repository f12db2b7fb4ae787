//! Walks over messages, instructions and tools of a request to `/messages`, in the manner of the
//! [others](crate::wire::walks): they count and build nothing, and answer for every shape JSON allows.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::source::{ReadSource, Source};
use crate::wire::walks::{MaybeWord, Misspelt, Text, Word, no_scalars, text_bytes};

/// Names inside a request that decide what it costs; in other letters they are refused.
const IN_MESSAGE: [&str; 2] = ["content", "cache_control"];
const IN_BLOCK: [&str; 5] = ["type", "source", "content", "cache_control", "tool"];
const IN_TOOL: [&str; 2] = ["type", "cache_control"];
const IN_CACHE: [&str; 1] = ["ttl"];
const IN_ADDITION: [&str; 1] = ["definition"];

/// Beginnings of the types of tools that the client runs, although Anthropic describes them to the model: they cost
/// tokens and nothing else.
const RUN_BY_THE_CLIENT: [&str; 5] = ["bash_2", "text_editor_2", "computer_", "memory_2", "browser_toolset_"];

/// What is counted.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) messages: u64,
    pub(super) images: u64,
    /// Documents, but those that are text or blocks of their own, which count as what they are.
    pub(super) files: u64,
    /// Bytes of inline data of what is counted in `images` and `files`.
    pub(super) inline_bytes: u64,
    /// Bytes of what is said: of every string that is no mere label. Inline data counts as it stands.
    pub(super) text_bytes: u64,
    pub(super) tools: bool,
    /// A tool that the provider runs, and bills by the call.
    pub(super) priced_apart: bool,
    pub(super) hour_cache: bool,
    pub(super) misspelt: Misspelt,
}

impl Facts {
    pub(super) fn said(&mut self, bytes: u64) {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
    }
}

/// Declares seeds that count into [`Facts`].
macro_rules! seeds {
    ($($(#[$doc:meta])* $seed:ident by $method:ident;)+) => {
        $(
            $(#[$doc])*
            pub(super) struct $seed<'f>(pub(super) &'f mut Facts);

            impl<'de> DeserializeSeed<'de> for $seed<'_> {
                type Value = ();
                fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                    deserializer.$method(self)
                }
            }
        )+
    };
}

seeds! {
    /// `messages`: an array of objects and nothing else.
    Messages by deserialize_seq;
    Message by deserialize_map;
    /// Text, or an array of blocks.
    Content by deserialize_any;
    Block by deserialize_any;
    /// `tools`: an array of objects and nothing else.
    Tools by deserialize_seq;
    Tool by deserialize_map;
    /// A block's directive to offer one more tool.
    Addition by deserialize_any;
    /// `cache_control`
    Cache by deserialize_any;
}

impl<'de> Visitor<'de> for Messages<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Message(self.0))?.is_some() {
            self.0.messages += 1;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Repeated names are all counted: which of them a provider reads is not known.
        while let Some(Word(name)) = map.next_key()? {
            match name.as_ref() {
                "content" => map.next_value_seed(Content(self.0))?,
                "cache_control" => map.next_value_seed(Cache(self.0))?,
                "role" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    self.0.misspelt.check(&name, &IN_MESSAGE);
                    let said = map.next_value_seed(Text::Values)?;
                    self.0.said(said);
                }
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();
    no_scalars!(());
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.said(text.len() as u64);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Block(self.0))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Block(self.0).visit_map(map)
    }
}

impl<'de> Visitor<'de> for Block<'_> {
    type Value = ();
    no_scalars!(());
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.said(text.len() as u64);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Content(self.0).visit_seq(seq)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut image, mut document, mut types) = (false, false, 0_u32);
        let mut source = Source::default();
        while let Some(Word(name)) = map.next_key()? {
            match name.as_ref() {
                "type" => {
                    types += 1;
                    if let Some(Word(kind)) = map.next_value_seed(MaybeWord)? {
                        image |= kind == "image";
                        document |= kind == "document";
                    }
                }
                "source" => map.next_value_seed(ReadSource(&mut source, self.0))?,
                "content" => map.next_value_seed(Content(self.0))?,
                "cache_control" => map.next_value_seed(Cache(self.0))?,
                "tool" => map.next_value_seed(Addition(self.0))?,
                "input" => {
                    let said = map.next_value_seed(Text::NamesAndValues)?;
                    self.0.said(said);
                }
                "id" | "tool_use_id" | "signature" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    self.0.misspelt.check(&name, &IN_BLOCK);
                    let said = map.next_value_seed(Text::Values)?;
                    self.0.said(said);
                }
            }
        }
        let inline = if types == 1 { source.inline(image, document) } else { None };
        self.0.inline_bytes = self.0.inline_bytes.saturating_add(inline.unwrap_or(0));
        self.0.said(inline.unwrap_or_else(|| source.data_as_text()));
        self.0.images += u64::from(image);
        self.0.files += u64::from(document && !source.is_its_own_words());
        Ok(())
    }
}

impl<'de> Visitor<'de> for Tools<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Tool(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for Tool<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.tools = true;
        while let Some(Word(name)) = map.next_key()? {
            let said = match name.as_ref() {
                "type" => {
                    let kind = map.next_value::<&RawValue>()?.get();
                    self.0.priced_apart |= kind != "null" && !is_run_by_the_client(kind);
                    text_bytes(kind, Text::Values)
                }
                "cache_control" => {
                    map.next_value_seed(Cache(self.0))?;
                    continue;
                }
                _ => {
                    self.0.misspelt.check(&name, &IN_TOOL);
                    map.next_value_seed(Text::NamesAndValues)?
                }
            };
            self.0.said((name.len() as u64).saturating_add(said));
        }
        Ok(())
    }
}

/// Whether this is the JSON text of a type of tools that cost nothing but tokens.
fn is_run_by_the_client(kind: &str) -> bool {
    serde_json::from_str::<Word<'_>>(kind).is_ok_and(|Word(kind)| {
        kind == "custom" || RUN_BY_THE_CLIENT.iter().any(|start| kind.starts_with(start))
    })
}

impl<'de> Visitor<'de> for Addition<'_> {
    type Value = ();
    no_scalars!(());
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.said(text.len() as u64);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Addition(self.0))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Word(name)) = map.next_key()? {
            if name == "definition" {
                map.next_value_seed(Tool(self.0))?;
                continue;
            }
            self.0.misspelt.check(&name, &IN_ADDITION);
            let said = map.next_value_seed(Text::Values)?;
            self.0.said(said);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Cache<'_> {
    type Value = ();
    no_scalars!(());
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Cache(self.0))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Word(name)) = map.next_key()? {
            if name == "ttl" {
                let ttl = map.next_value_seed(MaybeWord)?;
                // Anything longer than minutes is at least as dear as an hour.
                self.0.hour_cache |= ttl.is_some_and(|Word(ttl)| ttl != "5m");
            } else {
                self.0.misspelt.check(&name, &IN_CACHE);
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
