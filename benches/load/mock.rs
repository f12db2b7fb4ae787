//! The provider: answers as cheaply as it can from bytes made beforehand. It runs in a process of its own, so that its
//! processor time is nobody else's.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

use super::{
    payload::{self, Kind},
    wire::{self, Framing},
};

/// Between two events of a paced stream: long enough that each arrives alone, as a model's tokens do.
const PACE: Duration = Duration::from_millis(4);
/// What a request may be long.
const MOST_BYTES: usize = 1 << 20;

struct Answers {
    plain: Vec<u8>,
    /// Without and with usage.
    burst: [Vec<u8>; 2],
    stream_head: Vec<u8>,
    paced: [Vec<Vec<u8>>; 2],
}

impl Answers {
    fn new() -> Self {
        let body = payload::answer();
        let plain = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let stream_head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunks = |kind, usage| {
            let mut chunks: Vec<String> =
                payload::events(kind, usage).iter().map(|event| wire::chunk(event)).collect();
            chunks.push(wire::LAST_CHUNK.to_owned());
            chunks
        };
        let burst = |usage| format!("{stream_head}{}", chunks(Kind::Burst, usage).concat()).into_bytes();
        let paced = |usage| chunks(Kind::Paced, usage).into_iter().map(String::into_bytes).collect();
        Self {
            plain: plain.into_bytes(),
            burst: [burst(false), burst(true)],
            stream_head: stream_head.as_bytes().to_vec(),
            paced: [paced(false), paced(true)],
        }
    }
}

/// Answers whoever connects, for ever.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let answers = Arc::new(Answers::new());
    let connections = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let answers = Arc::clone(&answers);
        // A connection that breaks is its client's affair; the loader finds out by itself.
        connections.spawn(async move { connection(socket, &answers).await.ok() });
    }
}

async fn connection(mut socket: TcpStream, answers: &Answers) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        let Some(end) = request_end(&bytes) else {
            if bytes.len() > MOST_BYTES || socket.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let asked = asked(&bytes[..end]);
        let streams = !matches!(asked, None | Some(Kind::Plain));
        let usage = usize::from(streams && wire::find(&bytes[..end], b"\"include_usage\":true").is_some());
        bytes.drain(..end);
        match asked {
            Some(Kind::Plain) => socket.write_all(&answers.plain).await?,
            Some(Kind::Burst) => socket.write_all(&answers.burst[usage]).await?,
            Some(Kind::Paced) => {
                socket.write_all(&answers.stream_head).await?;
                for (place, chunk) in answers.paced[usage].iter().enumerate() {
                    // The end of the body follows `[DONE]` at once, as it does at providers.
                    if place > 0 && chunk != wire::LAST_CHUNK.as_bytes() {
                        tokio::time::sleep(PACE).await;
                    }
                    socket.write_all(chunk).await?;
                }
            }
            None => {
                let refusal = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
                socket.write_all(refusal.as_bytes()).await?;
            }
        }
    }
}

/// What kind of answer a request wants, by its model's name.
fn asked(request: &[u8]) -> Option<Kind> {
    const MEMBER: &[u8] = b"\"model\":\"";
    let name = &request[wire::find(request, MEMBER)? + MEMBER.len()..];
    Kind::ALL.into_iter().find(|kind| name.starts_with(kind.model().as_bytes()))
}

/// Where the first request in `bytes` ends, once it is whole.
fn request_end(bytes: &[u8]) -> Option<usize> {
    let head = wire::head(bytes)?;
    let mut end = head.length;
    match head.framing {
        Framing::Length(length) => end += length,
        Framing::Chunked => loop {
            match wire::piece(&bytes[end..]) {
                wire::Piece::Data { next, .. } => end += next,
                wire::Piece::End(length) => {
                    end += length;
                    break;
                }
                wire::Piece::Incomplete | wire::Piece::Broken => return None,
            }
        },
    }
    (bytes.len() >= end).then_some(end)
}
