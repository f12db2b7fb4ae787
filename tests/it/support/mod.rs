//! A real gateway, scripted providers, and clients polite and rude. Nothing here sleeps and hopes: everything waits for
//! a condition, and gives up loudly after [`PATIENCE`].

pub mod client;
pub mod database;
pub mod gateway;
pub mod process;
pub mod raw;
pub mod script;
pub mod upstream;

use std::{fs, future::Future, path::Path, time::Duration};

pub use client::{Reply, Stream};
pub use gateway::{Gateway, Setup, VirtualKey};
pub use raw::RawClient;
pub use script::{
    Answer, Gate, chat_body, chat_events, chat_ok, chat_stream, done, error, event, raw, usage, usage_chunk,
};
pub use upstream::Upstream;

/// How long a condition may take to come true before the test has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What `future` gives, or a failed test.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

/// Asks `look` again and again until it gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    soon(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Copies a directory and everything in it, also while somebody writes there.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let name = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &name);
        } else {
            fs::copy(&entry, name).expect("copied");
        }
    }
}
