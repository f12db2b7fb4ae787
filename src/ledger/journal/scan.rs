//! Reading one segment: in bounded memory, in linear time, whatever stands in it.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    error::JournalError,
    frame::{Frame, Kind, MAX_FRAME, NoFrame, claimed_len, claimed_seq, decode},
    segment::{HEADER, Header, NoHeader},
};

/// Bytes read at a time.
const WINDOW: usize = 1024 * 1024;

/// A file, seen through a window that moves forward.
pub(super) struct Window {
    file: File,
    path: PathBuf,
    len: u64,
    buffer: Vec<u8>,
    at: u64,
}

impl Window {
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let file = File::open(path).map_err(JournalError::io("open", path))?;
        let len = file.metadata().map_err(JournalError::io("read", path))?.len();
        Ok(Self { file, path: path.to_owned(), len, buffer: Vec::new(), at: 0 })
    }

    /// The bytes from `at`: at least [`MAX_FRAME`] of them, or all up to the end of the file.
    pub(super) fn from(&mut self, at: u64) -> Result<&[u8], JournalError> {
        let end = self.at + self.buffer.len() as u64;
        let enough = at >= self.at && (at + MAX_FRAME as u64 <= end || (at <= end && end == self.len));
        if !enough {
            self.fill(at).map_err(JournalError::io("read", &self.path))?;
        }
        let skip = usize::try_from(at - self.at).unwrap_or(usize::MAX);
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }

    fn fill(&mut self, at: u64) -> io::Result<()> {
        let want = usize::try_from(self.len.saturating_sub(at)).unwrap_or(WINDOW).min(WINDOW);
        self.buffer.resize(want, 0);
        self.at = at;
        let mut filled = 0;
        while filled < want {
            match self.file.read_at(&mut self.buffer[filled..], at + filled as u64) {
                // The file has become shorter under our eyes.
                Ok(0) => {
                    self.len = at + filled as u64;
                    break;
                }
                Ok(some) => filled += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }

    /// Where the last byte from `at` on ends that is not zero.
    fn last_written(&mut self, mut at: u64) -> Result<Option<u64>, JournalError> {
        let mut last = None;
        while at < self.len {
            let bytes = self.from(at)?;
            if bytes.is_empty() {
                break;
            }
            let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
            let (len, used) = (bytes.len() as u64, (bytes.len() - zeros) as u64);
            if used > 0 {
                last = Some(at + used);
            }
            at += len;
        }
        Ok(last)
    }

    /// Whether a record with a sequence after `last` begins anywhere after `at`. What would take too long to look at
    /// counts as one: it is no torn tail.
    fn has_later_frame(&mut self, at: u64, last: u64) -> Result<bool, JournalError> {
        let len = self.len;
        let left = len.saturating_sub(at);
        let plausible = last..=last.saturating_add(left / super::frame::FRAME_HEADER as u64 + 1);
        let mut budget = 8 * left + WINDOW as u64;
        let mut from = at + 1;
        while from < len {
            let bytes = self.from(from)?;
            // Of each start looked at here, the longest possible record lies in the window, or the file ends.
            let starts = (bytes.len() + 1).saturating_sub(MAX_FRAME);
            let starts = if from + bytes.len() as u64 >= len { bytes.len() } else { starts };
            for start in 0..starts {
                let bytes = &bytes[start..];
                let Ok(claimed) = claimed_len(bytes) else { continue };
                if claimed_seq(bytes).is_none_or(|seq| seq == last || !plausible.contains(&seq)) {
                    continue;
                }
                budget = budget.saturating_sub(claimed as u64);
                if budget == 0 || decode(bytes).is_ok() {
                    return Ok(true);
                }
            }
            from += starts.max(1) as u64;
        }
        Ok(false)
    }
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With the last record, or with the zeros that were allocated after it.
    Clean,
    /// With something that is no record, or not the next one.
    Broken {
        what: &'static str,
        /// Where the file's last byte ends that is not zero.
        written: u64,
        /// Whether records with a higher sequence follow.
        later: bool,
    },
}

/// A segment that was read.
pub(super) struct Scanned {
    /// The last sequence read; the one before the first if there was none.
    pub(super) last: u64,
    /// Where the last record ends.
    pub(super) end: u64,
    /// Bytes of the file.
    pub(super) len: u64,
    pub(super) ending: Ending,
}

/// Reads a segment's header alone.
pub(super) fn header(window: &mut Window) -> Result<Result<Header, NoHeader>, JournalError> {
    let bytes = window.from(0)?;
    let header = Header::decode(bytes);
    if header == Err(NoHeader::Blank) && window.last_written(0)?.is_some_and(|end| end > HEADER as u64) {
        return Ok(Err(NoHeader::Bad));
    }
    Ok(header)
}

/// Where a file's last byte ends that is not zero.
pub(super) fn written(window: &mut Window) -> Result<u64, JournalError> {
    Ok(window.last_written(0)?.unwrap_or(0))
}

/// Reads the records of a segment, each with its place.
pub(super) fn records(
    window: &mut Window,
    first_seq: u64,
    mut each: impl FnMut(Kind, Frame<'_>, u64) -> Result<(), JournalError>,
) -> Result<Scanned, JournalError> {
    let (mut end, mut next) = (HEADER as u64, first_seq);
    let what = loop {
        match decode(window.from(end)?) {
            Ok((frame, len)) if frame.seq == next => {
                let Some(kind) = Kind::from_byte(frame.kind) else {
                    return Err(JournalError::OtherVersion { path: window.path.clone(), offset: end });
                };
                each(kind, frame, end)?;
                end += len as u64;
                next += 1;
            }
            Ok(_) => break "a record is missing before this one",
            Err(NoFrame::Bad) => break "no record can be read here",
            Err(NoFrame::Blank) => break "something stands behind the last record",
        }
    };
    let ending = match window.last_written(end)? {
        None => Ending::Clean,
        Some(written) => Ending::Broken {
            what,
            written,
            // The place itself may hold a valid record out of order, so the search begins before it.
            later: window.has_later_frame(end - 1, next - 1)?,
        },
    };
    Ok(Scanned { last: next - 1, end, len: window.len, ending })
}
