use std::{
    future::Future,
    pin::pin,
    sync::{Condvar, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::*;

fn powered(dir: &Path, faults: Faults) -> Journal {
    let settings = Settings { durability: Durability::Power, faults, ..Settings::new(dir) };
    Journal::open(settings, 0).expect("a journal").0
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Holds syncs back while it is shut, and counts those that it has let through.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn faults(self: &Arc<Self>) -> Faults {
        let gate = Arc::clone(self);
        Faults::new(Arc::new(move |what| {
            if what == effect::SYNC {
                let shut = gate.shut.lock().expect("a gate");
                gate.waiting.fetch_add(1, Ordering::SeqCst);
                drop(gate.opened.wait_while(shut, |shut| *shut).expect("a gate"));
            }
            Ok(())
        }))
    }

    fn set(&self, shut: bool) {
        *self.shut.lock().expect("a gate") = shut;
        self.opened.notify_all();
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_sync_has_returned() {
    let dir = directory();
    let gate = Arc::new(Gate::default());
    let journal = powered(dir.path(), gate.faults());
    let ticket = journal.open_attempt(b"open").expect("room");
    let sent = journal.sent(&ticket).expect("written");
    journal.synced(sent).await.expect("synced");
    gate.set(true);
    let before = gate.waiting.load(Ordering::SeqCst);
    let close = journal.close(ticket, b"close").expect("written");
    let mut synced = pin!(journal.synced(close));
    assert!(poll(synced.as_mut()).is_pending());
    // The keeper stands in the sync now, and the close still counts for nothing.
    while gate.waiting.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    assert!(poll(synced.as_mut()).is_pending());
    journal.synced(sent).await.expect("what was synced before stays so");
    gate.set(false);
    tokio::time::timeout(Duration::from_secs(20), synced).await.expect("in time").expect("synced");
    journal.shut_down().expect("synced");
}

#[tokio::test]
async fn one_sync_is_for_everybody_who_waits() {
    let dir = directory();
    let gate = Arc::new(Gate::default());
    let journal = powered(dir.path(), gate.faults());
    gate.set(true);
    let waits: Vec<_> = (0..100)
        .map(|_| {
            let ticket = journal.open_attempt(b"open").expect("room");
            journal.synced(journal.close(ticket, b"close").expect("written"))
        })
        .collect();
    gate.set(false);
    for synced in waits {
        synced.await.expect("synced");
    }
    assert!(journal.stats().syncs <= 4, "{:?}", journal.stats());
}

#[tokio::test]
async fn a_sync_that_fails_is_told_to_everybody_and_never_tried_again() {
    let dir = directory();
    let (faults, _) = counted(|index, what| {
        // Those of the start happen.
        let fails = what == effect::SYNC && index > 6;
        if fails { Fate::Fails(io::Error::from_raw_os_error(5)) } else { Fate::Happens }
    });
    let journal = powered(dir.path(), faults);
    let mut outcome = Ok(());
    for _ in 0..20 {
        let Ok(ticket) = journal.open_attempt(b"open") else { break };
        let Ok(seq) = journal.close(ticket, b"close") else { break };
        outcome = journal.synced(seq).await;
    }
    assert!(matches!(outcome, Err(JournalError::Broken)));
    assert!(journal.stats().broken);
    assert!(matches!(journal.open_attempt(b"open"), Err(JournalError::Broken)));
}

#[tokio::test]
async fn what_a_process_alone_must_survive_waits_for_no_sync() {
    let dir = directory();
    let (journal, _) = open(dir.path(), &mortal());
    let ticket = journal.open_attempt(b"open").expect("room");
    let seq = journal.close(ticket, b"close").expect("written");
    assert!(poll(pin!(journal.synced(seq))).is_ready());
    assert_eq!(journal.stats().syncs, 0);
}
