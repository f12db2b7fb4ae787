//! Walks over what is peculiar to a request to `/responses`: its `input`, a list of items of many kinds, and its tools,
//! many of which the provider runs itself.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    inline::says_only,
    walks::{Content, Counts, MaybeWord, Text, ToolFacts, Word, text_bytes},
};

/// Names in an item and in a tool that decide what they cost.
const IN_ITEM: [&str; 4] = ["type", "content", "output", "tools"];
const IN_TOOL: [&str; 3] = ["type", "environment", "tools"];

/// What an `input` holds.
#[derive(Default)]
pub(super) struct InputCounts {
    /// Items, and what is in them.
    pub(super) counts: Counts,
    /// Items that stand for something which the provider keeps or only it can read: their bytes do not bound it.
    pub(super) unseen: u64,
    /// A tool among them costs by the call.
    pub(super) priced_apart: bool,
}

/// `input`: text, or an array of objects.
pub(super) struct Items;

impl<'de> DeserializeSeed<'de> for Items {
    type Value = InputCounts;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<InputCounts, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = InputCounts;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of objects")
    }
    fn visit_str<E>(self, text: &str) -> Result<InputCounts, E> {
        let mut found = InputCounts::default();
        found.counts.messages = 1;
        found.counts.said(text.len() as u64);
        Ok(found)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<InputCounts, A::Error> {
        let mut found = InputCounts::default();
        while seq.next_element_seed(Item(&mut found))?.is_some() {
            found.counts.messages += 1;
        }
        Ok(found)
    }
}

struct Item<'c>(&'c mut InputCounts);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let InputCounts { counts, unseen, priced_apart } = self.0;
        // Without a type it is a message if it has a role, and otherwise a reference to an item that is kept.
        let (mut typed, mut referred, mut picture) = (false, false, false);
        // Repeated names are all counted: which of them a provider reads is not known.
        while let Some(Word(name)) = map.next_key()? {
            match name.as_ref() {
                "type" => {
                    if let Some(Word(kind)) = map.next_value_seed(MaybeWord)? {
                        typed = true;
                        referred |= matches!(kind.as_ref(), "item_reference" | "compaction");
                        picture |= kind == "image_generation_call";
                    }
                }
                "role" => typed |= map.next_value::<Option<IgnoredAny>>()?.is_some(),
                "content" | "output" => map.next_value_seed(Content(counts))?,
                "tools" => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    let tools = ResponseTools.deserialize(&mut serde_json::Deserializer::from_str(raw));
                    *priced_apart |= tools.is_ok_and(|tools| tools.priced_apart);
                    counts.said(text_bytes(raw, Text::NamesAndValues));
                }
                "id" | "call_id" | "status" | "phase" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    counts.misspelt.check(&name, &IN_ITEM);
                    let said = map.next_value_seed(Text::Values)?;
                    counts.said(said);
                }
            }
        }
        *unseen += u64::from(referred || !typed);
        counts.images += u64::from(picture);
        Ok(())
    }
}

/// `tools`: an array of objects.
pub(super) struct ResponseTools;

impl<'de> DeserializeSeed<'de> for ResponseTools {
    type Value = ToolFacts;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ToolFacts, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ResponseTools {
    type Value = ToolFacts;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ToolFacts, A::Error> {
        let mut facts = ToolFacts::default();
        while seq.next_element_seed(ResponseTool(&mut facts))?.is_some() {
            facts.any = true;
        }
        Ok(facts)
    }
}

/// One tool: the client's own to run, or a provider's, which may cost by the call. In doubt it is the provider's.
struct ResponseTool<'f>(&'f mut ToolFacts);

impl<'de> DeserializeSeed<'de> for ResponseTool<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ResponseTool<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut typed, mut own, mut shell, mut local) = (false, true, false, None);
        while let Some(Word(name)) = map.next_key()? {
            let said = match name.as_ref() {
                "type" => {
                    let kind = map.next_value_seed(MaybeWord)?;
                    typed = true;
                    own &= kind.as_ref().is_some_and(|Word(kind)| is_own(kind));
                    shell |= kind.as_ref().is_some_and(|Word(kind)| kind == "shell");
                    kind.map_or(0, |Word(kind)| kind.len() as u64)
                }
                "environment" => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    let here = says_only(raw, "type", "local") == Some(true);
                    local = Some(local.unwrap_or(true) && here);
                    text_bytes(raw, Text::NamesAndValues)
                }
                // Of a namespace.
                "tools" => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    let inner = ResponseTools.deserialize(&mut serde_json::Deserializer::from_str(raw));
                    own &= inner.is_ok_and(|inner| !inner.priced_apart);
                    text_bytes(raw, Text::NamesAndValues)
                }
                _ => {
                    self.0.misspelt.check(&name, &IN_TOOL);
                    map.next_value_seed(Text::NamesAndValues)?
                }
            };
            self.0.text_bytes = self.0.text_bytes.saturating_add(name.len() as u64).saturating_add(said);
        }
        // A shell that is not said to be the client's is a container of the provider's.
        own &= typed && (!shell || local == Some(true));
        self.0.priced_apart |= !own;
        Ok(())
    }
}

/// Tools that the client runs, and that cost nothing but their tokens.
fn is_own(kind: &str) -> bool {
    matches!(
        kind,
        "function"
            | "custom"
            | "namespace"
            | "shell"
            | "local_shell"
            | "apply_patch"
            | "computer"
            | "computer_use_preview"
    )
}
