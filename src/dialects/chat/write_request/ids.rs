//! Ids of tool calls as the provider takes them: another provider may have made them, in a form of its own.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::catalogue::Quirks;

/// The longest that OpenAI takes.
const MAX_LENGTH: usize = 40;
/// How long Mistral's are.
const NINE: usize = 9;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The id itself, or one made from it: of a call and of its result alike.
pub(super) fn call_id<'a>(id: &'a str, quirks: &Quirks) -> Cow<'a, str> {
    let fits = if quirks.nine_letter_call_ids {
        id.len() == NINE && id.bytes().all(|b| b.is_ascii_alphanumeric())
    } else {
        id.len() <= MAX_LENGTH
    };
    if fits {
        return id.into();
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let mut left = hasher.finish();
    if !quirks.nine_letter_call_ids {
        return format!("call_{left:016x}").into();
    }
    let mut made = String::with_capacity(NINE);
    for _ in 0..NINE {
        let at = usize::try_from(left % 62).unwrap_or(0);
        made.extend(LETTERS.get(at).map(|letter| char::from(*letter)));
        left /= 62;
    }
    made.into()
}
