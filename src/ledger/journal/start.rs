//! From what the directory holds to a journal that takes records: read, settle, begin a segment, take over what is open.

use std::{collections::VecDeque, fs::File, path::PathBuf, sync::Arc};

use super::{
    desk::{Adopted, Book, Desk},
    error::JournalError,
    handle::{Settings, Ticket},
    replay::{Closes, Read, Replay, Unfinished, read},
    segment::{Boot, Directory, HEADER, Header, JournalId, Standby, list},
    writer::{Inner, Start},
};

/// Less than this is no use as a segment.
const LEAST_SEGMENT_BYTES: u64 = 4 * 1024;

/// Reads the journal and begins this run's first segment. The keeper is not started.
pub(super) fn start(
    settings: Settings,
    applied: u64,
    boot: Boot,
) -> Result<(Arc<Inner>, Replay), JournalError> {
    let (dir, lock) = Directory::hold(&settings.dir, settings.faults)?;
    let listing = list(&dir.path)?;
    for path in &listing.standby {
        dir.remove(path)?;
    }
    let found = read(&listing, boot, applied)?;
    settle(&dir, &found)?;

    let last = found.kept.last().map_or(0, |kept| kept.last);
    let next_seq = last.max(applied).max(listing.aside.last().copied().unwrap_or(0)) + 1;
    let id = found.id.map_or_else(JournalId::generate, Ok);
    let id = id.map_err(JournalError::io("find a name for", &dir.path))?;
    let header = Header { journal: id, first_seq: next_seq, follows: last, synced: last, boot };
    let segment_bytes = settings.segment_bytes.max(LEAST_SEGMENT_BYTES);
    let (current, path) = begin(&dir, &header, segment_bytes, &found)?;

    let mut kept: VecDeque<Book> =
        found.kept.iter().map(|kept| Book::new(kept.first_seq, kept.end)).collect();
    if kept.back().is_some_and(|book| book.first_seq == next_seq) {
        // It was empty, and the new one has taken its name.
        kept.pop_back();
    }
    kept.push_back(Book::new(next_seq, current.bytes));
    let inner = Arc::new(Inner::new(Start {
        dir,
        lock,
        id,
        boot,
        durability: settings.durability,
        segment_bytes,
        current,
        path,
        next_seq,
        follows: last,
        books: kept,
    }));
    let replay = adopt(&inner, found, next_seq, last);
    Ok((inner, replay))
}

/// Makes the disk say what replay has found: what is not believed goes, what is believed is synced. A death in the
/// middle leaves the same to be found.
fn settle(dir: &Directory, found: &Read) -> Result<(), JournalError> {
    for path in found.dropped.iter().rev() {
        dir.remove(path)?;
    }
    let last = found.kept.len().saturating_sub(1);
    for (index, kept) in found.kept.iter().enumerate() {
        if index == last && kept.len > kept.end {
            dir.cut(&kept.path, kept.end)?;
        } else if kept.last > found.synced {
            let file = File::open(&kept.path).map_err(JournalError::io("open", &kept.path))?;
            dir.sync_file(&file, &kept.path)?;
        }
    }
    dir.sync_names()
}

/// The first segment of this run, on disk when it returns, with room for everything that is open.
fn begin(
    dir: &Directory,
    header: &Header,
    segment_bytes: u64,
    found: &Read,
) -> Result<(Standby, PathBuf), JournalError> {
    let promised: u64 = found.open.values().map(|open| Desk::promise_bytes(open.open.len())).sum();
    let least = HEADER as u64 + promised;
    let wanted = segment_bytes.max(least + promised);
    let made = match dir.make_standby(wanted) {
        // A disk too full for a whole segment may still have room for what is open, and closing that makes space.
        Err(error) if error.is_no_space() => dir.make_standby(least),
        made => made,
    };
    let current = made
        .map_err(|error| if error.is_no_space() { JournalError::NoRoom { bytes: least } } else { error })?;
    let path = dir.begin(&current, header)?;
    dir.sync_file(&current.file, &path)?;
    dir.sync_names()?;
    Ok((current, path))
}

fn adopt(inner: &Arc<Inner>, found: Read, next_seq: u64, last: u64) -> Replay {
    let mut desk = inner.desk();
    for spot in &found.closes {
        desk.adopt_close(spot.seq, spot.home);
    }
    let mut open: Vec<_> = found.open.into_iter().collect();
    open.sort_unstable_by_key(|(key, _)| *key);
    let unfinished = open.into_iter().map(|(key, request)| {
        desk.adopt(
            key,
            Adopted {
                home: request.home,
                open: &request.open,
                progress: request.progress.as_deref(),
                sent: request.sent,
                sent_before: request.sent_before,
            },
        );
        Unfinished {
            ticket: Ticket::new(inner, key),
            open: request.open,
            progress: request.progress,
            sent: request.sent,
            sent_before: request.sent_before,
        }
    });
    let open = unfinished.collect();
    Replay {
        journal_id: inner.id,
        first_seq: found.kept.first().map_or(next_seq, |kept| kept.first_seq),
        last_seq: last,
        cut_bytes: found.cut_bytes,
        open,
        closes: Closes::new(found.closes, found.kept.into_iter().map(|kept| kept.path).collect()),
    }
}
