//! Everything of a request but its turns.

use super::{
    Notes, contents,
    shape::{Body, Declaration, FunctionCallingConfig, GenerationConfig, Instruction, ToolConfig, Tools},
    thinking,
};
use crate::{
    catalogue::ThinkingStyle,
    dialects::{Call, DialectError, UpstreamRequest, gemini::place},
    wire::{
        Conversation, Endpoint,
        conversation::{Format, Hint, Sampling, Tool, ToolChoice},
    },
};

/// Most texts that end an answer.
const MOST_STOPS: usize = 5;
const JSON: &str = "application/json";

/// Writes a conversation as a request to Gemini.
///
/// # Errors
/// Something asked for cannot be said in it.
pub(in super::super) fn write_request(
    conversation: &Conversation,
    call: &Call<'_>,
) -> Result<UpstreamRequest, DialectError> {
    let verb = if conversation.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    let path = place::path(call.model, verb)?;
    let (body, dropped) = body(conversation, call)?;
    Ok(UpstreamRequest { path: path.into(), body: place::json(&body), dropped, ..UpstreamRequest::default() })
}

/// The body, and the hints that are not in it.
pub(in super::super) fn body<'a>(
    conversation: &'a Conversation,
    call: &Call<'_>,
) -> Result<(Body<'a>, Vec<&'static str>), DialectError> {
    // Whether it streams stands in the path.
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
        stream: _,
        user,
        service_tier,
        verbosity,
        hints,
    } = conversation;
    let endpoint = call.asked.endpoint;
    let mut notes = Notes::default();
    let mut config = GenerationConfig {
        max_output_tokens: call.output_limit.or(*output_limit),
        candidate_count: Some(*choices).filter(|choices| *choices > 1),
        ..GenerationConfig::default()
    };
    sample(sampling, call, &mut config, &mut notes)?;
    if stop.len() > MOST_STOPS {
        let name = if endpoint == Endpoint::Messages { "stop_sequences" } else { "stop" };
        return Err(DialectError::unsupported(
            name,
            "has more texts than the 5 that Gemini takes; leave some out",
        ));
    }
    config.stop_sequences = stop;
    shape_answer(format.as_ref(), call, &mut config, &mut notes)?;
    if let Some(reasoning) = reasoning {
        config.thinking_config = thinking::config(reasoning, call.capabilities, endpoint, &mut notes)?;
    }
    if verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium") {
        return Err(DialectError::unsupported(
            "verbosity",
            "is not known to Gemini; say in the instructions how long",
        ));
    }
    if user.is_some() {
        notes.dropped("user");
    }
    for Hint { name, value: _ } in hints {
        notes.dropped(name);
    }
    let tool_config = choose(tool_choice.as_ref(), *parallel_tools, tools, call)?;
    let tools = declare(tools, &mut notes);
    let signed = call.capabilities.thinking == ThinkingStyle::Level;
    let contents::Contents { entries, instructions } =
        contents::write(turns, call.capabilities, signed, &mut notes)?;
    let body = Body {
        model: None,
        contents: entries,
        system_instruction: (!instructions.is_empty()).then_some(Instruction { parts: instructions }),
        tools,
        tool_config,
        generation_config: config,
        service_tier: tier(service_tier.as_deref())?,
    };
    Ok((body, notes.0))
}

fn sample<'a>(
    sampling: &'a Sampling,
    call: &Call<'_>,
    config: &mut GenerationConfig<'a>,
    notes: &mut Notes,
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
    if *logprobs || top_logprobs.is_some_and(|top| top > 0) {
        return Err(DialectError::unsupported("logprobs", "are not passed on from Gemini; leave them out"));
    }
    if logit_bias.as_ref().is_some_and(|bias| !is_empty_object(bias.get())) {
        return Err(DialectError::unsupported("logit_bias", "is not known to Gemini; leave it out"));
    }
    if call.capabilities.sampling {
        (config.temperature, config.top_p, config.top_k) = (*temperature, *top_p, *top_k);
    } else {
        let usual = |value: &Option<f64>| value.is_none_or(|value| value == 1.0);
        let given =
            [("temperature", usual(temperature)), ("top_p", usual(top_p)), ("top_k", top_k.is_none())];
        if let Some((name, _)) = given.iter().find(|(_, usual)| !usual) {
            return Err(DialectError::unsupported(*name, "is not accepted by this model; leave it out"));
        }
    }
    // Some models refuse penalties whatever their value.
    config.presence_penalty = presence_penalty.filter(|penalty| *penalty != 0.0);
    config.frequency_penalty = frequency_penalty.filter(|penalty| *penalty != 0.0);
    config.seed = seed.and_then(|seed| i32::try_from(seed).ok());
    if seed.is_some() && config.seed.is_none() {
        notes.dropped("seed");
    }
    Ok(())
}

fn is_empty_object(json: &str) -> bool {
    json.chars().filter(|c| !c.is_whitespace()).eq("{}".chars())
}

/// The form of the answer. Gemini holds it to a schema always, so that it need not be told to; a schema's name means
/// nothing to it.
fn shape_answer<'a>(
    format: Option<&'a Format>,
    call: &Call<'_>,
    config: &mut GenerationConfig<'a>,
    notes: &mut Notes,
) -> Result<(), DialectError> {
    match format {
        None | Some(Format::Text) => {}
        Some(Format::JsonObject) => config.response_mime_type = Some(JSON),
        Some(Format::JsonSchema { name: _, description, schema, strict: _ }) => {
            if !call.capabilities.json_schema {
                return Err(DialectError::unsupported(
                    "response_format",
                    "asks for a schema, which this model cannot be held to; call another one",
                ));
            }
            if description.is_some() {
                notes.dropped("response_format.description");
            }
            config.response_mime_type = Some(JSON);
            config.response_json_schema = Some(schema);
        }
    }
    Ok(())
}

fn choose<'a>(
    choice: Option<&'a ToolChoice>,
    parallel: Option<bool>,
    tools: &[Tool],
    call: &Call<'_>,
) -> Result<Option<ToolConfig<'a>>, DialectError> {
    let demanded = matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    if demanded && (tools.is_empty() || !call.capabilities.forced_tools) {
        let why = if tools.is_empty() {
            "demands a tool, and there are none; send `tools`"
        } else {
            "demands a tool, which this model cannot be made to call; send `auto`"
        };
        return Err(DialectError::unsupported("tool_choice", why));
    }
    if tools.is_empty() {
        return Ok(None);
    }
    if parallel == Some(false) && choice != Some(&ToolChoice::None) {
        let name = match call.asked.endpoint {
            Endpoint::Messages => "tool_choice.disable_parallel_tool_use",
            _ => "parallel_tool_calls",
        };
        return Err(DialectError::unsupported(
            name,
            "cannot be had of Gemini, which may call several tools at once",
        ));
    }
    let config = |mode, only| ToolConfig {
        function_calling_config: FunctionCallingConfig { mode, allowed_function_names: only },
    };
    Ok(choice.map(|choice| match choice {
        ToolChoice::Auto => config("AUTO", None),
        ToolChoice::None => config("NONE", None),
        ToolChoice::Required => config("ANY", None),
        ToolChoice::Named(name) => config("ANY", Some([name.as_str()])),
    }))
}

/// All functions are one tool.
fn declare<'a>(tools: &'a [Tool], notes: &mut Notes) -> Option<[Tools<'a>; 1]> {
    let mut function_declarations = Vec::with_capacity(tools.len());
    for Tool { name, description, parameters, strict, cache } in tools {
        if *strict == Some(true) {
            notes.dropped("tools.strict");
        }
        if cache.is_some() {
            notes.dropped("cache_control");
        }
        function_declarations.push(Declaration {
            name,
            description: description.as_deref(),
            parameters_json_schema: parameters.as_deref(),
        });
    }
    (!function_declarations.is_empty()).then_some([Tools { function_declarations }])
}

/// Google's name of a tier; what means the usual one is not sent.
fn tier(name: Option<&str>) -> Result<Option<&'static str>, DialectError> {
    match name {
        None | Some("auto" | "default" | "standard" | "standard_only") => Ok(None),
        Some("flex") => Ok(Some("flex")),
        Some("priority") => Ok(Some("priority")),
        Some(_) => Err(DialectError::unsupported(
            "service_tier",
            "is not one of Google's; use `default`, `flex` or `priority`",
        )),
    }
}
