//! What the cap check adds to a request: one reservation and its settlement, by scopes and by threads that share them.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use keystile::{
    domain::{CapMode, NanoUsd, SpendCap, SpendWindow, TenantId, Timestamp, VirtualKeyId, Zone},
    ledger::{Accounts, Ask, ScopeCap, Stop, Want},
    store::CounterState,
};

/// Accounts that are known beside those that are used.
const ACCOUNTS: usize = 10_000;
const NEED: NanoUsd = NanoUsd::new(1_000);

fn ledger() -> Arc<Accounts> {
    let accounts = Arc::new(Accounts::default());
    for _ in 0..ACCOUNTS {
        let scopes = [ScopeCap { scope: VirtualKeyId::generate().into(), cap: None }];
        reserve_and_settle(&accounts, &scopes);
    }
    accounts
}

/// All of the cap: nobody else shares it.
fn grant(accounts: &Accounts, want: &Want) {
    let leased = want.cap.unwrap_or_default();
    let (counter, settled) = (want.counter, NanoUsd::ZERO);
    accounts.learn(&[CounterState { counter, settled, leased, granted: leased, wanted: false }]);
}

fn scopes(count: usize) -> Vec<ScopeCap> {
    let cap = Some(SpendCap { amount: NanoUsd::MAX, window: SpendWindow::Monthly, mode: CapMode::Hard });
    let both = [
        ScopeCap { scope: VirtualKeyId::generate().into(), cap },
        ScopeCap { scope: TenantId::generate().into(), cap },
    ];
    both[..count].to_vec()
}

fn reserve_and_settle(accounts: &Arc<Accounts>, scopes: &[ScopeCap]) {
    let at = Timestamp::from_millis(1_795_219_200_000);
    let fit = |left: Option<NanoUsd>| if left.is_none_or(|left| left >= NEED) { Ok(NEED) } else { Err(NEED) };
    loop {
        match accounts.reserve(Ask { scopes, at, zone: Zone::UTC, fit: &fit }) {
            // Nothing charged: the cap must not run out during the measurement.
            Ok(reservation) => {
                std::hint::black_box(reservation.settle(NanoUsd::ZERO));
                return;
            }
            Err(Stop::Lease(wants)) => wants.iter().for_each(|want| grant(accounts, want)),
            Err(stop) => panic!("{stop:?}"),
        }
    }
}

fn alone(criterion: &mut Criterion) {
    let accounts = ledger();
    let mut group = criterion.benchmark_group("reserve_and_settle");
    for count in [1, 2] {
        let scopes = scopes(count);
        group.bench_with_input(BenchmarkId::new("scopes", count), &scopes, |bench, scopes| {
            bench.iter(|| reserve_and_settle(&accounts, scopes));
        });
    }
    group.finish();
}

/// Every thread has its own key; all keys are one tenant's, or each has its own. Time is for one reservation of one
/// thread, so twice the threads on the same processors are at best as fast.
fn contended(criterion: &mut Criterion) {
    let accounts = ledger();
    let mut group = criterion.benchmark_group("reserve_and_settle_contended");
    for threads in [2, 8] {
        for shared in [true, false] {
            let tenant = scopes(2)[1];
            let asks: Vec<Vec<ScopeCap>> = (0..threads)
                .map(|_| {
                    let own = scopes(2);
                    if shared { vec![own[0], tenant] } else { own }
                })
                .collect();
            let name = if shared { "threads_one_tenant" } else { "threads_own_tenants" };
            group.bench_function(BenchmarkId::new(name, threads), |bench| {
                bench.iter_custom(|rounds| race(&accounts, &asks, rounds));
            });
        }
    }
    group.finish();
}

fn race(accounts: &Arc<Accounts>, asks: &[Vec<ScopeCap>], rounds: u64) -> Duration {
    let barrier = Barrier::new(asks.len() + 1);
    thread::scope(|scope| {
        for scopes in asks {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..rounds {
                    reserve_and_settle(accounts, scopes);
                }
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    })
}

criterion_group!(benches, alone, contended);
criterion_main!(benches);
