use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use super::*;
use crate::domain::{
    ModelName, ModelRef, NanoUsd, Outcome, ProviderKeyId, RequestId, TenantId, Timestamp, TokenUsage,
    UsageSource, VirtualKeyId, Windows, Zone,
};

#[derive(Clone, Copy)]
enum Turn {
    Take,
    Fail,
    Panic,
    Hang,
}

/// Takes everything unless its script says otherwise; refuses the records named in `poison` for as long as they are.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    turns: VecDeque<Turn>,
    always_down: bool,
    poison: Vec<RequestId>,
    rows: Vec<RequestId>,
    batches: Vec<usize>,
}

impl Script {
    fn of(turns: impl IntoIterator<Item = Turn>) -> Self {
        let script = Self::default();
        script.state().turns.extend(turns);
        script
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it held")
    }

    fn rows(&self) -> Vec<RequestId> {
        self.state().rows.clone()
    }
}

impl Sink for Script {
    async fn write(&self, records: &[UsageRecord]) -> Result<(), StoreError> {
        let turn = {
            let mut state = self.state();
            if state.always_down { Turn::Fail } else { state.turns.pop_front().unwrap_or(Turn::Take) }
        };
        match turn {
            Turn::Fail => return Err(StoreError::Unavailable),
            Turn::Panic => panic!("scripted"),
            Turn::Hang => std::future::pending().await,
            Turn::Take => {}
        }
        let mut state = self.state();
        if records.iter().any(|record| state.poison.contains(&record.request_id)) {
            return Err(StoreError::Conflict);
        }
        state.batches.push(records.len());
        state.rows.extend(records.iter().map(|record| record.request_id));
        Ok(())
    }
}

fn record() -> UsageRecord {
    UsageRecord {
        request_id: RequestId::generate(),
        started_at: Timestamp::from_millis(0),
        windows: Windows::of(Timestamp::from_millis(0), Zone::UTC),
        scopes: Vec::new(),
        tenant_id: TenantId::generate(),
        virtual_key_id: VirtualKeyId::generate(),
        provider_key_id: ProviderKeyId::generate(),
        requested_model: ModelName::parse("gpt").expect("a name"),
        served_model: ModelRef::parse("openai/gpt").expect("a model"),
        status: 200,
        outcome: Outcome::Ok,
        attempts: Vec::new(),
        stream: false,
        usage: TokenUsage::default(),
        cost: Some(NanoUsd::ZERO),
        cost_lines: Vec::new(),
        clamped: NanoUsd::ZERO,
        price_version: None,
        usage_source: UsageSource::Provider,
        latency_ms: 0,
        time_to_first_token_ms: None,
        tags: BTreeMap::new(),
    }
}

fn put(recorder: &Recorder) -> RequestId {
    let record = record();
    let id = record.request_id;
    recorder.try_place().expect("a place").record(record);
    id
}

fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

/// Waits for a condition that another task brings about.
async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the condition comes true");
}

#[tokio::test]
async fn records_arrive_once_in_order_and_in_batches() {
    let (script, tracker) = (Script::default(), TaskTracker::new());
    let recorder = Recorder::start(script.clone(), 2_000, &tracker);
    let ids: Vec<_> = (0..1_200).map(|_| put(&recorder)).collect();
    recorder.flushed().await;
    assert_eq!(script.rows(), ids);
    assert_eq!(script.state().batches, [500, 500, 200]);
    assert_eq!((recorder.pending(), recorder.written(), recorder.free_places()), (0, 1_200, 2_000));
}

#[tokio::test]
async fn a_sink_that_fails_and_recovers_loses_nothing_and_writes_once() {
    let script = Script::of([Turn::Fail, Turn::Panic, Turn::Fail, Turn::Take]);
    let recorder = Recorder::start(script.clone(), 100, &TaskTracker::new());
    let ids: Vec<_> = (0..3).map(|_| put(&recorder)).collect();
    until(|| recorder.is_blocked()).await;
    recorder.flushed().await;
    assert_eq!(script.rows(), ids);
    assert!(!recorder.is_blocked());
    assert_eq!((recorder.pending(), recorder.failures()), (0, 3));
}

#[tokio::test]
async fn a_full_queue_refuses_a_place_and_a_dropped_place_is_free_again() {
    let script = Script::default();
    script.state().always_down = true;
    let recorder = Recorder::start(script.clone(), 2, &TaskTracker::new());
    let (first, second) = (recorder.try_place().expect("free"), recorder.try_place().expect("free"));
    assert_eq!(recorder.try_place().map(drop), Err(QueueFull));
    drop(second);
    let second = recorder.try_place().expect("free again");
    first.record(record());
    second.record(record());
    // The writer holds one batch beside the queue; behind that, places run out while the sink is down.
    let mut recorded = 2;
    until(|| recorder.is_blocked()).await;
    while recorded <= BATCH + 2 {
        match recorder.try_place() {
            Ok(place) => place.record(record()),
            Err(QueueFull) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                if recorder.pending() >= (BATCH + 2) as u64 {
                    break;
                }
                continue;
            }
        }
        recorded += 1;
    }
    assert_eq!(recorded, BATCH + 2);
    assert_eq!(recorder.try_place().map(drop), Err(QueueFull));
    script.state().always_down = false;
    recorder.flushed().await;
    assert_eq!(script.rows().len(), BATCH + 2);
}

#[tokio::test]
async fn closing_writes_what_is_queued_waits_for_places_and_gives_no_new_ones() {
    let (script, tracker) = (Script::of([Turn::Fail]), TaskTracker::new());
    let recorder = Recorder::start(script.clone(), 100, &tracker);
    let first = put(&recorder);
    let held = recorder.try_place().expect("a place");
    let closing = tracker.spawn({
        let recorder = recorder.clone();
        async move { recorder.close(within(10_000)).await }
    });
    until(|| recorder.try_place().is_err()).await;
    let last = record();
    let id = last.request_id;
    held.record(last);
    assert_eq!(closing.await.expect("it ends"), 0);
    assert_eq!(script.rows(), [first, id]);
    assert_eq!(recorder.close(within(0)).await, 0, "closing twice answers the same");
    tracker.close();
    tracker.wait().await;
}

#[tokio::test]
async fn a_deadline_ends_the_writer_and_says_what_is_lost() {
    for turn in [Turn::Fail, Turn::Hang] {
        let script = Script::of([turn]);
        script.state().always_down = matches!(turn, Turn::Fail);
        let tracker = TaskTracker::new();
        let recorder = Recorder::start(script.clone(), 100, &tracker);
        for _ in 0..3 {
            put(&recorder);
        }
        assert_eq!(recorder.close(within(120)).await, 3);
        recorder.flushed().await;
        assert!(script.rows().is_empty());
        tracker.close();
        tracker.wait().await;
    }
}

#[tokio::test]
async fn a_record_that_is_refused_does_not_hold_up_the_others() {
    let script = Script::default();
    let recorder = Recorder::start(script.clone(), 100, &TaskTracker::new());
    let bad = record();
    let id = bad.request_id;
    script.state().poison.push(id);
    let before = put(&recorder);
    recorder.try_place().expect("a place").record(bad);
    let after = put(&recorder);
    until(|| recorder.written() == 2).await;
    assert_eq!(script.rows(), [before, after]);
    assert_eq!(recorder.pending(), 1, "it is kept");
    assert!(!recorder.is_blocked(), "others are taken");
    let later = put(&recorder);
    until(|| recorder.written() == 3).await;
    script.state().poison.clear();
    recorder.flushed().await;
    assert_eq!(script.rows(), [before, after, later, id]);
}

#[tokio::test]
async fn when_every_recorder_is_gone_the_writer_finishes_and_ends() {
    let (script, tracker) = (Script::default(), TaskTracker::new());
    let recorder = Recorder::start(script.clone(), 10, &tracker);
    let first = put(&recorder);
    let held = recorder.try_place().expect("a place");
    drop(recorder);
    let last = record();
    let id = last.request_id;
    held.record(last);
    tracker.close();
    tracker.wait().await;
    assert_eq!(script.rows(), [first, id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_and_a_shaky_sink_end_with_every_record_exactly_once() {
    let script = Script::of((0..12).map(|turn| if turn % 3 == 0 { Turn::Fail } else { Turn::Take }));
    let tracker = TaskTracker::new();
    let recorder = Recorder::start(script.clone(), 64, &tracker);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let recorder = recorder.clone();
            tracker.spawn(async move {
                let mut mine = Vec::new();
                while mine.len() < 50 {
                    match recorder.try_place() {
                        Ok(place) => {
                            let record = record();
                            mine.push(record.request_id);
                            place.record(record);
                        }
                        Err(QueueFull) => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                }
                mine
            })
        })
        .collect();
    let mut expected = Vec::new();
    for task in tasks {
        expected.extend(task.await.expect("it ends"));
    }
    assert_eq!(recorder.close(within(10_000)).await, 0);
    let mut rows = script.rows();
    rows.sort_unstable();
    expected.sort_unstable();
    assert_eq!(rows, expected);
}
