//! What can go wrong with a journal, said to the operator.

use std::{io, path::PathBuf, sync::Arc};

/// Why the journal did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// Completes "cannot …".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another process holds the directory.
    #[error("the journal in `{}` is in use by another process; give each instance a directory of its own", .0.display())]
    InUse(PathBuf),
    /// A file does not say what was written into it.
    #[error(
        "`{}` is damaged at byte {offset}: {what}\nhint: restore the file, or rename it to end in `.aside`: what only \
         it knew stays counted as spent until an operator releases it",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The first byte that cannot be right.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A record of a kind, or a segment of a format, that this version does not know.
    #[error("`{}` was written by another version (byte {offset}); start the version that wrote it", path.display())]
    OtherVersion {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The disk is full. It heals by itself when there is space again.
    #[error("no room for a journal segment of {bytes} bytes; free some space where the journal is")]
    NoRoom {
        /// What was asked of the disk.
        bytes: u64,
    },
    /// A body is longer than a record may be.
    #[error("a journal record of {bytes} bytes is too long")]
    TooLong {
        /// Of the body.
        bytes: usize,
    },
    /// A write or a sync failed, so nobody knows what is on disk: nothing more is taken until a restart.
    #[error("the journal is broken and takes nothing more; look at the disk, then restart")]
    Broken,
    /// It was shut down, or the request is not its own.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub(in crate::ledger) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source: Arc::new(source) }
    }

    /// Whether the disk, or the share of it that is ours, is full.
    pub(super) fn is_no_space(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
            || matches!(self, Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
