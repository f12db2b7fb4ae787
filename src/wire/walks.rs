//! Walks over the values of a request that count what policy needs and build nothing.
//!
//! A walk answers for every shape JSON allows: what it does not expect it skips, unless the shape itself is the check.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::inline::{file_bytes, image_bytes};

#[derive(Default)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) images: u64,
    pub(super) audio: u64,
    pub(super) files: u64,
    pub(super) videos: u64,
    /// Bytes of inline data of what is counted in `images` and `files`.
    pub(super) inline_bytes: u64,
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

/// Members that are scalars are of no interest.
macro_rules! no_scalars {
    ($default:expr) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($default)
        }
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
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// `content`: text, or an array of parts.
struct Content<'c>(&'c mut Counts);

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();
    no_scalars!(());
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
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        drain(seq)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut image, mut audio, mut file, mut video) = (false, false, false, false);
        // Some servers go by the type, some by the member that holds the payload: either makes it one.
        let mut mark = |word: &str| match word {
            "image_url" | "image" | "input_image" => image = true,
            "input_audio" | "audio" | "audio_url" => audio = true,
            "file" | "input_file" | "document" | "document_url" => file = true,
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
            let inline = match name.as_ref() {
                "image_url" => image_bytes(map.next_value::<&RawValue>()?.get()),
                "file" => file_bytes(map.next_value::<&RawValue>()?.get()),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    0
                }
            };
            self.0.inline_bytes = self.0.inline_bytes.saturating_add(inline);
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
        while let Some(runs_here) = seq.next_element_seed(Tool)? {
            facts.any = true;
            facts.priced_apart |= !runs_here;
        }
        Ok(facts)
    }
}

/// Whether a tool is the client's own to run; a provider's own may cost by the call.
struct Tool;
seed!(Tool<> -> bool, deserialize_map);

impl<'de> Visitor<'de> for Tool {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut own = true;
        while let Some(Word(name)) = map.next_key()? {
            if name == "type" {
                let kind = map.next_value_seed(MaybeWord)?;
                own &= kind.is_some_and(|Word(kind)| kind == "function" || kind == "custom");
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(own)
    }
}

/// Whether an embedding's input holds anything but text and tokens.
pub(super) struct Input;
seed!(Input<> -> bool, deserialize_any);

impl<'de> Visitor<'de> for Input {
    type Value = bool;
    no_scalars!(false);
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let mut other = false;
        while let Some(found) = seq.next_element_seed(Input)? {
            other |= found;
        }
        Ok(other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(true)
    }
}

/// How many prompts a `prompt` holds: an array of texts or of token arrays is one each, an array of tokens is one.
pub(super) struct Prompts;
seed!(Prompts<> -> u64, deserialize_any);

impl<'de> Visitor<'de> for Prompts {
    type Value = u64;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array")
    }
    fn visit_str<E>(self, _: &str) -> Result<u64, E> {
        Ok(1)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let mut prompts = 0;
        while let Some(found) = seq.next_element_seed(PromptItem)? {
            prompts += found;
        }
        Ok(prompts.max(1))
    }
}

/// 1 for an entry that is a prompt of its own, 0 for a token.
struct PromptItem;
seed!(PromptItem<> -> u64, deserialize_any);

impl<'de> Visitor<'de> for PromptItem {
    type Value = u64;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a token or an array of tokens")
    }
    fn visit_str<E>(self, _: &str) -> Result<u64, E> {
        Ok(1)
    }
    fn visit_u64<E>(self, _: u64) -> Result<u64, E> {
        Ok(0)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<u64, A::Error> {
        drain(seq)?;
        Ok(1)
    }
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
struct MaybeWord;

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
