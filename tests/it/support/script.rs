//! What a scripted provider answers: steps on a socket, and the bodies of OpenAI's dialect to put into them.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

/// A door that a test opens. Clones are the same door.
#[derive(Clone)]
pub struct Gate {
    open: Arc<Semaphore>,
    reached: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: Arc::new(Semaphore::new(0)), reached: watch::Sender::new(0) }
    }
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.open.close();
    }

    /// Lets one through.
    pub fn let_one(&self) {
        self.open.add_permits(1);
    }

    /// Waits until `count` answers have come to the gate.
    pub async fn reached(&self, count: usize) {
        let mut reached = self.reached.subscribe();
        super::soon("an answer at the gate", reached.wait_for(|seen| *seen >= count)).await.expect("a gate");
    }

    pub(super) async fn pass(&self) {
        self.reached.send_modify(|seen| *seen += 1);
        match self.open.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_opened) => {}
        }
    }
}

/// One step of an answer.
#[derive(Clone)]
pub enum Step {
    /// These bytes, as they are, in one write.
    Bytes(Vec<u8>),
    /// Nothing until the gate opens.
    Wait(Gate),
    /// Nothing ever again; the connection stays open until the other side closes it.
    Stall,
    /// The connection is closed in good order.
    Close,
    /// The connection is reset.
    Reset,
}

/// What a scripted provider does with one request.
#[derive(Clone, Default)]
pub struct Answer {
    pub(super) steps: Vec<Step>,
    chunked: bool,
}

impl Answer {
    /// A whole answer with `content-length`.
    pub fn whole(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        Self { steps: vec![Step::Bytes(bytes)], chunked: false }
    }

    /// A whole JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::whole(status, &[("content-type", "application/json")], body.to_string())
    }

    /// The head of a chunked answer; its body is what follows.
    pub fn chunked(status: u16, headers: &[(&str, &str)]) -> Self {
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        Self { steps: vec![Step::Bytes(bytes)], chunked: true }
    }

    /// The head of an event stream.
    pub fn stream() -> Self {
        Self::chunked(200, &[("content-type", "text/event-stream")])
    }

    /// One more piece of the body, written by itself.
    pub fn send(mut self, piece: impl AsRef<[u8]>) -> Self {
        let piece = piece.as_ref();
        let bytes = if self.chunked {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            chunk
        } else {
            piece.to_vec()
        };
        if !piece.is_empty() {
            self.steps.push(Step::Bytes(bytes));
        }
        self
    }

    /// Each piece by itself.
    pub fn send_all<T: AsRef<[u8]>>(self, pieces: impl IntoIterator<Item = T>) -> Self {
        pieces.into_iter().fold(self, Self::send)
    }

    /// Waits until the test opens `gate`.
    pub fn wait(self, gate: &Gate) -> Self {
        self.then(Step::Wait(gate.clone()))
    }

    /// The end of a chunked body; the connection may be used again.
    pub fn end(mut self) -> Self {
        if self.chunked {
            self.steps.push(Step::Bytes(b"0\r\n\r\n".to_vec()));
        }
        self
    }

    /// Says nothing any more.
    pub fn stall(self) -> Self {
        self.then(Step::Stall)
    }

    /// Closes the connection.
    pub fn close(self) -> Self {
        self.then(Step::Close)
    }

    /// Resets the connection.
    pub fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.into_bytes()
}

/// These bytes instead of HTTP, and then the end.
pub fn raw(bytes: impl AsRef<[u8]>) -> Answer {
    Answer { steps: vec![Step::Bytes(bytes.as_ref().to_vec())], chunked: false }.close()
}

/// A provider's refusal.
pub fn error(status: u16, message: &str) -> Answer {
    Answer::json(
        status,
        &json!({ "error": { "message": message, "type": "scripted", "param": null, "code": null } }),
    )
}

/// `prompt` and `completion` tokens as OpenAI reports them.
pub fn usage(prompt: u64, completion: u64) -> Value {
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
}

/// A chat completion that says `text`.
pub fn chat_body(text: &str, usage: &Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "scripted",
        "choices": [{ "index": 0, "finish_reason": "stop", "logprobs": null,
            "message": { "role": "assistant", "content": text, "refusal": null } }],
        "usage": usage,
    })
}

/// A provider that answers `text` whole.
pub fn chat_ok(text: &str, usage: &Value) -> Answer {
    Answer::json(200, &chat_body(text, usage))
}

/// One event.
pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// The end of OpenAI's streams.
pub fn done() -> String {
    "data: [DONE]\n\n".to_owned()
}

fn chunk(choices: Value) -> Value {
    json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000,
        "model": "scripted", "choices": choices })
}

fn delta(delta: Value, finish: Value) -> String {
    event(&chunk(json!([{ "index": 0, "delta": delta, "finish_reason": finish, "logprobs": null }])))
}

/// Role, one event a token, and the finish reason; neither usage nor `[DONE]`.
pub fn chat_events(tokens: &[&str]) -> Vec<String> {
    let mut events = vec![delta(json!({ "role": "assistant", "content": "" }), Value::Null)];
    events.extend(tokens.iter().map(|token| delta(json!({ "content": token }), Value::Null)));
    events.push(delta(json!({}), json!("stop")));
    events
}

/// The chunk that carries usage and nothing else.
pub fn usage_chunk(usage: &Value) -> String {
    let mut chunk = chunk(json!([]));
    chunk["usage"] = usage.clone();
    event(&chunk)
}

/// A whole stream: `tokens`, the finish reason, a usage chunk if there is `usage`, `[DONE]`.
pub fn chat_stream(tokens: &[&str], usage: Option<&Value>) -> Answer {
    Answer::stream()
        .send_all(chat_events(tokens))
        .send(usage.map(usage_chunk).unwrap_or_default())
        .send(done())
        .end()
}
