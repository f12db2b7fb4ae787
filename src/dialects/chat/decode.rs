//! Takes chat completions apart, as all the servers of OpenAI's dialect make them: with the model's thoughts under
//! several names, tool calls in any number of pieces, usage once or in every chunk, an end or none.

mod calls;
mod choice;
mod shapes;

use std::{collections::BTreeMap, fmt};

use serde_json::value::RawValue;

use self::{
    choice::{ChoiceState, sources},
    shapes::Choice,
};
use crate::{
    dialects::{
        Decoded, Unreadable, failure,
        openai::payload::{Payload, string},
    },
    wire::{Event, Part, What},
};

/// Takes chat completions apart.
#[derive(Default)]
pub struct Decoder {
    id: Option<String>,
    model: Option<String>,
    /// The service tier, until it is said.
    tier: Option<String>,
    tier_seen: bool,
    begun: bool,
    choices: BTreeMap<u32, ChoiceState>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("choices", &self.choices.len()).finish_non_exhaustive()
    }
}

impl crate::dialects::Decoder for Decoder {
    fn whole(&mut self, body: &[u8]) -> Result<Decoded, Unreadable> {
        let text = std::str::from_utf8(body).map_err(|_| Unreadable("not UTF-8"))?;
        let payload: Payload<'_> = serde_json::from_str(text).map_err(|_| Unreadable("not a JSON object"))?;
        let mut decoded =
            Decoded { error: payload.whole_failure(payload.choices, text)?, ..Decoded::default() };
        if decoded.error.is_some() {
            return Ok(decoded);
        }
        let groq = payload.groq();
        self.names(&payload, &mut decoded.parts);
        let choices = payload.choices.and_then(items).ok_or(Unreadable("an answer with broken choices"))?;
        for (place, raw) in choices.into_iter().enumerate() {
            let choice: Choice<'_> =
                serde_json::from_str(raw.get()).map_err(|_| Unreadable("an answer with a broken choice"))?;
            self.choice(choice, u32::try_from(place).unwrap_or(u32::MAX), true, &payload, text, &mut decoded);
        }
        self.finish_all(&mut decoded.parts);
        decoded.parts.extend(payload.figures(groq.as_ref()).map(|figures| Part::first(What::Usage(figures))));
        Ok(decoded)
    }

    fn event(&mut self, event: &Event) -> Decoded {
        let mut decoded = Decoded::default();
        if event.data.starts_with("[DONE]") {
            self.end(&mut decoded.parts);
            return decoded;
        }
        let is_error = event.name == "error";
        let Ok(payload) = serde_json::from_str::<Payload<'_>>(&event.data) else {
            decoded.unreadable = true;
            decoded.error = is_error.then(|| failure::from_text(&event.data));
            return decoded;
        };
        let groq = payload.groq();
        decoded.error = payload.failure(groq.as_ref(), is_error, &event.data);
        self.names(&payload, &mut decoded.parts);
        let choices = match payload.choices {
            None | Some("null") => Some(Vec::new()),
            Some(raw) => items(raw),
        };
        decoded.unreadable = choices.is_none();
        for raw in choices.into_iter().flatten() {
            match serde_json::from_str::<Choice<'_>>(raw.get()) {
                Ok(choice) => self.choice(choice, 0, false, &payload, &event.data, &mut decoded),
                Err(_) => decoded.unreadable = true,
            }
        }
        decoded.parts.extend(payload.figures(groq.as_ref()).map(|figures| Part::first(What::Usage(figures))));
        if payload.is_last() {
            self.end(&mut decoded.parts);
        }
        decoded
    }
}

impl Decoder {
    /// What an answer is called. Some name neither themselves nor the model, or both with nothing, in the first chunk.
    fn names(&mut self, payload: &Payload<'_>, parts: &mut Vec<Part>) {
        if self.id.is_none() && !self.begun {
            self.id = payload.id.and_then(string);
        }
        if self.model.is_none() && !self.begun {
            self.model = payload.model.and_then(string);
        }
        if !self.tier_seen {
            self.tier = payload.service_tier.and_then(string);
            self.tier_seen = self.tier.is_some();
        }
        if self.begun {
            parts.extend(self.tier.take().map(|tier| Part::first(What::ServiceTier(tier))));
        }
    }

    /// One choice of a chunk, or of a `whole` answer, where it may go without its index.
    fn choice(
        &mut self,
        choice: Choice<'_>,
        place: u32,
        whole: bool,
        payload: &Payload<'_>,
        text: &str,
        decoded: &mut Decoded,
    ) {
        if !self.begun {
            self.begun = true;
            let start = What::Start { id: self.id.clone(), model: self.model.clone() };
            decoded.parts.push(Part::first(start));
            decoded.parts.extend(self.tier.take().map(|tier| Part::first(What::ServiceTier(tier))));
        }
        let index = choice.index.0.map_or(place, |index| u32::try_from(index).unwrap_or(u32::MAX));
        let state = self.choices.entry(index).or_default();
        if state.is_finished() {
            return;
        }
        let mut say = |what| decoded.parts.push(Part { choice: index, what });
        // A chunk that repeats the whole message beside its delta says nothing new with it.
        let (delta, message) = (choice.delta.0, choice.message.0);
        if let Some(message) = if whole { message.or(delta) } else { delta.or(message) } {
            state.message(message, whole, (self.id.as_deref(), index), &mut say);
        }
        let Some(reason) = choice.finish_reason.0.filter(|reason| !reason.is_empty()) else { return };
        if reason == "error" {
            // The error itself should stand beside the choices.
            if decoded.error.is_none() {
                decoded.error = Some(failure::from_text(text));
            }
            return;
        }
        let cited = if index == 0 { sources(payload.search_results, payload.citations) } else { Vec::new() };
        state.finish(&reason, choice.stop_reason.0, cited, &mut say);
    }

    /// The provider said that this is all: what has no finish reason has none to come.
    fn end(&mut self, parts: &mut Vec<Part>) {
        self.finish_all(parts);
        parts.push(Part::first(What::End));
    }

    fn finish_all(&mut self, parts: &mut Vec<Part>) {
        for (index, state) in self.choices.iter_mut().filter(|(_, state)| !state.is_finished()) {
            state.finish("stop", None, Vec::new(), &mut |what| parts.push(Part { choice: *index, what }));
        }
    }
}

/// The items of an array, unread.
fn items(raw: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw).ok()
}
