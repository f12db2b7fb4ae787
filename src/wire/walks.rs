//! Walks over the values of a request that count what policy needs and build nothing.
//!
//! A walk answers for every shape JSON allows: what it does not expect it skips, unless the shape itself is the check.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    inline::{data_bytes, file_bytes, image_bytes, keeps_cache_long, marks_an_hour},
    names::folds_to,
};

/// Names inside a request that decide what it costs. What only some decoders take for one of them is refused, since
/// the provider would see what was not counted here.
const IN_MESSAGE: [&str; 2] = ["content", "audio"];
const IN_PART: [&str; 17] = [
    "type",
    "image_url",
    "image",
    "input_image",
    "input_audio",
    "audio",
    "audio_url",
    "file",
    "input_file",
    "document",
    "document_url",
    "video_url",
    "video",
    "input_video",
    "file_data",
    "file_url",
    "prompt_cache_breakpoint",
];
const IN_TOOL: [&str; 1] = ["type"];

/// Bytes that stand for one token where a token is given as its number.
const BYTES_OF_A_TOKEN: u64 = 4;

/// The first name in a value that is one of its own names in other letters.
#[derive(Default)]
pub(super) struct Misspelt(pub(super) Option<(String, &'static str)>);

impl Misspelt {
    /// Looks at a name that was not one of `known`.
    pub(super) fn check(&mut self, name: &str, known: &[&'static str]) {
        if let Some(plain) = folds_to(name, known) {
            self.0.get_or_insert_with(|| (name.to_owned(), plain));
        }
    }
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) images: u64,
    pub(super) audio: u64,
    pub(super) files: u64,
    pub(super) videos: u64,
    /// Bytes of inline data of what is counted in `images` and `files`.
    pub(super) inline_bytes: u64,
    /// Bytes of what is said: of every string that is no mere label. Inline data counts as it stands.
    pub(super) text_bytes: u64,
    /// Somewhere the provider is asked to cache what stands before for longer than usual.
    pub(super) hour_cache: bool,
    pub(super) misspelt: Misspelt,
}

impl Counts {
    pub(super) fn said(&mut self, bytes: u64) {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
    }
}

/// Skips the rest of a sequence.
fn drain<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Declares a seed over a visitor that answers anything it does not expect with its default.
macro_rules! seed {
    ($seed:ident<$($life:lifetime)?> -> $value:ty, $method:ident) => {
        impl<'de> DeserializeSeed<'de> for $seed$(<$life>)? {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.$method(self)
            }
        }
    };
}

/// Scalars other than strings are of no interest.
macro_rules! no_scalars {
    ($default:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($default)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($default)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($default)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($default)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($default)
        }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("another type")
        }
    };
}

pub(super) use no_scalars;

/// `messages`: an array of objects and nothing else.
pub(super) struct Messages;
seed!(Messages<> -> Counts, deserialize_seq);

impl<'de> Visitor<'de> for Messages {
    type Value = Counts;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Counts, A::Error> {
        let mut counts = Counts::default();
        while seq.next_element_seed(Message(&mut counts))?.is_some() {
            counts.messages += 1;
        }
        Ok(counts)
    }
}

struct Message<'c>(&'c mut Counts);

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
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
                // An earlier answer in audio is heard again.
                "audio" => self.0.audio += u64::from(map.next_value::<Option<IgnoredAny>>()?.is_some()),
                "role" | "tool_call_id" => {
                    map.next_value::<IgnoredAny>()?;
                }
                "cache_control" => {
                    self.0.hour_cache |= marks_an_hour(map.next_value::<&RawValue>()?.get());
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

/// `content`: text, or an array of parts.
pub(super) struct Content<'c>(pub(super) &'c mut Counts);

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
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
        while seq.next_element_seed(Part(self.0))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Part(self.0).visit_map(map)
    }
}

/// One part of a content.
struct Part<'c>(&'c mut Counts);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();
    no_scalars!(());
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.said(text.len() as u64);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        let said = Text::Values.visit_seq(seq)?;
        self.0.said(said);
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut image, mut audio, mut file, mut video) = (false, false, false, false);
        // Some servers go by the type, some by the member that holds the payload: either makes it one.
        let mut mark = |word: &str| match word {
            "image_url" | "image" | "input_image" | "computer_screenshot" => image = true,
            "input_audio" | "audio" | "audio_url" => audio = true,
            "file" | "input_file" | "file_data" | "file_url" | "document" | "document_url" => file = true,
            "video_url" | "video" | "input_video" => video = true,
            _ => {}
        };
        while let Some(Word(name)) = map.next_key()? {
            if name == "type" {
                if let Some(Word(kind)) = map.next_value_seed(MaybeWord)? {
                    mark(&kind);
                }
                continue;
            }
            // Only a member that makes the part count as an image or a file may hold data that counts no other way.
            mark(&name);
            let (raw, inline) = match name.as_ref() {
                "image_url" => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    (raw, image_bytes(raw))
                }
                "file" => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    (raw, file_bytes(raw))
                }
                // Responses have no object around it.
                "file_data" => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    (raw, data_bytes(raw))
                }
                "cache_control" => {
                    self.0.hour_cache |= marks_an_hour(map.next_value::<&RawValue>()?.get());
                    continue;
                }
                "prompt_cache_breakpoint" => {
                    self.0.hour_cache |= keeps_cache_long(map.next_value::<&RawValue>()?.get());
                    continue;
                }
                _ => {
                    self.0.misspelt.check(&name, &IN_PART);
                    let said = map.next_value_seed(Text::Values)?;
                    self.0.said(said);
                    continue;
                }
            };
            self.0.inline_bytes = self.0.inline_bytes.saturating_add(inline);
            // An address is short; data that was measured is not read once more.
            self.0.said(if inline > 0 { inline } else { text_bytes(raw, Text::Values) });
        }
        self.0.images += u64::from(image);
        self.0.audio += u64::from(audio);
        self.0.files += u64::from(file);
        self.0.videos += u64::from(video);
        Ok(())
    }
}

/// What `tools` holds.
#[derive(Default)]
pub(super) struct ToolFacts {
    pub(super) any: bool,
    pub(super) priced_apart: bool,
    /// Bytes of names and strings.
    pub(super) text_bytes: u64,
    /// Whether a tool is to be cached for an hour.
    pub(super) hour_cache: bool,
    pub(super) misspelt: Misspelt,
}

pub(super) struct Tools;
seed!(Tools<> -> ToolFacts, deserialize_seq);

impl<'de> Visitor<'de> for Tools {
    type Value = ToolFacts;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ToolFacts, A::Error> {
        let mut facts = ToolFacts::default();
        while seq.next_element_seed(Tool(&mut facts))?.is_some() {
            facts.any = true;
        }
        Ok(facts)
    }
}

/// One tool: the client's own to run, or a provider's, which may cost by the call.
struct Tool<'f>(&'f mut ToolFacts);

impl<'de> DeserializeSeed<'de> for Tool<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tool<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut own = true;
        while let Some(Word(name)) = map.next_key()? {
            let said = if name == "type" {
                let kind = map.next_value_seed(MaybeWord)?;
                own &= kind.as_ref().is_some_and(|Word(kind)| kind == "function" || kind == "custom");
                kind.map_or(0, |Word(kind)| kind.len() as u64)
            } else if name == "cache_control" {
                self.0.hour_cache |= marks_an_hour(map.next_value::<&RawValue>()?.get());
                0
            } else {
                self.0.misspelt.check(&name, &IN_TOOL);
                map.next_value_seed(Text::NamesAndValues)?
            };
            self.0.text_bytes = self.0.text_bytes.saturating_add(name.len() as u64).saturating_add(said);
        }
        self.0.priced_apart |= !own;
        Ok(())
    }
}

/// What an embedding's input holds.
#[derive(Default)]
pub(super) struct InputFacts {
    /// Anything but text and tokens.
    pub(super) other: bool,
    /// Bytes of text, and four for every token.
    pub(super) text_bytes: u64,
}

/// An embedding's input.
pub(super) struct Input;
seed!(Input<> -> InputFacts, deserialize_any);

impl<'de> Visitor<'de> for Input {
    type Value = InputFacts;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array")
    }
    fn visit_str<E>(self, text: &str) -> Result<InputFacts, E> {
        Ok(InputFacts { other: false, text_bytes: text.len() as u64 })
    }
    fn visit_u64<E>(self, _: u64) -> Result<InputFacts, E> {
        Ok(InputFacts { other: false, text_bytes: BYTES_OF_A_TOKEN })
    }
    fn visit_i64<E>(self, _: i64) -> Result<InputFacts, E> {
        Ok(InputFacts::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<InputFacts, E> {
        Ok(InputFacts::default())
    }
    fn visit_bool<E>(self, _: bool) -> Result<InputFacts, E> {
        Ok(InputFacts::default())
    }
    fn visit_unit<E>(self) -> Result<InputFacts, E> {
        Ok(InputFacts::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<InputFacts, A::Error> {
        let mut facts = InputFacts::default();
        while let Some(found) = seq.next_element_seed(Input)? {
            facts.other |= found.other;
            facts.text_bytes = facts.text_bytes.saturating_add(found.text_bytes);
        }
        Ok(facts)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<InputFacts, A::Error> {
        Ok(InputFacts { other: true, text_bytes: Text::Values.visit_map(map)? })
    }
}

/// What a `prompt` holds: an array of texts or of token arrays is one prompt each, an array of tokens is one.
#[derive(Default)]
pub(super) struct PromptFacts {
    pub(super) prompts: u64,
    /// Bytes of text, and four for every token.
    pub(super) text_bytes: u64,
}

pub(super) struct Prompts;
seed!(Prompts<> -> PromptFacts, deserialize_any);

impl<'de> Visitor<'de> for Prompts {
    type Value = PromptFacts;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array")
    }
    fn visit_str<E>(self, text: &str) -> Result<PromptFacts, E> {
        Ok(PromptFacts { prompts: 1, text_bytes: text.len() as u64 })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PromptFacts, A::Error> {
        let mut facts = PromptFacts::default();
        while let Some(found) = seq.next_element_seed(PromptItem)? {
            facts.prompts += found.prompts;
            facts.text_bytes = facts.text_bytes.saturating_add(found.text_bytes);
        }
        facts.prompts = facts.prompts.max(1);
        Ok(facts)
    }
}

/// An entry that is a prompt of its own, or a token.
struct PromptItem;
seed!(PromptItem<> -> PromptFacts, deserialize_any);

impl<'de> Visitor<'de> for PromptItem {
    type Value = PromptFacts;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a token or an array of tokens")
    }
    fn visit_str<E>(self, text: &str) -> Result<PromptFacts, E> {
        Ok(PromptFacts { prompts: 1, text_bytes: text.len() as u64 })
    }
    fn visit_u64<E>(self, _: u64) -> Result<PromptFacts, E> {
        Ok(PromptFacts { prompts: 0, text_bytes: BYTES_OF_A_TOKEN })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<PromptFacts, A::Error> {
        Ok(PromptFacts { prompts: 1, text_bytes: Input.visit_seq(seq)?.text_bytes })
    }
}

/// How many bytes of text a value holds, in UTF-8 and without escapes.
#[derive(Clone, Copy)]
pub(super) enum Text {
    /// Of its strings, but for `type` and `id`, which are labels.
    Values,
    /// Of its strings and the names of its members, as schemas are shown to a model with their names.
    NamesAndValues,
}
seed!(Text<> -> u64, deserialize_any);

impl<'de> Visitor<'de> for Text {
    type Value = u64;
    no_scalars!(0);
    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(text.len() as u64)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let mut bytes = 0_u64;
        while let Some(found) = seq.next_element_seed(self)? {
            bytes = bytes.saturating_add(found);
        }
        Ok(bytes)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut bytes = 0_u64;
        while let Some(Word(name)) = map.next_key()? {
            let found = match self {
                Self::Values if matches!(name.as_ref(), "type" | "id") => {
                    map.next_value::<IgnoredAny>()?;
                    0
                }
                Self::Values => map.next_value_seed(self)?,
                Self::NamesAndValues => map.next_value_seed(self)?.saturating_add(name.len() as u64),
            };
            bytes = bytes.saturating_add(found);
        }
        Ok(bytes)
    }
}

/// The same of JSON text. What is no JSON has none.
pub(super) fn text_bytes(raw: &str, text: Text) -> u64 {
    text.deserialize(&mut serde_json::Deserializer::from_str(raw)).unwrap_or(0)
}

/// A string, borrowed where it has no escapes.
pub(super) struct Word<'a>(pub(super) Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Word<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = MaybeWord.deserialize(deserializer)?;
        word.ok_or_else(|| serde::de::Error::custom("not a string"))
    }
}

/// A string, or `None` for anything else.
pub(super) struct MaybeWord;

impl<'de> DeserializeSeed<'de> for MaybeWord {
    type Value = Option<Word<'de>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MaybeWord {
    type Value = Option<Word<'de>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E>(self, word: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Word(Cow::Borrowed(word))))
    }
    fn visit_str<E>(self, word: &str) -> Result<Self::Value, E> {
        Ok(Some(Word(Cow::Owned(word.to_owned()))))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        drain(seq)?;
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}
