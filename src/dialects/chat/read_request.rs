//! Reads what a client of chat completions asks. Every member is understood, kept as a hint, or refused by its name.

mod content;
mod messages;
mod options;
mod tools;

use self::{options::Thoughts, tools::Choice};
use super::field::Field;
use crate::{
    dialects::DialectError,
    wire::{
        Conversation, Envelope, RequestView,
        conversation::{Hint, Sampling, Tool},
    },
};

/// Reads a chat completion's request.
///
/// # Errors
/// A member has no meaning outside this API, or the wrong shape.
pub fn read_request(envelope: &Envelope, view: &RequestView) -> Result<Conversation, DialectError> {
    let mut draft = Draft::default();
    for (name, raw) in envelope.iter().filter(|(_, raw)| *raw != "null") {
        draft.read(name, Field::top(name, raw))?;
    }
    draft.finish(view)
}

/// What was read so far: what depends on several members waits for the last.
#[derive(Default)]
struct Draft {
    conversation: Conversation,
    functions: Option<Vec<Tool>>,
    choice: Option<Choice>,
    thoughts: Thoughts,
    safety_identifier: Option<String>,
}

impl Draft {
    fn read(&mut self, name: &str, value: Field<'_, '_>) -> Result<(), DialectError> {
        let conversation = &mut self.conversation;
        match name {
            // Read by policy already; which model answers is the gateway's to say.
            "model" | "models" | "stream" | "max_tokens" | "max_completion_tokens" | "n" | "service_tier" => {
            }
            "stream_options" => options::check_stream_options(value)?,
            "messages" => messages::read(value, conversation)?,
            "tools" => conversation.tools = tools::read(value)?,
            "functions" => self.functions = Some(tools::read_functions(value)?),
            "tool_choice" | "function_call" if self.choice.is_some() => {
                return Err(
                    value.unsupported("stands beside `tool_choice` or `function_call`; give one of them")
                );
            }
            "tool_choice" => self.choice = Some(tools::read_choice(value)?),
            "function_call" => self.choice = Some(tools::read_function_choice(value)?),
            "parallel_tool_calls" => conversation.parallel_tools = Some(value.boolean()?),
            "response_format" => conversation.format = Some(options::read_format(value)?),
            "reasoning_effort" | "reasoning" | "thinking" | "include_reasoning" => {
                self.thoughts.read(name, value)?
            }
            "stop" => conversation.stop = options::read_stop(value)?,
            "user" => conversation.user = Some(value.string()?),
            "safety_identifier" => self.safety_identifier = Some(value.string()?),
            "verbosity" => conversation.verbosity = Some(options::read_verbosity(value)?),
            "modalities" => options::check_modalities(value)?,
            "audio" => return Err(value.only_openai("asks for an answer in sound")),
            "web_search_options" => return Err(value.only_openai("asks for a search of OpenAI's own")),
            "moderation" => return Err(value.only_openai("asks for OpenAI's moderation")),
            _ if read_sampling(&mut conversation.sampling, name, value)? => {}
            _ => match hint(name, value)? {
                Some(hint) => conversation.hints.extend(hint),
                None => return Err(value.unknown()),
            },
        }
        Ok(())
    }

    fn finish(self, view: &RequestView) -> Result<Conversation, DialectError> {
        let Self { mut conversation, functions, choice, thoughts, safety_identifier } = self;
        if let Some(functions) = functions {
            if !conversation.tools.is_empty() {
                return Err(DialectError::unsupported(
                    "functions",
                    "stands beside `tools`; give one of them",
                ));
            }
            conversation.tools = functions;
            // An answer in the old words has room for one call.
            conversation.parallel_tools = Some(false);
        }
        if let Some(choice) = choice {
            choice.apply(&mut conversation)?;
        }
        conversation.reasoning = thoughts.finish();
        // Of the two names of one thing the newer counts.
        conversation.user = safety_identifier.or(conversation.user);
        conversation.output_limit = view.output_limit;
        conversation.choices = view.choices_sent.max(1);
        conversation.stream = view.stream;
        conversation.service_tier.clone_from(&view.service_tier);
        Ok(conversation)
    }
}

/// Takes in a member that is about how words are chosen; says whether it was one.
fn read_sampling(sampling: &mut Sampling, name: &str, value: Field<'_, '_>) -> Result<bool, DialectError> {
    match name {
        "temperature" => sampling.temperature = Some(value.number()?),
        "top_p" => sampling.top_p = Some(value.number()?),
        "top_k" => sampling.top_k = Some(value.count()?),
        "presence_penalty" => sampling.presence_penalty = Some(value.number()?),
        "frequency_penalty" => sampling.frequency_penalty = Some(value.number()?),
        "seed" => sampling.seed = Some(value.whole()?),
        "logit_bias" => sampling.logit_bias = Some(value.to_raw_object()?).filter(|_| !value.is_empty()),
        "logprobs" => sampling.logprobs = value.boolean()?,
        "top_logprobs" => sampling.top_logprobs = Some(value.count()?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// What does not change the answer. The inner `None`: it says nothing beyond the default.
fn hint(name: &str, value: Field<'_, '_>) -> Result<Option<Option<Hint>>, DialectError> {
    const HINTS: [&str; 6] = [
        "metadata",
        "store",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
    ];
    let Some(name) = HINTS.into_iter().find(|hint| *hint == name) else { return Ok(None) };
    let said = value.raw() != "false" && !value.is_empty();
    Ok(Some(said.then_some(Hint { name, value: value.to_raw()? })))
}
