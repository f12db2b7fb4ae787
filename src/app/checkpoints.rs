//! Hands signed checkpoints of the audit chain to the operator's sink: one at the start, then after a thousand entries or
//! five minutes when something is new, and one at shutdown.
//!
//! A sink that fails holds up no act and loses nothing: it is logged and counted, and tried again with growing pauses, and
//! a later checkpoint says all that an earlier one would have said.

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use reqwest::{Client, Url};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    config::CheckpointSink,
    control::{Checkpoint, Control, ControlError},
    telemetry::Metrics,
    upstream::build_operator_client,
};

/// Entries after which there is another checkpoint.
const ENTRIES: i64 = 1_000;
/// Time after which there is another one, if anything is new.
const EVERY: Duration = Duration::from_secs(300);
/// Between two looks at the chain's end.
const LOOK: Duration = Duration::from_secs(5);
/// After a first failure; doubled with each one up to [`EVERY`].
const PAUSE: Duration = Duration::from_secs(5);
/// How long a sink may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where they go.
enum Sink {
    File(PathBuf),
    Url(Client, Url),
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the audit log cannot be read")]
    Log(#[from] ControlError),
    #[error("the file cannot be written: {0}")]
    File(#[from] std::io::Error),
    // The URL may carry a password; reqwest's errors repeat it.
    #[error("the sink did not take it: {}", match .0 { Some(status) => status.as_u16().to_string(), None => "no answer".into() })]
    Url(Option<reqwest::StatusCode>),
}

/// What was handed over.
struct Past {
    seq: i64,
    at: Option<Instant>,
    failed: Option<(Instant, Duration)>,
}

impl Past {
    /// Whether it is time for another one.
    fn is_due(&self, head: i64, now: Instant) -> bool {
        if head == self.seq || self.failed.is_some_and(|(at, pause)| now < at + pause) {
            return false;
        }
        self.at.is_none_or(|at| head - self.seq >= ENTRIES || now >= at + EVERY)
    }

    fn failed(&mut self, now: Instant) {
        let pause = self.failed.map_or(PAUSE, |(_, pause)| (pause * 2).min(EVERY));
        self.failed = Some((now, pause));
    }
}

/// Hands checkpoints over.
pub(super) struct Checkpoints {
    control: Control,
    metrics: Arc<Metrics>,
    sink: Sink,
    past: Mutex<Past>,
}

impl Checkpoints {
    /// To `sink`.
    ///
    /// # Errors
    /// When the TLS stack cannot be set up.
    pub(super) fn new(
        control: Control,
        metrics: Arc<Metrics>,
        sink: &CheckpointSink,
    ) -> Result<Option<Self>, reqwest::Error> {
        let sink = match sink {
            CheckpointSink::File(path) => Sink::File(path.clone()),
            CheckpointSink::Url(url) => match Url::parse(&url.0) {
                Ok(url) => Sink::Url(build_operator_client(TIMEOUT)?, url),
                // The settings were checked when they were read.
                Err(_) => return Ok(None),
            },
        };
        let past = Mutex::new(Past { seq: 0, at: None, failed: None });
        Ok(Some(Self { control, metrics, sink, past }))
    }

    /// Looks now and then until told to stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let looks = async {
            loop {
                self.look(|past, head| past.is_due(head, Instant::now())).await;
                tokio::time::sleep(LOOK).await;
            }
        };
        stop.run_until_cancelled(looks).await;
    }

    /// The last one, when nothing more will be written by this process.
    pub(super) async fn last(&self) {
        self.look(|past, head| head != past.seq).await;
    }

    async fn look(&self, is_due: impl FnOnce(&Past, i64) -> bool) {
        let mut past = self.past.lock().await;
        let outcome = async {
            let head = self.control.audit_head_seq().await?;
            if !is_due(&past, head) {
                return Ok(None);
            }
            let checkpoint = self.control.audit_checkpoint().await?;
            self.hand_over(&checkpoint).await?;
            Ok::<_, Failed>(Some(checkpoint.seq))
        };
        match outcome.await {
            Ok(None) => {}
            Ok(Some(seq)) => {
                self.metrics.audit_checkpoints.inc();
                *past = Past { seq, at: Some(Instant::now()), failed: None };
                tracing::debug!(seq, "audit.checkpoint");
            }
            Err(error) => {
                self.metrics.audit_checkpoint_failures.inc();
                past.failed(Instant::now());
                tracing::warn!(reason = %error, "audit.checkpoint_failed");
            }
        }
    }

    async fn hand_over(&self, checkpoint: &Checkpoint) -> Result<(), Failed> {
        let text = serde_json::to_string(checkpoint).map_err(std::io::Error::from)?;
        match &self.sink {
            Sink::File(path) => {
                let path = path.clone();
                let appended = tokio::task::spawn_blocking(move || append(&path, &text));
                Ok(appended.await.map_err(std::io::Error::other)??)
            }
            Sink::Url(client, url) => {
                let post = client.post(url.clone()).header("content-type", "application/json").body(text);
                let answer = post.send().await.map_err(|_| Failed::Url(None))?;
                match answer.status() {
                    status if status.is_success() => Ok(()),
                    status => Err(Failed::Url(Some(status))),
                }
            }
        }
    }
}

/// One more line, on the disk when this returns. A line that was torn off by a crash is ended first.
fn append(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let start = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{start}{text}\n").as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_due_at_the_start_then_by_number_or_time_and_only_when_something_is_new() {
        let now = Instant::now();
        let first = Past { seq: 0, at: None, failed: None };
        assert!(!first.is_due(0, now), "an empty chain has nothing to say");
        assert!(first.is_due(7, now));
        let past = Past { seq: 7, at: Some(now), failed: None };
        assert!(!past.is_due(7, now + 2 * EVERY), "nothing is new");
        assert!(!past.is_due(8, now + EVERY / 2));
        assert!(past.is_due(8, now + EVERY));
        assert!(past.is_due(7 + ENTRIES, now));
        assert!(past.is_due(3, now + EVERY), "a database that went back is told of as well");
    }

    #[test]
    fn after_failures_the_pauses_grow() {
        let now = Instant::now();
        let mut past = Past { seq: 0, at: None, failed: None };
        past.failed(now);
        assert!(!past.is_due(1, now) && past.is_due(1, now + PAUSE));
        past.failed(now);
        assert!(!past.is_due(1, now + PAUSE) && past.is_due(1, now + 2 * PAUSE));
        (0..20).for_each(|_| past.failed(now));
        assert!(past.is_due(1, now + EVERY));
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("checkpoints");
        append(&path, "one").expect("written");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"to"))
            .expect("torn");
        append(&path, "three").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "one\nto\nthree\n");
    }
}
