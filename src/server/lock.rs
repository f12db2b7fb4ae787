//! One `serve` at a time on a data directory and on a SQLite file. The kernel holds the locks and lets go of them
//! however the process ends, so a crash leaves nothing to clean up. Other commands do not lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a lock that is held is tried again: a command that asks whether anybody holds it has it for an instant.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Held as long as the value lives.
#[derive(Debug)]
pub struct InstanceLock {
    _files: Vec<File>,
}

/// Why a lock was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another instance has it.
    #[error(
        "`{}` is held by another instance ({holder}); stop it, or give this one its own `--data-dir` and database",
        path.display()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the other one wrote about itself.
        holder: String,
    },
    /// The directory or the lock file cannot be used.
    #[error("cannot lock `{}`; check that the directory exists and can be written", path.display())]
    Unusable {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl InstanceLock {
    /// Makes the data directory when it is missing (for its owner alone), and locks it and, when the database is a
    /// SQLite file, that file's neighbour `….lock`: two data directories may name one database.
    pub fn take(data_dir: &Path, database_file: Option<&Path>) -> Result<Self, LockError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Unusable { path, source }
        };
        if !data_dir.is_dir() {
            let mut builder = DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(data_dir).map_err(unusable(data_dir))?;
        }
        let mut files = vec![lock(&data_dir.join("keystile.lock"))?];
        if let Some(database) = database_file {
            // By its real name: a link to the same database must meet the same lock.
            let real = real_path(database).map_err(unusable(database))?;
            files.push(lock(&neighbour(real))?);
        }
        Ok(Self { _files: files })
    }

    /// Whether somebody holds the data directory, or the SQLite file, now. Takes nothing: whoever starts in this very
    /// moment gets its lock at the second try.
    pub fn is_held(data_dir: &Path, database_file: Option<&Path>) -> bool {
        let mut locks = vec![data_dir.join("keystile.lock")];
        locks.extend(database_file.and_then(|database| real_path(database).ok()).map(neighbour));
        locks.into_iter().any(|path| match File::open(path) {
            Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        })
    }
}

/// The lock file of a database.
fn neighbour(database: PathBuf) -> PathBuf {
    let mut name = database.into_os_string();
    name.push(".lock");
    name.into()
}

/// The path without links; the file itself may not exist yet.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    if path.exists() {
        return path.canonicalize();
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(parent.canonicalize()?.join(name))
}

fn lock(path: &Path) -> Result<File, LockError> {
    let unusable = |source| LockError::Unusable { path: path.to_owned(), source };
    // Never truncated before it is ours: it says who holds it.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(unusable)?;
    let mut taken = file.try_lock();
    for _ in 0..TRIES {
        if !matches!(taken, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(TRY_AGAIN);
        taken = file.try_lock();
    }
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            (&file).take(200).read_to_string(&mut holder).ok();
            let holder = match holder.trim() {
                "" => "which did not say who it is".to_owned(),
                said => said.to_owned(),
            };
            return Err(LockError::Held { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    file.set_len(0).and_then(|()| file.write_all(introduction().as_bytes())).map_err(unusable)?;
    Ok(file)
}

/// Process and machine. In containers the process is often 1, and only the machine tells two of them apart.
fn introduction() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => format!("process {}", std::process::id()),
        host => format!("process {} on {host}", std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_instance_is_told_who_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("new").join("data");
        let first = InstanceLock::take(&data, None).unwrap();
        let error = InstanceLock::take(&data, None).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("keystile.lock") && error.contains("--data-dir"), "{error}");
        drop(first);
        InstanceLock::take(&data, None).unwrap();
    }

    #[test]
    fn whoever_asks_whether_it_is_held_keeps_nobody_out() {
        let directory = tempfile::tempdir().unwrap();
        let (data, database) = (directory.path().join("data"), directory.path().join("keystile.db"));
        assert!(!InstanceLock::is_held(&data, Some(&database)), "nobody was ever there");
        let held = InstanceLock::take(&data, Some(&database)).unwrap();
        assert!(InstanceLock::is_held(&data, None));
        assert!(InstanceLock::is_held(&directory.path().join("other"), Some(&database)));
        drop(held);
        let asks = std::thread::spawn({
            let data = data.clone();
            move || (0..2_000).filter(|_| InstanceLock::is_held(&data, None)).count()
        });
        for _ in 0..200 {
            drop(InstanceLock::take(&data, Some(&database)).unwrap());
        }
        asks.join().unwrap();
        assert!(!InstanceLock::is_held(&data, Some(&database)));
    }

    #[test]
    fn two_data_directories_cannot_share_a_database_even_by_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("keystile.db");
        let _first = InstanceLock::take(&directory.path().join("a"), Some(&database)).unwrap();
        fs::write(&database, "").unwrap();
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&database, &link).unwrap();
        let error = InstanceLock::take(&directory.path().join("b"), Some(&link)).unwrap_err();
        assert!(matches!(error, LockError::Held { .. }), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = InstanceLock::take(Path::new("/proc/nowhere"), None).unwrap_err().to_string();
        assert!(error.starts_with("cannot lock `/proc/nowhere`"), "{error}");
    }
}
