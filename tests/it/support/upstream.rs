//! A scripted provider on bare TCP: it can say what no HTTP library would, one write at a time, and knows when the
//! other side hung up.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    script::{Answer, Step, error},
    soon,
};

/// One request as it arrived.
#[derive(Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
    /// Which connection it came on.
    pub connection: usize,
    gone: CancellationToken,
}

impl Seen {
    /// The only value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "`{name}` came twice");
        value
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a UTF-8 body")
    }

    /// Waits until the gateway closed the connection of this request.
    pub async fn disconnected(&self) {
        soon("the gateway hangs up", self.gone.cancelled()).await;
    }

    pub fn is_disconnected(&self) -> bool {
        self.gone.is_cancelled()
    }
}

type Script = Box<dyn FnMut(&Seen, usize) -> Answer + Send>;

struct Inner {
    seen: Mutex<Vec<Seen>>,
    script: Mutex<Script>,
    count: watch::Sender<usize>,
    connections: watch::Sender<usize>,
}

/// A scripted provider. It goes with its last handle.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    _stop: Arc<DropGuard>,
}

impl Upstream {
    /// Answers every request in the same way.
    pub async fn always(answer: Answer) -> Self {
        Self::scripted(move |_, _| answer.clone()).await
    }

    /// Answers with each of `answers` in turn, and with 500 when there are no more.
    pub async fn queue(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        Self::scripted(move |_, _| answers.pop_front().unwrap_or_else(|| error(500, "not in the script")))
            .await
    }

    /// Answers with what `script` makes of a request and its number, which begins at 0.
    pub async fn scripted(script: impl FnMut(&Seen, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let inner = Arc::new(Inner {
            seen: Mutex::default(),
            script: Mutex::new(Box::new(script)),
            count: watch::Sender::new(0),
            connections: watch::Sender::new(0),
        });
        let stop = CancellationToken::new();
        let address = listener.local_addr().expect("an address");
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, Arc::clone(&inner), stop.clone(), tasks.clone()));
        Self { address, inner, _stop: Arc::new(stop.drop_guard()) }
    }

    /// Another script from the next request on.
    pub fn rescript(&self, script: impl FnMut(&Seen, usize) -> Answer + Send + 'static) {
        *self.inner.script.lock().expect("no panic") = Box::new(script);
    }

    /// The same answer from the next request on.
    pub fn answer(&self, answer: Answer) {
        self.rescript(move |_, _| answer.clone());
    }

    /// With `/v1`, as a provider key's `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        *self.inner.count.borrow()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        *self.inner.connections.borrow()
    }

    /// Everything that has arrived, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().expect("no panic").clone()
    }

    /// The only request that has arrived.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "requests");
        seen.into_iter().next().expect("one request")
    }

    /// The last request that has arrived.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    /// Waits until `count` requests have arrived, and gives the last of them.
    pub async fn arrived(&self, count: usize) -> Seen {
        let mut seen = self.inner.count.subscribe();
        soon("a request at the provider", seen.wait_for(|now| *now >= count)).await.expect("a provider");
        self.seen().swap_remove(count - 1)
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>, stop: CancellationToken, tasks: TaskTracker) {
    while let Some(Ok((socket, _))) = stop.run_until_cancelled(listener.accept()).await {
        let number = *inner.connections.borrow();
        inner.connections.send_modify(|count| *count += 1);
        let (inner, stop) = (Arc::clone(&inner), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(serve(socket, number, &inner)).await;
        });
    }
}

async fn serve(socket: TcpStream, number: usize, inner: &Inner) {
    socket.set_nodelay(true).expect("a socket");
    let (reader, mut writer) = socket.into_split();
    let mut reader = Reader { half: reader, buffer: Vec::new() };
    let gone = CancellationToken::new();
    // Whatever ends this connection, whoever waits for its end is told.
    let _told = gone.clone().drop_guard();
    while let Some(seen) = reader.request(number, &gone).await {
        let answer = {
            let mut all = inner.seen.lock().expect("no panic");
            let nth = all.len();
            all.push(seen.clone());
            (inner.script.lock().expect("no panic"))(&seen, nth)
        };
        inner.count.send_modify(|count| *count += 1);
        for step in answer.steps {
            let goes_on = match step {
                Step::Bytes(bytes) => writer.write_all(&bytes).await.is_ok(),
                Step::Wait(gate) => tokio::select! {
                    () = gate.pass() => true,
                    () = reader.end() => false,
                },
                Step::Stall => {
                    reader.end().await;
                    false
                }
                Step::Close => false,
                Step::Reset => {
                    reset(reader.half, writer);
                    return;
                }
            };
            if !goes_on {
                return;
            }
        }
    }
}

fn reset(reader: OwnedReadHalf, writer: OwnedWriteHalf) {
    let socket = reader.reunite(writer).expect("two halves of one socket");
    socket.set_zero_linger().expect("a socket");
}

struct Reader {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Reader {
    /// More bytes; `false` at the end.
    async fn more(&mut self) -> bool {
        !matches!(self.half.read_buf(&mut self.buffer).await, Ok(0) | Err(_))
    }

    /// Waits for the other side to hang up.
    async fn end(&mut self) {
        while self.more().await {}
    }

    async fn request(&mut self, connection: usize, gone: &CancellationToken) -> Option<Seen> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).expect("a readable head");
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let mut words = lines.next()?.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.parse().expect("a length"));
        assert!(
            !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding")),
            "the gateway knows how long its bodies are"
        );
        while self.buffer.len() < length {
            if !self.more().await {
                return None;
            }
        }
        let body = self.buffer.drain(..length).collect();
        Some(Seen { method, path, headers, body, at: Instant::now(), connection, gone: gone.clone() })
    }
}
