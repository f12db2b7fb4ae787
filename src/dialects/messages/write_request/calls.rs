//! Calls of tools and who answers them.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
};

use serde::Serialize;
use serde_json::value::RawValue;

use super::blocks::{is_blank, is_plain, plain, refused};
use crate::dialects::DialectError;

/// Longest id of a tool call that is made here, in letters.
const MAX_ID: usize = 64;

/// Arguments as an object. What a model wrote that is none is shown to it as it was.
pub(super) fn input(arguments: &str) -> Cow<'_, RawValue> {
    let text = if is_blank(arguments) { "{}" } else { arguments };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(input) if input.get().starts_with('{') => Cow::Borrowed(input),
        _ => Cow::Owned(wrapped(arguments)),
    }
}

fn wrapped(arguments: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Broken<'a> {
        _raw: &'a str,
    }
    serde_json::value::to_raw_value(&Broken { _raw: arguments }).expect("a string always serialises")
}

/// The calls of the model's last message, by the client's ids, and the ids they go under.
#[derive(Default)]
pub(super) struct Calls<'a> {
    unanswered: HashMap<&'a str, VecDeque<String>>,
    /// How often an id was used before: some servers count anew in every answer, and Anthropic wants every id once.
    used: HashMap<String, u32>,
}

impl<'a> Calls<'a> {
    /// A call was made; the id it goes under.
    pub(super) fn made(&mut self, id: &'a str) -> String {
        let mut sent = if is_plain(id) { id.to_owned() } else { plain(id, MAX_ID) };
        loop {
            let times = self.used.entry(sent.clone()).or_default();
            *times += 1;
            if *times == 1 {
                break;
            }
            sent = format!("{sent}_{times}");
        }
        self.unanswered.entry(id).or_default().push_back(sent.clone());
        sent
    }

    /// A call was answered; the id it went under.
    pub(super) fn answered(&mut self, id: &str) -> Option<String> {
        let sent = self.unanswered.get_mut(id)?;
        let first = sent.pop_front();
        if sent.is_empty() {
            self.unanswered.remove(id);
        }
        first
    }

    /// Every call was answered.
    ///
    /// # Errors
    /// One was not.
    pub(super) fn all_answered(&self) -> Result<(), DialectError> {
        if self.unanswered.is_empty() {
            return Ok(());
        }
        Err(refused(
            "has a tool call without a result in the messages right after it; send one result for every call",
        ))
    }
}
