//! Real sockets, and clients that misbehave.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{Instant, timeout},
};

use super::{ConnectionSettings, Drained, Listening, Shutdown, connection, listen};

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";

fn settings() -> ConnectionSettings {
    ConnectionSettings {
        header_timeout: LONG,
        keep_alive_timeout: LONG,
        write_stall_timeout: LONG,
        max_head_bytes: 8192,
        max_headers: 16,
        max_connections: 100,
    }
}

struct Server {
    listening: Listening,
    shutdown: Shutdown,
    /// Lets `/slow` answer.
    go: Arc<Notify>,
    /// Tells that `/slow` was called.
    called: Arc<Notify>,
}

/// `/hello` answers at once, `/slow` when it is told to, `/endless` for ever.
async fn serve(settings: ConnectionSettings) -> Server {
    let (shutdown, go, called) = (Shutdown::new(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let factory = {
        let (go, called) = (Arc::clone(&go), Arc::clone(&called));
        move |_peer: SocketAddr| {
            let (go, called) = (Arc::clone(&go), Arc::clone(&called));
            service_fn(move |request| answer(request, Arc::clone(&go), Arc::clone(&called)))
        }
    };
    let listening = listen("127.0.0.1:0".parse().unwrap(), settings, factory, &shutdown).await.unwrap();
    Server { listening, shutdown, go, called }
}

async fn answer(
    request: Request<Incoming>,
    go: Arc<Notify>,
    called: Arc<Notify>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let body = match request.uri().path() {
        "/slow" => {
            called.notify_one();
            go.notified().await;
            Full::new(Bytes::from("finished")).boxed()
        }
        "/endless" => {
            let frames = futures_util::stream::repeat_with(|| {
                Ok(http_body::Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))
            });
            BodyExt::boxed(StreamBody::new(frames))
        }
        _ => Full::new(Bytes::from("hello")).boxed(),
    };
    Ok(Response::new(body))
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listening.address).await.unwrap()
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        timeout(LONG, async {
            while !condition(self) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
}

/// Reads one answer of known length.
async fn read_answer(client: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&seen).ends_with(end) {
        let n = timeout(LONG, client.read(&mut buffer)).await.unwrap().unwrap();
        assert!(n > 0, "the connection closed early: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(seen).unwrap()
}

/// Waits for the server to close; returns how long it took and what it said before.
async fn closed(client: &mut TcpStream) -> (Duration, String) {
    let start = Instant::now();
    let mut said = Vec::new();
    // A reset is a close, too.
    timeout(LONG, client.read_to_end(&mut said)).await.expect("the server did not close").ok();
    (start.elapsed(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn a_head_that_dribbles_in_is_cut() {
    let server = serve(ConnectionSettings { header_timeout: SHORT, ..settings() }).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /hello HTTP/1.1\r\nx: ").await.unwrap();
    let (mut read, mut write) = client.split();
    let start = Instant::now();
    let dribble = async {
        while write.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = dribble => {}
        _ = timeout(LONG, read.read_to_end(&mut rest)) => {}
    }
    assert!(start.elapsed() >= SHORT / 2 && start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    server.until(|server| server.listening.stats.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut() {
    let server = serve(ConnectionSettings { header_timeout: SHORT, ..settings() }).await;
    let (took, said) = closed(&mut server.connect().await).await;
    assert!(took >= SHORT / 2 && said.is_empty(), "{took:?} {said}");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_head_timeout_and_ends_with_its_own() {
    let keep_alive_timeout = SHORT * 4;
    let server = serve(ConnectionSettings { header_timeout: SHORT, keep_alive_timeout, ..settings() }).await;
    let mut client = server.connect().await;
    client.write_all(HELLO).await.unwrap();
    read_answer(&mut client, "hello").await;
    tokio::time::sleep(SHORT * 2).await;
    client.write_all(HELLO).await.unwrap();
    read_answer(&mut client, "hello").await;
    let (took, said) = closed(&mut client).await;
    assert!(took >= SHORT * 2 && said.is_empty(), "{took:?} {said}");
}

#[tokio::test]
async fn the_second_head_has_its_own_deadline() {
    let server = serve(ConnectionSettings { header_timeout: SHORT, ..settings() }).await;
    let mut client = server.connect().await;
    client.write_all(HELLO).await.unwrap();
    read_answer(&mut client, "hello").await;
    client.write_all(b"GET /hel").await.unwrap();
    let (took, _) = closed(&mut client).await;
    assert!(took < LONG / 2, "{took:?}");
}

#[tokio::test]
async fn a_slow_answer_is_not_a_slow_head() {
    let server = serve(ConnectionSettings {
        header_timeout: SHORT,
        keep_alive_timeout: SHORT,
        write_stall_timeout: SHORT,
        ..settings()
    })
    .await;
    let mut client = server.connect().await;
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.called.notified().await;
    tokio::time::sleep(SHORT * 3).await;
    server.go.notify_one();
    read_answer(&mut client, "finished").await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut() {
    let server = serve(ConnectionSettings { write_stall_timeout: SHORT, ..settings() }).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.until(|server| server.listening.stats.open() == 1).await;
    server.until(|server| server.listening.stats.open() == 0).await;
    drop(client);
}

#[tokio::test]
async fn a_client_that_reads_is_not_cut() {
    let server = serve(ConnectionSettings { write_stall_timeout: SHORT, ..settings() }).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (start, mut buffer) = (Instant::now(), vec![0; 64 * 1024]);
    while start.elapsed() < SHORT * 3 {
        assert!(timeout(LONG, client.read(&mut buffer)).await.unwrap().unwrap() > 0);
    }
}

#[tokio::test]
async fn a_drain_lets_a_running_answer_finish_and_closes_idle_connections() {
    let server = serve(settings()).await;
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    idle.write_all(HELLO).await.unwrap();
    read_answer(&mut idle, "hello").await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.called.notified().await;

    let drain = server.shutdown.drain(LONG, std::future::pending());
    let watch = async {
        closed(&mut idle).await;
        server.until(|server| server.listening.accepting.is_finished()).await;
        assert!(TcpStream::connect(server.listening.address).await.is_err(), "it still accepts");
        server.go.notify_one();
        let (_, said) = closed(&mut busy).await;
        assert!(said.ends_with("finished"), "{said}");
    };
    let (drained, ()) = tokio::join!(drain, watch);
    assert_eq!(drained, Drained::Finished);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_at_the_deadline() {
    let server = serve(settings()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.called.notified().await;
    let drained = server.shutdown.drain(Duration::from_millis(10), std::future::pending()).await;
    assert_eq!(drained, Drained::Cut);
    assert_eq!(server.listening.stats.open(), 0);
}

#[tokio::test]
async fn beyond_the_cap_a_connection_waits_for_a_place() {
    let server = serve(ConnectionSettings { max_connections: 1, ..settings() }).await;
    let mut first = server.connect().await;
    first.write_all(HELLO).await.unwrap();
    read_answer(&mut first, "hello").await;
    let mut second = server.connect().await;
    second.write_all(HELLO).await.unwrap();
    assert!(timeout(SHORT, second.read_u8()).await.is_err(), "it was served beyond the cap");
    assert_eq!((server.listening.stats.open(), server.listening.stats.saturated()), (1, 1));
    drop(first);
    read_answer(&mut second, "hello").await;
    assert_eq!(server.listening.stats.accepted(), 2);
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    let server = serve(settings()).await;
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(17));
    for head in [long, many] {
        let mut client = server.connect().await;
        client.write_all(head.as_bytes()).await.unwrap();
        let (_, said) = closed(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    }
}

#[tokio::test]
async fn hypers_own_timer_is_armed() {
    // hyper panics when a timeout is configured and no timer is: that none does proves the timer is there.
    let _ = connection::builder(&settings());
    let server =
        serve(ConnectionSettings { keep_alive_timeout: SHORT, header_timeout: SHORT, ..settings() }).await;
    let mut client = server.connect().await;
    client.write_all(HELLO).await.unwrap();
    read_answer(&mut client, "hello").await;
    // Nothing of a second head arrives, so only hyper's timer can end this connection.
    let (took, _) = closed(&mut client).await;
    assert!(took < LONG / 2, "{took:?}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = serve(settings()).await;
    let address = server.listening.address;
    let service = |_| service_fn(|request| answer(request, Arc::default(), Arc::default()));
    let error = listen(address, settings(), service, &Shutdown::new()).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("choose another address"), "{error}");
}
