//! One choice as it comes in.

use std::collections::HashSet;

use super::{
    calls::Calls,
    shapes::{Any, Content, Message, Source, ThinkingBlock},
};
use crate::wire::{Finish, What, conversation::Thinking};

/// How far one choice has come.
#[derive(Default)]
pub(super) struct ChoiceState {
    calls: Calls,
    finished: bool,
    /// Addresses that were cited already: some say them again in every chunk.
    cited: HashSet<String>,
}

impl ChoiceState {
    pub(super) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes in a message or the next piece of one. `answer` tells this answer and choice from others.
    pub(super) fn message(
        &mut self,
        mut message: Message<'_>,
        whole: bool,
        answer: (Option<&str>, u32),
        say: &mut impl FnMut(What),
    ) {
        let thoughts = message.thoughts();
        let blocks: Vec<Thinking> =
            message.thinking_blocks.0.into_iter().filter_map(|Any(block)| block.into_thinking()).collect();
        self.think(thoughts, blocks, whole, say);
        match message.content.0 {
            Content::Nothing => {}
            Content::Text(text) => self.text(text, say),
            Content::Parts(parts) => {
                for Any(mut part) in parts {
                    if let Some(thought) = part.thoughts() {
                        self.calls.close(say);
                        say(What::Thought(thought));
                    }
                    self.text(part.text.0.unwrap_or_default(), say);
                }
            }
        }
        if let Some(refusal) = message.refusal.0.filter(|refusal| !refusal.is_empty()) {
            self.calls.close(say);
            say(What::Refusal(refusal));
        }
        if let Some(signature) = message.extra_content.0.signature() {
            say(What::TextSignature(signature));
        }
        let cited = message.annotations.0.into_iter().map(|Any(annotation)| annotation.url_citation.0);
        self.cite(cited.collect(), say);
        for Any(call) in message.tool_calls.0 {
            self.calls.piece(call, whole, answer, say);
        }
        if let Some(function) = message.function_call.0 {
            self.calls.function(function, answer, say);
        }
    }

    fn text(&mut self, text: String, say: &mut impl FnMut(What)) {
        if !text.is_empty() {
            self.calls.close(say);
            say(What::Text(text));
        }
    }

    /// Thoughts, and blocks that are complete. A stream says the text of a block before the block; a whole answer says
    /// both side by side, and what the blocks say themselves is not said twice.
    fn think(
        &mut self,
        thoughts: Option<String>,
        blocks: Vec<Thinking>,
        whole: bool,
        say: &mut impl FnMut(What),
    ) {
        let own = |block: &Thinking| match block {
            Thinking::Open { text, .. } => text.clone(),
            Thinking::Sealed { .. } => String::new(),
        };
        let in_blocks = blocks.iter().map(own).collect::<String>();
        if thoughts.is_some() || !blocks.is_empty() {
            self.calls.close(say);
        }
        let each = whole && thoughts.as_ref().is_none_or(|thoughts| *thoughts == in_blocks);
        if let Some(thoughts) = thoughts.filter(|_| !each || blocks.is_empty()) {
            say(What::Thought(thoughts));
        }
        for block in blocks {
            if let Some(text) = Some(own(&block)).filter(|text| each && !text.is_empty()) {
                say(What::Thought(text));
            }
            say(What::Thinking(block));
        }
    }

    fn cite(&mut self, cited: Vec<Source>, say: &mut impl FnMut(What)) {
        for source in cited {
            let Some(url) = source.url.0.filter(|url| !url.is_empty()) else { continue };
            if self.cited.insert(url.clone()) {
                self.calls.close(say);
                say(What::Citation { url, title: source.title.0.filter(|title| !title.is_empty()) });
            }
        }
    }

    /// The choice is complete.
    pub(super) fn finish(
        &mut self,
        reason: &str,
        stop_sequence: Option<String>,
        cited: Vec<Source>,
        say: &mut impl FnMut(What),
    ) {
        self.finished = true;
        self.calls.end(say);
        self.cite(cited, say);
        let (reason, stop_sequence) = match (finish_of(reason), stop_sequence) {
            // Many say so although the model waits for its tools.
            (Finish::Stop | Finish::StopSequence, _) if self.calls.any() => (Finish::ToolCalls, None),
            (Finish::Stop, Some(met)) if !met.is_empty() => (Finish::StopSequence, Some(met)),
            (reason, _) => (reason, None),
        };
        say(What::Finish { reason, stop_sequence });
    }
}

impl ThinkingBlock {
    fn into_thinking(self) -> Option<Thinking> {
        let Self { thinking, signature, data } = self;
        match (thinking.0, data.0) {
            (Some(text), _) => Some(Thinking::Open {
                text,
                signature: signature.0.filter(|signature| !signature.is_empty()),
            }),
            (None, Some(data)) => Some(Thinking::Sealed { data }),
            (None, None) => None,
        }
    }
}

/// What an answer ended for, by all the names in use. One that is not known is an end like any other.
fn finish_of(reason: &str) -> Finish {
    match reason {
        "length"
        | "max_tokens"
        | "model_length"
        | "model_context_window_exceeded"
        | "abort"
        | "insufficient_system_resource"
        | "network_error" => Finish::Length,
        "tool_calls" | "function_call" | "tool_use" | "tool_call" => Finish::ToolCalls,
        "content_filter" | "refusal" | "sensitive" => Finish::Filtered,
        "stop_sequence" => Finish::StopSequence,
        _ => Finish::Stop,
    }
}

/// The sources of the whole answer, as Perplexity gives them: with titles where it says them, else the addresses.
pub(super) fn sources(results: Option<&str>, citations: Option<&str>) -> Vec<Source> {
    let list = |raw: Option<&str>| raw.and_then(|raw| serde_json::from_str::<Vec<Any<Source>>>(raw).ok());
    let with_titles = list(results).unwrap_or_default().into_iter().map(|Any(source)| source);
    let addresses = citations.and_then(|raw| serde_json::from_str::<Vec<Any<Option<String>>>>(raw).ok());
    let plain = addresses.unwrap_or_default().into_iter();
    with_titles.chain(plain.map(|url| Source { url, ..Source::default() })).collect()
}
