//! Requests that go to Anthropic as their clients wrote them.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{PLAIN_VERSION, VERSION, gemini::Signature};
use crate::{
    dialects::{Call, UpstreamRequest},
    wire::{Edit, Endpoint, Envelope},
};

const BETA: &str = "anthropic-beta";

/// The client's own request, to the model it goes to.
pub(super) fn pass(call: &Call<'_>) -> UpstreamRequest {
    let asked = call.asked;
    let mut edits = Vec::with_capacity(4);
    if asked.view.model.as_deref() != Some(call.model.as_str()) {
        edits.push(Edit::text("model", call.model.as_str()));
    }
    edits.push(Edit::Remove { name: "models" });
    if let Some(limit) = call.output_limit.filter(|_| asked.endpoint == Endpoint::Messages) {
        edits.push(Edit::number("max_tokens", limit));
    }
    if let Some(value) = asked.envelope.raw("messages").and_then(without_foreign_thoughts) {
        edits.push(Edit::Set { name: "messages", value });
    }
    let version = asked.headers.anthropic_version.as_deref().unwrap_or(PLAIN_VERSION);
    let mut headers = vec![(VERSION, version.to_owned())];
    headers.extend(asked.headers.anthropic_beta.clone().map(|beta| (BETA, beta)));
    UpstreamRequest {
        path: asked.endpoint.path().into(),
        body: asked.envelope.render(&edits),
        headers,
        ..UpstreamRequest::default()
    }
}

/// The messages without thoughts that another provider had in this conversation: Anthropic refuses what it did not sign.
/// `None` when there are none, which is nearly always.
fn without_foreign_thoughts(messages: &str) -> Option<String> {
    // How a thought begins that this gateway told in Anthropic's words; whatever else is found so is looked at below.
    if !["\"gemini:", "\"signature\":\"\"", "\"signature\": \"\""].iter().any(|mark| messages.contains(mark))
    {
        return None;
    }
    let messages: Vec<&RawValue> = serde_json::from_str(messages).ok()?;
    let mut kept: Vec<String> = Vec::with_capacity(messages.len());
    let mut any = false;
    for message in messages {
        match own_part(message) {
            None => kept.push(message.get().to_owned()),
            Some(rest) => {
                any = true;
                kept.extend(rest);
            }
        }
    }
    any.then(|| format!("[{}]", kept.join(",")))
}

/// What is left of a message that has foreign thoughts in it, which may be nothing; `None` for any other.
fn own_part(message: &RawValue) -> Option<Option<String>> {
    let message = Envelope::split(Bytes::copy_from_slice(message.get().as_bytes()), usize::MAX).ok()?;
    let blocks: Vec<&RawValue> = serde_json::from_str(message.raw("content")?).ok()?;
    let own: Vec<&str> =
        blocks.iter().filter(|block| !is_foreign_thought(block)).map(|block| block.get()).collect();
    if own.len() == blocks.len() {
        return None;
    }
    if own.is_empty() {
        return Some(None);
    }
    let content = Edit::Set { name: "content", value: format!("[{}]", own.join(",")) };
    Some(String::from_utf8(message.render(&[content]).to_vec()).ok())
}

fn is_foreign_thought(block: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Thought {
        #[serde(rename = "type")]
        kind: String,
        signature: String,
    }
    serde_json::from_str::<Thought>(block.get()).is_ok_and(|Thought { kind, signature }| {
        kind == "thinking" && (signature.is_empty() || Signature::read(&signature).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_of_others_stay_behind_and_all_else_stays_as_it_is() {
        let messages = r#"[{"role":"user","content":"gemini: \"gemini:"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"gemini:abc="},{"type":"tool_use","id":"a","name":"n","input":{"b":1,"a":2}}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":""}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"own"}]}]"#;
        let left = without_foreign_thoughts(messages).expect("something was left out");
        let expected = r#"[{"role":"user","content":"gemini: \"gemini:"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"n","input":{"b":1,"a":2}}]},{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"own"}]}]"#;
        assert_eq!(left, expected);
        assert_eq!(without_foreign_thoughts(expected), None);
        assert_eq!(without_foreign_thoughts(r#"[{"role":"user","content":"hello"}]"#), None);
    }
}
