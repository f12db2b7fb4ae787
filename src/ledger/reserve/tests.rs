use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    domain::{SpendWindow, TenantId, VirtualKeyId, WindowIndex, Zone},
    store::CounterState,
};

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

fn cap(amount: i64, window: SpendWindow, mode: CapMode) -> Option<SpendCap> {
    Some(SpendCap { amount: NanoUsd::new(amount), window, mode })
}

fn hard(amount: i64) -> Option<SpendCap> {
    cap(amount, SpendWindow::Total, CapMode::Hard)
}

fn soft(amount: i64) -> Option<SpendCap> {
    cap(amount, SpendWindow::Total, CapMode::Soft)
}

fn key() -> Scope {
    Scope::from(VirtualKeyId::generate())
}

fn tenant() -> Scope {
    Scope::from(TenantId::generate())
}

fn try_reserve(
    accounts: &Arc<Accounts>,
    scopes: &[(Scope, Option<SpendCap>)],
    moment: Timestamp,
    need: i64,
) -> Result<Reservation, Refusal> {
    let scopes: Vec<_> = scopes.iter().map(|&(scope, cap)| ScopeCap { scope, cap }).collect();
    let need = NanoUsd::new(need);
    let fit = |left: Option<NanoUsd>| if left.is_none_or(|left| need <= left) { Ok(need) } else { Err(need) };
    reserve(accounts, Ask { scopes: &scopes, at: moment, zone: Zone::UTC, fit: &fit })
}

/// Reserves with a bank that grants to this process all there is: nobody else shares the caps.
fn reserve(accounts: &Arc<Accounts>, ask: Ask<'_>) -> Result<Reservation, Refusal> {
    loop {
        let Ask { scopes, at, zone, fit } = ask;
        match accounts.reserve(Ask { scopes, at, zone, fit }) {
            Ok(held) => return Ok(held),
            Err(Stop::Refused(refusal)) => return Err(*refusal),
            Err(Stop::Lease(wants)) => wants.iter().for_each(|want| grant_all(accounts, want)),
            Err(Stop::OutOfTouch) => panic!("nobody took the leases away"),
        }
    }
}

fn grant_all(accounts: &Accounts, want: &Want) {
    let state = accounts.with_period(want.counter, |period| {
        let granted = want
            .cap
            .map_or(period.granted, |cap| (i128::from(cap.nano()) - period.settled).max(period.granted));
        let leased = narrow(granted);
        CounterState {
            counter: want.counter,
            settled: narrow(period.settled),
            leased,
            granted: leased,
            wanted: false,
        }
    });
    accounts.learn(&[state]);
}

/// Brings everything that was settled in the windows of `moment` into the database, so to say.
fn apply_all(accounts: &Accounts, scope: Scope, moment: Timestamp) {
    for (window, index) in Windows::of(moment, Zone::UTC).iter() {
        accounts.with_period(Counter { scope, window, index }, |period| {
            period.settled += period.unapplied;
            period.granted = (period.granted - period.unapplied).max(0);
            period.unapplied = 0;
        });
    }
}

fn now() -> Timestamp {
    at("2026-11-21T12:00:00Z")
}

fn total(accounts: &Accounts, scope: Scope) -> (i64, i64) {
    let standing = accounts.standing(scope, SpendWindow::Total, WindowIndex(0));
    (standing.settled.nano(), standing.reserved.nano())
}

#[test]
fn p18_a_cap_admits_up_to_its_last_nano_dollar() {
    let (accounts, scope) = (Arc::new(Accounts::default()), key());
    let held = try_reserve(&accounts, &[(scope, hard(10))], now(), 10).expect("exactly fits");
    assert_eq!(total(&accounts, scope), (0, 10));
    assert_eq!(accounts.reserved_total().nano(), 10);
    assert_eq!(held.settle(NanoUsd::new(4)), Settled { charged: NanoUsd::new(4), clamped: NanoUsd::ZERO });
    assert_eq!(total(&accounts, scope), (4, 0));
    drop(try_reserve(&accounts, &[(scope, hard(10))], now(), 6).expect("the rest fits"));
    assert_eq!(accounts.reserved_total(), NanoUsd::ZERO);
}

#[test]
fn a_refusal_says_whether_waiting_helps_and_whose_cap_it_was() {
    let (accounts, narrow, wide) = (Arc::new(Accounts::default()), key(), tenant());
    let scopes = [(narrow, None), (wide, cap(10, SpendWindow::Daily, CapMode::Hard))];
    let held = try_reserve(&accounts, &scopes, now(), 7).expect("fits");
    let refused = try_reserve(&accounts, &scopes, now(), 5).expect_err("does not fit beside it");
    assert_eq!((refused.kind, refused.scope), (RefusalKind::Reserved, wide));
    assert_eq!((refused.settled.nano(), refused.reserved.nano(), refused.needed.nano()), (0, 7, 5));
    assert_eq!(refused.resets_at, Some(at("2026-11-22")));
    assert!(refused.to_string().contains(&wide.to_string()));
    held.settle(NanoUsd::new(7));
    let refused = try_reserve(&accounts, &scopes, now(), 5).expect_err("spent");
    assert_eq!((refused.kind, refused.scope), (RefusalKind::Reached, wide));
    assert_eq!(total(&accounts, narrow), (7, 0), "an uncapped scope is counted too");
}

#[test]
fn a_spent_cap_and_a_cap_of_zero_refuse_what_costs_nothing() {
    let (accounts, scope) = (Arc::new(Accounts::default()), key());
    for none in [hard(0), soft(0)] {
        let refused = try_reserve(&accounts, &[(scope, none)], now(), 0).expect_err("blocks everything");
        assert_eq!(refused.kind, RefusalKind::Reached);
    }
    try_reserve(&accounts, &[(scope, hard(3))], now(), 3).expect("fits").settle(NanoUsd::new(3));
    let refused = try_reserve(&accounts, &[(scope, hard(3))], now(), 0).expect_err("spent");
    assert_eq!((refused.kind, refused.needed), (RefusalKind::Reached, NanoUsd::ZERO));
    try_reserve(&accounts, &[(scope, hard(4))], now(), 0).expect("anything is left").release();
}

#[test]
fn a_soft_cap_looks_at_settled_spend_only_and_settles_in_full() {
    let (accounts, scope) = (Arc::new(Accounts::default()), key());
    let held: Vec<_> = (0..3)
        .map(|_| try_reserve(&accounts, &[(scope, soft(10))], now(), 50).expect("anything is left"))
        .collect();
    for each in held {
        assert_eq!(each.settle(NanoUsd::new(60)).charged.nano(), 60);
    }
    assert_eq!(total(&accounts, scope), (180, 0));
    let refused = try_reserve(&accounts, &[(scope, soft(10))], now(), 0).expect_err("spent");
    assert_eq!(refused.kind, RefusalKind::Reached);
}

#[test]
fn p04_a_settlement_under_a_hard_cap_is_at_most_its_reservation() {
    let (accounts, scope) = (Arc::new(Accounts::default()), key());
    let held = try_reserve(&accounts, &[(scope, hard(10))], now(), 10).expect("fits");
    let settled = held.settle(NanoUsd::new(25));
    assert_eq!((settled.charged.nano(), settled.clamped.nano()), (10, 15));
    let held = try_reserve(&accounts, &[(tenant(), None), (scope, soft(11))], now(), 1).expect("fits");
    let settled = held.settle(NanoUsd::new(25));
    assert_eq!((settled.charged.nano(), settled.clamped.nano()), (25, 0));
}

#[test]
fn what_is_left_is_the_least_over_all_hard_caps_and_fit_may_take_less_than_it_wished() {
    let accounts = Arc::new(Accounts::default());
    let scopes = [
        ScopeCap { scope: key(), cap: soft(1) },
        ScopeCap { scope: tenant(), cap: hard(30) },
        ScopeCap { scope: tenant(), cap: hard(20) },
    ];
    let seen = Cell::new(None);
    let fit = |left: Option<NanoUsd>| {
        seen.set(left);
        left.ok_or(NanoUsd::MAX)
    };
    let held = reserve(&accounts, Ask { scopes: &scopes, at: now(), zone: Zone::UTC, fit: &fit })
        .expect("fits by its own choice");
    assert_eq!((seen.get(), held.amount().nano()), (Some(NanoUsd::new(20)), 20));
}

#[test]
fn a_scope_with_two_caps_is_held_once_and_must_fit_both() {
    let (accounts, scope) = (Arc::new(Accounts::default()), key());
    let scopes = [(scope, hard(100)), (scope, cap(10, SpendWindow::Daily, CapMode::Hard))];
    let held = try_reserve(&accounts, &scopes, now(), 10).expect("fits both");
    assert_eq!(total(&accounts, scope), (0, 10));
    assert!(try_reserve(&accounts, &scopes, now(), 1).is_err());
    drop(held);
}

#[test]
fn p02_no_amount_overflows() {
    let (accounts, scope) = (Arc::new(Accounts::default()), key());
    let held: Vec<_> = (0..3)
        .map(|_| try_reserve(&accounts, &[(scope, None)], now(), i64::MAX).expect("unlimited"))
        .collect();
    assert_eq!(total(&accounts, scope), (0, i64::MAX));
    for each in held {
        each.settle(NanoUsd::MAX);
    }
    assert_eq!(total(&accounts, scope), (i64::MAX, 0));
    assert_eq!(accounts.reserved_total(), NanoUsd::ZERO);
    let refused = try_reserve(&accounts, &[(scope, hard(i64::MAX))], now(), 1).expect_err("spent");
    assert_eq!(refused.kind, RefusalKind::Reached);
    let below = try_reserve(&accounts, &[(key(), hard(5))], now(), -7).expect("a negative need is none");
    assert_eq!(below.settle(NanoUsd::new(-3)), Settled::default());
}

#[test]
fn a_fit_that_panics_leaves_the_accounts_usable() {
    let (accounts, scope) = (Arc::new(Accounts::default()), key());
    let scopes = [ScopeCap { scope, cap: hard(5) }];
    let inside = Arc::clone(&accounts);
    let panicked = thread::spawn(move || {
        let fit = |_| panic!("in the closure");
        reserve(&inside, Ask { scopes: &scopes, at: now(), zone: Zone::UTC, fit: &fit })
            .expect_err("never comes back");
    })
    .join();
    assert!(panicked.is_err());
    try_reserve(&accounts, &[(scope, hard(5))], now(), 5).expect("still fits").release();
}

#[test]
fn p06_a_reservation_dropped_while_its_thread_panics_is_released() {
    let (accounts, scope) = (Arc::new(Accounts::default()), key());
    let inside = Arc::clone(&accounts);
    let panicked = thread::spawn(move || {
        let _held = try_reserve(&inside, &[(scope, hard(5))], now(), 5).expect("fits");
        panic!("in the driver");
    })
    .join();
    assert!(panicked.is_err());
    assert_eq!(total(&accounts, scope), (0, 0));
    assert_eq!(accounts.reserved_total(), NanoUsd::ZERO);
}

/// 64 threads race for one cap in two shared scopes. Nothing that was admitted is given back before the end, so
/// exactly the affordable number must get in.
#[test]
fn p03_racing_threads_get_exactly_what_is_affordable() {
    const THREADS: usize = 64;
    const TRIES: usize = 200;
    const NEED: i64 = 7;
    const CAP: i64 = 40_003;
    let (accounts, shared) = (Arc::new(Accounts::default()), tenant());
    let (admitted, barrier) = (AtomicU64::new(0), Barrier::new(THREADS));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let own = key();
                barrier.wait();
                for attempt in 0..TRIES {
                    // Both orders: the order of locks must not follow the order of the ask.
                    let mut scopes = [(own, None), (shared, hard(CAP))];
                    if attempt % 2 == 0 {
                        scopes.reverse();
                    }
                    if let Ok(held) = try_reserve(&accounts, &scopes, now(), NEED) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                        held.settle(NanoUsd::new(NEED + 1));
                    }
                    let (settled, reserved) = total(&accounts, shared);
                    assert!(settled + reserved <= CAP);
                }
            });
        }
    });
    let affordable = CAP / NEED;
    assert_eq!(admitted.into_inner(), affordable.unsigned_abs());
    assert_eq!(total(&accounts, shared), (affordable * NEED, 0));
}

/// Threads that reserve, release and settle at random never see the cap overdrawn, and nothing stays reserved.
#[test]
fn p03_p06_racing_threads_that_give_back_never_overshoot_and_leave_nothing_reserved() {
    const CAP: i64 = 1_000;
    let (accounts, scopes) = (Arc::new(Accounts::default()), [(key(), hard(CAP)), (tenant(), hard(CAP * 2))]);
    let charged = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..16_i64 {
            let (accounts, charged) = (&accounts, &charged);
            scope.spawn(move || {
                for round in 0..500 {
                    let need = 1 + (seed * 31 + round * 17) % 97;
                    let Ok(held) = try_reserve(accounts, &scopes, now(), need) else { continue };
                    let (settled, reserved) = total(accounts, scopes[0].0);
                    assert!(settled + reserved <= CAP);
                    match round % 3 {
                        0 => drop(held),
                        1 => held.release(),
                        _ => {
                            let settled = held.settle(NanoUsd::new(need / 9));
                            charged.fetch_add(settled.charged.nano().unsigned_abs(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let charged = i64::try_from(charged.into_inner()).expect("small");
    for (scope, _) in scopes {
        assert_eq!(total(&accounts, scope), (charged, 0));
    }
    assert_eq!(accounts.reserved_total(), NanoUsd::ZERO);
}

// The model: the plainest ledger that could be right, one entry a scope, window and index, and what is open.

const MOMENTS: [&str; 4] = [
    "2026-11-30T23:59:59.999Z", // Monday, the end of a month
    "2026-12-01T00:00:00Z",
    "2026-12-07T00:00:00Z", // the next week
    "2027-01-01T00:00:00Z",
];

#[derive(Clone, Debug)]
enum Step {
    Reserve { scopes: Vec<usize>, need: i64 },
    Settle { which: usize, actual: i64 },
    Release { which: usize },
    Drop { which: usize },
    SetCap { scope: usize, cap: Option<SpendCap> },
    Clock { moment: usize },
    Apply { scope: usize },
}

fn any_cap() -> impl Strategy<Value = Option<SpendCap>> {
    proptest::option::weighted(
        0.8,
        (0i64..120, proptest::sample::select(&SpendWindow::ALL[..]), any::<bool>()).prop_map(
            |(amount, window, is_soft)| SpendCap {
                amount: NanoUsd::new(amount),
                window,
                mode: if is_soft { CapMode::Soft } else { CapMode::Hard },
            },
        ),
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (vec(0usize..4, 1..4), 0i64..60).prop_map(|(scopes, need)| Step::Reserve { scopes, need }),
        4 => (0usize..8, 0i64..90).prop_map(|(which, actual)| Step::Settle { which, actual }),
        1 => (0usize..8).prop_map(|which| Step::Release { which }),
        1 => (0usize..8).prop_map(|which| Step::Drop { which }),
        2 => (0usize..4, any_cap()).prop_map(|(scope, cap)| Step::SetCap { scope, cap }),
        2 => (0..MOMENTS.len()).prop_map(|moment| Step::Clock { moment }),
        1 => (0usize..4).prop_map(|scope| Step::Apply { scope }),
    ]
}

struct Open {
    reservation: Reservation,
    scopes: Vec<usize>,
    moment: Timestamp,
    amount: i64,
    has_hard: bool,
}

type Entry = (usize, SpendWindow, WindowIndex);

#[derive(Default)]
struct Model {
    settled: HashMap<Entry, i64>,
    reserved: HashMap<Entry, i64>,
    charged: i64,
}

impl Model {
    fn standing(&self, scope: usize, window: SpendWindow, moment: Timestamp) -> (i64, i64) {
        let entry = (scope, window, window.index(moment, Zone::UTC));
        (self.settled.get(&entry).copied().unwrap_or(0), self.reserved.get(&entry).copied().unwrap_or(0))
    }

    fn hold(&mut self, scopes: &[usize], moment: Timestamp, amount: i64) {
        for (&scope, window) in scopes.iter().flat_map(|scope| SpendWindow::ALL.map(|window| (scope, window)))
        {
            *self.reserved.entry((scope, window, window.index(moment, Zone::UTC))).or_default() += amount;
        }
    }

    fn charge(&mut self, open: &Open, amount: i64) {
        self.hold(&open.scopes, open.moment, -open.amount);
        self.charged += amount;
        for (&scope, window) in
            open.scopes.iter().flat_map(|scope| SpendWindow::ALL.map(|window| (scope, window)))
        {
            *self.settled.entry((scope, window, window.index(open.moment, Zone::UTC))).or_default() += amount;
        }
    }

    /// The kind of refusal and which scope, or admission.
    fn admits(
        &self,
        caps: &[Option<SpendCap>; 4],
        scopes: &[usize],
        moment: Timestamp,
        need: i64,
    ) -> Result<(), (RefusalKind, usize)> {
        let mine = || scopes.iter().filter_map(|&scope| caps[scope].map(|cap| (scope, cap)));
        for (scope, cap) in mine() {
            if self.standing(scope, cap.window, moment).0 >= cap.amount.nano() {
                return Err((RefusalKind::Reached, scope));
            }
        }
        for (scope, cap) in mine().filter(|(_, cap)| cap.mode == CapMode::Hard) {
            let (settled, reserved) = self.standing(scope, cap.window, moment);
            if settled + need > cap.amount.nano() {
                return Err((RefusalKind::Reached, scope));
            }
            if settled + reserved + need > cap.amount.nano() {
                return Err((RefusalKind::Reserved, scope));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// After every step the ledger stands exactly where the model stands, in every scope, window and period:
    /// conservation (P-01), nothing negative (P-02), admission exactly when there is room (P-03, P-18), each end once
    /// (P-05), nothing left when nothing is open (P-06), all scopes or none (P-12), the window of the reservation
    /// (P-13), a changed cap holds at once and changes no balance (P-14), the clock moves nothing (P-19).
    #[test]
    fn p01_p02_p03_p05_p06_p12_p13_p14_p18_p19_the_ledger_agrees_with_the_model(steps in vec(any_step(), 1..80)) {
        let accounts = Arc::new(Accounts::default());
        let names = [key(), key(), tenant(), tenant()];
        let mut caps: [Option<SpendCap>; 4] = [None, hard(50), None, soft(80)];
        let mut model = Model::default();
        let mut moment = at(MOMENTS[0]);
        let mut open: Vec<Open> = Vec::new();
        let mut charged = 0;

        for step in steps {
            match step {
                Step::Reserve { mut scopes, need } => {
                    // In the order of the ask, each once.
                    let mut seen = [false; 4];
                    scopes.retain(|&scope| !std::mem::replace(&mut seen[scope], true));
                    let asked: Vec<_> = scopes.iter().map(|&scope| (names[scope], caps[scope])).collect();
                    let expected = model.admits(&caps, &scopes, moment, need);
                    match try_reserve(&accounts, &asked, moment, need) {
                        Ok(reservation) => {
                            prop_assert_eq!(expected, Ok(()));
                            prop_assert_eq!(reservation.amount().nano(), need);
                            let has_hard = asked
                                .iter()
                                .any(|(_, cap)| cap.is_some_and(|cap| cap.mode == CapMode::Hard));
                            model.hold(&scopes, moment, need);
                            open.push(Open { reservation, scopes, moment, amount: need, has_hard });
                        }
                        Err(refused) => {
                            let (kind, scope) = expected.expect_err("the model refuses too");
                            prop_assert_eq!((refused.kind, refused.scope), (kind, names[scope]));
                            let standing = model.standing(scope, refused.cap.window, moment);
                            prop_assert_eq!((refused.settled.nano(), refused.reserved.nano()), standing);
                        }
                    }
                }
                Step::Settle { which, actual } if which < open.len() => {
                    let ended = open.remove(which);
                    let expected = if ended.has_hard { actual.min(ended.amount) } else { actual };
                    model.charge(&ended, expected);
                    let settled = ended.reservation.settle(NanoUsd::new(actual));
                    charged += settled.charged.nano();
                    prop_assert_eq!(settled.charged.nano(), expected);
                    prop_assert_eq!(settled.clamped.nano(), actual - expected);
                }
                Step::Release { which } if which < open.len() => {
                    let ended = open.remove(which);
                    model.charge(&ended, 0);
                    ended.reservation.release();
                }
                Step::Drop { which } if which < open.len() => {
                    let ended = open.remove(which);
                    model.charge(&ended, 0);
                    drop(ended.reservation);
                }
                Step::Settle { .. } | Step::Release { .. } | Step::Drop { .. } => {}
                Step::SetCap { scope, cap } => caps[scope] = cap,
                Step::Clock { moment: which } => moment = at(MOMENTS[which]),
                Step::Apply { scope } => apply_all(&accounts, names[scope], moment),
            }

            prop_assert_eq!(charged, model.charged);
            prop_assert_eq!(accounts.reserved_total().nano(), open.iter().map(|each| each.amount).sum::<i64>());
            for moment in MOMENTS.map(at) {
                for (number, name) in names.iter().enumerate() {
                    for window in SpendWindow::ALL {
                        let standing = accounts.standing(*name, window, window.index(moment, Zone::UTC));
                        let stands = (standing.settled.nano(), standing.reserved.nano());
                        prop_assert_eq!(stands, model.standing(number, window, moment));
                        prop_assert!(stands.0 >= 0 && stands.1 >= 0);
                    }
                }
            }
        }

        drop(open);
        prop_assert_eq!(accounts.reserved_total(), NanoUsd::ZERO);
        for name in names {
            prop_assert_eq!(accounts.standing(name, SpendWindow::Total, WindowIndex(0)).reserved, NanoUsd::ZERO);
        }
    }

    /// With hard caps that never change, settled spend never exceeds one, whatever the attempts really cost.
    #[test]
    fn p04_a_hard_cap_is_never_exceeded_whatever_providers_report(
        amount in 0i64..1_000,
        attempts in vec((0i64..400, 0i64..1_000, any::<bool>()), 0..60),
    ) {
        let (accounts, scope) = (Arc::new(Accounts::default()), key());
        let mut open = Vec::new();
        for (need, actual, later) in attempts {
            if let Ok(held) = try_reserve(&accounts, &[(scope, hard(amount))], now(), need) {
                open.push((held, actual));
            }
            if !later && let Some((held, actual)) = open.pop() {
                held.settle(NanoUsd::new(actual));
            }
            let (settled, reserved) = total(&accounts, scope);
            prop_assert!(settled + reserved <= amount);
        }
    }
}
