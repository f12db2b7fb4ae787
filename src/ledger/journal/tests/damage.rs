use std::{
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::ledger::journal::{
    frame::encode,
    segment::{HEADER, Header},
};

/// Three segments of closes, written in one go by a process that was killed.
fn three_segments(dir: &Path) -> Vec<PathBuf> {
    let faults = mortal();
    let (journal, _) = open(dir, &faults);
    while journal.stats().segments < 3 {
        let ticket = journal.open_attempt(b"open").expect("room");
        journal.close(ticket, &[b'c'; 100]).expect("written");
    }
    // More than one record in the last one, too.
    let ticket = journal.open_attempt(b"open").expect("room");
    journal.close(ticket, b"last").expect("written");
    die(&faults, journal, []);
    segments(dir)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a segment");
    bytes[at] ^= 0x40;
    fs::write(path, bytes).expect("written");
}

fn refusal(dir: &Path, boot: Boot) -> (PathBuf, u64) {
    match look_in(dir, boot).expect_err("refused") {
        JournalError::Damaged { path, offset, .. } => (path, offset),
        other => panic!("{other}"),
    }
}

#[test]
fn damage_before_the_tail_refuses_with_file_offset_and_a_way_out() {
    let dir = directory();
    let files = three_segments(dir.path());
    flip(&files[0], HEADER + 20);
    assert_eq!(refusal(dir.path(), BOOT), (files[0].clone(), HEADER as u64));
    let text = look_in(dir.path(), BOOT).expect_err("refused").to_string();
    assert!(text.contains("byte 72") && text.contains(".aside") && text.contains("operator"), "{text}");
    // The way out: everything but what was in that file.
    let aside = files[0].with_extension("seg.aside");
    fs::rename(&files[0], &aside).expect("renamed");
    let found = look(dir.path());
    assert_eq!(found.closes.values().last().map(Vec::as_slice), Some(&b"last"[..]));
    assert!(aside.exists());
}

#[test]
fn a_segment_in_the_middle_may_be_missing_only_if_it_stands_aside() {
    let dir = directory();
    let files = three_segments(dir.path());
    let aside = files[1].with_extension("seg.aside");
    fs::rename(&files[1], &aside).expect("renamed");
    look(dir.path());
    fs::remove_file(&aside).expect("removed");
    let dir = directory();
    let files = three_segments(dir.path());
    fs::remove_file(&files[1]).expect("removed");
    assert_eq!(refusal(dir.path(), BOOT), (files[2].clone(), 0));
}

#[test]
fn a_foreign_segment_or_one_of_another_version_refuses() {
    let (dir, other) = (directory(), directory());
    let (files, others) = (three_segments(dir.path()), three_segments(other.path()));
    fs::copy(&others[1], &files[1]).expect("copied");
    assert_eq!(refusal(dir.path(), BOOT), (files[1].clone(), 0));

    let dir = directory();
    let files = three_segments(dir.path());
    fs::rename(&files[1], dir.path().join(format!("{:020}.seg", 9_999))).expect("renamed");
    assert_eq!(refusal(dir.path(), BOOT).1, 0);

    let dir = directory();
    let files = three_segments(dir.path());
    let mut bytes = fs::read(&files[0]).expect("a segment");
    bytes[8] = 2;
    fs::write(&files[0], &bytes).expect("written");
    assert!(matches!(look_in(dir.path(), BOOT), Err(JournalError::OtherVersion { offset: 0, .. })));
}

#[test]
fn a_kind_that_is_not_known_refuses() {
    let dir = directory();
    let faults = mortal();
    let (journal, _) = open(dir.path(), &faults);
    die(&faults, journal, []);
    let path = segments(dir.path()).remove(0);
    let mut record = Vec::new();
    encode(&mut record, 1, Kind::Open, 1, &[b"later"]);
    record[16] = 99;
    let crc = crc32c::crc32c(&record[8..]).to_le_bytes();
    record[4..8].copy_from_slice(&crc);
    let file = fs::OpenOptions::new().write(true).open(&path).expect("a segment");
    file.write_all_at(&record, HEADER as u64).expect("written");
    assert!(matches!(look_in(dir.path(), BOOT), Err(JournalError::OtherVersion { offset: 72, .. })));
}

#[test]
fn a_hole_in_the_last_segment_is_damage_unless_the_machine_was_started_again() {
    let dir = directory();
    let files = three_segments(dir.path());
    let bytes = fs::read(&files[2]).expect("a segment");
    let (_, first) = frame::decode(&bytes[HEADER..]).expect("a record");
    flip(&files[2], HEADER + first + 20);
    assert_eq!(refusal(copy(dir.path()).path(), BOOT).1, (HEADER + first) as u64);
    assert_eq!(refusal(copy(dir.path()).path(), Boot([0; 16])).1, (HEADER + first) as u64);

    let (found, cut) = look_in(dir.path(), NEXT_BOOT).expect("leftovers of a power loss");
    assert!(cut > 0 && !found.closes.values().any(|body| body == b"last"));
    assert_eq!(look_in(dir.path(), NEXT_BOOT).expect("cut"), (found, 0), "once");
}

#[test]
fn after_a_power_loss_what_was_synced_must_be_there_and_nothing_else() {
    // Nothing was synced since the start: a hole in an old segment takes the later ones with it.
    let dir = directory();
    let files = three_segments(dir.path());
    let bytes = fs::read(&files[1]).expect("a segment");
    fs::write(&files[1], &bytes[..HEADER]).expect("written");
    let (found, cut) = look_in(copy(dir.path()).path(), NEXT_BOOT).expect("leftovers of a power loss");
    assert!(cut > 0 && !found.closes.is_empty() && !found.closes.values().any(|body| body == b"last"));
    assert_eq!(refusal(dir.path(), BOOT), (files[2].clone(), 0), "the memory of the machine cannot lose it");

    // The keeper has synced the first two before the third was begun.
    let dir = directory();
    let faults = mortal();
    let (journal, _) = open(dir.path(), &faults);
    for index in 0.. {
        let ticket = journal.open_attempt(b"open").expect("room");
        journal.close(ticket, &[b'c'; 100]).expect("written");
        if index % 10 == 0 {
            journal.keep_once();
        }
        if journal.stats().segments == 4 {
            break;
        }
    }
    die(&faults, journal, []);
    let files = segments(dir.path());
    flip(&files[0], HEADER + 20);
    assert_eq!(refusal(dir.path(), NEXT_BOOT), (files[0].clone(), HEADER as u64));
}

#[test]
fn what_stands_behind_the_last_record_of_an_old_segment_is_damage() {
    let dir = directory();
    let files = three_segments(dir.path());
    let file = fs::OpenOptions::new().write(true).open(&files[0]).expect("a segment");
    file.write_all_at(&[1], file.metadata().expect("there").len() - 1).expect("written");
    assert_eq!(refusal(dir.path(), BOOT).0, files[0]);
}

fn write_segment(dir: &Path, records: &[u8]) {
    let journal = JournalId::generate().expect("random");
    let header = Header { journal, first_seq: 1, follows: 0, synced: 0, boot: BOOT };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(records);
    fs::write(dir.join(format!("{:020}.seg", 1)), bytes).expect("written");
}

#[test]
fn p21_a_tail_made_to_look_like_records_does_not_take_forever() {
    let dir = directory();
    // Every 17 bytes begins what could be a long record with a later sequence, and never is.
    let mut bytes = Vec::new();
    encode(&mut bytes, 1, Kind::Open, 1, &[b"open"]);
    while bytes.len() < 4 * 1024 * 1024 {
        bytes.extend_from_slice(&60_000_u32.to_le_bytes());
        bytes.extend_from_slice(&[1; 4]);
        bytes.extend_from_slice(&77_u64.to_le_bytes());
        bytes.push(1);
    }
    write_segment(dir.path(), &bytes);
    let start = Instant::now();
    assert_eq!(refusal(dir.path(), BOOT).1, HEADER as u64 + 29);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn p21_no_bytes_make_a_start_panic(bytes in vec(any::<u8>(), 0..3000), with_header in any::<bool>()) {
        let dir = directory();
        if with_header {
            write_segment(dir.path(), &bytes);
        } else {
            fs::write(dir.path().join(format!("{:020}.seg", 1)), &bytes).expect("written");
        }
        for boot in [BOOT, NEXT_BOOT] {
            if let Ok((found, _)) = look_in(dir.path(), boot) {
                prop_assert_eq!(found, State::default());
            }
        }
    }

    #[test]
    fn a_changed_byte_is_never_believed(at in HEADER..900_usize, to in any::<u8>()) {
        let dir = directory();
        let faults = mortal();
        let (journal, _) = open(dir.path(), &faults);
        for _ in 0..8 {
            let ticket = journal.open_attempt(&[b'o'; 20]).expect("room");
            journal.close(ticket, &[b'c'; 30]).expect("written");
        }
        die(&faults, journal, []);
        let path = segments(dir.path()).remove(0);
        let mut bytes = fs::read(&path).expect("a segment");
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        fs::write(&path, bytes).expect("written");
        // A changed record at the very end looks like a torn one; anywhere else it is seen.
        match look_in(dir.path(), BOOT) {
            Ok((found, cut)) => {
                prop_assert!(cut > 0);
                prop_assert!(found.closes.values().all(|body| body == &[b'c'; 30]));
                prop_assert!(found.closes.len() >= 7);
            }
            Err(error) => prop_assert!(matches!(error, JournalError::Damaged { .. }), "{}", error),
        }
    }
}
