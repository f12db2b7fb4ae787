//! An HTTP client that gives up nothing of what it saw: also of an answer that breaks off, what came is answered.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::wire::{self, Framing, Piece};

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should; the connection may be used again.
    Whole,
    /// The connection broke in the middle.
    Broken,
    /// This side had enough.
    Left,
}

/// What came of an answer.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// How it ended.
    pub end: End,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    head: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(each, _)| each.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// A connection.
pub struct Connection {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, bytes: Vec::with_capacity(4096) })
    }

    /// Asks, and reads at most `pieces` pieces of the answer.
    ///
    /// # Errors
    /// Nothing of an answer's head came.
    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        head: &str,
        body: &str,
        pieces: Option<u64>,
    ) -> io::Result<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{head}content-length: {}\r\n\r\n\
             {body}",
            self.socket.peer_addr()?,
            body.len()
        );
        self.socket.write_all(request.as_bytes()).await?;
        let head = loop {
            if let Some(head) = wire::head(&self.bytes) {
                break head;
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.bytes[..head.length]).into_owned();
        self.bytes.drain(..head.length);
        let mut answer = Answer { status: head.status, end: End::Broken, body: Vec::new(), head: text };
        answer.end = match head.framing {
            Framing::Length(length) => self.read_length(length, &mut answer.body).await,
            Framing::Chunked => self.read_chunks(pieces.unwrap_or(u64::MAX), &mut answer.body).await,
        };
        Ok(answer)
    }

    async fn read_length(&mut self, length: usize, body: &mut Vec<u8>) -> End {
        while self.bytes.len() < length {
            if self.more().await.is_err() {
                return End::Broken;
            }
        }
        body.extend(self.bytes.drain(..length));
        End::Whole
    }

    async fn read_chunks(&mut self, pieces: u64, body: &mut Vec<u8>) -> End {
        let mut seen = 0;
        loop {
            match wire::piece(&self.bytes) {
                Piece::Data { start, end, next } => {
                    body.extend_from_slice(&self.bytes[start..end]);
                    self.bytes.drain(..next);
                    seen += 1;
                    if seen >= pieces {
                        return End::Left;
                    }
                }
                Piece::End(length) => {
                    self.bytes.drain(..length);
                    return End::Whole;
                }
                Piece::Broken => return End::Broken,
                Piece::Incomplete => {
                    if self.more().await.is_err() {
                        return End::Broken;
                    }
                }
            }
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
