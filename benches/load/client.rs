//! The loader: so many connections, each asking again as soon as it was answered. Every answer is compared with what
//! the provider sent, byte by byte.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::task::TaskTracker;

use super::{
    histogram::Histogram,
    payload::{self, Kind},
    wire::{self, Framing, Piece},
};

/// How long one answer may take before the run counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Answers after which a connection stops, whatever the clock says.
const MOST_ANSWERS: u64 = 2_000_000;

/// What is asked, of whom, with which credential.
#[derive(Clone)]
pub struct Aim {
    /// Where to connect.
    pub address: SocketAddr,
    /// Put before the model's name.
    pub prefix: &'static str,
    /// Sent as bearer token.
    pub key: String,
}

/// What a run came to.
#[derive(Default)]
pub struct Tally {
    /// Answers that ended while it counted.
    pub answers: u64,
    /// Events of streams that came while it counted.
    pub events: u64,
    /// Answers altogether, those before and after it counted included.
    pub all: u64,
    /// From the request to the end of its answer.
    pub latency: Histogram,
    /// From the request to the first bytes of its answer's body.
    pub first: Histogram,
    /// What went wrong first; the connection it happened on asked no more.
    pub failure: Option<String>,
}

struct Shared {
    request: Vec<u8>,
    expected: Vec<u8>,
    /// Where each event of a stream ends.
    ends: Vec<usize>,
    counts: AtomicBool,
    stops: AtomicBool,
    tally: Mutex<Tally>,
}

impl Shared {
    fn note(&self, write: impl FnOnce(&mut Tally)) {
        write(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn counts(&self) -> bool {
        self.counts.load(Ordering::Relaxed)
    }
}

/// A run under way.
pub struct Load {
    shared: Arc<Shared>,
    connections: TaskTracker,
}

impl Load {
    /// Starts asking; nothing counts yet.
    pub fn start(aim: &Aim, kind: Kind, connections: usize) -> Self {
        let body = payload::question(&format!("{}{}", aim.prefix, kind.model()), kind);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             accept: application/json\r\nauthorization: Bearer {}\r\nuser-agent: load\r\ncontent-length: {}\r\n\r\n{body}",
            aim.address,
            aim.key,
            body.len()
        );
        let events = if kind == Kind::Plain { Vec::new() } else { payload::events(kind, false) };
        let ends = events.iter().scan(0, |sum, event| {
            *sum += event.len();
            Some(*sum)
        });
        let shared = Arc::new(Shared {
            request: request.into_bytes(),
            ends: ends.collect(),
            expected: if kind == Kind::Plain { payload::answer() } else { events.concat() }.into_bytes(),
            counts: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            tally: Mutex::default(),
        });
        let tasks = TaskTracker::new();
        for _ in 0..connections {
            let (shared, address) = (Arc::clone(&shared), aim.address);
            tasks.spawn(async move {
                if let Err(failure) = ask_on(address, &shared).await {
                    shared.note(|tally| {
                        tally.failure.get_or_insert(failure);
                    });
                }
            });
        }
        tasks.close();
        Self { shared, connections: tasks }
    }

    /// Begins or ends counting.
    pub fn count(&self, counts: bool) {
        self.shared.counts.store(counts, Ordering::Relaxed);
    }

    /// Like [`Load::stop`], once there are so many answers or a failure.
    pub async fn stop_after(self, answers: u64) -> Tally {
        let enough = |tally: &Tally| tally.all >= answers || tally.failure.is_some();
        while !enough(&self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.stop().await
    }

    /// Lets every connection finish its last answer.
    pub async fn stop(self) -> Tally {
        self.shared.stops.store(true, Ordering::Relaxed);
        self.connections.wait().await;
        std::mem::take(&mut self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks on one connection until it is told to stop.
async fn ask_on(address: SocketAddr, shared: &Shared) -> Result<(), String> {
    let mut socket = TcpStream::connect(address).await.map_err(|error| format!("no connection: {error}"))?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(32 * 1024);
    for _ in 0..MOST_ANSWERS {
        if shared.stops.load(Ordering::Relaxed) {
            break;
        }
        bytes.clear();
        let began = Instant::now();
        let answered = async {
            socket.write_all(&shared.request).await.map_err(|error| format!("cannot ask: {error}"))?;
            read_answer(&mut socket, &mut bytes, shared, began).await
        };
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(done) => done?,
            Err(_) => return Err(format!("no answer within {PATIENCE:?}")),
        }
        let took = began.elapsed();
        let counts = shared.counts();
        shared.note(|tally| {
            tally.all += 1;
            if counts {
                tally.answers += 1;
                tally.latency.add(took);
            }
        });
    }
    Ok(())
}

/// Reads one answer and compares it with what is expected.
async fn read_answer(
    socket: &mut TcpStream,
    bytes: &mut Vec<u8>,
    shared: &Shared,
    began: Instant,
) -> Result<(), String> {
    let head = loop {
        more(socket, bytes).await?;
        if let Some(head) = wire::head(bytes) {
            break head;
        }
    };
    if head.status != 200 {
        return Err(format!("answered with {}: {}", head.status, String::from_utf8_lossy(bytes)));
    }
    let mut reading = Reading { shared, at: 0, event: 0, heard: false, began };
    let mut start = head.length;
    match head.framing {
        Framing::Length(length) => {
            if length != shared.expected.len() {
                return Err(format!("an answer of {length} bytes, not {}", shared.expected.len()));
            }
            while bytes.len() < start + length {
                more(socket, bytes).await?;
            }
            reading.take(&bytes[start..])
        }
        Framing::Chunked => loop {
            match wire::piece(&bytes[start..]) {
                Piece::Data { start: from, end, next } => {
                    reading.take(&bytes[start + from..start + end])?;
                    start += next;
                }
                Piece::End(_) => break reading.finish(),
                Piece::Incomplete => more(socket, bytes).await?,
                Piece::Broken => break Err("the answer is not chunked well".to_owned()),
            }
        },
    }
}

async fn more(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), String> {
    match socket.read_buf(bytes).await {
        Ok(0) => Err("the connection ended in the middle of an answer".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the connection broke: {error}")),
    }
}

/// How far an answer has been compared.
struct Reading<'a> {
    shared: &'a Shared,
    at: usize,
    event: usize,
    heard: bool,
    began: Instant,
}

impl Reading<'_> {
    fn take(&mut self, data: &[u8]) -> Result<(), String> {
        let end = self.at + data.len();
        if self.shared.expected.get(self.at..end) != Some(data) {
            let shown = String::from_utf8_lossy(&data[..data.len().min(200)]).into_owned();
            return Err(format!("another answer than the provider's, from byte {}: {shown}", self.at));
        }
        self.at = end;
        let before = self.event;
        while self.shared.ends.get(self.event).is_some_and(|event| *event <= end) {
            self.event += 1;
        }
        let (came, first) = ((self.event - before) as u64, !self.heard);
        self.heard = true;
        if self.shared.counts() && (came > 0 || first) {
            let took = self.began.elapsed();
            self.shared.note(|tally| {
                tally.events += came;
                if first {
                    tally.first.add(took);
                }
            });
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), String> {
        let expected = self.shared.expected.len();
        if self.at == expected { Ok(()) } else { Err(format!("{} bytes of {expected}", self.at)) }
    }
}
