//! One record on disk: `len u32 | crc32c u32 | seq u64 | kind u8 | request u64 | body`, little endian. `len` counts what
//! stands after the checksum, which covers just that.

/// Bytes of a record before its body.
pub(super) const FRAME_HEADER: usize = 25;
/// `len` and the checksum: what `len` does not count.
const PREFIX: usize = 8;
/// No record is longer than this with everything around it.
pub const MAX_FRAME: usize = 64 * 1024;
/// The longest body of a CLOSE.
pub const MAX_CLOSE_BODY: usize = MAX_FRAME - FRAME_HEADER;
/// The longest body of an OPEN or a PROGRESS: one of each fits into one carried record.
pub const MAX_OPEN_BODY: usize = (MAX_FRAME - FRAME_HEADER - CARRIED_HEADER) / 2;
/// Bytes of a carried record's body before the two bodies in it.
pub(super) const CARRIED_HEADER: usize = 5;

/// What a record says. `body` is opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request is about to be tried; a further one of the same request is its next attempt.
    Open,
    /// Its first byte may have left. No body.
    Sent,
    /// How far it has come.
    Progress,
    /// It has ended. An empty body says that there is nothing to apply.
    Close,
    /// An open request's whole state, written again so that old segments can go. Journals write it for themselves.
    Carried,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Sent => 2,
            Self::Progress => 3,
            Self::Close => 4,
            Self::Carried => 5,
        }
    }

    /// `None` for a kind that this version does not know.
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Open,
            2 => Self::Sent,
            3 => Self::Progress,
            4 => Self::Close,
            5 => Self::Carried,
            _ => return None,
        })
    }
}

/// A record as it lies in a buffer. The checksum is right; whether it belongs there is the reader's to say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) seq: u64,
    /// As on disk: perhaps of a later version.
    pub(super) kind: u8,
    pub(super) request: u64,
    pub(super) body: &'a [u8],
}

/// Bytes on disk of a record with so long a body.
pub(super) const fn frame_bytes(body: usize) -> u64 {
    (FRAME_HEADER + body) as u64
}

/// Appends a record whose body is made of `parts`. The caller has checked that it is no longer than [`MAX_FRAME`].
pub(super) fn encode(into: &mut Vec<u8>, seq: u64, kind: Kind, request: u64, parts: &[&[u8]]) {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let start = into.len();
    into.reserve(FRAME_HEADER + body);
    let len =
        u32::try_from(FRAME_HEADER - PREFIX + body).expect("at most `MAX_FRAME`, which the caller checked");
    into.extend_from_slice(&len.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&seq.to_le_bytes());
    into.push(kind.byte());
    into.extend_from_slice(&request.to_le_bytes());
    for part in parts {
        into.extend_from_slice(part);
    }
    let crc = crc32c::crc32c(&into[start + PREFIX..]);
    into[start + 4..start + PREFIX].copy_from_slice(&crc.to_le_bytes());
}

/// Why there is no record at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// A length of zero, or nothing at all: what was preallocated begins here.
    Blank,
    /// The length cannot be one, the bytes end before the record does, or its checksum is wrong.
    Bad,
}

/// The length of the record that `bytes` begin with, if it can be one.
pub(super) fn claimed_len(bytes: &[u8]) -> Result<usize, NoFrame> {
    let len = match bytes.first_chunk::<4>() {
        Some(len) => u32::from_le_bytes(*len) as usize,
        None if bytes.iter().all(|byte| *byte == 0) => return Err(NoFrame::Blank),
        None => return Err(NoFrame::Bad),
    };
    match len {
        0 => Err(NoFrame::Blank),
        len if (FRAME_HEADER - PREFIX..=MAX_FRAME - PREFIX).contains(&len) => Ok(PREFIX + len),
        _ => Err(NoFrame::Bad),
    }
}

/// The sequence that the record at the start of `bytes` claims, before its checksum was looked at.
pub(super) fn claimed_seq(bytes: &[u8]) -> Option<u64> {
    bytes.get(PREFIX..)?.first_chunk::<8>().map(|seq| u64::from_le_bytes(*seq))
}

/// Reads the record that `bytes` begin with, and its length.
pub(super) fn decode(bytes: &[u8]) -> Result<(Frame<'_>, usize), NoFrame> {
    let len = claimed_len(bytes)?;
    let whole = bytes.get(..len).ok_or(NoFrame::Bad)?;
    let (crc, checked) = (&whole[4..PREFIX], &whole[PREFIX..]);
    if crc32c::crc32c(checked).to_le_bytes() != *crc {
        return Err(NoFrame::Bad);
    }
    let number = |at: usize| {
        u64::from_le_bytes(*checked[at..].first_chunk().expect("a record is at least as long as its header"))
    };
    Ok((Frame { seq: number(0), kind: checked[8], request: number(9), body: &checked[17..] }, len))
}

/// The state of an open request as a carried record holds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried<'a> {
    pub(super) sent: bool,
    pub(super) sent_before: bool,
    pub(super) open: &'a [u8],
    pub(super) progress: Option<&'a [u8]>,
}

impl<'a> Carried<'a> {
    /// Bytes that stand before the two bodies.
    pub(super) fn header(&self) -> [u8; CARRIED_HEADER] {
        let flags =
            u8::from(self.sent) | u8::from(self.sent_before) << 1 | u8::from(self.progress.is_some()) << 2;
        let len = u32::try_from(self.open.len()).expect("at most `MAX_OPEN_BODY`");
        let [a, b, c, d] = len.to_le_bytes();
        [flags, a, b, c, d]
    }

    pub(super) fn body_len(&self) -> usize {
        CARRIED_HEADER + self.open.len() + self.progress.map_or(0, <[u8]>::len)
    }

    /// `None` when `body` is none.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let (&[flags, a, b, c, d], rest) = body.split_first_chunk::<CARRIED_HEADER>()?;
        let (open, progress) = rest.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)?;
        let has_progress = flags & 4 != 0;
        (flags < 8 && (has_progress || progress.is_empty())).then_some(Self {
            sent: flags & 1 != 0,
            sent_before: flags & 2 != 0,
            open,
            progress: has_progress.then_some(progress),
        })
    }
}
