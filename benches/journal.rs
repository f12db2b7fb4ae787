//! What the journal adds to a request (OPEN and SENT before it leaves, CLOSE at its end), and to a start after a crash.

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keystile::ledger::journal::{Journal, Settings};
use tempfile::TempDir;

/// About what a request's OPEN and CLOSE say.
const OPEN: [u8; 250] = [b'o'; 250];
const CLOSE: [u8; 350] = [b'c'; 350];
const OPENS: u64 = 100_000;

fn journal(dir: &TempDir) -> Journal {
    Journal::open(Settings::new(dir.path()), 0).expect("a journal").0
}

/// Beside the repository, not in a memory file system: what is measured is a write to a real one.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn request(journal: &Journal) {
    let ticket = journal.open_attempt(&OPEN).expect("room");
    journal.sent(&ticket).expect("written");
    let seq = journal.close(ticket, &CLOSE).expect("written");
    journal.applied(&[seq]);
}

fn alone(criterion: &mut Criterion) {
    let dir = directory();
    let journal = journal(&dir);
    criterion.bench_function("journal_request/alone", |bench| bench.iter(|| request(&journal)));
    tell(&journal, "alone");
}

/// Time is for one request of all the threads together.
fn together(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal_request");
    for threads in [2, 8] {
        let dir = directory();
        let journal = journal(&dir);
        group.bench_function(BenchmarkId::new("threads", threads), |bench| {
            bench.iter_custom(|rounds| race(&journal, threads, rounds));
        });
        tell(&journal, &format!("{threads} threads"));
    }
    group.finish();
}

fn race(journal: &Journal, threads: u64, rounds: u64) -> Duration {
    let barrier = Barrier::new(usize::try_from(threads).expect("few") + 1);
    let each = rounds.div_ceil(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                barrier.wait();
                (0..each).for_each(|_| request(journal));
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    })
}

fn tell(journal: &Journal, name: &str) {
    let stats = journal.stats();
    println!("{name}: {:.2} records per write", stats.records as f64 / stats.writes as f64);
}

/// A start that finds a hundred thousand requests open.
fn replay(criterion: &mut Criterion) {
    let dir = directory();
    let first = journal(&dir);
    let tickets: Vec<_> = (0..OPENS)
        .map(|_| {
            let ticket = first.open_attempt(&OPEN).expect("room");
            first.sent(&ticket).expect("written");
            ticket
        })
        .collect();
    first.shut_down().expect("synced");
    drop((tickets, first));
    let mut group = criterion.benchmark_group("journal_replay");
    group.throughput(Throughput::Elements(OPENS)).sample_size(10);
    group.bench_function(BenchmarkId::new("opens", OPENS), |bench| {
        // One at a time, and shut down outside the measurement: a journal has its directory for itself.
        bench.iter_batched(
            || (),
            |()| {
                let (journal, replay) = Journal::open(Settings::new(dir.path()), 0).expect("a journal");
                assert_eq!(replay.open.len() as u64, OPENS);
                black_box((journal, replay))
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, alone, together, replay);
criterion_main!(benches);
