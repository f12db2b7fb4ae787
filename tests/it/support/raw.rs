//! A client on bare TCP, for what no HTTP library would send.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Reply, soon};

/// A connection to the gateway.
pub struct RawClient {
    socket: TcpStream,
    buffer: BytesMut,
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        Self { socket, buffer: BytesMut::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Whoever was answered before all was sent may have closed the connection.
        self.socket.write_all(bytes.as_ref()).await.ok();
    }

    /// The next answer on this connection.
    pub async fn reply(&mut self) -> Reply {
        soon("an answer", async {
            let end = loop {
                if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                    break at + 4;
                }
                assert!(self.more().await, "closed without an answer: {:?}", self.buffer);
            };
            let head = self.buffer.split_to(end);
            let head = std::str::from_utf8(&head).expect("a readable head");
            let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
            let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
            let headers: HeaderMap = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| {
                    let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
                    (name, HeaderValue::from_str(value.trim()).expect("a value"))
                })
                .collect();
            let status = status.expect("a status");
            let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
            let body = if status < 200 {
                Bytes::new()
            } else {
                let length: usize = length.unwrap_or(0);
                while self.buffer.len() < length {
                    assert!(self.more().await, "the answer broke off");
                }
                self.buffer.split_to(length).freeze()
            };
            Reply { status, headers, body }
        })
        .await
    }

    /// Waits for the first byte of anything.
    pub async fn first_byte(&mut self) {
        while self.buffer.is_empty() {
            assert!(soon("a byte", self.more()).await, "closed without a byte");
        }
    }

    /// Waits until the gateway has closed the connection; gives what came before.
    pub async fn closed(mut self) -> Bytes {
        while soon("the end of the connection", self.more()).await {}
        self.buffer.freeze()
    }

    /// What came until the connection was closed or an answer's head was complete.
    pub async fn closed_or_answered(mut self) -> Bytes {
        while find(&self.buffer, b"\r\n\r\n").is_none() && soon("an end", self.more()).await {}
        self.buffer.freeze()
    }

    /// Hangs up with a reset.
    pub fn reset(self) {
        self.socket.set_zero_linger().expect("a socket");
    }

    async fn more(&mut self) -> bool {
        !matches!(self.socket.read_buf(&mut self.buffer).await, Ok(0) | Err(_))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
