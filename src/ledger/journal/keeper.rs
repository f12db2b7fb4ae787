//! The thread behind the writers: it writes what nobody waits for, syncs in groups, keeps a segment in reserve,
//! carries forward what would pin old segments, and removes what nothing needs.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    error::JournalError,
    writer::{Inner, error_source},
};

/// What nobody waits for is written after this time at the latest.
const WRITES_WITHIN: Duration = Duration::from_millis(50);
/// How many full segments may be held by open requests alone.
pub(super) const HELD_SEGMENTS: usize = 4;

/// What the keeper is called for.
#[derive(Clone, Copy)]
pub(super) enum Call {
    /// Something is pending that nobody waits for.
    Write = 1,
    /// Somebody waits for what was written to be synced.
    Sync = 2,
    /// A segment was begun, or an old one may go.
    Tidy = 4,
    /// The journal ends.
    End = 8,
}

impl Call {
    const fn is_in(self, calls: u8) -> bool {
        calls & self as u8 != 0
    }
}

/// How the keeper is called. Ringing for what was rung for already costs one atomic operation.
#[derive(Default)]
pub(super) struct Bell {
    calls: AtomicU8,
    turn: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    pub(super) fn ring(&self, call: Call) {
        let before = self.calls.fetch_or(call as u8, Ordering::AcqRel);
        if !call.is_in(before) {
            // Taken so that the keeper is either before its look at the calls or asleep, never between.
            drop(self.turn.lock().unwrap_or_else(PoisonError::into_inner));
            self.rung.notify_one();
        }
    }

    /// Waits for a call, or until `due`.
    fn wait(&self, due: Option<Instant>) -> u8 {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let calls = self.calls.swap(0, Ordering::AcqRel);
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            if calls != 0 || left.is_some_and(|left| left.is_zero()) {
                return calls;
            }
            turn = match left {
                Some(left) => self.rung.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.rung.wait(turn).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Starts the keeper. It ends on [`Call::End`].
pub(super) fn start(inner: Arc<Inner>) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("journal".to_owned()).spawn(move || {
        let last_words = LastWords(&inner);
        keep(&inner);
        std::mem::forget(last_words);
    })
}

/// Without its keeper a journal would let people wait for a sync for ever.
struct LastWords<'a>(&'a Inner);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        self.0.break_down(&JournalError::Broken);
    }
}

fn keep(inner: &Inner) {
    let mut due: Option<Instant> = None;
    loop {
        let calls = inner.bell.wait(due);
        if Call::End.is_in(calls) {
            return;
        }
        if Call::Write.is_in(calls) && due.is_none() {
            due = Some(Instant::now() + WRITES_WITHIN);
        }
        if due.is_some_and(|due| due <= Instant::now()) {
            due = None;
            // A failure has broken the journal and was reported; there is nobody to tell.
            let _ = inner.write_all();
        }
        if Call::Sync.is_in(calls) {
            let _ = inner.sync();
        }
        if Call::Tidy.is_in(calls) {
            tidy(inner);
        }
    }
}

/// Everything about segments that can wait.
pub(super) fn tidy(inner: &Inner) {
    if inner.is_broken() {
        return;
    }
    // Refused room was reported, and is asked for again by whoever needs it.
    let least = inner.desk().standby_bytes();
    let _ = inner.make_standby(least);
    if inner.has_sealed() && inner.sync().is_err() {
        return;
    }
    if let Err(error) = carry_forward(inner).and_then(|()| remove(inner)) {
        tracing::warn!(%error, source = error_source(&error), "journal.not_tidied");
    }
}

/// Writes the state of long requests again, so that the segments they began in can go.
fn carry_forward(inner: &Inner) -> Result<(), JournalError> {
    let keys = inner.desk().to_carry(HELD_SEGMENTS);
    keys.into_iter().try_for_each(|key| inner.with_room(|desk| desk.carry(key)))
}

/// Removes what nothing needs, oldest first. What makes it superfluous is on disk before it goes.
pub(super) fn remove(inner: &Inner) -> Result<(), JournalError> {
    let segments = {
        let desk = inner.desk();
        desk.first_books(desk.removable())
    };
    if segments.is_empty() {
        return Ok(());
    }
    inner.write_all()?;
    inner.sync()?;
    for first_seq in segments {
        inner.dir.remove(&inner.dir.segment(first_seq))?;
        inner.desk().forget_book();
        // One by one: a power loss must not leave a hole in the row.
        inner.dir.sync_names()?;
    }
    Ok(())
}
