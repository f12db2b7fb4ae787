//! What is asked and what is answered: the same bytes on every way, so that every answer can be compared whole.

/// Content events of one stream; its usage event and `[DONE]` come on top.
pub const CHUNKS: usize = 64;
/// The events of a stream as a client that did not ask for usage sees it.
pub const EVENTS: usize = CHUNKS + 1;

/// What kind of answer is asked for; the mock reads it off the model's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One JSON object.
    Plain,
    /// A stream whose events leave in one write.
    Burst,
    /// A stream whose events leave one by one, each in a write of its own.
    Paced,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Burst, Self::Paced];

    /// The upstream's name of the model that answers so.
    pub const fn model(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Burst => "burst",
            Self::Paced => "paced",
        }
    }
}

/// A chat of about 1 KiB, as an OpenAI SDK sends it: a stream does not ask for usage.
pub fn question(model: &str, kind: Kind) -> String {
    let text = "The stile turns once for every caller; \\\"no key, no way\\\" says the sign.\\n".repeat(5);
    let stream = if kind == Kind::Plain { "" } else { ",\"stream\":true" };
    format!(
        "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"system\",\"content\":\"{text}\"}},\
         {{\"role\":\"user\",\"content\":\"{text}\"}}],\"temperature\":0.7,\"max_tokens\":256{stream}}}"
    )
}

/// A complete answer of about 600 bytes.
pub fn answer() -> String {
    let text = "Whoever wants to pass shows a key, and the stile counts the steps. ".repeat(3);
    format!(
        "{{\"id\":\"chatcmpl-D8Z5oo6uDh67AD85p73ksdT1KxhE0\",\"object\":\"chat.completion\",\"created\":1770933892,\
         \"model\":\"plain\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\",\
         \"refusal\":null}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{USAGE},\
         \"system_fingerprint\":\"fp_de604bd877\"}}"
    )
}

const USAGE: &str = "{\"prompt_tokens\":190,\"completion_tokens\":64,\"total_tokens\":254,\
    \"prompt_tokens_details\":{\"cached_tokens\":0}}";

/// The events of a stream of `kind`: about 180 bytes each, the last one `[DONE]`.
pub fn events(kind: Kind, with_usage: bool) -> Vec<String> {
    let event = |choices: &str, rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-D8Z5oo6uDh67AD85p73k\",\"object\":\"chat.completion.chunk\",\
             \"created\":1770933892,\"model\":\"{}\",\"choices\":[{choices}]{rest}}}\n\n",
            kind.model()
        )
    };
    let mut events: Vec<String> = (0..CHUNKS)
        .map(|place| {
            let finish = if place + 1 == CHUNKS { "\"stop\"" } else { "null" };
            let delta = format!("{{\"content\":\" step {place}\"}}");
            event(&format!("{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}"), "")
        })
        .collect();
    if with_usage {
        events.push(event("", &format!(",\"usage\":{USAGE}")));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}
