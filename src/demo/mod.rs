//! The built-in provider: a small hyper service on loopback that speaks enough of OpenAI's API to try everything the
//! gateway does, without a key and without a network. It answers with texts about Keystile itself; of a prompt it uses
//! the length only, and keeps nothing. It has no backend, so it cannot be down.

mod answers;
mod chat;
mod embeddings;
mod service;
#[cfg(test)]
mod tests;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use crate::domain::Clock;
use service::Demo;

/// The model that chats and completes.
pub const CHAT_MODEL: &str = "keystile-chat";
/// The model that embeds.
pub const EMBEDDING_MODEL: &str = "keystile-embed";

/// A demo provider at work.
pub struct DemoProvider {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    /// The key it asks for, new at each start.
    pub api_key: Zeroizing<String>,
}

impl DemoProvider {
    /// What belongs into a provider key's `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl fmt::Debug for DemoProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoProvider").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts the provider on a free port of loopback. It runs on `tracker` until `shutdown` is cancelled, which drops what it
/// is still answering: stop it after the gateway has drained.
pub async fn start(
    tracker: &TaskTracker,
    shutdown: CancellationToken,
    clock: Clock,
) -> io::Result<DemoProvider> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let mut random = [0; 24];
    getrandom::fill(&mut random)?;
    let (key, run) = random.split_at(16);
    let api_key = Zeroizing::new(format!("demo-{}", hex(key)));
    let demo = Arc::new(Demo::new(api_key.clone(), hex(run), clock));
    tracker.spawn(accept(listener, demo, tracker.clone(), shutdown));
    Ok(DemoProvider { address, api_key })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn accept(listener: TcpListener, demo: Arc<Demo>, tracker: TaskTracker, shutdown: CancellationToken) {
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let Ok((socket, _)) = accepted else {
            // No file descriptors, most likely; the gateway beside it needs them as much.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        socket.set_nodelay(true).ok();
        let (demo, shutdown) = (Arc::clone(&demo), shutdown.clone());
        tracker.spawn(async move {
            let service = service_fn(move |request| Arc::clone(&demo).answer(request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(std::time::Duration::from_secs(120))
                .serve_connection(TokioIo::new(socket), service);
            // A caller that leaves in the middle is nobody's error.
            shutdown.run_until_cancelled(connection).await.map(Result::ok);
        });
    }
}
