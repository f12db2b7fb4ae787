//! A client's Messages request as a [`Conversation`].
//!
//! Every member is translated, kept as a hint, or refused by its name. Thoughts that carry another provider's proof in
//! the place of Anthropic's signature (see [`gemini`](super::gemini)) are put back to where that provider wants it.

mod blocks;
#[cfg(test)]
mod corpus_tests;
mod fields;
mod options;
#[cfg(test)]
mod tests;
mod tools;

use serde_json::value::RawValue;

use self::{
    blocks::{Place, content},
    fields::{At, Fields, count, items, number, text, texts, unknown},
};
use crate::{
    dialects::DialectError,
    wire::{
        Conversation, Envelope, RequestView,
        conversation::{CacheTime, Content, Hint, Role, Turn},
    },
};

/// What can be said of a member that only Anthropic's own servers heed.
const ONLY_ANTHROPIC: &str = "is a service of Anthropic's, which the provider of this model lacks; leave it out, or call a model of Anthropic's";

/// Reads a Messages request, or one to count its tokens.
///
/// # Errors
/// A member has no meaning outside this API, or the wrong shape.
pub fn read_request(envelope: &Envelope, view: &RequestView) -> Result<Conversation, DialectError> {
    let mut hints = Hints::default();
    let mut read = Conversation {
        output_limit: view.max_tokens,
        stream: view.stream,
        choices: 1,
        ..Conversation::default()
    };
    let (mut system, mut cache, mut config) = (None, None, options::OutputConfig::default());
    let (mut thinking, mut old_format) = (None, None);
    let root = At::Root;
    for (name, raw) in envelope.iter().filter(|(_, raw)| *raw != "null") {
        let at = root.member(name);
        match name {
            // Whoever routes the request has read them.
            "model" | "models" | "stream" => {}
            "max_tokens" if view.max_tokens == Some(0) => {
                return Err(
                    at.refused("of 0 only fills Anthropic's cache; ask for an answer of 1 token or more")
                );
            }
            "max_tokens" => {}
            "system" => system = Some(content(raw, at, Place::System, &mut hints)?),
            "messages" => read.turns = turns(raw, at, &mut hints)?,
            "tools" => read.tools = tools::tools(raw, at, &mut hints)?,
            "tool_choice" => (read.tool_choice, read.parallel_tools) = options::tool_choice(raw, at)?,
            "thinking" => thinking = Some(options::thinking(raw, at)?),
            "output_config" => config = options::output_config(raw, at)?,
            "output_format" => old_format = Some((at, options::format(raw, at)?)),
            "stop_sequences" => read.stop = texts(raw, at)?,
            "temperature" => read.sampling.temperature = Some(number(raw, at)?),
            "top_p" => read.sampling.top_p = Some(number(raw, at)?),
            "top_k" => read.sampling.top_k = Some(count(raw, at)?),
            "metadata" => read.user = user(raw, at)?,
            "service_tier" => read.service_tier = options::service_tier(raw, at)?,
            "cache_control" => cache = Some(blocks::cache_time(raw, at)?),
            "context_management" => options::context_management(raw, at)?,
            "speed" if raw == "\"standard\"" => {}
            "inference_geo" if raw == "\"global\"" => {}
            "mcp_servers" | "fallbacks" if raw == "[]" => {}
            "speed"
            | "inference_geo"
            | "mcp_servers"
            | "fallbacks"
            | "container"
            | "compaction"
            | "thread"
            | "billing_policy"
            | "fallback_credit_token" => return Err(at.refused(ONLY_ANTHROPIC)),
            // What becomes of an answer is the same without them.
            "diagnostics" => hints.add("diagnostics", raw),
            "user_profile_id" => hints.add("user_profile_id", raw),
            _ => return Err(unknown(at)),
        }
    }
    read.format = match (config.format, old_format) {
        (Some(_), Some((at, _))) => return Err(at.wrong("left out where `output_config.format` is given")),
        (format, old) => format.or(old.map(|(_, format)| format)),
    };
    read.reasoning = options::reasoning(thinking, config.effort, &mut hints);
    if let Some(blocks) = system.filter(|blocks| !blocks.is_empty()) {
        read.turns.insert(0, Turn::new(Role::System, blocks));
    }
    if let Some(time) = cache {
        mark_the_last(&mut read, time);
    }
    read.hints = hints.0;
    Ok(read)
}

fn turns(raw: &str, at: At<'_>, hints: &mut Hints) -> Result<Vec<Turn>, DialectError> {
    let mut turns = Vec::new();
    for (index, message) in items(raw, at)?.into_iter().enumerate() {
        let at = at.item(index);
        let mut fields = Fields::read(message.get(), at)?;
        let (role, place) = match fields.need(at, "role", text)?.as_str() {
            "user" => (Role::User, Place::User),
            "assistant" => (Role::Assistant, Place::Assistant),
            "system" => (Role::System, Place::System),
            _ => return Err(at.member("role").wrong("`user`, `assistant` or `system`")),
        };
        let blocks = fields.need(at, "content", |raw, at| content(raw, at, place, hints))?;
        fields.finish(at)?;
        match role {
            _ if !blocks.is_empty() => turns.push(Turn::new(role, blocks)),
            // A beginning of the answer that has not begun.
            Role::Assistant => {}
            Role::User | Role::System => {
                return Err(at.member("content").wrong("text, or blocks that say something"));
            }
        }
    }
    Ok(turns)
}

/// `metadata`, which knows nothing but whose request it is.
fn user(raw: &str, at: At<'_>) -> Result<Option<String>, DialectError> {
    let mut fields = Fields::read(raw, at)?;
    let user = fields.get(at, "user_id", text)?;
    fields.finish(at)?;
    Ok(user)
}

/// A request's own `cache_control` stands for one on the last block that can have it.
fn mark_the_last(read: &mut Conversation, time: CacheTime) {
    let markable = |content: &Content| !matches!(content, Content::Thinking(_) | Content::TextSignature(_));
    let blocks = read.turns.iter_mut().rev().flat_map(|turn| turn.blocks.iter_mut().rev());
    if let Some(block) = blocks.into_iter().find(|block| markable(&block.content)) {
        block.cache.get_or_insert(time);
    }
}

/// Hints found so far, each once.
#[derive(Default)]
struct Hints(Vec<Hint>);

impl Hints {
    fn add(&mut self, name: &'static str, raw: &str) {
        if self.0.iter().any(|hint| hint.name == name) {
            return;
        }
        // What was cut out of a checked body is JSON.
        if let Ok(value) = RawValue::from_string(raw.to_owned()) {
            self.0.push(Hint { name, value });
        }
    }
}
