//! Tool calls in pieces, put in order: servers send them whole or in pieces, with an index or without, with ids or
//! without, with names said once or in every piece.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::shapes::{CallPiece, FunctionPiece};
use crate::wire::What;

/// Under which key the legacy call goes, of which there is one.
const LEGACY: u64 = u64::MAX;

/// The calls of one choice.
///
/// They are said in order, each with its name before its arguments. The next one waits until the last has said at least
/// some of its arguments, or will say none: so nobody is told `{}` of a call whose arguments are still to come.
#[derive(Default)]
pub(super) struct Calls {
    all: Vec<Call>,
    /// So many of them have begun.
    begun: usize,
    by_index: HashMap<u64, usize>,
    by_id: HashMap<String, usize>,
}

#[derive(Default)]
struct Call {
    id: String,
    name: String,
    signature: Option<String>,
    /// Arguments that were not said yet.
    waiting: String,
    /// Some arguments were said.
    argued: bool,
}

impl Calls {
    /// Whether there was a call.
    pub(super) fn any(&self) -> bool {
        !self.all.is_empty()
    }

    /// Takes in a call or a piece of one. In a `whole` answer each is a call of its own.
    pub(super) fn piece(
        &mut self,
        piece: CallPiece<'_>,
        whole: bool,
        answer: (Option<&str>, u32),
        say: &mut impl FnMut(What),
    ) {
        let CallPiece { index, id, function, extra_content } = piece;
        let id = id.0.filter(|id| !id.is_empty());
        let known = if whole { None } else { self.known(index.0, id.as_deref(), &function.0) };
        // A piece of nothing known, without a name, begins nothing.
        if known.is_none() && index.0.is_none() && id.is_none() && !has_name(&function.0) {
            return;
        }
        let at = known.unwrap_or_else(|| self.add(index.0, id, function.0.name.0.as_deref(), answer));
        self.take_in(at, &function.0, extra_content.0.signature(), say);
    }

    /// Takes in the one call of the days before there were tools.
    pub(super) fn function(
        &mut self,
        function: FunctionPiece<'_>,
        answer: (Option<&str>, u32),
        say: &mut impl FnMut(What),
    ) {
        let known = self.by_index.get(&LEGACY).copied();
        if known.is_none() && !has_name(&function) {
            return;
        }
        let at = known.unwrap_or_else(|| self.add(Some(LEGACY), None, function.name.0.as_deref(), answer));
        self.take_in(at, &function, None, say);
    }

    /// Which call a piece belongs to, if one that was seen.
    fn known(&self, index: Option<u64>, id: Option<&str>, function: &FunctionPiece<'_>) -> Option<usize> {
        let Some(index) = index else {
            return match id {
                Some(id) => self.by_id.get(id).copied(),
                // Without index and id, a name begins a call, and arguments go on with the last.
                None if has_name(function) => None,
                None => self.all.len().checked_sub(1),
            };
        };
        let at = *self.by_index.get(&index)?;
        // Some give every call the index 0: another id and a name make another call.
        let other = id.is_some_and(|id| self.all.get(at).is_some_and(|call| call.id != id));
        (!(other && has_name(function))).then_some(at)
    }

    fn add(
        &mut self,
        index: Option<u64>,
        id: Option<String>,
        name: Option<&str>,
        (answer, choice): (Option<&str>, u32),
    ) -> usize {
        let at = self.all.len();
        let id = id.unwrap_or_else(|| {
            // Unlike those of other answers, as far as these have names.
            let mut hasher = DefaultHasher::new();
            (answer, choice, at, name).hash(&mut hasher);
            format!("call_{at}_{:08x}", hasher.finish() >> 32)
        });
        if let Some(index) = index {
            self.by_index.insert(index, at);
        }
        self.by_id.insert(id.clone(), at);
        self.all.push(Call { id, ..Call::default() });
        at
    }

    fn take_in(
        &mut self,
        at: usize,
        function: &FunctionPiece<'_>,
        signature: Option<String>,
        say: &mut impl FnMut(What),
    ) {
        if let Some(call) = self.all.get_mut(at) {
            if let Some(name) = function.name.0.as_ref().filter(|_| call.name.is_empty()) {
                call.name.clone_from(name);
            }
            call.signature = signature.or(call.signature.take());
            if let Some(arguments) = function.arguments() {
                call.waiting.push_str(&arguments);
            }
            if at < self.begun {
                call.argue(at, say);
            }
        }
        self.advance(false, say);
    }

    /// Begins what can begin; with `all`, everything.
    fn advance(&mut self, all: bool, say: &mut impl FnMut(What)) {
        while self.begun < self.all.len() {
            let last_argued =
                self.begun.checked_sub(1).and_then(|last| self.all.get(last)).is_none_or(|call| call.argued);
            if !last_argued && all {
                self.fill_last(say);
            } else if !last_argued {
                return;
            }
            let at = self.begun;
            let Some(call) = self.all.get_mut(at) else { return };
            if call.name.is_empty() && !all {
                return;
            }
            self.begun += 1;
            let (id, name, signature) = (call.id.clone(), call.name.clone(), call.signature.take());
            say(What::ToolCall { index: number(at), id, name, signature });
            call.argue(at, say);
        }
    }

    /// Says `{}` of the last call that has begun, if it has said nothing.
    fn fill_last(&mut self, say: &mut impl FnMut(What)) {
        if let Some(at) = self.begun.checked_sub(1)
            && let Some(call) = self.all.get_mut(at)
            && !call.argued
        {
            call.waiting.push_str("{}");
            call.argue(at, say);
        }
    }

    /// Something other than a call comes: calls that have a name are said and complete.
    pub(super) fn close(&mut self, say: &mut impl FnMut(What)) {
        if self.all.last().is_none_or(|call| !call.name.is_empty()) {
            self.end(say);
        }
    }

    /// No more calls.
    pub(super) fn end(&mut self, say: &mut impl FnMut(What)) {
        self.advance(true, say);
        self.fill_last(say);
    }
}

impl Call {
    fn argue(&mut self, at: usize, say: &mut impl FnMut(What)) {
        if !self.waiting.is_empty() {
            self.argued = true;
            say(What::Arguments { index: number(at), json: std::mem::take(&mut self.waiting) });
        }
    }
}

fn has_name(function: &FunctionPiece<'_>) -> bool {
    function.name.0.as_ref().is_some_and(|name| !name.is_empty())
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
