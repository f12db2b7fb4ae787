use super::*;

/// A small journal with everything in it, and what each record changes: the state after record `i` is `states[i]`.
fn small(dir: &Path) -> Vec<State> {
    let faults = mortal();
    let roomy = Settings { segment_bytes: 16 * 1024, ..settings(dir, &faults) };
    let (journal, _) = Journal::open_unkept(roomy, 0, BOOT).expect("a journal");
    let mut states = vec![State::default()];
    let mut now = State::default();
    let mut step = |change: &dyn Fn(&mut State)| {
        change(&mut now);
        states.push(now.clone());
    };
    let one = journal.open_attempt(b"one").expect("room");
    step(&|state| drop(state.open.insert(1, seen(b"one"))));
    journal.sent(&one).expect("written");
    step(&|state| state.open.get_mut(&1).expect("open").sent = true);
    journal.progress(&one, b"some way");
    step(&|state| state.open.get_mut(&1).expect("open").progress = Some(b"some way".to_vec()));
    let two = journal.open_attempt(b"").expect("room");
    step(&|state| drop(state.open.insert(4, seen(b""))));
    let three = journal.open_attempt(b"three").expect("room");
    step(&|state| drop(state.open.insert(5, seen(b"three"))));
    journal.open_again(&one, b"one again").expect("room");
    step(&|state| drop(state.open.insert(1, Seen { sent_before: true, ..seen(b"one again") })));
    journal.discard(two);
    step(&|state| drop(state.open.remove(&4)));
    assert_eq!(journal.sent(&one).expect("written"), 8);
    step(&|state| state.open.get_mut(&1).expect("open").sent = true);
    journal.progress(&one, b"");
    step(&|state| state.open.get_mut(&1).expect("open").progress = Some(Vec::new()));
    assert_eq!(journal.close(one, b"end of one").expect("written"), 10);
    step(&|state| {
        state.open.remove(&1);
        state.closes.insert(10, b"end of one".to_vec());
    });
    die(&faults, journal, [three]);
    states
}

/// Where each record ends, by its sequence.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![segment::HEADER];
    while let Ok((_, len)) = frame::decode(&bytes[*ends.last().expect("one")..]) {
        ends.push(ends.last().expect("one") + len);
    }
    ends
}

#[test]
fn a_request_is_found_as_its_records_left_it() {
    let dir = directory();
    let states = small(dir.path());
    assert_eq!(look(dir.path()), *states.last().expect("some"));
}

#[test]
fn p23_truncating_at_any_byte_loses_only_what_came_after_it_and_replaying_twice_equals_once() {
    let dir = directory();
    let states = small(dir.path());
    let path = segments(dir.path()).remove(0);
    let bytes = fs::read(&path).expect("a segment");
    let ends = ends(&bytes);
    assert_eq!(ends.len(), states.len());
    for cut in segment::HEADER..=ends.last().expect("one") + 40 {
        let dir = copy(dir.path());
        let path = segments(dir.path()).remove(0);
        fs::write(&path, &bytes[..cut]).expect("written");
        let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
        let (once, lost) = look_in(dir.path(), BOOT).expect("a torn tail is no damage");
        assert_eq!(once, states[kept], "cut at byte {cut}");
        if cut < *ends.last().expect("one") {
            // A tail of zeros is no record that was lost.
            let tail = &bytes[ends[kept]..cut];
            assert_eq!(lost as usize, tail.len() - tail.iter().rev().take_while(|byte| **byte == 0).count());
        }
        assert_eq!(look(dir.path()), once, "the second time, cut at byte {cut}");
    }
}

#[test]
fn a_file_too_short_for_a_header_was_never_begun() {
    for len in 0..segment::HEADER {
        let dir = directory();
        let states = small(dir.path());
        let journal = Journal::id_in(dir.path()).expect("readable").expect("one");
        fs::write(dir.path().join(format!("{:020}.seg", 11)), vec![0; len]).expect("written");
        assert_eq!(look(dir.path()), states[10]);
        assert_eq!(Journal::id_in(dir.path()).expect("readable"), Some(journal));
    }
    let nothing = directory();
    fs::write(nothing.path().join(format!("{:020}.seg", 1)), vec![0; 4096]).expect("written");
    assert_eq!(Journal::id_in(nothing.path()).expect("readable"), None);
    assert_eq!(look(nothing.path()), State::default());
    assert_eq!(Journal::id_in(&nothing.path().join("missing")).expect("no matter"), None);
}

#[test]
fn a_torn_write_of_any_length_leaves_the_records_before_it() {
    let whole = frame::frame_bytes(3) + frame::frame_bytes(0);
    for torn in 0..=usize::try_from(whole).expect("small") {
        let dir = directory();
        // The writes: header, first pair of records, second pair.
        let writes = AtomicUsize::new(0);
        let faults = Faults::fated(Arc::new(move |what| {
            let third = what == effect::WRITE && writes.fetch_add(1, Ordering::SeqCst) == 2;
            if third { Fate::Tears(torn) } else { Fate::Happens }
        }));
        let (journal, _) = open(dir.path(), &faults);
        let one = journal.open_attempt(b"one").expect("room");
        journal.sent(&one).expect("written");
        let two = journal.open_attempt(b"two").expect("room");
        let outcome = journal.sent(&two);
        assert_eq!(outcome.is_ok(), torn as u64 == whole);
        let second = if outcome.is_ok() {
            Some(Seen { sent: true, ..seen(b"two") })
        } else if torn as u64 >= whole - 7 {
            // SENT ends with the zeros of the request's number, which were there before it was written.
            Some(Seen { sent: true, ..seen(b"two") })
        } else {
            assert!(matches!(journal.open_attempt(b"three"), Err(JournalError::Broken)));
            (torn as u64 >= frame::frame_bytes(3)).then(|| seen(b"two"))
        };
        die(&faults, journal, [one, two]);
        let found = look(dir.path());
        assert_eq!(found.open.get(&1), Some(&Seen { sent: true, ..seen(b"one") }));
        assert_eq!(found.open.get(&3), second.as_ref(), "torn after {torn} bytes");
    }
}

#[test]
fn closes_up_to_the_watermark_are_not_handed_out_again_and_no_sequence_is_used_twice() {
    let dir = directory();
    let faults = mortal();
    let (journal, _) = open(dir.path(), &faults);
    for body in [b"a", b"b", b"c"] {
        let ticket = journal.open_attempt(b"open").expect("room");
        journal.close(ticket, body).expect("written");
    }
    assert_eq!(journal.watermark(&[]), 1);
    assert_eq!(journal.watermark(&[2, 6]), 3);
    assert_eq!(journal.watermark(&[2, 4, 6]), 6);
    journal.applied(&[2, 4]);
    assert_eq!(journal.watermark(&[]), 5);
    die(&faults, journal, []);
    let faults = mortal();
    let (journal, replay) = try_open(dir.path(), &faults, 5).expect("a journal");
    assert_eq!(replay.closes.collect::<Result<Vec<_>, _>>().expect("readable"), [(6, b"c".to_vec())]);
    assert_eq!(journal.watermark(&[6]), 6);
    die(&faults, journal, []);
    // The database knows more than the disk has kept: what it has counted must not be counted as done for others.
    let faults = mortal();
    let (journal, replay) = try_open(dir.path(), &faults, 100).expect("a journal");
    assert_eq!((replay.last_seq, replay.closes.len()), (6, 0));
    let ticket = journal.open_attempt(b"open").expect("room");
    assert_eq!(ticket.number(), 101);
    journal.close(ticket, b"d").expect("written");
    die(&faults, journal, []);
    let (_journal, replay) = try_open(dir.path(), &mortal(), 100).expect("a journal");
    assert_eq!(replay.closes.collect::<Result<Vec<_>, _>>().expect("readable"), [(102, b"d".to_vec())]);
}

#[test]
fn a_dropped_ticket_closes_what_was_never_sent_and_leaves_open_what_was() {
    let dir = directory();
    let (journal, _) = open(dir.path(), &mortal());
    drop(journal.open_attempt(b"never sent").expect("room"));
    let sent = journal.open_attempt(b"sent").expect("room");
    journal.sent(&sent).expect("written");
    drop(sent);
    let again = journal.open_attempt(b"first").expect("room");
    journal.sent(&again).expect("written");
    journal.open_again(&again, b"second").expect("room");
    drop(again);
    assert_eq!((journal.stats().open, journal.stats().abandoned), (2, 2));
    journal.shut_down().expect("written");
    drop(journal);
    let found = look(dir.path());
    let expected = [Seen { sent: true, ..seen(b"sent") }, Seen { sent_before: true, ..seen(b"second") }];
    assert!(found.open.values().eq(&expected), "{found:?}");
}

#[test]
fn what_replay_found_open_is_closed_like_a_live_request() {
    let dir = directory();
    let states = small(dir.path());
    let (journal, replay) = open(dir.path(), &mortal());
    let (found, tickets) = state(replay);
    assert_eq!(found, states[10]);
    let [three] = <[Ticket; 1]>::try_from(tickets).expect("one is open");
    let seq = journal.close(three, b"recovered").expect("written");
    journal.shut_down().expect("written");
    assert!(matches!(journal.open_attempt(b"late"), Err(JournalError::Closed)));
    drop(journal);
    let found = look(dir.path());
    assert!(found.open.is_empty());
    assert_eq!(found.closes.get(&seq).map(Vec::as_slice), Some(&b"recovered"[..]));
}

#[test]
fn a_journal_is_one_process_s_and_nobody_else_may_look() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory();
    let path = dir.path().join("a").join("journal");
    let (journal, _) = open(&path, &mortal());
    assert!(matches!(try_open(&path, &mortal(), 0), Err(JournalError::InUse(_))));
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&path).expect("there") {
        assert_eq!(entry.expect("an entry").metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }
    let ticket = journal.open_attempt(b"open").expect("room");
    journal.shut_down().expect("written");
    let (other, _) = open(&path, &mortal());
    assert!(matches!(other.sent(&ticket), Err(JournalError::Closed)), "a ticket of another opening");
}
