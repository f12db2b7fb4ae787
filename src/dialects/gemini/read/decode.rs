//! Taking answers apart. A stream's events are whole answers in small, so there is one way for both.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::{
    finish::{self, Ended},
    partial_args::PartialArgs,
    shape::{Candidate, Chunk, FunctionCall, Grounding, PromptFeedback, Tier, compact, string, text},
};
use crate::{
    dialects::{Decoded, Unreadable, gemini::error},
    wire::{Event, Figures, Finish, Part, What, request::MAX_CHOICES},
};

/// Takes what Gemini answers apart. It keeps the state of one answer.
#[derive(Default)]
pub struct Decoder {
    /// Choices that were asked for; 0 is 1.
    asked: u32,
    started: bool,
    tier_told: bool,
    /// Something was finished, so that usage is no longer a guess.
    settled: bool,
    response_id: Option<String>,
    choices: BTreeMap<u32, Choice>,
}

#[derive(Default)]
struct Choice {
    /// Tools called so far.
    calls: u32,
    /// The call whose arguments still come.
    open: Option<(u32, PartialArgs)>,
    cited: BTreeSet<String>,
    finished: bool,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("choices", &self.choices.len()).finish_non_exhaustive()
    }
}

impl Decoder {
    /// For an answer of so many choices.
    pub fn expecting(choices: u64) -> Self {
        Self { asked: u32::try_from(choices.min(MAX_CHOICES)).unwrap_or(1), ..Self::default() }
    }
}

impl crate::dialects::Decoder for Decoder {
    fn whole(&mut self, body: &[u8]) -> Result<Decoded, Unreadable> {
        let text = text(body)?;
        let chunks = chunks(text).ok_or(Unreadable("not JSON of the shape this endpoint answers with"))?;
        let mut decoded = Decoded::default();
        let mut any = false;
        self.settled = chunks.len() == 1;
        for chunk in &chunks {
            any |= chunk.error.is_some() || chunk.is_answer();
            self.chunk(chunk, &mut decoded);
            if decoded.error.is_some() {
                return Ok(decoded);
            }
        }
        if !any {
            return Err(Unreadable("no answer"));
        }
        if self.choices.is_empty() {
            decoded.error = Some(finish::empty());
        }
        // A whole answer is complete even where it does not say why it ended.
        for (index, choice) in self.choices.iter_mut().filter(|(_, choice)| !choice.finished) {
            let reason = if choice.calls > 0 { Finish::ToolCalls } else { Finish::Stop };
            choice.finish(*index, reason, &mut decoded.parts);
        }
        Ok(decoded)
    }

    fn event(&mut self, event: &Event) -> Decoded {
        let mut decoded = Decoded::default();
        match chunks(&event.data) {
            None => decoded.unreadable = true,
            Some(chunks) => {
                for chunk in &chunks {
                    self.chunk(chunk, &mut decoded);
                }
            }
        }
        decoded
    }
}

/// The answers in a body: one, or a list of them where a stream comes as one array.
fn chunks(text: &str) -> Option<Vec<Chunk<'_>>> {
    let text = text.trim_start();
    if text.starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        list.into_iter().map(|raw| serde_json::from_str(raw.get()).ok()).collect()
    } else {
        serde_json::from_str(text).ok().map(|chunk| vec![chunk])
    }
}

impl Decoder {
    fn chunk(&mut self, chunk: &Chunk<'_>, decoded: &mut Decoded) {
        if let Some(raw) = chunk.error {
            decoded.error = Some(error::inside(raw.get()));
            return;
        }
        if !chunk.is_answer() {
            return;
        }
        if self.response_id.is_none() {
            self.response_id = string(chunk.response_id);
        }
        if !std::mem::replace(&mut self.started, true) {
            let (id, model) = (self.response_id.clone(), string(chunk.model_version));
            decoded.parts.push(Part::first(What::Start { id, model }));
        }
        match chunk.candidates.map(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get())) {
            None => self.feedback(chunk.prompt_feedback, decoded),
            Some(Err(_)) => decoded.unreadable = true,
            Some(Ok(list)) if list.is_empty() => self.feedback(chunk.prompt_feedback, decoded),
            Some(Ok(list)) => list.into_iter().for_each(|raw| self.candidate(raw, decoded)),
        }
        if let Some(usage) = chunk.usage_metadata {
            self.usage(usage.get(), decoded);
        }
    }

    /// The prompt was blocked: Google answers with success and without a candidate.
    fn feedback(&mut self, raw: Option<&RawValue>, decoded: &mut Decoded) {
        let feedback = raw.and_then(|raw| serde_json::from_str::<PromptFeedback>(raw.get()).ok());
        let Some(reason) =
            feedback.and_then(|feedback| feedback.block_reason).filter(|name| !name.is_empty())
        else {
            return;
        };
        // A reason is a name in capitals; anything else is not shown.
        let plain = reason.len() <= 64 && reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let reason = if plain { reason.as_str() } else { "OTHER" };
        let refusal = format!("The provider blocked the prompt: `{reason}`");
        for index in 0..self.asked.max(1) {
            let choice = self.choices.entry(index).or_default();
            if !choice.finished {
                decoded.parts.push(Part { choice: index, what: What::Refusal(refusal.clone()) });
                choice.finish(index, Finish::Filtered, &mut decoded.parts);
            }
        }
        self.settled = true;
    }

    fn candidate(&mut self, raw: &RawValue, decoded: &mut Decoded) {
        let Ok(candidate) = serde_json::from_str::<Candidate<'_>>(raw.get()) else {
            decoded.unreadable = true;
            return;
        };
        let index = candidate.index.unwrap_or(0);
        let choice = self.choices.entry(index).or_default();
        if choice.finished {
            return;
        }
        let scope = Scope { index, response_id: self.response_id.as_deref().unwrap_or_default() };
        for raw in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
            match serde_json::from_str(raw.get()) {
                Ok(part) => choice.part(&scope, part, &mut decoded.parts),
                Err(_) => decoded.unreadable = true,
            }
        }
        if let Some(raw) = candidate.grounding_metadata {
            choice.cite(index, serde_json::from_str(raw.get()).unwrap_or_default(), &mut decoded.parts);
        }
        match finish::read(candidate.finish_reason.as_deref(), choice.calls > 0) {
            Ended::NotYet => {}
            Ended::As(reason) => {
                self.settled = true;
                choice.finish(index, reason, &mut decoded.parts);
            }
            Ended::Failed(error) => {
                self.settled = true;
                decoded.error.get_or_insert(error);
            }
        }
    }

    fn usage(&mut self, raw: &str, decoded: &mut Decoded) {
        let tier = serde_json::from_str::<Tier>(raw).ok().and_then(Tier::name);
        if let Some(tier) = tier.filter(|_| !std::mem::replace(&mut self.tier_told, true)) {
            decoded.parts.push(Part::first(What::ServiceTier(tier)));
        }
        let figures = Figures::from_gemini_usage(raw);
        // Reports are cumulative, save for those of the prompt alone at the beginning of a stream: Gemini 2.0 guesses
        // 145 tokens there and says 85 at the end.
        if !figures.is_empty() && (self.settled || figures.completion.count().is_some()) {
            decoded.parts.push(Part::first(What::Usage(figures)));
        }
    }
}

/// Where a part stands.
struct Scope<'a> {
    index: u32,
    response_id: &'a str,
}

impl Scope<'_> {
    fn part(&self, what: What) -> Part {
        Part { choice: self.index, what }
    }

    /// An id for a call without one: the same whenever the same answer is read, and unlike that of another answer.
    fn call_id(&self, call: u32, name: &str, args: &str) -> String {
        let choice = self.index.to_le_bytes();
        let hash = [self.response_id.as_bytes(), &choice, name.as_bytes(), args.as_bytes()]
            .into_iter()
            .flat_map(|field| field.iter().chain(&[0xff]))
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        format!("call_{call}_{hash:08x}")
    }
}

impl Choice {
    fn part(&mut self, scope: &Scope<'_>, part: super::shape::Part<'_>, out: &mut Vec<Part>) {
        let super::shape::Part { text, thought, thought_signature, function_call } = part;
        let signature = thought_signature.filter(|signature| !signature.is_empty());
        if let Some(call) = function_call {
            self.call(scope, call, signature, out);
            return;
        }
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.close(scope.index, out);
            out.push(scope.part(if thought == Some(true) { What::Thought(text) } else { What::Text(text) }));
        }
        // Often alone, on an empty text behind the last one.
        if let Some(signature) = signature {
            out.push(scope.part(What::TextSignature(signature)));
        }
    }

    fn call(
        &mut self,
        scope: &Scope<'_>,
        call: FunctionCall<'_>,
        signature: Option<String>,
        out: &mut Vec<Part>,
    ) {
        let goes_on = call.will_continue == Some(true);
        match call.name.filter(|name| !name.is_empty()) {
            Some(name) => {
                self.close(scope.index, out);
                let index = self.calls;
                self.calls = self.calls.saturating_add(1);
                let args = call.args.map_or("{}", RawValue::get);
                let id = call.id.filter(|id| !id.is_empty());
                let id = id.unwrap_or_else(|| scope.call_id(index, &name, args));
                out.push(scope.part(What::ToolCall { index, id, name, signature }));
                if goes_on || call.partial_args.is_some() {
                    let mut args = PartialArgs::new(call.args);
                    call.partial_args.into_iter().for_each(|pieces| args.add(pieces));
                    self.open = Some((index, args));
                } else {
                    out.push(scope.part(What::Arguments { index, json: compact(args) }));
                }
            }
            // More of the call before it.
            None => {
                if let (Some((_, args)), Some(pieces)) = (&mut self.open, call.partial_args) {
                    args.add(pieces);
                }
            }
        }
        if !goes_on {
            self.close(scope.index, out);
        }
    }

    /// The arguments of a call are complete.
    fn close(&mut self, index: u32, out: &mut Vec<Part>) {
        if let Some((call, args)) = self.open.take() {
            out.push(Part { choice: index, what: What::Arguments { index: call, json: args.finish() } });
        }
    }

    fn cite(&mut self, index: u32, grounding: Grounding, out: &mut Vec<Part>) {
        let sources = grounding.grounding_chunks.into_iter().flatten().filter_map(|chunk| chunk.web);
        for source in sources {
            let Some(url) = source.uri.filter(|uri| !uri.is_empty() && self.cited.insert(uri.clone())) else {
                continue;
            };
            let title = source.title.filter(|title| !title.is_empty());
            out.push(Part { choice: index, what: What::Citation { url, title } });
        }
    }

    fn finish(&mut self, index: u32, reason: Finish, out: &mut Vec<Part>) {
        self.close(index, out);
        self.finished = true;
        out.push(Part { choice: index, what: What::Finish { reason, stop_sequence: None } });
    }
}
