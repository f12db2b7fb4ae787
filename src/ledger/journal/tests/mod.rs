//! What the journal promises, against real files and a disk that can be told to fail.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;

use super::{
    segment::{Boot, list},
    *,
};

mod damage;
mod disk;
mod kills;
mod power;
mod replay;
mod room;
mod threads;

const BOOT: Boot = Boot([7; 16]);
const NEXT_BOOT: Boot = Boot([8; 16]);

/// In memory where there is such a place: thousands of syncs would only wear the disk.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

fn settings(dir: &Path, faults: &Faults) -> Settings {
    Settings { segment_bytes: 4096, faults: faults.clone(), ..Settings::new(dir) }
}

/// Faults that do nothing until they are told to kill.
fn mortal() -> Faults {
    Faults::new(Arc::new(|_| Ok(())))
}

/// Opens without the keeper's thread, so that effects happen in one order.
fn try_open(dir: &Path, faults: &Faults, applied: u64) -> Result<(Journal, Replay), JournalError> {
    Journal::open_unkept(settings(dir, faults), applied, BOOT)
}

fn open(dir: &Path, faults: &Faults) -> (Journal, Replay) {
    try_open(dir, faults, 0).expect("a journal")
}

/// A request as a recovery would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    open: Vec<u8>,
    progress: Option<Vec<u8>>,
    sent: bool,
    sent_before: bool,
}

fn seen(open: &[u8]) -> Seen {
    Seen { open: open.to_vec(), progress: None, sent: false, sent_before: false }
}

/// What a start finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    open: BTreeMap<u64, Seen>,
    closes: BTreeMap<u64, Vec<u8>>,
}

/// Reads a replay to its end. The tickets come back, for dropping them says something.
fn state(replay: Replay) -> (State, Vec<Ticket>) {
    let mut state = State::default();
    let mut tickets = Vec::new();
    for Unfinished { ticket, open, progress, sent, sent_before } in replay.open {
        state.open.insert(ticket.number(), Seen { open, progress, sent, sent_before });
        tickets.push(ticket);
    }
    for close in replay.closes {
        let (seq, body) = close.expect("readable");
        assert!(state.closes.insert(seq, body).is_none(), "each close once");
    }
    (state, tickets)
}

/// What a start in `boot` would find, and how many bytes it would cut. It dies right after looking.
fn look_in(dir: &Path, boot: Boot) -> Result<(State, u64), JournalError> {
    let faults = mortal();
    let (journal, replay) = Journal::open_unkept(settings(dir, &faults), 0, boot)?;
    let cut = replay.cut_bytes;
    let found = state(replay);
    faults.kill();
    drop(journal);
    Ok((found.0, cut))
}

fn look(dir: &Path) -> State {
    look_in(dir, BOOT).expect("readable").0
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    list(dir).expect("a directory").segments.into_iter().map(|(_, path)| path).collect()
}

/// The directory with every segment in it, for another experiment.
fn copy(dir: &Path) -> TempDir {
    let to = directory();
    for path in segments(dir) {
        fs::copy(&path, to.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    to
}

/// Leaves as the killed leave: nothing of what is pending reaches the disk.
fn die(faults: &Faults, journal: Journal, tickets: impl IntoIterator<Item = Ticket>) {
    faults.kill();
    drop(journal);
    tickets.into_iter().for_each(drop);
}

/// Counts effects, and lets `fate` decide on each by its number.
fn counted(fate: impl Fn(usize, &'static str) -> Fate + Send + Sync + 'static) -> (Faults, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    (Faults::fated(Arc::new(move |effect| fate(counter.fetch_add(1, Ordering::SeqCst), effect))), count)
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}
