//! What names, lists and tags may look like.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

use super::{ControlError, Patch};
use crate::domain::{BudgetId, ModelName, ModelPattern, NanoUsd, UnknownZone, Zone};

const MAX_NAME_CHARS: usize = 128;
const MAX_PATTERNS: usize = 500;
const MAX_MODELS: usize = 500;
const MAX_FALLBACKS: usize = 16;
const MAX_BUDGETS: usize = 16;
const MAX_TAGS: usize = 32;
const MAX_TAG_NAME: usize = 64;
const MAX_TAG_VALUE: usize = 256;

/// A name for people: trimmed, 1 to 128 characters, none of them a control character.
pub(super) fn name(field: &str, text: &str) -> Result<String, ControlError> {
    let text = text.trim();
    let count = text.chars().count();
    if count == 0 || count > MAX_NAME_CHARS || text.chars().any(char::is_control) {
        return Err(ControlError::bad(format!(
            "`{field}` must have 1 to {MAX_NAME_CHARS} characters and no control characters"
        )));
    }
    Ok(text.to_owned())
}

/// An allow-list.
pub(super) fn patterns(texts: &[String]) -> Result<Vec<ModelPattern>, ControlError> {
    bounded("models_allowed", texts.len(), MAX_PATTERNS)?;
    texts
        .iter()
        .map(|text| ModelPattern::parse(text))
        .collect::<Result<_, _>>()
        .map_err(|error| ControlError::invalid("invalid_model", format!("`models_allowed`: {error}")))
}

/// A list of model names.
pub(super) fn models(field: &str, texts: &[String]) -> Result<Vec<ModelName>, ControlError> {
    let most = if field == "fallback_models" { MAX_FALLBACKS } else { MAX_MODELS };
    bounded(field, texts.len(), most)?;
    texts
        .iter()
        .map(|text| ModelName::parse(text))
        .collect::<Result<_, _>>()
        .map_err(|error| ControlError::invalid("invalid_model", format!("`{field}`: {error}")))
}

/// The ids of the budgets that a key joins: few, each once. One that is no id is as unknown as one that nobody has.
pub(super) fn budgets(texts: &[String]) -> Result<Vec<BudgetId>, ControlError> {
    bounded("budgets", texts.len(), MAX_BUDGETS)?;
    let mut budgets: Vec<BudgetId> = Vec::with_capacity(texts.len());
    for text in texts {
        let budget = text.parse().map_err(|_| ControlError::NotFound("budget"))?;
        if budgets.contains(&budget) {
            return Err(ControlError::bad(format!("`budgets` names `{budget}` twice; keep one")));
        }
        budgets.push(budget);
    }
    Ok(budgets)
}

/// Where a tenant's days begin.
pub(super) fn zone(text: &str) -> Result<Zone, ControlError> {
    text.parse().map_err(|error: UnknownZone| ControlError::bad(format!("`time_zone`: {error}")))
}

/// Tags: few, short, and with names that fit a header and a column.
pub(super) fn tags(tags: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ControlError> {
    bounded("tags", tags.len(), MAX_TAGS)?;
    for (name, value) in &tags {
        tag_name(name)?;
        if value.chars().count() > MAX_TAG_VALUE || value.chars().any(char::is_control) {
            return Err(ControlError::bad(format!(
                "the value of tag `{name}` must have at most {MAX_TAG_VALUE} characters and no control characters"
            )));
        }
    }
    Ok(tags)
}

/// Tags as they are sent. A name that stands twice is refused: which of its values counts would be a guess.
struct SentTags(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for SentTags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = SentTags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<SentTags, A::Error> {
                let mut tags = BTreeMap::new();
                while let Some((name, value)) = pairs.next_entry()? {
                    if tags.insert(name, value).is_some() {
                        return Err(A::Error::custom("`tags` has a name twice; keep one"));
                    }
                }
                Ok(SentTags(tags))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

/// Reads the tags of a create.
pub(super) fn sent_tags<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    Ok(Option::<SentTags>::deserialize(deserializer)?.map(|tags| tags.0))
}

/// Reads the tags of a change.
pub(super) fn changed_tags<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Patch<BTreeMap<String, String>>, D::Error> {
    Ok(sent_tags(deserializer)?.map_or(Patch::Clear, Patch::Set))
}

/// The name of a tag.
pub(super) fn tag_name(name: &str) -> Result<(), ControlError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > MAX_TAG_NAME || !name.bytes().all(plain) {
        return Err(ControlError::bad(
            "a tag's name must have 1 to 64 letters, digits, `_`, `-` or `.`; rename it",
        ));
    }
    Ok(())
}

/// A cap in micro-USD.
pub(super) fn cap(field: &str, micro: i64) -> Result<NanoUsd, ControlError> {
    let amount = if micro < 0 { None } else { NanoUsd::from_micro(micro) };
    amount.ok_or_else(|| {
        ControlError::bad(format!(
            "`{field}` must be a whole number of micro-USD, 0 or more; null means unlimited"
        ))
    })
}

/// A limit that counts something.
pub(super) fn count(field: &str, value: i64) -> Result<u32, ControlError> {
    u32::try_from(value).ok().filter(|value| (1..=i32::MAX as u32).contains(value)).ok_or_else(|| {
        ControlError::bad(format!("`{field}` must be 1 to {}; null means unlimited", i32::MAX))
    })
}

fn bounded(field: &str, given: usize, most: usize) -> Result<(), ControlError> {
    if given > most {
        return Err(ControlError::bad(format!("`{field}` has {given} entries; at most {most} are taken")));
    }
    Ok(())
}
