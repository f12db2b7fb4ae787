//! The provider, and the one witness that is never killed: it writes down every request that arrived in full, and has
//! that on the disk before it answers a byte.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_util::task::TaskTracker;

use super::{
    plan::Plan,
    wire::{self, Framing, Piece},
};

/// One request that is to be written down, and whom to tell when it is.
type Line = (u64, oneshot::Sender<()>);

/// The provider.
pub struct Oracle {
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
    halves: Arc<AtomicU64>,
}

impl Oracle {
    /// Listens on a free port; its log is `log`.
    pub async fn start(seed: u64, log: PathBuf, tasks: &TaskTracker) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let file = File::create(&log)?;
        let (lines, wanted) = mpsc::channel();
        thread::spawn(move || write_down(file, &wanted));
        let halves = Arc::new(AtomicU64::new(0));
        let (own, counted) = (tasks.clone(), Arc::clone(&halves));
        tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (lines, counted) = (lines.clone(), Arc::clone(&counted));
                // A connection that breaks is that gateway's end; the next one comes on another.
                own.spawn(async move { connection(socket, seed, &lines, &counted).await.ok() });
            }
        });
        Ok(Self { address, log, halves })
    }

    /// How often each request is in the log, as it stands on the disk.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> io::Result<BTreeMap<u64, u64>> {
        read(&self.log)
    }

    /// Requests of which only a part arrived.
    pub fn halves(&self) -> u64 {
        self.halves.load(Ordering::Relaxed)
    }
}

fn read(log: &Path) -> io::Result<BTreeMap<u64, u64>> {
    let mut requests = BTreeMap::new();
    for line in std::fs::read_to_string(log)?.lines() {
        let n = line.parse().map_err(|_| io::Error::other(format!("the log has a line `{line}`")))?;
        *requests.entry(n).or_default() += 1;
    }
    Ok(requests)
}

/// Writes what is wanted, as much as there is at a time, and tells of it only when the disk has it.
fn write_down(mut file: File, wanted: &mpsc::Receiver<Line>) {
    while let Ok(first) = wanted.recv() {
        let lines: Vec<Line> = std::iter::once(first).chain(wanted.try_iter()).collect();
        let text: String = lines.iter().map(|(n, _)| format!("{n}\n")).collect();
        if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_data()) {
            // Whoever waits finds nobody there and does not answer: nothing is claimed that is not on the disk.
            eprintln!("the provider's log cannot be written: {error}");
            return;
        }
        for (_, told) in lines {
            told.send(()).ok();
        }
    }
}

async fn connection(
    mut socket: TcpStream,
    seed: u64,
    lines: &mpsc::Sender<Line>,
    halves: &AtomicU64,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(4096);
    loop {
        let Some((start, end)) = request_in(&bytes) else {
            if !matches!(socket.read_buf(&mut bytes).await, Ok(1..)) {
                halves.fetch_add(u64::from(!bytes.is_empty()), Ordering::Relaxed);
                return Ok(());
            }
            continue;
        };
        let number = Plan::number_in(&bytes[start..end]);
        bytes.drain(..end);
        let Some(n) = number else {
            socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await?;
            continue;
        };
        let (told, written) = oneshot::channel();
        lines.send((n, told)).map_err(io::Error::other)?;
        written.await.map_err(io::Error::other)?;
        answer(&mut socket, &Plan::of(seed, n)).await?;
    }
}

async fn answer(socket: &mut TcpStream, plan: &Plan) -> io::Result<()> {
    if !plan.stream {
        // What is slow is the model, whichever way it answers.
        tokio::time::sleep(plan.pause * plan.words as u32).await;
        let body = plan.answer();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        return socket.write_all(head.as_bytes()).await;
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await?;
    for event in plan.events() {
        if !plan.pause.is_zero() {
            tokio::time::sleep(plan.pause).await;
        }
        socket.write_all(wire::chunk(&event).as_bytes()).await?;
    }
    socket.write_all(wire::LAST_CHUNK.as_bytes()).await
}

/// Where the body of the first request in `bytes` begins and the request ends, once it is whole.
fn request_in(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = wire::head(bytes)?;
    let mut end = head.length;
    match head.framing {
        Framing::Length(length) => end += length,
        Framing::Chunked => loop {
            match wire::piece(&bytes[end..]) {
                Piece::Data { next, .. } => end += next,
                Piece::End(length) => {
                    end += length;
                    break;
                }
                Piece::Incomplete | Piece::Broken => return None,
            }
        },
    }
    (bytes.len() >= end).then_some((head.length, end))
}
