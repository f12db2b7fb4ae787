//! A call that runs to its end although its client has left: the provider bills it either way, and the client's connection
//! is what would otherwise drive it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio_util::task::TaskTracker;

/// A call that is driven by whoever awaits it, and by a task of its own once nobody does: most clients stay, and a task
/// for each call would cost a turn of the scheduler there and one back.
pub(super) struct Outliving<T>
where
    T: Send + 'static,
{
    /// `None` when it has ended, or has panicked and must not be touched again.
    call: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    tasks: TaskTracker,
}

impl<T> Outliving<T>
where
    T: Send + 'static,
{
    /// `call`, with `tasks` to run it on.
    pub(super) fn new(tasks: &TaskTracker, call: impl Future<Output = T> + Send + 'static) -> Self {
        Self { call: Some(Box::pin(call)), tasks: tasks.clone() }
    }
}

impl<T> Future for Outliving<T>
where
    T: Send + 'static,
{
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut call = self.call.take().expect("a call that has ended is not polled again");
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() {
            self.call = Some(call);
        }
        polled
    }
}

impl<T> Drop for Outliving<T>
where
    T: Send + 'static,
{
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let unheard = async move { drop(call.await) };
            drop(self.tasks.spawn(unheard));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, panic::AssertUnwindSafe};

    use futures_util::{FutureExt, poll};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_call_that_nobody_awaits_any_more_runs_to_its_end() {
        let tasks = TaskTracker::new();
        let (answer, answered) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let mut call = Outliving::new(&tasks, async move { answered.await.map(|()| end.send("ended")) });
        assert!(poll!(&mut call).is_pending());
        assert!(tasks.is_empty(), "whoever awaits it drives it");
        drop(call);
        assert_eq!(tasks.len(), 1);
        answer.send(()).expect("it waits for this");
        assert_eq!(ended.await, Ok("ended"));
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn what_has_ended_or_panicked_is_not_begun_again() {
        let tasks = TaskTracker::new();
        assert_eq!(Outliving::new(&tasks, ready(7)).await, 7);
        let panics = Outliving::new(&tasks, async { panic!("in the call") });
        assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
        assert!(tasks.is_empty());
    }
}
