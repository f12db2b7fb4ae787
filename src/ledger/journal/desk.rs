//! What the journal knows in memory: records that wait to be written, room that is promised, requests that are open,
//! and closes that are not applied yet. No effect happens here.
//!
//! Room: `end + promised ≤ size` of the current segment, always. A promise is made with an OPEN and covers one SENT,
//! one PROGRESS and the CLOSE; records that were promised nothing take only what no promise covers.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::{
    frame::{Carried, Kind, encode, frame_bytes},
    segment::{HEADER, Standby},
};

/// A CLOSE is sure of room when its body is at most this many bytes longer than its OPEN's.
pub const CLOSE_MARGIN: usize = 1024;
/// The first PROGRESS of an attempt is sure of room when its body is at most this many bytes longer than its OPEN's.
pub const PROGRESS_MARGIN: usize = 256;

/// Room is missing: a segment of at least so many bytes would give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs(pub(super) u64);

/// A request that has an OPEN and no CLOSE.
pub(super) struct Request {
    /// The first record that a replay needs of it: its first OPEN, or what was carried last.
    pub(super) home: u64,
    pub(super) open: Box<[u8]>,
    pub(super) progress: Option<Box<[u8]>>,
    /// The sequence of its last attempt's SENT.
    pub(super) sent: Option<u64>,
    /// Whether an earlier attempt was sent.
    pub(super) sent_before: bool,
    promise: Promise,
}

impl Request {
    pub(super) fn ever_sent(&self) -> bool {
        self.sent.is_some() || self.sent_before
    }
}

/// Bytes that are kept free for a request.
#[derive(Clone, Copy, Default)]
struct Promise {
    sent: u64,
    progress: u64,
    close: u64,
}

impl Promise {
    fn of(open: usize) -> Self {
        Self {
            sent: frame_bytes(0),
            progress: frame_bytes(open + PROGRESS_MARGIN),
            close: frame_bytes(open + CLOSE_MARGIN),
        }
    }

    fn total(self) -> u64 {
        self.sent + self.progress + self.close
    }
}

/// A change of segment in the middle of what is pending.
pub(super) struct Turn {
    /// Bytes of the pending records that go into the old segment.
    pub(super) at: usize,
    pub(super) first_seq: u64,
    pub(super) standby: Standby,
}

/// What pins a segment.
#[derive(Clone, Copy)]
pub(super) struct Book {
    pub(super) first_seq: u64,
    /// What it takes on disk; of a segment that is written to its end, without the room that was left.
    bytes: u64,
    /// Open requests that have their home in it.
    open: u64,
    /// Closed ones likewise, whose close is not applied.
    closed: u64,
    /// Closes in it that are not applied.
    closes: u64,
}

impl Book {
    pub(super) const fn new(first_seq: u64, bytes: u64) -> Self {
        Self { first_seq, bytes, open: 0, closed: 0, closes: 0 }
    }
}

pub(super) struct Desk {
    /// Records that are not written, in order.
    pub(super) pending: Vec<u8>,
    pub(super) turns: Vec<Turn>,
    pub(super) standby: Option<Standby>,
    pub(super) next_seq: u64,
    /// Set when the standby is gone or has become too small; whoever calls the keeper clears it.
    pub(super) wants_standby: bool,
    pub(super) abandoned: u64,
    pub(super) progress_lost: u64,
    pub(super) carried: u64,
    end: u64,
    size: u64,
    promised: u64,
    requests: HashMap<u64, Request>,
    /// Closes that are not applied, each with its request's home.
    waiting: BTreeMap<u64, u64>,
    books: VecDeque<Book>,
}

impl Desk {
    /// At a desk whose current segment is the last of `books`, with `size` bytes and nothing in it yet.
    pub(super) fn new(next_seq: u64, size: u64, books: VecDeque<Book>) -> Self {
        Self {
            pending: Vec::new(),
            turns: Vec::new(),
            standby: None,
            next_seq,
            wants_standby: false,
            abandoned: 0,
            progress_lost: 0,
            carried: 0,
            end: HEADER as u64,
            size,
            promised: 0,
            requests: HashMap::new(),
            waiting: BTreeMap::new(),
            books,
        }
    }

    /// The room that an open request must have, for a start.
    pub(super) fn promise_bytes(open: usize) -> u64 {
        Promise::of(open).total()
    }

    /// Takes over a request that replay found open.
    pub(super) fn adopt(&mut self, key: u64, request: Adopted<'_>) {
        let promise = Promise::of(request.open.len());
        self.promised += promise.total();
        self.book(request.home).open += 1;
        self.requests.insert(
            key,
            Request {
                home: request.home,
                open: request.open.into(),
                progress: request.progress.map(Box::from),
                sent: request.sent.then_some(0),
                sent_before: request.sent_before,
                promise,
            },
        );
        debug_assert!(self.end + self.promised <= self.size, "a start makes room for what was open");
    }

    /// Takes over a close that replay found and nobody has applied.
    pub(super) fn adopt_close(&mut self, seq: u64, home: u64) {
        self.waiting.insert(seq, home);
        self.book(seq).closes += 1;
        self.book(home).closed += 1;
    }

    pub(super) fn request(&self, key: u64) -> Option<&Request> {
        self.requests.get(&key)
    }

    /// The first OPEN of a request. Its sequence is the request's number.
    pub(super) fn open(&mut self, body: &[u8]) -> Result<u64, Needs> {
        let promise = Promise::of(body.len());
        self.make_room(frame_bytes(body.len()) + promise.total(), 0)?;
        let key = self.next_seq;
        self.append(Kind::Open, key, &[body]);
        self.promised += promise.total();
        self.book(key).open += 1;
        let open = Box::from(body);
        let request = Request { home: key, open, progress: None, sent: None, sent_before: false, promise };
        self.requests.insert(key, request);
        self.wants_standby |=
            self.standby.as_ref().is_some_and(|standby| standby.bytes < self.standby_bytes());
        Ok(key)
    }

    /// The OPEN of a further attempt; `None` if there is no such request.
    pub(super) fn open_again(&mut self, key: u64, body: &[u8]) -> Option<Result<(), Needs>> {
        let old = self.requests.get(&key)?.promise;
        let whole = Promise::of(body.len());
        let promise = Promise { close: whole.close.max(old.close), ..whole };
        if let Err(needs) = self.make_room(frame_bytes(body.len()) + promise.total(), old.total()) {
            return Some(Err(needs));
        }
        self.append(Kind::Open, key, &[body]);
        self.promised = self.promised - old.total() + promise.total();
        let request = self.requests.get_mut(&key)?;
        request.sent_before = request.ever_sent();
        request.sent = None;
        request.progress = None;
        request.open = body.into();
        request.promise = promise;
        Some(Ok(()))
    }

    /// The sequence of the attempt's SENT, which is appended if there is none.
    pub(super) fn sent(&mut self, key: u64) -> Option<u64> {
        let request = self.requests.get_mut(&key)?;
        if let Some(seq) = request.sent {
            return Some(seq);
        }
        self.promised -= std::mem::take(&mut request.promise.sent);
        request.sent = Some(self.next_seq);
        Some(self.append(Kind::Sent, key, &[]))
    }

    /// Whether the progress is among the records now. Without room it is only kept, for a carried record.
    pub(super) fn progress(&mut self, key: u64, body: &[u8]) -> bool {
        let Some(request) = self.requests.get_mut(&key) else { return false };
        request.progress = Some(body.into());
        let bytes = frame_bytes(body.len());
        if self.make_room(bytes, 0).is_err() {
            let Some(request) = self.requests.get_mut(&key) else { return false };
            if bytes > request.promise.progress {
                self.progress_lost += 1;
                return false;
            }
            self.promised -= std::mem::take(&mut request.promise.progress);
        }
        self.append(Kind::Progress, key, &[body]);
        true
    }

    /// The sequence of the CLOSE; `None` if there is no such request.
    pub(super) fn close(&mut self, key: u64, body: &[u8]) -> Option<Result<u64, Needs>> {
        let promise = self.requests.get(&key)?.promise.total();
        if let Err(needs) = self.make_room(frame_bytes(body.len()), promise) {
            return Some(Err(needs));
        }
        self.promised -= promise;
        let request = self.requests.remove(&key)?;
        let seq = self.append(Kind::Close, key, &[body]);
        self.book(request.home).open -= 1;
        if !body.is_empty() {
            self.adopt_close(seq, request.home);
        }
        Some(Ok(seq))
    }

    pub(super) fn applied(&mut self, seqs: &[u64]) {
        for seq in seqs {
            if let Some(home) = self.waiting.remove(seq) {
                self.book(*seq).closes -= 1;
                self.book(home).closed -= 1;
            }
        }
    }

    pub(super) fn watermark(&self, also: &[u64]) -> u64 {
        let also: HashSet<u64> = also.iter().copied().collect();
        let first = self.waiting.keys().copied().find(|seq| !also.contains(seq));
        first.unwrap_or(self.next_seq) - 1
    }

    /// How many segments nothing needs any more, oldest first.
    pub(super) fn removable(&self) -> usize {
        let sealed = self.books.len() - 1;
        self.books.iter().take(sealed).take_while(|book| book.open + book.closed + book.closes == 0).count()
    }

    pub(super) fn first_books(&self, count: usize) -> Vec<u64> {
        self.books.iter().take(count).map(|book| book.first_seq).collect()
    }

    pub(super) fn forget_book(&mut self) {
        self.books.pop_front();
    }

    /// The requests that alone hold more than `full` segments, if carrying them frees at least twice what it writes.
    pub(super) fn to_carry(&self, full: usize) -> Vec<u64> {
        let sealed = self.books.len() - 1;
        let held: Vec<&Book> =
            self.books.iter().take(sealed).take_while(|book| book.closed + book.closes == 0).collect();
        let Some(after) = self.books.get(held.len()).filter(|_| held.len() > full) else { return Vec::new() };
        let of_these = || self.requests.iter().filter(|(_, request)| request.home < after.first_seq);
        let writes: u64 = of_these().map(|(_, request)| frame_bytes(carried(request).body_len())).sum();
        if writes > held.iter().map(|book| book.bytes).sum::<u64>() / 2 {
            return Vec::new();
        }
        of_these().map(|(key, _)| *key).collect()
    }

    /// Writes a request's state again. Nothing to do if it has been closed meanwhile.
    pub(super) fn carry(&mut self, key: u64) -> Result<(), Needs> {
        let Some(request) = self.requests.get(&key) else { return Ok(()) };
        let (bytes, old) = (frame_bytes(carried(request).body_len()), request.home);
        self.make_room(bytes, 0)?;
        let Some(request) = self.requests.remove(&key) else { return Ok(()) };
        let state = carried(&request);
        let seq = self.append(
            Kind::Carried,
            key,
            &[&state.header(), state.open, state.progress.unwrap_or_default()],
        );
        self.requests.insert(key, Request { home: seq, ..request });
        self.book(old).open -= 1;
        self.book(seq).open += 1;
        self.carried += 1;
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            segments: self.books.len(),
            open: self.requests.len(),
            unapplied: self.waiting.len(),
            free: self.size - self.end,
            promised: self.promised,
        }
    }

    /// What a standby must have for the promises made so far and some more.
    pub(super) fn standby_bytes(&self) -> u64 {
        HEADER as u64 + 2 * self.promised
    }

    /// Sees to it that `bytes` fit beside the promises, of which `released` fall away; turns to the standby for it.
    fn make_room(&mut self, bytes: u64, released: u64) -> Result<(), Needs> {
        let promised = self.promised - released;
        if self.end + promised + bytes <= self.size {
            return Ok(());
        }
        let least = HEADER as u64 + promised + bytes;
        match self.standby.take_if(|standby| least <= standby.bytes) {
            Some(standby) => {
                if let Some(book) = self.books.back_mut() {
                    book.bytes = self.end;
                }
                self.end = HEADER as u64;
                self.size = standby.bytes;
                self.wants_standby = true;
                // A segment that was too small for its first record is replaced, under the same name.
                let next = self.next_seq;
                self.books.pop_back_if(|book| book.first_seq == next);
                self.books.push_back(Book::new(self.next_seq, standby.bytes));
                self.turns.push(Turn { at: self.pending.len(), first_seq: self.next_seq, standby });
                Ok(())
            }
            // Twice the promises, so that a crowd of open requests does not turn to a new segment with each record.
            None => Err(Needs(least + promised)),
        }
    }

    /// Room has been made.
    fn append(&mut self, kind: Kind, key: u64, parts: &[&[u8]]) -> u64 {
        let (seq, before) = (self.next_seq, self.pending.len());
        encode(&mut self.pending, seq, kind, key, parts);
        self.next_seq += 1;
        self.end += (self.pending.len() - before) as u64;
        debug_assert!(self.end <= self.size, "no record without room");
        seq
    }

    /// The book of the segment that `seq` is in.
    fn book(&mut self, seq: u64) -> &mut Book {
        let after = self.books.partition_point(|book| book.first_seq <= seq);
        &mut self.books[after.saturating_sub(1)]
    }
}

/// An open request as replay found it.
pub(super) struct Adopted<'a> {
    pub(super) home: u64,
    pub(super) open: &'a [u8],
    pub(super) progress: Option<&'a [u8]>,
    pub(super) sent: bool,
    pub(super) sent_before: bool,
}

pub(super) struct Counts {
    pub(super) segments: usize,
    pub(super) open: usize,
    pub(super) unapplied: usize,
    pub(super) free: u64,
    pub(super) promised: u64,
}

fn carried(request: &Request) -> Carried<'_> {
    Carried {
        sent: request.sent.is_some(),
        sent_before: request.sent_before,
        open: &request.open,
        progress: request.progress.as_deref(),
    }
}
