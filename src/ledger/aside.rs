//! Charges that the database refuses for what they are: set aside, so that nothing waits for them.
//!
//! They stand in a file beside the journal's segments, one a line: the request's id, and what a CLOSE would hold, in hex.
//! A charge is in the file, and the file on the disk, before the journal may forget it. They are tried again now and then,
//! and count against their caps until they are in the database; a line goes when that has happened. A line that cannot be
//! read stays, and is counted.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{entry, journal::JournalError};
use crate::{domain::RequestId, store::Charge};

const FILE: &str = "refused";
const NEW: &str = "refused.new";
/// When there are more, something is wrong with the database, and not with a charge.
const MOST: usize = 10_000;

/// One charge that was refused.
pub(super) struct SetAside {
    pub(super) charge: Charge,
    /// Whether it was set aside by this process, and not before it.
    pub(super) here: bool,
}

/// All of them.
pub(super) struct Aside {
    dir: PathBuf,
    charges: Vec<SetAside>,
    unreadable: Vec<String>,
}

impl Aside {
    /// What the file beside the journal in `dir` has.
    pub(super) fn open(dir: &Path) -> Result<Self, JournalError> {
        let mut aside = Self { dir: dir.to_owned(), charges: Vec::new(), unreadable: Vec::new() };
        let text = match fs::read(aside.path()) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(aside),
            Err(error) => return Err(JournalError::io("read", aside.path())(error)),
        };
        for line in text.lines().filter(|line| !line.is_empty()) {
            match read(line) {
                Some(charge) => aside.charges.push(SetAside { charge, here: false }),
                None => aside.unreadable.push(line.to_owned()),
            }
        }
        if !aside.unreadable.is_empty() {
            tracing::error!(lines = aside.unreadable.len(), path = %aside.path().display(), "ledger.refused_unreadable");
        }
        Ok(aside)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// How many there are, those that cannot be read included.
    pub(super) fn len(&self) -> usize {
        self.charges.len() + self.unreadable.len()
    }

    /// Those that can be tried again.
    pub(super) fn charges(&self) -> &[SetAside] {
        &self.charges
    }

    /// Takes one more; it is on the disk when this returns. One that is here already is not taken twice.
    pub(super) fn add(&mut self, charge: &Charge, here: bool) -> Result<(), JournalError> {
        if self.charges.iter().any(|known| known.charge.record.request_id == charge.record.request_id) {
            return Ok(());
        }
        let path = self.path();
        let failed = JournalError::io("write", &path);
        if self.len() >= MOST {
            return Err(failed(io::Error::other("too many charges are refused")));
        }
        self.append(&line(charge)).map_err(failed)?;
        self.charges.push(SetAside { charge: charge.clone(), here });
        Ok(())
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path())?;
        let before = file.metadata()?.len();
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a line would spoil the next one.
            let _ = file.set_len(before);
        }
        written.and_then(|()| File::open(&self.dir)?.sync_all())
    }

    /// The first `count` go to the end, so that all have their turn.
    pub(super) fn turn(&mut self, count: usize) {
        let count = count.min(self.charges.len());
        self.charges.rotate_left(count);
    }

    /// These are in the database now.
    pub(super) fn remove(&mut self, done: &HashSet<RequestId>) -> Result<(), JournalError> {
        if done.is_empty() {
            return Ok(());
        }
        self.charges.retain(|known| !done.contains(&known.charge.record.request_id));
        // If this fails, they are tried again after a restart, and found in the database.
        self.rewrite().map_err(JournalError::io("write", self.path()))
    }

    fn rewrite(&self) -> io::Result<()> {
        let new = self.dir.join(NEW);
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        for known in &self.charges {
            file.write_all(line(&known.charge).as_bytes())?;
        }
        for line in &self.unreadable {
            file.write_all(format!("{line}\n").as_bytes())?;
        }
        file.sync_all()?;
        fs::rename(&new, self.path())?;
        File::open(&self.dir)?.sync_all()
    }
}

fn line(charge: &Charge) -> String {
    use std::fmt::Write;
    let mut text = format!("{} ", charge.record.request_id);
    for byte in entry::encode_charge(charge) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

fn read(line: &str) -> Option<Charge> {
    let (_, hex) = line.split_once(' ')?;
    let digits = hex.as_bytes();
    if digits.len() % 2 != 0 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect();
    entry::decode_charge(&bytes?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_read_stays_and_a_torn_line_spoils_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), "req_x 0102\nno line at all\n\nreq_y 0").expect("written");
        let mut aside = Aside::open(dir.path()).expect("readable");
        assert_eq!((aside.len(), aside.charges().len()), (3, 0));
        aside.rewrite().expect("written");
        assert_eq!(Aside::open(dir.path()).expect("readable").len(), 3);
        aside.turn(5);
        assert_eq!(aside.len(), 3);
    }

    proptest! {
        #[test]
        fn p21_no_bytes_make_a_reader_of_refused_charges_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(dir.path().join(FILE), &bytes).expect("written");
            let aside = Aside::open(dir.path()).expect("readable");
            prop_assert!(aside.charges().is_empty());
        }
    }
}
