//! A request for a provider that speaks `/responses` itself.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::seal::is_ours;
use crate::{
    dialects::{Call, DialectError, UpstreamRequest},
    wire::Edit,
};

/// The request for a provider that speaks it: the client's own bytes but for what must change.
///
/// # Errors
/// It asks for something that the gateway cannot keep or meter.
pub fn pass(call: &Call<'_>) -> Result<UpstreamRequest, DialectError> {
    let envelope = &call.asked.envelope;
    if !matches!(envelope.raw("background"), None | Some("false" | "null")) {
        return Err(DialectError::unsupported(
            "background",
            "asks for an answer whose end this gateway would not see, and so could not account for; leave it out",
        ));
    }
    let mut edits = Vec::with_capacity(4);
    if call.asked.view.model.as_deref() != Some(call.model.as_str()) {
        edits.push(Edit::text("model", call.model.as_str()));
    }
    edits.push(Edit::Remove { name: "models" });
    if let Some(limit) = call.output_limit {
        edits.push(Edit::number("max_output_tokens", limit));
    }
    if let Some(value) = envelope.raw("input").and_then(without_ours) {
        edits.push(Edit::Set { name: "input", value });
    }
    Ok(UpstreamRequest {
        path: call.asked.endpoint.path().into(),
        body: envelope.render(&edits),
        ..UpstreamRequest::default()
    })
}

/// The input without reasoning that this gateway sealed when another provider answered: nobody else can read it, and a
/// provider refuses what it cannot. `None` when there is none.
fn without_ours(input: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<&'a RawValue>,
        #[serde(borrow)]
        encrypted_content: Option<&'a RawValue>,
    }
    let sealed = |item: &&RawValue| {
        let item = serde_json::from_str::<Item<'_>>(item.get()).ok();
        // What policy has counted of any other item has to be sent.
        let thoughts = item.filter(|item| item.kind.is_some_and(|kind| kind.get() == "\"reasoning\""));
        thoughts.and_then(|item| item.encrypted_content).is_some_and(|raw| is_ours(raw.get()))
    };
    // Most requests have none, and are not looked into.
    if !input.contains("ks1.") {
        return None;
    }
    let items: Vec<&RawValue> = serde_json::from_str(input).ok()?;
    let kept: Vec<&str> = items.iter().filter(|item| !sealed(item)).map(|item| item.get()).collect();
    (kept.len() < items.len()).then(|| format!("[{}]", kept.join(",")))
}
