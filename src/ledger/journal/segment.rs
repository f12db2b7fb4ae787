//! Segment files: their header, their names, and every effect on the directory they live in.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::{
    error::JournalError,
    faults::{Faults, effect, killed},
};

const MAGIC: [u8; 8] = *b"KSTLJRNL";
const VERSION: u32 = 1;
/// Bytes of a segment before its first record.
pub(super) const HEADER: usize = 72;
/// What ends the name of a segment that replay reads.
const SEGMENT: &str = ".seg";
/// What an operator appends to the name of a segment that cannot be read.
const ASIDE: &str = ".seg.aside";
const STANDBY: &str = "standby-";
const LOCK: &str = "lock";

/// Which journal a segment belongs to: random, made with the first segment, shown as hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct JournalId([u8; 16]);

impl JournalId {
    /// Its bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    pub(super) fn generate() -> io::Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        Ok(Self(id))
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JournalId({self})")
    }
}

/// Which start of the machine a segment was written in; zeros where the system does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boot(pub(super) [u8; 16]);

impl Boot {
    pub(super) fn current() -> Self {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self(uuid::Uuid::parse_str(text.trim()).map_or([0; 16], uuid::Uuid::into_bytes))
    }

    /// Whether the machine has certainly been started again since `self`.
    pub(super) fn is_over(self, now: Self) -> bool {
        self.0 != [0; 16] && now.0 != [0; 16] && self != now
    }
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) journal: JournalId,
    /// Of its first record.
    pub(super) first_seq: u64,
    /// The last record before it. Mostly `first_seq - 1`; a start skips what was cut and is known to the database.
    pub(super) follows: u64,
    /// Every record up to here was synced when the segment was begun: none of them can be missing innocently.
    pub(super) synced: u64,
    pub(super) boot: Boot,
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Too short, or nothing but zeros.
    Blank,
    /// Something else stands there.
    Bad,
    /// A header of a format that this version does not know.
    OtherVersion,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.journal.0);
        bytes[28..36].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.follows.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.synced.to_le_bytes());
        bytes[52..68].copy_from_slice(&self.boot.0);
        let crc = crc32c::crc32c(&bytes[..68]);
        bytes[68..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoHeader> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else { return Err(NoHeader::Blank) };
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(NoHeader::Blank);
        }
        if bytes[..8] != MAGIC {
            return Err(NoHeader::Bad);
        }
        if bytes[8..12] != VERSION.to_le_bytes() {
            return Err(NoHeader::OtherVersion);
        }
        if bytes[68..] != crc32c::crc32c(&bytes[..68]).to_le_bytes() {
            return Err(NoHeader::Bad);
        }
        let number = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"));
        let id = |at: usize| *bytes[at..].first_chunk::<16>().expect("inside the header");
        Ok(Self {
            journal: JournalId(id(12)),
            first_seq: number(28),
            follows: number(36),
            synced: number(44),
            boot: Boot(id(52)),
        })
    }
}

/// A segment whose room is allocated and which has no name for replay yet.
pub(super) struct Standby {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// What lies in the directory, by name.
#[derive(Default)]
pub(super) struct Listing {
    /// Segments by the first sequence in their name, in its order.
    pub(super) segments: Vec<(u64, PathBuf)>,
    /// Segments that an operator has moved aside, likewise.
    pub(super) aside: Vec<u64>,
    /// Segments that were never begun.
    pub(super) standby: Vec<PathBuf>,
}

/// The journal's directory, held against other processes.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) faults: Faults,
    handle: File,
    standbys: AtomicU64,
}

impl Directory {
    /// Makes the directory if need be, keeps others' eyes out of it, and locks it: the file is the lock.
    pub(super) fn hold(path: &Path, faults: Faults) -> Result<(Self, File), JournalError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
            .map_err(JournalError::io("make the journal's directory", path))?;
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(JournalError::io("open", path.join(LOCK)))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(JournalError::io("lock", path.join(LOCK))(error)),
        }
        let handle = File::open(path).map_err(JournalError::io("open", path))?;
        Ok((Self { path: path.to_owned(), faults, handle, standbys: AtomicU64::new(0) }, lock))
    }

    /// Makes a segment with room for `bytes`. What could not be finished is removed again.
    pub(super) fn make_standby(&self, bytes: u64) -> Result<Standby, JournalError> {
        let number = self.standbys.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{STANDBY}{number}.tmp"));
        let made = self.faults.ask(effect::CREATE).and_then(|()| {
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)
        });
        let file = made.map_err(JournalError::io("create", &path))?;
        let mut standby = Standby { file, path, bytes: 0 };
        match self.grow(&mut standby, bytes) {
            Ok(()) => Ok(standby),
            Err(error) => {
                // It would only take the room that is missing; if it stays, the next start removes it.
                let _ = self.remove(&standby.path);
                Err(error)
            }
        }
    }

    /// Gives a standby segment room for `bytes` in all.
    pub(super) fn grow(&self, standby: &mut Standby, bytes: u64) -> Result<(), JournalError> {
        let allocated =
            self.faults.ask(effect::ALLOCATE).and_then(|()| allocate(&standby.file, standby.bytes, bytes));
        allocated.map_err(JournalError::io("allocate room in", &standby.path))?;
        standby.bytes = standby.bytes.max(bytes);
        Ok(())
    }

    /// Writes the header and gives the segment its name. The header is there before the name is.
    pub(super) fn begin(&self, standby: &Standby, header: &Header) -> Result<PathBuf, JournalError> {
        self.write_at(&standby.file, &header.encode(), 0)
            .map_err(JournalError::io("write", &standby.path))?;
        let path = self.segment(header.first_seq);
        self.faults
            .ask(effect::RENAME)
            .and_then(|()| fs::rename(&standby.path, &path))
            .map_err(JournalError::io("rename", &standby.path))?;
        Ok(path)
    }

    pub(super) fn segment(&self, first_seq: u64) -> PathBuf {
        self.path.join(format!("{first_seq:020}{SEGMENT}"))
    }

    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let happens = self.faults.ask_write(bytes.len())?;
        file.write_all_at(&bytes[..happens], offset)?;
        if happens < bytes.len() { Err(killed()) } else { Ok(()) }
    }

    pub(super) fn sync_file(&self, file: &File, path: &Path) -> Result<(), JournalError> {
        self.faults.ask(effect::SYNC).and_then(|()| file.sync_data()).map_err(JournalError::io("sync", path))
    }

    pub(super) fn sync_names(&self) -> Result<(), JournalError> {
        self.faults
            .ask(effect::SYNC)
            .and_then(|()| self.handle.sync_all())
            .map_err(JournalError::io("sync", &self.path))
    }

    pub(super) fn remove(&self, path: &Path) -> Result<(), JournalError> {
        self.faults
            .ask(effect::REMOVE)
            .and_then(|()| fs::remove_file(path))
            .map_err(JournalError::io("remove", path))
    }

    /// Leaves `bytes` of a segment.
    pub(super) fn trim(&self, file: &File, path: &Path, bytes: u64) -> Result<(), JournalError> {
        self.faults
            .ask(effect::TRUNCATE)
            .and_then(|()| file.set_len(bytes))
            .map_err(JournalError::io("truncate", path))
    }

    /// Leaves `bytes` of a segment, on disk when it returns.
    pub(super) fn cut(&self, path: &Path, bytes: u64) -> Result<(), JournalError> {
        let file =
            OpenOptions::new().write(true).open(path).map_err(JournalError::io("open for writing", path))?;
        self.trim(&file, path, bytes)?;
        self.faults.ask(effect::SYNC).and_then(|()| file.sync_all()).map_err(JournalError::io("sync", path))
    }
}

/// Reads the names in the directory. What is no name of ours is not looked at.
pub(super) fn list(path: &Path) -> Result<Listing, JournalError> {
    let mut listing = Listing::default();
    let failed = || JournalError::io("list", path);
    for entry in fs::read_dir(path).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = |end| name.strip_suffix(end).filter(|digits| digits.len() == 20)?.parse::<u64>().ok();
        if let Some(first) = number(SEGMENT) {
            listing.segments.push((first, entry.path()));
        } else if let Some(first) = number(ASIDE) {
            listing.aside.push(first);
        } else if name.starts_with(STANDBY) {
            listing.standby.push(entry.path());
        }
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    let more = to.saturating_sub(from);
    if more == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), from, more) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, from, to),
        Err(errno) => Err(errno.into()),
    }
}

/// For file systems that cannot promise room: it is taken by writing.
pub(super) fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 32 * 1024] = [0; 32 * 1024];
    let mut at = from;
    while at < to {
        let some = usize::try_from(to - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        file.write_all_at(&ZEROS[..some], at)?;
        at += some as u64;
    }
    Ok(())
}
