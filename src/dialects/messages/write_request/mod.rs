//! Conversations as requests to Anthropic.

mod blocks;
mod calls;
mod json;
mod options;
mod schema;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thinking;
#[cfg(test)]
mod tool_tests;
mod tools;
#[cfg(test)]
mod turn_tests;
mod turns;

use std::{borrow::Cow, collections::HashMap};

use serde::Serialize;
use serde_json::value::RawValue;

use self::{
    blocks::{CacheControl, Names, Wire},
    json::Json,
    options::{Free, freedom, stop_sequences, tier, user_id},
    schema::Misfit,
    thinking::{Thoughts, WireThinking},
    tools::{Choice, WireTool},
    turns::{Message, Written},
};
use crate::{
    catalogue::Capabilities,
    dialects::{Call, DialectError, UpstreamRequest},
    wire::{
        Conversation, Endpoint,
        conversation::{CacheTime, Format, Hint},
    },
};

/// The output limit of a model whose own is not known, in tokens: every one can make as many.
const SAFE_OUTPUT_LIMIT: u64 = 4096;
/// Most markers of a cached prompt that are accepted.
const MAX_MARKERS: usize = 4;
/// Asks for what `{"type":"json_object"}` asks for. No model here can be held to it without a schema.
const JSON_OBJECT: &str = "Answer with one JSON object and nothing else: no text around it, no code fence.";

/// A request's body.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Wire<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<WireThinking>,
    #[serde(skip_serializing_if = "OutputConfig::is_empty")]
    output_config: OutputConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct OutputConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<WireFormat>,
}

impl OutputConfig {
    const fn is_empty(&self) -> bool {
        self.effort.is_none() && self.format.is_none()
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireFormat {
    JsonSchema { schema: Json },
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: Cow<'a, str>,
}

/// Hints that could not be given, each once.
#[derive(Default)]
struct Dropped(Vec<&'static str>);

impl Dropped {
    fn note(&mut self, name: &'static str) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Of a marker on something that cannot have one.
    fn cache(&mut self, cache: Option<CacheTime>) {
        if cache.is_some() {
            self.note("cache_control");
        }
    }
}

/// What the client calls things, where that depends on its API.
struct Fields {
    effort: &'static str,
    limit: &'static str,
    format: &'static str,
    schema: &'static str,
    verbosity: &'static str,
}

impl Fields {
    const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Responses => Self {
                effort: "reasoning.effort",
                limit: "max_output_tokens",
                format: "text.format",
                schema: "text.format.schema",
                verbosity: "text.verbosity",
            },
            _ => Self {
                effort: "reasoning_effort",
                limit: "max_completion_tokens",
                format: "response_format",
                schema: "response_format.json_schema.schema",
                verbosity: "verbosity",
            },
        }
    }
}

/// Writes a conversation as a request to Anthropic; also the client's names of tools that go under others.
///
/// # Errors
/// Something asked for cannot be said in it.
pub(super) fn write_request(
    conversation: &Conversation,
    call: &Call<'_>,
) -> Result<(UpstreamRequest, HashMap<String, String>), DialectError> {
    let Conversation {
        turns,
        tools,
        tool_choice,
        parallel_tools,
        format,
        reasoning,
        output_limit,
        sampling,
        stop,
        choices,
        stream,
        user,
        service_tier,
        verbosity,
        hints,
    } = conversation;
    let capabilities = call.capabilities;
    let fields = Fields::of(call.asked.endpoint);
    let (mut names, mut dropped) = (Names::default(), Dropped::default());
    if *choices > 1 {
        return Err(DialectError::unsupported(
            "n",
            "is not available: this provider gives one answer; ask several times",
        ));
    }
    if verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium") {
        let why = "is not known to this provider; leave it out and say in the prompt how much to write";
        return Err(DialectError::unsupported(fields.verbosity, why));
    }
    let given_limit = call.output_limit.or(*output_limit);
    let max_tokens = given_limit.or(call.model_limit).unwrap_or(SAFE_OUTPUT_LIMIT);

    let mut offered = tools::tools(tools, capabilities, &mut names, &mut dropped)?;
    let Written { mut system, mut messages, calls_without_thoughts } =
        turns::write(turns, capabilities, &mut names, &mut dropped)?;
    let mut thoughts = thinking::thoughts(*reasoning, capabilities, max_tokens, fields.effort, fields.limit)?;
    if thoughts.are_budgeted() && calls_without_thoughts {
        // With a budget, calls must be shown with the thoughts that led to them. A client that does not give them back
        // gets this step without any.
        thoughts = Thoughts::default();
        dropped.note("reasoning_effort");
    }
    if thoughts.budget_dropped {
        dropped.note("thinking.budget_tokens");
    }
    let mut choice = tools::choice(
        tool_choice.as_ref(),
        *parallel_tools,
        !offered.is_empty(),
        demand(capabilities, &thoughts),
        &mut names,
    )?;
    if offered.is_empty() {
        offered = tools::of_the_past(&messages);
        if !offered.is_empty() {
            choice = Some(Choice::None);
        }
    }
    let format = match format {
        None | Some(Format::Text) => None,
        Some(Format::JsonObject) => {
            system.push(Wire::text(JSON_OBJECT));
            None
        }
        // Its name is a label.
        Some(Format::JsonSchema { name: _, description, schema, strict: _ }) => {
            Some(held_to(schema, description.as_deref(), capabilities, &fields)?)
        }
    };
    let Free { temperature, top_p, top_k } =
        freedom(sampling, capabilities, thoughts.are_on(), &mut dropped)?;
    for Hint { name, value: _ } in hints {
        dropped.note(name);
    }
    limit_markers(&mut offered, &mut system, &mut messages, &mut dropped);
    let body = Body {
        model: call.model.as_str(),
        max_tokens,
        system,
        messages,
        tools: offered,
        tool_choice: choice,
        thinking: thoughts.thinking,
        output_config: OutputConfig { effort: thoughts.effort, format },
        temperature,
        top_p,
        top_k,
        stop_sequences: stop_sequences(stop)?,
        stream: *stream,
        metadata: user
            .as_deref()
            .filter(|user| !user.is_empty())
            .map(|user| Metadata { user_id: user_id(user) }),
        service_tier: tier(service_tier.as_deref())?,
    };
    let body = serde_json::to_vec(&body).expect("what is written here has string keys and finite numbers");
    let request = UpstreamRequest {
        path: Endpoint::Messages.path().into(),
        body: body.into(),
        output_limit: given_limit.is_none().then_some(max_tokens),
        dropped: dropped.0,
        ..UpstreamRequest::default()
    };
    Ok((request, names.changed))
}

/// Whether a tool can be demanded.
const fn demand(capabilities: &Capabilities, thoughts: &Thoughts) -> Result<(), &'static str> {
    if !capabilities.forced_tools {
        Err("cannot demand a tool of this model; use `auto` and say in the prompt which one to call")
    } else if thoughts.are_budgeted() {
        Err("cannot demand a tool while this model thinks; use `auto`, or ask for no thinking")
    } else {
        Ok(())
    }
}

/// The form of an answer that is held to a schema, strictly or not: there is only strictly.
fn held_to(
    schema: &RawValue,
    purpose: Option<&str>,
    capabilities: &Capabilities,
    fields: &Fields,
) -> Result<WireFormat, DialectError> {
    if !capabilities.json_schema {
        let why = "with a schema is not available on this model; use a newer one, or describe the form in the prompt";
        return Err(DialectError::unsupported(fields.format, why));
    }
    let schema = schema::accepted(schema, purpose).map_err(|misfit| match misfit {
        Misfit::NotASchema => DialectError::wrong_shape(fields.schema, "a JSON Schema, an object"),
        Misfit::OpenObject => DialectError::unsupported(
            fields.schema,
            "has an object open to any member, to which this provider cannot hold an answer; list its properties",
        ),
    })?;
    Ok(WireFormat::JsonSchema { schema })
}

/// Takes the first markers out when there are too many: the last ones cover what they did.
fn limit_markers<'a>(
    tools: &mut [WireTool<'a>],
    system: &mut [Wire<'a>],
    messages: &mut [Message<'a>],
    dropped: &mut Dropped,
) {
    let blocks = system.iter_mut().chain(messages.iter_mut().flat_map(|message| &mut message.content));
    let markers = tools.iter_mut().map(|tool| &mut tool.cache_control).chain(blocks.filter_map(Wire::marker));
    let mut set: Vec<&mut Option<CacheControl>> = markers.filter(|marker| marker.is_some()).collect();
    let too_many = set.len().saturating_sub(MAX_MARKERS);
    for marker in set.iter_mut().take(too_many) {
        **marker = None;
        dropped.note("cache_control");
    }
}
