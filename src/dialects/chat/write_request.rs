//! Writes a conversation as a chat for a provider of OpenAI's dialect: in words that every such server understands
//! wherever there is a choice, since most of them know less than OpenAI.

mod content;
mod ids;
mod messages;
mod options;
mod tools;

use serde::Serialize;
use serde_json::value::RawValue;

use self::{
    messages::Message,
    options::{Names, ResponseFormat},
    tools::{Tool, ToolChoice},
};
use crate::{
    catalogue::{OutputLimitField, StreamUsage},
    dialects::{Call, DialectError, UpstreamRequest},
    wire::{
        Conversation, Endpoint,
        conversation::{CacheTime, Hint, Sampling},
    },
};

/// Writes a conversation as a chat for a provider of OpenAI's dialect, with its quirks.
///
/// # Errors
/// Something asked for cannot be said in it.
pub fn write_request(conversation: &Conversation, call: &Call<'_>) -> Result<UpstreamRequest, DialectError> {
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
    let names = Names::of(call.asked.endpoint);
    let mut dropped = Dropped::default();
    let limit = call.output_limit.or(*output_limit);
    let only_new = call.quirks.output_limit == OutputLimitField::MaxCompletionTokens;
    let asks_usage = call.quirks.stream_usage == StreamUsage::Ask && !call.quirks.refuses_stream_options;
    let mut body = Body {
        model: call.model.as_str(),
        messages: messages::write(turns, call, &names, &mut dropped)?,
        tools: tools::write(tools, call, &mut dropped),
        tool_choice: tools::write_choice(tool_choice.as_ref(), tools, call)?,
        // The default needs no telling, and without tools it is refused.
        parallel_tool_calls: parallel_tools.filter(|parallel| !parallel && !tools.is_empty()),
        response_format: options::write_format(format.as_ref(), call)?,
        reasoning_effort: options::write_effort(reasoning.as_ref(), call, &names, &mut dropped)?,
        max_tokens: limit.filter(|_| !only_new),
        max_completion_tokens: limit.filter(|_| only_new),
        stop: options::check_stop(stop, &names)?,
        n: Some(*choices).filter(|choices| *choices > 1),
        user: user.as_deref().filter(|user| {
            let takes = !call.quirks.refuses_unknown && user.len() <= MAX_USER_LENGTH;
            dropped.unless(takes, names.user)
        }),
        service_tier: service_tier.as_deref().filter(|tier| !options::is_default_tier(tier)),
        verbosity: verbosity.as_deref().filter(|verbosity| *verbosity != "medium"),
        stream: *stream,
        // Whoever asks in other words is told of usage in any case.
        stream_options: (*stream && asks_usage).then_some(StreamOptions { include_usage: true }),
        ..Body::default()
    };
    body.sample(sampling, call, &mut dropped)?;
    for Hint { name, value: _ } in hints {
        dropped.note(name);
    }
    let body = serde_json::to_vec(&body).expect("what is written here has string keys and finite numbers");
    Ok(UpstreamRequest {
        path: Endpoint::ChatCompletions.path().into(),
        body: body.into(),
        dropped: dropped.0,
        ..UpstreamRequest::default()
    })
}

/// OpenAI refuses a longer `user`, and the ids of Anthropic's own clients are longer.
const MAX_USER_LENGTH: usize = 64;

/// The request. Everything that may be left out is, where it says nothing.
#[derive(Default, Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ToolChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_bias: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Body<'a> {
    fn sample(
        &mut self,
        sampling: &'a Sampling,
        call: &Call<'_>,
        dropped: &mut Dropped,
    ) -> Result<(), DialectError> {
        let Sampling {
            temperature,
            top_p,
            top_k,
            presence_penalty,
            frequency_penalty,
            seed,
            logit_bias,
            logprobs,
            top_logprobs,
        } = sampling;
        if top_k.is_some() {
            return Err(DialectError::unsupported("top_k", "is not known to this provider; take it out"));
        }
        if *logprobs || top_logprobs.is_some_and(|top| top > 0) {
            let name = if *logprobs { "logprobs" } else { "top_logprobs" };
            let why = "is not handed on between APIs; take it out, or ask this model by `/chat/completions`";
            return Err(DialectError::unsupported(name, why));
        }
        let freely = call.capabilities.sampling;
        for (name, value) in [("temperature", temperature), ("top_p", top_p)] {
            if !freely && value.is_some_and(|value| value != 1.0) {
                return Err(DialectError::unsupported(name, "is fixed for this model; take it out"));
            }
        }
        self.temperature = temperature.filter(|_| freely);
        self.top_p = top_p.filter(|_| freely);
        self.presence_penalty = presence_penalty.filter(|penalty| *penalty != 0.0);
        self.frequency_penalty = frequency_penalty.filter(|penalty| *penalty != 0.0);
        self.seed = seed.filter(|_| dropped.unless(!call.quirks.refuses_unknown, "seed"));
        self.logit_bias = logit_bias.as_deref();
        Ok(())
    }
}

/// Hints that were left out, each once.
#[derive(Default)]
struct Dropped(Vec<&'static str>);

impl Dropped {
    fn note(&mut self, name: &'static str) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Notes `name` unless it is `said`; says which.
    fn unless(&mut self, said: bool, name: &'static str) -> bool {
        if !said {
            self.note(name);
        }
        said
    }

    /// A cache mark where the provider knows them; noted where it does not.
    fn mark(&mut self, cache: Option<CacheTime>, call: &Call<'_>) -> Option<CacheControl> {
        let cache = cache.filter(|_| self.unless(call.quirks.cache_control, "cache_control"))?;
        let ttl = match cache {
            CacheTime::FiveMinutes => None,
            CacheTime::Hour => Some("1h"),
        };
        Some(CacheControl { kind: "ephemeral", ttl })
    }
}

/// `{"type":"ephemeral"}`
#[derive(Clone, Copy, Serialize)]
struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}
