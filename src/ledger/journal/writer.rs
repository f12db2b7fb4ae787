//! The way to the disk: whoever needs a record written takes the pen and writes everything that is pending, at once.
//! Those who waited for the pen meanwhile find theirs written.
//!
//! Locks, in the order in which they may be held together: `maker`, `pen`, `desk`. The desk is never held over an
//! effect.

use std::{
    collections::VecDeque,
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Durability, JournalId,
    desk::{Book, Desk, Needs},
    error::JournalError,
    keeper::{Bell, Call},
    segment::{Boot, Directory, HEADER, Header, Standby},
};

/// After the disk was full, it is asked again this much later at the earliest.
const FULL_FOR: Duration = Duration::from_millis(100);
/// A buffer that a burst has made larger than this is given back.
const KEEP_BUFFER: usize = 4 * 1024 * 1024;
/// Rounds of making room for one record before giving up. Others may take the room that one has made.
const ROUNDS: usize = 16;

/// What everybody shares: the journal's handles, its tickets, its keeper.
pub(super) struct Inner {
    pub(super) dir: Directory,
    pub(super) id: JournalId,
    pub(super) durability: Durability,
    pub(super) synced: watch::Sender<Synced>,
    pub(super) bell: Bell,
    pub(super) writes: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
    /// The first sequence of this run.
    pub(super) first_seq: u64,
    boot: Boot,
    segment_bytes: u64,
    desk: Mutex<Desk>,
    pen: Mutex<Pen>,
    maker: Mutex<Maker>,
    /// Everything up to here is written.
    written: AtomicU64,
    broken: AtomicBool,
    closed: AtomicBool,
    lock: Mutex<Option<File>>,
}

/// How far the disk has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Synced {
    pub(super) seq: u64,
    /// Nothing more will be synced.
    pub(super) ended: bool,
}

struct Pen {
    file: Arc<File>,
    path: PathBuf,
    first_seq: u64,
    /// The last record before this segment.
    follows: u64,
    offset: u64,
    spare: Vec<u8>,
    /// Segments that were written to their end and not synced since.
    sealed: Vec<Sealed>,
    names_changed: bool,
}

struct Sealed {
    file: Arc<File>,
    path: PathBuf,
    /// Where its records end.
    end: u64,
}

#[derive(Default)]
struct Maker {
    refused: Option<(Instant, JournalError)>,
}

/// What a journal begins with: its directory, and the first segment of this run.
pub(super) struct Start {
    pub(super) dir: Directory,
    pub(super) lock: File,
    pub(super) id: JournalId,
    pub(super) boot: Boot,
    pub(super) durability: Durability,
    pub(super) segment_bytes: u64,
    pub(super) current: Standby,
    pub(super) path: PathBuf,
    pub(super) next_seq: u64,
    /// The last record before it.
    pub(super) follows: u64,
    pub(super) books: VecDeque<Book>,
}

impl Inner {
    pub(super) fn new(start: Start) -> Self {
        let written = start.next_seq - 1;
        Self {
            dir: start.dir,
            id: start.id,
            durability: start.durability,
            synced: watch::Sender::new(Synced { seq: written, ended: false }),
            bell: Bell::default(),
            writes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            first_seq: start.next_seq,
            boot: start.boot,
            segment_bytes: start.segment_bytes,
            desk: Mutex::new(Desk::new(start.next_seq, start.current.bytes, start.books)),
            pen: Mutex::new(Pen {
                file: Arc::new(start.current.file),
                path: start.path,
                first_seq: start.next_seq,
                follows: start.follows,
                offset: HEADER as u64,
                spare: Vec::new(),
                sealed: Vec::new(),
                names_changed: false,
            }),
            maker: Mutex::new(Maker::default()),
            written: AtomicU64::new(written),
            broken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(start.lock)),
        }
    }

    /// The desk, whatever state the journal is in.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The desk of a journal that takes records.
    pub(super) fn open_desk(&self) -> Result<MutexGuard<'_, Desk>, JournalError> {
        let desk = self.desk();
        self.check()?;
        Ok(desk)
    }

    fn pen(&self) -> MutexGuard<'_, Pen> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self) -> Result<(), JournalError> {
        if self.is_broken() {
            Err(JournalError::Broken)
        } else if self.closed.load(Ordering::Acquire) {
            Err(JournalError::Closed)
        } else {
            Ok(())
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Takes nothing more; what is pending can still be written. Whether that was so already.
    pub(super) fn end(&self) -> bool {
        let _desk = self.desk();
        self.closed.swap(true, Ordering::AcqRel)
    }

    /// Lets another journal have the directory.
    pub(super) fn release(&self) {
        self.synced.send_modify(|synced| synced.ended = true);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Nobody knows what is on disk now, so nothing more is written there.
    pub(super) fn break_down(&self, error: &JournalError) {
        if !self.broken.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, source = error_source(error), "journal.broken");
        }
        self.synced.send_modify(|synced| synced.ended = true);
    }

    /// Does `work` at the desk and makes room until it fits. The desk is free while room is made.
    pub(super) fn with_room<T>(
        &self,
        mut work: impl FnMut(&mut Desk) -> Result<T, Needs>,
    ) -> Result<T, JournalError> {
        let mut missing = 0;
        for _ in 0..ROUNDS {
            let mut desk = self.open_desk()?;
            let done = work(&mut desk);
            let wants_standby = std::mem::take(&mut desk.wants_standby);
            drop(desk);
            if wants_standby {
                self.bell.ring(Call::Tidy);
            }
            match done {
                Ok(done) => return Ok(done),
                Err(Needs(bytes)) => missing = bytes,
            }
            self.make_standby(missing)?;
        }
        Err(JournalError::NoRoom { bytes: missing })
    }

    /// Sees to it that there is a standby segment of at least so many bytes.
    pub(super) fn make_standby(&self, least: u64) -> Result<(), JournalError> {
        let mut maker = self.maker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, error)) = maker.refused.as_ref().filter(|(when, _)| when.elapsed() < FULL_FOR) {
            return Err(error.clone());
        }
        let (old, bytes) = {
            let mut desk = self.desk();
            let bytes = least.max(desk.standby_bytes()).max(self.segment_bytes);
            if desk.standby.as_ref().is_some_and(|standby| standby.bytes >= least) {
                return Ok(());
            }
            (desk.standby.take(), bytes)
        };
        let made = match old {
            Some(mut standby) => match self.dir.grow(&mut standby, bytes) {
                Ok(()) => Ok(standby),
                Err(error) => {
                    self.desk().standby = Some(standby);
                    Err(error)
                }
            },
            None => self.dir.make_standby(bytes),
        };
        match made {
            Ok(standby) => {
                self.desk().standby = Some(standby);
                if maker.refused.take().is_some() {
                    tracing::info!("journal.has_room_again");
                }
                Ok(())
            }
            Err(error) => {
                let error = if error.is_no_space() { JournalError::NoRoom { bytes } } else { error };
                if maker.refused.is_none() {
                    tracing::warn!(%error, source = error_source(&error), "journal.no_room");
                }
                maker.refused = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Returns when everything up to `seq` is written.
    pub(super) fn write_through(&self, seq: u64) -> Result<(), JournalError> {
        if self.written.load(Ordering::Acquire) >= seq {
            return Ok(());
        }
        let mut pen = self.pen();
        if self.written.load(Ordering::Acquire) >= seq {
            return Ok(());
        }
        self.write_pending(&mut pen)
    }

    /// Writes everything that is pending.
    pub(super) fn write_all(&self) -> Result<(), JournalError> {
        self.write_pending(&mut self.pen())
    }

    fn write_pending(&self, pen: &mut Pen) -> Result<(), JournalError> {
        if self.is_broken() {
            return Err(JournalError::Broken);
        }
        let (mut records, turns, last) = {
            let mut desk = self.desk();
            let spare = std::mem::take(&mut pen.spare);
            let records = std::mem::replace(&mut desk.pending, spare);
            (records, std::mem::take(&mut desk.turns), desk.next_seq - 1)
        };
        if records.is_empty() {
            return Ok(());
        }
        let mut from = 0;
        for turn in turns {
            self.write(pen, &records[from..turn.at])?;
            from = turn.at;
            self.turn(pen, turn.first_seq, turn.standby)?;
        }
        self.write(pen, &records[from..])?;
        self.written.store(last, Ordering::Release);
        if matches!(self.durability, Durability::Power) {
            self.bell.ring(Call::Sync);
        }
        records.clear();
        records.shrink_to(KEEP_BUFFER);
        pen.spare = records;
        Ok(())
    }

    fn write(&self, pen: &mut Pen, records: &[u8]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        self.dir.write_at(&pen.file, records, pen.offset).map_err(|error| {
            let error = JournalError::io("write", &pen.path)(error);
            self.break_down(&error);
            error
        })?;
        pen.offset += records.len() as u64;
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(records.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Goes on in a new segment. The old one is written to its end.
    fn turn(&self, pen: &mut Pen, first_seq: u64, standby: Standby) -> Result<(), JournalError> {
        // A segment that was too small for its first record is replaced by one that says the same of itself.
        let follows = if first_seq == pen.first_seq { pen.follows } else { first_seq - 1 };
        let header = Header {
            journal: self.id,
            first_seq,
            follows,
            synced: self.synced.borrow().seq.min(follows),
            boot: self.boot,
        };
        let path = self.dir.begin(&standby, &header).inspect_err(|error| self.break_down(error))?;
        let old = std::mem::replace(&mut pen.file, Arc::new(standby.file));
        let old_path = std::mem::replace(&mut pen.path, path);
        pen.sealed.push(Sealed { file: old, path: old_path, end: pen.offset });
        (pen.first_seq, pen.follows) = (first_seq, follows);
        pen.offset = HEADER as u64;
        pen.names_changed = true;
        Ok(())
    }

    /// Syncs everything that is written, oldest first, and says so. Only one thread does this at a time: the keeper,
    /// or whoever has ended it.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        if self.is_broken() {
            return Err(JournalError::Broken);
        }
        let (sealed, current, names_changed, written) = {
            let mut pen = self.pen();
            let current = Sealed { file: Arc::clone(&pen.file), path: pen.path.clone(), end: pen.offset };
            let written = self.written.load(Ordering::Acquire);
            (std::mem::take(&mut pen.sealed), current, std::mem::take(&mut pen.names_changed), written)
        };
        let done = sealed
            .iter()
            .chain([&current])
            .try_for_each(|segment| self.dir.sync_file(&segment.file, &segment.path));
        let done = done.and_then(|()| if names_changed { self.dir.sync_names() } else { Ok(()) });
        // After a failed sync the system may count its pages as clean: a second try would prove nothing.
        done.inspect_err(|error| self.break_down(error))?;
        // Room that was promised in a segment and not needed; if it stays, it only costs space.
        for Sealed { file, path, end } in &sealed {
            if let Err(error) = self.dir.trim(file, path, *end) {
                tracing::warn!(%error, source = error_source(&error), "journal.not_trimmed");
            }
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.synced.send_if_modified(|synced| {
            let further = synced.seq < written;
            synced.seq = synced.seq.max(written);
            further
        });
        Ok(())
    }

    /// Whether segments wait to be synced that nobody waits for.
    pub(super) fn has_sealed(&self) -> bool {
        !self.pen().sealed.is_empty()
    }
}

/// The cause of an error, for a log line.
pub(super) fn error_source(error: &JournalError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}
