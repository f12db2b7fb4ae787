use std::sync::atomic::AtomicBool;

use super::*;

#[test]
fn a_write_that_fails_breaks_the_journal_and_keeps_what_was_written() {
    let dir = directory();
    let fails = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fails);
    let faults = Faults::new(Arc::new(move |what| {
        let fails = what == effect::WRITE && flag.load(Ordering::SeqCst);
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }));
    let (journal, _) = open(dir.path(), &faults);
    let (one, two) =
        (journal.open_attempt(b"one").expect("room"), journal.open_attempt(b"two").expect("room"));
    journal.sent(&one).expect("written");
    fails.store(true, Ordering::SeqCst);
    let error = journal.close(one, b"lost").expect_err("not written");
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    assert!(journal.stats().broken);
    // The disk is well again, but nobody knows what is on it.
    fails.store(false, Ordering::SeqCst);
    assert!(matches!(journal.open_attempt(b"three"), Err(JournalError::Broken)));
    assert!(matches!(journal.sent(&two), Err(JournalError::Broken)));
    assert!(matches!(journal.close(two, b"lost"), Err(JournalError::Broken)));
    assert!(matches!(journal.shut_down(), Err(JournalError::Broken)));
    drop(journal);
    let found = look(dir.path());
    assert_eq!(found.open[&1], Seen { sent: true, ..seen(b"one") });
    assert_eq!(found.open[&2], seen(b"two"));
}

#[test]
fn an_open_makes_no_effect_while_a_segment_is_in_reserve() {
    let dir = directory();
    let (faults, count) = counted(|_, _| Fate::Happens);
    let (journal, _) = open(dir.path(), &faults);
    let first = journal.open_attempt(b"first").expect("room");
    for segments in 2..5 {
        journal.keep_once();
        let before = count.load(Ordering::SeqCst);
        while journal.stats().segments < segments {
            journal.discard(journal.open_attempt(b"open").expect("room"));
            assert_eq!(count.load(Ordering::SeqCst), before);
        }
    }
    // The last turn is in the middle of what is pending.
    journal.sent(&first).expect("written");
    die(&faults, journal, [first]);
    assert_eq!(
        look(dir.path()).open.into_values().collect::<Vec<_>>(),
        [Seen { sent: true, ..seen(b"first") }]
    );
}

#[test]
fn one_write_takes_everything_that_is_pending() {
    let dir = directory();
    let (journal, _) = open(dir.path(), &mortal());
    let first = journal.open_attempt(b"first").expect("room");
    let second = journal.open_attempt(b"second").expect("room");
    assert_eq!(journal.stats().writes, 0);
    journal.progress(&first, b"far");
    let seq = journal.sent(&second).expect("written");
    assert_eq!((journal.stats().writes, journal.stats().records), (1, 4));
    assert_eq!(journal.sent(&second).expect("again"), seq);
    assert_eq!((journal.stats().writes, journal.stats().records), (1, 4), "SENT is written once an attempt");
}

#[test]
fn a_failing_removal_leaves_the_segment_for_later() {
    let dir = directory();
    let fails = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&fails);
    let faults = Faults::new(Arc::new(move |what| {
        let fails = what == effect::REMOVE && flag.load(Ordering::SeqCst);
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }));
    let (journal, _) = open(dir.path(), &faults);
    while journal.stats().segments < 3 {
        let ticket = journal.open_attempt(b"open").expect("room");
        journal.applied(&[journal.close(ticket, &[b'c'; 200]).expect("written")]);
    }
    journal.keep_once();
    assert_eq!(segments(dir.path()).len(), 3);
    assert!(!journal.stats().broken);
    fails.store(false, Ordering::SeqCst);
    journal.keep_once();
    assert_eq!(segments(dir.path()).len(), 1);
}

#[test]
fn where_room_cannot_be_promised_it_is_taken_by_writing() {
    let dir = directory();
    let path = dir.path().join("segment");
    let file = fs::OpenOptions::new().create_new(true).write(true).open(&path).expect("made");
    segment::write_zeros(&file, 0, 40_000).expect("written");
    segment::write_zeros(&file, 40_000, 100_001).expect("written");
    assert_eq!(fs::read(&path).expect("a file"), vec![0; 100_001]);
}
