//! Stopping in good order: first *drain* (accept nothing new, finish what runs), then, at the deadline or at a second
//! signal, *cut* (end what runs with an error, still settle it).
//!
//! A value of [`Shutdown`] is one thing that stops as a whole. The admin plane has its own, drained after the data
//! plane's, so that `/ready` can say that the data plane is draining.

use std::{future::Future, io, pin::Pin, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_stream::{Stream, StreamExt, wrappers::SignalStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::connection::CUT_GRACE;

/// How long tasks get to settle after connections were cut.
const SETTLE_GRACE: Duration = CUT_GRACE.saturating_mul(3);

/// The two tokens and the tasks that heed them. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything finished by itself.
    Finished,
    /// Some were cut at the deadline, and all ended after it.
    Cut,
    /// This many tasks did not even heed the cut.
    Abandoned(usize),
}

impl Shutdown {
    /// Nothing is stopping yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when nothing new may begin.
    pub fn drain_token(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when what runs must end now.
    pub fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }

    /// Tasks that a drain waits for: connections, and forwards that outlive their client.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Drains: nothing new begins, and what runs may finish until `deadline` is over or `hurry` is ready (a second
    /// signal); the rest is cut. Returns when no task is left, or when those left did not heed the cut.
    pub async fn drain(&self, deadline: Duration, hurry: impl Future<Output = ()>) -> Drained {
        self.drain.cancel();
        self.tasks.close();
        tokio::select! {
            biased;
            () = self.tasks.wait() => return Drained::Finished,
            () = hurry => {}
            () = tokio::time::sleep(deadline) => {}
        }
        self.cut.cancel();
        match tokio::time::timeout(SETTLE_GRACE, self.tasks.wait()).await {
            Ok(()) => Drained::Cut,
            Err(_) => Drained::Abandoned(self.tasks.len()),
        }
    }
}

/// SIGTERM and SIGINT. The first asks to drain, the second to cut.
pub struct StopSignals(Pin<Box<dyn Stream<Item = ()> + Send + Sync>>);

impl StopSignals {
    /// Takes both over from the system, whose own answer would be to end the process.
    pub fn install() -> io::Result<Self> {
        let terminate = SignalStream::new(signal(SignalKind::terminate())?);
        let interrupt = SignalStream::new(signal(SignalKind::interrupt())?);
        Ok(Self(Box::pin(terminate.merge(interrupt))))
    }

    /// The next of either. Safe to cancel: a signal that came in between is not lost.
    pub async fn next(&mut self) {
        // Signals do not end; were they to, there would be nothing to wait for.
        if self.0.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// SIGHUP: read the configuration again.
#[derive(Debug)]
pub struct ReloadSignals(Signal);

impl ReloadSignals {
    /// Takes it over from the system.
    pub fn install() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// The next one. Safe to cancel.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_its_tasks_and_then_cuts_them() {
        let idle = Shutdown::new();
        assert_eq!(idle.drain(Duration::from_secs(5), std::future::pending()).await, Drained::Finished);
        assert!(idle.is_draining() && !idle.cut_token().is_cancelled());

        let busy = Shutdown::new();
        let cut = busy.cut_token().clone();
        busy.tasks().spawn(async move { cut.cancelled().await });
        assert_eq!(busy.drain(Duration::from_millis(20), std::future::pending()).await, Drained::Cut);

        let hurried = Shutdown::new();
        let cut = hurried.cut_token().clone();
        hurried.tasks().spawn(async move { cut.cancelled().await });
        assert_eq!(hurried.drain(Duration::from_secs(3600), async {}).await, Drained::Cut);
    }
}
