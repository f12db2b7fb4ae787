//! Start-up: what the segments say, put together; and which of it cannot be believed.
//!
//! A hole (a record that is missing although later ones, or bytes, are there) is innocent in two cases, and cut off with
//! everything behind it: at the end of the last segment with no record behind it (the process was killed in the middle
//! of a write), or where the machine was started again since and the missing record was never synced (it lost its
//! memory). Any other hole is damage, and refuses the start.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    vec,
};

use super::{
    error::JournalError,
    frame::{Carried, Frame, Kind, decode},
    handle::Ticket,
    scan::{Ending, Scanned, Window, header, records, written},
    segment::{Boot, HEADER, Header, JournalId, Listing, NoHeader},
};

/// What was found at start.
#[derive(Debug)]
pub struct Replay {
    /// Whose records these are. The database keeps its watermark under this name.
    pub journal_id: JournalId,
    /// The first sequence that may still be there.
    pub first_seq: u64,
    /// The last record that was read.
    pub last_seq: u64,
    /// Bytes at the end that were no records, or the leftovers of a power loss.
    pub cut_bytes: u64,
    /// Requests that were open, oldest first.
    pub open: Vec<Unfinished>,
    /// Closes that are not applied, in order of sequence.
    pub closes: Closes,
}

/// A request that was open when the journal ended. It is closed like a live one.
pub struct Unfinished {
    /// To close it by.
    pub ticket: Ticket,
    /// The body of its last OPEN.
    pub open: Vec<u8>,
    /// The body of the last PROGRESS after that.
    pub progress: Option<Vec<u8>>,
    /// Whether there was a SENT after that OPEN.
    pub sent: bool,
    /// Whether there was one before it: an earlier attempt.
    pub sent_before: bool,
}

impl std::fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unfinished")
            .field("ticket", &self.ticket)
            .field("sent", &self.sent)
            .field("sent_before", &self.sent_before)
            .finish_non_exhaustive()
    }
}

/// Closes that are not applied: sequence and body, read from the segments as they are asked for.
pub struct Closes {
    spots: vec::IntoIter<Spot>,
    paths: Vec<PathBuf>,
    open: Option<(usize, Window)>,
}

impl std::fmt::Debug for Closes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Closes").field("left", &self.spots.len()).finish_non_exhaustive()
    }
}

/// Where a close lies.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) seq: u64,
    pub(super) home: u64,
    segment: usize,
    offset: u64,
}

impl Closes {
    pub(super) fn new(spots: Vec<Spot>, paths: Vec<PathBuf>) -> Self {
        Self { spots: spots.into_iter(), paths, open: None }
    }

    fn read(&mut self, spot: Spot) -> Result<(u64, Vec<u8>), JournalError> {
        let path = &self.paths[spot.segment];
        let window = match self.open.take() {
            Some(open) if open.0 == spot.segment => self.open.insert(open),
            // Nothing removes a segment whose closes were not handed out yet.
            _ => self.open.insert((spot.segment, Window::open(path)?)),
        };
        match decode(window.1.from(spot.offset)?) {
            Ok((frame, _)) if frame.seq == spot.seq => Ok((spot.seq, frame.body.to_vec())),
            _ => Err(damaged(path, spot.offset, "the record has changed since it was read first")),
        }
    }
}

impl Iterator for Closes {
    type Item = Result<(u64, Vec<u8>), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let spot = self.spots.next()?;
        Some(self.read(spot))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spots.size_hint()
    }
}

impl ExactSizeIterator for Closes {}

/// An open request in the records.
#[derive(Default)]
pub(super) struct Found {
    pub(super) home: u64,
    pub(super) open: Vec<u8>,
    pub(super) progress: Option<Vec<u8>>,
    pub(super) sent: bool,
    pub(super) sent_before: bool,
}

/// A segment that stays.
pub(super) struct Kept {
    pub(super) first_seq: u64,
    pub(super) path: PathBuf,
    pub(super) last: u64,
    /// Where its records end.
    pub(super) end: u64,
    pub(super) len: u64,
}

/// What the segments say.
#[derive(Default)]
pub(super) struct Read {
    pub(super) id: Option<JournalId>,
    pub(super) kept: Vec<Kept>,
    /// Segments of which nothing is believed, oldest first.
    pub(super) dropped: Vec<PathBuf>,
    pub(super) cut_bytes: u64,
    /// Everything up to here was synced by those who wrote it.
    pub(super) synced: u64,
    pub(super) open: HashMap<u64, Found>,
    pub(super) closes: Vec<Spot>,
}

/// Reads every segment, and changes nothing.
pub(super) fn read(listing: &Listing, boot: Boot, applied: u64) -> Result<Read, JournalError> {
    let mut found = Read::default();
    let headers = headers(listing)?;
    found.synced = headers.iter().flatten().map(|header| header.synced).max().unwrap_or(0);
    let mut before: Option<Header> = None;
    for (index, ((named, path), header)) in listing.segments.iter().zip(&headers).enumerate() {
        let is_last = index + 1 == headers.len();
        let last = found.kept.last().map(|kept| kept.last);
        // Whether records after `last` may be missing because the machine lost its memory.
        let lost_power = |last: u64, writer: Header| writer.boot.is_over(boot) && last + 1 > found.synced;
        let lost_before = || last.zip(before).is_some_and(|(last, writer)| lost_power(last, writer));
        let header = match header {
            Ok(header) => *header,
            Err(NoHeader::OtherVersion) => {
                return Err(JournalError::OtherVersion { path: path.clone(), offset: 0 });
            }
            Err(NoHeader::Blank) if is_last => return drop_from(found, listing, index),
            Err(_) if lost_before() => return drop_from(found, listing, index),
            Err(_) => return Err(damaged(path, 0, "the segment's header cannot be read")),
        };
        if header.first_seq != *named {
            return Err(damaged(path, 0, "the segment bears the name of another one"));
        }
        if *found.id.get_or_insert(header.journal) != header.journal {
            return Err(damaged(path, 0, "the segment belongs to another journal"));
        }
        if let (Some(last), Some(writer)) = (last, before) {
            let aside = listing.aside.iter().any(|seq| (writer.first_seq..header.first_seq).contains(seq));
            if header.first_seq <= last || (header.follows != last && !aside) {
                if header.first_seq > last && lost_before() {
                    return drop_from(found, listing, index);
                }
                return Err(damaged(
                    path,
                    0,
                    "records between this segment and the one before it are missing",
                ));
            }
        }
        let mut window = Window::open(path)?;
        let scanned = records(&mut window, header.first_seq, |kind, frame, offset| {
            found.take(kind, frame, Place { index, offset, path }, applied)
        })?;
        let lost_here = header.boot.is_over(boot) && scanned.last + 1 > found.synced;
        let cut = match scanned.ending {
            Ending::Clean => false,
            Ending::Broken { later: false, .. } if is_last => true,
            Ending::Broken { .. } if lost_here => true,
            Ending::Broken { what, .. } => return Err(damaged(path, scanned.end, what)),
        };
        found.keep(&header, path, &scanned);
        if cut {
            return drop_from(found, listing, index + 1);
        }
        before = Some(header);
    }
    Ok(found)
}

fn headers(listing: &Listing) -> Result<Vec<Result<Header, NoHeader>>, JournalError> {
    listing.segments.iter().map(|(_, path)| header(&mut Window::open(path)?)).collect()
}

/// Believes nothing from segment `index` on.
fn drop_from(mut found: Read, listing: &Listing, index: usize) -> Result<Read, JournalError> {
    for (_, path) in &listing.segments[index..] {
        found.cut_bytes += written(&mut Window::open(path)?)?.saturating_sub(HEADER as u64);
        found.dropped.push(path.clone());
    }
    Ok(found)
}

/// Where a record was read.
#[derive(Clone, Copy)]
struct Place<'a> {
    index: usize,
    offset: u64,
    path: &'a Path,
}

impl Read {
    fn keep(&mut self, header: &Header, path: &Path, scanned: &Scanned) {
        if let Ending::Broken { written, .. } = scanned.ending {
            self.cut_bytes += written - scanned.end;
        }
        self.kept.push(Kept {
            first_seq: header.first_seq,
            path: path.to_owned(),
            last: if scanned.end == HEADER as u64 { header.follows } else { scanned.last },
            end: scanned.end,
            len: scanned.len,
        });
    }

    /// What a record changes. A record of a request whose OPEN was removed or set aside says nothing that is needed:
    /// before a removal its state is carried forward, and what stands aside is the operator's.
    fn take(
        &mut self,
        kind: Kind,
        frame: Frame<'_>,
        place: Place<'_>,
        applied: u64,
    ) -> Result<(), JournalError> {
        match kind {
            Kind::Open => {
                let request = self
                    .open
                    .entry(frame.request)
                    .or_insert_with(|| Found { home: frame.seq, ..Found::default() });
                request.sent_before |= request.sent;
                request.sent = false;
                request.progress = None;
                request.open = frame.body.to_vec();
            }
            Kind::Sent => {
                if let Some(request) = self.open.get_mut(&frame.request) {
                    request.sent = true;
                }
            }
            Kind::Progress => {
                if let Some(request) = self.open.get_mut(&frame.request) {
                    request.progress = Some(frame.body.to_vec());
                }
            }
            Kind::Close => {
                let home = self.open.remove(&frame.request).map_or(frame.seq, |request| request.home);
                if !frame.body.is_empty() && frame.seq > applied {
                    let Place { index: segment, offset, .. } = place;
                    self.closes.push(Spot { seq: frame.seq, home, segment, offset });
                }
            }
            Kind::Carried => {
                let state = Carried::read(frame.body).ok_or_else(|| {
                    damaged(place.path, place.offset, "a carried record does not hold together")
                })?;
                let Carried { sent, sent_before, open, progress } = state;
                let (open, progress) = (open.to_vec(), progress.map(<[u8]>::to_vec));
                self.open.insert(frame.request, Found { home: frame.seq, open, progress, sent, sent_before });
            }
        }
        Ok(())
    }
}

fn damaged(path: &Path, offset: u64, what: &'static str) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), offset, what }
}
