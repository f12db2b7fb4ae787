//! Binds an address and accepts from it until it is told to stop.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

use super::{connection, shutdown::Shutdown};
use crate::config::Config;

/// The first pause after an error that is not the connection's own, such as no file descriptors left.
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
/// The longest such pause.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// What a listener grants its connections.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// For a request's head, from its first byte; for the first head, from the connection.
    pub header_timeout: Duration,
    /// For an idle connection between two requests.
    pub keep_alive_timeout: Duration,
    /// For a client that does not read.
    pub write_stall_timeout: Duration,
    /// Request line and headers together; hyper takes no less than 8192.
    pub max_head_bytes: usize,
    /// Headers of a request.
    pub max_headers: usize,
    /// Connections at the same time.
    pub max_connections: usize,
}

impl From<&Config> for ConnectionSettings {
    fn from(config: &Config) -> Self {
        Self {
            header_timeout: config.server.header_timeout,
            keep_alive_timeout: config.server.keep_alive_timeout,
            write_stall_timeout: config.server.write_stall_timeout,
            max_head_bytes: config.limits.max_head_bytes,
            max_headers: config.limits.max_headers,
            max_connections: config.server.max_connections,
        }
    }
}

/// What a listener counts, for metrics.
#[derive(Debug, Default)]
pub struct ConnectionStats {
    open: AtomicUsize,
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    saturated: AtomicU64,
}

impl ConnectionStats {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Errors of `accept` so far, such as no file descriptors left.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// How often accepting paused because `max_connections` were open.
    pub fn saturated(&self) -> u64 {
        self.saturated.load(Ordering::Relaxed)
    }
}

/// A listener at work.
#[derive(Debug)]
pub struct Listening {
    /// The address it is bound to, with the real port when 0 was asked for.
    pub address: SocketAddr,
    /// Its counters.
    pub stats: Arc<ConnectionStats>,
    /// Ends when accepting has stopped; connections are waited for by [`Shutdown::drain`].
    pub accepting: JoinHandle<()>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`; choose another address or stop what uses it")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Listens on `address` and serves each connection with the service that `factory` makes for its peer. Accepting stops
/// when `shutdown` drains; tasks run on its tracker.
pub async fn listen<F, S, B>(
    address: SocketAddr,
    settings: ConnectionSettings,
    factory: F,
    shutdown: &Shutdown,
) -> Result<Listening, ListenError>
where
    F: Fn(SocketAddr) -> S + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let failed = |source| ListenError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let stats = Arc::new(ConnectionStats::default());
    let acceptor = Acceptor {
        listener,
        slots: Arc::new(Semaphore::new(settings.max_connections)),
        builder: connection::builder(&settings),
        settings: Arc::new(settings),
        stats: Arc::clone(&stats),
        shutdown: shutdown.clone(),
    };
    let accepting = shutdown.tasks().spawn(acceptor.run(factory));
    Ok(Listening { address, stats, accepting })
}

struct Acceptor {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    builder: http1::Builder,
    settings: Arc<ConnectionSettings>,
    stats: Arc<ConnectionStats>,
    shutdown: Shutdown,
}

impl Acceptor {
    async fn run<F, S, B>(self, factory: F)
    where
        F: Fn(SocketAddr) -> S + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        while let Some((slot, socket, peer)) = self.until_drained(self.next()).await.flatten() {
            // Small events must leave at once; a socket that refuses is closing anyway.
            socket.set_nodelay(true).ok();
            let (builder, service) = (self.builder.clone(), factory(peer));
            let (settings, shutdown) = (Arc::clone(&self.settings), self.shutdown.clone());
            let guard = OpenConnection::new(&self.stats, slot);
            self.shutdown.tasks().spawn(async move {
                let _guard = guard;
                if let Err(error) = connection::serve(socket, builder, &settings, service, &shutdown).await {
                    tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended early");
                }
            });
        }
    }

    async fn until_drained<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shutdown.drain_token().cancelled() => None,
            done = work => Some(done),
        }
    }

    /// The next connection, once there is room for it.
    async fn next(&self) -> Option<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
        if self.slots.available_permits() == 0 {
            // Said once: at the limit it would be said for every connection. The counter goes on.
            if self.stats.saturated.fetch_add(1, Ordering::Relaxed) == 0 {
                let max_connections = self.settings.max_connections;
                tracing::warn!(max_connections, "all connections are in use; new ones wait");
            }
        }
        // Nobody closes the semaphore, so this always gets its slot in the end.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let mut back_off = FIRST_BACK_OFF;
        loop {
            match self.listener.accept().await {
                Ok((socket, peer)) => return Some((slot, socket, peer)),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    self.stats.accept_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                }
            }
        }
    }
}

/// Whether the error tells of the one connection, which was gone before it was taken, and not of the listener.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Counts a connection and holds its slot.
struct OpenConnection {
    stats: Arc<ConnectionStats>,
    _slot: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(stats: &Arc<ConnectionStats>, slot: OwnedSemaphorePermit) -> Self {
        stats.accepted.fetch_add(1, Ordering::Relaxed);
        stats.open.fetch_add(1, Ordering::Relaxed);
        Self { stats: Arc::clone(stats), _slot: slot }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}
