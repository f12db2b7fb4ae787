//! The journal as its callers see it.

use std::{
    fmt,
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::JoinHandle,
};

use super::{
    error::JournalError,
    faults::Faults,
    frame::{MAX_CLOSE_BODY, MAX_OPEN_BODY},
    keeper::{self, Call},
    replay::Replay,
    scan::{Window, header},
    segment::{Boot, JournalId, list},
    start::start,
    writer::Inner,
};

/// What a record survives once it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process: the system has it.
    Process,
    /// A power loss: the disk has it. [`Journal::synced`] says when.
    Power,
}

/// Where and how a journal is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own directory, made if need be.
    pub dir: PathBuf,
    /// What to wait for.
    pub durability: Durability,
    /// Bytes allocated for a segment; more when open requests need more.
    pub segment_bytes: u64,
    /// For tests.
    pub faults: Faults,
}

impl Settings {
    /// Bytes of a segment, unless told otherwise.
    pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

    /// The usual settings for a journal in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::Process,
            segment_bytes: Self::SEGMENT_BYTES,
            faults: Faults::none(),
        }
    }
}

/// An open journal. Clones are the same journal; when the last is dropped it is shut down.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

/// What ends the keeper when nobody has the journal any more. Tickets do not keep it going.
struct Handle {
    inner: Arc<Inner>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// The right, and the duty, to close one request. Dropped before anything was sent it closes the request without
/// anything to record; dropped later it leaves the request open, so that the next start finds it and settles an
/// estimate: what may have cost something never disappears.
pub struct Ticket {
    inner: Arc<Inner>,
    key: u64,
    closed: bool,
}

/// What a journal has done and holds, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records queued.
    pub records: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Writes of records, each of one or many.
    pub writes: u64,
    /// Rounds of syncing.
    pub syncs: u64,
    /// Segments on disk, without the one in reserve.
    pub segments: usize,
    /// Requests that are open.
    pub open: usize,
    /// Closes that are not applied.
    pub unapplied: usize,
    /// Requests that were left open by a dropped ticket.
    pub abandoned: u64,
    /// Open requests whose state was written again to free old segments.
    pub carried: u64,
    /// PROGRESS records that found no room.
    pub progress_lost: u64,
    /// Bytes that are free in the current segment, promised ones among them.
    pub free_bytes: u64,
    /// Bytes promised to open requests.
    pub promised_bytes: u64,
    /// Whether a write or a sync has failed: nothing more is taken.
    pub broken: bool,
}

impl Journal {
    /// Opens the journal in `settings.dir` and reads what is there. `applied` is the watermark that the database has
    /// for this journal (see [`Journal::id_in`]): closes up to it are not handed out again.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] and [`JournalError::OtherVersion`] when a segment cannot be believed,
    /// [`JournalError::InUse`] when another process has it, [`JournalError::NoRoom`] when there is no room for what is
    /// open, [`JournalError::Io`] for the rest. Nothing is lost by any of them.
    pub fn open(settings: Settings, applied: u64) -> Result<(Self, Replay), JournalError> {
        let (journal, replay) = Self::open_unkept(settings, applied, Boot::current())?;
        let inner = &journal.handle.inner;
        let keeper = keeper::start(Arc::clone(inner))
            .map_err(JournalError::io("start a thread for", &inner.dir.path))?;
        *journal.handle.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        inner.bell.ring(Call::Tidy);
        Ok((journal, replay))
    }

    /// The journal that lives in `dir`, if one does: the name under which to look for its watermark.
    ///
    /// # Errors
    /// [`JournalError::Io`] when the directory is there and cannot be read.
    pub fn id_in(dir: &Path) -> Result<Option<JournalId>, JournalError> {
        let listing = match list(dir) {
            Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            listing => listing?,
        };
        for (_, path) in &listing.segments {
            if let Ok(header) = header(&mut Window::open(path)?)? {
                return Ok(Some(header.journal));
            }
        }
        Ok(None)
    }

    /// Everything but the thread.
    pub(super) fn open_unkept(
        settings: Settings,
        applied: u64,
        boot: Boot,
    ) -> Result<(Self, Replay), JournalError> {
        let (inner, replay) = start(settings, applied, boot)?;
        Ok((Self { handle: Arc::new(Handle { inner, keeper: Mutex::new(None) }) }, replay))
    }

    /// The name under which the database keeps this journal's watermark.
    pub fn id(&self) -> JournalId {
        self.inner().id
    }

    /// Queues the OPEN of a request's first attempt and promises room for what will close it. No system call, except
    /// when a new segment is needed and none is in reserve.
    ///
    /// # Errors
    /// [`JournalError::NoRoom`], [`JournalError::Broken`], [`JournalError::Closed`]: refuse the request.
    /// [`JournalError::TooLong`] for a body over [`MAX_OPEN_BODY`].
    pub fn open_attempt(&self, body: &[u8]) -> Result<Ticket, JournalError> {
        not_longer(body, MAX_OPEN_BODY)?;
        let key = self.inner().with_room(|desk| desk.open(body))?;
        Ok(Ticket::new(self.inner(), key))
    }

    /// Queues the OPEN of a further attempt of the same request. It replaces what a recovery would use.
    ///
    /// # Errors
    /// As [`Journal::open_attempt`]; the request stays open as it was.
    pub fn open_again(&self, ticket: &Ticket, body: &[u8]) -> Result<(), JournalError> {
        not_longer(body, MAX_OPEN_BODY)?;
        self.own(ticket)?;
        let known = self.inner().with_room(|desk| desk.open_again(ticket.key, body).transpose())?;
        known.ok_or(JournalError::Closed)
    }

    /// Writes SENT, with everything queued, before it returns its sequence. A second call for the same attempt writes
    /// nothing more.
    ///
    /// # Errors
    /// Nothing may be sent.
    pub fn sent(&self, ticket: &Ticket) -> Result<u64, JournalError> {
        self.own(ticket)?;
        let seq = self.inner().open_desk()?.sent(ticket.key).ok_or(JournalError::Closed)?;
        self.inner().write_through(seq)?;
        Ok(seq)
    }

    /// Queues PROGRESS, which replaces what a recovery would use. It is written with the next write, within about
    /// 50 ms. Best effort: one that is over [`MAX_OPEN_BODY`], or finds no room, is counted and not written.
    pub fn progress(&self, ticket: &Ticket, body: &[u8]) {
        if self.own(ticket).is_err() {
            return;
        }
        let Ok(mut desk) = self.inner().open_desk() else { return };
        if body.len() > MAX_OPEN_BODY {
            desk.progress_lost += 1;
            return;
        }
        let queued = desk.progress(ticket.key, body);
        let wants_standby = std::mem::take(&mut desk.wants_standby);
        drop(desk);
        if queued {
            self.inner().bell.ring(Call::Write);
        }
        if wants_standby {
            self.inner().bell.ring(Call::Tidy);
        }
    }

    /// Writes CLOSE before it returns its sequence. There is room for a body at most [`super::CLOSE_MARGIN`] bytes
    /// longer than the OPEN's, even on a full disk.
    ///
    /// # Errors
    /// [`JournalError::Io`] and [`JournalError::Broken`]: the caller keeps the record in memory and applies it; whether a start finds the close
    /// or an open request is not known. [`JournalError::TooLong`] for a body over [`MAX_CLOSE_BODY`], and
    /// [`JournalError::NoRoom`] for one over the margin on a full disk: the request stays open for the next start.
    pub fn close(&self, mut ticket: Ticket, body: &[u8]) -> Result<u64, JournalError> {
        // Whatever happens, this was the end of it: a ticket dropped by an error must not say that nothing was sent.
        ticket.closed = true;
        not_longer(body, MAX_CLOSE_BODY)?;
        self.own(&ticket)?;
        let known = self.inner().with_room(|desk| desk.close(ticket.key, body).transpose())?;
        let seq = known.ok_or(JournalError::Closed)?;
        self.inner().write_through(seq)?;
        Ok(seq)
    }

    /// Ends a request that has nothing to record, whether or not something was sent: a CLOSE without a body, written
    /// with the next write.
    pub fn discard(&self, mut ticket: Ticket) {
        ticket.closed = true;
        ticket.inner.discard(ticket.key);
    }

    /// Waits until everything up to `seq` is synced; with [`Durability::Process`] there is nothing to wait for.
    ///
    /// # Errors
    /// [`JournalError::Broken`] when it will not be: the record is written, but a power loss may take it.
    pub fn synced(
        &self,
        seq: u64,
    ) -> impl Future<Output = Result<(), JournalError>> + Send + use<> + 'static {
        let waits = matches!(self.inner().durability, Durability::Power);
        let reached = waits.then(|| self.inner().synced.subscribe());
        async move {
            let Some(mut reached) = reached else { return Ok(()) };
            match reached.wait_for(|synced| synced.seq >= seq || synced.ended).await {
                Ok(synced) if synced.seq >= seq => Ok(()),
                _ => Err(JournalError::Broken),
            }
        }
    }

    /// These closes are in the database now.
    pub fn applied(&self, seqs: &[u64]) {
        let mut desk = self.inner().desk();
        desk.applied(seqs);
        let removable = desk.removable();
        drop(desk);
        if removable > 0 {
            self.inner().bell.ring(Call::Tidy);
        }
    }

    /// The highest sequence up to which every CLOSE is applied, if those of `also` are: what to commit with them.
    pub fn watermark(&self, also: &[u64]) -> u64 {
        self.inner().desk().watermark(also)
    }

    /// What it has done and holds.
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
        let desk = inner.desk();
        let counts = desk.counts();
        Stats {
            records: desk.next_seq - inner.first_seq,
            bytes: inner.bytes.load(Ordering::Relaxed),
            writes: inner.writes.load(Ordering::Relaxed),
            syncs: inner.syncs.load(Ordering::Relaxed),
            segments: counts.segments,
            open: counts.open,
            unapplied: counts.unapplied,
            abandoned: desk.abandoned,
            carried: desk.carried,
            progress_lost: desk.progress_lost,
            free_bytes: counts.free,
            promised_bytes: counts.promised,
            broken: inner.is_broken(),
        }
    }

    /// Takes nothing more, writes and syncs what there is, removes what is applied, ends the keeper, and lets go of
    /// the directory. A second call does nothing.
    ///
    /// # Errors
    /// [`JournalError::Broken`] when the journal is.
    pub fn shut_down(&self) -> Result<(), JournalError> {
        self.handle.shut_down()
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }

    fn own(&self, ticket: &Ticket) -> Result<(), JournalError> {
        if Arc::ptr_eq(self.inner(), &ticket.inner) { Ok(()) } else { Err(JournalError::Closed) }
    }

    #[cfg(test)]
    pub(super) fn next_seq(&self) -> u64 {
        self.inner().desk().next_seq
    }

    /// Sees to it that a turn to the next segment needs no effect.
    #[cfg(test)]
    pub(super) fn reserve_segment(&self) -> Result<(), JournalError> {
        let least = self.inner().desk().standby_bytes() + 2048;
        self.inner().make_standby(least)
    }

    /// One round of what the keeper does when it is called.
    #[cfg(test)]
    pub(super) fn keep_once(&self) {
        let _ = self.inner().write_all();
        let _ = self.inner().sync();
        keeper::tidy(self.inner());
    }
}

impl Handle {
    fn shut_down(&self) -> Result<(), JournalError> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.end() {
            return Ok(());
        }
        if let Some(keeper) = keeper.take() {
            self.inner.bell.ring(Call::End);
            // A keeper that has panicked has broken the journal, which the next line says.
            let _ = keeper.join();
        }
        let done = self.inner.write_all().and_then(|()| self.inner.sync());
        let done = done.and_then(|()| keeper::remove(&self.inner));
        self.inner.release();
        done
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // What cannot be written any more has been reported by whoever found out.
        let _ = self.shut_down();
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("id", &self.inner().id).finish_non_exhaustive()
    }
}

impl Inner {
    fn discard(&self, key: u64) {
        let Ok(mut desk) = self.open_desk() else { return };
        // It has room: its promise is for more.
        let queued = desk.close(key, &[]);
        drop(desk);
        if queued.is_some() {
            self.bell.ring(Call::Write);
        }
    }
}

impl Ticket {
    pub(super) fn new(inner: &Arc<Inner>, key: u64) -> Self {
        Self { inner: Arc::clone(inner), key, closed: false }
    }

    /// The request's number: the sequence of its first OPEN.
    pub fn number(&self) -> u64 {
        self.key
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        {
            let mut desk = self.inner.desk();
            if desk.request(self.key).is_none_or(|request| request.ever_sent()) {
                desk.abandoned += 1;
                return;
            }
        }
        self.inner.discard(self.key);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.key)
    }
}

fn not_longer(body: &[u8], max: usize) -> Result<(), JournalError> {
    if body.len() > max { Err(JournalError::TooLong { bytes: body.len() }) } else { Ok(()) }
}
