use std::{
    collections::HashSet,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use super::*;

const THREADS: u64 = 8;
const RECORDS: u64 = 10_000;

/// Eight threads, ten thousand requests each; with small segments, so that they turn under load.
fn crowd(settings: Settings) -> (Stats, HashSet<Vec<u8>>) {
    let (journal, _) = Journal::open(settings, 0).expect("a journal");
    let applied = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, applied) = (&journal, &applied);
            scope.spawn(move || {
                for index in 0..RECORDS {
                    let body = [thread.to_le_bytes(), index.to_le_bytes()].concat();
                    let ticket = journal.open_attempt(&body).expect("room");
                    journal.sent(&ticket).expect("written");
                    if index % 7 == 0 {
                        journal.progress(&ticket, &body);
                    }
                    let seq = journal.close(ticket, &body).expect("written");
                    // Some are applied while others write, so that segments go, too.
                    if index % 2 == 0 {
                        journal.applied(&[seq]);
                        assert!(applied.lock().expect("a set").insert(body));
                    }
                }
            });
        }
    });
    journal.shut_down().expect("synced");
    (journal.stats(), applied.into_inner().expect("a set"))
}

#[test]
fn what_eight_threads_have_written_is_found_once_each() {
    let dir = directory();
    let settings = Settings { segment_bytes: 256 * 1024, ..Settings::new(dir.path()) };
    let (stats, applied) = crowd(settings.clone());
    assert_eq!(stats.open, 0);
    assert!(stats.writes < stats.records, "{stats:?}");
    println!("{:.2} records per write", stats.records as f64 / stats.writes as f64);
    let (_journal, replay) = Journal::open(settings, 0).expect("a journal");
    assert!(replay.open.is_empty());
    let (mut found, mut last) = (HashSet::new(), 0);
    for close in replay.closes {
        let (seq, body) = close.expect("readable");
        assert!(seq > last && found.insert(body), "in order, once each");
        last = seq;
    }
    let all: HashSet<_> = (0..THREADS)
        .flat_map(|thread| {
            (0..RECORDS).map(move |index| [thread.to_le_bytes(), index.to_le_bytes()].concat())
        })
        .collect();
    assert!(found.is_subset(&all));
    assert!(all.difference(&found).all(|body| applied.contains(body)), "what is missing was applied");
}

#[test]
fn the_keeper_writes_what_nobody_waits_for() {
    let dir = directory();
    let faults = mortal();
    let (journal, _) = Journal::open(settings(dir.path(), &faults), 0).expect("a journal");
    let ticket = journal.open_attempt(b"open").expect("room");
    assert_eq!(journal.stats().writes, 0);
    journal.progress(&ticket, b"far");
    let start = Instant::now();
    while journal.stats().writes == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "never written");
        thread::yield_now();
    }
    die(&faults, journal, [ticket]);
    assert_eq!(look(dir.path()).open[&1].progress.as_deref(), Some(&b"far"[..]));
}

#[test]
fn dropping_the_last_handle_ends_the_keeper_and_frees_the_directory() {
    let dir = directory();
    let (journal, _) = Journal::open(Settings::new(dir.path()), 0).expect("a journal");
    let ticket = journal.clone().open_attempt(b"open").expect("room");
    journal.sent(&ticket).expect("written");
    drop(journal);
    let (_journal, replay) = Journal::open(Settings::new(dir.path()), 0).expect("free again");
    assert_eq!(replay.open.len(), 1);
    drop(ticket);
}
