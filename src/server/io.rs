//! A socket that does not wait for ever: for a head that dribbles in, or for a client that stopped reading.
//!
//! hyper has one timer for reading a head, and it runs while a kept-alive connection is idle, too. So hyper's is set to the
//! keep-alive timeout, and the shorter one for the head itself is kept here: it starts with the connection and with the
//! first byte of each later request, and ends when the service is called. Timers are made when they are first
//! needed and reused; a connection that flows never touches one for writing.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// What the service tells the socket: how many requests have begun and how many are over.
#[derive(Default)]
pub(super) struct Progress {
    begun: AtomicU64,
    over: AtomicU64,
}

impl Progress {
    /// Counts a request until the guard falls.
    pub(super) fn begin(self: &Arc<Self>) -> InRequest {
        self.begun.fetch_add(1, Ordering::Relaxed);
        InRequest(Arc::clone(self))
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the next bytes belong to a new head. One task drives a connection, so nothing can race here.
    fn awaits_head(&self) -> bool {
        self.begun() == self.over.load(Ordering::Relaxed)
    }
}

/// A request that is being answered.
pub(super) struct InRequest(Arc<Progress>);

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.over.fetch_add(1, Ordering::Relaxed);
    }
}

/// A timer that is made lazily and reused.
struct Deadline {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Deadline {
    fn new(after: Duration) -> Self {
        Self { after, sleep: None, armed: false }
    }

    fn arm(&mut self) {
        if self.armed {
            return;
        }
        self.armed = true;
        let at = Instant::now() + self.after;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Pending until it has run out; also registers the wake-up.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) if self.armed => sleep.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

/// The socket of one connection.
pub(super) struct Patient {
    socket: TcpStream,
    progress: Arc<Progress>,
    head: Deadline,
    /// The number of requests that had begun when `head` was armed: once another has begun, that head is complete.
    head_of: u64,
    write: Deadline,
}

impl Patient {
    pub(super) fn new(
        socket: TcpStream,
        progress: Arc<Progress>,
        header_timeout: Duration,
        write_stall_timeout: Duration,
    ) -> Self {
        Self {
            socket,
            progress,
            head: Deadline::new(header_timeout),
            head_of: 0,
            write: Deadline::new(write_stall_timeout),
        }
    }

    fn arm_head(&mut self) {
        let begun = self.progress.begun();
        if self.head_of != begun {
            self.head.armed = false;
            self.head_of = begun;
        }
        self.head.arm();
    }

    /// Starts or stops the write timer by what a write came to.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write.armed = false;
            return written;
        }
        self.write.arm();
        match self.write.poll_expired(cx) {
            Poll::Ready(()) => Poll::Ready(Err(timed_out("the client stopped reading"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        if !this.progress.awaits_head() {
            return read;
        }
        match read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                this.arm_head();
                read
            }
            Poll::Ready(_) => read,
            Poll::Pending => {
                let begun = this.progress.begun();
                if begun == 0 {
                    this.arm_head();
                }
                if this.head_of != begun {
                    // Idle between two requests: hyper's own timer watches.
                    return Poll::Pending;
                }
                match this.head.poll_expired(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(timed_out("the request's head took too long"))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.watch_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP socket buffers nothing of its own, so this is always ready and says nothing about the client's
        // reading: it must not stop a timer that a write started.
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
