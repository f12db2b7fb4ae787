//! The test's hand on the disk: asked before every effect, so that the k-th can fail, tear, or be the last.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Everything that a journal does to the disk.
pub mod effect {
    /// A new segment's file is made, under a name that replay does not read.
    pub const CREATE: &str = "create";
    /// Its room is allocated.
    pub const ALLOCATE: &str = "allocate";
    /// A segment's header, or records, are written.
    pub const WRITE: &str = "write";
    /// A file or the directory is synced.
    pub const SYNC: &str = "sync";
    /// A new segment gets the name that replay reads.
    pub const RENAME: &str = "rename";
    /// A file is removed.
    pub const REMOVE: &str = "remove";
    /// A segment is cut where its records end.
    pub const TRUNCATE: &str = "truncate";
}

/// What becomes of an effect.
#[derive(Debug)]
pub enum Fate {
    /// It happens.
    Happens,
    /// It fails, and later ones happen again.
    Fails(io::Error),
    /// Of a write, only so many bytes reach the file, and then the process is dead.
    Tears(usize),
    /// The process dies before it: this effect and every later one fails.
    Kills,
}

type Hook = Arc<dyn Fn(&'static str) -> Fate + Send + Sync>;

/// Asked before every effect. In production there is nobody to ask, and the question is a look at a null pointer.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Hooked>>);

struct Hooked {
    hook: Hook,
    dead: AtomicBool,
}

impl Faults {
    /// Nothing is ever done to an effect.
    pub const fn none() -> Self {
        Self(None)
    }

    /// `hook` gets the name of each effect (see [`effect`]) and may make it fail.
    pub fn new(hook: Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>) -> Self {
        Self::fated(Arc::new(move |effect| hook(effect).map_or_else(Fate::Fails, |()| Fate::Happens)))
    }

    /// `hook` gets the name of each effect (see [`effect`]) and says what becomes of it.
    pub fn fated(hook: Arc<dyn Fn(&'static str) -> Fate + Send + Sync>) -> Self {
        Self(Some(Arc::new(Hooked { hook, dead: AtomicBool::new(false) })))
    }

    /// As if the process had been killed now.
    pub fn kill(&self) {
        if let Some(hooked) = &self.0 {
            hooked.dead.store(true, Ordering::SeqCst);
        }
    }

    /// Asks before an effect that happens or does not.
    pub(super) fn ask(&self, effect: &'static str) -> io::Result<()> {
        match self.fate(effect) {
            Fate::Happens => Ok(()),
            Fate::Fails(error) => Err(error),
            Fate::Tears(_) | Fate::Kills => Err(killed()),
        }
    }

    /// Asks before a write of `len` bytes: how many of them to write. Fewer than `len` means to die after it.
    pub(super) fn ask_write(&self, len: usize) -> io::Result<usize> {
        match self.fate(effect::WRITE) {
            Fate::Happens => Ok(len),
            Fate::Fails(error) => Err(error),
            Fate::Tears(bytes) => Ok(bytes.min(len)),
            Fate::Kills => Err(killed()),
        }
    }

    fn fate(&self, effect: &'static str) -> Fate {
        let Some(hooked) = &self.0 else { return Fate::Happens };
        if hooked.dead.load(Ordering::SeqCst) {
            return Fate::Kills;
        }
        let fate = (hooked.hook)(effect);
        if matches!(fate, Fate::Tears(_) | Fate::Kills) {
            hooked.dead.store(true, Ordering::SeqCst);
        }
        fate
    }
}

/// What an effect of the dead answers.
pub(super) fn killed() -> io::Error {
    io::Error::other("killed by a test")
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Faults(hooked)" } else { "Faults(none)" })
    }
}
