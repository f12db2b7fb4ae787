//! One connection: hyper over the patient socket, and the wrapper by which the socket learns when a request begins and
//! when its answer is over.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::net::TcpStream;

use super::{
    io::{InRequest, Patient, Progress},
    listen::ConnectionSettings,
    shutdown::Shutdown,
};

/// How long answers that were cut may still write their last words.
pub(super) const CUT_GRACE: Duration = Duration::from_secs(2);

/// hyper's settings for every connection. Without a timer hyper would have no timeouts at all, and would not say so.
pub(super) fn builder(settings: &ConnectionSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.keep_alive_timeout.max(settings.header_timeout))
        .max_headers(settings.max_headers)
        .max_header_size(settings.max_head_bytes)
        .max_buf_size(settings.max_head_bytes.max(8192))
        .keep_alive(true)
        // A client that closed its sending side is gone: LLM calls are too dear to be answered into the void.
        .half_close(false)
        .pipeline_flush(false);
    builder
}

/// Serves one connection to its end.
pub(super) async fn serve<S, B>(
    socket: TcpStream,
    builder: http1::Builder,
    settings: &ConnectionSettings,
    service: S,
    shutdown: &Shutdown,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let progress = Arc::new(Progress::default());
    let socket =
        Patient::new(socket, Arc::clone(&progress), settings.header_timeout, settings.write_stall_timeout);
    let connection = builder.serve_connection(TokioIo::new(socket), Guarded { service, progress });
    tokio::pin!(connection);

    tokio::select! {
        end = connection.as_mut() => return end,
        () = shutdown.drain_token().cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        end = connection.as_mut() => return end,
        () = shutdown.cut_token().cancelled() => {}
    }
    // Answers see the same token and end in their own way; what is left after the grace is dropped.
    tokio::time::timeout(CUT_GRACE, connection).await.unwrap_or(Ok(()))
}

struct Guarded<S> {
    service: S,
    progress: Arc<Progress>,
}

impl<S, B> Service<Request<Incoming>> for Guarded<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<GuardedBody<B>>;
    type Error = S::Error;
    type Future = GuardedFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = self.progress.begin();
        GuardedFuture { future: self.service.call(request), guard: Some(guard) }
    }
}

pin_project! {
    /// A call that hands its guard on to the answer's body.
    pub(super) struct GuardedFuture<F> {
        #[pin]
        future: F,
        guard: Option<InRequest>,
    }
}

impl<F, B, E> Future for GuardedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GuardedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let guard = this.guard.take();
        Poll::Ready(Ok(response.map(|body| GuardedBody { body, _guard: guard })))
    }
}

pin_project! {
    /// An answer's body; while it lives, the connection is not waiting for a head.
    pub(super) struct GuardedBody<B> {
        #[pin]
        body: B,
        _guard: Option<InRequest>,
    }
}

impl<B: Body> Body for GuardedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
