//! Answers as a client sees them.

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::soon;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub(super) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = soon("a whole answer", response.bytes()).await.expect("a whole answer");
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a UTF-8 body")
    }

    /// The code of an error in OpenAI's shape; checks the shape.
    pub fn code(&self) -> String {
        let error = &self.json()["error"];
        for member in ["message", "type", "param", "code"] {
            assert!(error.get(member).is_some(), "`{member}` is missing in {error}");
        }
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert!(error["type"].is_string(), "{error}");
        assert!(self.header("x-request-id").is_some_and(|id| id.starts_with("req_")), "{:?}", self.headers);
        assert_eq!(self.header("content-type"), Some("application/json"));
        error["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Fails the test unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Fails the test unless it is an error with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let said = self.expect(status);
        assert_eq!(said.code(), code, "{}", said.text());
        said
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().expect("a plain header"));
    assert!(values.next().is_none(), "`{name}` came twice");
    value
}

/// A streamed answer, read as it comes. Dropping it hangs up.
pub struct Stream {
    pub status: u16,
    pub headers: HeaderMap,
    response: reqwest::Response,
    buffer: BytesMut,
}

impl Stream {
    pub(super) fn new(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, response, buffer: BytesMut::new() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The next frame, its blank line included; `None` at the end. Only for streams with plain line ends.
    pub async fn frame(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let frame = self.buffer.split_to(at + 2);
                return Some(String::from_utf8(frame.to_vec()).expect("UTF-8"));
            }
            match soon("the next event", self.response.chunk()).await.expect("a stream") {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => {
                    assert!(self.buffer.is_empty(), "the stream ends in the middle of a frame");
                    return None;
                }
            }
        }
    }

    /// The next line with its LF. Only for streams with plain line ends.
    pub async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(at + 1);
                return String::from_utf8(line.to_vec()).expect("UTF-8");
            }
            let chunk = soon("the next line", self.response.chunk()).await.expect("a stream");
            self.buffer.extend_from_slice(&chunk.expect("a line"));
        }
    }

    /// The next bytes, as they came.
    pub async fn piece(&mut self) -> String {
        let chunk = soon("the next bytes", self.response.chunk()).await.expect("a stream");
        String::from_utf8(chunk.expect("some bytes").to_vec()).expect("UTF-8")
    }

    /// Everything that is left.
    pub async fn rest(mut self) -> Bytes {
        while let Some(chunk) = soon("the next bytes", self.response.chunk()).await.expect("a stream") {
            self.buffer.extend_from_slice(&chunk);
        }
        self.buffer.freeze()
    }

    /// Everything that is left, as text.
    pub async fn text(self) -> String {
        String::from_utf8(self.rest().await.to_vec()).expect("UTF-8")
    }
}

/// The `error` object of a stream's last event, if that is what it is.
pub fn last_error(text: &str) -> Option<Value> {
    let data = text.trim_end().rsplit("\n\n").next()?.strip_prefix("data: ")?;
    let value: Value = serde_json::from_str(data).ok()?;
    value.get("error").cloned()
}
