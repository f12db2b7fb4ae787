//! The baselines: a bare pass-through on the gateway's own HTTP stack, and nginx where there is one.

use std::{convert::Infallible, fs, io, net::SocketAddr, path::Path};

use http::{Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use reqwest::{Client, Url};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

type Body = Either<reqwest::Body, Full<bytes::Bytes>>;

/// Passes everything on to `upstream` and back: no key, no policy, no metering, nothing read.
#[expect(
    clippy::disallowed_methods,
    reason = "the baseline has a client of its own, built like the gateway's"
)]
pub async fn serve(listener: TcpListener, upstream: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder()
        .http1_only()
        .no_proxy()
        .referer(false)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .pool_max_idle_per_host(512)
        .build()?;
    let connections = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let client = client.clone();
        connections.spawn(async move {
            let pass = service_fn(move |request| pass(client.clone(), upstream, request));
            // A connection that breaks is its client's affair; the loader finds out by itself.
            http1::Builder::new()
                .pipeline_flush(false)
                .serve_connection(TokioIo::new(socket), pass)
                .await
                .ok()
        });
    }
}

async fn pass(
    client: Client,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let answer = async {
        let (mut head, body) = request.into_parts();
        let url = Url::parse(&format!("http://{upstream}{}", head.uri.path())).ok()?;
        let mut outgoing = reqwest::Request::new(head.method, url);
        head.headers.remove(header::HOST);
        *outgoing.headers_mut() = head.headers;
        *outgoing.body_mut() = Some(reqwest::Body::wrap(body));
        Some(Response::from(client.execute(outgoing).await.ok()?))
    };
    Ok(match answer.await {
        Some(answer) => answer.map(Either::Left),
        None => {
            let mut refused = Response::new(Either::Right(Full::default()));
            *refused.status_mut() = StatusCode::BAD_GATEWAY;
            refused
        }
    })
}

/// Writes nginx's configuration for a plain proxy from `listen` to `upstream`, everything it writes kept in `directory`.
pub fn write_nginx_conf(directory: &Path, listen: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let kept = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {name};"))
        .join(" ");
    let conf = format!(
        "daemon off; worker_processes 2; pid nginx.pid; error_log stderr;\n\
         events {{ worker_connections 2048; }}\n\
         http {{ access_log off; {kept}\n\
         keepalive_requests 100000000;\n\
         upstream mock {{ server {upstream}; keepalive 512; keepalive_requests 100000000; }}\n\
         server {{ listen {listen}; tcp_nodelay on;\n\
         location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_buffering off; }} }} }}\n"
    );
    fs::write(directory.join("nginx.conf"), conf)
}
