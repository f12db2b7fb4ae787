use std::sync::Arc;

use sea_orm::DbBackend;
use tokio::task::JoinSet;

use super::*;

/// Several pools on one database, as several processes have.
async fn pools(db: &testing::TestStore, count: usize) -> Vec<Store> {
    let mut pools = vec![];
    for _ in 0..count {
        pools.push(db.again().await);
    }
    pools
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p22_takers_who_race_share_a_cap_to_the_last_nano_and_never_more() {
    const CAP: i64 = 61;
    let db = testing::store().await;
    let counter = total(TenantId::generate());
    let mut takers = JoinSet::new();
    for pool in pools(&db, 3).await {
        // Two tasks on one pool, each an instance.
        for _ in 0..2 {
            let pool = pool.clone();
            takers.spawn(async move {
                let holder = join(&pool).await;
                let mut held = 0;
                loop {
                    let state = take(&pool, holder, counter, CAP, (1, 3)).await.expect("a state");
                    let (all, own) = (state.settled.plus(state.leased).nano(), state.granted.nano());
                    assert!(all <= CAP && own <= all, "{state:?}");
                    if own == held {
                        return held;
                    }
                    held = own;
                }
            });
        }
    }
    let held: i64 = takers.join_all().await.into_iter().sum();
    assert_eq!(held, CAP);
    assert_eq!(numbers(&db, join(&db).await, counter).await, (0, CAP, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p22_takers_who_spend_and_give_back_never_bring_a_counter_above_its_cap() {
    const CAP: i64 = 200;
    let db = testing::store().await;
    let (tenant, key) = (Scope::from(TenantId::generate()), Scope::from(VirtualKeyId::generate()));
    let mut instances = JoinSet::new();
    for (place, pool) in pools(&db, 4).await.into_iter().enumerate() {
        instances.spawn(async move {
            let holder = join(&pool).await;
            let mut spent = 0;
            for round in 0.. {
                let wish = |_: &CounterState| (usd(1), usd(7));
                // Counters that nobody has written yet, and two that everybody writes.
                let ask = |scope| LeaseAsk { counter: total(scope), cap: usd(CAP), wish: &wish };
                let own = Scope::from(TenantId::generate());
                let states =
                    pool.leases_take(holder, &[ask(tenant), ask(own), ask(key)]).await.expect("taken");
                for state in &states {
                    assert!(state.settled.plus(state.leased) <= usd(CAP), "{state:?}");
                }
                let can = states[0].granted.min(states[2].granted).nano();
                if can == 0 {
                    return spent;
                }
                let cost = if round % 2 == 0 { can } else { 1 };
                let caps = [(tenant, CAP), (key, CAP)];
                let charge = charge(&[key, own, tenant], cost, &caps);
                let after = pool.apply(holder, &[charge], round).await.expect("applied");
                assert!(after.iter().all(|state| state.settled.plus(state.leased) <= usd(CAP)), "{after:?}");
                spent += cost;
                if (round as usize + place).is_multiple_of(3) {
                    let keep = [(total(key), usd(0)), (total(own), usd(1)), (total(tenant), usd(2))];
                    pool.leases_keep(holder, &keep).await.expect("kept");
                }
            }
            spent
        });
    }
    let spent: i64 = instances.join_all().await.into_iter().sum();
    assert_eq!(numbers(&db, join(&db).await, total(key)).await.0, spent);
    assert_eq!(numbers(&db, join(&db).await, total(tenant)).await.0, spent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_loses_a_race_gets_what_the_winner_left() {
    let db = testing::store().await;
    let pools = pools(&db, 2).await;
    let holders = [join(&pools[0]).await, join(&pools[1]).await];
    for _ in 0..20 {
        let counter = total(TenantId::generate());
        let (one, other) = tokio::join!(
            taken(&pools[0], holders[0], counter, 100, (1, 60)),
            taken(&pools[1], holders[1], counter, 100, (1, 60)),
        );
        assert_eq!((one.max(other), one.min(other)), (60, 40));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p22_late_charges_that_race_share_what_is_free_and_never_more() {
    const CAP: i64 = 50;
    let db = testing::store().await;
    let pools = pools(&db, 3).await;
    let holders = [join(&pools[0]).await, join(&pools[1]).await, join(&pools[2]).await];
    for round in 0..20 {
        let scope = Scope::from(TenantId::generate());
        let late = [(); 2].map(|()| [charge(&[scope], 40, &[(scope, CAP)])]);
        let (one, other, leased) = tokio::join!(
            pools[0].apply(holders[0], &late[0], round),
            pools[1].apply(holders[1], &late[1], round),
            taken(&pools[2], holders[2], total(scope), CAP, (1, 20)),
        );
        one.and(other).expect("applied");
        assert_eq!(numbers(&db, holders[2], total(scope)).await, (CAP - leased, leased, leased));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p24_instances_that_write_the_same_counters_in_every_order_do_not_deadlock() {
    let db = testing::store().await;
    let scopes: Arc<[Scope]> = (0..6).map(|_| Scope::from(TenantId::generate())).collect();
    // Rows that everybody writes, and late charges of each: both ways through a settlement.
    let shared: Arc<[Charge]> =
        (0..12).map(|place| charge(&[scopes[place % 6], scopes[(place + 1) % 6]], 1, &[])).collect();
    let mut writers = JoinSet::new();
    for (place, pool) in pools(&db, 4).await.into_iter().enumerate() {
        let (scopes, shared) = (Arc::clone(&scopes), Arc::clone(&shared));
        writers.spawn(async move {
            let holder = join(&pool).await;
            for round in 0..6 {
                let mut turned = scopes.to_vec();
                turned.rotate_left((place + round) % 6);
                let caps: Vec<_> = turned.iter().map(|&scope| (scope, 1_000)).collect();
                let late = charge(&turned, 1, &caps);
                let mut batch = shared.to_vec();
                batch.rotate_left(place * 3 + round % 3);
                batch.push(late);
                pool.apply(holder, &batch, round as u64).await.expect("applied");
                let wish = |_: &CounterState| (usd(1), usd(2));
                let asks: Vec<_> = turned
                    .iter()
                    .map(|&scope| LeaseAsk { counter: total(scope), cap: usd(1_000), wish: &wish })
                    .collect();
                pool.leases_take(holder, &asks).await.expect("taken");
                let keep: Vec<_> = turned.iter().map(|&scope| (total(scope), usd(1))).collect();
                pool.leases_keep(holder, &keep).await.expect("kept");
                pool.instance_beat(holder, Duration::from_secs(60)).await.expect("beaten");
            }
        });
    }
    writers.join_all().await;
    for &scope in &*scopes {
        // Four of the shared, and one a round of each writer.
        assert_eq!(numbers(&db, join(&db).await, total(scope)).await, (4 + 24, 4, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_take_that_races_with_a_release_is_given_back_or_fenced() {
    let db = testing::store().await;
    let pools = pools(&db, 2).await;
    for _ in 0..8 {
        let counter = total(TenantId::generate());
        let holder = join(&pools[0]).await;
        let taking = async {
            let mut fenced = false;
            for _ in 0..4 {
                fenced =
                    matches!(take(&pools[0], holder, counter, 100, (1, 5)).await, Err(LeaseError::Fenced));
            }
            fenced
        };
        let (fenced, released) = tokio::join!(taking, release(&pools[1], holder.instance, Duration::ZERO));
        assert!(matches!(released, Released::Done { .. }));
        if !fenced {
            // Then the release was the last of all.
            assert!(take(&pools[0], holder, counter, 100, (1, 5)).await.is_err());
        }
        assert_eq!(numbers(&db, holder, counter).await, (0, 0, 0));
    }
}

#[tokio::test]
async fn of_two_who_lock_crosswise_one_may_simply_try_again() {
    let db = testing::store().await;
    if db.reader().get_database_backend() != DbBackend::Postgres {
        // SQLite's one writer cannot wait for itself.
        return;
    }
    let locks = [(); 2].map(|()| [Posting::lock(total(TenantId::generate()))]);
    let (one, other) = (db.begin().await.expect("begun"), db.begin().await.expect("begun"));
    counters::post(&one, &locks[0]).await.expect("locked");
    counters::post(&other, &locks[1]).await.expect("locked");
    let (one, other) = tokio::join!(counters::post(&one, &locks[1]), counters::post(&other, &locks[0]),);
    let refused: Vec<_> = [one, other].into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty() && refused.iter().all(|error| matches!(error, StoreError::Unavailable)));
}
