//! Where a journal stands. A copy of a journal has its original's name; that it is a copy shows in the place.
//!
//! The place is a name in a file beside the segments, which holds for the directory whose number on its file system stands
//! with it. A directory that was copied has another number and gets another name; one that stays where it is, or whose
//! disk moves to another machine, keeps it. A file that is missing or unreadable makes a new name, which costs no more
//! than a wait: see [`Claim::Silent`](crate::store::Claim).

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use super::journal::JournalError;
use crate::domain::PlaceId;

const FILE: &str = "place";
const NEW: &str = "place.new";

/// The name of the place where the journal in `dir` stands; made if need be, and on the disk when this returns.
pub(super) fn place(dir: &Path) -> Result<PlaceId, JournalError> {
    let failed = |doing| JournalError::io(doing, dir.join(FILE));
    let number = fs::metadata(dir).map_err(failed("look at"))?.ino();
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => {
            if let Some(place) = read(&text, number) {
                return Ok(place);
            }
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {}
        Err(error) => return Err(failed("read")(error)),
    }
    let place = PlaceId::generate();
    write(dir, &format!("{number} {place}\n")).map_err(failed("write"))?;
    Ok(place)
}

fn read(text: &str, number: u64) -> Option<PlaceId> {
    let (of, place) = text.trim_end().split_once(' ')?;
    if of.parse() == Ok(number) { place.parse().ok() } else { None }
}

/// Whole or not at all, whatever dies meanwhile.
fn write(dir: &Path, text: &str) -> io::Result<()> {
    let new = dir.join(NEW);
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_place_and_a_copy_has_another() {
        let house = tempfile::tempdir().expect("a directory");
        let (here, there) = (house.path().join("here"), house.path().join("there"));
        for dir in [&here, &there] {
            fs::create_dir(dir).expect("a directory");
        }
        let first = place(&here).expect("a place");
        assert_eq!(place(&here).expect("a place"), first);
        fs::copy(here.join(FILE), there.join(FILE)).expect("copied");
        let second = place(&there).expect("a place");
        assert_ne!(second, first);
        assert_eq!(place(&there).expect("a place"), second);
        assert_eq!(place(&here).expect("a place"), first);
        let moved = house.path().join("moved");
        fs::rename(&here, &moved).expect("moved");
        assert_eq!(place(&moved).expect("a place"), first, "where it is mounted does not matter");
    }

    #[test]
    fn what_cannot_be_read_is_made_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = place(dir.path()).expect("a place");
        for broken in [&b""[..], b"1", b"1 plc_x", b"\xff\xfe", b"x y z"] {
            fs::write(dir.path().join(FILE), broken).expect("written");
            let made = place(dir.path()).expect("a place");
            assert_ne!(made, first);
            assert_eq!(place(dir.path()).expect("a place"), made);
        }
    }
}
