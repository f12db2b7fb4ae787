use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use super::*;

/// A disk that has no room for another segment while the flag is set.
fn filling() -> (Faults, Arc<AtomicBool>) {
    let is_full = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_full);
    let faults = Faults::new(Arc::new(move |what| {
        if what == effect::ALLOCATE && flag.load(Ordering::SeqCst) { Err(full()) } else { Ok(()) }
    }));
    (faults, is_full)
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_refuses_opens_and_has_room_for_everything_that_is_open() {
    let dir = directory();
    let (faults, is_full) = filling();
    let (journal, _) = open(dir.path(), &faults);
    is_full.store(true, Ordering::SeqCst);
    let mut tickets = Vec::new();
    let refused = loop {
        match journal.open_attempt(&[b'o'; 40]) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, JournalError::NoRoom { .. }), "{refused}");
    assert!(!tickets.is_empty() && !journal.stats().broken);
    for ticket in &tickets {
        journal.sent(ticket).expect("promised");
        journal.progress(ticket, &[b'p'; 40 + PROGRESS_MARGIN]);
    }
    assert_eq!(journal.stats().progress_lost, 0);
    (0..100).for_each(|_| journal.progress(&tickets[0], &[b'q'; 40 + PROGRESS_MARGIN]));
    let too_much = journal.stats().progress_lost;
    let bodies: Vec<_> =
        (0..tickets.len()).map(|index| vec![b'a' + index as u8; 40 + CLOSE_MARGIN]).collect();
    let closes: BTreeMap<u64, Vec<u8>> = tickets
        .into_iter()
        .zip(&bodies)
        .map(|(ticket, body)| (journal.close(ticket, body).expect("promised"), body.clone()))
        .collect();
    let stats = journal.stats();
    assert_eq!((stats.open, stats.promised_bytes, stats.segments), (0, 0, 1));
    assert!(too_much > 0, "progress is not promised twice");
    die(&faults, journal, []);
    is_full.store(false, Ordering::SeqCst);
    assert_eq!(look(dir.path()).closes, closes);
}

#[test]
fn it_heals_when_space_comes_back() {
    let dir = directory();
    let (faults, is_full) = filling();
    let (journal, _) = open(dir.path(), &faults);
    is_full.store(true, Ordering::SeqCst);
    let mut tickets: Vec<_> = std::iter::from_fn(|| journal.open_attempt(b"open").ok()).collect();
    assert!(matches!(journal.open_attempt(b"open"), Err(JournalError::NoRoom { .. })));
    is_full.store(false, Ordering::SeqCst);
    eventually(|| journal.open_attempt(b"healed").map(|ticket| tickets.push(ticket)).is_ok());
    assert_eq!(journal.stats().segments, 2);
    tickets.into_iter().for_each(|ticket| assert!(journal.close(ticket, b"closed").is_ok()));
    journal.shut_down().expect("written");
}

#[test]
fn a_close_over_its_margin_takes_what_is_free_and_is_refused_without() {
    let dir = directory();
    let (faults, is_full) = filling();
    let (journal, _) = open(dir.path(), &faults);
    let ticket = journal.open_attempt(b"open").expect("room");
    journal.sent(&ticket).expect("written");
    journal.close(ticket, &[b'c'; 3000]).expect("there is room beside the promises");
    let ticket = journal.open_attempt(b"open").expect("room");
    journal.sent(&ticket).expect("written");
    is_full.store(true, Ordering::SeqCst);
    eventually(|| journal.stats().segments == 2);
    assert!(matches!(journal.close(ticket, &[b'c'; MAX_CLOSE_BODY]), Err(JournalError::NoRoom { .. })));
    assert_eq!(journal.stats().open, 1, "the next start finds it");
    let ticket = journal.open_attempt(b"open");
    assert!(matches!(
        ticket.and_then(|ticket| journal.close(ticket, &[0; MAX_CLOSE_BODY + 1])),
        Err(JournalError::TooLong { .. } | JournalError::NoRoom { .. })
    ));
    assert!(matches!(journal.open_attempt(&[0; MAX_OPEN_BODY + 1]), Err(JournalError::TooLong { .. })));
}

#[test]
fn the_longest_bodies_fit_and_are_found() {
    let dir = directory();
    let faults = mortal();
    let (journal, _) = open(dir.path(), &faults);
    let ticket = journal.open_attempt(&[b'o'; MAX_OPEN_BODY]).expect("a segment as large as needed");
    journal.progress(&ticket, &[b'p'; MAX_OPEN_BODY]);
    let other = journal.open_attempt(b"").expect("room");
    let seq = journal.close(other, &[b'c'; MAX_CLOSE_BODY]).expect("written");
    die(&faults, journal, [ticket]);
    let found = look(dir.path());
    assert_eq!(found.open[&1].progress.as_deref(), Some(&[b'p'; MAX_OPEN_BODY][..]));
    assert_eq!(found.closes[&seq].len(), MAX_CLOSE_BODY);
}

#[test]
fn a_segment_too_small_for_its_first_record_is_replaced() {
    let dir = directory();
    let faults = mortal();
    let (journal, _) = open(dir.path(), &faults);
    journal.close(journal.open_attempt(b"open").expect("room"), b"first").expect("written");
    die(&faults, journal, []);
    // The database is ahead of the disk, so that this run's first sequence is not the next one.
    let faults = mortal();
    let (journal, _) = try_open(dir.path(), &faults, 50).expect("a journal");
    let ticket = journal.open_attempt(&[b'o'; 3000]).expect("a segment as large as needed");
    let seq = journal.close(ticket, b"second").expect("written");
    assert_eq!((seq, journal.stats().segments), (52, 2));
    die(&faults, journal, []);
    let found = look(dir.path());
    assert_eq!(found.closes, BTreeMap::from([(2, b"first".to_vec()), (52, b"second".to_vec())]));
}

#[test]
fn a_crowd_of_open_requests_gets_segments_that_hold_its_promises() {
    let dir = directory();
    let faults = mortal();
    let (journal, _) = open(dir.path(), &faults);
    let tickets: Vec<_> = (0..2000)
        .map(|_| {
            let ticket = journal.open_attempt(&[b'o'; 100]).expect("room");
            let stats = journal.stats();
            assert!(stats.promised_bytes <= stats.free_bytes);
            ticket
        })
        .collect();
    assert!(journal.stats().segments < 15, "{:?}", journal.stats());
    journal.sent(&tickets[0]).expect("written");
    die(&faults, journal, tickets);
    let (journal, replay) = open(dir.path(), &mortal());
    assert_eq!(replay.open.len(), 2000);
    let stats = journal.stats();
    assert!(stats.promised_bytes <= stats.free_bytes && stats.promised_bytes > 0);
}

#[test]
fn segments_go_oldest_first_once_everything_in_them_is_applied() {
    let dir = directory();
    let (journal, _) = open(dir.path(), &mortal());
    let mut closes = Vec::new();
    while journal.stats().segments < 4 {
        let ticket = journal.open_attempt(b"open").expect("room");
        closes.push(journal.close(ticket, &[b'c'; 200]).expect("written"));
    }
    journal.keep_once();
    assert_eq!(segments(dir.path()).len(), 4, "nothing is applied");
    // All but the first: it still holds everything behind it.
    journal.applied(&closes[1..]);
    journal.keep_once();
    assert_eq!(segments(dir.path()).len(), 4);
    assert_eq!(journal.watermark(&[]), closes[0] - 1);
    journal.applied(&closes[..1]);
    journal.applied(&closes[..1]);
    journal.keep_once();
    assert_eq!((segments(dir.path()).len(), journal.stats().segments, journal.stats().unapplied), (1, 1, 0));
    assert_eq!(journal.watermark(&[]), *closes.last().expect("some"));
    let id = journal.id();
    journal.shut_down().expect("synced");
    drop(journal);
    assert_eq!(Journal::id_in(dir.path()).expect("readable"), Some(id), "the name outlives its records");
    assert_eq!(look(dir.path()).open, BTreeMap::new());
}

#[test]
fn an_open_request_holds_its_segment_until_its_close_is_applied() {
    let dir = directory();
    let (journal, _) = open(dir.path(), &mortal());
    let long = journal.open_attempt(b"long").expect("room");
    let churn = |until: usize| {
        while journal.stats().segments < until {
            let ticket = journal.open_attempt(b"open").expect("room");
            let seq = journal.close(ticket, &[b'c'; 200]).expect("written");
            journal.applied(&[seq]);
        }
    };
    churn(3);
    journal.keep_once();
    assert_eq!(segments(dir.path()).len(), 3);
    let seq = journal.close(long, b"end").expect("written");
    journal.keep_once();
    assert_eq!(
        segments(dir.path()).len(),
        3,
        "without its OPEN the others' closes could be read, but not its own"
    );
    journal.applied(&[seq]);
    journal.keep_once();
    assert_eq!(segments(dir.path()).len(), 1);
}

#[test]
fn a_very_long_request_is_carried_forward_with_all_that_is_known_of_it() {
    let dir = directory();
    let faults = mortal();
    let (journal, _) = open(dir.path(), &faults);
    let long = journal.open_attempt(b"first").expect("room");
    journal.sent(&long).expect("written");
    journal.open_again(&long, b"second").expect("room");
    journal.sent(&long).expect("written");
    journal.progress(&long, b"far");
    let waiting = journal.open_attempt(b"waiting").expect("room");
    let mut most = 0;
    for _ in 0..400 {
        let ticket = journal.open_attempt(b"open").expect("room");
        let seq = journal.close(ticket, &[b'c'; 200]).expect("written");
        journal.applied(&[seq]);
        journal.keep_once();
        most = most.max(segments(dir.path()).len());
    }
    assert!(most <= keeper::HELD_SEGMENTS + 2, "{most} segments");
    assert!(journal.stats().carried >= 2);
    let keys = (long.number(), waiting.number());
    // Later records of a carried request count, too.
    journal.progress(&long, b"farther");
    journal.keep_once();
    die(&faults, journal, [long, waiting]);
    let found = look(dir.path());
    let second =
        Seen { open: b"second".to_vec(), progress: Some(b"farther".to_vec()), sent: true, sent_before: true };
    assert_eq!(found.open, BTreeMap::from([(keys.0, second), (keys.1, seen(b"waiting"))]));
    // And what was carried can be closed after a restart.
    let (journal, replay) = open(dir.path(), &mortal());
    let closes: Vec<u64> =
        replay.open.into_iter().map(|found| journal.close(found.ticket, b"end").expect("written")).collect();
    journal.applied(&replay.closes.map(|close| close.expect("readable").0).collect::<Vec<_>>());
    journal.applied(&closes);
    journal.keep_once();
    assert_eq!(segments(dir.path()).len(), 1);
}

#[test]
fn many_open_requests_are_not_carried_round_and_round() {
    let dir = directory();
    let (journal, _) = open(dir.path(), &mortal());
    let tickets: Vec<_> = (0..3000)
        .map(|_| {
            let ticket = journal.open_attempt(&[b'o'; 2000]).expect("room");
            journal.progress(&ticket, &[b'p'; 2000]);
            ticket
        })
        .collect();
    assert!(journal.stats().segments > keeper::HELD_SEGMENTS + 1, "{:?}", journal.stats());
    journal.keep_once();
    let once = journal.stats().carried;
    for _ in 0..5 {
        journal.keep_once();
    }
    assert_eq!(journal.stats().carried, once, "it would free nothing");
    drop(tickets);
    journal.shut_down().expect("written");
}
