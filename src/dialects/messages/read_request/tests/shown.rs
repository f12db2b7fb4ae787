//! Conversations as tests compare them.

use serde_json::{Map, Value, json};

use crate::wire::{
    Conversation,
    conversation::{
        Block, CacheTime, Content, Effort, Format, Hint, Reasoning, Role, Sampling, Source, Thinking, Tool,
        ToolCall, ToolChoice, Turn,
    },
};

/// A conversation as golden files have it: everything that is set, in a shape of its own.
pub(super) fn show(conversation: &Conversation) -> Value {
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
    let whole = json!({
        "turns": turns.iter().map(show_turn).collect::<Value>(),
        "tools": tools.iter().map(show_tool).collect::<Value>(),
        "tool_choice": tool_choice.as_ref().map(|choice| match choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({ "named": name }),
        }),
        "parallel_tools": parallel_tools,
        "format": format.as_ref().map(|format| match format {
            Format::Text => json!("text"),
            Format::JsonObject => json!("object"),
            Format::JsonSchema { name, description, schema, strict } => {
                json!({ "name": name, "description": description, "schema": schema.get(), "strict": strict })
            }
        }),
        "reasoning": reasoning.map(|Reasoning { effort, budget, adaptive, show }| {
            json!({ "effort": effort.map(Effort::as_str), "budget": budget, "adaptive": adaptive, "show": show })
        }),
        "output_limit": output_limit,
        "sampling": {
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
            "seed": seed,
            "logit_bias": logit_bias.as_ref().map(|bias| bias.get()),
            "logprobs": logprobs,
            "top_logprobs": top_logprobs,
        },
        "stop": stop,
        "choices": choices,
        "stream": stream,
        "user": user,
        "service_tier": service_tier,
        "verbosity": verbosity,
        "hints": hints.iter().map(|Hint { name, value }| json!([name, value.get()])).collect::<Value>(),
    });
    without_nothing(whole)
}

pub(super) fn show_turn(Turn { role, name, blocks }: &Turn) -> Value {
    let role = match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    json!({ "role": role, "name": name, "blocks": blocks.iter().map(show_block).collect::<Value>() })
}

fn show_block(Block { content, cache }: &Block) -> Value {
    let content = match content {
        Content::Text(text) => json!({ "text": text }),
        Content::Refusal(text) => json!({ "refusal": text }),
        Content::Image { source, detail } => json!({ "image": show_source(source), "detail": detail }),
        Content::Audio { data, format } => json!({ "audio": data, "format": format }),
        Content::Document { source, title, context, citations } => json!({
            "document": show_source(source), "title": title, "context": context, "citations": citations
        }),
        Content::ToolCall(ToolCall { id, name, arguments, signature }) => {
            json!({ "call": id, "name": name, "arguments": arguments, "signature": signature })
        }
        Content::ToolResult { id, blocks, is_error } => {
            json!({ "result_of": id, "blocks": blocks.iter().map(show_block).collect::<Value>(), "is_error": is_error })
        }
        Content::Thinking(Thinking::Open { text, signature }) => {
            json!({ "thought": text, "signature": signature })
        }
        Content::Thinking(Thinking::Sealed { data }) => json!({ "sealed_thought": data }),
        Content::TextSignature(signature) => json!({ "text_signature": signature }),
    };
    json!({ "content": content, "cache": cache.map(show_time) })
}

fn show_source(source: &Source) -> Value {
    match source {
        Source::Base64 { media_type, data } => json!({ "base64": data, "media_type": media_type }),
        Source::Url(url) => json!({ "url": url }),
        Source::Text(text) => json!({ "text": text }),
        Source::File(id) => json!({ "file": id }),
    }
}

fn show_tool(Tool { name, description, parameters, strict, cache }: &Tool) -> Value {
    json!({
        "name": name,
        "description": description,
        "parameters": parameters.as_ref().map(|schema| schema.get()),
        "strict": strict,
        "cache": cache.map(show_time),
    })
}

const fn show_time(time: CacheTime) -> &'static str {
    match time {
        CacheTime::FiveMinutes => "5m",
        CacheTime::Hour => "1h",
    }
}

pub(super) fn without_nothing(value: Value) -> Value {
    let empty = |value: &Value| matches!(value, Value::Null | Value::Bool(false)) || *value == json!([]);
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, without_nothing(value)))
            .filter(|(_, value)| !empty(value))
            .collect::<Map<String, Value>>()
            .into(),
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        other => other,
    }
}
