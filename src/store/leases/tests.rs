use std::time::Duration;

use entity::{instance, lease, spend_counter, usage_record};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::*;
use crate::{
    domain::{
        ModelName, ModelRef, Outcome, ProviderKeyId, RequestId, Scope, SpendWindow, TenantId, Timestamp,
        TokenUsage, UsageRecord, UsageSource, VirtualKeyId, Windows, Zone,
    },
    store::{
        Charge, Claim, RegisterError, Released, Run, StoreError, instance_release,
        testing::{self, a_run},
    },
};

mod model;
mod races;
mod settlement;

fn usd(nano: i64) -> NanoUsd {
    NanoUsd::new(nano)
}

fn started() -> Timestamp {
    Timestamp::parse("2026-11-21T12:00:00Z").expect("a time")
}

/// The counter of `scope` for all time.
fn total(scope: impl Into<Scope>) -> Counter {
    let window = SpendWindow::Total;
    Counter { scope: scope.into(), window, index: window.index(started(), Zone::UTC) }
}

/// A request of this cost, admitted under hard caps of all time.
fn charge(scopes: &[Scope], cost: i64, hard: &[(Scope, i64)]) -> Charge {
    let record = UsageRecord {
        request_id: RequestId::generate(),
        started_at: started(),
        windows: Windows::of(started(), Zone::UTC),
        scopes: scopes.into(),
        tenant_id: TenantId::generate(),
        virtual_key_id: VirtualKeyId::generate(),
        provider_key_id: ProviderKeyId::generate(),
        requested_model: ModelName::parse("smart").expect("a name"),
        served_model: ModelRef::parse("openai/gpt").expect("a model"),
        status: 200,
        outcome: Outcome::Ok,
        attempts: vec![],
        stream: false,
        usage: TokenUsage::default(),
        cost: Some(usd(cost)),
        cost_lines: vec![],
        clamped: NanoUsd::ZERO,
        price_version: None,
        usage_source: UsageSource::Provider,
        latency_ms: 7,
        time_to_first_token_ms: None,
        tags: Default::default(),
    };
    let hard = hard.iter().map(|&(scope, cap)| (scope, SpendWindow::Total, usd(cap))).collect();
    Charge { record, hard }
}

async fn join(db: &Store) -> Holder {
    db.instance_register(InstanceId::generate(), a_run(), Claim::Sole).await.expect("registered").holder
}

/// Asks for one lease.
async fn take(
    db: &Store,
    holder: Holder,
    counter: Counter,
    cap: i64,
    (least, wish): (i64, i64),
) -> Result<CounterState, LeaseError> {
    let wish = move |_: &CounterState| (usd(least), usd(wish));
    let states = db.leases_take(holder, &[LeaseAsk { counter, cap: usd(cap), wish: &wish }]).await?;
    Ok(states[0])
}

async fn taken(db: &Store, holder: Holder, counter: Counter, cap: i64, least_and_wish: (i64, i64)) -> i64 {
    take(db, holder, counter, cap, least_and_wish).await.expect("an answer").granted.nano()
}

/// Settled, leased, and granted to `holder`, all of one counter.
async fn numbers(db: &Store, holder: Holder, counter: Counter) -> (i64, i64, i64) {
    let state = db.counters(holder.instance, &[counter]).await.expect("states")[0];
    (state.settled.nano(), state.leased.nano(), state.granted.nano())
}

async fn release(db: &Store, id: InstanceId, silent: Duration) -> Released {
    db.write(async |tx: &Tx| instance_release(tx, id, silent).await).await.expect("an answer")
}

/// Makes the instance as silent as it would be so much later.
async fn silence(db: &Store, holder: Holder, span: Duration) {
    db.tamper(&format!(
        "UPDATE instance SET heartbeat_at = heartbeat_at - {} WHERE id = '{}'",
        span.as_millis(),
        holder.instance
    ))
    .await;
}

/// All that money hangs on, in an order of its own: rows, counters of these scopes, leases, instances.
async fn dump(db: &Store, scopes: &[Scope]) -> Vec<String> {
    let ids: Vec<_> = scopes.iter().map(Scope::to_string).collect();
    let rows = usage_record::Entity::find().order_by_asc(usage_record::Column::RequestId);
    let counters =
        spend_counter::Entity::find().filter(spend_counter::Column::ScopeId.is_in(ids.iter().cloned()));
    let leases = lease::Entity::find().filter(lease::Column::ScopeId.is_in(ids));
    let mut lines = vec![];
    lines.extend(rows.all(db.reader()).await.expect("rows").iter().map(|row| format!("{row:?}")));
    let counters = counters.all(db.reader()).await.expect("counters");
    lines.extend(
        counters.iter().map(|row| format!("{:?}", spend_counter::Model { wanted_at: None, ..row.clone() })),
    );
    lines.extend(leases.all(db.reader()).await.expect("leases").iter().map(|row| format!("{row:?}")));
    let instances = instance::Entity::find().all(db.reader()).await.expect("instances");
    lines.extend(instances.iter().map(|row| {
        let timeless = instance::Model {
            started_at: 0,
            heartbeat_at: 0,
            place: None,
            run: None,
            kids: None,
            ..row.clone()
        };
        format!("{timeless:?}")
    }));
    lines.sort();
    lines
}

#[tokio::test]
async fn a_lease_is_the_wish_or_what_is_left_or_nothing() {
    let db = testing::store().await;
    let (one, other) = (join(&db).await, join(&db).await);
    let counter = total(TenantId::generate());
    assert_eq!(taken(&db, one, counter, 100, (0, 50)).await, 0, "only read");
    assert_eq!(taken(&db, one, counter, 100, (10, 60)).await, 60);
    assert_eq!(taken(&db, one, counter, 100, (1, 5)).await, 65, "in addition");
    assert_eq!(taken(&db, other, counter, 100, (36, 50)).await, 0, "less than is of use");
    assert_eq!(taken(&db, other, counter, 100, (35, 50)).await, 35, "what is left");
    assert_eq!(taken(&db, one, counter, 100, (1, 1)).await, 65, "nothing");
    assert_eq!(numbers(&db, one, counter).await, (0, 100, 65));
    assert_eq!(taken(&db, one, counter, 90, (1, 1)).await, 65, "a lowered cap takes nothing away");
    assert_eq!(taken(&db, one, counter, -5, (1, 1)).await, 65);
    assert_eq!(taken(&db, one, counter, 101, (-3, 1)).await, 65, "no least");
    assert_eq!(taken(&db, one, counter, 101, (1, -3)).await, 66, "the least is wished, too");
}

#[tokio::test]
async fn a_counter_that_is_only_read_has_no_row() {
    let db = testing::store().await;
    let one = join(&db).await;
    let scope = Scope::Tenant(TenantId::generate());
    let before = dump(&db, &[scope]).await;
    assert_eq!(taken(&db, one, total(scope), 100, (0, 0)).await, 0);
    assert_eq!(taken(&db, one, total(scope), 0, (1, 1)).await, 0);
    assert_eq!(dump(&db, &[scope]).await, before);
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_asks_and_two_asks_of_one_counter_add_up() {
    let db = testing::store().await;
    let one = join(&db).await;
    let (key, tenant) = (total(VirtualKeyId::generate()), total(TenantId::generate()));
    let wish = |_: &CounterState| (usd(1), usd(4));
    let ask = |counter, cap| LeaseAsk { counter, cap: usd(cap), wish: &wish };
    let asks = [ask(tenant, 9), ask(key, 3), ask(tenant, 9), ask(tenant, 9)];
    let states = db.leases_take(one, &asks).await.expect("states");
    let got: Vec<_> = states.iter().map(|state| (state.counter, state.granted.nano())).collect();
    assert_eq!(got, [(tenant, 9), (key, 3), (tenant, 9), (tenant, 9)]);
    assert_eq!(numbers(&db, one, tenant).await, (0, 9, 9));
    assert_eq!(db.leases_take(one, &[]).await.expect("states"), []);
}

#[tokio::test]
async fn who_gets_nothing_asks_the_others_to_give_back_for_two_seconds() {
    let db = testing::store().await;
    let (one, other) = (join(&db).await, join(&db).await);
    let counter = total(TenantId::generate());
    let wanted = async || db.counters(one.instance, &[counter]).await.expect("states")[0].wanted;
    taken(&db, one, counter, 100, (1, 100)).await;
    assert!(!take(&db, other, counter, 100, (101, 101)).await.expect("a state").wanted, "no use to ask");
    assert!(!take(&db, one, counter, 100, (1, 1)).await.expect("a state").wanted, "all of it is its own");
    assert!(!wanted().await);
    assert!(take(&db, other, counter, 100, (100, 100)).await.expect("a state").wanted);
    assert!(wanted().await);
    let kept = db.leases_keep(one, &[(counter, usd(30))]).await.expect("states");
    assert!(kept[0].wanted, "whoever gives back sees it, too");
    for millis in [-2_001, 60_000] {
        db.tamper(&format!("UPDATE spend_counter SET wanted_at = wanted_at + {millis}")).await;
        assert!(!wanted().await, "neither an old wish nor one from before the clock was put back");
    }
}

#[tokio::test]
async fn what_is_kept_is_absolute_and_the_rest_is_given_back() {
    let db = testing::store().await;
    let (one, other) = (join(&db).await, join(&db).await);
    let (a, b) = (total(VirtualKeyId::generate()), total(TenantId::generate()));
    for counter in [a, b] {
        taken(&db, one, counter, 100, (1, 60)).await;
        taken(&db, other, counter, 100, (1, 40)).await;
    }
    for _ in 0..2 {
        let states = db.leases_keep(one, &[(b, usd(20)), (a, usd(61))]).await.expect("states");
        let got: Vec<_> = states.iter().map(|s| (s.counter, s.leased.nano(), s.granted.nano())).collect();
        assert_eq!(got, [(b, 60, 20), (a, 100, 60)]);
    }
    for _ in 0..2 {
        db.leases_keep(one, &[(a, usd(0)), (b, usd(-1))]).await.expect("states");
        assert_eq!(numbers(&db, one, a).await, (0, 40, 0));
        assert_eq!(numbers(&db, other, b).await, (0, 40, 40));
    }
    assert_eq!(lease::Entity::find().all(db.reader()).await.expect("leases").len(), 2, "no rows of nothing");
}

#[tokio::test]
async fn a_new_epoch_finds_the_leases_and_the_watermark_and_fences_the_old_one() {
    let db = testing::store().await;
    let id = InstanceId::generate();
    let first = db.instance_register(id, a_run(), Claim::Sole).await.expect("registered");
    assert_eq!((first.holder.epoch, first.applied_seq, first.leases), (1, 0, vec![]));
    let scope = Scope::Tenant(TenantId::generate());
    taken(&db, first.holder, total(scope), 100, (1, 60)).await;
    db.apply(first.holder, &[charge(&[scope], 10, &[(scope, 100)])], 7).await.expect("applied");
    db.apply(first.holder, &[], 6).await.expect("applied");
    let second = db.instance_register(id, a_run(), Claim::Sole).await.expect("registered");
    assert_eq!((second.holder.epoch, second.applied_seq), (2, 7), "a watermark never falls");
    assert_eq!(second.leases, [(total(scope), usd(50))]);
    everything_is_fenced(&db, first.holder, scope).await;
    db.instance_stop(second.holder).await.expect("stopped");
    everything_is_fenced(&db, second.holder, scope).await;
    let third = db.instance_register(id, a_run(), Claim::Sole).await.expect("registered");
    assert_eq!((third.holder.epoch, third.applied_seq, third.leases), (3, 7, vec![]));
    assert_eq!(taken(&db, third.holder, total(scope), 100, (1, 90)).await, 90);
    release(&db, id, Duration::ZERO).await;
    everything_is_fenced(&db, third.holder, scope).await;
}

#[tokio::test]
async fn an_instance_is_another_runs_only_from_the_same_place_after_its_stop_or_after_its_silence() {
    let db = testing::store().await;
    let id = InstanceId::generate();
    let (first, copy) = (a_run(), a_run());
    let again = Run::at(first.place);
    let minute = Duration::from_secs(60);
    let silent = Claim::Silent(minute);
    let registered = async |run, claim| db.instance_register(id, run, claim).await.map(|found| found.holder);
    let refused = async |run, claim| match registered(run, claim).await {
        Err(RegisterError::Taken { silent_for }) => silent_for,
        other => panic!("{other:?}"),
    };
    let begun = registered(first, silent).await.expect("nobody was there");
    assert!(refused(copy, silent).await < minute);
    refused(copy, Claim::Own).await;
    db.instance_beat(begun, minute).await.expect("the first is as it was");
    assert_eq!(registered(first, Claim::Own).await.expect("its own").epoch, 2);
    let begun = registered(again, silent).await.expect("the same place, where only one process can be");
    assert_eq!(begun.epoch, 3);
    refused(first, Claim::Own).await;
    silence(&db, begun, 2 * minute).await;
    let taken_over = registered(copy, silent).await.expect("the first is dead");
    assert_eq!(taken_over.epoch, 4);
    assert!(matches!(db.instance_beat(begun, minute).await, Err(LeaseError::Fenced)));
    refused(again, silent).await;
    refused(again, Claim::Own).await;
    db.instance_stop(taken_over).await.expect("stopped");
    refused(again, Claim::Own).await;
    assert_eq!(registered(again, silent).await.expect("it has stopped").epoch, 5);
    release(&db, id, Duration::ZERO).await;
    assert_eq!(registered(again, Claim::Own).await.expect("an operator ended its epoch").epoch, 7);
    assert_eq!(registered(copy, Claim::Sole).await.expect("always").epoch, 8);
}

#[tokio::test]
async fn of_many_copies_that_start_at_once_one_becomes_the_instance() {
    let db = testing::store().await;
    let id = InstanceId::generate();
    let starts = (0..8).map(|_| db.instance_register(id, a_run(), Claim::Silent(Duration::from_secs(60))));
    let done = futures_util::future::join_all(starts).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
}

/// No operation of `holder` is done or changes anything.
async fn everything_is_fenced(db: &Store, holder: Holder, scope: Scope) {
    let before = dump(db, &[scope]).await;
    let counter = total(scope);
    let fenced = |refused: Result<(), LeaseError>| assert!(matches!(refused, Err(LeaseError::Fenced)));
    fenced(take(db, holder, counter, 1_000, (1, 1)).await.map(drop));
    fenced(db.leases_keep(holder, &[(counter, usd(0))]).await.map(drop));
    fenced(db.apply(holder, &[charge(&[scope], 1, &[])], 99).await.map(drop));
    fenced(db.instance_beat(holder, Duration::from_secs(9)).await.map(drop));
    fenced(db.instance_stop(holder).await);
    assert_eq!(dump(db, &[scope]).await, before);
}

#[tokio::test]
async fn only_a_silent_instance_can_be_released_and_then_its_money_is_free() {
    let db = testing::store().await;
    let (dead, other) = (join(&db).await, join(&db).await);
    let (key, tenant) = (Scope::VirtualKey(VirtualKeyId::generate()), Scope::Tenant(TenantId::generate()));
    let minute = Duration::from_secs(60);
    for scope in [key, tenant] {
        taken(&db, dead, total(scope), 100, (1, 60)).await;
    }
    taken(&db, other, total(tenant), 100, (1, 30)).await;
    assert_eq!(release(&db, InstanceId::generate(), minute).await, Released::Unknown);
    let Released::StillAlive { silent_for } = release(&db, dead.instance, minute).await else {
        panic!("it lives");
    };
    assert!(silent_for < minute);
    assert_eq!(db.unreconciled(minute, None).await.expect("sums"), []);
    silence(&db, dead, 2 * minute).await;
    assert_eq!(
        db.unreconciled(minute, None).await.expect("sums"),
        [(total(key), usd(60)), (total(tenant), usd(60))]
    );
    assert_eq!(db.unreconciled(minute, Some(tenant)).await.expect("sums"), [(total(tenant), usd(60))]);
    assert_eq!(taken(&db, other, total(tenant), 100, (11, 70)).await, 30, "it counts as spent until then");
    assert_eq!(release(&db, dead.instance, minute).await, Released::Done { counters: 2, nano: usd(120) });
    assert_eq!(release(&db, dead.instance, minute).await, Released::Done { counters: 0, nano: usd(0) });
    assert_eq!(db.unreconciled(minute, None).await.expect("sums"), []);
    assert_eq!(taken(&db, other, total(tenant), 100, (11, 70)).await, 100);
    assert_eq!(numbers(&db, dead, total(key)).await, (0, 0, 0));
}

#[tokio::test]
async fn instances_that_were_heard_of_and_did_not_stop_are_live() {
    let db = testing::store().await;
    let (one, two, three) = (join(&db).await, join(&db).await, join(&db).await);
    let minute = Duration::from_secs(60);
    assert_eq!(db.instance_beat(one, minute).await.expect("a count"), 3);
    db.instance_stop(two).await.expect("stopped");
    assert_eq!(db.instance_beat(one, minute).await.expect("a count"), 2);
    silence(&db, three, 2 * minute).await;
    assert_eq!(db.instance_beat(one, minute).await.expect("a count"), 1);
    assert_eq!(db.instance_beat(three, minute).await.expect("a count"), 2, "and here it is again");
}

#[tokio::test]
async fn instances_are_listed_with_their_silence_and_the_sum_of_their_leases() {
    let db = testing::store().await;
    let (rich, gone, idle) = (join(&db).await, join(&db).await, join(&db).await);
    for _ in 0..3 {
        taken(&db, rich, total(TenantId::generate()), i64::MAX, (1, i64::MAX)).await;
    }
    let month = Duration::from_secs(30 * 86_400);
    silence(&db, gone, month).await;
    silence(&db, rich, month).await;
    let listed = db.instances().await.expect("instances");
    let got: Vec<_> = listed.iter().map(|row| (row.id, row.epoch, row.leased)).collect();
    assert_eq!(got, [(idle.instance, 1, usd(0)), (rich.instance, 1, NanoUsd::MAX)]);
    assert!(listed[1].silent_for >= month && listed[0].silent_for < month);
    assert!(listed[0].started_at <= listed[0].heartbeat_at && listed[0].stopped_at.is_none());
    db.instance_stop(idle).await.expect("stopped");
    assert!(db.instances().await.expect("instances")[0].stopped_at.is_some());
}

#[tokio::test]
async fn the_largest_amounts_neither_overflow_nor_become_floats() {
    let db = testing::store().await;
    let one = join(&db).await;
    let scope = Scope::Tenant(TenantId::generate());
    let counter = total(scope);
    const MAX: i64 = i64::MAX;
    assert_eq!(taken(&db, one, counter, MAX, (1, MAX)).await, MAX);
    assert_eq!(taken(&db, one, counter, MAX, (1, MAX)).await, MAX);
    db.apply(one, &[charge(&[scope], MAX, &[(scope, MAX)])], u64::MAX).await.expect("applied");
    assert_eq!(numbers(&db, one, counter).await, (MAX, 0, 0));
    // A counter may stand above a cap that was lowered, and leases with it.
    let (soft, lowered) = (Scope::Tenant(TenantId::generate()), 5);
    taken(&db, one, total(soft), MAX, (1, MAX)).await;
    let other = join(&db).await;
    for _ in 0..2 {
        db.apply(other, &[charge(&[soft], MAX, &[])], 1).await.expect("applied");
    }
    assert_eq!(numbers(&db, one, total(soft)).await, (MAX, MAX, MAX));
    assert_eq!(taken(&db, other, total(soft), lowered, (1, MAX)).await, 0);
    assert_eq!(taken(&db, other, total(soft), MAX, (1, MAX)).await, 0);
    db.apply(other, &[charge(&[soft], MAX, &[(soft, MAX)])], 2).await.expect("applied");
    assert_eq!(numbers(&db, one, total(soft)).await, (MAX, MAX, MAX));
    assert_eq!(
        db.instance_register(one.instance, a_run(), Claim::Sole).await.expect("registered").applied_seq,
        MAX as u64
    );
}
